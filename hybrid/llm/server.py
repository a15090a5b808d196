"""Chat models behind any OpenAI-compatible server, over httpx."""

from __future__ import annotations

import os
import random
import re
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from typing import Any

import httpx

from hybrid.llm import wire
from hybrid.llm.base import BackendError, Heard, Message, Reply, Request, unheard
from hybrid.llm.chat.constrained import Form
from hybrid.llm.wire import Refused

TEMPERATURE, TOP_P = 0.8, 0.95
BODY_LIMIT = 10_000_000  # bytes of one response
# What servers say of a response_format they don't know.
_NO_SCHEMAS = frozenset({400, 404, 415, 422, 500, 501})
# Of servers that have a model and cannot list it (`transformers serve`).
_UNLISTED = frozenset({404, 405, 500, 501})
_BUSY = frozenset({429, 502, 503, 504})  # over the limit, or a model still loading behind the server
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class Patience:
    """When to ask again. Waits double from `first_wait`, halved or not at random, and end at `longest_wait`.

    attempts: at a connection that is refused, reset or cut. busy_seconds: waited in all for a server that
    answers 429, 502, 503 or 504; its Retry-After is honoured within that.
    """

    attempts: int = 4
    first_wait: float = 0.5
    longest_wait: float = 30.0
    busy_seconds: float = 120.0


def _named(schema: dict[str, Any]) -> dict[str, Any]:
    """How OpenAI, vLLM and llama.cpp's own server take a JSON schema."""
    return {"type": "json_schema", "json_schema": {"name": "grid", "strict": True, "schema": schema}}


def _object(schema: dict[str, Any]) -> dict[str, Any]:
    """How llama-cpp-python's server takes it."""
    return {"type": "json_object", "schema": schema}


def size_from(name: str) -> int | None:
    """How many parameters a model's name claims (`Qwen2.5-0.5B`, `SmolLM2-135M`); None if it claims nothing."""
    found = re.search(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)([mb])(?![a-z0-9])", name, re.IGNORECASE)
    return round(float(found[1]) * {"m": 1e6, "b": 1e9}[found[2].lower()]) if found else None


class HTTPLLM:
    """A model that a server names; the server is asked once at the start which it serves.

    on_reply: called with each reply as it arrives, from the thread that asked, for live displays.
    """

    def __init__(
        self,
        spec: str,
        *,
        concurrency: int = 8,
        patience: Patience | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        rng: random.Random | None = None,
    ) -> None:
        """spec: `http(s)://host[:port]/v1[#model]`; without a model the first that the server lists.

        The environment's OPENAI_API_KEY, if set, goes into the header and nowhere else.
        Raises BackendError, in one line, if the server or the model is not there.
        """
        try:
            url = httpx.URL(spec)
        except httpx.InvalidURL as error:
            raise BackendError(f"{spec}: not a URL ({error}), expected http(s)://host[:port]/v1") from error
        if not url.host:
            raise BackendError(f"{spec}: no host, expected http(s)://host[:port]/v1")
        self._base = str(url.copy_with(fragment=None)).rstrip("/")
        # Credentials may be part of a URL; they are used, and never shown.
        self._shown = str(url.copy_with(fragment=None, username=None, password=None)).rstrip("/")
        key = os.environ.get("OPENAI_API_KEY")
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(120.0, connect=5.0),
            # Who asks says how much at once; httpx's own limit of 100 would let the rest wait, and at last fail.
            limits=httpx.Limits(max_connections=None),
            transport=transport,
            trust_env=url.host not in _LOOPBACK,  # a proxy would look for the server on its own machine
        )
        self._dialects = [_named, _object]
        self._patience = patience or Patience()
        self._concurrency = concurrency
        self._sleep = sleep
        self._rng = rng or random.Random()
        self._rng_lock = threading.Lock()
        self.on_reply: Callable[[Reply], None] | None = None
        self._answered = False  # whether it ever gave a reply
        try:
            self._model = self._choose(url.fragment)
        except BaseException:
            self._client.close()
            raise
        self.name = f"{self._model} ({self._shown})"
        self.parameters = size_from(self._model)

    def close(self) -> None:
        self._client.close()

    def chat(
        self,
        messages: Sequence[Message],
        *,
        samples: int = 1,
        greedy_first: bool = True,
        seed: int = 0,
        max_tokens: int = 512,
        form: Form | None = None,
    ) -> list[Reply]:
        """`samples` replies, one request each, `concurrency` at a time; `hybrid.llm.base.LLM` says more.

        Unusable replies are values with an error. BackendError if every request failed.
        """

        def request(number: int) -> dict[str, Any]:
            greedy = greedy_first and number == 0
            body: dict[str, Any] = {
                "model": self._model,
                "messages": list(messages),
                "max_tokens": max_tokens,
            }
            if form is not None and self._dialects:
                body["response_format"] = self._dialects[0](form.schema())
            body |= {"temperature": 0} if greedy else {"temperature": TEMPERATURE, "top_p": TOP_P}
            return body | {"seed": seed + number, "stream": False}

        started = time.perf_counter()
        with ThreadPoolExecutor(max_workers=max(1, min(self._concurrency, samples))) as pool:
            outcomes = list(pool.map(self._ask, (request(number) for number in range(samples))))
        replies = [outcome for outcome in outcomes if isinstance(outcome, Reply)]
        refusals = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
        self._answered |= bool(replies)
        if refusals and not replies:
            raise BackendError(f"{self._shown}: {refusals[0]}{self._served_hint(refusals[0])}") from refusals[
                0
            ]
        # Shares of the wall time, so that the seconds of all replies add up to what was waited.
        share = (time.perf_counter() - started) / max(1, samples)
        return [
            replace(outcome if isinstance(outcome, Reply) else Reply("", 0, 0.0, str(outcome)), seconds=share)
            for outcome in outcomes
        ]

    def chat_many(
        self,
        requests: Sequence[Request],
        *,
        samples: int = 1,
        greedy_first: bool = True,
        seed: int = 0,
        concurrency: int = 1,
        done: Heard = unheard,
    ) -> list[list[Reply]]:
        """Many conversations, `concurrency` at a time. BackendError if every request for one of them failed, but for
        one that the server refuses itself (too long, say): it costs the others nothing."""

        def one(asked: Request) -> list[Reply]:
            try:
                return self.chat(
                    asked.messages,
                    samples=samples,
                    greedy_first=greedy_first,
                    seed=seed,
                    max_tokens=asked.max_tokens,
                    form=asked.form,
                )
            except BackendError as error:
                if isinstance(error.__cause__, Refused) and self._concerns_itself(error.__cause__):
                    return [Reply("", 0, 0.0, str(error))] * samples
                raise

        found: dict[int, list[Reply]] = {}
        with ThreadPoolExecutor(max_workers=max(1, concurrency)) as pool:
            asked_for = {pool.submit(one, asked): number for number, asked in enumerate(requests)}
            try:
                for made in as_completed(asked_for):
                    number = asked_for[made]
                    found[number] = made.result()
                    done(number, found[number])
            finally:  # after a failure nothing more is asked
                pool.shutdown(wait=False, cancel_futures=True)
        return [found[number] for number in range(len(requests))]

    def _concerns_itself(self, refusal: Refused) -> bool:
        """Whether it is about one conversation, and others may well be answered."""
        too_long = re.search(r"context|token|too (long|large)", str(refusal), re.I)
        return refusal.status in (400, 413, 422) and (self._answered or too_long is not None)

    # -- models ----------------------------------------------------------------------------------------
    def _choose(self, wanted: str) -> str:
        try:
            served = self._served()
        except Refused as error:
            # Some servers list nothing; then the name given is all there is to go by.
            if wanted and error.status in _UNLISTED:
                return wanted
            if error.status in _UNLISTED:
                raise BackendError(
                    f"{self._shown}: lists no models; name one: {self._shown}#MODEL"
                ) from error
            raise BackendError(f"{self._shown}: {error}") from error
        if wanted and served and wanted not in served:
            raise BackendError(f"{self._shown}: serves no model {wanted!r}, expected {wire.listed(served)}")
        if not wanted and not served:
            raise BackendError(f"{self._shown}: serves no model yet; name one: {self._shown}#MODEL")
        return wanted or served[0]

    def _served(self) -> list[str]:
        listing = self._exchange("GET", "/models", None)
        entries = listing.get("data") if isinstance(listing, dict) else listing
        found = [entry.get("id") for entry in entries or [] if isinstance(entry, dict)]
        return [name for name in found if isinstance(name, str)]

    def _served_hint(self, refusal: Refused) -> str:
        """`; it serves a, b` after an answer that may mean a wrong model name."""
        if refusal.status not in (400, 404, 422):
            return ""
        try:
            served = self._served()
        except Refused:
            return ""
        return f"; it serves {wire.listed(served)}" if served and self._model not in served else ""

    # -- requests --------------------------------------------------------------------------------------
    def _ask(self, body: dict[str, Any]) -> Reply | Refused:
        try:
            reply = wire.read_reply(self._exchange("POST", "/chat/completions", body))
        except Refused as error:
            if "response_format" in body and error.status in _NO_SCHEMAS:
                return self._ask(self._in_next_dialect(body))
            if error.status is None or error.status >= 400:
                return error
            reply = Reply("", 0, 0.0, str(error))  # it answered, but nothing that can be used: counted
        # A server that knows no schema may ignore it and say what it likes.
        if "response_format" in body and reply.text.strip() and not reply.text.lstrip().startswith("{"):
            return self._ask(self._in_next_dialect(body))
        if self.on_reply:
            self.on_reply(reply)
        return reply

    def _in_next_dialect(self, body: dict[str, Any]) -> dict[str, Any]:
        """The request with its schema said otherwise, at last without; so are all that follow."""
        said = body["response_format"]
        schema = said.get("schema") or said["json_schema"]["schema"]
        tried = _object if "schema" in said else _named
        with self._rng_lock:
            self._dialects = [dialect for dialect in self._dialects if dialect is not tried]
            left = list(self._dialects)
        asked = {key: value for key, value in body.items() if key != "response_format"}
        return asked | {"response_format": left[0](schema)} if left else asked

    def _exchange(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        """The decoded JSON of one successful request, asked again as `Patience` says. Raises Refused."""
        faults, waited, wait = 0, 0.0, self._patience.first_wait
        while True:
            try:
                status, headers, content = self._request(method, path, body)
            except (httpx.TransportError, httpx.DecodingError) as error:
                faults += 1
                if faults >= self._patience.attempts or isinstance(error, httpx.ReadTimeout):
                    raise Refused(wire.fault_words(error, faults)) from error
                pause = self._jitter(wait)
            else:
                if status not in _BUSY:
                    return wire.decode(status, content)
                asked = wire.retry_after(headers.get("retry-after"))
                pause = self._jitter(wait) if asked is None else asked
                if waited + pause > self._patience.busy_seconds:
                    reason = f"still {status} after {waited:.0f} s: {wire.server_message(content)}"
                    raise Refused(reason, status)
                waited += pause
            self._sleep(pause)
            wait = min(2 * wait, self._patience.longest_wait)

    def _request(
        self, method: str, path: str, body: dict[str, Any] | None
    ) -> tuple[int, httpx.Headers, bytes]:
        content = bytearray()
        with self._client.stream(method, self._base + path, json=body) as response:
            for chunk in response.iter_bytes():
                content += chunk
                if len(content) > BODY_LIMIT:
                    raise Refused(f"reply over {BODY_LIMIT // 1_000_000} MB", response.status_code)
            return response.status_code, response.headers, bytes(content)

    def _jitter(self, wait: float) -> float:
        with self._rng_lock:
            return wait * self._rng.uniform(0.5, 1.0)
