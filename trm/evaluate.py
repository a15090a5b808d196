"""Accuracy of a network on labelled puzzles: by step, with halting, and by the exact rules."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from trm.attempts import Refinement, tally
from trm.engine import Engine, Rollout, Trajectory
from trm.scoring import unseen
from trm.tasks import Puzzle, Status, Task, get
from trm.tasks.base import IGNORE

if TYPE_CHECKING:
    from trm.refine import Refiner

JUDGED = 16  # candidates of a test input that are scored at most, those with the most votes


class Judged(TypedDict):
    """A grid that views named for a test input: how many did, its score (`trm.scoring`), whether it is right."""

    votes: int
    score: float
    right: bool


def evaluate(
    engine: Engine,
    task: Task,
    puzzles: Sequence[Puzzle],
    steps: int = 16,
    progress: Callable[[int], None] | None = None,
    contexts: Sequence[int] | None = None,
) -> dict[str, Any]:
    """One cold pass of `steps` supervision steps over every puzzle (each must have its answer), measured.

    contexts: for every puzzle, as which of its identities the network is to see it.
    """
    runs = roll_out(engine, task, puzzles, steps, progress, contexts)
    return measure([task] * len(puzzles), puzzles, runs, steps)


def roll_out(
    engine: Engine,
    task: Task,
    puzzles: Sequence[Puzzle],
    steps: int,
    progress: Callable[[int], None] | None = None,
    contexts: Sequence[int] | None = None,
) -> list[Trajectory]:
    """A cold trajectory of exactly `steps` for every input of every puzzle, in order."""
    known = zip(puzzles, contexts or [0] * len(puzzles), strict=True)
    rollouts = [
        Rollout(task.encode_question(puzzle, i), context=context)
        for puzzle, context in known
        for i in range(len(puzzle.inputs))
    ]
    return engine.run(rollouts, steps, progress=progress)


def measure(
    tasks: Sequence[Task], puzzles: Sequence[Puzzle], runs: Sequence[Trajectory], steps: int
) -> dict[str, Any]:
    """Figures of cold trajectories. tasks: of every puzzle the task, on the canvas that the network saw it on.

    accuracy: share whose grid after `steps` equals the label. by_step: the same after each step. cells: mean share of
    a grid's scored cells that are right. halt_accuracy, mean_steps: stopping where learned halting would. verified:
    share that the exact rules accept.
    """
    pairs = [(t, p, i) for t, p in zip(tasks, puzzles, strict=True) for i in range(len(p.inputs))]
    right, cells = np.zeros((len(pairs), steps), dtype=bool), np.zeros(len(pairs))
    for row, ((task, puzzle, index), run) in enumerate(zip(pairs, runs, strict=True)):
        if puzzle.answers is not None and max(puzzle.answers[index].shape) > max(task.height, task.width):
            continue  # it cannot be said on this canvas
        label = task.encode_label(puzzle, index)
        scored = label != IGNORE
        right[row] = [(grid[scored] == label[scored]).all() for grid in run.grids]
        cells[row] = (run.grids[-1][scored] == label[scored]).mean()
    stops = np.array([run.first_halt() for run in runs])
    finals = [task.decode(p, run.grids[-1], i) for (task, p, i), run in zip(pairs, runs, strict=True)]
    verified, at = 0, 0
    for task, puzzle in zip(tasks, puzzles, strict=True):
        answer = tuple(finals[at : at + len(puzzle.inputs)])
        at += len(puzzle.inputs)
        verified += task.check(puzzle, answer).status is Status.VERIFIED
    return {
        "n": len(pairs),
        "accuracy": float(right[:, -1].mean()),
        "verified": verified / len(puzzles),
        "halt_accuracy": float(right[np.arange(len(pairs)), stops].mean()),
        "mean_steps": float(stops.mean() + 1),
        "cells": float(cells.mean()),
        "by_step": {str(s + 1): float(right[:, s].mean()) for s in range(steps)},
    }


def evaluate_general(
    refiner: Refiner,
    puzzles: Sequence[Puzzle],
    steps: int,
    restarts: int,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """`Refiner.evaluate` where one network answers every puzzle."""
    begun, task = time.perf_counter(), get(puzzles[0].task)
    runs = roll_out(refiner.engine(task.name), task, puzzles, steps, progress)
    result = {"task": task.name, **measure([task] * len(puzzles), puzzles, runs, steps)}
    if restarts:
        waiting = iter(runs)
        cold = [[next(waiting) for _ in puzzle.inputs] for puzzle in puzzles]
        outs = refiner.restarted(puzzles, cold, steps, restarts, seed)
        right = [
            all(np.array_equal(g, a) for g, a in zip(out.grids, puzzle.answers or (), strict=True))
            for out, puzzle in zip(outs, puzzles, strict=True)
        ]
        result["accuracy"] = float(np.mean(right))
        result["verified"] = float(np.mean([out.verdict.status is Status.VERIFIED for out in outs]))
    return {**result, "restarts": restarts, "seconds": time.perf_counter() - begun}


def evaluate_fitted(
    refiner: Refiner,
    puzzles: Sequence[Puzzle],
    steps: int,
    restarts: int,
    seed: int,
    progress: Callable[[int], None] | None = None,
    record: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """`Refiner.evaluate` where the network is fitted to every puzzle."""
    begun, experts = time.perf_counter(), refiner.experts
    steps = experts.steps(puzzles[0].task, steps)
    tasks = [experts.spec(puzzle) for puzzle in puzzles]
    runs: list[Trajectory] = []
    found: list[dict[str, list[bool]]] = []
    candidates: list[list[Judged]] = []  # of every test input
    for count, (task, puzzle) in enumerate(zip(tasks, puzzles, strict=True), 1):
        start = time.perf_counter()
        engine = experts.engine_for(puzzle)
        seconds = time.perf_counter() - start
        mine = roll_out(engine, task, [puzzle], steps)
        runs += mine
        out = refiner.refine(puzzle, steps=steps, restarts=restarts, seed=seed)
        found.append(attempts_right(puzzle, out))
        scored = judged(engine, task, puzzle, out, steps)
        candidates += scored
        if record is not None:
            about = {"id": puzzle.id, "canvas": task.width, "fit_seconds": round(seconds, 1)}
            cells = measure([task], [puzzle], mine, steps)["cells"]
            about |= {"fit_steps": experts.fitted_steps, "cells": round(cells, 4)}
            record({**about, **found[-1], "candidates": scored})
        if progress is not None:
            progress(count)
    result = {"task": puzzles[0].task, **measure(tasks, puzzles, runs, steps)}
    for name in ("pass_1", "pass_2", "oracle"):
        result[name] = float(np.mean([right for one in found for right in one[name]]))
    result["tasks"] = float(np.mean([all(one["pass_2"]) for one in found]))
    result |= ranking(candidates)
    if restarts:
        result["accuracy"] = result["pass_1"]
    return {**result, "restarts": restarts, "seconds": time.perf_counter() - begun}


def attempts_right(puzzle: Puzzle, out: Refinement) -> dict[str, list[bool]]:
    """Of every test input, whether the first attempt is right, one of two, or any that was ever voted for."""
    found: dict[str, list[bool]] = {"pass_1": [], "pass_2": [], "oracle": []}
    for index, (tries, answer) in enumerate(zip(out.candidates or [], puzzle.answers or (), strict=True)):
        right = [np.array_equal(grid, answer) for grid in tries]
        found["pass_1"].append(right[0])
        found["pass_2"].append(any(right))
        found["oracle"].append(any(np.array_equal(one.grids[index], answer) for one in out.attempts))
    return found


def judged(engine: Engine, task: Task, puzzle: Puzzle, out: Refinement, steps: int) -> list[list[Judged]]:
    """For every test input what views named, at most JUDGED grids, those with the most votes first."""
    named = [tally([one.grids[i] for one in out.attempts])[:JUDGED] for i in range(len(puzzle.inputs))]
    found = unseen(engine, task, puzzle, [[grid for grid, _ in mine] for mine in named], steps)
    return [
        [
            Judged(votes=votes, score=float(np.exp(log_p)), right=np.array_equal(grid, answer))
            for (grid, votes), log_p in zip(mine, scores, strict=True)
        ]
        for mine, scores, answer in zip(named, found, puzzle.answers or (), strict=True)
    ]


def ranking(candidates: Sequence[Sequence[Judged]]) -> dict[str, float]:
    """What the score is worth, from the candidates of every test input.

    auroc: of right against wrong candidates, where there are both. pass_2_score: share of inputs with a right one
    among the two that score best; pass_2_votes_score: among the two with the most votes, the score deciding between
    equals.
    """

    def pass_2(key: Callable[[Judged], tuple[float, ...]]) -> float:
        best = [sorted(mine, key=key, reverse=True)[:2] for mine in candidates]
        return float(np.mean([any(one["right"] for one in two) for two in best]))

    right = [one["score"] for mine in candidates for one in mine if one["right"]]
    wrong = [one["score"] for mine in candidates for one in mine if not one["right"]]
    return {
        **({"auroc": auroc(right, wrong)} if right and wrong else {}),
        "pass_2_score": pass_2(lambda one: (one["score"],)),
        "pass_2_votes_score": pass_2(lambda one: (one["votes"], one["score"])),
    }


def auroc(right: Sequence[float], wrong: Sequence[float]) -> float:
    """Area under the ROC curve: how often a right one scores above a wrong one, of equals half. Some of each."""
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(right, wrong).statistic / (len(right) * len(wrong)))


def wilson(hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    from scipy.stats import binomtest

    interval = binomtest(hits, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)
