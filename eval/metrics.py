"""From answers to records, and from records to results: shares with intervals, paired tests, breakdowns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from eval.arms import llm_flops
from hybrid.answer import Answer, as_candidates
from trm.evaluation.statistics import mcnemar, wilson
from trm.inference.rollouts import SOURCE_COLD, SOURCE_FROM_DRAFT
from trm.inference.selection import same_grids
from trm.tasks import Status

Record = dict[str, Any]
STEPS = (1, 2, 4, 8, 16, 32, 64)


def record(answer: Answer, arm: str, parameters: int | None, step_flops: float) -> Record:
    """One line of records.jsonl: one puzzle, one arm."""
    puzzle, task, drafts = answer.puzzle, answer.task, [checked.draft for checked in answer.drafts]
    read = next((draft.grids for draft in drafts if draft.grids is not None), None)
    grids, candidates = answer.grids, answer.candidates or as_candidates(answer.grids or ())
    return {
        "task": task.name,
        "id": puzzle.id,
        "arm": arm,
        "solved": solved(answer),
        "exact_match": None if puzzle.answers is None else same_grids(grids, puzzle.answers),
        "status": str(answer.verdict.status),
        "source": answer.source,
        "confidence": answer.confidence,
        "steps": answer.steps,
        "restarts": answer.restarts,
        "solved_at": len(answer.trace) or None,  # the step at which the best rollout had the answer
        "cold": _first_attempt(answer, SOURCE_COLD),
        "draft": _first_attempt(answer, SOURCE_FROM_DRAFT),
        "drafts": len(drafts),
        "parse_failures": sum(draft.grids is None for draft in drafts),
        "drafts_verified": sum(checked.verified for checked in answer.drafts),
        "llm_tokens": sum(draft.tokens for draft in drafts),
        "seconds": {"llm": sum(draft.seconds for draft in drafts), "refine": answer.seconds.refine},
        "tflop": {"llm": llm_flops(answer, parameters) / 1e12, "refine": answer.steps * step_flops / 1e12},
        "difficulty": task.difficulty(puzzle),
        "question": task.question_text(puzzle),
        "draft_answer": None if read is None else task.text(read),
        "answer": None if grids is None else task.answer_json(grids, candidates),
        "label": None if puzzle.answers is None else task.text(puzzle.answers),
        "candidates": answer.pool_json(),
        "violations": list(answer.verdict.violations),
    }


def solved(answer: Answer) -> bool:
    """The rules hold; where none decides, one of two guesses equals the label, for every input."""
    if answer.verdict.status is not Status.UNVERIFIED:
        return answer.verdict.status is Status.VERIFIED
    labels = answer.puzzle.answers
    if labels is None or answer.grids is None:
        return False
    choices = answer.candidates or as_candidates(answer.grids)
    return all(
        any(np.array_equal(grid, label) for grid in choice[:2])
        for choice, label in zip(choices, labels, strict=True)
    )


def _first_attempt(answer: Answer, source: str) -> Record | None:
    """How the first rollout from this start went; None if there was none."""
    first = next((attempt for attempt in answer.attempts if attempt.source == source), None)
    if first is None:
        return None
    return {"status": str(first.verdict.status), "confidence": first.confidence, "steps": first.steps}


# -- results -------------------------------------------------------------------------------------------------
def aggregate(records: Sequence[Record]) -> Record:
    """What results.json holds of one arm on one task. Tokens, steps and TFLOP are means over puzzles."""
    n, hits = len(records), sum(r["solved"] for r in records)
    labelled = [r["exact_match"] for r in records if r["exact_match"] is not None]
    return {
        "n": n,
        "solved": hits,
        "accuracy": hits / n,
        "ci95": list(wilson(hits, n)),
        "exact_match": float(np.mean(labelled)) if labelled else None,
        "seconds_per_puzzle": _mean(sum(r["seconds"].values()) for r in records),
        "llm_tokens": _mean(r["llm_tokens"] for r in records),
        "parse_failures": sum(r["parse_failures"] for r in records),
        "drafts": sum(r["drafts"] for r in records),
        "steps": _mean(r["steps"] for r in records),
        "tflop": _mean(sum(r["tflop"].values()) for r in records),
    }


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def by_arm(records: Iterable[Record]) -> dict[str, dict[str, list[Record]]]:
    """Records by task and arm, each in the order of the puzzles."""
    table: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for r in records:
        table[r["task"]][r["arm"]].append(r)
    return {task: dict(arms) for task, arms in table.items()}


def results(records: Sequence[Record], environment: Record) -> Record:
    """results.json."""
    table = by_arm(records)
    paired: Record = {}
    breakdown: Record = {}
    for task, arms in table.items():
        paired[task], breakdown[task] = {}, {}
        for arm, rows in arms.items():
            if arm != "hybrid" and "hybrid" in arms:
                paired[task][f"hybrid vs {arm}"] = _paired(arms["hybrid"], rows)
            breakdown[task][arm] = {"difficulty": _by_difficulty(rows), "by_step": by_step(rows)}
    return {
        "tasks": {task: {arm: aggregate(rows) for arm, rows in arms.items()} for task, arms in table.items()},
        "paired": paired,
        "overlap": {task: overlap(arms) for task, arms in table.items()},
        "breakdown": breakdown,
        "environment": environment,
    }


def _paired(one: Sequence[Record], other: Sequence[Record]) -> Record:
    second = {r["id"]: r["solved"] for r in other}
    shared = [r for r in one if r["id"] in second]
    return dict(mcnemar([r["solved"] for r in shared], [second[r["id"]] for r in shared]))


def overlap(arms: dict[str, list[Record]]) -> Record:
    """Which puzzles of one task the arms solve that others do not.

    sets: for each set of arms that alone solve some puzzles, these puzzles' ids, the largest set first, of the `n`
    puzzles that every arm answered. only_first: how many puzzles one arm solves and another, asked too, does not.
    """
    solved_by = {arm: {r["id"]: bool(r["solved"]) for r in rows} for arm, rows in arms.items()}
    sets: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for puzzle in next(iter(solved_by.values())):
        if all(puzzle in found for found in solved_by.values()):
            sets[tuple(arm for arm, found in solved_by.items() if found[puzzle])].append(puzzle)
    return {
        "n": sum(map(len, sets.values())),
        "sets": [
            {"arms": list(names), "puzzles": ids}
            for names, ids in sorted(sets.items(), key=lambda item: -len(item[1]))
        ],
        "only_first": {
            arm: {
                other: sum(hit and not theirs.get(puzzle, True) for puzzle, hit in own.items())
                for other, theirs in solved_by.items()
                if other != arm
            }
            for arm, own in solved_by.items()
        },
    }


def _by_difficulty(rows: Sequence[Record]) -> Record:
    table: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for r in rows:
        for kind, bucket in r["difficulty"].items():
            table[kind][bucket].append(r["solved"])
    return {
        kind: {
            b: {"n": len(v), "solved": sum(v), "ci95": list(wilson(sum(v), len(v)))} for b, v in found.items()
        }
        for kind, found in table.items()
    }


def by_step(rows: Sequence[Record]) -> dict[str, float]:
    """The share solved within so many supervision steps of one rollout; {} for arms with restarts or no rollouts."""
    if not rows or any(r["restarts"] for r in rows) or not any(r["steps"] for r in rows):
        return {}
    most = max(r["steps"] for r in rows)
    steps = [s for s in STEPS if s < most] + [most]
    return {
        str(s): _mean(bool(r["solved"] and r["solved_at"] and r["solved_at"] <= s) for r in rows)
        for s in steps
    }
