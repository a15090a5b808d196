"""The backend of OpenAI-compatible servers, over httpx: many requests at once, with retries and deadlines.

All requests of a call run on an event loop that ends with the call, so that Ctrl-C, a deadline or an error cancels
those that are still waiting.
"""

from __future__ import annotations

import asyncio
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
from hybrid.llm.connection import BUSY, Connection, Patience
from hybrid.llm.wire import Refused

T = TypeVar("T")

TEMPERATURE, TOP_P = 0.8, 0.95
SAMPLES_AT_ONCE = 8  # of one request
FAILURES_IN_A_ROW = 3  # with no answer in between: then it is the server that fails, not the requests
# What servers say of a request that they will never answer, such as one that is too long.
UNACCEPTABLE = frozenset({400, 413, 422})
# What servers say of a response_format that they don't know.
_NO_SCHEMAS = frozenset({400, 404, 415, 422, 500, 501})
# Of servers that have a model and cannot list it (`transformers serve`).
_UNLISTED = frozenset({404, 405, 500, 501})


def _strict_schema(schema: dict[str, object]) -> dict[str, object]:
    """How OpenAI, vLLM and llama.cpp's own server take a JSON schema."""
    return {"type": "json_schema", "json_schema": {"name": "grid", "strict": True, "schema": schema}}


def _json_object(schema: dict[str, object]) -> dict[str, object]:
    """How llama-cpp-python's server takes it."""
    return {"type": "json_object", "schema": schema}


@dataclass
class _Call:
    """What came of a call so far. Requests under way are never given up for the sake of another's failure."""

    answered: bool = False
    failures: int = 0
    refused: Refused | None = None  # the first

    @property
    def given_up(self) -> bool:
        """Whether no further request is worth sending."""
        return not self.answered and self.failures >= FAILURES_IN_A_ROW

    def note(self, outcome: Reply | Refused) -> None:
        if isinstance(outcome, Refused):
            down = outcome.unreachable or outcome.status in BUSY  # it was tried again and again
            self.failures += FAILURES_IN_A_ROW if down else 1
            self.refused = self.refused or outcome
        else:
            self.answered = True


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

        Raises BackendError, in one line, if the server or the model is not there.
        """
        self._dialects = [_strict_schema, _json_object]
        self.connection = Connection(spec, patience or Patience(), transport, sleep, rng or random.Random())
        self._answers = 0  # replies that ever came
        self._failures = 0  # requests that failed since the last reply
        self._running: set[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]]] = set()
        self._model = self._run(self._choose_model(self.connection.model))
        self.name = f"{self.connection.redact(self._model)} ({self.connection.shown})"
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
            raise BackendError(f"{self.connection.shown}: stopped") from None

    # -- requests --------------------------------------------------------------------------------------
    async def _complete(
        self, requests: Sequence[Request], samples: int, seed: int, concurrency: int, on_replies: OnReplies
    ) -> list[list[Reply]]:
        places = asyncio.Semaphore(max(1, concurrency))
        replies: list[list[Reply]] = [[] for _ in requests]
        unanswered: list[int] = []
        call = _Call()

        async def answer(number: int, request: Request) -> None:
            async with places:
                outcomes, seconds = await self._outcomes(client, request, samples, seed, call)
            replies[number] = [self._reply(outcome, seconds) for outcome in outcomes]
            if any(isinstance(outcome, Reply) for outcome in outcomes):
                on_replies(number, replies[number])
            else:
                unanswered.append(number)  # told once it is known that the server answers others

        async with self.connection.open() as client:
            async with asyncio.TaskGroup() as group:
                for number, request in enumerate(requests):
                    group.create_task(answer(number, request))
            refused = call.refused
            if refused is not None and not call.answered and not self._concerns_one(refused):
                hint = await self._model_hint(client, refused)
                raise BackendError(
                    self.connection.redact(f"{self.connection.shown}: {refused}{hint}")
                ) from refused
        for number in unanswered:
            on_replies(number, replies[number])
        return replies

    async def _outcomes(
        self, client: httpx.AsyncClient, request: Request, samples: int, seed: int, call: _Call
    ) -> tuple[list[Reply | Refused], float]:
        """What came of each sample of a request, and the seconds that each took of the whole."""
        started = time.perf_counter()
        places = asyncio.Semaphore(SAMPLES_AT_ONCE)

        async def sample(number: int) -> Reply | Refused:
            async with places:
                if call.refused is not None and call.given_up:
                    return call.refused
                outcome = await self._ask(client, self._body(request, number, seed))
            call.note(outcome)
            return outcome

        outcomes = await asyncio.gather(*map(sample, range(samples)))
        return list(outcomes), (time.perf_counter() - started) / max(1, samples)

    def _reply(self, outcome: Reply | Refused, seconds: float) -> Reply:
        if isinstance(outcome, Reply):
            return replace(outcome, seconds=seconds, text=self.connection.redact(outcome.text))
        error = self.connection.redact(f"{self.connection.shown}: {outcome}")
        return Reply("", 0, seconds, error, unanswered=outcome.status not in UNACCEPTABLE)

    def _concerns_one(self, refusal: Refused) -> bool:
        """Whether others may well be answered, though none was of the call in which this request was refused."""
        if refusal.status in UNACCEPTABLE:
            return (
                self._answers > 0
                or re.search(r"context|token|too (long|large)", str(refusal), re.I) is not None
            )
        if refusal.unreachable or refusal.status in (401, 403, 404, *BUSY):
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
            reply = wire.read_reply(await self.connection.exchange(client, "POST", "/chat/completions", body))
        except Refused as error:
            if "response_format" in body and error.status in _NO_SCHEMAS:
                return await self._ask(client, self._in_next_dialect(body))
            if error.status is None or error.status >= 300:
                self._failures += 1
                return error
            # It answered, but nothing that can be used.
            reply = Reply("", 0, 0.0, self.connection.redact(str(error)), unanswered=True)
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

    # -- models ----------------------------------------------------------------------------------------
    async def _choose_model(self, wanted: str) -> str:
        shown = self.connection.shown
        try:
            async with self.connection.open() as client:
                served = wire.read_models(await self.connection.exchange(client, "GET", "/models"))
        except Refused as error:
            # Some servers list nothing; then the name given is all there is to go by.
            if wanted and error.status in _UNLISTED:
                return wanted
            if error.status in _UNLISTED:
                raise BackendError(f"{shown}: lists no models; name one: {shown}#MODEL") from error
            raise BackendError(self.connection.redact(f"{shown}: {error}")) from error
        if wanted and served and wanted not in served:
            known = self.connection.redact(wire.listed(served))
            raise BackendError(f"{shown}: serves no model {wanted!r}, expected {known}")
        if not wanted and not served:
            raise BackendError(f"{shown}: serves no model yet; name one: {shown}#MODEL")
        return wanted or served[0]

    async def _model_hint(self, client: httpx.AsyncClient, refusal: Refused) -> str:
        """`; it serves a, b` after an answer that may mean a wrong model name."""
        if refusal.status not in (400, 404, 422):
            return ""
        try:
            served = wire.read_models(await self.connection.exchange(client, "GET", "/models"))
        except Refused:
            return ""
        return f"; it serves {wire.listed(served)}" if served and self._model not in served else ""


def is_server(spec: str) -> bool:
    """Whether a language model's name is the address of a server."""
    return spec.lower().startswith(("http://", "https://"))


BACKEND = Backend(
    "http(s)://host[:port]/v1[#model]",
    is_server,
    lambda spec, device: ServerLLM(spec),
)
