"""Seeded generators of puzzles with answers, for `trm data` and for training: same seed, same puzzles."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache, partial
from importlib import import_module
from itertools import islice
from typing import TypeAlias, cast

import numpy as np

from trm.data.datasets import labelled
from trm.grid import PuzzleError
from trm.tasks import Puzzle, Status, Task, get
from trm.text import parse_toml

GROUP = 32  # consecutive puzzles that share a random generator

Generator: TypeAlias = Callable[..., Iterator[Puzzle]]  # (rng, **options)


def generator_of(task: Task) -> Generator:
    """The function that generates a task's puzzles. Raises PuzzleError if there is none."""
    if task.generator is None:
        raise PuzzleError(f"{task.name}: puzzles of this task cannot be generated, expected a file of them")
    return partial(import_module(task.generator).generate, *task.generator_arguments)


def options_of(task: Task) -> list[str]:
    """The names of the options of a task's generator, and `exclude` where it has `like` (see `generate`)."""
    names = list(inspect.signature(generator_of(task)).parameters)[1:]
    return [*names, "exclude"] if "like" in names else names


def generate(task_name: str, n: int, seed: int, start: int = 0, **options: object) -> Iterator[Puzzle]:
    """Puzzles number start to start + n - 1 of a seed's endless sequence, with answers; any part of it alone.

    Options are those of the task's generator. Where it has the option `like`, puzzles to stay near, that is here the
    source of those puzzles, as `trm.data.datasets.puzzles_of` reads it, and `exclude` are questions to leave out.
    Raises PuzzleError at once for an unknown task or option, and later if no puzzle fits the options.
    """
    task = get(task_name)
    known = options_of(task)
    if unknown := [option for option in options if option not in known]:
        raise PuzzleError(f"{task_name}: unknown option {unknown[0]!r}, expected one of {', '.join(known)}")
    return _numbered(task, n, seed, start, options)


def _numbered(task: Task, n: int, seed: int, start: int, options: Mapping[str, object]) -> Iterator[Puzzle]:
    generator, options = generator_of(task), _resolved(task, options)
    number, end = start, start + n
    while number < end:
        group, skipped = divmod(number, GROUP)
        puzzles = generator(np.random.default_rng([seed, group]), **options)
        for puzzle in islice(puzzles, skipped, min(GROUP, skipped + end - number)):
            number += 1
            yield replace(puzzle, id=f"{task.name}-{seed}-{number}")


def _resolved(task: Task, options: Mapping[str, object]) -> dict[str, object]:
    """The options, lists as tuples, with the puzzles of `like` in place of their source."""
    resolved = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
    source, exclude = resolved.pop("like", ""), resolved.pop("exclude", ())
    if not isinstance(source, str):
        raise PuzzleError(f"like {source}: expected a file, or hub:ID")
    if exclude and not source:
        raise PuzzleError("exclude: expected like, the puzzles to leave some out of")
    if source:
        resolved["like"] = _puzzles_like(task.name, source, cast(tuple[str, ...], exclude))
    return resolved


@cache
def _puzzles_like(task_name: str, source: str, exclude: tuple[str, ...]) -> list[Puzzle]:
    task, excluded = get(task_name), set(exclude)
    kept = [puzzle for puzzle in labelled(source, task_name) if task.question_text(puzzle) not in excluded]
    for puzzle in kept:
        if task.check(puzzle, puzzle.answers or ()).status is Status.UNSOLVED:
            raise PuzzleError(f"{source}: {puzzle.id}: the answer breaks the rules, expected a right one")
    if not kept:
        raise PuzzleError(f"{source}: all of its puzzles are among those to leave out")
    return kept


def parse_options(pairs: Iterable[str]) -> dict[str, object]:
    """`clues=[40,50]` to {"clues": [40, 50]}, values as in TOML. Raises PuzzleError."""
    result: dict[str, object] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise PuzzleError(f"option {pair!r}: expected key=value")
        try:
            result[key] = parse_toml(f"v = {value}")["v"]
        except ValueError:
            result[key] = value
    return result
