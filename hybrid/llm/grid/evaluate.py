"""How many tasks a tuned language model solves, as it was trained and fitted to each task.

    python -m hybrid.llm.grid.evaluate --base DIR --adapter DIR --tasks tasks.json --out records.jsonl
    python -m hybrid.llm.grid.evaluate --summarize records.0.jsonl records.1.jsonl

The tasks are JSON files in ARC's public form with answers (`{id: {"train": […], "test": […]}}`, also gzipped), taken
in the order of the files and in each file's order. With `--world N` this process takes every Nth task from `--rank`
on, and `records.jsonl` becomes `records.RANK.jsonl`. One JSON object a task is appended as soon as it is done.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from hybrid.llm.grid.base_weights import GridModelError
from hybrid.llm.grid.candidates import GridModel, ProposalConfig
from hybrid.llm.grid.fitting import FittingConfig
from hybrid.llm.grid.records import (
    RANKINGS,
    Json,
    OtherGrids,
    Task,
    as_dict,
    input_record,
    read_others,
    read_records,
    read_tasks,
    solved,
    summaries,
)

STARTED = time.monotonic()


class Evaluation:
    """Evaluates one task at a time with a proposer that is fitted to each, or with `fitting` None to none."""

    def __init__(
        self,
        proposer: GridModel,
        fitting: FittingConfig | None,
        views: int,
        frozen_views: int,
        others: OtherGrids,
        seed: int,
        branching: float = 0.0,
    ) -> None:
        self.branching = branching
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
        record["solved"] = {ranking: solved(task, record, ranking) for ranking in RANKINGS}
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
            task.pairs,
            task.questions,
            rng,
            ProposalConfig(views=views, branching=self.branching),
            others=others,
        )
        return [
            input_record(proposal, answer, votes)
            for proposal, answer, votes in zip(proposals, task.answers, theirs, strict=True)
        ]


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
    add("--branching", type=float, default=0.0, help="also all grids of at least this probability in a view")
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
        proposer = GridModel.load(
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
        options.branching,
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
            digits = "".join("01"[bool(flag)] for flag in as_dict(record["solved"]).values())
            place = f"rank {options.rank} {time.monotonic() - STARTED:4.0f} s"
            print(f"{place} {task.id} {digits} {record['seconds']} {record.get('error', '')}", flush=True)
    print(f"rank {options.rank} {json.dumps(summaries(records))}", flush=True)


if __name__ == "__main__":
    main()
