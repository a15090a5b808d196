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
