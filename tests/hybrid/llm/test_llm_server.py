"""The client of OpenAI-compatible servers against servers that misbehave."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from hybrid.llm.base import BackendError, Message, Reply, ReplyFormat, Request
from hybrid.llm.registry import connect
from hybrid.llm.server import Patience, ServerLLM, parameters_from
from hybrid.llm.wire import retry_after

MESSAGES: list[Message] = [{"role": "user", "content": "2 + 2?"}]
MODELS = {"data": [{"id": "first"}, {"id": "second"}]}
NEVER: Any = object()  # an answer that does not come


def completion(content: Any = "4", finish: str = "stop", **more: Any) -> dict[str, Any]:
    choice = {"message": {"role": "assistant", "content": content}, "finish_reason": finish}
    return {"choices": [choice], "usage": {"completion_tokens": 7}} | more


def ask(llm: ServerLLM, samples: int = 1, **options: Any) -> list[Reply]:
    return llm.complete([Request(MESSAGES, **options)], samples=samples)[0]


class Server:
    """Answers /models, and each chat request with the next of `answers`; the last one repeats."""

    def __init__(self, *answers: Any, models: Any = MODELS) -> None:
        self.answers, self.models = list(answers), models
        self.bodies: list[dict[str, Any]] = []
        self.requests: list[httpx.Request] = []
        self.waits: list[float] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if request.method == "GET":
            assert request.url.path == "/v1/models"
            return await self._answer(self.models, request)
        assert request.url.path == "/v1/chat/completions"
        self.bodies.append(json.loads(request.content))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return await self._answer(answer(self.bodies[-1]) if callable(answer) else answer, request)

    @staticmethod
    async def _answer(answer: Any, request: httpx.Request) -> httpx.Response:
        if answer is NEVER:
            await asyncio.sleep(3600)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx.Response):
            return httpx.Response(answer.status_code, headers=answer.headers, stream=answer.stream)
        return httpx.Response(200, content=json.dumps(answer))

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    def connect(self, fragment: str = "", host: str = "localhost:8000", **options: Any) -> ServerLLM:
        transport = httpx.MockTransport(self)
        rng = random.Random(0)
        return ServerLLM(
            f"http://{host}/v1/{fragment}", transport=transport, sleep=self._sleep, rng=rng, **options
        )


def busy(status: int, **headers: str) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, headers=names, text="loading")


def fault(kind: type[httpx.TransportError]) -> httpx.TransportError:
    return kind("connection reset by peer")


class CutShort(httpx.AsyncByteStream):
    """A body that breaks off."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b'{"choices": ['
        raise httpx.ReadError("connection reset by peer")


class Trickle(httpx.AsyncByteStream):
    """A body that goes on for ever, byte by byte."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(0.01)
            yield b" "


def test_a_good_server() -> None:
    server = Server(completion())
    llm = server.connect()
    (reply,) = ask(llm, max_tokens=9)
    assert (reply.text, reply.tokens, reply.error) == ("4", 7, None)
    assert llm.name == "first (http://localhost:8000/v1)"
    assert server.bodies == [
        {
            "model": "first",
            "messages": MESSAGES,
            "max_tokens": 9,
            "temperature": 0,
            "seed": 0,
            "stream": False,
        }
    ]
    assert server.waits == []


def test_samples_are_requests_of_their_own() -> None:
    server = Server(completion())
    llm = server.connect("#second")
    assert len(llm.complete([Request(MESSAGES)], samples=5, seed=40)[0]) == 5
    assert all("n" not in body and body["model"] == "second" for body in server.bodies)
    assert sorted(body["seed"] for body in server.bodies) == [40, 41, 42, 43, 44]
    assert sorted(body["temperature"] for body in server.bodies) == [0, 0.8, 0.8, 0.8, 0.8]


# -- one request among many --------------------------------------------------------------------------------
BAD = "9" * 99
FAILURES = {
    "too long": httpx.Response(400, json={"error": {"message": "maximum context length is 64 tokens"}}),
    "a fault of the server": httpx.Response(500, json={"error": {"message": "internal error"}}),
    "not acceptable": httpx.Response(422, json={"detail": "no"}),
    "no JSON": httpx.Response(200, text="<html>"),
    "for ever busy": httpx.Response(429, headers={"retry-after": "0"}, text="slow down"),
    "never": NEVER,
    "trickling": httpx.Response(200, stream=Trickle()),
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES.keys())
def test_a_request_that_fails_costs_only_its_own_replies(failure: Any) -> None:
    server = Server(lambda body: failure if BAD in body["messages"][0]["content"] else completion())
    llm = server.connect(patience=Patience(reply_seconds=0.3))
    requests = (
        [Request(MESSAGES)] * 3 + [Request([{"role": "user", "content": BAD}])] + [Request(MESSAGES)] * 3
    )
    for concurrency in (7, 1):
        told: dict[int, list[Reply]] = {}
        try:
            replies = llm.complete(requests, samples=2, concurrency=concurrency, on_replies=told.__setitem__)
        except BackendError:  # nothing else was answered while it was tried: the server itself may be busy
            assert (failure.status_code, concurrency) == (429, 1)
            continue
        assert told == dict(enumerate(replies))
        failed = replies.pop(3)
        assert [[reply.text for reply in of_request] for of_request in replies] == [["4", "4"]] * 6
        assert all(reply.error and not reply.text and reply.tokens == 0 for reply in failed)


def test_a_server_that_fails_every_request_is_given_up() -> None:
    server = Server(completion(), httpx.Response(500, text="broken"))
    llm = server.connect()
    ask(llm)
    with pytest.raises(BackendError, match="500"):
        llm.complete([Request(MESSAGES)] * 50)
    assert len(server.bodies) < 10


def test_a_failed_sample_among_good_ones_is_a_value() -> None:
    server = Server(httpx.Response(400, json={"error": {"message": "no"}}), completion())
    replies = ask(server.connect(), samples=3)
    assert sorted(reply.error is None for reply in replies) == [False, True, True]


def test_what_the_callback_raises_ends_the_call() -> None:
    def full(number: int, replies: list[Reply]) -> None:
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        Server(completion()).connect().complete([Request(MESSAGES)] * 3, on_replies=full)


# -- many at once --------------------------------------------------------------------------------------------
@contextmanager
def listening(answer: Any) -> Iterator[str]:
    """The URL of a real server on loopback. answer: takes the handler, to write a reply to a chat request."""

    class Handler(BaseHTTPRequestHandler):
        def reply(self, content: Any) -> None:
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.reply(MODELS)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

    class Listening(ThreadingHTTPServer):
        request_queue_size = 200
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Clients that went away are what some tests are about."""

    with Listening(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()


def test_a_hundred_and_twenty_requests_run_at_once() -> None:
    """Over real connections: httpx itself would keep all but 100 waiting."""
    gate = threading.Barrier(120, timeout=30)

    def answer(handler: Any) -> None:
        gate.wait()  # passes only if 120 requests are in flight
        handler.reply(completion())

    with listening(answer) as url:
        told: dict[int, list[Reply]] = {}
        requests = [Request(MESSAGES)] * 60
        replies = ServerLLM(url).complete(requests, samples=2, concurrency=60, on_replies=told.__setitem__)
    assert [reply.text for pair in replies for reply in pair] == ["4"] * 120
    assert [told[number] for number in range(60)] == replies


def test_requests_run_side_by_side_up_to_a_limit() -> None:
    running, most = 0, 0

    async def serve(request: httpx.Request) -> httpx.Response:
        nonlocal running, most
        if request.method == "GET":
            return httpx.Response(200, json=MODELS)
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return httpx.Response(200, json=completion())

    llm = ServerLLM("http://localhost/v1", transport=httpx.MockTransport(serve))
    llm.complete([Request(MESSAGES)] * 9, concurrency=3)
    assert most == 3


def test_a_running_event_loop_is_left_alone() -> None:
    """As in a notebook."""

    async def cell() -> str:
        return ask(Server(completion()).connect())[0].text

    assert asyncio.run(cell()) == "4"


# -- retries and deadlines -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("faults", "waits"),
    [
        ([fault(httpx.ConnectError)], 1),
        ([fault(httpx.ConnectError), fault(httpx.ConnectTimeout), fault(httpx.ReadError)], 3),
        ([fault(httpx.RemoteProtocolError)], 1),
        ([httpx.Response(200, stream=CutShort())], 1),
        ([busy(503)] * 6, 6),
        ([busy(503), fault(httpx.ReadError), busy(502)], 3),
    ],
)
def test_faults_that_pass(faults: list[Any], waits: int) -> None:
    server = Server(*faults, completion())
    (reply,) = ask(server.connect())
    assert reply.text == "4"
    assert len(server.waits) == waits
    assert server.waits == sorted(server.waits)  # jitter halves a wait at most; waits double
    assert max(server.waits) <= 30


def test_a_server_that_starts_slowly() -> None:
    answers = iter([fault(httpx.ConnectError), busy(503), busy(503), httpx.Response(200, json=MODELS)])
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def serve(request: httpx.Request) -> httpx.Response:
        return await Server._answer(next(answers), request)

    llm = ServerLLM("http://localhost/v1", transport=httpx.MockTransport(serve), sleep=sleep)
    assert llm.name.startswith("first ")
    assert len(waits) == 3


def test_a_server_may_ask_for_a_longer_wait() -> None:
    server = Server(busy(429, retry_after="7"), busy(503, retry_after="x"), completion())
    ask(server.connect())
    assert server.waits[0] == 7
    assert 0 < server.waits[1] <= 2


@pytest.mark.parametrize(
    "header", ["0", "nan", "-5", formatdate(0, usegmt=True), "1e999", "inf", "x", "Sun, 99 Nov"]
)
def test_a_server_that_stays_busy_is_given_up(header: str) -> None:
    server = Server(busy(429, retry_after=header))
    llm = server.connect(patience=Patience(busy_seconds=10))
    with pytest.raises(BackendError, match=r"still 429 after \d+ s: loading$"):
        llm.complete([Request(MESSAGES)] * 5)
    assert sum(server.waits) <= 10


def test_retry_after_is_seconds_or_a_date() -> None:
    assert [retry_after(text) for text in ("7", "0", "nan", "-1", "", None, "x")] == [7, 0, 0, 0, 0, 0, 0]
    assert 50 < retry_after(formatdate(time.time() + 60, usegmt=True)) <= 60
    assert retry_after(formatdate(0, usegmt=True)) == 0


def test_a_server_that_cannot_be_reached_is_given_up() -> None:
    with pytest.raises(BackendError, match=r"cannot be reached \(4 tries\): connection reset by peer$"):
        Server(completion(), models=fault(httpx.ConnectError)).connect()


@pytest.mark.parametrize("answer", [NEVER, httpx.Response(200, stream=Trickle())])
def test_a_deadline_is_for_the_whole_reply(answer: Any) -> None:
    llm = Server(answer).connect(patience=Patience(reply_seconds=0.2))
    started = time.monotonic()
    with pytest.raises(BackendError, match="no reply within"):
        ask(llm)
    assert time.monotonic() - started < 5


def test_stop_ends_a_call_in_another_thread() -> None:
    llm = Server(NEVER).connect()
    errors: list[Exception] = []

    def call() -> None:
        try:
            ask(llm)
        except BackendError as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    time.sleep(0.2)
    llm.stop()
    thread.join(5)
    assert not thread.is_alive()
    assert "stopped" in str(errors[0])


@pytest.mark.skipif(os.name == "nt", reason="signals are sent otherwise there")
def test_ctrl_c_ends_a_call_at_once() -> None:
    asked = threading.Event()

    def never(handler: Any) -> None:
        asked.set()
        time.sleep(60)

    with listening(never) as url:
        program = (
            "import sys; from hybrid.llm.registry import connect; from hybrid.llm.base import Request\n"
            "try: connect(sys.argv[1]).complete([Request([])] * 20, concurrency=20)\n"
            "except KeyboardInterrupt: sys.exit(130)"
        )
        root = Path(__file__).parents[3]
        with subprocess.Popen([sys.executable, "-c", program, url], cwd=root) as process:
            assert asked.wait(60)
            time.sleep(0.2)
            started = time.monotonic()
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
            assert time.monotonic() - started < 3


# -- what servers answer -------------------------------------------------------------------------------------
DEEP = b'{"choices": ' + b"[" * 1000 + b"]" * 1000 + b"}"


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (completion("half", "length"), "truncated at 7 tokens", "half"),
        (completion("half", "length", usage=None), "truncated", "half"),
        (completion(""), "empty content", ""),
        (completion(None), "empty content", ""),
        (completion([]), "empty content", ""),
        (completion({"a": 1}), "empty content", ""),
        (completion([{"type": "text", "text": "4"}, {"type": "refusal"}, "!"]), None, "4!"),
        (completion("[" * 2000), None, "[" * 2000),
        ({"choices": [{"text": "4", "finish_reason": "stop"}]}, None, "4"),
        ({"choices": []}, "reply without choices", ""),
        ({"choices": None}, "reply without choices", ""),
        ({"choices": [5]}, "reply without choices", ""),
        ([], "reply without choices", ""),
        (5, "reply without choices", ""),
        (None, "reply without choices", ""),
        (httpx.Response(200, text="<html>\n<b>Login</b>"), "reply is no JSON: <html> <b>Login</b>", ""),
        (httpx.Response(200, content=b"\xff\xfe"), "reply is no JSON: ", ""),
        (httpx.Response(200, content=b"4" * 10_000_001), "reply over 10 MB", ""),
        (httpx.Response(200, content=DEEP), "reply is no JSON: ", ""),
        (httpx.Response(200, content=DEEP.replace(b"]", b"")), "reply is no JSON: ", ""),
        (httpx.Response(200, content=b"9" * 5000), "reply is no JSON: ", ""),
    ],
)
def test_odd_replies_are_values(answer: Any, error: str | None, text: str) -> None:
    (reply,) = ask(Server(answer).connect())
    assert reply.text == text
    assert reply.error == error or (error and str(reply.error).startswith(error))


@pytest.mark.parametrize("count", [int("9" * 400), -1, 1.5, "7", True, None, float("inf")])
def test_counts_that_are_none_are_zero(count: Any) -> None:
    answer = json.dumps(completion() | {"usage": {"completion_tokens": count, "prompt_tokens": count}})
    (reply,) = ask(Server(httpx.Response(200, content=answer)).connect())
    assert 0 <= reply.tokens <= 1
    assert reply.tokens == reply.prompt_tokens


def test_lone_surrogates_become_question_marks() -> None:
    body = httpx.Response(200, content=rb'{"choices": [{"message": {"content": "1\ud8002"}}]}')
    (reply,) = ask(Server(body).connect())
    assert reply.text == "1?2"
    (reply,) = Server(completion()).connect().complete([Request([{"role": "user", "content": "\ud800"}])])[0]
    assert reply.text == "4"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "no:\nnever"}}, "no: never"),
        ({"error": "plain"}, "plain"),
        ({"detail": [{"msg": "bad field"}]}, "[{'msg': 'bad field'}]"),
        ({"object": "error", "message": "flat"}, "flat"),
        ({"error": {}}, '{"error": {}}'),
        (5, "5"),
        (None, "None"),
        ("\x1b[31mred", "?[31mred"),
    ],
)
def test_errors_of_the_server_are_one_line(body: Any, message: str) -> None:
    with pytest.raises(BackendError) as caught:
        ask(Server(httpx.Response(400, content=json.dumps(body))).connect())
    assert str(caught.value) == f"http://localhost:8000/v1: the server answered 400: {message}"


@pytest.mark.parametrize("content", [DEEP, b"\xff", b"", b'"\\ud800"'])
def test_errors_in_any_form_are_one_line(content: bytes) -> None:
    with pytest.raises(BackendError) as caught:
        ask(Server(httpx.Response(400, content=content)).connect())
    str(caught.value).encode()
    assert "\n" not in str(caught.value)


def test_a_redirection_is_an_error() -> None:
    with pytest.raises(BackendError, match="answered 301"):
        ask(Server(httpx.Response(301, headers={"location": "https://elsewhere"})).connect())


# -- models --------------------------------------------------------------------------------------------------
def test_wrong_models_are_refused_with_a_list() -> None:
    with pytest.raises(BackendError, match="serves no model 'third', expected first, second"):
        Server(completion()).connect("#third")
    gone = Server(
        httpx.Response(404, json={"error": {"message": "The model does not exist."}}), models={"data": []}
    )
    llm = gone.connect("#third")  # nothing listed when it started
    gone.models = MODELS
    with pytest.raises(BackendError, match=r"404: The model does not exist\.; it serves first, second$"):
        ask(llm)


def test_servers_that_list_nothing() -> None:
    absent = httpx.Response(404, text="not found")
    assert ask(Server(completion(), models=absent).connect("#third"))[0].text == "4"
    with pytest.raises(BackendError, match="lists no models; name one"):
        Server(completion(), models=absent).connect()
    with pytest.raises(BackendError, match="answered 401: Unauthorized"):
        Server(completion(), models=httpx.Response(401, text="Unauthorized")).connect()


@pytest.mark.parametrize(
    "models", [{"data": []}, {"data": 5}, 5, None, [], ["first"], {"data": [{"id": 5}, 3]}]
)
def test_lists_that_cannot_be_read_name_no_model(models: Any) -> None:
    with pytest.raises(BackendError, match="serves no model yet"):
        Server(completion(), models=models).connect()
    assert ask(Server(completion(), models=models).connect("#third"))[0].text == "4"


@pytest.mark.parametrize(
    "spec", ["http://", "http://host:port/v1", "http://localhost:9/v1", "http://me:word@h:x/v1"]
)
def test_servers_that_are_not_there(spec: str) -> None:
    with pytest.raises(BackendError) as caught:
        connect(spec)
    assert "\n" not in str(caught.value)
    assert "word" not in str(caught.value)


# -- secrets -------------------------------------------------------------------------------------------------
def test_the_key_goes_into_the_header_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(completion())
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    server.connect()
    assert "authorization" not in server.requests[-1].headers
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    llm = server.connect()
    assert server.requests[-1].headers["authorization"] == "Bearer sk-secret"
    assert "secret" not in llm.name


@pytest.mark.parametrize("repeat", ["sk-secret", "pass/word", "pass%2Fword", "bWU6cGFzcy93b3Jk"])
def test_a_server_that_repeats_secrets_shows_none(repeat: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In replies, in errors, in names of models."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    host, words = "me:pass%2Fword@localhost", f"you sent {repeat}."
    refusal = httpx.Response(400, json={"error": {"message": words}})
    shown = [Server(completion(), models={"data": [{"id": words}]}).connect(host=host).name]
    for answer in (completion(words), httpx.Response(200, text=words), refusal):
        llm = Server(answer, completion(words)).connect(host=host)
        shown += [text for reply in ask(llm, samples=2) for text in (reply.text, reply.error or "")]
    for server in (Server(completion(), models=refusal), Server(refusal)):
        with pytest.raises(BackendError) as caught:
            ask(server.connect(host=host))
        shown.append(str(caught.value))
    with pytest.raises(BackendError) as caught:
        Server(completion(), models={"data": [{"id": words}]}).connect("#third", host=host)
    shown.append(str(caught.value))
    assert not any(secret in text for text in shown for secret in (repeat, "word", "secret"))
    assert any("you sent ***" in text for text in shown)


@pytest.mark.parametrize("key", ["sk-1\r\nHost: elsewhere", "sk-1\n", "schlüssel"])
def test_a_key_that_no_header_takes_is_one_line(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(BackendError, match="OPENAI_API_KEY") as caught:
        Server(completion()).connect()
    assert "\n" not in str(caught.value)
    assert key.strip() not in str(caught.value)


# -- formats -------------------------------------------------------------------------------------------------
FORMAT = ReplyFormat("[1-9]", {"type": "object"})


def test_a_format_is_sent_as_json_schema() -> None:
    server = Server(completion('{"rows": ["12"]}'))
    ask(server.connect(), format=FORMAT)
    assert server.bodies[0]["response_format"]["json_schema"]["schema"] == FORMAT.json_schema


def test_a_server_that_knows_no_schemas_is_asked_freely() -> None:
    unknown = httpx.Response(400, json={"error": {"message": "response_format is not supported"}})
    server = Server(lambda body: unknown if "response_format" in body else completion("no idea"))
    llm = server.connect()
    for _ in range(2):
        assert ask(llm, format=FORMAT)[0].text == "no idea"
    assert ["response_format" in body for body in server.bodies] == [True, True, False, False]


def test_a_server_that_ignores_one_dialect_is_asked_in_the_other() -> None:
    def answer(body: Any) -> Any:
        return completion(
            '{"rows": []}' if body["response_format"]["type"] == "json_object" else "As you wish"
        )

    server = Server(answer)
    llm = server.connect()
    for _ in range(2):
        assert ask(llm, format=FORMAT)[0].text == '{"rows": []}'
    kinds = [body["response_format"]["type"] for body in server.bodies]
    assert kinds == ["json_schema", "json_object", "json_object"]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Qwen2.5-Coder-0.5B-Instruct", 500_000_000),
        ("SmolLM2-135M", 135_000_000),
        ("gpt-4o", None),
        ("a7bc", None),
        ("9" * 500 + "b", None),
    ],
)
def test_a_models_size_is_what_its_name_says(name: str, parameters: int | None) -> None:
    assert parameters_from(name) == parameters
