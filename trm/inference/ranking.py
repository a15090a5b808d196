"""How likely each candidate for an input is right, from what network and proposer say of it: where no rule decides.

Votes of two solvers cannot be added: a proposer's views agree more easily than the network's. So the network says
what share of its attempts name a grid, the proposer how probable it finds it, and a logistic model weighs the two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from trm.grid import Grid, grid_key
from trm.inference.proposals import Judge, Mender, ProposedGrid, Proposer, ProposerError
from trm.inference.rollouts import SOURCE_COLD, Attempt
from trm.tasks import Puzzle

LEAST_SCORE = -40.0  # of a whole grid: what is less probable, or was not scored, counts as this
T = TypeVar("T")
# Scores grids for an input (its number first), as `trm.inference.proposals.Judge` does.
JudgeScorer = Callable[[int, Sequence[Grid]], Sequence[float] | None]
# Changes cells of grids for an input (its number first), as `trm.inference.proposals.Mender` does.
GridMender = Callable[[int, Sequence[Grid]], Sequence[Grid]]


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
    """A logistic model: the log odds that a candidate is right are `offset`, plus `score` times the proposer's score,
    plus `majority` times the part of the network's share without a draft that is beyond a half.

    Below a half the share says little: an adapted network that has not found a task's rule still agrees with itself
    in a third of its attempts. Fitted to the candidates of 34 held-out training tasks (LOG.md).
    """

    offset: float = 0.26
    majority: float = 6.33
    score: float = 0.248

    def probability(self, candidate: PooledGrid) -> float:
        """How probable it is that the candidate is right."""
        score = LEAST_SCORE if candidate.score is None else max(LEAST_SCORE, candidate.score)
        odds = self.offset + self.majority * max(0.0, candidate.cold - 0.5) + self.score * score
        return float(1 / (1 + np.exp(-odds)))


DEFAULT_RANKING = PoolRanking()


def ranked_pool(
    index: int,
    attempts: Sequence[Attempt],
    proposed: Sequence[ProposedGrid],
    judge: JudgeScorer | None = None,
    mender: GridMender | None = None,
    ranking: PoolRanking = DEFAULT_RANKING,
) -> list[PooledGrid]:
    """The distinct grids that attempts and a proposer name for an input, the most probable first.

    judge: asked about those without a score. mender: what it makes of the network's grids, the most probable first,
    are candidates too.
    """
    cold = Counter(grid_key(a.grids[index]) for a in attempts if a.source == SOURCE_COLD)
    drafted = Counter(grid_key(a.grids[index]) for a in attempts if a.source != SOURCE_COLD)
    known = {grid_key(candidate.grid): candidate for candidate in proposed}
    named = [*(c.grid for c in proposed), *(a.grids[index] for a in attempts)]
    grids = {grid_key(grid): grid for grid in named}
    scores = {key: candidate.score for key, candidate in known.items()}

    def pooled() -> list[PooledGrid]:
        missing = [key for key in grids if scores.get(key) is None]
        if judge is not None and missing:
            found = judge(index, [grids[key] for key in missing])
            scores.update(zip(missing, found, strict=True) if found is not None else [])
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

    pool = pooled()
    own = [candidate.grid for candidate in pool if candidate.cold or candidate.drafted]
    mended = {grid_key(grid): grid for grid in mender(index, own)} if mender is not None and own else {}
    if mended.keys() <= grids.keys():
        return pool
    grids |= {key: grid for key, grid in mended.items() if key not in grids}
    return pooled()


def scorer_of(
    proposer: Proposer, puzzle: Puzzle, seed: int, warn: Callable[[str], None]
) -> JudgeScorer | None:
    """How likely a proposer finds a puzzle's grids; None where it cannot say. warn: told why a call fails."""
    if not isinstance(proposer, Judge):
        return None
    return _or_warn(lambda index, grids: proposer.score(puzzle, index, grids, seed), None, warn)


def mender_of(
    proposer: Proposer, puzzle: Puzzle, seed: int, warn: Callable[[str], None]
) -> GridMender | None:
    """What a proposer makes of a puzzle's grids; None where it cannot. warn: told why a call fails."""
    if not isinstance(proposer, Mender):
        return None
    return _or_warn(lambda index, grids: proposer.mend(puzzle, index, grids, seed), [], warn)


def _or_warn(
    ask: Callable[[int, Sequence[Grid]], T], otherwise: T, warn: Callable[[str], None]
) -> Callable[[int, Sequence[Grid]], T]:
    def asked(index: int, grids: Sequence[Grid]) -> T:
        try:
            return ask(index, grids)
        except ProposerError as error:
            warn(str(error))
            return otherwise

    return asked
