"""Tasks to evaluate on, and the records that an evaluation writes: one JSON object a task, and their summary."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hybrid.llm.grid.candidates import Proposal
from hybrid.llm.grid.episodes import Pair
from trm.grid import Grid

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


def input_record(proposal: Proposal, answer: Grid, theirs: dict[str, int]) -> Json:
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


def solved(task: Task, record: Json, ranking: str) -> bool:
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
            as_dict(r["solved"])[ranking] for r in records if ranking.startswith("frozen") or "fitted" in r
        ]
        result[ranking] = f"{sum(map(bool, known))} of {len(known)}"
    for part in ("frozen", "fitted"):
        inputs = [entry for record in records for entry in as_list(record.get(part, []))]
        if inputs:
            scores = np.array([entry["right_score"] for entry in inputs], float)
            cells = np.array([entry["right_cells"] for entry in inputs], float)
            result[f"{part}_right_score"] = round(float(np.nanmean(scores)), 3)
            result[f"{part}_right_score_per_cell"] = round(float(np.nanmean(scores / cells)), 5)
            result[f"{part}_median_right_score"] = round(float(np.nanmedian(scores)), 3)
    seconds = [as_dict(record["seconds"]) for record in records]
    for part in ("frozen", "fit", "fitted"):
        if spent := [float(str(entry[part])) for entry in seconds if part in entry]:
            result[f"{part}_seconds"] = round(float(np.mean(spent)), 2)
    return result


def as_dict(value: object) -> dict[str, object]:
    assert isinstance(value, dict)
    return value


def as_list(value: object) -> list[dict[str, float]]:
    assert isinstance(value, list)
    return value
