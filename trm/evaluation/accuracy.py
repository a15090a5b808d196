"""Accuracy of a network on labelled puzzles: by step, with halting, and by the exact rules."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np

from trm.evaluation.statistics import wilson
from trm.inference.config import SearchConfig
from trm.inference.engine import Engine
from trm.inference.refiner import Refiner
from trm.inference.rollouts import RolloutRequest, attempt_of
from trm.inference.slots import Rollout, RolloutEngine, Trajectory
from trm.inference.state import SolveState
from trm.model.network import TRM
from trm.tasks import Puzzle, Status, Task, get
from trm.tasks.base import IGNORE

Progress = Callable[[int], None]  # takes how many puzzles are done


class InputMetrics(TypedDict):
    """Metrics of one cold rollout over one input."""

    right: list[bool]  # after each step, whether the grid is right
    halt: int  # the step, from 0, at which learned halting would stop
    cells: float  # share of the scored cells that are right at the end


def evaluate_held_out(
    model: TRM, task: Task, puzzles: Sequence[Puzzle], steps: int, contexts: Sequence[int], slots: int
) -> dict[str, Any]:
    """Figures of one cold pass over held-out puzzles (see `trm.training.trainer.Evaluation`)."""
    runs = roll_out(Engine(model, slots), task, puzzles, steps, contexts=contexts)
    return measure(task, puzzles, runs, steps)


def roll_out(
    engine: RolloutEngine,
    task: Task,
    puzzles: Sequence[Puzzle],
    steps: int,
    progress: Progress | None = None,
    contexts: Sequence[int] | None = None,
) -> list[Trajectory]:
    """A cold trajectory of exactly `steps` for every input of every puzzle, in order.

    contexts: for every puzzle, the embedding under which the network sees it.
    """
    rollouts = [
        Rollout(task.encode_question(puzzle, i), context=context)
        for puzzle, context in zip(puzzles, contexts or [0] * len(puzzles), strict=True)
        for i in range(len(puzzle.inputs))
    ]
    return engine.run(rollouts, steps, progress=progress)


def measure(task: Task, puzzles: Sequence[Puzzle], runs: Sequence[Trajectory], steps: int) -> dict[str, Any]:
    """Figures of cold trajectories as `aggregate` has them, and verified: the share that the exact rules accept."""
    metrics, verified, remaining = [], 0, iter(runs)
    for puzzle in puzzles:
        own = [next(remaining) for _ in puzzle.inputs]
        metrics += input_metrics(task, puzzle, own, steps)
        answer = tuple(task.decode(puzzle, run.grids[-1], i) for i, run in enumerate(own))
        verified += task.check(puzzle, answer).status is Status.VERIFIED
    return aggregate(metrics) | {"verified": verified / len(puzzles)}


def input_metrics(task: Task, puzzle: Puzzle, runs: Sequence[Trajectory], steps: int) -> list[InputMetrics]:
    """The cold trajectories of a puzzle's inputs against its labels. task: on the canvas that the network saw."""
    metrics = []
    for index, run in enumerate(runs):
        right, cells = [False] * steps, 0.0  # of answers larger than the canvas
        if puzzle.answers is None or task.fits(puzzle.answers[index]):
            label = task.encode_label(puzzle, index)
            scored = label != IGNORE
            right = [bool((grid[scored] == label[scored]).all()) for grid in run.grids]
            cells = float((run.grids[-1][scored] == label[scored]).mean())
        metrics.append(InputMetrics(right=right, halt=run.first_halt(), cells=cells))
    return metrics


def aggregate(metrics: Sequence[InputMetrics]) -> dict[str, Any]:
    """Shares of inputs. accuracy: those whose grid after the last step equals the label; by_step: after each step.

    cells: mean share of right cells. halt_accuracy, mean_steps: when stopping where learned halting would.
    """
    right = np.array([one["right"] for one in metrics])
    stops = np.array([one["halt"] for one in metrics])
    return {
        "n": len(metrics),
        "accuracy": float(right[:, -1].mean()),
        "halt_accuracy": float(right[np.arange(len(metrics)), stops].mean()),
        "mean_steps": float(stops.mean() + 1),
        "cells": float(np.mean([one["cells"] for one in metrics])),
        "by_step": {str(s + 1): float(right[:, s].mean()) for s in range(right.shape[1])},
    }


def evaluate(
    refiner: Refiner,
    puzzles: Sequence[Puzzle],
    steps: int,
    restarts: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Accuracy on labelled puzzles of one task whose expert answers as it is.

    Restarts change `accuracy` and `verified` alone; the other figures are of the cold pass.
    """
    begun, task = time.perf_counter(), get(puzzles[0].task)
    contexts = [refiner.pool.context(puzzle) or 0 for puzzle in puzzles]
    runs = roll_out(refiner.pool.engine(task.name), task, puzzles, steps, progress, contexts)
    result = {"task": task.name, **measure(task, puzzles, runs, steps)}
    if restarts:
        remaining, states = iter(runs), []
        for puzzle in puzzles:
            request, own = RolloutRequest(puzzle, puzzle, task), [next(remaining) for _ in puzzle.inputs]
            states.append(SolveState(puzzle, attempts=[attempt_of(request, own)]))
        refined = refiner.search(states, SearchConfig(steps=steps, restarts=restarts, seed=seed))
        right = [
            all(np.array_equal(g, a) for g, a in zip(out.grids, puzzle.answers or (), strict=True))
            for out, puzzle in zip(refined, puzzles, strict=True)
        ]
        result["accuracy"] = float(np.mean(right))
        result["verified"] = float(np.mean([out.verdict.status is Status.VERIFIED for out in refined]))
    return {**result, "restarts": restarts, "seconds": time.perf_counter() - begun}


# The shares that an evaluation of adapted networks adds, their words, and what each is a share of.
ADAPTED_SHARES = (
    ("tasks", "tasks, every test input in two guesses", "n_tasks"),
    ("pass_2", "test inputs in two guesses", "n"),
    ("pass_1", "– in one", "n"),
    ("oracle", "– by any view", "n"),
)


def format_report(result: Mapping[str, Any]) -> Iterator[str]:
    """The figures of an evaluation as lines for people."""

    def exact(share: float, n: int) -> str:
        low, high = wilson(round(share * n), n)
        return f"{share:.2%} [{low:.1%}, {high:.1%}]"

    n = result["n"]
    decidable = get(result["task"]).has_checker
    verified = f"  verified {result['verified']:.2%}" if decidable else "  (no rules verify)"
    yield f"{result['task']}: n {n}  exact {exact(result['accuracy'], n)}{verified}"
    for key, words, of in ADAPTED_SHARES:
        if key in result:
            yield f"  {words:42} {exact(result[key], result[of])}"
    if "tasks_alone" in result:  # a mean of several shares, which has no such interval
        alone = f"{result['tasks_alone']:.2%}, {result['pass_2_alone']:.2%}"
        yield f"  {'tasks, inputs in two by one network alone':42} {alone}"
    if "brier" in result:
        yield f"  {'confidence: Brier score':42} {result['brier']:.4f}"
    yield f"with learned halting {result['halt_accuracy']:.2%} in {result['mean_steps']:.1f} steps on average"
    for step, share in result["by_step"].items():
        yield f"  step {int(step):3d}  {share:7.2%}"
    yield f"{result['seconds']:.1f} s"
