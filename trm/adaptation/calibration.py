"""What a fitted network's belief in an answer is worth, learned from demonstrations that were left out.

A task's demonstrations say what its tests do not: whether an answer is right. One of them is left out and asked as if
it were the test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trm.grid import PuzzleError
from trm.tasks import Puzzle

if TYPE_CHECKING:
    from trm.checkpoints.format import Checkpoint, Expert

KEY = "calibration"  # in an expert's meta
EDGE = 0.01  # beliefs are kept so far from 0 and 1, about what one of 64 views is worth


@dataclass(frozen=True)
class Calibration:
    """How probable it is that an answer is right, of which the network's belief (`trm.inference.attempts.belief`) is so much.

    The logistic function of slope times the belief's log odds, plus the offset (Platt, 1999). It holds for networks
    that took at least so many steps: of one that was briefly fitted fewer views agree where it is right (LOG.md).
    """

    slope: float = 1.0
    offset: float = 0.0
    steps: int = 0

    def holds(self, steps: int) -> bool:
        """Whether it is for networks that were fitted for so many steps."""
        return steps >= self.steps

    def __call__(self, belief: float) -> float:
        return float(1 / (1 + np.exp(-(self.slope * _log_odds(np.array(belief)) + self.offset))))


def calibration_of(meta: Mapping[str, Any]) -> Calibration | None:
    """An expert's, where it was calibrated."""
    held = meta.get(KEY)
    if not isinstance(held, Mapping):
        return None
    try:
        found = Calibration(float(held["slope"]), float(held["offset"]), int(held["steps"]))
    except (KeyError, TypeError, ValueError):
        return None
    return found if isfinite(found.slope) and isfinite(found.offset) else None


def calibrate(beliefs: Sequence[float], right: Sequence[bool], steps: int) -> Calibration:
    """The likeliest calibration of answers that were believed so much and were right or not, after so many steps.

    With Platt's targets, a little off 0 and 1, so that a perfect separation does not make it certain of everything.
    Raises PuzzleError where all are right, or none.
    """
    from scipy.optimize import minimize

    hits, n = sum(right), len(right)
    if not 0 < hits < n:
        raise PuzzleError(f"{hits} of {n} answers are right: expected some of each to calibrate by")
    target = np.where(right, (hits + 1) / (hits + 2), 1 / (n - hits + 2))
    log_odds = _log_odds(np.array(beliefs))

    def loss(at: NDArray[np.float64]) -> float:
        logit = at[0] * log_odds + at[1]
        return float(np.mean(np.logaddexp(0, logit) - target * logit))

    slope, offset = minimize(loss, [1.0, 0.0]).x.tolist()
    return Calibration(slope, offset, steps)


def calibrated(checkpoint: Checkpoint, task: str, found: Mapping[str, Any]) -> dict[str, Expert]:
    """The experts of a checkpoint, that of the task with the calibration that an evaluation (`trm.evaluation.records`) found.

    Raises PuzzleError where it found none, or one by which what is believed more is less probable.
    """
    if KEY not in found:
        raise PuzzleError(
            f"{found['n']} inputs, {found['pass_1']:.0%} of first attempts right: expected some right and some wrong"
        )
    if found[KEY]["slope"] <= 0:
        raise PuzzleError(
            f"belief is no higher in what is right: slope {found[KEY]['slope']:.2g}, expected above 0"
        )
    expert = checkpoint.experts[task]
    held = {**found[KEY], **{key: found[key] for key in ("n", "n_tasks", "brier")}}
    return {**checkpoint.experts, task: replace(expert, meta={**expert.meta, KEY: held})}


def left_out(puzzles: Sequence[Puzzle], most: int) -> list[Puzzle]:
    """Tasks whose test is a demonstration of theirs that they then lack: of each task its last `most`, one at a time.

    Their own tests are in none of them. A task of one demonstration has none. Raises PuzzleError where none has.
    """
    made = []
    for puzzle in puzzles:
        for at in range(len(puzzle.demos))[-most:] if len(puzzle.demos) > 1 else ():
            (asked, answer), others = puzzle.demos[at], puzzle.demos[:at] + puzzle.demos[at + 1 :]
            name = f"{puzzle.id} without {at + 1}"
            made.append(replace(puzzle, id=name, inputs=(asked,), answers=(answer,), demos=others))
    if not made:
        raise PuzzleError("no puzzle has two demonstrations, one of which could be left out")
    return made


def _log_odds(belief: NDArray[np.float64]) -> NDArray[np.float64]:
    kept: NDArray[np.float64] = np.clip(belief, EDGE, 1 - EDGE)
    return np.log(kept / (1 - kept))
