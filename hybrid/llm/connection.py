"""A connection to an OpenAI-compatible server, over httpx: retries, deadlines, bounds, and secrets that stay here."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import httpx

from hybrid.llm import wire
from hybrid.llm.base import BackendError
from hybrid.llm.wire import Refused

BODY_LIMIT = 10_000_000  # bytes of one response
BUSY = frozenset({429, 502, 503, 504})  # over the limit, or a model still loading behind the server
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True)
class Patience:
    """When to ask again. Waits double from `first_wait`, halved or not at random, and end at `longest_wait` seconds.

    attempts: at a connection that is refused, reset or cut; within `busy_seconds` too.
    busy_seconds: in all for a server that answers 429, 502, 503 or 504; its Retry-After is honoured within that.
    reply_seconds: for one whole reply, from the request to its last byte.
    """

    attempts: int = 4
    first_wait: float = 0.5
    longest_wait: float = 30.0
    busy_seconds: float = 120.0
    reply_seconds: float = 120.0

    def within(self, seconds: float) -> Patience:
        """As patient as this, but for a whole reply or a busy server no longer than so many seconds."""
        return replace(
            self,
            busy_seconds=min(seconds, self.busy_seconds),
            reply_seconds=min(seconds, self.reply_seconds),
        )


class Connection:
    """Sends requests to one server.

    shown: its URL as messages and records may show it. model: the model that the URL names, or nothing.
    patience: how long requests wait; may be set at any time.
    """

    def __init__(
        self,
        spec: str,
        patience: Patience,
        transport: httpx.AsyncBaseTransport | None,
        sleep: Callable[[float], Awaitable[object]],
        rng: random.Random,
    ) -> None:
        """spec: `http(s)://host[:port]/v1[#model]`.

        The environment's OPENAI_API_KEY, if set, goes into the header and nowhere else. Raises BackendError.
        """
        try:
            url = httpx.URL(spec)
        except httpx.InvalidURL:
            raise BackendError("LLM server: not a URL, expected http(s)://host[:port]/v1[#model]") from None
        # Credentials may be part of a URL; they are used, and never shown.
        self.model = url.fragment
        self._base = str(url.copy_with(fragment=None)).rstrip("/")
        self.shown = str(url.copy_with(fragment=None, username=None, password=None)).rstrip("/")
        if not url.host:
            raise BackendError(f"{self.shown}: no host, expected http(s)://host[:port]/v1")
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
        self.patience, self._sleep, self._rng = patience, sleep, rng

    def open(self) -> httpx.AsyncClient:
        """A client to send requests with, to be closed by the caller."""
        return httpx.AsyncClient(
            headers=self._headers,
            timeout=httpx.Timeout(None, connect=5.0),  # `Patience.reply_seconds` bounds the whole
            limits=httpx.Limits(max_connections=None),  # `concurrency` says how many
            verify=self._certificates,
            transport=self._transport,
            trust_env=self._trust_env,
        )

    async def exchange(
        self, client: httpx.AsyncClient, method: str, path: str, body: dict[str, Any] | None = None
    ) -> Any:
        """The decoded JSON of one successful request, asked again as `Patience` says. Raises Refused."""
        patience, wait = self.patience, self.patience.first_wait
        started, paused, faults = time.monotonic(), 0.0, 0
        while True:
            pause = wait * self._rng.uniform(0.5, 1.0)
            try:
                async with asyncio.timeout(patience.reply_seconds):
                    status, headers, content = await self._request(client, method, path, body)
            except TimeoutError:
                raise Refused(f"no reply within {patience.reply_seconds:g} s") from None
            except (httpx.TransportError, httpx.DecodingError) as error:
                faults += 1
                if faults >= patience.attempts or time.monotonic() - started > patience.busy_seconds:
                    absent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                    fault = "cannot be reached" if absent else "the connection broke"
                    reason = wire.one_line(str(error)) or type(error).__name__
                    raise Refused(f"{fault} ({faults} tries): {reason}", unreachable=True) from error
            else:
                if status not in BUSY:
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
            text = self.redact(content.decode(errors="surrogateescape"))  # before messages are cut short
            return response.status_code, response.headers, text.encode(errors="surrogateescape")

    def redact(self, text: str) -> str:
        """The text without the key and the password, which a server may repeat."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text
