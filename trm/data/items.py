"""What every reader of puzzle files gives: `Item`s, and errors in the places of those that it cannot read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from trm.grid import PuzzleError
from trm.tasks.base import Ends
from trm.text import RepeatedKeyError
from trm.text import parse_json as parse_bounded

SPARE = 4096  # bytes for numbers that come early
NOWHERE = 1 << 40  # the byte of a name without a number


@dataclass(frozen=True)
class Item:
    """A puzzle as its source has it. where: its place, for messages. name: the puzzle's id.

    question: text, or the parsed JSON of a puzzle with demonstrations, or a whole puzzle, which are not written as
    text to be read again.
    ends: a start and a goal that stand beside the question. flat: whether the question may be a grid in one line.
    """

    where: str
    name: str
    question: Any
    answer: str | None = None
    task: str | None = None
    meta: dict[str, str | int | float] = field(default_factory=dict)
    ends: Ends | None = None
    flat: bool = True
    notes: tuple[str, ...] = ()  # what a person should know of the source


class Names:
    """The names that were given already. A name that ends in a colon and a number takes about one bit of memory."""

    def __init__(self) -> None:
        self._others: set[str] = set()
        self._numbered: dict[str, bytearray] = {}  # by what stands before the number
        self._count = 0

    def add(self, name: str) -> bool:
        """Whether the name is new; it no longer is then."""
        stem, byte, bit = _parts(name)
        if self._has(name, stem, byte, bit):
            return False
        self._count += 1
        if byte > self._count + SPARE:  # a far number would take the bits of all before it
            self._others.add(name)
        else:
            bits = self._numbered.setdefault(stem, bytearray())
            bits.extend(bytes(max(0, byte + 1 - len(bits))))
            bits[byte] |= bit
        return True

    def __contains__(self, name: str) -> bool:
        return self._has(name, *_parts(name))

    def _has(self, name: str, stem: str, byte: int, bit: int) -> bool:
        bits = self._numbered.get(stem, b"")
        return (byte < len(bits) and bool(bits[byte] & bit)) or name in self._others


def _parts(name: str) -> tuple[str, int, int]:
    """The text before a name's number, and the byte and the bit that stand for the number."""
    digits = name.rpartition(":")[2]
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 12 and digits[0] != "0"):
        return name, NOWHERE, 0
    return name.removesuffix(digits), int(digits) >> 3, 1 << (int(digits) & 7)


Items = Iterator[Item | PuzzleError]


def parse_json(text: str, where: str = "") -> Any:
    """The value that JSON text holds. Raises PuzzleError, which names the line where there is a `where`."""
    try:
        return parse_bounded(text, unique_keys=True)
    except json.JSONDecodeError as error:
        line = f"{where}, line {error.lineno}: " if where else ""
        raise PuzzleError(f"{line}no JSON: {error.msg} at column {error.colno}") from None
    except RepeatedKeyError as error:
        raise PuzzleError(f"{where}{': ' if where else ''}{error}, expected each key once") from None
    except ValueError as error:
        raise PuzzleError(f"{where}{': ' if where else ''}no JSON that can be read: {error}") from None
