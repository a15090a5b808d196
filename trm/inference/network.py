"""The network that answers a puzzle: a task's expert as it is, or an ensemble adapted to the puzzle.

Who asks does not know the difference: both kinds say how they are asked again (`restart`), whether further attempts
vote, how many steps they take, and how likely they find a candidate.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np

from trm.adaptation.calibration import Calibration
from trm.adaptation.config import AdaptationConfig
from trm.grid import Grid, Grids, PuzzleError
from trm.inference.rollouts import RolloutRequest
from trm.inference.slots import RolloutEngine
from trm.inference.verifier import LogP, score_as_draft, score_by_likelihood
from trm.tasks import Puzzle, Task
from trm.tasks.transforms import RestrictedTransform, draw_task_view


@dataclass(frozen=True, eq=False)
class Restart:
    """Another attempt to be made. question: the puzzle, or one with more givens, to be asked in its place.

    turn: how many restarts went before. noise: σ, in place of the task's own.
    """

    puzzle: Puzzle
    question: Puzzle
    draft: Grids | None
    turn: int
    rng: np.random.Generator
    noise: float | None = None
    trace: bool = False


@dataclass(frozen=True, eq=False)
class PuzzleNetwork(ABC):
    """The network, or the ensemble, that answers a puzzle. task: the puzzle's, on the canvas that it sees.

    most_steps: supervision steps of a rollout at most; 0 is no limit. votes: whether further attempts are views of
    the puzzle that vote, so that no rule ends them. context: which of the network's embeddings is the puzzle's.
    warning: what a person should know before trusting an answer. seconds: what its adaptation took.
    """

    engines: tuple[RolloutEngine, ...]
    task: Task
    most_steps: int = 0
    calibration: Calibration | None = None
    accepts_drafts: bool = False
    votes: bool = False
    context: int = 0
    warning: str = ""
    seconds: float = 0.0

    def steps(self, requested: int) -> int:
        return min(requested, self.most_steps) if self.most_steps else requested

    def holds(self, grids: Grids) -> bool:
        """Whether grids fit on the canvas."""
        return all(map(self.task.fits, grids))

    def first(self, puzzle: Puzzle, draft: Grids | None, trace: bool = False) -> RolloutRequest:
        """The puzzle as it is, from a cold start or from a draft."""
        return RolloutRequest(puzzle, puzzle, self.task, draft, context=self.context, trace=trace)

    @abstractmethod
    def restart(self, restart: Restart) -> RolloutRequest:
        """Another attempt, unlike the ones before."""

    @abstractmethod
    def log_likelihood(self, puzzle: Puzzle, candidates: Sequence[Sequence[Grid]], steps: int) -> list[LogP]:
        """How likely the network finds candidates, given for every input: log p, [n] for every input."""

    @property
    @abstractmethod
    def batch_key(self) -> Hashable:
        """Networks with equal keys share a batch."""


@dataclass(frozen=True, eq=False)
class ExpertNetwork(PuzzleNetwork):
    """A task's expert as it is. Restarts add noise and draw a symmetry of the task."""

    def restart(self, restart: Restart) -> RolloutRequest:
        puzzle, question, draft = restart.puzzle, restart.question, restart.draft
        seed = int(restart.rng.integers(2**62))
        height, width = puzzle.grid.shape
        symmetry = self.task.symmetries((height, width)).draw(restart.rng)
        transform = (
            symmetry if question is puzzle else RestrictedTransform(symmetry, puzzle.grid, question.grid)
        )
        return RolloutRequest(
            puzzle,
            Puzzle(puzzle.task, tuple(transform.forward(g) for g in puzzle.inputs)),
            self.task,
            None if draft is None else tuple(transform.forward(g) for g in draft),
            transform,
            context=self.context,
            noise=self.task.restart_noise if restart.noise is None else restart.noise,
            seed=seed,
            trace=restart.trace,
        )

    def log_likelihood(self, puzzle: Puzzle, candidates: Sequence[Sequence[Grid]], steps: int) -> list[LogP]:
        if not self.accepts_drafts:
            raise PuzzleError(f"the {self.task.name} expert was not trained on drafts, so it cannot score")
        return score_as_draft(self.engines[0], self.task, puzzle, candidates)

    @property
    def batch_key(self) -> Hashable:
        return self.task.name


@dataclass(frozen=True, eq=False)
class AdaptedNetwork(PuzzleNetwork):
    """Networks adapted to one puzzle's demonstrations. Restarts see the whole puzzle under another view.

    adapted_steps: optimiser steps that each network took; allowed_seconds: what they were given. accuracy: the share
    of the demonstrations that the networks have learned.
    """

    config: AdaptationConfig = field(default_factory=AdaptationConfig)
    adapted_steps: int = 0
    allowed_seconds: float = 0.0
    accuracy: float = 0.0

    def restart(self, restart: Restart) -> RolloutRequest:
        puzzle, draft, config = restart.puzzle, restart.draft, self.config
        longest = max((max(grid.shape) for grid in draft or ()), default=0)
        side = self.task.width if config.moved else 0
        view = draw_task_view(
            puzzle, restart.rng, side, longest, config.color_permutation_prob, config.enlarged
        )
        return RolloutRequest(
            puzzle,
            Puzzle(puzzle.task, tuple(view.forward(g) for g in puzzle.inputs)),
            self.task.at(view.top, view.left),
            None if draft is None else tuple(view.forward(g) for g in draft),
            view,
            context=view.turn,
            member=(restart.turn + 1) % len(self.engines),  # the first request was the first member's
            trace=restart.trace,
        )

    def log_likelihood(self, puzzle: Puzzle, candidates: Sequence[Sequence[Grid]], steps: int) -> list[LogP]:
        share = self.config.color_permutation_prob
        return score_by_likelihood(self.engines, self.task, puzzle, candidates, self.steps(steps), share)

    @property
    def batch_key(self) -> Hashable:
        return id(self)
