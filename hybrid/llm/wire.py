"""What OpenAI-compatible servers say, read leniently: replies, errors, Retry-After."""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Iterable, Sequence
from typing import Any

import httpx

from hybrid.llm.base import Reply


class Refused(Exception):
    """An answer that asking again will not change. status: None for what is no HTTP answer."""

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


def decode(status: int, content: bytes) -> Any:
    """The JSON of a response. Raises Refused for an error status or what is no JSON."""
    if status >= 400:
        raise Refused(f"the server answered {status}: {server_message(content)}", status)
    try:
        return json.loads(content)
    except ValueError as error:
        raise Refused(f"reply is no JSON: {_shortened(content.decode(errors='replace'))}", status) from error


def read_reply(payload: Any) -> Reply:
    """A completion, whatever its server left out. What cannot be used is named in `error`."""
    choices = payload.get("choices") if isinstance(payload, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message = choice.get("message")
    content = message.get("content") if isinstance(message, dict) else choice.get("text")
    text = _joined(content)
    usage = payload.get("usage") if isinstance(payload, dict) else None
    tokens, read = (_count(usage, name) for name in ("completion_tokens", "prompt_tokens"))
    error = None
    if not choice:
        error = "reply without choices"
    elif choice.get("finish_reason") == "length":
        error = f"truncated at {tokens} tokens" if tokens else "truncated"
    elif not text.strip():
        error = "empty content"
    return Reply(text, tokens, 0.0, error, read)


def _count(usage: Any, name: str) -> int:
    counted = usage.get(name) if isinstance(usage, dict) else None
    return counted if isinstance(counted, int) else 0


def _joined(content: Any) -> str:
    """Message content: text, a list of parts, or null."""
    if isinstance(content, str):
        return content
    parts: Iterable[Any] = content if isinstance(content, list) else ()
    texts = (part.get("text") if isinstance(part, dict) else part for part in parts)
    return "".join(text for text in texts if isinstance(text, str))


def server_message(content: bytes) -> str:
    """The server's own words for an error, on one line: {"error": {"message"}}, {"detail"}, or the body."""
    try:
        said = json.loads(content)
    except ValueError:
        return _shortened(content.decode(errors="replace")) or "no message"
    while isinstance(said, dict):
        said = next((said[key] for key in ("error", "message", "detail") if said.get(key)), json.dumps(said))
    return _shortened(str(said)) or "no message"


def _shortened(text: str, most: int = 200) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[:most]}…"


def listed(names: Sequence[str], most: int = 10) -> str:
    """`a, b and 3 more`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def retry_after(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks for: a number or a date. None if it says nothing readable."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def fault_words(error: Exception, faults: int) -> str:
    """A connection fault in words. faults: how often it came in a row."""
    tries = f" ({faults} tries)" if faults > 1 else ""
    if isinstance(error, httpx.ReadTimeout):
        return "no reply within 120 s"
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return f"cannot be reached{tries}: {_shortened(str(error)) or 'no answer'}"
    return f"the connection broke{tries}: {_shortened(str(error)) or type(error).__name__}"
