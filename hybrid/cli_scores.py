"""Commands that judge answers which exist already: `hybrid check`."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import typer

from hybrid import inputs
from hybrid.cli_common import Goal, Start, TaskName, fail, task_named
from trm import tasks
from trm.data.files import load, strict
from trm.grid import PuzzleError

app = typer.Typer()


@app.command(epilog="Example: hybrid check puzzle.txt answer.txt")
def check(
    puzzle: Annotated[str, typer.Argument(help="File, inline puzzle, or - for standard input")],
    answer: Annotated[str, typer.Argument(help="File, inline answer, or - for standard input")],
    task: TaskName = "auto",
    start: Start = None,
    goal: Goal = None,
) -> None:
    """Judge an answer by the exact rules; where none decides, by the known output if there is one.

    Exit 0 if it is right, or well formed where nothing is known; else 1.
    """
    try:
        loaded = strict(load(puzzle, task_named(task), inputs.ends_of(start, goal)))
        if len(loaded) != 1:
            fail(f"{puzzle}: {len(loaded)} puzzles, expected one")
        text = inputs.text_of(answer)
    except PuzzleError as error:
        fail(error)
    kind = tasks.get(loaded[0].task)
    try:
        grids = kind.parse_answer(loaded[0], text)
    except PuzzleError as error:
        fail(f"answer: {error}")
    verdict, known = kind.check(loaded[0], grids), loaded[0].answers
    differs = known is not None and not kind.has_checker and not all(map(np.array_equal, grids, known))
    print(tasks.Status.UNSOLVED if differs else verdict.status)
    for violation in verdict.violations:
        print(f"  {violation}")
    if known is not None and not kind.has_checker:
        print("  differs from the known output" if differs else "  equals the known output")
    raise typer.Exit(int(differs or verdict.status is tasks.Status.UNSOLVED))
