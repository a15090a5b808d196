"""Accuracy where a network is adapted to every puzzle first: by view, vote and attempt, from a record of each puzzle.

Records are lines of JSON, written as the evaluation goes: one that was interrupted goes on after them, and the files
of several machines, one after the other, make one evaluation.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from operator import itemgetter
from pathlib import Path
from typing import Any, NotRequired, TypedDict, cast

import numpy as np

from trm import jsonl
from trm.adaptation.calibration import KEY, Calibration, calibrate, calibration_of
from trm.evaluation.accuracy import InputMetrics, Progress, aggregate, input_metrics, roll_out
from trm.evaluation.statistics import auroc
from trm.grid import Grid, PuzzleError
from trm.inference.network import AdaptedNetwork
from trm.inference.refiner import Refinement, Refiner
from trm.inference.selection import smoothed_vote_share, tally
from trm.tasks import Puzzle

MOST_SCORED = 64  # candidates of an input that are scored for each network, those with the most votes


class ScoredCandidate(TypedDict):
    """A grid that views voted for as the answer to one input."""

    votes: int  # of all views
    votes_of: list[int]  # of each network's views
    score: float  # its likelihood (`trm.inference.verifier`)
    confidence: float  # the highest halting probability of the views that voted for it
    right: bool  # whether it is the answer
    grid: NotRequired[list[str]]  # its rows, a digit for each cell; older records lack it


class Record(TypedDict):
    """How one puzzle went. Lists have an entry for every test input."""

    id: str
    question: int  # checksum of the question
    settings: dict[str, Any]  # the checkpoint's hash, steps, restarts, seed and adaptation
    canvas: int  # side in cells
    adaptation_seconds: float
    adaptation_steps: int
    adaptation_accuracy: float  # share of the demonstrations, under their views, that the network has learned
    cold: list[InputMetrics]  # one view
    pass_1: list[bool]  # whether the first attempt is right,
    pass_2: list[bool]  # one of two,
    oracle: list[bool]  # or any grid that was ever voted for
    candidates: list[list[ScoredCandidate]]
    seconds: float


def evaluate_adapted(
    refiner: Refiner,
    puzzles: Sequence[Puzzle],
    steps: int,
    restarts: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
    records: Path | None = None,
) -> dict[str, Any]:
    """Accuracy on labelled puzzles of one task whose expert is adapted to each of them; restarts are views that vote.

    records: a file to which each puzzle's record is added as it goes; puzzles that have one there are not done again,
    those of other puzzles do not count. Raises PuzzleError where one was written with other settings, and OSError.
    """
    settings = settings_of(refiner, steps, restarts, seed)
    known = {(one["id"], one["question"]): one for one in read_records(records)} if records else {}
    for one in known.values():
        if differ := [key for key, value in settings.items() if one["settings"].get(key) != value]:
            key, found = (
                differ[0],
                f"the record of {one['id']} has {differ[0]} {one['settings'].get(differ[0])}",
            )
            raise PuzzleError(f"{found}, expected {settings[key]}: another file for another evaluation")
    if records is not None:
        jsonl.append(records, [])  # fails now if it cannot be written
        jsonl.repair(records)
    done = []
    for count, puzzle in enumerate(puzzles, 1):
        name = (puzzle.id, puzzle.checksum)
        done.append(known.get(name) or evaluate_puzzle(refiner, puzzle, steps, restarts, seed, settings))
        if records is not None and name not in known:
            jsonl.append(records, done[-1:])
        if progress is not None:
            progress(count)
    calibration = calibration_of(refiner.pool.expert(puzzles[0].task).meta)
    return {"task": puzzles[0].task, **summary(done, calibration), "restarts": restarts}


def settings_of(refiner: Refiner, steps: int, restarts: int, seed: int) -> dict[str, Any]:
    """What a record depends on beside its puzzle, as JSON has it."""
    weights = refiner.name.rpartition("@")[2]
    adaptation = {f"adaptation.{key}": value for key, value in asdict(refiner.pool.adaptation).items()}
    return {"refiner": weights, "steps": steps, "restarts": restarts, "seed": seed, **adaptation}


def evaluate_puzzle(
    refiner: Refiner, puzzle: Puzzle, steps: int, restarts: int, seed: int, settings: dict[str, Any]
) -> Record:
    """Adapt, run one plain and `restarts` augmented views, vote, and score the candidates."""
    network = refiner.pool.network(puzzle)
    assert isinstance(network, AdaptedNetwork)
    begun, task, steps = time.perf_counter(), network.task, network.steps(steps)
    runs = roll_out(network.engines[0], task, [puzzle], steps)
    out = refiner.refine(puzzle, steps=steps, restarts=restarts, seed=seed)
    answers = puzzle.answers or ()
    right = [
        [np.array_equal(grid, answer) for grid in tries]
        for tries, answer in zip(out.candidates or [], answers, strict=True)
    ]
    return Record(
        id=puzzle.id,
        question=puzzle.checksum,
        settings=settings,
        canvas=task.width,
        adaptation_seconds=round(network.seconds, 1),
        adaptation_steps=network.adapted_steps,
        adaptation_accuracy=round(network.accuracy, 4),
        cold=input_metrics(task, puzzle, runs, steps),
        pass_1=[tries[0] for tries in right],
        pass_2=[any(tries) for tries in right],
        oracle=[any(np.array_equal(a.grids[i], x) for a in out.attempts) for i, x in enumerate(answers)],
        candidates=score_candidates(network, puzzle, out, steps),
        seconds=round(network.seconds + time.perf_counter() - begun, 1),
    )


def score_candidates(
    network: AdaptedNetwork, puzzle: Puzzle, out: Refinement, steps: int
) -> list[list[ScoredCandidate]]:
    """For every input the grids that views voted for, most votes first, with their scores."""
    most = MOST_SCORED * len(network.engines)
    named = [tally([a.grids[i] for a in out.attempts])[:most] for i in range(len(puzzle.inputs))]
    log_p = network.log_likelihood(puzzle, [[grid for grid, _ in own] for own in named], steps)

    def scored(index: int, grid: Grid, votes: int, score: float) -> ScoredCandidate:
        supporters = [a for a in out.attempts if np.array_equal(a.grids[index], grid)]
        by_member = Counter(a.member for a in supporters)
        return ScoredCandidate(
            votes=votes,
            votes_of=[by_member[member] for member in range(len(network.engines))],
            score=float(np.exp(score)),
            confidence=max(a.confidence for a in supporters),
            right=np.array_equal(grid, puzzle.answers[index]) if puzzle.answers else False,
            grid=["".join(map(str, row)) for row in grid.tolist()],
        )

    return [
        [scored(i, grid, votes, score) for (grid, votes), score in zip(own, scores, strict=True)]
        for i, (own, scores) in enumerate(zip(named, log_p, strict=True))
    ]


def summary(records: Sequence[Record], calibration: Calibration | None = None) -> dict[str, Any]:
    """Figures of all records: those of one view as `aggregate` has them, those of attempts, and of `ranking`.

    calibration: of the confidence that is reported.
    accuracy: pass_1 where views voted. verified: 0, for no rule decides. adaptation_accuracy: how much of the
    demonstrations was learned, on average: where it is low, more adaptation is due; where it is high and puzzles are
    wrong, not. auroc_first: of right against wrong first attempts by their confidence. brier: Brier score of the
    first attempts' confidence. calibration: what would calibrate it, where some are right and some are not.
    pass_2_alone, tasks_alone: pass_2 and tasks by the views of one network of an ensemble, on average over them.
    """
    result = aggregate([one for record in records for one in record["cold"]])
    result["adaptation_accuracy"] = float(np.mean([record["adaptation_accuracy"] for record in records]))
    result["verified"] = 0.0
    for name in ("pass_1", "pass_2", "oracle"):
        result[name] = float(np.mean([right for record in records for right in record[name]]))
    result["tasks"] = float(np.mean([all(record["pass_2"]) for record in records]))
    result |= ranking([own for record in records for own in record["candidates"]])
    raw, right = first_attempts(records)
    reported, _ = first_attempts(records, calibration)
    result["brier"] = float(np.mean((np.array(reported) - right) ** 2))
    if len(set(right)) > 1:
        pairs = list(zip(raw, right, strict=True))
        result["auroc_first"] = auroc([c for c, hit in pairs if hit], [c for c, hit in pairs if not hit])
        fewest = min(record["adaptation_steps"] for record in records)
        result[KEY] = asdict(calibrate(raw, right, fewest))
    if (members := records[0]["settings"]["adaptation.ensemble_size"]) > 1:
        each = np.mean([by_member(records, member) for member in range(members)], axis=0)
        result |= zip(("pass_2_alone", "tasks_alone"), each.tolist(), strict=True)
    if records[0]["settings"]["restarts"]:
        result["accuracy"] = result["pass_1"]
    return result | {"n_tasks": len(records), "seconds": sum(record["seconds"] for record in records)}


def first_attempts(
    records: Sequence[Record], calibration: Calibration | None = None
) -> tuple[list[float], list[bool]]:
    """The confidence of each input's first attempt (`vote_confidence`), and whether the attempt is right."""
    confidences, right = [], []
    for record in records:
        holds = calibration is not None and calibration.holds(record["adaptation_steps"])
        for own in record["candidates"]:
            best = max(own, key=itemgetter("votes", "confidence"))
            views = record["settings"]["restarts"] + 1
            raw = best["confidence"] * smoothed_vote_share(best["votes"], views)
            confidences.append(calibration(raw) if calibration is not None and holds else raw)
            right.append(best["right"])
    return confidences, right


def by_member(records: Sequence[Record], member: int) -> tuple[float, float]:
    """Shares of inputs and of tasks that the two grids with the most votes of one network's views get right."""

    def solved(own: Sequence[ScoredCandidate]) -> bool:
        named = [one for one in own if one["votes_of"][member]]
        return right_in_two(named, lambda one: (one["votes_of"][member], one["confidence"]))

    right = [[solved(own) for own in record["candidates"]] for record in records]
    return float(np.mean([one for own in right for one in own])), float(np.mean([all(own) for own in right]))


def right_in_two(own: Sequence[ScoredCandidate], key: Callable[[ScoredCandidate], Any]) -> bool:
    """Whether one of the two candidates that are best by the key is right."""
    return any(one["right"] for one in sorted(own, key=key, reverse=True)[:2])


def ranking(candidates: Sequence[Sequence[ScoredCandidate]]) -> dict[str, float]:
    """What the score and the confidence are worth, from the candidates of every input.

    auroc, auroc_confidence: of right against wrong candidates, where there are both, by the one and by the other.
    pass_2_score, pass_2_confidence: share of inputs with a right one among the two that it says are best.
    pass_2_votes_score: among the two with the most votes, the score deciding between equals.
    """

    def pass_2(key: Callable[[ScoredCandidate], Any]) -> float:
        return float(np.mean([right_in_two(own, key) for own in candidates]))

    every = [one for own in candidates for one in own]
    right, wrong = ([one for one in every if one["right"] is which] for which in (True, False))
    score, confidence = itemgetter("score"), itemgetter("confidence")
    areas = {"auroc": score, "auroc_confidence": confidence} if right and wrong else {}
    return {
        **{name: auroc([*map(by, right)], [*map(by, wrong)]) for name, by in areas.items()},
        "pass_2_score": pass_2(score),
        "pass_2_confidence": pass_2(itemgetter("confidence", "votes")),
        "pass_2_votes_score": pass_2(itemgetter("votes", "score")),
    }


def read_records(path: Path) -> list[Record]:
    """The records of a file; none where there is no file. Lines that were cut short by a kill are left out.

    Raises PuzzleError for any other line that is no record, and OSError.
    """
    records = []
    for number, text, value in jsonl.read(path) if path.exists() else ():
        if value is None and text.startswith("{"):  # a file of several machines has such lines in its middle
            continue
        whole = isinstance(value, dict) and value.keys() == Record.__annotations__.keys()
        candidates = [one for own in value["candidates"] for one in own] if whole else []
        if not whole or any(
            one.keys() | {"grid"} != ScoredCandidate.__annotations__.keys() for one in candidates
        ):
            where = f"{path}, line {number}: {text[:40]!r}"
            raise PuzzleError(f"{where}, expected a record of this version's trm eval")
        records.append(cast(Record, value))
    return records
