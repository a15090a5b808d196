"""Accuracy of a network on labelled puzzles: by step, with halting, and by the exact rules."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from trm.evaluation.statistics import wilson
from trm.inference.engine import Engine, Rollout, Trajectory
from trm.tasks import Puzzle, Status, Task, get
from trm.tasks.base import IGNORE

if TYPE_CHECKING:
    from trm.inference.refiner import Refiner


class Looked(TypedDict):
    """What came of one input: after each step whether its grid is right, the step (from 0) at which learned halting
    would stop, and the share of the scored cells that are right at the end.
    """

    right: list[bool]
    halt: int
    cells: float


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

    As `figures` has them; verified: share that the exact rules accept.
    """
    found, verified, waiting = [], 0, iter(runs)
    for task, puzzle in zip(tasks, puzzles, strict=True):
        mine = [next(waiting) for _ in puzzle.inputs]
        found += looked(task, puzzle, mine, steps)
        answer = tuple(task.decode(puzzle, run.grids[-1], i) for i, run in enumerate(mine))
        verified += task.check(puzzle, answer).status is Status.VERIFIED
    return figures(found) | {"verified": verified / len(puzzles)}


def looked(task: Task, puzzle: Puzzle, runs: Sequence[Trajectory], steps: int) -> list[Looked]:
    """The cold trajectories of a puzzle's inputs, against its labels."""
    found = []
    for index, run in enumerate(runs):
        one = Looked(right=[False] * steps, halt=run.first_halt(), cells=0.0)
        # Else the answer cannot be said on this canvas.
        if puzzle.answers is None or max(puzzle.answers[index].shape) <= max(task.height, task.width):
            label = task.encode_label(puzzle, index)
            scored = label != IGNORE
            one["right"] = [bool((grid[scored] == label[scored]).all()) for grid in run.grids]
            one["cells"] = float((run.grids[-1][scored] == label[scored]).mean())
        found.append(one)
    return found


def figures(found: Sequence[Looked]) -> dict[str, Any]:
    """Shares of inputs. accuracy: those whose grid after the last step equals the label; by_step: after each.

    cells: mean share of right cells. halt_accuracy, mean_steps: stopping where learned halting would.
    """
    right, stops = np.array([one["right"] for one in found]), np.array([one["halt"] for one in found])
    return {
        "n": len(found),
        "accuracy": float(right[:, -1].mean()),
        "halt_accuracy": float(right[np.arange(len(found)), stops].mean()),
        "mean_steps": float(stops.mean() + 1),
        "cells": float(np.mean([one["cells"] for one in found])),
        "by_step": {str(s + 1): float(right[:, s].mean()) for s in range(right.shape[1])},
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


# Where a network is fitted to every task (`trm.evaluation.records`).
FITTED = (
    ("tasks", "tasks, every test input in two attempts", "n_tasks"),
    ("pass_2", "test inputs in two attempts", "n"),
    ("pass_1", "– in one", "n"),
    ("oracle", "– by any view", "n"),
)


def lines(result: Mapping[str, Any]) -> Iterator[str]:
    """What `Refiner.evaluate` returned, for people."""

    def exact(share: float, n: int) -> str:
        low, high = wilson(round(share * n), n)
        return f"{share:.2%} [{low:.1%}, {high:.1%}]"

    n = result["n"]
    verified = "" if "tasks" in result else f"  verified {result['verified']:.2%}"  # there no rule decides
    yield f"{result['task']}: n {n}  exact {exact(result['accuracy'], n)}{verified}"
    for key, what, of in FITTED:
        if key in result:
            yield f"  {what:42} {exact(result[key], result[of])}"
    if "tasks_alone" in result:  # a mean of several, which has no such interval
        alone = f"{result['tasks_alone']:.2%}, {result['pass_2_alone']:.2%}"
        yield f"  {'tasks, inputs in two by one replica alone':42} {alone}"
    if "brier" in result:
        yield f"  {'confidence: Brier score':42} {result['brier']:.4f}"
    yield f"with learned halting {result['halt_accuracy']:.2%} in {result['mean_steps']:.1f} steps on average"
    for step, share in result["by_step"].items():
        yield f"  step {int(step):3d}  {share:7.2%}"
    yield f"{result['seconds']:.1f} s"
