"""The network as verifier: how likely it finds candidates. No rule is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trm.grid import Grid
from trm.tasks import Puzzle, Task
from trm.tasks.base import PAD

if TYPE_CHECKING:
    from trm.inference.engine import Engine

LogP = NDArray[np.floating[Any]]
JUDGE_STEPS = 1  # supervision steps with the candidate held as the draft before its likelihood is read
# Beside the task as it is: on average each of its eight turns once more. They serve all candidates, and cost what as
# many restarts do.
VIEWS = 8


def held(engine: Engine, task: Task, puzzle: Puzzle, candidates: Sequence[Sequence[Grid]]) -> list[LogP]:
    """log p of the least likely free cell of candidates, each given as the draft.

    candidates: for every input its grids; so are the figures, [n] each. What leaves a free cell open, or has another
    given than the question, is no answer to it: -inf. Raises PuzzleError for what is no draft.
    """
    from trm.inference.engine import Rollout

    rollouts = [
        Rollout(task.encode_question(puzzle, i), task.encode_draft(puzzle, grid, i), judge=True)
        for i, grids in enumerate(candidates)
        for grid in grids
    ]
    lowest = []
    for rollout, run in zip(rollouts, engine.run(rollouts, JUDGE_STEPS), strict=True):
        assert rollout.draft is not None
        stated = rollout.draft != 0
        if task.fills:  # elsewhere the candidate can but repeat what is given
            free = np.isin(rollout.tokens, task.tokens(task.fills))
            if (free & ~stated).any() or (~free & stated & (rollout.draft != rollout.tokens)).any():
                lowest.append(-np.inf)
                continue
            stated &= free
        lowest.append(_log_p(run.likelihoods[-1], rollout.draft)[stated].min(initial=0.0))
    ends = np.cumsum([len(grids) for grids in candidates])
    return np.split(np.array(lowest, dtype=np.float32), ends[:-1])


def unseen(
    engines: Sequence[Engine],
    task: Task,
    puzzle: Puzzle,
    candidates: Sequence[Sequence[Grid]],
    steps: int,
    recolour: float,
) -> list[LogP]:
    """Mean log p of the cells of candidates that fitted networks are not shown, after a cold rollout of `steps`.

    candidates and figures as in `held`. A candidate's cells are its own and the marks of its end, so that one of
    another size than expected is unlikely; the mean is over them, then over networks and views: the task as it is,
    and VIEWS that are drawn for the puzzle. A grid larger than the canvas, on which no network can answer so: -inf.
    """
    from trm.adaptation.test_time import Turned, draw_view
    from trm.inference.engine import Rollout

    # Other views than the restarts', which have voted already.
    drawn = [
        draw_view(puzzle, np.random.default_rng([puzzle.checksum, n]), recolour=recolour)
        for n in range(VIEWS)
    ]
    views = [Turned(0, np.arange(256, dtype=np.uint8)), *drawn]
    asked = [(view, i) for view in views for i, grids in enumerate(candidates) if grids]
    rollouts = [
        Rollout(task.encode(view.forward(puzzle.inputs[i])), context=view.turn, judge=True)
        for view, i in asked
    ]
    found: list[LogP] = [np.zeros(len(grids)) for grids in candidates]
    share = len(views) * len(engines)
    runs = [one for engine in engines for one in engine.run(rollouts, steps)]
    for (view, i), run in zip(asked * len(engines), runs, strict=True):
        for n, grid in enumerate(candidates[i]):
            if max(grid.shape) > task.width:
                found[i][n] = -np.inf
                continue
            tokens = task.encode(view.forward(grid))
            found[i][n] += _log_p(run.likelihoods[-1], tokens)[tokens != PAD].mean() / share
    return found


def _log_p(likelihoods: NDArray[np.float32], tokens: NDArray[np.int64]) -> NDArray[np.float32]:
    """Of log p of every token in every cell [L, V] that of these tokens [L]."""
    return likelihoods[np.arange(len(tokens)), tokens]
