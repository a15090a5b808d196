"""Answers that a language model proposes for a task: the grids it decodes under many views, with votes and scores."""

from __future__ import annotations

import copy
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from hybrid.llm.grid.adapter import check_shape, load_merged, merge_adapter
from hybrid.llm.grid.base_weights import load_base
from hybrid.llm.grid.branching import probable_grids
from hybrid.llm.grid.decoding import Decoded, Decoder, Prompt
from hybrid.llm.grid.episodes import Pair, View
from hybrid.llm.grid.mending import mend
from hybrid.llm.grid.rules import Limits
from hybrid.llm.grid.scoring import score_candidates, score_held
from hybrid.llm.grid.views import TaskView, draw_task_views, view_prompt
from hybrid.llm.grid.vocabulary import Tokens, tables
from trm.grid import Grid, GridKey, grid_key

if TYPE_CHECKING:
    from hybrid.llm.grid.fitting import FittedWeights, Fitter, FittingConfig, FittingReport

SCORING_SEED = (
    8_000_003  # the views that score are the same for every candidate, and are not those that decode
)


@dataclass(frozen=True)
class Candidate:
    """votes: views that decoded the grid. score: mean log-probability of the whole grid over the scoring views."""

    grid: Grid
    votes: int
    score: float


@dataclass(frozen=True)
class Proposal:
    """Candidates for one test input.

    candidates: those with most votes first, of equal ones the more probable. unfinished: views whose grid did not
    end. left_out: demonstrations that did not fit into the window, at most, in any view.
    """

    candidates: list[Candidate]
    unfinished: int
    left_out: int


@dataclass(frozen=True)
class Decoding:
    """What the views of one test input decoded.

    votes: grids with the number of views that decoded each, the most voted first. unfinished, left_out, views: as in
    `Proposal`.
    """

    votes: list[tuple[Grid, int]]
    unfinished: int
    left_out: int
    views: list[TaskView]


@dataclass(frozen=True)
class ProposalConfig:
    """views: decoded. scored: candidates that are scored at most, the most voted.

    scoring_views: averaged over; 0: the views that were decoded, for which nothing is read again. branching: beside
    the greedy grid of each view all grids that are at least so probable; 0: none.
    """

    views: int = 16
    scoring_views: int = 8
    scored: int = 16
    branching: float = 0.0


class GridModel:
    """A tuned language model that proposes answers, as it was trained or fitted to a task first.

    Args:
        decoder: with the model to decode and score with; fitting rewrites that model's weights in place.
        fitter: the trainable model; None where nothing is fitted.
        base_sha256: hash of the base model's weights, which may differ from those that the adapter was trained on.
    """

    def __init__(self, decoder: Decoder, fitter: Fitter | None = None, base_sha256: str = "") -> None:
        self.decoder, self.fitter, self.base_sha256 = decoder, fitter, base_sha256
        self._held_views: list[TaskView] = []  # whose prompts the decoder holds

    @classmethod
    def load(
        cls,
        base: Path,
        adapter: Path,
        device: str = "cpu",
        *,
        dtype: torch.dtype | None = None,
        fitted: bool = True,
        capture: bool = True,
        most_rows: int = 32,
        window: int = 11_264,
        kept: bool = False,
    ) -> GridModel:
        """From the folders of a base model and an adapter (see `adapter.load_grid_model`).

        dtype: None for bfloat16 on CUDA and float32 elsewhere. kept: whether a model that is not fitted is kept
        for the next time. Raises GridModelError where the adapter does not fit the model's shape.
        """
        dtype = dtype or (torch.bfloat16 if device.startswith("cuda") else torch.float32)
        fitter = None
        if not fitted and kept:
            model, digest = load_merged(base, adapter, device, dtype)
        else:
            check_shape(base, adapter)
            model, digest = load_base(base, device, dtype)
            for table in tables(model):
                table.float()  # the two that are trained whole keep all their digits
            if fitted:
                from hybrid.llm.grid.fitting import (
                    Fitter,  # it imports peft, a second that only fitting is worth
                )

                fitter = Fitter(copy.deepcopy(model), adapter)
            merge_adapter(model, adapter)
        return cls(Decoder(model, most_rows=most_rows, window=window, capture=capture), fitter, digest)

    def fit(
        self,
        pairs: Sequence[Pair],
        rng: np.random.Generator,
        config: FittingConfig | None = None,
        on_step: Callable[[int, int], None] = lambda done, total: None,
    ) -> FittingReport:
        """Fit the adapter to a task's demonstrations until `reset`. Raises ValueError without a fitter."""
        if self.fitter is None:
            raise ValueError("this proposer was loaded without what fitting needs")
        self.fitter.reset()
        report = self.fitter.fit(pairs, rng, config, on_step)
        self.fitter.merge_into(self.decoder.model)
        return report

    def reset(self, fitted: FittedWeights | None = None) -> None:
        """Decode and score with the adapter as it was trained again, or as it was fitted earlier."""
        if self.fitter is not None:
            self.fitter.reset(fitted)
            self.fitter.merge_into(self.decoder.model)

    def propose(
        self,
        pairs: Sequence[Pair],
        questions: Sequence[Grid],
        rng: np.random.Generator,
        config: ProposalConfig | None = None,
        *,
        limits: Sequence[Limits] | None = None,
        others: Sequence[Sequence[Grid]] | None = None,
    ) -> list[Proposal]:
        """Decode all views of all test inputs in one batch, vote and score.

        Args:
            limits: for every test input which grids may come out, where its shape or symbols are known.
            others: for every test input grids from elsewhere, which are scored too and have no votes of this model.
        """
        config = config or ProposalConfig()
        if len(questions) > 1 and not config.scoring_views:
            raise ValueError("several inputs and no scoring views, expected one or the other")
        proposals = []
        for number, decoded in enumerate(self.decode(pairs, questions, rng, config, limits)):
            votes = {grid_key(grid): count for grid, count in decoded.votes}
            grids = {grid_key(grid): grid for grid, _ in decoded.votes}
            grids |= {grid_key(grid): grid for grid in (others[number] if others else ())}
            shown = None if config.scoring_views else decoded.views
            scores = self.score(pairs, questions[number], list(grids.values()), config, shown)
            candidates = [
                Candidate(grid, votes.get(key, 0), score)
                for (key, grid), score in zip(grids.items(), scores, strict=True)
            ]
            candidates.sort(key=lambda candidate: (-candidate.votes, -candidate.score))
            proposals.append(Proposal(candidates, decoded.unfinished, decoded.left_out))
        return proposals

    def decode(
        self,
        pairs: Sequence[Pair],
        questions: Sequence[Grid],
        rng: np.random.Generator,
        config: ProposalConfig,
        limits: Sequence[Limits] | None = None,
    ) -> list[Decoding]:
        """The grids that all views of all test inputs decode, in one batch: of each input `config.scored` at most."""
        views = draw_task_views(config.views, len(pairs), rng)
        bounds = list(limits) if limits is not None else [Limits()] * len(questions)
        room = self.decoder.window - max(limit.most_tokens for limit in bounds)
        shown = [
            (view_prompt(pairs, question, view, room), _turned(limit, view))
            for question, limit in zip(questions, bounds, strict=True)
            for view in views
        ]
        prompts = [Prompt(tokens, limit) for (tokens, _), limit in shown]
        branches: list[list[Decoded]] = [[] for _ in prompts]
        if config.branching:  # first, so that the decoder then holds what greedy decoding read
            branches = probable_grids(self.decoder, prompts, config.branching)
        greedy = self.decoder.greedy(prompts)
        self._held_views = views if len(questions) == 1 else []
        decodings = []
        for number in range(len(questions)):
            part = slice(number * len(views), (number + 1) * len(views))
            votes: Counter[GridKey] = Counter()
            weights: defaultdict[GridKey, float] = defaultdict(float)
            grids: dict[GridKey, Grid] = {}
            for view, result, more in zip(views, greedy[part], branches[part], strict=True):
                for decoded, weight in [
                    (result, 1.0),
                    *((branch, math.exp(branch.log_probability)) for branch in more),
                ]:
                    if decoded.grid is not None:
                        grid = view.view.invert(decoded.grid)
                        grids[grid_key(grid)] = grid
                        votes[grid_key(grid)] += decoded is result
                        weights[grid_key(grid)] += weight
            named = sorted(weights, key=lambda key: -weights[key])[: config.scored]
            unfinished = sum(result.grid is None for result in greedy[part])
            left_out = max(left for (_, left), _ in shown[part])
            decodings.append(
                Decoding([(grids[key], votes[key]) for key in named], unfinished, left_out, views)
            )
        return decodings

    def score(
        self,
        pairs: Sequence[Pair],
        question: Grid,
        grids: Sequence[Grid],
        config: ProposalConfig | None = None,
        views: list[TaskView] | None = None,
    ) -> list[float]:
        """The mean log-probability of each grid over views that are the same whatever is scored, and whenever.

        views: those decoded for this very question, in place of the scoring views. Where it was the last thing
        decoded, the prompts are not read again.
        """
        if views is not None and views is self._held_views and self.decoder.held is not None:
            return self._mean(score_held(self.decoder, _turns(views), grids))
        count = (config or ProposalConfig()).scoring_views
        shown = self._scoring_prompts(pairs, question, count, views)
        return self._mean(score_candidates(self.decoder, *shown, grids))

    def mend(self, pairs: Sequence[Pair], question: Grid, grids: Sequence[Grid]) -> list[Grid]:
        """What grids become where the scoring views together prefer other cells; see `mending.mend`."""
        return mend(
            self.decoder, *self._scoring_prompts(pairs, question, ProposalConfig.scoring_views), grids
        )

    def _scoring_prompts(
        self, pairs: Sequence[Pair], question: Grid, count: int, views: list[TaskView] | None = None
    ) -> tuple[list[Tokens], list[View]]:
        """Prompts, and how each shows its grids, of `views`, by default of those that score whatever comes."""
        if views is None:
            views = draw_task_views(count, len(pairs), np.random.default_rng(SCORING_SEED))
        room = self.decoder.window - Limits().most_tokens
        return [view_prompt(pairs, question, view, room)[0] for view in views], _turns(views)

    @staticmethod
    def _mean(scores: NDArray[np.float64]) -> list[float]:
        result: list[float] = scores.mean(0).tolist()
        return result


def _turns(views: Sequence[TaskView]) -> list[View]:
    return [view.view for view in views]


def _turned(limits: Limits, shown: TaskView) -> Limits:
    """What limits become under a view."""
    heights, widths = limits.heights, limits.widths
    if shown.view.turn & 4:
        heights, widths = widths, heights
    return Limits(heights, widths, tuple(int(shown.view.colors[cell]) for cell in limits.cells))
