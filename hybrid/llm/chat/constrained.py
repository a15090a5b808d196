"""What a well-formed answer looks like, character by character: for decoding that cannot go astray.

A form says which characters may follow a text. Givens are kept and symbols legal; whether the answer is right
is another matter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

FENCE = "```"
OPEN, CLOSE = f"{FENCE}\n", FENCE


class Form(Protocol):
    @property
    def alphabet(self) -> frozenset[str]:
        """Every character that an answer may hold."""
        ...

    def next(self, text: str) -> str:
        """The characters that may follow `text`; "" when it is complete. Never asked about other texts."""
        ...

    def schema(self) -> dict[str, Any]:
        """The same answer as JSON schema, for servers: {"rows": [string of cells, …]}."""
        ...


@dataclass(frozen=True)
class Cells:
    """A grid of known shape in a code block. rows: for every cell the characters it may hold.

    spread: cells apart by spaces.
    """

    rows: tuple[tuple[str, ...], ...]
    spread: bool = False

    # Asked for at every character of every token that a model may say next: made once.
    @cached_property
    def places(self) -> tuple[str, ...]:
        """For every character of an answer, which it may be."""
        made = list(OPEN)
        for row in self.rows:
            for number, cell in enumerate(row):
                made += [" ", cell] if number and self.spread else [cell]
            made.append("\n")
        return (*made, *CLOSE)

    @cached_property
    def alphabet(self) -> frozenset[str]:
        return frozenset("".join(self.places))

    def next(self, text: str) -> str:
        places = self.places
        return places[len(text)] if len(text) < len(places) else ""

    def schema(self) -> dict[str, Any]:
        patterns = ["^" + "".join(f"[{re.escape(cell)}]" for cell in row) + "$" for row in self.rows]
        strings = [{"type": "string", "pattern": pattern} for pattern in patterns]
        return _rows({"prefixItems": strings, "items": False}, len(strings), len(strings))


@dataclass(frozen=True)
class Rows:
    """A rectangle of digits of any shape up to `most` x `most` in a code block."""

    most: int
    symbols: str = "0123456789"

    @property
    def alphabet(self) -> frozenset[str]:
        return frozenset(self.symbols + OPEN + CLOSE)

    def next(self, text: str) -> str:
        if len(text) < len(OPEN):
            return OPEN[len(text)]
        *rows, line = text[len(OPEN) :].split("\n")
        if line.startswith(CLOSE):
            return ""
        if line.startswith(CLOSE[0]):
            return CLOSE[len(line)]
        if not rows:
            return (self.symbols if len(line) < self.most else "") + ("\n" if line else "")
        if line:
            return self.symbols if len(line) < len(rows[0]) else "\n"
        return (self.symbols if len(rows) < self.most else "") + CLOSE[0]

    def schema(self) -> dict[str, Any]:
        pattern = f"^[{re.escape(self.symbols)}]{{1,{self.most}}}$"
        return _rows({"items": {"type": "string", "pattern": pattern}}, 1, self.most)


def _rows(strings: dict[str, Any], least: int, most: int) -> dict[str, Any]:
    array = {"type": "array", **strings, "minItems": least, "maxItems": most}
    return {
        "type": "object",
        "properties": {"rows": array},
        "required": ["rows"],
        "additionalProperties": False,
    }
