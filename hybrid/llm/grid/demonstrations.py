"""Tasks with demonstrations (ARC) as a tuned language model answers them: under several views, fitted on a GPU.

What it said of a task, and the weights that it was fitted with, are kept for further drafts and for scores.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hybrid.llm.grid.candidates import Candidate, GridModel, Proposal, ProposalConfig
from hybrid.llm.grid.episodes import input_length, pair_length
from trm.grid import Grid
from trm.inference.proposals import ProposedGrid
from trm.tasks import Puzzle

if TYPE_CHECKING:
    from hybrid.llm.grid.fitting import FittedWeights

VIEWS = 16  # on a GPU
# Views on a CPU: as many as have that many tokens together, so that reading them takes a few seconds on two cores.
TOKENS_ON_CPU, MOST_VIEWS_ON_CPU = 2400, 4
FITTING_SHARE = 0.25  # of a budget; the network's adaptation comes after
REMEMBERED = 16  # tasks


@dataclass(frozen=True, eq=False)
class TaskCandidates:
    """What the model says of a task. proposals: for each input.

    tokens, prompt_tokens: written and read; one that was fitted on counts as three, for it goes through the model
    forward and backward. fitted: the weights that it was fitted with; None where it was not.
    """

    proposals: list[Proposal]
    tokens: int
    prompt_tokens: int
    seconds: float
    fitted: FittedWeights | None

    @property
    def ranked(self) -> list[list[Candidate]]:
        """For each input the candidates, the best first: by their score after fitting, else by votes, then score."""
        return [p.by_score() if self.fitted is not None else p.candidates for p in self.proposals]

    @property
    def proposed(self) -> tuple[tuple[ProposedGrid, ...], ...]:
        """The same for the search, with the share of the views that name each."""
        return tuple(
            tuple(ProposedGrid(c.grid, c.votes / len(p.views), c.score) for c in some)
            for p, some in zip(self.proposals, self.ranked, strict=True)
        )

    def and_views_of(self, other: TaskCandidates) -> TaskCandidates:
        """With the votes of further views."""
        return replace(
            self,
            proposals=[
                one.and_votes_of(more) for one, more in zip(self.proposals, other.proposals, strict=True)
            ],
            tokens=self.tokens + other.tokens,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            seconds=self.seconds + other.seconds,
        )


class DemonstrationSolver:
    """Asks a model for answers to tasks with demonstrations.

    fits: whether it is trained on each task's demonstrations first. views: under which it asks on a GPU.
    budget_seconds: of a puzzle, of which fitting takes a share. on_fitting: called with the steps taken and of all.
    """

    def __init__(
        self, model: GridModel, fits: bool, views: int = VIEWS, budget_seconds: float | None = None
    ) -> None:
        self.model, self.fits, self.views = model, fits and model.fitter is not None, views
        self.budget_seconds = budget_seconds
        self.on_fitting: Callable[[int, int], None] = lambda done, total: None
        self._known: dict[tuple[int, int], TaskCandidates] = {}

    def candidates(self, puzzle: Puzzle, seed: int) -> TaskCandidates:
        """The candidates for a task; those of the last tasks are kept."""
        key = (puzzle.checksum, seed)
        if key not in self._known:
            rng = np.random.default_rng([seed, puzzle.checksum])
            begun = time.perf_counter()
            fitted, tokens = self._fit(puzzle, rng) if self.fits and puzzle.demos else (None, 0)
            fitting = time.perf_counter() - begun
            asked = self._ask(puzzle, rng, fitted)
            read = asked.prompt_tokens + 3 * tokens
            self._known[key] = replace(asked, seconds=asked.seconds + fitting, prompt_tokens=read)
            while len(self._known) > REMEMBERED:
                del self._known[next(iter(self._known))]
        return self._known[key]

    def with_more_views(self, puzzle: Puzzle, seconds: float, seed: int) -> TaskCandidates:
        """The candidates after as many further views as fit into so many seconds, the first ones included."""
        found, turn = self.candidates(puzzle, seed), 0
        while found.seconds < seconds:
            turn += 1
            rng = np.random.default_rng([seed, puzzle.checksum, turn])
            found = found.and_views_of(self._ask(puzzle, rng, found.fitted))
        return found

    def score(self, puzzle: Puzzle, index: int, grids: Sequence[Grid], seed: int) -> list[float]:
        """The mean log-probability of each grid as the answer to an input, by the weights that drafted."""
        known = self.candidates(puzzle, seed)
        views = None if self._on_gpu else known.proposals[index].views
        with self._weights(known.fitted):
            return self.model.score(list(puzzle.demos), puzzle.inputs[index], grids, views=views)

    @property
    def _on_gpu(self) -> bool:
        return self.model.decoder.device.type != "cpu"

    @contextmanager
    def _weights(self, fitted: FittedWeights | None) -> Iterator[None]:
        """The model as it was fitted, and afterwards as it was trained."""
        if fitted is None:
            yield
            return
        self.model.reset(fitted)
        try:
            yield
        finally:
            self.model.reset()

    def _fit(self, puzzle: Puzzle, rng: np.random.Generator) -> tuple[FittedWeights, int]:
        """The weights after fitting, and the tokens that it took."""
        from hybrid.llm.grid.fitting import FittingConfig  # it imports peft, which a CPU does not need

        assert self.model.fitter is not None
        seconds = None if self.budget_seconds is None else FITTING_SHARE * self.budget_seconds
        config = FittingConfig(seconds=seconds)
        report = self.model.fit(list(puzzle.demos), rng, config, self.on_fitting)
        return self.model.fitter.weights(), report.tokens

    def _ask(self, puzzle: Puzzle, rng: np.random.Generator, fitted: FittedWeights | None) -> TaskCandidates:
        begun, pairs = time.perf_counter(), list(puzzle.demos)
        proposals: list[Proposal] = []
        tokens = prompt_tokens = 0
        with self._weights(fitted):
            for question in puzzle.inputs:
                length = min(sum(map(pair_length, pairs)) + input_length(question), self.model.decoder.window)
                config = ProposalConfig(views=self.views) if self._on_gpu else _on_cpu(length)
                proposals += self.model.propose(pairs, [question], rng, config)
                longest = max((c.grid.size + len(c.grid) + 1 for c in proposals[-1].candidates), default=0)
                tokens += config.views * longest
                prompt_tokens += (config.views + config.scoring_views) * length
        return TaskCandidates(proposals, tokens, prompt_tokens, time.perf_counter() - begun, fitted)


def _on_cpu(length: int) -> ProposalConfig:
    """Without fitting: few views, by the prompt's length and no clock, so that a seed always gives one answer."""
    return ProposalConfig(views=max(1, min(MOST_VIEWS_ON_CPU, TOKENS_ON_CPU // length)), scoring_views=0)
