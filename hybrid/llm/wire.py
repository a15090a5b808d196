"""What OpenAI-compatible servers answer, read leniently: replies, errors, Retry-After, models."""

from __future__ import annotations

import base64
import email.utils
import json
import math
import re
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from hybrid.llm.base import Reply

DEEPEST = 50  # lists and objects within one another; a completion has 5
SHORTEST_SECRET = 4  # shorter ones would be replaced within ordinary words
MOST_TOKENS = 1 << 31  # a count above that is no count
_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"', re.S)


class Refused(Exception):
    """An answer that asking again will not change. status: of HTTP; None where no answer came.

    unreachable: whether the server itself is not there.
    """

    def __init__(self, reason: str, status: int | None = None, unreachable: bool = False) -> None:
        super().__init__(reason)
        self.status, self.unreachable = status, unreachable


def decode(status: int, content: bytes) -> Any:
    """The JSON of a response. Raises Refused for an error status or what is no JSON."""
    if status >= 300:
        raise Refused(f"the server answered {status}: {server_message(content)}", status)
    try:
        return _parse(content)
    except ValueError as error:
        raise Refused(f"reply is no JSON: {one_line(content.decode(errors='replace'))}", status) from error


def _parse(content: bytes) -> Any:
    """JSON of bounded depth: the parser recurses. Raises ValueError."""
    text, depth = content.decode(), 0
    for bracket in re.findall(r"[\[\]{}]", _STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > DEEPEST:
            raise ValueError(f"nested more than {DEEPEST} deep")
    return json.loads(text)


def read_reply(payload: Any) -> Reply:
    """A completion, whatever its server left out. What cannot be used is named in `error`."""
    response = payload if isinstance(payload, dict) else {}
    choices = response.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message = choice.get("message")
    text = _joined(message.get("content") if isinstance(message, dict) else choice.get("text"))
    tokens, prompt_tokens = (
        _count(response.get("usage"), f"{kind}_tokens") for kind in ("completion", "prompt")
    )
    error = None
    if not choice:
        error = "reply without choices"
    elif choice.get("finish_reason") == "length":
        error = f"truncated at {tokens} tokens" if tokens else "truncated"
    elif not text.strip():
        error = "empty content"
    return Reply(text, tokens, 0.0, error, prompt_tokens)


def read_models(listing: Any) -> list[str]:
    """The names in an answer to /models; none where it lists nothing that can be read."""
    entries = listing.get("data") if isinstance(listing, dict) else listing
    names = (
        [entry.get("id") for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    )
    return [one_line(name) for name in names if isinstance(name, str)]


def _count(usage: Any, name: str) -> int:
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and 0 <= count < MOST_TOKENS else 0


def _joined(content: Any) -> str:
    """Message content: text, a list of parts, or null. Lone surrogates, which no file can hold, become `?`."""
    parts = content if isinstance(content, list) else [content]
    texts = (part.get("text") if isinstance(part, dict) else part for part in parts)
    return _encodable("".join(text for text in texts if isinstance(text, str)))


def _encodable(text: str) -> str:
    return text.encode(errors="replace").decode()


def server_message(content: bytes) -> str:
    """The server's own words for an error, on one line: {"error": {"message"}}, {"detail"}, or the body."""
    try:
        words = _parse(content)
    except ValueError:
        words = content.decode(errors="replace")
    while isinstance(words, dict):
        keys = (key for key in ("error", "message", "detail") if words.get(key))
        key = next(keys, None)
        words = words[key] if key else json.dumps(words)
    return one_line(str(words)) or "no message"


def one_line(text: str, most: int = 200) -> str:
    """Printable text without line ends, cut off at `most` characters."""
    line = " ".join(text[: 4 * most].split())
    line = "".join(character if character.isprintable() else "?" for character in _encodable(line))
    return line if len(line) <= most else f"{line[:most]}…"


def listed(names: Sequence[str], most: int = 10) -> str:
    """`a, b and 3 more`."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def retry_after(value: str | None) -> float:
    """Seconds that a Retry-After header asks to wait, a number or a date; 0 if it says nothing readable."""
    try:
        seconds = float(value or 0)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value or "").timestamp() - time.time()
        except (ValueError, OverflowError):
            return 0.0
    return 0.0 if math.isnan(seconds) else max(0.0, seconds)


def parameters_from(name: str) -> int | None:
    """How many parameters a model's name claims (`Qwen2.5-0.5B`, `SmolLM2-135M`); None if it claims nothing."""
    found = re.search(r"(?<![a-z0-9.])(\d{1,5}(?:\.\d{1,3})?)([mb])(?![a-z0-9])", name, re.IGNORECASE)
    return round(float(found[1]) * {"m": 1e6, "b": 1e9}[found[2].lower()]) if found else None


def spellings(key: str, user: str, password: str) -> list[str]:
    """The secrets as they are, and as a URL and a header hold them; longest first."""
    basic = base64.b64encode(f"{user}:{password}".encode()).decode() if password else ""
    spellings = {key, password, quote(password, safe=""), basic}
    return sorted((secret for secret in spellings if len(secret) >= SHORTEST_SECRET), key=len, reverse=True)
