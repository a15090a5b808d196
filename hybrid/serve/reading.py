"""Puzzles from requests, by the readers of text alone: nothing here opens a file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from typing import Any

from trm import tasks
from trm.grid import PuzzleError, shorten
from trm.inference.refiner import Refiner, as_puzzle
from trm.tasks import Puzzle
from trm.tasks.grid_text import is_large_row
from trm.tasks.registry import demonstrated

MOST_INPUTS, MOST_DEMOS = 10, 32  # of a task; ARC's have up to 4 and 10
LONGEST_MESSAGE = 20_000  # characters of a message that are searched for a puzzle
_FENCED = re.compile(r"```[^\n]*\n(.*?)```", re.S)


def read_puzzle(question: str | dict[str, Any], task: str | None, name: str) -> Puzzle:
    """A puzzle, validated. Raises PuzzleError."""
    if isinstance(question, dict):
        reader = tasks.get(task or demonstrated())
        puzzle = reader.read(question)
        reader.validate(puzzle)
    else:
        puzzle = as_puzzle(question, task)
    for count, most, kind in (
        (puzzle.inputs, MOST_INPUTS, "inputs"),
        (puzzle.demos, MOST_DEMOS, "demonstrations"),
    ):
        if len(count) > most:  # each is work that nothing else bounds
            raise PuzzleError(f"{len(count)} {kind}, expected at most {most}")
    # The answer that an ARC task may hold is not for those who answer.
    return replace(puzzle, id=name, answers=None)


def known_task(name: str | None, refiner: Refiner | None) -> str | None:
    """The task of a request: one that there is, or the one of the refiner's own that the name means. None detects it.

    A request cannot make up a task, such as a grid of other symbols: each would be kept. Raises PuzzleError.
    """
    own = refiner.tasks if refiner is not None else ()
    if name is None or name in tasks.names() or name in own:
        return name
    meant = [task for task in own if f"{task}:".startswith(f"{name}:")]
    if len(meant) != 1:
        known = ", ".join(dict.fromkeys([*tasks.names(), *own]))
        raise PuzzleError(f"unknown task {shorten(name)}, expected one of {known}")
    return meant[0]


def find_puzzle(text: str, name: str) -> Puzzle:
    """The puzzle in a chat message, which may have words around it. Raises PuzzleError if there is none."""
    failure: PuzzleError | None = None
    for part in _parts(text[-LONGEST_MESSAGE:]):
        try:
            return read_puzzle(part, None, name)
        except PuzzleError as error:
            failure = failure or error
    raise failure or PuzzleError("an empty message, expected a puzzle")


def _parts(text: str) -> Iterator[str]:
    """What may be the puzzle of a message, the likeliest first."""
    for block in _FENCED.findall(text):
        yield block.strip("\n")
    if 0 <= (start := text.find("{")) < (end := text.rfind("}")):
        yield text[start : end + 1]
    lines = text.replace("\r\n", "\n").split("\n")
    for is_row, block in groupby(lines, _is_row):
        if is_row:
            yield "\n".join(block)
    for word in text.split():
        if len(word) >= 81:
            yield word
    with suppress(IndexError):
        yield text.strip("\n")


def _is_row(line: str) -> bool:
    """Whether a line may be a row of some task's grid: it has no letters but those that a task knows."""
    known = {"G", "S", "o"}
    letters = any(c.isalpha() and c not in known for c in line)
    return bool(line) and (not letters or is_large_row(line))
