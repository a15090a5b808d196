"""`trm`: train, evaluate, make data, convert, pack, measure."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path
from typing import Annotated, NoReturn

import typer

import trm

app = typer.Typer(
    name="trm",
    help="Tiny Recursive Models: train, evaluate, convert and measure small recursive reasoners.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

COMPILE_FROM = 20_000  # supervision steps
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps")]


def fail(error: Exception | str, code: int = 2) -> NoReturn:
    """One line on standard error, and out."""
    print(f"trm: {error}", file=sys.stderr)
    raise typer.Exit(code)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"trm {trm.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    pass


@app.command(
    epilog="Example: trm train configs/tiny.toml train.seconds=60 --out runs/mine",
    context_settings={"ignore_unknown_options": False},
)
def train(
    config: Annotated[Path, typer.Argument(help="configs/NAME.toml")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[SECTION.KEY=VALUE]…")] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="run folder to go on with, as it was begun; overrides count, CONFIG does not"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="run folder; runs/NAME if not given")] = None,
    device: Device = "auto",
) -> None:
    """Train a network. Runs unchanged under `accelerate launch`."""
    from trm.checkpoints.format import CheckpointError
    from trm.config import ConfigError
    from trm.data.stream import training_puzzles
    from trm.grid import PuzzleError
    from trm.training.config import load_config, load_run

    trainer = None
    try:
        if resume is not None and out is not None:
            fail(f"--out {out}: not with --resume, which goes on in {resume}")
        if resume is not None and (resume / "config.json").exists():
            settings = load_run(resume, overrides or [])
        else:
            settings = load_config(config, overrides or [])
        folder = resume or out or Path("runs") / config.stem
        if folder.exists() and not folder.is_dir():
            fail(f"{folder} is a file, expected a run folder")
        if resume is None and (folder / "metrics.jsonl").exists():
            fail(
                f"{folder} holds a run already: --resume {folder} goes on with it, --out names another folder"
            )
        puzzles, held_out = training_puzzles(settings.data, settings.train.seed)
        from trm.training.trainer import Trainer

        made = Trainer(settings, folder, puzzles, held_out, device)
        if resume is not None:
            made.resume()
        trainer = made  # now, and not before, it has something to save
        if (ended := trainer.ended()) is None:
            trainer.open_folder()
        result = trainer.run() if ended is None else ended
    except (ConfigError, PuzzleError) as error:
        fail(error)
    except CheckpointError as error:
        fail(error, 3)
    except OSError as error:
        fail(f"{error.filename or folder}: {error.strerror or error}, expected a folder that can be written")
    except KeyboardInterrupt:
        if trainer is None:
            fail("interrupted before the first step", 130)
        trainer.save("last")
        fail(f"interrupted at step {trainer.done_steps}; go on with --resume {folder}", 130)
    if not trainer.accelerator.is_main_process:
        return
    if ended is not None:
        print(
            f"trm: {folder} had ended at step {trainer.done_steps}; nothing was left to do", file=sys.stderr
        )
    if result:
        print(f"held out {result['accuracy']:.1%} of {result['n']} exact; {folder}/checkpoints/best")
    else:
        print(f"nothing held out to judge by; {folder}/checkpoints/best is the last")


@app.command(
    name="eval", epilog="Example: trm eval ckpt/trm.pt --task sudoku --data test.csv --limit 500 --json"
)
def evaluate_command(
    checkpoint: Annotated[str, typer.Argument(help="file, folder or hub id")],
    task: Annotated[str, typer.Option(help="sudoku, maze or arc")],
    data: Annotated[str, typer.Option(help="file of puzzles with answers, or hub:ID")],
    limit: Annotated[int, typer.Option(help="the first so many puzzles; 0: all", min=0)] = 0,
    sample: Annotated[
        int | None, typer.Option(metavar="SEED", help="as many as --limit says, drawn from all", min=0)
    ] = None,
    steps: Annotated[
        int, typer.Option(help="supervision steps; ARC: never more than in training", min=1)
    ] = 16,
    restarts: Annotated[int, typer.Option(help="extra noisy rollouts for what the rules reject", min=0)] = 0,
    fit: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="how to fit an ARC expert to a task: seconds=30, lr=0.002, …"),
    ] = None,
    left_out: Annotated[
        int,
        typer.Option(metavar="N", help="ARC: not the tests but each task's last N demonstrations", min=0),
    ] = 0,
    calibrate: Annotated[
        Path | None,
        typer.Option(metavar="OUT", help="ARC: the checkpoint with its confidence calibrated by this"),
    ] = None,
    share: Annotated[
        str, typer.Option(metavar="K/N", help="every Nth puzzle from the Kth on: one machine's part")
    ] = "",
    records: Annotated[
        Path | None,
        typer.Option(
            help="ARC: a line of JSON for every task, as it goes; those it holds are not done again"
        ),
    ] = None,
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
) -> None:
    """Accuracy on labelled puzzles: one cold pass, by step, with halting, and by the exact rules.

    An ARC expert is calibrated with --left-out 1 --calibrate OUT --restarts 63, on tasks that it has not learned.
    """
    from trm.adaptation.calibration import calibrated
    from trm.adaptation.calibration import left_out as without
    from trm.checkpoints.format import CheckpointError, save
    from trm.config import ConfigError
    from trm.data.datasets import drawn, labelled, part_of
    from trm.evaluation.accuracy import lines
    from trm.grid import PuzzleError
    from trm.progress import bar

    try:
        from trm.evaluation.records import read_records, recording
        from trm.inference.refiner import Refiner

        if sample is not None and not limit:
            fail("--sample: how many is for --limit to say")
        if calibrate is not None and not (restarts and calibrate.parent.is_dir() and not calibrate.is_dir()):
            fail(f"--calibrate {calibrate}: expected a file in a folder that is there, and --restarts")
        puzzles = labelled(data, task, limit if sample is None else 0)
        if sample is not None:
            puzzles = [puzzles[i] for i in drawn(limit, len(puzzles), sample)]
        if left_out:
            puzzles = without(puzzles, left_out)
        if share:
            puzzles = part_of(puzzles, share)
        refiner = Refiner.from_pretrained(checkpoint, device=device)
        # What a long evaluation on a GPU gains is more than compiling costs.
        refiner.experts.compiled = refiner.device.startswith("cuda") and len(puzzles) * steps >= COMPILE_FROM
        if (fit or records or calibrate or left_out) and not refiner.fits(task):
            options = "--fit, --records, --left-out, --calibrate"
            fail(f"{options}: {checkpoint} has no expert for {task} that is fitted to its tasks")
        if fit:
            from trm.adaptation.test_time import fitting

            refiner.experts.fitting = fitting(fit, "--fit", refiner.experts.how())

        with ExitStack() as stack:
            known = read_records(records) if records is not None else []
            # Opened before the work: what cannot be written is said at once.
            record = stack.enter_context(recording(records))
            tick = stack.enter_context(bar("evaluating", len(puzzles)))
            result = refiner.evaluate(
                puzzles, steps=steps, restarts=restarts, progress=tick, record=record, known=known
            )
    except (PuzzleError, ConfigError, OSError) as error:
        fail(error)
    except CheckpointError as error:
        fail(error, 3)
    except KeyboardInterrupt:
        fail(
            "interrupted" if records is None else "interrupted; the same command goes on where it stopped",
            130,
        )
    print(json.dumps(result) if as_json else "\n".join(lines(result)))
    if calibrate is not None:
        try:
            save(calibrate, calibrated(refiner.checkpoint, task, result), None)
        except (PuzzleError, OSError) as error:
            fail(f"--calibrate {calibrate}: {error}")


@app.command(epilog="Example: trm data sudoku --n 1000 --seed 1 --out easy.csv clues=[40,50]")
def data(
    task: Annotated[str, typer.Argument(help="sudoku, maze or arc")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]…", help="of the generator")
    ] = None,
    n: Annotated[int, typer.Option("--n", help="puzzles", min=1)] = 1000,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    out: Annotated[Path | None, typer.Option(help=".csv, .jsonl or (ARC) .json")] = None,
) -> None:
    """Make puzzles with answers from a seed."""
    from trm.data.datasets import check_name, write
    from trm.data.generate import parse_options
    from trm.data.stream import PuzzleStream
    from trm.grid import PuzzleError
    from trm.progress import bar
    from trm.tasks import Puzzle

    if out is None:
        fail("--out is missing: expected a .csv, .jsonl or (ARC) .json file")
    try:
        check_name(out, task)
        puzzles: list[Puzzle] = []
        options = parse_options(overrides or [])
        with (
            suppress(KeyboardInterrupt),  # what is made by then is kept
            PuzzleStream(task, seed, options) as made,
            bar("generating", n) as tick,
        ):
            for puzzle in islice(made, n):
                puzzles.append(puzzle)
                tick(len(puzzles))
        if puzzles:
            write(out, task, puzzles)
    except (PuzzleError, TypeError, OSError) as error:
        fail(error)
    except KeyboardInterrupt:  # again, while that is written
        fail("interrupted", 130)
    if len(puzzles) < n:
        fail(f"interrupted: the first {len(puzzles)} of {n} are in {out}" if puzzles else "interrupted", 130)
    print(f"{n} {task} puzzles in {out}")


@app.command(epilog="Example: trm convert step_65100 converted/ --task sudoku")
def convert(
    upstream: Annotated[Path, typer.Argument(help="checkpoint of the reference implementation")],
    out: Annotated[Path, typer.Argument(help="folder to write")],
    task: Annotated[str, typer.Option(help="sudoku, maze or arc")],
    config: Annotated[Path | None, typer.Option(help="JSON with the reference's own keys")] = None,
) -> None:
    """Turn reference weights into a folder that `TRM.from_pretrained` and `--refiner` accept."""
    from trm.checkpoints.format import CheckpointError, save_folder
    from trm.checkpoints.reference import convert as convert_weights
    from trm.files import replacing
    from trm.grid import PuzzleError

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        fail(f"{out} exists and is not an empty folder")
    try:
        try:
            overrides = json.loads(config.read_text()) if config is not None else {}
        except ValueError as error:  # no JSON, or no text
            fail(f"{config}: {error}")
        if not isinstance(overrides, dict):
            raise PuzzleError(f"{config}: expected a JSON object")
        expert = convert_weights(upstream, task, overrides)
        with replacing(out) as temporary:
            save_folder(temporary, expert)
    except (CheckpointError, PuzzleError, OSError) as error:
        fail(error)
    shape = expert.config
    print(f"{out}: {shape.mixer}, {shape.layers} layers of width {shape.hidden_size}, {shape.seq_len} cells")


@app.command(epilog="Example: trm pack ckpt/trm.pt runs/sudoku/checkpoints/best runs/maze/checkpoints/best")
def pack(
    out: Annotated[Path, typer.Argument(help="file to write")],
    checkpoints: Annotated[list[str], typer.Argument(help="files, folders or hub ids")],
    cycles: Annotated[
        int, typer.Option(help="of a supervision step (h_cycles); 0: as in training", min=0)
    ] = 0,
) -> None:
    """Gather experts of several checkpoints in one file; for a task that two have, the later one counts.

    Experts that OUT has for other tasks stay in it.
    """
    from trm.checkpoints.format import CheckpointError
    from trm.checkpoints.format import pack as pack_experts
    from trm.config import ConfigError

    try:
        experts = pack_experts(out, checkpoints, cycles)
    except CheckpointError as error:
        fail(error, 3)
    except (ConfigError, OSError) as error:
        fail(error)
    print(f"{out}: {', '.join(sorted(experts))} ({out.stat().st_size / 1e6:.1f} MB)")


@app.command(epilog="Example: trm bench train --config configs/sudoku.toml --json")
def bench(
    what: Annotated[str, typer.Argument(help="train or infer")],
    config: Annotated[
        Path | None, typer.Option(help="configs/NAME.toml; a small one on CPU if not given")
    ] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE")] = None,
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Milliseconds a step, puzzles a second, and arithmetic as a share of this machine's measured peak."""
    from trm.checkpoints.format import CheckpointError
    from trm.config import ConfigError
    from trm.evaluation.bench import bench_infer, bench_train

    if what not in ("train", "infer"):
        fail(f"bench {what!r}: expected train or infer")
    try:
        result = (bench_train if what == "train" else bench_infer)(config, overrides or [], device)
    except ConfigError as error:
        fail(error)
    except CheckpointError as error:
        fail(error, 3)
    if as_json:
        print(json.dumps(result))
        return
    for key, value in result.items():
        print(f"{key:24} {value:.4g}" if isinstance(value, float) else f"{key:24} {value}")


@app.command(epilog="Example: trm ablate configs/sudoku_quick.toml configs/literature.toml --only base,hrm")
def ablate(
    recipe: Annotated[Path, typer.Argument(help="configs/NAME.toml: what all rows have in common")],
    rows: Annotated[Path, typer.Argument(help="TOML file: ROW = ['section.key=value', …]")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[SECTION.KEY=VALUE]…")] = None,
    only: Annotated[str, typer.Option(metavar="ROW,ROW", help="these rows; all if not given")] = "",
    out: Annotated[
        Path | None, typer.Option(help="a run folder a row goes here; runs/ROWS if not given")
    ] = None,
    device: Device = "auto",
) -> None:
    """Train variants of a recipe one after the other and print their table; rows that have ended are kept."""
    from trm.config import ConfigError
    from trm.evaluation.ablate import lines, read_rows, run, select

    try:
        chosen = select(read_rows(recipe, rows, overrides or [], out or Path("runs") / rows.stem), only)
        failed = run(chosen, recipe, device, lambda line: print(line, file=sys.stderr, flush=True))
        print("\n".join(lines(chosen)))
    except ConfigError as error:
        fail(error)
    except KeyboardInterrupt:
        fail("interrupted; the same command goes on where it stopped", 130)
    if failed:
        fail(f"failed: {', '.join(failed)}", 1)


@app.command(epilog="Example: trm curves runs/sudoku runs/trm_paper_sudoku --out curves.png")
def curves(
    runs: Annotated[list[Path], typer.Argument(help="run folders, or their metrics.jsonl")],
    out: Annotated[Path, typer.Option(help=".png, .svg or .pdf")],
) -> None:
    """Held-out accuracy and loss of training runs against minutes, in one picture; the figures as a table."""
    from trm.config import ConfigError
    from trm.evaluation.curves import draw, names_of, read, table

    try:
        read_runs = list(zip(names_of(runs), map(read, runs), strict=True))
        if out.is_dir():
            raise ConfigError(f"{out}: is a folder, expected a .png, .svg or .pdf file")
        draw(read_runs, out)
    except ConfigError as error:
        fail(error)
    print("run                  step  minutes  held out, % exact")
    for name, step, minutes, share, low, high in table(read_runs):
        print(f"{name:18} {step:6d} {minutes:8.1f}  {share:5.1f} [{low:.1f}, {high:.1f}]")


def main() -> None:
    app()
