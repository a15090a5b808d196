"""What the modules of the `hybrid` command share: errors as one line, and the task's name."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, NoReturn

import typer

from trm import tasks
from trm.grid import PuzzleError
from trm.tasks.own_grid import lacks_symbols
from trm.text import message_line

TaskName = Annotated[
    str,
    typer.Option(
        "--task", metavar="auto|sudoku|maze|arc|grid", help="Kind of puzzle; grid: the checkpoint's own"
    ),
]

Start = Annotated[
    str | None, typer.Option("--start", metavar="ROW,COLUMN", help="Start of a maze that shows none; from 1")
]
Goal = Annotated[
    str | None, typer.Option("--goal", metavar="ROW,COLUMN", help="Goal of a maze that shows none; from 1")
]


def fail(message: object, code: int = 2) -> NoReturn:
    """One line on standard error, and out."""
    print(f"hybrid: {message_line(message)}", file=sys.stderr)
    raise typer.Exit(code)


def task_named(name: str) -> str | None:
    """The task's name; None for `auto`. Ends the command for a name that means nothing."""
    if name == "auto":
        return None
    if not lacks_symbols(name):
        try:
            tasks.get(name)
        except PuzzleError as error:
            fail(f"--task: {error}")
    return name


@contextmanager
def importing() -> Iterator[None]:
    """Import large libraries without looking for garbage among what they define, then or later: all of it stays.

    That takes a third of the time of importing PyTorch and of the program's end (docs/how-to/speed.md).
    """
    if "torch" in sys.modules:  # nothing large is left to import, and not all that is there may stay
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
