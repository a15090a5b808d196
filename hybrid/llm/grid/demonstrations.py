"""Tasks with demonstrations (ARC) as a tuned language model answers them: under several views.

On a GPU it answers as it was trained, is fitted to the task, and answers again; the candidates of both are scored by
both, for what fitting makes surer is not always righter (LOG.md). What it said of a task, and the weights that it was
fitted with, are kept for further drafts and for scores.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hybrid.llm.grid.candidates import GridModel, Proposal, ProposalConfig
from hybrid.llm.grid.episodes import input_length, pair_length
from hybrid.llm.grid.views import TaskView
from trm.grid import Grid
from trm.inference.proposals import ProposedGrid
from trm.tasks import Puzzle

if TYPE_CHECKING:
    from hybrid.llm.grid.fitting import FittedWeights

VIEWS, FITTED_VIEWS = 8, 16  # on a GPU: as the model was trained, and fitted to the task
# Views on a CPU: as many as have that many tokens together, so that reading them takes a few seconds on two cores.
TOKENS_ON_CPU, MOST_VIEWS_ON_CPU = 2400, 4
FITTING_SHARE = 0.25  # of a budget; the network's adaptation comes after
REMEMBERED = 16  # tasks


@dataclass(frozen=True, eq=False)
class TaskCandidates:
    """What the model says of a task.

    proposed: for each input its candidates, the most probable first. views: of the model as it was trained, for each
    input; all_views: how many voted, after fitting too. tokens, prompt_tokens: written and read; one that was fitted
    on counts as three, for it goes through the model forward and backward. fitted: the weights that it was fitted
    with; None where it was not.
    """

    proposed: tuple[tuple[ProposedGrid, ...], ...]
    views: list[list[TaskView]]
    all_views: int
    tokens: int
    prompt_tokens: int
    seconds: float
    fitted: FittedWeights | None


class DemonstrationSolver:
    """Asks a model for answers to tasks with demonstrations.

    fits: whether it is trained on each task's demonstrations too. budget_seconds: of a puzzle, of which fitting takes
    a share. on_fitting: called with the steps taken and of all.
    """

    def __init__(self, model: GridModel, fits: bool, budget_seconds: float | None = None) -> None:
        self.model, self.fits = model, fits and model.fitter is not None
        self.budget_seconds = budget_seconds
        self.on_fitting: Callable[[int, int], None] = lambda done, total: None
        self._known: dict[tuple[int, int], TaskCandidates] = {}

    def candidates(self, puzzle: Puzzle, seed: int) -> TaskCandidates:
        """The candidates for a task; those of the last tasks are kept."""
        key = (puzzle.checksum, seed)
        if key not in self._known:
            self._known[key] = self._answer(puzzle, np.random.default_rng([seed, puzzle.checksum]))
            while len(self._known) > REMEMBERED:
                del self._known[next(iter(self._known))]
        return self._known[key]

    def with_more_views(self, puzzle: Puzzle, seconds: float, seed: int) -> TaskCandidates:
        """The candidates after as many further views as fit into so many seconds, the first ones included."""
        found, turn = self.candidates(puzzle, seed), 0
        while found.seconds < seconds:
            turn, begun = turn + 1, time.perf_counter()
            rng = np.random.default_rng([seed, puzzle.checksum, turn])
            with self._weights(found.fitted):
                views = FITTED_VIEWS if found.fitted is not None else VIEWS
                more = self._ask(puzzle, rng, views, rescored=True)
            found = self._together(puzzle, found, more)
            found = replace(found, seconds=found.seconds + time.perf_counter() - begun)
        return found

    def score(self, puzzle: Puzzle, index: int, grids: Sequence[Grid], seed: int) -> list[float]:
        """The mean log-probability of each grid as the answer to an input, by all weights that drafted."""
        known = self.candidates(puzzle, seed)
        return self._scores(puzzle, index, grids, known.views[index], known.fitted)

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

    def _answer(self, puzzle: Puzzle, rng: np.random.Generator) -> TaskCandidates:
        begun = time.perf_counter()
        fits = self.fits and bool(puzzle.demos)
        asked = self._ask(puzzle, rng, VIEWS, rescored=fits)
        found = TaskCandidates(
            tuple(
                tuple(ProposedGrid(c.grid, c.votes / len(p.views), c.score) for c in p.by_score())
                for p in asked
            ),
            [p.views for p in asked],
            len(asked[0].views),
            *self._tokens(puzzle, asked),
            0.0,
            None,
        )
        if fits:
            fitted, trained = self._fit(puzzle, rng)
            with self._weights(fitted):
                more = self._ask(puzzle, rng, FITTED_VIEWS, rescored=True)
            found = self._together(puzzle, replace(found, fitted=fitted), more)
            found = replace(found, prompt_tokens=found.prompt_tokens + 3 * trained)
        return replace(found, seconds=time.perf_counter() - begun)

    def _together(self, puzzle: Puzzle, found: TaskCandidates, more: list[Proposal]) -> TaskCandidates:
        """Candidates with the votes of further views, all of them scored by the same weights."""
        every = found.all_views + len(more[0].views)
        proposed = []
        for index, (known, proposal) in enumerate(zip(found.proposed, more, strict=True)):
            votes: Counter[bytes] = Counter()
            grids: dict[bytes, Grid] = {}
            for grid, count in [
                *((c.grid, round(c.share * found.all_views)) for c in known),
                *((c.grid, c.votes) for c in proposal.candidates),
            ]:
                key = bytes(grid.shape) + grid.tobytes()
                votes[key] += count
                grids[key] = grid
            scores = self._scores(puzzle, index, list(grids.values()), found.views[index], found.fitted)
            named = [
                ProposedGrid(grid, votes[key] / every, score)
                for (key, grid), score in zip(grids.items(), scores, strict=True)
            ]
            proposed.append(tuple(sorted(named, key=lambda c: -(c.score or 0.0))))
        tokens, read = self._tokens(puzzle, more)
        return replace(
            found,
            proposed=tuple(proposed),
            all_views=every,
            tokens=found.tokens + tokens,
            prompt_tokens=found.prompt_tokens + read,
        )

    def _scores(
        self,
        puzzle: Puzzle,
        index: int,
        grids: Sequence[Grid],
        views: list[TaskView],
        fitted: FittedWeights | None,
    ) -> list[float]:
        """The mean over the weights: as trained, and as fitted where it was. A CPU uses the views that drafted."""
        every = []
        for weights in (None,) if fitted is None else (None, fitted):
            with self._weights(weights):
                shown = None if self._on_gpu else views
                every.append(self.model.score(list(puzzle.demos), puzzle.inputs[index], grids, views=shown))
        mean: list[float] = np.mean(every, axis=0).tolist()
        return mean

    def _fit(self, puzzle: Puzzle, rng: np.random.Generator) -> tuple[FittedWeights, int]:
        """The weights after fitting, and the tokens that it took. The model is left as it was trained."""
        from hybrid.llm.grid.fitting import FittingConfig  # it imports peft, which a CPU does not need

        assert self.model.fitter is not None
        seconds = None if self.budget_seconds is None else FITTING_SHARE * self.budget_seconds
        config = FittingConfig(seconds=seconds)
        report = self.model.fit(list(puzzle.demos), rng, config, self.on_fitting)
        fitted = self.model.fitter.weights()
        self.model.reset()
        return fitted, report.tokens

    def _ask(self, puzzle: Puzzle, rng: np.random.Generator, views: int, rescored: bool) -> list[Proposal]:
        """What the model, as it is now, decodes for each input; on a GPU under so many views.

        rescored: whether its scores are not needed, so that views to score by need not be read.
        """
        pairs, proposals = list(puzzle.demos), list[Proposal]()
        for question in puzzle.inputs:
            config = _on_cpu(self._length(puzzle, question))
            if self._on_gpu:
                config = ProposalConfig(views, scoring_views=0 if rescored else ProposalConfig.scoring_views)
            proposals += self.model.propose(pairs, [question], rng, config)
        return proposals

    def _length(self, puzzle: Puzzle, question: Grid) -> int:
        """Tokens of a prompt."""
        length = sum(map(pair_length, puzzle.demos)) + input_length(question)
        return min(length, self.model.decoder.window)

    def _tokens(self, puzzle: Puzzle, asked: list[Proposal]) -> tuple[int, int]:
        """Tokens written and read: as many of each view as the longest candidate has."""
        written = sum(
            len(p.views) * max((c.grid.size + len(c.grid) + 1 for c in p.candidates), default=0)
            for p in asked
        )
        scoring = ProposalConfig.scoring_views if self._on_gpu else 0
        read = sum(
            (len(p.views) + scoring) * self._length(puzzle, question)
            for p, question in zip(asked, puzzle.inputs, strict=True)
        )
        return written, read


def _on_cpu(length: int) -> ProposalConfig:
    """Few views, by the prompt's length and no clock, so that a seed always gives one answer."""
    return ProposalConfig(views=max(1, min(MOST_VIEWS_ON_CPU, TOKENS_ON_CPU // length)), scoring_views=0)
