"""Text that comes from elsewhere: parsed within bounds, and printed without what steers a terminal."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

DEEPEST = 100  # lists and tables within one another; what is nested deeper is no data of this project
FEW = 16  # lists and tables, in which all is looked at sooner than they are counted in the text
LONGEST_MESSAGE = 2000  # characters
_CONTAINERS = frozenset((dict, list))


class RepeatedKeyError(ValueError):
    """An object of JSON text has a key twice."""


def parse_json(text: str | bytes, unique_keys: bool = False) -> Any:
    """What JSON text holds. Raises ValueError where it is none, or is nested more than `DEEPEST` deep.

    unique_keys: whether an object with a key twice, of which JSON keeps the last, is an error too.
    """
    if unique_keys and isinstance(text, str) and not text.startswith("\ufeff"):  # which `loads` tells better
        return _bounded(_UNIQUE.decode, text, "[{")
    return _bounded(partial(json.loads, object_pairs_hook=_unique) if unique_keys else json.loads, text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise RepeatedKeyError(f"the key {message_line(repr(repeated))} occurs twice in an object")
    return found


_UNIQUE = json.JSONDecoder(object_pairs_hook=_unique)  # `loads` makes one at every call


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of TOML text. Raises ValueError where it is none, or is nested more than `DEEPEST` deep."""
    tables: dict[str, Any] = _bounded(tomllib.loads, text)
    return tables


def _bounded(parse: Callable[[Any], Any], text: Any, opening: str = "") -> Any:
    """opening: what begins lists and tables. When as many as a text has are found, their values are not read."""
    too_deep = ValueError(f"nested more than {DEEPEST} deep")
    try:
        value = parse(text)
    except RecursionError:
        raise too_deep from None
    level: list[Iterable[Any]] = [[value]]
    found, most = 0, math.inf
    for _ in range(DEEPEST + 1):  # a loop, since what recurses would fail where the parser did not
        if len(level) > FEW and opening:
            most, opening = sum(map(text.count, opening)), ""
        if found >= most:
            return value
        level = [
            inner.values() if type(inner) is dict else inner
            for outer in level
            if not _CONTAINERS.isdisjoint(map(type, outer))  # quickly told: data hold millions of values
            for inner in outer
            if type(inner) in _CONTAINERS
        ]
        if not level:
            return value
        found += len(level)
    raise too_deep


def printable(text: str) -> str:
    """The text on one line, with an escape such as `\\x1b` for each character that is not printable.

    Line ends, terminal sequences and what turns the direction of writing are escaped too.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printable_lines(text: str) -> str:
    """`printable` text whose line ends stay."""
    return "\n".join(map(printable, text.split("\n")))


def message_line(message: object) -> str:
    """A message for standard error: printable, on one line, and at most `LONGEST_MESSAGE` characters long."""
    text = str(message)
    line = printable(text[:LONGEST_MESSAGE])
    return line if len(text) <= LONGEST_MESSAGE else f"{line}…"
