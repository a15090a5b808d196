"""Seeded generators of puzzles with answers, for `trm data` and for training: same seed, same puzzles."""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np

from trm.grid import PuzzleError
from trm.tasks.arc.generator import arc
from trm.tasks.base import Puzzle
from trm.tasks.maze.generator import maze
from trm.tasks.sudoku.generator import sudoku

GROUP = 32  # puzzles in a row from one generator of random numbers

Maker = Callable[..., Iterator[Puzzle]]
MAKERS: dict[str, Maker] = {"sudoku": sudoku, "maze": maze, "arc": arc}


def generate(task_name: str, n: int, seed: int, start: int = 0, **options: Any) -> Iterator[Puzzle]:
    """Puzzles number start to start + n - 1 of a seed's endless row, with answers: any part can be made alone.

    Options are those of `sudoku`, `maze` and `arc`. Raises PuzzleError at once for an unknown task or
    option, and later if no puzzle fits the options.
    """
    if task_name not in MAKERS:
        raise PuzzleError(f"unknown task {task_name!r}, expected one of {', '.join(MAKERS)}")
    make = MAKERS[task_name]
    known = list(inspect.signature(make).parameters)[1:]
    for option in options:
        if option not in known:
            raise PuzzleError(f"{task_name}: unknown option {option!r}, expected one of {', '.join(known)}")
    return _numbered(make, task_name, n, seed, start, options)


def _numbered(
    make: Maker, task_name: str, n: int, seed: int, start: int, options: dict[str, Any]
) -> Iterator[Puzzle]:
    number, end = start, start + n
    while number < end:
        group, skipped = divmod(number, GROUP)
        puzzles = make(np.random.default_rng([seed, group]), **options)
        for puzzle in islice(puzzles, skipped, min(GROUP, skipped + end - number)):
            number += 1
            yield replace(puzzle, id=f"{task_name}-{seed}-{number}")


def parse_options(pairs: Iterable[str]) -> dict[str, Any]:
    """`clues=[40,50]` to {"clues": (40, 50)}, values as in TOML."""
    result: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        try:
            parsed = tomllib.loads(f"v = {value}")["v"] if equals else None
        except tomllib.TOMLDecodeError:
            parsed = value
        if parsed is None:
            raise PuzzleError(f"option {pair!r}: expected key=value")
        result[key] = tuple(parsed) if isinstance(parsed, list) else parsed
    return result
