"""A comparison under way: its folder, what is on file already, and the loop over puzzles and arms."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.progress import Progress

from eval import arms, metrics
from eval.arms import Setting
from eval.metrics import Record
from eval.plan import Plan, UsageError
from eval.recorded import RecordedProposer
from hybrid.llm.grid.demonstrations import REMEMBERED
from hybrid.prefetch import in_turn, prefetch
from trm import jsonl
from trm.tasks import Puzzle, get
from trm.text import parse_json

# Files of drafts: of the language model, of the same fitted to nothing, and of the same as it came.
DRAFTS = {"llm": "drafts", arms.TUNED: "tuned_drafts", arms.PLAIN: "plain_drafts"}
KEYS = ("task", "id", "arm")  # what a record is about
COUNTS = ("drafts", "parse_failures", "llm_tokens")  # of a record


class Run:
    """One process's part of a comparison. What is on file is not done again."""

    def __init__(
        self,
        folder: Path,
        arms_of: Mapping[str, Sequence[str]],
        setting: Setting,
        concurrency: int = 1,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        """arms_of: the names of each task's arms. concurrency: puzzles that a server is asked about at once."""
        self.arms_of, self.setting, self.concurrency = arms_of, setting, concurrency
        self.process, self.processes = process, processes
        self.path = part(folder / "records.jsonl", process)
        self.done = {(r["task"], r["id"], r["arm"]): r for r in read_records(folder)}

    def go(self, puzzles: Mapping[str, Sequence[Puzzle]], deadline: float, progress: Progress) -> bool:
        """All arms on all puzzles of each task, chunk by chunk; False if the time ran out before the end.

        deadline: a `time.monotonic()` after which no further chunk is begun.
        """
        own = {task: some[self.process :: self.processes] for task, some in puzzles.items()}
        bars = {
            task: progress.add_task(task, total=len(some) * len(self.arms_of[task]))
            for task, some in own.items()
        }
        chunks = [chunk for task, some in own.items() for chunk in self._chunks(task, some)]
        if self.setting.prefetched and self.setting.proposer is not None:
            drafting = prefetch(chunks, self._draft, self.setting.proposer.stop)
        else:
            drafting = in_turn(chunks, self._draft)
        with closing(drafting):
            for number, (chunk, drafted) in enumerate(drafting, 1):
                task = chunk[0].task
                progress.update(bars[task], description=f"{task}: drafting")
                drafted()
                for name in self.arms_of[task]:
                    progress.update(bars[task], description=f"{task}: {name}")
                    self._answer(name, chunk)
                    progress.advance(bars[task], len(chunk))
                if time.monotonic() > deadline:
                    return number == len(chunks)
        return True

    def _chunks(self, task: str, puzzles: Sequence[Puzzle]) -> list[Sequence[Puzzle]]:
        # As many puzzles as are to be asked of a server at once, else it would wait for the next chunk.
        size, refiner = max(self.setting.at_once, self.concurrency), self.setting.refiner
        # All arms of a puzzle are answered by the same adapted network, and by the same fitted language model.
        if refiner is not None and refiner.pool.adapts(task):
            size = min(size, refiner.pool.kept)
        if (
            self.setting.proposer is not None
            and self.setting.proposer.has_views
            and get(task).has_demonstrations
        ):
            size = min(size, REMEMBERED)
        return [puzzles[first : first + size] for first in range(0, len(puzzles), size)]

    def _draft(self, chunk: Sequence[Puzzle]) -> None:
        """See to it that the drafts which the arms will take of a chunk are there."""
        wanted: dict[int, tuple[RecordedProposer, dict[str, Puzzle]]] = {}
        for name in self.arms_of[chunk[0].task]:
            if (proposer := self.setting.proposer_of(name)) is not None:
                open_ones = {p.id: p for p in chunk if self._open(name, p)}
                wanted.setdefault(id(proposer), (proposer, {}))[1].update(open_ones)
        for proposer, puzzles in wanted.values():
            error = proposer.prepare(list(puzzles.values()), self.concurrency) if puzzles else None
            if error is not None and self.setting.callbacks is not None:
                self.setting.callbacks.warned(error)

    def _open(self, name: str, puzzle: Puzzle) -> bool:
        """Whether an arm is still to answer a puzzle, or to do so again for want of the draft that it had."""
        proposer = self.setting.proposer_of(name)
        if (puzzle.task, puzzle.id, name) not in self.done:
            return True
        return proposer is not None and proposer.live is not None and not proposer.has_drafts(puzzle)

    def _unavailable(self, name: str, puzzle: Puzzle) -> bool:
        """Whether an arm needs a draft that could not be asked for: another run may get it."""
        proposer = self.setting.proposer_of(name)
        return proposer is not None and proposer.unavailable(puzzle)

    def _answer(self, name: str, chunk: Sequence[Puzzle]) -> None:
        left = [p for p in chunk if self._open(name, p) and not self._unavailable(name, p)]
        if not left:
            return
        spent = [self._spent(name, puzzle) for puzzle in left] if name in arms.AGAINST_HYBRID else []
        proposer = self.setting.proposer_of(name)
        parameters = proposer.parameters if proposer is not None else None
        for answer in arms.run(name, left, self.setting, spent):
            if self._unavailable(name, answer.puzzle):  # a later draft of it failed
                continue
            step_flops = arms.step_flops(self.setting.refiner, answer.puzzle)
            record = metrics.record(answer, name, parameters, step_flops)
            self.done[answer.puzzle.task, answer.puzzle.id, name] = record
            jsonl.append(self.path, [record])

    def _spent(self, name: str, puzzle: Puzzle) -> float:
        """What the hybrid spent on a puzzle: in supervision steps for `trm+restarts`, else in seconds."""
        record = self.done[puzzle.task, puzzle.id, "hybrid"]
        if name != arms.EQUAL_STEPS:
            return float(sum(record["seconds"].values()))
        step_flops = arms.step_flops(self.setting.refiner, puzzle)
        return float(record["steps"] + record["tflop"]["llm"] * 1e12 / step_flops)


# -- the folder ----------------------------------------------------------------------------------------------
def part(path: Path, process: int) -> Path:
    """A process's own file: several must not write to the same one."""
    return path.with_name(f"{path.stem}.{process}{path.suffix}") if process else path


def parts(folder: Path, kind: str) -> list[Path]:
    """The files KIND.jsonl and KIND.N.jsonl, in the order of the processes."""
    return sorted(folder.glob(f"{kind}*.jsonl"), key=lambda path: (len(path.name), path.name))


def read_records(folder: Path) -> Iterator[Record]:
    """The records of all processes; damaged lines are left out, so that their puzzles are done again."""
    yield from (value for value in _values(folder, "records") if _is_record(value))


def _values(folder: Path, kind: str) -> Iterator[Any]:
    for path in parts(folder, kind):
        yield from (line.value for line in jsonl.read(path) if line.value is not None)


def _is_keyed(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(key), str) for key in KEYS)


def _is_record(value: Any) -> bool:
    """Whether a line of a file is a record as `metrics.record` makes them, as far as reports read it."""
    if not _is_keyed(value):
        return False
    sums = [value.get(key) for key in ("seconds", "tflop")]
    numbers = [part for table in sums if isinstance(table, dict) for part in table.values()]
    return (
        all(isinstance(value.get(key), str) for key in ("status", "question"))
        and all(isinstance(value.get(key), int) for key in ("solved", "steps", "restarts", *COUNTS))
        and all(isinstance(table, dict) and table.keys() >= {"llm", "refine"} for table in sums)
        and all(isinstance(number, int | float) for number in numbers)
        and all(key in value for key in ("exact_match", "confidence", "solved_at", "draft_answer", "answer"))
        and isinstance(value.get("difficulty"), dict)
    )


def merge(folder: Path) -> None:
    """Move the lines of further processes' files to the first one's, without damaged lines and old records."""
    records = {
        tuple(record[key] for key in KEYS): record
        for record in _values(folder, "records")
        if _is_keyed(record)
    }
    jsonl.write(folder / "records.jsonl", records.values())
    for kind in DRAFTS.values():
        if parts(folder, kind):
            jsonl.write(folder / f"{kind}.jsonl", list(_values(folder, kind)))
    for kind in ("records", *DRAFTS.values()):
        for path in folder.glob(f"{kind}.*.jsonl"):
            path.unlink()


def open_folder(folder: Path, plan: Plan, resume: bool) -> None:
    """Make the folder, or check that it holds this very comparison. Raises UsageError and OSError."""
    settings = folder / "settings.json"
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder}: is a file, expected a folder")
    if not folder.exists() or not any(folder.iterdir()):
        folder.mkdir(parents=True, exist_ok=True)
        settings.write_text(json.dumps(plan.to_json(), indent=1) + "\n")
        return
    if not resume:
        raise UsageError(f"{folder} is not empty, expected a new --out or --resume")
    try:
        old = parse_json(settings.read_text()) if settings.is_file() else {}
    except ValueError:
        old = None
    if not isinstance(old, dict):
        raise UsageError(f"{settings}: damaged, nothing to --resume from")
    new = json.loads(json.dumps(plan.to_json()))
    if changed := [key for key, value in new.items() if old.get(key) != value]:
        raise UsageError(
            f"{folder} was made with another {', '.join(changed)}, expected the same to --resume"
        )
    merge(folder)
