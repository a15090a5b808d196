"""The network as verifier: how likely it finds candidates. No rule is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trm.grid import Grid
from trm.inference.slots import Rollout, RolloutEngine
from trm.tasks import Puzzle, Task
from trm.tasks.base import PAD
from trm.tasks.transforms import TaskView, draw_task_view

LogP = NDArray[np.floating[Any]]
DRAFT_STEPS = 1  # supervision steps with the candidate held as the draft before its likelihood is read
# Beside the puzzle as it is: each of its eight orientations once more, on average.
VIEWS = 8


def score_as_draft(
    engine: RolloutEngine, task: Task, puzzle: Puzzle, candidates: Sequence[Sequence[Grid]]
) -> list[LogP]:
    """log p of the least likely free cell of each candidate, which is given to the network as the draft.

    candidates: for every input its grids; the scores, [n] for every input, are in the same order. A candidate that
    leaves a free cell open, or changes a given, is no answer to the question: -inf. Raises PuzzleError for what
    cannot be a draft.
    """
    rollouts = [
        Rollout(task.encode_question(puzzle, i), task.encode_draft(puzzle, grid, i), keep_log_probs=True)
        for i, grids in enumerate(candidates)
        for grid in grids
    ]
    lowest = []
    for rollout, run in zip(rollouts, engine.run(rollouts, DRAFT_STEPS), strict=True):
        assert rollout.draft is not None
        stated = rollout.draft != 0
        if task.fills:  # in other cells the candidate can but repeat what is given
            free = np.isin(rollout.tokens, task.tokens(task.fills))
            if (free & ~stated).any() or (~free & stated & (rollout.draft != rollout.tokens)).any():
                lowest.append(-np.inf)
                continue
            stated &= free
        lowest.append(_token_log_p(run.likelihoods[-1], rollout.draft)[stated].min(initial=0.0))
    ends = np.cumsum([len(grids) for grids in candidates])
    return np.split(np.array(lowest, dtype=np.float32), ends[:-1])


def score_by_likelihood(
    engines: Sequence[RolloutEngine],
    task: Task,
    puzzle: Puzzle,
    candidates: Sequence[Sequence[Grid]],
    steps: int,
    color_permutation_prob: float,
) -> list[LogP]:
    """Mean log p of the cells of candidates that adapted networks have not seen, after cold rollouts of `steps`.

    candidates and scores as in `score_as_draft`. A candidate's cells are its own and the marks of its end, so that
    a grid of another size than expected is unlikely; the mean is over them, then over networks and views: the puzzle
    as it is and VIEWS that are drawn for it. A grid larger than the canvas, which no network can answer: -inf.
    """
    # Views of their own: the restarts' have voted already.
    drawn = [
        draw_task_view(puzzle, np.random.default_rng([puzzle.checksum, n]), recolour=color_permutation_prob)
        for n in range(VIEWS)
    ]
    seen = [(view, i) for view in (TaskView(), *drawn) for i, grids in enumerate(candidates) if grids]
    rollouts = [
        Rollout(task.encode(view.forward(puzzle.inputs[i])), context=view.turn, keep_log_probs=True)
        for view, i in seen
    ]
    scores: list[LogP] = [np.zeros(len(grids)) for grids in candidates]
    share = (1 + VIEWS) * len(engines)
    runs = [run for engine in engines for run in engine.run(rollouts, steps)]
    for (view, i), run in zip(seen * len(engines), runs, strict=True):
        for n, grid in enumerate(candidates[i]):
            if max(grid.shape) > task.width:
                scores[i][n] = -np.inf
                continue
            tokens = task.encode(view.forward(grid))
            scores[i][n] += _token_log_p(run.likelihoods[-1], tokens)[tokens != PAD].mean() / share
    return scores


def _token_log_p(likelihoods: NDArray[np.float32], tokens: NDArray[np.int64]) -> NDArray[np.float32]:
    """Of log p of every token in every cell [L, V], that of these tokens [L]."""
    return likelihoods[np.arange(len(tokens)), tokens]
