"""The backend of OpenAI-compatible servers, over httpx: many requests at once, with retries and deadlines.

All requests of a call run on an event loop that ends with the call, so that Ctrl-C, a deadline or an error cancels
those that are still waiting.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import httpx

from hybrid.llm import wire
from hybrid.llm.base import Backend, BackendError, OnReplies, Reply, Request, ignore_replies
from hybrid.llm.wire import Refused

T = TypeVar("T")

TEMPERATURE, TOP_P = 0.8, 0.95
SAMPLES_AT_ONCE = 8  # of one request
BODY_LIMIT = 10_000_000  # bytes of one response
FAILURES_IN_A_ROW = 3  # with no answer in between: then it is the server that fails, not the requests
# What servers say of a response_format that they don't know.
_NO_SCHEMAS = frozenset({400, 404, 415, 422, 500, 501})
# Of servers that have a model and cannot list it (`transformers serve`).
_UNLISTED = frozenset({404, 405, 500, 501})
_BUSY = frozenset({429, 502, 503, 504})  # over the limit, or a model still loading behind the server
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class Patience:
    """When to ask again. Waits double from `first_wait`, halved or not at random, and end at `longest_wait` seconds.

    attempts: at a connection that is refused, reset or cut.
    busy_seconds: in all for a server that answers 429, 502, 503 or 504; its Retry-After is honoured within that.
    reply_seconds: for one whole reply, from the request to its last byte.
    """

    attempts: int = 4
    first_wait: float = 0.5
    longest_wait: float = 30.0
    busy_seconds: float = 120.0
    reply_seconds: float = 120.0


def _strict_schema(schema: dict[str, object]) -> dict[str, object]:
    """How OpenAI, vLLM and llama.cpp's own server take a JSON schema."""
    return {"type": "json_schema", "json_schema": {"name": "grid", "strict": True, "schema": schema}}


def _json_object(schema: dict[str, object]) -> dict[str, object]:
    """How llama-cpp-python's server takes it."""
    return {"type": "json_object", "schema": schema}


class ServerLLM:
    """A model that a server names; the server is asked once at the start which models it serves."""

    def __init__(
        self,
        spec: str,
        *,
        patience: Patience | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        rng: random.Random | None = None,
    ) -> None:
        """spec: `http(s)://host[:port]/v1[#model]`; without a model the first that the server lists.

        The environment's OPENAI_API_KEY, if set, goes into the header and nowhere else.
        Raises BackendError, in one line, if the server or the model is not there.
        """
        try:
            url = httpx.URL(spec)
        except httpx.InvalidURL:
            raise BackendError("LLM server: not a URL, expected http(s)://host[:port]/v1[#model]") from None
        # Credentials may be part of a URL; they are used, and never shown.
        self._base = str(url.copy_with(fragment=None)).rstrip("/")
        self._shown = str(url.copy_with(fragment=None, username=None, password=None)).rstrip("/")
        if not url.host:
            raise BackendError(f"{self._shown}: no host, expected http(s)://host[:port]/v1")
        key = os.environ.get("OPENAI_API_KEY", "")
        if not (key.isascii() and key.isprintable()):
            raise BackendError(
                "OPENAI_API_KEY holds a line end or is not ASCII, expected a key as a header takes it"
            )
        self._secrets = wire.spellings(key, url.username, url.password)
        self._headers = {"Content-Type": "application/json"} | (
            {"Authorization": f"Bearer {key}"} if key else {}
        )
        # A proxy would look for a server on this machine on its own. Certificates are read once, they take a while.
        self._trust_env = url.host not in _LOOPBACK
        self._certificates = httpx.create_ssl_context(trust_env=self._trust_env)
        self._transport = transport
        self._dialects = [_strict_schema, _json_object]
        self._patience = patience or Patience()
        self._sleep = sleep
        self._rng = rng or random.Random()
        self._answers = 0  # replies that ever came
        self._failures = 0  # requests that failed since the last reply
        self._running: set[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = set()
        self._model = self._run(self._choose_model(url.fragment))
        self.name = f"{self._redact(self._model)} ({self._shown})"
        self.parameters = wire.parameters_from(self._model)

    def stop(self) -> None:
        """Cancel what other threads are waiting for; their calls raise BackendError."""
        for loop, task in list(self._running):
            loop.call_soon_threadsafe(task.cancel)

    def complete(
        self,
        requests: Sequence[Request],
        *,
        samples: int = 1,
        seed: int = 0,
        concurrency: int = 1,
        on_replies: OnReplies = ignore_replies,
    ) -> list[list[Reply]]:
        """As `hybrid.llm.base.LLM` says. A request that fails costs its own replies alone, as long as the server
        answers others; BackendError where it does not."""
        return self._run(self._complete(requests, samples, seed, concurrency, on_replies))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        async def registered() -> T:
            task = asyncio.current_task()
            assert task is not None
            running = (asyncio.get_running_loop(), task)
            self._running.add(running)
            try:
                return await work
            except BaseExceptionGroup as group:  # of the TaskGroup: the first one made it cancel the others
                raise group.exceptions[0] from group.exceptions[0].__cause__
            finally:
                self._running.discard(running)

        try:
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                return asyncio.run(registered())
            with ThreadPoolExecutor(1) as thread:  # a notebook runs an event loop of its own in this one
                return thread.submit(asyncio.run, registered()).result()
        except (asyncio.CancelledError, CancelledError):
            raise BackendError(f"{self._shown}: stopped") from None

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            headers=self._headers,
            timeout=httpx.Timeout(None, connect=5.0),  # `Patience.reply_seconds` bounds the whole
            limits=httpx.Limits(max_connections=None),  # `concurrency` says how many
            verify=self._certificates,
            transport=self._transport,
            trust_env=self._trust_env,
        )

    # -- requests --------------------------------------------------------------------------------------
    async def _complete(
        self, requests: Sequence[Request], samples: int, seed: int, concurrency: int, on_replies: OnReplies
    ) -> list[list[Reply]]:
        places = asyncio.Semaphore(max(1, concurrency))
        replies: list[list[Reply]] = [[] for _ in requests]

        async def answer(number: int, request: Request) -> None:
            async with places:
                replies[number] = await self._replies(client, request, samples, seed)
            on_replies(number, replies[number])

        async with self._client() as client, asyncio.TaskGroup() as group:
            for number, request in enumerate(requests):
                group.create_task(answer(number, request))
        return replies

    async def _replies(
        self, client: httpx.AsyncClient, request: Request, samples: int, seed: int
    ) -> list[Reply]:
        started, answers = time.perf_counter(), self._answers
        places = asyncio.Semaphore(SAMPLES_AT_ONCE)

        async def sample(number: int) -> Reply | Refused:
            async with places:
                return await self._ask(client, self._body(request, number, seed))

        outcomes = await asyncio.gather(*map(sample, range(samples)))
        for outcome in outcomes:
            if isinstance(outcome, Refused) and self._answers == answers and not self._concerns_one(outcome):
                hint = await self._model_hint(client, outcome)
                raise BackendError(self._redact(f"{self._shown}: {outcome}{hint}")) from outcome
        seconds = (time.perf_counter() - started) / max(1, samples)
        return [
            replace(outcome, seconds=seconds, text=self._redact(outcome.text))
            if isinstance(outcome, Reply)
            else Reply("", 0, seconds, self._redact(f"{self._shown}: {outcome}"))
            for outcome in outcomes
        ]

    def _concerns_one(self, refusal: Refused) -> bool:
        """Whether others may well be answered, though nobody was while this request was tried."""
        if refusal.status in (400, 413, 422):
            return (
                self._answers > 0
                or re.search(r"context|token|too (long|large)", str(refusal), re.I) is not None
            )
        if refusal.unreachable or refusal.status in (401, 403, 404, *_BUSY):
            return False
        return self._answers > 0 and self._failures < FAILURES_IN_A_ROW

    def _body(self, request: Request, number: int, seed: int) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._model,
            "messages": list(request.messages),
            "max_tokens": request.max_tokens,
        }
        if request.format is not None and self._dialects:
            body["response_format"] = self._dialects[0](request.format.json_schema)
        body |= {"temperature": TEMPERATURE, "top_p": TOP_P} if number else {"temperature": 0}
        return body | {"seed": seed + number, "stream": False}

    async def _ask(self, client: httpx.AsyncClient, body: dict[str, Any]) -> Reply | Refused:
        try:
            reply = wire.read_reply(await self._exchange(client, "POST", "/chat/completions", body))
        except Refused as error:
            if "response_format" in body and error.status in _NO_SCHEMAS:
                return await self._ask(client, self._in_next_dialect(body))
            if error.status is None or error.status >= 300:
                self._failures += 1
                return error
            reply = Reply("", 0, 0.0, self._redact(str(error)))  # it answered, but nothing that can be used
        # A server that knows no schema may ignore it and say what it likes.
        if "response_format" in body and reply.text.strip() and not reply.text.lstrip().startswith("{"):
            return await self._ask(client, self._in_next_dialect(body))
        self._answers, self._failures = self._answers + 1, 0
        return reply

    def _in_next_dialect(self, body: dict[str, Any]) -> dict[str, Any]:
        """The request with its schema put otherwise, at last without; so are all that follow."""
        format = body["response_format"]
        schema = format.get("schema") or format["json_schema"]["schema"]
        tried = _json_object if "schema" in format else _strict_schema
        self._dialects = [dialect for dialect in self._dialects if dialect is not tried]
        free = {key: value for key, value in body.items() if key != "response_format"}
        return free | ({"response_format": self._dialects[0](schema)} if self._dialects else {})

    async def _exchange(
        self, client: httpx.AsyncClient, method: str, path: str, body: dict[str, Any] | None = None
    ) -> Any:
        """The decoded JSON of one successful request, asked again as `Patience` says. Raises Refused."""
        patience, wait = self._patience, self._patience.first_wait
        started, paused, faults = time.monotonic(), 0.0, 0
        while True:
            pause = wait * self._rng.uniform(0.5, 1.0)
            try:
                async with asyncio.timeout(patience.reply_seconds):
                    status, headers, content = await self._request(client, method, path, body)
            except TimeoutError:
                raise Refused(f"no reply within {patience.reply_seconds:.0f} s") from None
            except (httpx.TransportError, httpx.DecodingError) as error:
                faults += 1
                if faults >= patience.attempts:
                    absent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                    fault = "cannot be reached" if absent else "the connection broke"
                    reason = wire.one_line(str(error)) or type(error).__name__
                    raise Refused(f"{fault} ({faults} tries): {reason}", unreachable=True) from error
            else:
                if status not in _BUSY:
                    return wire.decode(status, content)
                pause = max(pause, wire.retry_after(headers.get("retry-after")))
                waited = max(paused, time.monotonic() - started)
                if waited + pause > patience.busy_seconds:
                    raise Refused(
                        f"still {status} after {waited:.0f} s: {wire.server_message(content)}", status
                    )
            paused += pause
            await self._sleep(pause)
            wait = min(2 * wait, patience.longest_wait)

    async def _request(
        self, client: httpx.AsyncClient, method: str, path: str, body: dict[str, Any] | None
    ) -> tuple[int, httpx.Headers, bytes]:
        data, content = None if body is None else json.dumps(body).encode(), bytearray()
        async with client.stream(method, self._base + path, content=data) as response:
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > BODY_LIMIT:
                    raise Refused(f"reply over {BODY_LIMIT // 1_000_000} MB", response.status_code)
            text = self._redact(content.decode(errors="surrogateescape"))  # before messages are cut short
            return response.status_code, response.headers, text.encode(errors="surrogateescape")

    # -- models ----------------------------------------------------------------------------------------
    async def _choose_model(self, wanted: str) -> str:
        try:
            async with self._client() as client:
                served = wire.read_models(await self._exchange(client, "GET", "/models"))
        except Refused as error:
            # Some servers list nothing; then the name given is all there is to go by.
            if wanted and error.status in _UNLISTED:
                return wanted
            if error.status in _UNLISTED:
                raise BackendError(
                    f"{self._shown}: lists no models; name one: {self._shown}#MODEL"
                ) from error
            raise BackendError(self._redact(f"{self._shown}: {error}")) from error
        if wanted and served and wanted not in served:
            known = self._redact(wire.listed(served))
            raise BackendError(f"{self._shown}: serves no model {wanted!r}, expected {known}")
        if not wanted and not served:
            raise BackendError(f"{self._shown}: serves no model yet; name one: {self._shown}#MODEL")
        return wanted or served[0]

    async def _model_hint(self, client: httpx.AsyncClient, refusal: Refused) -> str:
        """`; it serves a, b` after an answer that may mean a wrong model name."""
        if refusal.status not in (400, 404, 422):
            return ""
        try:
            served = wire.read_models(await self._exchange(client, "GET", "/models"))
        except Refused:
            return ""
        return f"; it serves {wire.listed(served)}" if served and self._model not in served else ""

    def _redact(self, text: str) -> str:
        """The text without the key and the password, which a server may repeat."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


BACKEND = Backend(
    "http(s)://host[:port]/v1[#model]",
    lambda spec: spec.lower().startswith(("http://", "https://")),
    lambda spec, device: ServerLLM(spec),
)
