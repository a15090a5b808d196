"""Answers that a language model proposes for a task: the grids it decodes under many views, with votes and scores."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from hybrid.llm.grid.adapter import merge_adapter, read_info
from hybrid.llm.grid.attention import use_grid_attention
from hybrid.llm.grid.base_weights import GridModelError, load_base
from hybrid.llm.grid.decoding import Decoder, Prompt
from hybrid.llm.grid.episodes import Pair
from hybrid.llm.grid.fitting import Fitter, FittingConfig, FittingReport
from hybrid.llm.grid.rules import Limits
from hybrid.llm.grid.scoring import score_candidates
from hybrid.llm.grid.views import TaskView, draw_task_views, view_prompt
from trm.grid import Grid

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

    def by_score(self) -> list[Candidate]:
        return sorted(self.candidates, key=lambda candidate: -candidate.score)


@dataclass(frozen=True)
class ProposalConfig:
    """views: decoded. scoring_views: averaged over. scored: candidates that are scored at most, the most voted."""

    views: int = 16
    scoring_views: int = 8
    scored: int = 16


class GridProposer:
    """A tuned language model that proposes answers, as it was trained or fitted to a task first.

    Args:
        decoder: with the model to decode and score with; fitting rewrites that model's weights in place.
        fitter: the trainable model; None where nothing is fitted.
    """

    def __init__(self, decoder: Decoder, fitter: Fitter | None = None) -> None:
        self.decoder, self.fitter = decoder, fitter

    @classmethod
    def load(
        cls,
        base: Path,
        adapter: Path,
        device: str = "cpu",
        *,
        fitted: bool = True,
        capture: bool = True,
        most_rows: int = 32,
        window: int = 11_264,
    ) -> GridProposer:
        """From the folders of a base model and an adapter (see `adapter.load_grid_model`). Raises GridModelError."""
        dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
        model, digest = load_base(base, device, dtype)
        trained_on = str(read_info(adapter).get("base_sha256"))
        if trained_on != digest:
            raise GridModelError(
                f"{adapter}: trained on a base model with hash {trained_on[:12]}, {base} has {digest[:12]}"
            )
        for table in (model.get_input_embeddings(), cast(Any, model).get_output_embeddings()):
            table.float()  # the two that are trained whole keep all their digits
        fitter = Fitter(copy.deepcopy(model), adapter) if fitted else None
        merge_adapter(model, adapter)
        use_grid_attention(model)
        return cls(Decoder(model, most_rows=most_rows, window=window, capture=capture), fitter)

    def fit(
        self, pairs: Sequence[Pair], rng: np.random.Generator, config: FittingConfig | None = None
    ) -> FittingReport:
        """Fit the adapter to a task's demonstrations until `reset`. Raises ValueError without a fitter."""
        if self.fitter is None:
            raise ValueError("this proposer was loaded without what fitting needs")
        self.fitter.reset()
        report = self.fitter.fit(pairs, rng, config)
        self.fitter.merge_into(self.decoder.model)
        return report

    def reset(self) -> None:
        """Decode and score with the adapter as it was trained again."""
        if self.fitter is not None:
            self.fitter.reset()
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
        views = draw_task_views(config.views, len(pairs), rng)
        bounds = list(limits) if limits is not None else [Limits()] * len(questions)
        room = self.decoder.window - max(limit.most_tokens for limit in bounds)
        shown = [
            (view_prompt(pairs, question, view, room), _turned(limit, view))
            for question, limit in zip(questions, bounds, strict=True)
            for view in views
        ]
        most = max(likely_tokens(pairs, question) for question in questions) if limits is None else None
        decoded = self.decoder.greedy([Prompt(tokens, limit) for (tokens, _), limit in shown], most)
        proposals = []
        for number, question in enumerate(questions):
            part = slice(number * len(views), (number + 1) * len(views))
            votes = Counter(
                _key(view.view.invert(result.grid))
                for view, result in zip(views, decoded[part], strict=True)
                if result.grid is not None
            )
            named = [key for key, _ in votes.most_common(config.scored)]
            named += [_key(grid) for grid in (others[number] if others else ())]
            grids = {key: np.array(key, np.uint8) for key in named}
            scores = self.score(pairs, question, list(grids.values()), config)
            candidates = [
                Candidate(grid, votes[key], score)
                for (key, grid), score in zip(grids.items(), scores, strict=True)
            ]
            candidates.sort(key=lambda candidate: (-candidate.votes, -candidate.score))
            unfinished = sum(result.grid is None for result in decoded[part])
            proposals.append(Proposal(candidates, unfinished, max(left for (_, left), _ in shown[part])))
        return proposals

    def score(
        self,
        pairs: Sequence[Pair],
        question: Grid,
        grids: Sequence[Grid],
        config: ProposalConfig | None = None,
    ) -> list[float]:
        """The mean log-probability of each grid over views that are the same whatever is scored, and whenever."""
        config = config or ProposalConfig()
        views = draw_task_views(config.scoring_views, len(pairs), np.random.default_rng(SCORING_SEED))
        room = self.decoder.window - Limits().most_tokens
        prompts = [view_prompt(pairs, question, view, room)[0] for view in views]
        scores = score_candidates(self.decoder, prompts, [view.view for view in views], grids)
        result: list[float] = scores.mean(0).tolist()
        return result


def _key(grid: Grid) -> tuple[tuple[int, ...], ...]:
    return tuple(map(tuple, grid.tolist()))


def likely_tokens(pairs: Sequence[Pair], question: Grid) -> int:
    """Tokens of the largest answer that is still likely, so that one that does not end is given up early."""
    growth = max(max(output.shape) / max(source.shape) for source, output in pairs)
    square = math.ceil((max(question.shape) * growth + 1) ** 2) + 40
    largest = 4 * max(int(output.size) for _, output in pairs) + 60
    return int(min(Limits().most_tokens, square, largest))


def _turned(limits: Limits, shown: TaskView) -> Limits:
    """What limits become under a view."""
    heights, widths = limits.heights, limits.widths
    if shown.view.turn & 4:
        heights, widths = widths, heights
    return Limits(heights, widths, tuple(int(shown.view.colors[cell]) for cell in limits.cells))
