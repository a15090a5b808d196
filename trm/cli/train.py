"""`trm train`."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trm.cli.common import Device, Overrides, app, errors_in_one_line, fail

if TYPE_CHECKING:
    from trm.training.config import Config
    from trm.training.run_folder import RunFolder


@app.command(epilog="Example: trm train configs/tiny.toml train.seconds=60 --out runs/mine")
def train(
    config: Annotated[Path, typer.Argument(help="configs/NAME.toml")],
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
    with errors_in_one_line("interrupted before the first step"):
        if resume is not None and out is not None:
            fail(f"--out {out}: not together with --resume, which continues in {resume}")
        if resume is not None and (resume / "config.json").exists():
            settings = load_run(resume, overrides or [])
        else:
            settings = load_config(config, overrides or [])
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
    from trm.evaluation.held_out import evaluate_held_out
    from trm.training.trainer import Trainer

    puzzles, held_out = training_puzzles(settings.data, settings.train.seed)
    trainer = Trainer(settings, folder.path, puzzles, held_out, device, evaluate=evaluate_held_out)
    if resumed:
        trainer.resume()
    try:
        result = trainer.ended()
        if ended := result is not None:
            note = f"{folder.path} had ended at step {trainer.done_steps}; nothing was left to do"
        else:
            trainer.open_folder()
            result = trainer.run()
    except KeyboardInterrupt:
        trainer.save("last")
        fail(f"interrupted at step {trainer.done_steps}; go on with --resume {folder.path}", 130)
    if not trainer.accelerator.is_main_process:
        return
    if ended:
        print(f"trm: {note}", file=sys.stderr)
    best = folder.checkpoint("best")
    if result:
        print(f"held out {result['accuracy']:.1%} of {result['n']} exact; {best}")
    else:
        print(f"nothing held out to judge by; {best} is the last")
