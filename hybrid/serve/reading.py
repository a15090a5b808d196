"""Puzzles from requests, by the readers of text alone: nothing here opens a file."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from trm import tasks
from trm.data.files import load_text
from trm.grid import PuzzleError, shorten
from trm.inference.refiner import Refiner, as_puzzle
from trm.tasks import Puzzle
from trm.tasks.registry import SIZES, demonstrated
from trm.text import printable

MOST_INPUTS, MOST_DEMOS = 10, 32  # of a task; ARC's have up to 4 and 10


def read_puzzle(question: str | dict[str, Any], task: str | None, name: str) -> Puzzle:
    """A puzzle, validated. Raises PuzzleError."""
    if isinstance(question, dict):
        reader = tasks.get(task or demonstrated())
        puzzle = reader.read(question)
        reader.validate(puzzle)
    else:
        try:
            puzzle = as_puzzle(question, task)
        except PuzzleError as error:
            raise PuzzleError(printable(str(error))) from None
    return _bounded(replace(puzzle, id=name))


def read_puzzles(text: str, task: str | None, name: str) -> list[Puzzle | PuzzleError]:
    """The puzzles of a text of any form that the command reads, and errors in the places of those it cannot read.

    name: the text's, which the puzzles' ids begin with. Never empty.
    """
    found: list[Puzzle | PuzzleError] = []
    for item in load_text(text, name, task):
        if isinstance(item, PuzzleError):
            found.append(item)
            continue
        try:
            found.append(_bounded(item))
        except PuzzleError as error:
            found.append(PuzzleError(printable(f"{item.id}: {error}")))
    return found


def _bounded(puzzle: Puzzle) -> Puzzle:
    """The puzzle without its answers. Raises PuzzleError where it is too large."""
    for count, most, kind in (
        (puzzle.inputs, MOST_INPUTS, "inputs"),
        (puzzle.demos, MOST_DEMOS, "demonstrations"),
    ):
        if len(count) > most:  # each is work that nothing else bounds
            raise PuzzleError(f"{len(count)} {kind}, expected at most {most}")
    # The answer that an ARC task may hold is not for those who answer.
    return replace(puzzle, answers=None)


class UnknownTaskError(PuzzleError):
    """A task that a request names, and that there is not."""


def known_task(name: str | None, refiner: Refiner | None) -> str | None:
    """The task of a request: one that there is, or the one of the refiner's own that the name means. None detects it.

    A request cannot make up a task, such as a grid of other symbols: each would be kept. Raises UnknownTaskError.
    """
    own = refiner.tasks if refiner is not None else ()
    known = dict.fromkeys([*tasks.names(), *SIZES, *own])
    if name is None or name in known:
        return name
    meant = [task for task in own if f"{task}:".startswith(f"{name}:")]
    if len(meant) != 1:
        raise UnknownTaskError(f"unknown task {shorten(name)}, expected one of {', '.join(known)}")
    return meant[0]
