"""How many tasks a tuned language model solves, as it was trained and fitted to each task.

    python -m hybrid.llm.grid.evaluate --base DIR --adapter DIR --tasks tasks.json --out records.jsonl
    python -m hybrid.llm.grid.evaluate --summarize records.0.jsonl records.1.jsonl

The tasks are JSON files in ARC's public form with answers (`{id: {"train": […], "test": […]}}`, also gzipped), taken
in the order of the files and in each file's order. With `--world N` this process takes every Nth task from `--rank` on, and `records.jsonl` becomes
`records.RANK.jsonl`. One JSON object a task is appended as soon as it is done.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from hybrid.llm.grid.base_weights import GridModelError
from hybrid.llm.grid.episodes import Pair
from hybrid.llm.grid.fitting import FittingConfig
from hybrid.llm.grid.proposer import GridProposer, Proposal, ProposalConfig
from trm.grid import Grid

STARTED = time.monotonic()
ATTEMPTS = 2
KEPT = 8  # candidates of an input that a record holds, the most voted
RANKINGS = ("frozen_votes", "fitted_votes", "fitted_score", "pool_score")
Json = dict[str, object]
OtherGrids = dict[tuple[str, int], dict[str, int]]  # (task, input) to grids as JSON with their votes


@dataclass(frozen=True)
class Task:
    """source: the file's name. questions and answers: the test inputs and their right outputs."""

    source: str
    id: str
    pairs: list[Pair]
    questions: list[Grid]
    answers: list[Grid]


def read_tasks(path: Path) -> list[Task]:
    """Tasks with answers, in the file's order. Raises SystemExit with a line that says what is wrong."""
    try:
        content = path.read_bytes()
        raw = json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)
        tasks = []
        for name, task in raw.items():
            shown, asked = (
                [(np.array(p["input"], np.uint8), np.array(p["output"], np.uint8)) for p in task[part]]
                for part in ("train", "test")
            )
            tasks.append(
                Task(
                    path.name.partition(".")[0],
                    name,
                    shown,
                    [pair[0] for pair in asked],
                    [pair[1] for pair in asked],
                )
            )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SystemExit(f"{path}: {type(error).__name__} {error}, expected ARC tasks with answers") from None
    return tasks


def read_others(paths: Sequence[Path]) -> OtherGrids:
    """Grids of another solver: JSON lines with `id` and, for each input, `candidates` of `grid` and `votes`."""
    others: OtherGrids = {}
    for path in paths:
        for record in read_records(path):
            candidates = record["candidates"]
            assert isinstance(candidates, list)
            for number, listed in enumerate(candidates):
                kept = {json.dumps(item["grid"]): int(item.get("votes", 1)) for item in listed[:KEPT]}
                others[str(record["id"]), number] = kept
    return others


def read_records(path: Path) -> Iterator[Json]:
    """All complete JSON lines; a truncated last one is skipped."""
    with path.open() as file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError:
                continue


class Evaluation:
    """Evaluates one task at a time with a proposer that is fitted to each, or with `fitting` None to none."""

    def __init__(
        self,
        proposer: GridProposer,
        fitting: FittingConfig | None,
        views: int,
        frozen_views: int,
        others: OtherGrids,
        seed: int,
    ) -> None:
        self.proposer, self.fitting, self.others, self.seed = proposer, fitting, others, seed
        self.views, self.frozen_views = views, frozen_views

    def task(self, task: Task) -> Json:
        """The record of a task. Running out of memory is an `error` in it, and the next task starts afresh."""
        record: Json = {"id": task.id, "source": task.source}
        seconds: dict[str, float] = {}
        try:
            self._parts(task, record, seconds)
        except torch.cuda.OutOfMemoryError:
            record["error"] = "out of memory"
        if "error" in record:
            torch.cuda.empty_cache()
        if self.fitting is not None:
            self.proposer.reset()
        record["seconds"] = {name: round(value, 2) for name, value in seconds.items()}
        record["solved"] = {ranking: _solved(task, record, ranking) for ranking in RANKINGS}
        return record

    def _parts(self, task: Task, record: Json, seconds: dict[str, float]) -> None:
        # Drawn from the task's name, so that a task's result does not depend on which others are evaluated.
        rng = np.random.default_rng([self.seed, zlib.crc32(task.id.encode())])
        begun = time.perf_counter()
        if self.frozen_views:
            record["frozen"] = self._propose(task, rng, self.frozen_views)
            seconds["frozen"] = time.perf_counter() - begun
        if self.fitting is None:
            return
        begun = time.perf_counter()
        record["fit"] = asdict(self.proposer.fit(task.pairs, rng, self.fitting))
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds["fit"] = time.perf_counter() - begun
        begun = time.perf_counter()
        record["fitted"] = self._propose(task, rng, self.views)
        seconds["fitted"] = time.perf_counter() - begun

    def _propose(self, task: Task, rng: np.random.Generator, views: int) -> list[Json]:
        theirs = [self.others.get((task.id, number), {}) for number in range(len(task.questions))]
        others = [
            [np.array(json.loads(grid), np.uint8) for grid in grids] + [answer]
            for grids, answer in zip(theirs, task.answers, strict=True)
        ]
        proposals = self.proposer.propose(
            task.pairs, task.questions, rng, ProposalConfig(views=views), others=others
        )
        return [
            _input_record(proposal, answer, votes)
            for proposal, answer, votes in zip(proposals, task.answers, theirs, strict=True)
        ]


def _input_record(proposal: Proposal, answer: Grid, theirs: dict[str, int]) -> Json:
    """A test input's candidates: this model's most voted and all of the others'; the answer's own score apart."""
    listed: list[Json] = []
    right_score = float("nan")
    own = 0
    for candidate in proposal.candidates:
        right = np.array_equal(candidate.grid, answer)
        if right:
            right_score = candidate.score
        grid = candidate.grid.tolist()
        other_votes = theirs.get(json.dumps(grid), 0)
        own += candidate.votes > 0
        if other_votes or (candidate.votes and own <= KEPT):
            listed.append(
                {
                    "grid": grid,
                    "votes": candidate.votes,
                    "other_votes": other_votes,
                    "score": round(candidate.score, 4),
                    "right": right,
                }
            )
    return {
        "candidates": listed,
        "right_score": round(right_score, 4),
        "right_cells": answer.size,
        "unfinished": proposal.unfinished,
        "left_out": proposal.left_out,
    }


def _solved(task: Task, record: Json, ranking: str) -> bool:
    """Whether the right grid is among the first two of every test input."""
    part, key = ranking.split("_")
    inputs = record.get("fitted" if part == "pool" else part)
    if not isinstance(inputs, list) or len(inputs) != len(task.questions):
        return False
    for entry in inputs:
        listed = [c for c in entry["candidates"] if c["votes"] or part == "pool"]
        listed.sort(key=lambda c: (-c[key], -c["score"]))
        if not any(c["right"] for c in listed[:ATTEMPTS]):
            return False
    return True


def summaries(records: Sequence[Json]) -> Json:
    """A summary for each file that tasks came from."""
    sources = dict.fromkeys(str(record["source"]) for record in records)
    return {source: summary([r for r in records if r["source"] == source]) for source in sources}


def summary(records: Sequence[Json]) -> Json:
    """Counts and means over tasks; log-probabilities are of right grids, over test inputs, in total and a cell."""
    result: Json = {"tasks": len(records), "failed": sum("error" in record for record in records)}
    for ranking in RANKINGS:
        known = [
            _dict(r["solved"])[ranking] for r in records if ranking.startswith("frozen") or "fitted" in r
        ]
        result[ranking] = f"{sum(map(bool, known))} of {len(known)}"
    for part in ("frozen", "fitted"):
        inputs = [entry for record in records for entry in _list(record.get(part, []))]
        if inputs:
            scores = np.array([entry["right_score"] for entry in inputs], float)
            cells = np.array([entry["right_cells"] for entry in inputs], float)
            result[f"{part}_right_score"] = round(float(np.nanmean(scores)), 3)
            result[f"{part}_right_score_per_cell"] = round(float(np.nanmean(scores / cells)), 5)
            result[f"{part}_median_right_score"] = round(float(np.nanmedian(scores)), 3)
    seconds = [_dict(record["seconds"]) for record in records]
    for part in ("frozen", "fit", "fitted"):
        if spent := [float(str(entry[part])) for entry in seconds if part in entry]:
            result[f"{part}_seconds"] = round(float(np.mean(spent)), 2)
    return result


def _dict(value: object) -> dict[str, object]:
    assert isinstance(value, dict)
    return value


def _list(value: object) -> list[dict[str, float]]:
    assert isinstance(value, list)
    return value


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    add = parser.add_argument
    add("--base", type=Path, help="folder of the base model")
    add("--adapter", type=Path, help="folder of the adapter")
    add("--tasks", type=Path, nargs="+", help="ARC tasks with answers, .json or .json.gz")
    add("--out", type=Path, help="JSON lines to append to")
    add("--rank", type=int, default=0, help="which share of the tasks, from 0 on")
    add("--world", type=int, default=1, help="number of shares")
    add("--limit", type=int, default=0, help="the first so many tasks of each file; 0: all")
    add("--seconds", type=float, default=float("inf"), help="no task that would end later is begun")
    add("--frozen-only", action="store_true", help="fit nothing")
    add("--fitted-only", action="store_true", help="skip the views before fitting")
    add("--views", type=int, default=16, help="views decoded after fitting")
    add("--frozen-views", type=int, default=8, help="views decoded before fitting")
    defaults = FittingConfig()
    add("--fit-steps", type=int, default=defaults.steps)
    add("--fit-lr", type=float, default=defaults.learning_rate, help="of the low-rank matrices")
    add("--fit-table-lr", type=float, default=defaults.table_learning_rate, help="of embedding and head")
    add("--fit-tokens", type=int, default=defaults.tokens, help="of a step, at most")
    add("--fit-seconds", type=float, default=None, help="limit for fitting one task")
    add("--trm-records", type=Path, nargs="*", default=[], help="JSON lines with another solver's candidates")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--no-capture", action="store_true", help="decode without CUDA graphs")
    add("--window", type=int, default=11_264, help="tokens of prompt and answer")
    add("--rows", type=int, default=32, help="prompts decoded together")
    add("--seed", type=int, default=0)
    add("--summarize", type=Path, nargs="+", help="print the summary of such records and do nothing else")
    options = parser.parse_args(argv)
    if not options.summarize:
        lacking = [name for name in ("base", "adapter", "tasks", "out") if getattr(options, name) is None]
        if lacking:
            parser.error("required: " + ", ".join(f"--{name}" for name in lacking))
        if not 0 <= options.rank < options.world:
            parser.error(f"--rank {options.rank}: expected 0 to {options.world - 1}")
    return options


def main(argv: Sequence[str] | None = None) -> None:
    options = _arguments(argv)
    if options.summarize:
        latest = {str(r["id"]): r for path in options.summarize for r in read_records(path) if "solved" in r}
        print(json.dumps(summaries(list(latest.values())), indent=1))
        return
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    tasks = [task for path in options.tasks for task in read_tasks(path)[: options.limit or None]]
    tasks = tasks[options.rank :: options.world]
    others = read_others(options.trm_records)
    if options.device.startswith("cuda"):
        torch.cuda.set_device(torch.device(options.device).index or 0)
    try:
        proposer = GridProposer.load(
            options.base,
            options.adapter,
            options.device,
            fitted=not options.frozen_only,
            capture=not options.no_capture,
            most_rows=options.rows,
            window=options.window,
        )
    except GridModelError as error:
        raise SystemExit(str(error)) from None
    fitting = FittingConfig(
        steps=options.fit_steps,
        learning_rate=options.fit_lr,
        table_learning_rate=options.fit_table_lr,
        tokens=options.fit_tokens,
        longest=min(FittingConfig.longest, options.window),
        seconds=options.fit_seconds,
    )
    evaluation = Evaluation(
        proposer,
        None if options.frozen_only else fitting,
        options.views,
        0 if options.fitted_only else options.frozen_views,
        others,
        options.seed,
    )
    out: Path = options.out
    if options.world > 1:
        out = out.with_name(f"{out.stem}.{options.rank}{out.suffix}")
    out.parent.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    print(f"rank {options.rank}: {len(tasks)} tasks, loaded after {begun - STARTED:.0f} s", flush=True)
    records: list[Json] = []
    with out.open("a") as file:
        for task in tasks:
            now = time.monotonic()
            if now - STARTED + (now - begun) / max(1, len(records)) > options.seconds:
                break
            record = evaluation.task(task)
            file.write(json.dumps(record) + "\n")
            file.flush()
            records.append(record)
            solved = "".join("01"[bool(flag)] for flag in _dict(record["solved"]).values())
            place = f"rank {options.rank} {time.monotonic() - STARTED:4.0f} s"
            print(f"{place} {task.id} {solved} {record['seconds']} {record.get('error', '')}", flush=True)
    print(f"rank {options.rank} {json.dumps(summaries(records))}", flush=True)


if __name__ == "__main__":
    main()
