"""An OpenAI-compatible server that misbehaves as it is told: in memory, or on loopback."""

from __future__ import annotations

import asyncio
import json
import random
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

from hybrid.llm.base import Message, Reply, Request
from hybrid.llm.client import ServerLLM

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
            self.body = self.rfile.read(int(self.headers["Content-Length"]))
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
