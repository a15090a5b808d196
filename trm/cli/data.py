"""`trm data`."""

from __future__ import annotations

from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from trm import progress
from trm.cli.common import app, errors_in_one_line, fail


@app.command(epilog="Example: trm data sudoku --n 1000 --seed 1 --out easy.csv clues=[40,50]")
def data(
    task: Annotated[str, typer.Argument(help="sudoku, maze or arc")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]…", help="options of the generator")
    ] = None,
    n: Annotated[int, typer.Option("--n", help="number of puzzles", min=1)] = 1000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    out: Annotated[Path | None, typer.Option(help=".csv, .jsonl or (ARC) .json file")] = None,
) -> None:
    """Generate puzzles with answers from a seed."""
    from trm.data.datasets import check_name, write
    from trm.data.generate import parse_options
    from trm.data.stream import PuzzleStream
    from trm.tasks import Puzzle

    if out is None:
        fail("--out is missing: expected a .csv, .jsonl or (ARC) .json file")
    puzzles: list[Puzzle] = []
    with errors_in_one_line():
        check_name(out, task)
        try:
            stream = PuzzleStream(task, seed, parse_options(overrides or []))
        except TypeError as error:  # an option that the generator does not have
            fail(error)
        with (
            suppress(KeyboardInterrupt),  # the puzzles generated so far are kept
            stream,
            progress.bar("generating", n) as tick,
        ):
            for puzzle in islice(stream, n):
                puzzles.append(puzzle)
                tick(len(puzzles))
        if puzzles:
            write(out, task, puzzles)
    if len(puzzles) < n:
        fail(f"interrupted: the first {len(puzzles)} of {n} are in {out}" if puzzles else "interrupted", 130)
    print(f"{n} {task} puzzles in {out}")
