"""Calibration of an adapted network's confidence, learned from demonstrations that were left out.

A puzzle's demonstrations say what its tests do not: whether an answer is right. One of them is left out and asked as
if it were the test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trm.checkpoints.format import Checkpoint, Expert
from trm.grid import PuzzleError
from trm.tasks import Puzzle

KEY = "calibration"  # in an expert's meta
EDGE = 0.01  # confidences are kept this far from 0 and 1, about what one of 64 views is worth


@dataclass(frozen=True)
class Calibration:
    """Platt scaling: raw confidence in [0, 1] to the probability that the answer is right.

    The logistic function of `slope` times the log odds of the confidence, plus `offset` (Platt, 1999). It holds for
    networks that were adapted for at least `steps` steps: of one that was briefly adapted fewer views agree where the
    answer is right (LOG.md).
    """

    slope: float = 1.0
    offset: float = 0.0
    steps: int = 0

    def holds(self, steps: int) -> bool:
        """Whether it was learned for networks adapted for so many steps."""
        return steps >= self.steps

    def __call__(self, confidence: float) -> float:
        return float(1 / (1 + np.exp(-(self.slope * _log_odds(np.array(confidence)) + self.offset))))


def calibration_of(meta: Mapping[str, Any]) -> Calibration | None:
    """The calibration in an expert's meta; None where there is none that can be used."""
    stored = meta.get(KEY)
    if not isinstance(stored, Mapping):
        return None
    try:
        found = Calibration(float(stored["slope"]), float(stored["offset"]), int(stored["steps"]))
    except (KeyError, TypeError, ValueError):
        return None
    return found if isfinite(found.slope) and isfinite(found.offset) else None


def calibrate(confidences: Sequence[float], right: Sequence[bool], steps: int) -> Calibration:
    """The likeliest calibration of answers with these raw confidences, each right or wrong, after so many steps.

    With Platt's targets, a little off 0 and 1, so that a perfect separation does not make it certain of everything.
    Raises PuzzleError where all answers are right, or none.
    """
    hits, n = sum(right), len(right)
    if not 0 < hits < n:
        raise PuzzleError(f"{hits} of {n} answers are right: expected some of each to calibrate by")
    target = np.where(right, (hits + 1) / (hits + 2), 1 / (n - hits + 2))
    log_odds = _log_odds(np.array(confidences))

    def loss(parameters: NDArray[np.float64]) -> float:
        logit = parameters[0] * log_odds + parameters[1]
        return float(np.mean(np.logaddexp(0, logit) - target * logit))

    # A fifth of what `hybrid solve` takes to import, and only learning needs it.
    from scipy.optimize import minimize

    slope, offset = minimize(loss, [1.0, 0.0]).x.tolist()
    return Calibration(slope, offset, steps)


def with_calibration(checkpoint: Checkpoint, task: str, evaluation: Mapping[str, Any]) -> dict[str, Expert]:
    """The experts of a checkpoint, the task's with the calibration that an evaluation of left-out demonstrations
    found (`trm.evaluation.records.summary`).

    Raises PuzzleError where it found none, or one by which a higher confidence is less often right.
    """
    if KEY not in evaluation:
        raise PuzzleError(
            f"{evaluation['n']} inputs, {evaluation['pass_1']:.0%} of first attempts right: "
            "expected some right and some wrong"
        )
    if evaluation[KEY]["slope"] <= 0:
        raise PuzzleError(
            f"the confidence is no higher in right answers: slope {evaluation[KEY]['slope']:.2g}, expected above 0"
        )
    expert = checkpoint.experts[task]
    stored = {**evaluation[KEY], **{key: evaluation[key] for key in ("n", "n_tasks", "brier")}}
    return {**checkpoint.experts, task: replace(expert, meta={**expert.meta, KEY: stored})}


def leave_one_out(puzzles: Sequence[Puzzle], most: int) -> list[Puzzle]:
    """Puzzles whose test is one of their demonstrations, which they then lack: of each puzzle its last `most`
    demonstrations, one at a time. The puzzles' own tests are in none of them.

    A puzzle with one demonstration has none. Raises PuzzleError where no puzzle has two.
    """
    left_out = []
    for puzzle in puzzles:
        for n in range(len(puzzle.demos))[-most:] if len(puzzle.demos) > 1 else ():
            (question, answer), others = puzzle.demos[n], puzzle.demos[:n] + puzzle.demos[n + 1 :]
            name = f"{puzzle.id} without {n + 1}"
            left_out.append(replace(puzzle, id=name, inputs=(question,), answers=(answer,), demos=others))
    if not left_out:
        raise PuzzleError("no puzzle has two demonstrations, one of which could be left out")
    return left_out


def _log_odds(confidence: NDArray[np.float64]) -> NDArray[np.float64]:
    kept: NDArray[np.float64] = np.clip(confidence, EDGE, 1 - EDGE)
    return np.log(kept / (1 - kept))
