"""Tasks with demonstrations (ARC) as a tuned language model answers them: under several views.

On a GPU it answers as it was trained, is fitted to the task, and answers again; the candidates of both are scored by
both, for what fitting makes surer is not always righter (LOG.md). What it said of a task, and the weights that it was
fitted with, are kept for further drafts and for scores. The best candidates, its own and those of others, are mended:
cells change in which its views together prefer another colour.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hybrid.llm.grid.candidates import Decoding, GridModel, ProposalConfig
from hybrid.llm.grid.episodes import input_length, pair_length
from hybrid.llm.grid.mending import consensus
from trm.grid import Grid, GridKey, grid_key
from trm.inference.proposals import ProposedGrid
from trm.tasks import Puzzle

if TYPE_CHECKING:
    from hybrid.llm.grid.fitting import FittedWeights

VIEWS, FITTED_VIEWS = 8, 16  # on a GPU: as the model was trained, and fitted to the task
# Views on a CPU: as many as have that many tokens together, so that reading them takes a few seconds on two cores.
TOKENS_ON_CPU, MOST_VIEWS_ON_CPU = 2400, 4
FITTING_SHARE = 0.25  # of a budget; the network's adaptation comes after
REMEMBERED = 16  # tasks
MENDED = 4  # candidates of an input that are mended, the best, on a GPU


@dataclass(frozen=True, eq=False)
class InputCandidates:
    """What the model says of one test input.

    decodings: of the model as it was trained, then of the fitted one. proposed: all that they named, the most
    probable first. length: tokens of a prompt. judging_prompts: how many were read to score and mend those grids.
    """

    decodings: list[Decoding]
    proposed: tuple[ProposedGrid, ...]
    length: int
    judging_prompts: int

    @property
    def read(self) -> int:
        """Tokens of all prompts."""
        return self.length * (self.judging_prompts + sum(len(decoding.views) for decoding in self.decodings))

    @property
    def written(self) -> int:
        """Tokens that were decoded, as if every view had been as long as the longest candidate."""
        longest = max((c.grid.size + len(c.grid) + 1 for c in self.proposed), default=0)
        return longest * sum(len(decoding.views) for decoding in self.decodings)


@dataclass(frozen=True, eq=False)
class TaskCandidates:
    """What the model says of a task.

    fitted: the weights that it was fitted with, None where it was not. trained_on: tokens of that fitting.
    """

    inputs: list[InputCandidates]
    fitted: FittedWeights | None
    trained_on: int
    seconds: float

    @property
    def proposed(self) -> tuple[tuple[ProposedGrid, ...], ...]:
        return tuple(one.proposed for one in self.inputs)

    @property
    def tokens(self) -> int:
        """Tokens that were decoded."""
        return sum(one.written for one in self.inputs)

    @property
    def prompt_tokens(self) -> int:
        """Tokens that were read; one that was fitted on counts as three: it goes through forward and backward."""
        return 3 * self.trained_on + sum(one.read for one in self.inputs)


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
            begun, rng = time.perf_counter(), np.random.default_rng([seed, puzzle.checksum])
            fitted, tokens = self._fit(puzzle, rng) if self.fits and puzzle.demos else (None, 0)
            found = self._more(puzzle, rng, TaskCandidates([], fitted, tokens, 0.0))
            self._known[key] = replace(found, seconds=time.perf_counter() - begun)
            while len(self._known) > REMEMBERED:
                del self._known[next(iter(self._known))]
        return self._known[key]

    def with_more_views(self, puzzle: Puzzle, seconds: float, seed: int) -> TaskCandidates:
        """The candidates after as many further views as fit into so many seconds, the first ones included."""
        found, turn = self.candidates(puzzle, seed), 0
        while found.seconds < seconds:
            turn, begun = turn + 1, time.perf_counter()
            found = self._more(puzzle, np.random.default_rng([seed, puzzle.checksum, turn]), found)
            found = replace(found, seconds=found.seconds + time.perf_counter() - begun)
        return found

    def score(self, puzzle: Puzzle, index: int, grids: Sequence[Grid], seed: int) -> list[float]:
        """The mean log-probability of each grid as the answer to an input, by all weights that drafted."""
        known = self.candidates(puzzle, seed)
        return self._scores(puzzle, index, grids, known.inputs[index].decodings, known.fitted)

    def mend(self, puzzle: Puzzle, index: int, grids: Sequence[Grid], seed: int) -> list[Grid]:
        """What the first of some grids become where the model prefers other cells, as it was fitted; on a GPU."""
        return self._mended(puzzle, index, grids, self.candidates(puzzle, seed).fitted)

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
        """The weights after fitting, and the tokens that it took. The model is left as it was trained."""
        from hybrid.llm.grid.fitting import FittingConfig  # it imports peft, which a CPU does not need

        assert self.model.fitter is not None
        seconds = None if self.budget_seconds is None else FITTING_SHARE * self.budget_seconds
        config = FittingConfig(seconds=seconds)
        report = self.model.fit(list(puzzle.demos), rng, config, self.on_fitting)
        fitted = self.model.fitter.weights()
        self.model.reset()
        return fitted, report.tokens

    def _more(self, puzzle: Puzzle, rng: np.random.Generator, found: TaskCandidates) -> TaskCandidates:
        """What the model says after further views: at first as it was trained, then as it was fitted."""
        rounds = [found.fitted] if found.inputs or found.fitted is None else [None, found.fitted]
        inputs = []
        for index in range(len(puzzle.inputs)):
            decodings = list(found.inputs[index].decodings) if found.inputs else []
            for weights in rounds:
                with self._weights(weights):
                    views = VIEWS if weights is None else FITTED_VIEWS
                    decodings.append(self._decode(puzzle, index, rng, views))
            ranked = self._ranked(puzzle, index, decodings, found.fitted)
            earlier = found.inputs[index].judging_prompts if found.inputs else 0
            inputs.append(replace(ranked, judging_prompts=earlier + ranked.judging_prompts))
        return replace(found, inputs=inputs)

    def _decode(self, puzzle: Puzzle, index: int, rng: np.random.Generator, views: int) -> Decoding:
        """What the model, as it is now, decodes for an input; on a GPU under so many views."""
        if not self._on_gpu:
            views = _views_on_cpu(self._length(puzzle, index))
        config = ProposalConfig(views)
        (decoding,) = self.model.decode(list(puzzle.demos), [puzzle.inputs[index]], rng, config)
        return decoding

    def _ranked(
        self, puzzle: Puzzle, index: int, decodings: list[Decoding], fitted: FittedWeights | None
    ) -> InputCandidates:
        votes: Counter[GridKey] = Counter()
        grids: dict[GridKey, Grid] = {}
        for grid, count in (vote for decoding in decodings for vote in decoding.votes):
            votes[grid_key(grid)] += count
            grids[grid_key(grid)] = grid
        views = sum(len(decoding.views) for decoding in decodings)

        def scored(some: Sequence[Grid]) -> list[ProposedGrid]:
            scores = self._scores(puzzle, index, some, decodings, fitted)
            every = [
                ProposedGrid(g, votes[grid_key(g)] / views, score)
                for g, score in zip(some, scores, strict=True)
            ]
            return sorted(every, key=lambda candidate: -(candidate.score or 0.0))

        agreed = consensus([(grids[key], votes[key]) for key in grids]) if self._on_gpu else None
        if agreed is not None:
            grids.setdefault(grid_key(agreed), agreed)
        proposed = scored(list(grids.values()))
        mended = self._mended(puzzle, index, [candidate.grid for candidate in proposed], fitted)
        if new := [grid for grid in mended if grid_key(grid) not in grids]:
            proposed = sorted(proposed + scored(new), key=lambda candidate: -(candidate.score or 0.0))
        # Each judging reads all scoring views once; on a CPU it uses the prompts that were decoded.
        scorings, states = 2 if new else 1, 1 if fitted is None else 2
        judgings = scorings * states + bool(proposed) if self._on_gpu else 0
        prompts = judgings * ProposalConfig.scoring_views
        return InputCandidates(decodings, tuple(proposed), self._length(puzzle, index), prompts)

    def _mended(
        self, puzzle: Puzzle, index: int, grids: Sequence[Grid], fitted: FittedWeights | None
    ) -> list[Grid]:
        if not (self._on_gpu and grids):
            return []
        with self._weights(fitted):
            return self.model.mend(list(puzzle.demos), puzzle.inputs[index], grids[:MENDED])

    def _scores(
        self,
        puzzle: Puzzle,
        index: int,
        grids: Sequence[Grid],
        decodings: list[Decoding],
        fitted: FittedWeights | None,
    ) -> list[float]:
        """The mean over the weights: as trained, and as fitted where it was. A CPU uses the views that drafted."""
        every = []
        views = None if self._on_gpu else decodings[0].views
        for weights in (None,) if fitted is None else (None, fitted):
            with self._weights(weights):
                every.append(self.model.score(list(puzzle.demos), puzzle.inputs[index], grids, views=views))
        mean: list[float] = np.mean(every, axis=0).tolist()
        return mean

    def _length(self, puzzle: Puzzle, index: int) -> int:
        """Tokens of a prompt."""
        length = sum(map(pair_length, puzzle.demos)) + input_length(puzzle.inputs[index])
        return min(length, self.model.decoder.window)


def _views_on_cpu(length: int) -> int:
    """Few views, by the prompt's length and no clock, so that a seed always gives one answer."""
    return max(1, min(MOST_VIEWS_ON_CPU, TOKENS_ON_CPU // length))
