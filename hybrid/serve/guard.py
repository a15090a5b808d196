"""What every request passes before it is read: host, origin, token, size; and the headers of every response."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import re
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BYTES = 1 << 20  # of a request's body
MOST_MESSAGE = 2000  # characters
BODY_SECONDS = 30.0  # that a client may take to send it
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
PROTECTED = ("/v1/", "/metrics")  # by the token; the page's own files hold nothing that is secret


HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")


@dataclass(frozen=True)
class Policy:
    """Who may ask. token: None where none is needed. hosts: names of the server beside `localhost`, in small letters.

    loopback: whether only this machine can reach the server; then addresses of other machines are no names of it.
    """

    token: str | None = None
    hosts: tuple[str, ...] = ()
    loopback: bool = True

    def knows_host(self, header: str) -> bool:
        """Whether a Host header names this server. A foreign name that was pointed at this machine does not
        (DNS rebinding); an address cannot be pointed anywhere."""
        parts = HOST.fullmatch(header)
        if parts is None:
            return False
        name = parts["name"].strip("[]").rstrip(".").lower()
        if name == "localhost" or name in self.hosts:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self.loopback


# What programs tell errors of a status apart from others by, where the error has no code of its own.
CODES = {
    400: "invalid_request",
    401: "invalid_token",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "body_too_slow",
    413: "body_too_large",
    422: "invalid_value",
    429: "queue_full",
    500: "internal_error",
    503: "unavailable",
    504: "timeout",
}
TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def error_body(
    status: int, message: str, code: str | None = None, param: str | None = None
) -> dict[str, object]:
    """An error as OpenAI's API writes it, its message bounded: it may repeat what was sent."""
    kind = TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    code = code or CODES.get(status, "error")
    return {"error": {"message": message[:MOST_MESSAGE], "type": kind, "param": param, "code": code}}


class Guard:
    """Refuses what must not reach the application, and reads the body of what may: whole, bounded, in time."""

    def __init__(self, app: ASGIApp, policy: Policy) -> None:
        self.app, self.policy = app, policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        headers = Headers(scope=scope)
        if (refusal := self._refusal(scope, headers)) is not None:
            await _refuse(send_guarded, *refusal)
            return
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _body(headers, receive)
        except TimeoutError:
            await _refuse(send_guarded, 408, f"the body took longer than {BODY_SECONDS:.0f} s")
            return
        except ValueError as error:
            await _refuse(send_guarded, 413, str(error))
            return
        if body is None:  # the client is gone
            return
        if scope["method"] == "HEAD":  # as GET: the server below sends no body, going by its own scope
            scope = {**scope, "method": "GET"}
        await self.app(scope, _replay(body, receive), send_guarded)

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        """Status and message for a request that is refused."""
        host = headers.get("host", "")
        if not self.policy.knows_host(host):
            return 403, "unknown Host, expected a name or address of this server"
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            return 403, "the request comes from another page, expected this server's own"
        followed = scope["method"] == "GET" and headers.get("sec-fetch-mode") == "navigate"  # a link
        if site not in ("none", "same-origin") and not followed:
            return 403, "the request comes from another page, expected this server's own"
        if self.policy.token is not None and scope["path"].startswith(PROTECTED):
            scheme, _, given = headers.get("authorization", "").partition(" ")
            right = hmac.compare_digest(given.strip().encode(), self.policy.token.encode())
            if scheme.lower() != "bearer" or not right:
                return 401, "expected the server's token: Authorization: Bearer TOKEN"
        return None


async def _body(headers: Headers, receive: Receive) -> bytes | None:
    """The whole body; None if the client left. Raises ValueError where it is too large."""
    too_large = f"the body is larger than {MOST_BYTES} bytes"
    declared = headers.get("content-length", "0")
    if not (declared.isascii() and declared.isdigit()) or int(declared) > MOST_BYTES:
        raise ValueError(too_large)
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MOST_BYTES:
            raise ValueError(too_large)
        if not message.get("more_body", False):
            return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body first, then whatever comes, such as the client's leaving."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


async def _refuse(send: Send, status: int, message: str) -> None:
    body = json.dumps(error_body(status, message)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status in (408, 413):
        headers.append((b"connection", b"close"))  # the rest of the body is not read
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
