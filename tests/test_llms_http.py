"""The client of OpenAI-compatible servers against servers that misbehave."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from hybrid.llm.base import BackendError, Message, Reply, Request
from hybrid.llm.registry import connect
from hybrid.llm.server import HTTPLLM, Patience

ASK: list[Message] = [{"role": "user", "content": "2 + 2?"}]
MODELS = {"data": [{"id": "first"}, {"id": "second"}]}


def completion(content: Any = "4", finish: str = "stop", **more: Any) -> dict[str, Any]:
    choice = {"message": {"role": "assistant", "content": content}, "finish_reason": finish}
    return {"choices": [choice], "usage": {"completion_tokens": 7}} | more


class Server:
    """Answers /models, and each chat request with the next of `answers`; the last one repeats."""

    def __init__(self, *answers: Any, models: Any = MODELS) -> None:
        self.answers, self.models = list(answers), models
        self.bodies: list[dict[str, Any]] = []
        self.requests: list[httpx.Request] = []
        self.waits: list[float] = []
        self.lock = threading.Lock()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        with self.lock:
            self.requests.append(request)
            if request.method == "GET":
                assert request.url.path == "/v1/models"
                return self._answer(self.models, request)
            assert request.url.path == "/v1/chat/completions"
            self.bodies.append(json.loads(request.content))
            return self._answer(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0], request)

    @staticmethod
    def _answer(answer: Any, request: httpx.Request) -> httpx.Response:
        if isinstance(answer, type) and issubclass(answer, Exception):
            raise answer("connection reset by peer", request=request)
        if isinstance(answer, httpx.Response):
            return httpx.Response(answer.status_code, headers=answer.headers, stream=answer.stream)
        return httpx.Response(200, json=answer)

    def connect(self, fragment: str = "", **options: Any) -> HTTPLLM:
        return HTTPLLM(
            f"http://localhost:8000/v1/{fragment}",
            transport=httpx.MockTransport(self),
            sleep=self.waits.append,
            rng=random.Random(0),
            **options,
        )


def busy(status: int, **headers: str) -> httpx.Response:
    return httpx.Response(
        status, headers={k.replace("_", "-"): v for k, v in headers.items()}, text="loading"
    )


class CutShort(httpx.SyncByteStream):
    """A body that breaks off."""

    def __iter__(self) -> Iterator[bytes]:
        yield b'{"choices": ['
        raise httpx.ReadError("connection reset by peer")


def test_a_good_server() -> None:
    server = Server(completion())
    llm = server.connect()
    (reply,) = llm.chat(ASK, max_tokens=9)
    assert (reply.text, reply.tokens, reply.error) == ("4", 7, None)
    assert llm.name == "first (http://localhost:8000/v1)"
    assert server.bodies == [
        {"model": "first", "messages": ASK, "max_tokens": 9, "temperature": 0, "seed": 0, "stream": False}
    ]
    assert server.waits == []


def test_samples_are_requests_of_their_own() -> None:
    server = Server(completion())
    replies = server.connect("#second").chat(ASK, samples=5, seed=40)
    assert len(replies) == 5
    assert all("n" not in body and body["model"] == "second" for body in server.bodies)
    assert sorted(body["seed"] for body in server.bodies) == [40, 41, 42, 43, 44]
    assert sorted(body["temperature"] for body in server.bodies) == [0, 0.8, 0.8, 0.8, 0.8]
    server.connect().chat(ASK, greedy_first=False)
    assert server.bodies[-1]["temperature"] == 0.8


def test_what_is_refused_of_one_conversation_costs_the_others_nothing() -> None:
    too_long: list[Message] = [{"role": "user", "content": "9" * 99}]

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/models"):
            return httpx.Response(200, json=MODELS)
        if "9" * 99 in request.content.decode():
            return httpx.Response(400, json={"error": {"message": "maximum context length is 64 tokens"}})
        return httpx.Response(200, json=completion())

    llm = HTTPLLM(
        "http://localhost:8000/v1", transport=httpx.MockTransport(answer), sleep=lambda seconds: None
    )
    for requests in ([Request(ASK), Request(too_long), Request(ASK)], [Request(too_long)]):
        heard: dict[int, list[Reply]] = {}
        replies = llm.chat_many(requests, samples=2, done=heard.__setitem__)
        assert [len(of_one) for of_one in replies] == [2] * len(requests)
        for asked, of_one in zip(requests, replies, strict=True):
            said = {(reply.text, "context length" in (reply.error or "")) for reply in of_one}
            assert said == ({("", True)} if asked.messages is too_long else {("4", False)})
        assert heard == dict(enumerate(replies))


def test_a_hundred_and_twenty_questions_are_asked_at_once() -> None:
    """Over real connections: httpx itself would keep all but 100 waiting."""
    gate = threading.Barrier(120, timeout=20)

    class Handler(BaseHTTPRequestHandler):
        def answer(self, content: Any) -> None:
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.answer(MODELS)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            gate.wait()  # passes only if 120 requests are in flight
            self.answer(completion())

        def log_message(self, *_: object) -> None:
            pass

    class Listening(ThreadingHTTPServer):
        request_queue_size = 200
        daemon_threads = True

    with Listening(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        llm = HTTPLLM(f"http://127.0.0.1:{server.server_port}/v1")
        heard: dict[int, list[Reply]] = {}
        replies = llm.chat_many([Request(ASK)] * 60, samples=2, concurrency=60, done=heard.__setitem__)
        llm.close()
        server.shutdown()
    assert [reply.text for pair in replies for reply in pair] == ["4"] * 120
    assert [heard[number] for number in range(60)] == replies


def test_requests_run_side_by_side_up_to_a_limit() -> None:
    running, most, lock = 0, 0, threading.Lock()
    gate = threading.Barrier(3, timeout=20)

    def serve(request: httpx.Request) -> httpx.Response:
        nonlocal running, most
        if request.method == "GET":
            return httpx.Response(200, json=MODELS)
        with lock:
            running += 1
            most = max(most, running)
        gate.wait()  # passes only if three requests are in flight
        with lock:
            running -= 1
        return httpx.Response(200, json=completion())

    llm = HTTPLLM("http://localhost/v1", transport=httpx.MockTransport(serve), concurrency=3)
    assert len(llm.chat(ASK, samples=6)) == 6
    assert most == 3


@pytest.mark.parametrize(
    ("faults", "waits"),
    [
        ([httpx.ConnectError], 1),
        ([httpx.ConnectError, httpx.ConnectTimeout, httpx.ReadError], 3),
        ([httpx.RemoteProtocolError], 1),
        ([httpx.Response(200, stream=CutShort())], 1),
        ([busy(503)] * 6, 6),
        ([busy(503), httpx.ReadError, busy(502)], 3),
    ],
)
def test_faults_that_pass(faults: list[Any], waits: int) -> None:
    server = Server(*faults, completion())
    (reply,) = server.connect().chat(ASK)
    assert reply.text == "4"
    assert len(server.waits) == waits
    assert server.waits == sorted(server.waits)  # jitter halves a wait at most; waits double
    assert max(server.waits) <= 30


def test_a_server_that_starts_slowly() -> None:
    answers: Iterator[Any] = iter(
        [httpx.ConnectError, busy(503), busy(503), httpx.Response(200, json=MODELS)]
    )
    waits: list[float] = []
    transport = httpx.MockTransport(lambda request: Server._answer(next(answers), request))
    llm = HTTPLLM("http://localhost/v1", transport=transport, sleep=waits.append)
    assert llm.name.startswith("first ")
    assert len(waits) == 3


def test_retry_after_is_honoured() -> None:
    past = formatdate(0, usegmt=True)
    server = Server(
        busy(429, retry_after="7"), busy(429, retry_after=past), busy(503, retry_after="x"), completion()
    )
    server.connect().chat(ASK)
    assert server.waits[:2] == [7, 0]
    assert 0 < server.waits[2] <= 2


def test_patience_ends() -> None:
    server = Server(busy(503))
    llm = server.connect(patience=Patience(busy_seconds=10))
    with pytest.raises(BackendError, match=r"^http://localhost:8000/v1: still 503 after \d+ s: loading$"):
        llm.chat(ASK)
    assert sum(server.waits) <= 10
    with pytest.raises(BackendError, match=r"cannot be reached \(4 tries\): connection reset by peer$"):
        Server(completion(), models=httpx.ConnectError).connect()


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (completion("half", "length"), "truncated at 7 tokens", "half"),
        (completion("half", "length", usage=None), "truncated", "half"),
        (completion(""), "empty content", ""),
        (completion(None), "empty content", ""),
        (completion([]), "empty content", ""),
        (completion([{"type": "text", "text": "4"}, {"type": "refusal"}, "!"]), None, "4!"),
        ({"choices": [{"text": "4", "finish_reason": "stop"}]}, None, "4"),
        ({"choices": []}, "reply without choices", ""),
        ({"choices": None}, "reply without choices", ""),
        ([], "reply without choices", ""),
        (httpx.Response(200, text="<html>\n<b>Login</b>"), "reply is no JSON: <html> <b>Login</b>", ""),
        (httpx.Response(200, content=b"\xff\xfe"), "reply is no JSON: ", ""),
        (httpx.Response(200, content=b"4" * 10_000_001), "reply over 10 MB", ""),
    ],
)
def test_odd_replies_are_values(answer: Any, error: str | None, text: str) -> None:
    (reply,) = Server(answer).connect().chat(ASK)
    assert reply.text == text
    assert reply.error == error or (error and str(reply.error).startswith(error))


def test_a_failed_request_among_good_ones_is_a_value() -> None:
    server = Server(httpx.Response(400, json={"error": {"message": "no"}}), completion())
    replies = server.connect(concurrency=1).chat(ASK, samples=3)
    assert [reply.error for reply in replies] == ["the server answered 400: no", None, None]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "too long:\n4,000 tokens"}}, "too long: 4,000 tokens"),
        ({"error": "plain"}, "plain"),
        ({"detail": [{"msg": "bad field"}]}, "[{'msg': 'bad field'}]"),
        ({"object": "error", "message": "flat"}, "flat"),
    ],
)
def test_errors_of_the_server_are_one_line(body: Any, message: str) -> None:
    with pytest.raises(BackendError) as caught:
        Server(httpx.Response(400, json=body)).connect().chat(ASK)
    assert str(caught.value) == f"http://localhost:8000/v1: the server answered 400: {message}"


def test_wrong_models_are_refused_with_a_list() -> None:
    with pytest.raises(BackendError, match="serves no model 'third', expected first, second"):
        Server(completion()).connect("#third")
    gone = Server(
        httpx.Response(404, json={"error": {"message": "The model does not exist."}}), models={"data": []}
    )
    llm = gone.connect("#third")  # nothing listed when it started
    gone.models = MODELS
    with pytest.raises(BackendError, match=r"404: The model does not exist\.; it serves first, second$"):
        llm.chat(ASK)


def test_servers_that_list_nothing() -> None:
    absent = httpx.Response(404, text="not found")
    assert Server(completion(), models=absent).connect("#mine").chat(ASK)[0].text == "4"
    with pytest.raises(BackendError, match="lists no models; name one"):
        Server(completion(), models=absent).connect()
    with pytest.raises(BackendError, match="serves no model yet"):
        Server(completion(), models={"data": []}).connect()
    with pytest.raises(BackendError, match="answered 401: Unauthorized"):
        Server(completion(), models=httpx.Response(401, text="Unauthorized")).connect()


def test_the_key_goes_into_the_header_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(completion())
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    server.connect()
    assert "authorization" not in server.requests[-1].headers
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    llm = server.connect()
    assert server.requests[-1].headers["authorization"] == "Bearer sk-secret"
    assert "secret" not in llm.name
    with pytest.raises(BackendError) as caught:
        HTTPLLM("http://user:word@localhost/v1", transport=httpx.MockTransport(lambda _: busy(401)))
    assert "word" not in str(caught.value)


@pytest.mark.parametrize("spec", ["http://", "http://host:port/v1", "http://localhost:9/v1"])
def test_servers_that_are_not_there(spec: str) -> None:
    with pytest.raises(BackendError) as caught:
        connect(spec)
    assert "\n" not in str(caught.value)
