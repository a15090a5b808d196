"""Who may ask, from where, and how much: hosts, origins, the token, sizes, headers; and the command's options."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import doubles
import pytest
from serving import Serve, listening, service, tiny
from starlette.testclient import TestClient
from typer.testing import CliRunner

from hybrid.cli_serve import app
from hybrid.serve import connection as limits
from hybrid.serve.command import Options, ServeError, policy_of
from hybrid.serve.guard import MOST_BYTES, Policy

TOKEN = "a-token-of-some-length"
PUZZLE = {"question": doubles.SUDOKU}


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000", "LOCALHOST", "127.0.0.1"])
def test_this_machine_is_known(client: TestClient, host: str) -> None:
    assert client.get("/health", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "192.168.1.5",
        "0.0.0.0",
        "[",
        "a:b",
        "",
        "evil@localhost",
        "localhost/a",
    ],
)
def test_another_host_is_refused(client: TestClient, host: str) -> None:
    reply = client.get("/health", headers={"host": host})
    assert (reply.status_code, reply.json()["error"]["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "http://["},
        {"origin": "ftp://127.0.0.1:8000"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"},  # a form
    ],
)
def test_a_foreign_page_is_refused(client: TestClient, headers: dict[str, str]) -> None:
    assert client.post("/v1/solve", json=PUZZLE, headers=headers).status_code == 403


def test_the_own_page_and_a_link_to_it_are_served(client: TestClient) -> None:
    own = {"origin": "http://127.0.0.1:8000", "sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}
    assert client.post("/v1/solve", json=PUZZLE, headers=own).status_code == 200
    assert (
        client.get("/", headers={"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}).status_code
        == 200
    )


def test_every_response_forbids_foreign_content(client: TestClient) -> None:
    for path in ("/", "/health", "/nothing"):
        headers = client.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


def test_another_page_s_preflight_and_form_are_refused(client: TestClient) -> None:
    asks = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    assert client.options("/v1/solve", headers=asks).status_code == 403
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a"):
        headers = {
            "content-type": kind,
            "referer": "https://evil.example/",
        }  # of a browser that sends no more
        assert client.post("/v1/solve", content=json.dumps(PUZZLE), headers=headers).status_code == 422


@pytest.fixture
def guarded(serve: Serve) -> TestClient:
    return serve(policy=Policy(token=TOKEN))


@pytest.mark.parametrize(
    "value", [None, TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer", "Bearer \xff"]
)
def test_without_the_token_nothing_is_solved(guarded: TestClient, value: str | None) -> None:
    headers = {} if value is None else {"authorization": value.encode("latin-1")}
    for path in ("/v1/models", "/metrics"):
        assert guarded.get(path, headers=headers).status_code == 401
    assert guarded.post("/v1/solve", json=PUZZLE, headers=headers).status_code == 401


def test_with_the_token_it_is(guarded: TestClient) -> None:
    reply = guarded.post("/v1/solve", json=PUZZLE, headers={"authorization": f"Bearer {TOKEN}"})
    assert reply.status_code == 200
    assert guarded.get("/health").status_code == 200


def test_a_large_body_is_refused(client: TestClient) -> None:
    def parts() -> Iterator[bytes]:  # without a declared length
        for _ in range(20):
            yield b" " * (MOST_BYTES // 10)

    assert client.post("/v1/solve", content=b" " * (MOST_BYTES + 1)).status_code == 413
    assert client.post("/v1/solve", content=parts()).status_code == 413


@pytest.mark.parametrize(
    "path", ["/../app.py", "/%2e%2e/app.py", "/..%2fapp.py", "//etc/passwd", "/page/../../cli.py"]
)
def test_only_the_page_s_files_are_served(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404


# -- connections -------------------------------------------------------------------------------------------
def ask(address: str, sent: bytes) -> socket.socket:
    """A connection with a small buffer, over which this was sent."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.settimeout(10)
    made.connect(("127.0.0.1", int(address.rpartition(":")[2])))
    made.sendall(sent)
    return made


def rest(connection: socket.socket) -> bytes:
    """What comes until the server ends the connection."""
    found = b""
    with connection, suppress(ConnectionError):
        while part := connection.recv(4000):
            found += part
    return found


def test_silent_clients_and_too_many_are_cut_off(monkeypatch: pytest.MonkeyPatch, live: str) -> None:
    monkeypatch.setattr(limits, "HEAD_SECONDS", 0.2)
    request = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    assert rest(ask(live, b"")) == rest(ask(live, request[:20])) == b""
    kept = ask(live, request)
    assert kept.recv(4000).startswith(b"HTTP/1.1 200")
    kept.sendall(request[:20])
    assert b"HTTP/1.1" not in rest(kept)
    monkeypatch.setattr(limits, "MOST_CONNECTIONS", 0)
    assert rest(ask(live, request)) == b""


def test_a_client_that_never_reads_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STALL_SECONDS", 0.2)
    body = json.dumps(PUZZLE | {"llm": "none", "steps": 64, "restarts": 64, "stream": True})
    head = "Host: localhost\r\nContent-Type: application/json\r\nContent-Length:"
    sent = f"POST /v1/solve HTTP/1.1\r\n{head} {len(body)}\r\n\r\n{body}".encode()
    made, running = service(tiny()), [0]
    with listening(made, send_buffer=4096) as address, ask(address, sent):
        end = time.monotonic() + 20
        while not (any(running) and running[-1] == 0) and time.monotonic() < end:
            time.sleep(0.05)
            running.append(made.worker.running)
    assert any(running)
    assert running[-1] == 0


# -- the command -------------------------------------------------------------------------------------------
def test_beyond_this_machine_a_token_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYBRID_TOKEN", raising=False)
    for host in ("0.0.0.0", "::", "192.168.1.5", "box.example"):
        with pytest.raises(ServeError, match="HYBRID_TOKEN"):
            policy_of(Options(host=host))
    monkeypatch.setenv("HYBRID_TOKEN", TOKEN)
    policy = policy_of(Options(host="0.0.0.0", allowed_hosts=("Box.example",)))
    assert policy.token == TOKEN
    assert policy.knows_host("box.example:80")
    assert policy.knows_host("192.168.1.5:8000")  # an address cannot be pointed elsewhere
    assert not policy.knows_host("evil.example")


def test_a_token_is_not_taken_from_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ServeError) as error:
        policy_of(Options(token=TOKEN))
    assert TOKEN not in str(error.value)
    monkeypatch.setenv("SHORT", "1234")
    with pytest.raises(ServeError, match="SHORT"):
        policy_of(Options(token="SHORT"))


def test_the_command_says_in_one_line_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HYBRID_TOKEN", raising=False)
    result = CliRunner().invoke(app, ["--host", "0.0.0.0"])
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    result = CliRunner().invoke(app, ["--port", "0", "--llm", "none", "--refiner", "/nowhere.pt"])
    assert result.exit_code == 3
    assert "/nowhere.pt" in result.stderr
