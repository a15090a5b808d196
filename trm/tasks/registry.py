"""The tasks by name: every folder here with a `task.py`, and those of other packages.

Another package adds a task by an entry point of the group `trm.tasks`: the task's name, and the `Task` itself.

    [project.entry-points."trm.tasks"]
    latin_square = "latin_square:TASK"
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TypeAlias, cast

from trm.grid import Grid, Grids, PuzzleError, first_line, shape_words, shorten
from trm.tasks.base import Task
from trm.tasks.puzzle import Puzzle

Solver: TypeAlias = Callable[[Puzzle], Grids | None]
GROUP = "trm.tasks"
BUILT_IN = sorted(path.parent.name for path in Path(__file__).parent.glob("*/task.py"))


@cache
def _outside() -> dict[str, EntryPoint]:
    """The entry points of other packages by name; they cannot replace a built-in task."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    return {name: point for name, point in sorted(found.items()) if name not in BUILT_IN}


def names() -> list[str]:
    """The names of all tasks, sorted."""
    return sorted([*BUILT_IN, *_outside()])


@cache
def get(name: str) -> Task:
    """The task of this name. Raises PuzzleError if there is none, naming the choices, or if it cannot be loaded."""
    if name not in names():
        raise PuzzleError(f"unknown task {name!r}, expected one of {', '.join(names())}")
    if name in BUILT_IN:
        return cast(Task, import_module(f"{__package__}.{name}.task").TASK)
    source = _outside()[name]
    try:
        task = source.load()
    except Exception as error:  # another package's code may raise anything
        raise PuzzleError(
            f"task {name!r} cannot be loaded from {source.value}: {first_line(error)}"
        ) from None
    if not isinstance(task, Task) or task.name != name:
        raise PuzzleError(f"task {name!r}: {source.value} is {task!r}, expected a Task of that name")
    return task


def _in_order() -> list[Task]:
    """Built-in tasks first: what two tasks can read is theirs."""
    return [get(name) for name in (*BUILT_IN, *_outside())]


def detect(text: str) -> str:
    """The name of the task that a question is of. Raises PuzzleError if fewer than half of its characters are any's.

    Of several tasks with the same characters it is the first that can read the question.
    """
    shares = {task.name: task.detect(text) for task in _in_order()}
    most = max(shares.values())
    if most < 0.5:
        raise PuzzleError(f"{shorten(text)} is no puzzle, expected one of {', '.join(names())}")
    best = [name for name, share in shares.items() if share == most]
    for name in best if len(best) > 1 else ():
        with suppress(PuzzleError):
            get(name).parse(text)
            return name
    return best[0]


def detect_grid(grid: Grid) -> str:
    """The name of the task that an array [H, W] is a question of. Raises PuzzleError if it is none's."""
    if name := next((task.name for task in _in_order() if task.accepts_grid(grid)), None):
        return name
    found = f"an array of {shape_words(grid) or 'no dimension'} is no puzzle by its shape and symbols"
    raise PuzzleError(f"{found}, expected one of {', '.join(names())}, or the task's name beside it")


def demonstrated() -> str:
    """The name of the task whose puzzles files hold in ARC's public JSON form, with demonstrations."""
    return next(task.name for task in _in_order() if task.has_demonstrations)


def solver_of(task: Task) -> Solver | None:
    """The function that solves a task exactly; None where there is none. For controls and training data alone."""
    return None if task.solver is None else cast(Solver, import_module(task.solver).solve)
