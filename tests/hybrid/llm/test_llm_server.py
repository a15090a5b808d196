"""The client of OpenAI-compatible servers against servers that misbehave."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import httpx
import pytest

from hybrid import solving
from hybrid.llm.base import BackendError, Reply, Request
from hybrid.llm.client import ServerLLM
from hybrid.llm.connection import Patience
from hybrid.llm.wire import retry_after
from hybrid.output import Output
from tests.hybrid.llm.fake_server import (
    MESSAGES,
    MODELS,
    NEVER,
    CutShort,
    Server,
    Trickle,
    ask,
    busy,
    completion,
    fault,
    listening,
)
from trm import tasks
from trm.inference.config import SearchConfig


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
        replies = llm.complete(requests, samples=2, concurrency=concurrency, on_replies=told.__setitem__)
        assert told == dict(enumerate(replies))
        failed = replies.pop(3)
        assert [[reply.text for reply in of_request] for of_request in replies] == [["4", "4"]] * 6
        assert all(reply.error and not reply.text and reply.tokens == 0 for reply in failed)
        final = isinstance(failure, httpx.Response) and failure.status_code in (400, 422)
        assert [reply.unanswered for reply in failed] == [not final] * 2


def test_a_server_that_fails_every_request_is_given_up() -> None:
    server = Server(completion(), httpx.Response(500, text="broken"))
    llm = server.connect()
    ask(llm)
    with pytest.raises(BackendError, match="500"):
        llm.complete([Request(MESSAGES)] * 50)
    assert len(server.bodies) < 10


@pytest.mark.parametrize("failure", [fault(httpx.ReadError), httpx.Response(500), httpx.Response(403)])
def test_failures_that_come_first_do_not_end_what_is_under_way(failure: Any) -> None:
    """Five requests are refused at once, while the server still writes its first reply."""

    async def serve(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json=MODELS)
        bad = BAD in request.content.decode()
        await asyncio.sleep(0.01 if bad else 0.1)
        if not bad:
            return httpx.Response(200, json=completion())
        return await Server._answer(failure, request)

    llm = ServerLLM(
        "http://localhost/v1", transport=httpx.MockTransport(serve), patience=Patience(first_wait=0)
    )
    bad = Request([{"role": "user", "content": BAD}])
    told: dict[int, list[Reply]] = {}
    replies = llm.complete([bad] * 5 + [Request(MESSAGES)], concurrency=6, on_replies=told.__setitem__)
    assert [reply.text for (reply,) in replies] == [""] * 5 + ["4"]
    assert all(reply.error for (reply,) in replies[:5])
    assert told == dict(enumerate(replies))


def test_replies_of_a_call_without_an_answer_are_not_told() -> None:
    told: list[int] = []
    with pytest.raises(BackendError):
        Server(httpx.Response(500)).connect().complete(
            [Request(MESSAGES)] * 3, on_replies=lambda number, _: told.append(number)
        )
    assert told == []


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


def test_a_budget_bounds_the_wait_for_a_draft(capsys: pytest.CaptureFixture[str]) -> None:
    puzzle, config = tasks.get("sudoku").samples()[0], SearchConfig(budget_seconds=0.2)
    gate = threading.Event()
    with listening(lambda handler: gate.wait(30)) as url:
        started = time.monotonic()
        code = solving.run([puzzle], solving.Setup(url, "none", "cpu", "none"), config, Output())
        assert time.monotonic() - started < 10
        gate.set()
    assert code == solving.MISSING
    assert "no reply within 0.2 s" in capsys.readouterr().err


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


def test_ctrl_c_ends_a_call_at_once() -> None:
    asked = threading.Event()

    def never(handler: Any) -> None:
        asked.set()
        time.sleep(60)

    with listening(never) as url:
        program = (
            # A shell that starts tests in the background has told them to ignore the signal.
            "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "from hybrid.llm.registry import connect; from hybrid.llm.base import Request\n"
            "try: connect(sys.argv[1]).complete([Request([])] * 20, concurrency=20)\n"
            "except KeyboardInterrupt: sys.exit(130)"
        )
        root = Path(__file__).parents[3]
        with subprocess.Popen([sys.executable, "-c", program, url], cwd=root) as process:
            assert asked.wait(60)
            time.sleep(0.2)
            started = time.monotonic()
            try:
                process.send_signal(signal.SIGINT)
                assert process.wait(20) == 130
                assert time.monotonic() - started < 3
            finally:
                process.kill()
