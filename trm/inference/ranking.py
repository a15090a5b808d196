"""How likely each candidate for an input is right, from what network and proposer say of it: where no rule decides.

Votes of two solvers cannot be added: a proposer's views agree more easily than the network's. So the network says
what share of its attempts name a grid, the proposer how probable it finds it, and a logistic model weighs the two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from trm.grid import Grid, grid_key
from trm.inference.proposals import ProposedGrid
from trm.inference.rollouts import SOURCE_COLD, Attempt

LEAST_SCORE = -40.0  # of a whole grid: what is less probable, or was not scored, counts as this
# Scores grids for an input (its number first), as `trm.inference.proposals.Judge` does.
JudgeScorer = Callable[[int, Sequence[Grid]], Sequence[float] | None]


@dataclass(frozen=True, eq=False)
class PooledGrid:
    """A candidate for an input. cold, drafted: the share of the network's attempts without and with a draft that
    name it; proposed: of the proposer's views. score: the proposer's, None where it has none. probability: that it is
    right, by the ranking."""

    grid: Grid
    cold: float = 0.0
    drafted: float = 0.0
    proposed: float = 0.0
    score: float | None = None
    probability: float = 0.0


@dataclass(frozen=True)
class PoolRanking:
    """A logistic model: the log odds that a candidate is right are `offset` plus its values times their weights.

    Fitted to the candidates of 39 held-out training tasks (LOG.md). The shares `drafted` and `proposed` added nothing
    to these two.
    """

    offset: float = 0.961
    cold: float = 4.02
    score: float = 0.231

    def probability(self, candidate: PooledGrid) -> float:
        score = LEAST_SCORE if candidate.score is None else max(LEAST_SCORE, candidate.score)
        return float(1 / (1 + np.exp(-(self.offset + self.cold * candidate.cold + self.score * score))))


DEFAULT_RANKING = PoolRanking()


def ranked_pool(
    index: int,
    attempts: Sequence[Attempt],
    proposed: Sequence[ProposedGrid],
    judge: JudgeScorer | None = None,
    ranking: PoolRanking = DEFAULT_RANKING,
) -> list[PooledGrid]:
    """The distinct grids that attempts and a proposer name for an input, the most probable first.

    judge: asked about those without a score.
    """
    cold = Counter(grid_key(a.grids[index]) for a in attempts if a.source == SOURCE_COLD)
    drafted = Counter(grid_key(a.grids[index]) for a in attempts if a.source != SOURCE_COLD)
    known = {grid_key(candidate.grid): candidate for candidate in proposed}
    named = [*(c.grid for c in proposed), *(a.grids[index] for a in attempts)]
    grids = {grid_key(grid): grid for grid in named}
    scores = {key: candidate.score for key, candidate in known.items()}
    missing = [key for key in grids if scores.get(key) is None]
    if judge is not None and missing:
        found = judge(index, [grids[key] for key in missing])
        scores |= dict(zip(missing, found, strict=True)) if found is not None else {}
    pool = [
        PooledGrid(
            grid,
            cold[key] / max(1, cold.total()),
            drafted[key] / max(1, drafted.total()),
            known[key].share if key in known else 0.0,
            scores.get(key),
        )
        for key, grid in grids.items()
    ]
    pool = [replace(candidate, probability=ranking.probability(candidate)) for candidate in pool]
    return sorted(pool, key=lambda candidate: -candidate.probability)
