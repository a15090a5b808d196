"""`trm train`, and commands about training runs: `trm bench`, `trm ablate` and `trm curves`."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trm.cli.common import Device, Json, Overrides, Recipe, app, fail

if TYPE_CHECKING:
    from trm.training.config import Config
    from trm.training.run_folder import RunFolder


@app.command(epilog="Example: trm train configs/tiny.toml train.seconds=60 --out runs/mine")
def train(
    config: Recipe,
    overrides: Overrides = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="resume this run with its saved configuration; overrides apply, CONFIG is ignored"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="run folder; runs/NAME if not given")] = None,
    device: Device = "auto",
) -> None:
    """Train a network. Runs unchanged under `accelerate launch`."""
    from trm.training.config import load_config, load_run
    from trm.training.run_folder import RunFolder

    path = resume or out or Path("runs") / config.stem
    if resume is not None and out is not None:
        fail(f"--out {out}: not together with --resume, which continues in {resume}")
    saved = resume is not None and (resume / "config.json").exists()
    settings = load_run(path, overrides or []) if saved else load_config(config, overrides or [])
    if path.exists() and not path.is_dir():
        fail(f"{path} is a file, expected a run folder")
    if resume is None and (path / "metrics.jsonl").exists():
        fail(f"{path} already holds a run: --resume {path} continues it, --out names another folder")
    folder = RunFolder(path)
    # Under `accelerate launch` one process alone writes.
    with folder.locked() if os.environ.get("RANK", "0") == "0" else nullcontext():
        _train(settings, folder, resume is not None, device)


def _train(settings: Config, folder: RunFolder, resumed: bool, device: str) -> None:
    from trm.data.stream import training_puzzles
    from trm.evaluation.accuracy import evaluate_held_out
    from trm.training.trainer import Trainer

    try:
        puzzles, held_out = training_puzzles(settings.data, settings.train.seed)
        trainer = Trainer(settings, folder.path, puzzles, held_out, device, evaluate=evaluate_held_out)
        if resumed:
            trainer.resume()
    except KeyboardInterrupt:
        fail("interrupted before the first step", 130)
    ended = trainer.ended()
    try:
        if ended is None:
            trainer.open_folder()
        result = trainer.run() if ended is None else ended
    except KeyboardInterrupt:
        trainer.save("last")
        trainer.close()
        fail(f"interrupted at step {trainer.done_steps}; go on with --resume {folder.path}", 130)
    trainer.close()
    if not trainer.accelerator.is_main_process:
        return
    if ended is not None:
        note = f"{folder.path} had ended at step {trainer.done_steps}; nothing was left to do"
        print(f"trm: {note}", file=sys.stderr)
    best = folder.checkpoint("best")
    figures = f"held out {result['accuracy']:.1%} of {result['n']} exact; {best}" if result else ""
    print(figures or f"nothing held out to judge by; {best} is the last")


def _bench_engine(checkpoint: str, data: str, task: str, batches: str, device: str, as_json: bool) -> None:
    from trm.checkpoints.format import load
    from trm.data.datasets import labelled
    from trm.evaluation.bench_engine import BATCHES, EngineBench, format_figures

    if not all(word.isdecimal() and int(word) for word in batches.split(",") if batches):
        fail(f"--batches {batches!r}: expected numbers from 1 on, with commas")
    rows = tuple(map(int, batches.split(","))) if batches else BATCHES

    def say(section: str, figures: Mapping[str, float]) -> None:
        line = json.dumps({"section": section, **figures}) if as_json else format_figures(section, figures)
        print(line, flush=True)

    EngineBench(load(checkpoint), labelled(data, task, 0), device, say=say).run(batches=rows)


@app.command(epilog="Example: trm bench train --config configs/sudoku.toml --json")
def bench(
    what: Annotated[str, typer.Argument(help="train or infer")],
    config: Annotated[
        Path | None, typer.Option(help="configs/NAME.toml; configs/tiny.toml if not given")
    ] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE")] = None,
    checkpoint: Annotated[
        str, typer.Option(help="infer: measure this checkpoint's expert, at several batch sizes")
    ] = "",
    data: Annotated[str, typer.Option(help="with --checkpoint: labelled puzzles, a few thousand")] = "",
    task: Annotated[str, typer.Option(help="with --checkpoint: the puzzles' task")] = "sudoku",
    batches: Annotated[str, typer.Option(metavar="N,N", help="with --checkpoint: the batch sizes")] = "",
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Milliseconds a step, puzzles a second, and TFLOP/s as a share of this machine's measured peak."""
    if what not in ("train", "infer"):
        fail(f"bench {what!r}: expected train or infer")
    if checkpoint or data or batches:
        if what != "infer" or not (checkpoint and data):
            fail("--checkpoint, --data: for infer, both together")
        _bench_engine(checkpoint, data, task, batches, device, as_json)
        return
    from trm.evaluation.bench import bench_infer, bench_train

    result = (bench_train if what == "train" else bench_infer)(config, overrides or [], device)
    if as_json:
        print(json.dumps(result))
        return
    for key, value in result.items():
        print(f"{key:24} {value:.4g}" if isinstance(value, float) else f"{key:24} {value}")


@app.command(epilog="Example: trm ablate configs/sudoku_quick.toml configs/literature.toml --only base,hrm")
def ablate(
    recipe: Recipe,
    rows: Annotated[Path, typer.Argument(help="TOML file: ROW = ['section.key=value', …]")],
    overrides: Overrides = None,
    only: Annotated[str, typer.Option(metavar="ROW,ROW", help="only these rows")] = "",
    out: Annotated[
        Path | None, typer.Option(help="folder for the rows' run folders; runs/ROWS if not given")
    ] = None,
    device: Device = "auto",
) -> None:
    """Train variants of a recipe one after the other and print their table. Rows that have ended are kept."""
    from trm.evaluation.ablate import format_table, read_rows, train_rows

    chosen = read_rows(recipe, rows, overrides or [], out or Path("runs") / rows.stem, only)
    try:
        failed = train_rows(chosen, recipe, device)
    except KeyboardInterrupt:
        fail("interrupted; the same command continues where it stopped", 130)
    print("\n".join(format_table(chosen)))
    if failed:
        fail(f"failed: {', '.join(failed)}", 1)


@app.command(epilog="Example: trm curves runs/sudoku runs/trm_paper_sudoku --out curves.png")
def curves(
    runs: Annotated[list[Path], typer.Argument(help="run folders, or their metrics.jsonl")],
    out: Annotated[Path, typer.Option(help=".png, .svg or .pdf file")],
) -> None:
    """Draw held-out accuracy and loss of training runs over minutes, and print the figures as a table."""
    from trm.evaluation.curves import draw, format_table, read_runs

    read = read_runs(runs)
    draw(read, out)
    print("\n".join(format_table(read)))
