"""The tasks by name: every folder here with a `task.py`, and those of other packages.

Another package adds a task by an entry point of the group `trm.tasks`: the task's name, and the `Task` itself.

    [project.entry-points."trm.tasks"]
    latin_square = "latin_square:TASK"
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TypeAlias, cast

from trm.grid import Grid, Grids, PuzzleError, first_line, shape_words, shorten
from trm.tasks.base import Task
from trm.tasks.own_grid import OwnGrid, is_own
from trm.tasks.puzzle import Puzzle

Solver: TypeAlias = Callable[[Puzzle], Grids | None]
GROUP = "trm.tasks"
LEAST_SHARE = 0.5  # of the characters of a text that a task may have written
# Tasks that share a folder with another: that one reads their puzzles too, and names them.
SIZES = {"sudoku4": "sudoku", "sudoku6": "sudoku", "sudoku16": "sudoku"}
BUILT_IN = sorted(path.parent.name for path in Path(__file__).parent.glob("*/task.py"))


@cache
def _outside() -> dict[str, EntryPoint]:
    """The entry points of other packages by name; they cannot replace a built-in task."""
    found = {point.name: point for point in entry_points(group=GROUP)}
    return {name: point for name, point in sorted(found.items()) if name not in (*BUILT_IN, *SIZES)}


def names() -> list[str]:
    """The names of all tasks, sorted; a Sudoku of another size than 9x9 is one of `SIZES`, found through `sudoku`."""
    return sorted([*BUILT_IN, *_outside()])


@cache
def get(name: str) -> Task:
    """The task of this name, which may describe a grid of one's own (`trm.tasks.own_grid`).

    Raises PuzzleError if there is none, naming the choices, or if it cannot be loaded.
    """
    if is_own(name):
        return OwnGrid(name)
    if name in SIZES:
        return cast(Task, import_module(f"{__package__}.{SIZES[name]}.task").TASKS[name])
    if name not in names():
        expected = ", ".join([*names(), *SIZES])
        raise PuzzleError(f"unknown task {name!r}, expected one of {expected}")
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


@cache
def _in_order() -> list[Task]:
    """Built-in tasks first: what two tasks can read is theirs."""
    return [get(name) for name in (*BUILT_IN, *_outside())]


def recognise(text: str, flat: bool = True) -> Puzzle:
    """The puzzle that a text is, of the task that it is most like. Raises PuzzleError: what is wrong with it for that
    task, or, where fewer than half of its characters are any task's, that it is none.

    Of the tasks that it may be, it is the first that can read it and finds nothing wrong with the puzzle.
    flat: whether a single line may be a grid whose shape the line alone does not tell.
    """
    tasks = _in_order()
    for task in tasks:
        if task.is_certain(text) and (flat or task.flat_is_certain or "\n" in text):
            return _read(task, text)
    shares = [(task.detect(text), task) for task in tasks]
    listed = text.lstrip().startswith("[")  # as no puzzle with demonstrations is
    likely = sorted(
        (share for share in shares if share[0] >= LEAST_SHARE),
        key=lambda share: (listed and share[1].has_demonstrations, -share[0]),
    )
    if not likely:
        raise PuzzleError(f"{shorten(text)} is no puzzle, expected one of {', '.join(names())}")
    first_error, found = None, None
    for _, task in likely:
        if found is not None and task.name in BUILT_IN:
            continue  # a package's task comes before a Sudoku of another size, which may look the same
        try:
            if not (flat or task.flat_is_certain or listed or re.search(r"\n|\\n|[|/,;]", text)):
                named = f"or the task named with it: {task.name}"
                words = f"a single line of {len(text)} cells, expected lines, {named}"
                raise TakenFor(task, PuzzleError(words))
            puzzle = _read(task, text)
            if puzzle.task not in SIZES:
                return puzzle
            found = puzzle
        except TakenFor as error:
            first_error = first_error or error
    if found is not None:
        return found
    assert first_error is not None
    raise first_error


def _read(task: Task, text: str) -> Puzzle:
    """A valid puzzle of a task. Raises TakenFor."""
    try:
        puzzle = task.parse(text)
        get(puzzle.task).validate(puzzle)
        return puzzle
    except PuzzleError as error:
        raise TakenFor(task, error) from None


class TakenFor(PuzzleError):
    """What is wrong with a puzzle whose task nobody named. task: the one that it was taken for."""

    def __init__(self, task: Task, error: PuzzleError) -> None:
        self.task, self.error = task, error
        words = str(error).removeprefix(f"{task.name}: ")
        others = ", ".join(name for name in names() if name != task.name)
        super().__init__(f"taken for {task.noun}: {words} (other kinds: {others})")


def detect(text: str, flat: bool = True) -> str:
    """The name of the task that a question is of. flat: as `recognise` has it. Raises PuzzleError if it is none's."""
    try:
        return recognise(text, flat).task
    except TakenFor as error:
        return error.task.name


def looks_like_puzzle(text: str) -> bool:
    """Whether a text is a puzzle, be it with mistakes, and no name of a file."""
    return any(
        task.detect(text) >= LEAST_SHARE or any(map(task.in_line, text.split("\n"))) for task in _in_order()
    )


def detect_grid(grid: Grid) -> str:
    """The name of the task that an array [H, W] is a question of. Raises PuzzleError if it is none's."""
    tasks = (*_in_order(), *map(get, SIZES))
    if name := next((task.name for task in tasks if task.accepts_grid(grid)), None):
        return name
    found = f"an array of {shape_words(grid) or 'no dimension'} is no puzzle by its shape and symbols"
    raise PuzzleError(f"{found}, expected one of {', '.join(names())}, or the task's name beside it")


def demonstrated() -> str:
    """The name of the task whose puzzles files hold in ARC's public JSON form, with demonstrations."""
    return next(task.name for task in _in_order() if task.has_demonstrations)


def task_with_ends() -> str:
    """The name of the task whose puzzles go from a start to a goal."""
    return next(task.name for task in _in_order() if task.has_ends)


def solver_of(task: Task) -> Solver | None:
    """The function that solves a task exactly; None where there is none. For controls and training data alone."""
    return None if task.solver is None else cast(Solver, import_module(task.solver).solve)
