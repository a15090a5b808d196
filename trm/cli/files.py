"""Commands that write files: `trm data` generates puzzles, `trm convert` and `trm pack` make checkpoints."""

from __future__ import annotations

import sys
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from trm import progress
from trm.cli.common import Task, app, fail


@app.command(epilog="Example: trm data sudoku --n 1000 --seed 1 --out easy.csv clues=[40,50]")
def data(
    task: Annotated[str, typer.Argument(help="sudoku, maze, arc, or a task of an installed package")],
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
    check_name(out, task)
    try:
        stream = PuzzleStream(task, seed, parse_options(overrides or []))
    except TypeError as error:  # an option that the generator does not have
        fail(error)
    # Ctrl-C keeps the puzzles generated so far.
    with suppress(KeyboardInterrupt), stream, progress.bar("generating", n) as tick:
        for puzzle in islice(stream, n):
            puzzles.append(puzzle)
            tick(len(puzzles))
    if puzzles:
        write(out, task, puzzles)
    if len(puzzles) < n:
        fail(f"interrupted: the first {len(puzzles)} of {n} are in {out}" if puzzles else "interrupted", 130)
    print(f"{n} {task} puzzles in {out}")


@app.command(epilog="Example: trm convert step_65100 converted/ --task sudoku")
def convert(
    upstream: Annotated[Path, typer.Argument(help="checkpoint of the reference implementation")],
    out: Annotated[Path, typer.Argument(help="folder to write")],
    task: Task,
    config: Annotated[
        Path | None,
        typer.Option(
            help="JSON or YAML file with the reference implementation's keys; if not given, all_config.yaml "
            "beside the checkpoint"
        ),
    ] = None,
    identifiers: Annotated[
        Path | None,
        typer.Option(
            help="identifiers.json of the training data (ARC): the puzzle that each embedding belongs to; "
            "if not given, the one beside the checkpoint"
        ),
    ] = None,
) -> None:
    """Turn reference weights into a folder that `TRM.from_pretrained` and `--refiner` accept."""
    from trm.checkpoints.format import save_folder
    from trm.checkpoints.reference import convert as convert_weights
    from trm.checkpoints.reference import read_identifiers, read_run_config
    from trm.files import replacing

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        fail(f"{out} exists and is not an empty folder")
    config = config or _beside(upstream, "all_config.yaml")
    identifiers = identifiers or _beside(upstream, "identifiers.json")
    overrides = read_run_config(config) if config is not None else {}
    known = read_identifiers(identifiers) if identifiers is not None else {}
    expert = convert_weights(upstream, task, overrides, known)
    with replacing(out) as temporary:
        save_folder(temporary, expert)
    shape = expert.config
    print(f"{out}: {shape.mixer}, {shape.layers} layers of width {shape.hidden_size}, {shape.seq_len} cells")
    if shape.identities > 1 and not known:
        print("trm: no --identifiers: which embedding belongs to which puzzle is not known", file=sys.stderr)


def _beside(file: Path, name: str) -> Path | None:
    """The file of this name in the folder of another one; None where there is none."""
    path = file.with_name(name)
    return path if path.is_file() else None


@app.command(epilog="Example: trm pack ckpt/trm.pt runs/sudoku/checkpoints/best runs/maze/checkpoints/best")
def pack(
    out: Annotated[Path, typer.Argument(help="file to write")],
    checkpoints: Annotated[list[str], typer.Argument(help="files, folders or hub ids")],
    cycles: Annotated[int, typer.Option(help="h_cycles of the packed experts; 0: as in training", min=0)] = 0,
) -> None:
    """Gather the experts of several checkpoints in one file. On duplicate tasks the last checkpoint wins.

    Experts that OUT holds for other tasks are kept.
    """
    from trm.checkpoints.format import pack as pack_experts

    experts = pack_experts(out, checkpoints, cycles)
    print(f"{out}: {', '.join(sorted(experts))} ({out.stat().st_size / 1e6:.1f} MB)")
