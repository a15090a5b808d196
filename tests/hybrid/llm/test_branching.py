"""All probable grids of a model: the same as from going through every grid there can be."""

import itertools
import logging
import math

import numpy as np
import pytest
import torch

from hybrid.llm.grid.branching import probable_grids
from hybrid.llm.grid.candidates import GridModel, ProposalConfig
from hybrid.llm.grid.decoding import Decoder, Prompt
from hybrid.llm.grid.episodes import View
from hybrid.llm.grid.rules import Limits
from hybrid.llm.grid.scoring import score_candidates
from hybrid.llm.grid.views import draw_task_views, view_prompt
from hybrid.llm.grid.vocabulary import END, NEWLINE, WORDS, Tokens
from tests.hybrid.llm.tiny import PAIRS, QUESTION, tiny_model

LIMITS = Limits((1, 2), (1, 2), cells=(1, 2, 3))


class BiasedDecoder(Decoder):
    """Prefers the words of small grids, so that some grids are probable; what the model says is added, weakly."""

    def log_probabilities(self, hidden: torch.Tensor) -> torch.Tensor:
        bias = torch.full((len(WORDS),), -20.0)
        bias[[1, NEWLINE, END]], bias[[2, 3]] = 1.5, 0.0
        logits = 0.15 * super().log_probabilities(hidden) + bias
        return logits.log_softmax(-1)


def biased_decoder(window: int = 1000) -> Decoder:
    return BiasedDecoder(tiny_model(1), window=window)


def prompts(count: int) -> list[Tokens]:
    views = draw_task_views(count, len(PAIRS), np.random.default_rng(4))
    return [view_prompt(PAIRS, QUESTION, view, 1000)[0] for view in views]


def every_grid(limits: Limits) -> list[np.ndarray]:
    sizes = itertools.product(
        range(limits.heights[0], limits.heights[1] + 1), range(limits.widths[0], limits.widths[1] + 1)
    )
    return [
        np.array(cells, np.uint8).reshape(height, width)
        for height, width in sizes
        for cells in itertools.product(limits.cells, repeat=height * width)
    ]


@pytest.mark.parametrize(("threshold", "least"), [(0.0015, 18), (0.01, 3)])
def test_it_equals_exhaustive_enumeration(threshold: float, least: int) -> None:
    """least: so many grids are found, that is, the test is about something."""
    decoder = biased_decoder()
    found = probable_grids(decoder, [Prompt(p, LIMITS) for p in prompts(3)], threshold, branch_room=20)
    grids = every_grid(LIMITS)
    number = 0
    for prompt, decoded in zip(prompts(3), found, strict=True):
        scores = score_candidates(decoder, [prompt], [View()], grids)[0]
        assert all(abs(score - math.log(threshold)) > 1e-4 for score in scores), "too near to be decided"
        probable = [
            (grid.tolist(), score)
            for grid, score in zip(grids, scores, strict=True)
            if score >= math.log(threshold)
        ]
        expected = sorted(probable, key=lambda item: -item[1])
        assert [d.grid is not None and d.grid.tolist() for d in decoded] == [grid for grid, _ in expected]
        assert np.allclose([d.log_probability for d in decoded], [score for _, score in expected], atol=1e-3)
        number += len(decoded)
    assert number >= least


def test_the_greedy_grid_is_among_those_that_are_probable_enough() -> None:
    decoder = biased_decoder()
    batch = [Prompt(p, Limits((1, 4), (1, 4))) for p in prompts(4)]
    greedy = decoder.greedy(batch)
    found = probable_grids(decoder, batch, threshold=0.02, branch_room=20)
    checked = 0
    for single, several in zip(greedy, found, strict=True):
        assert single.grid is not None
        if single.log_probability > math.log(0.02):
            assert single.grid.tolist() in [d.grid.tolist() for d in several if d.grid is not None]
            checked += 1
    assert checked


def test_branches_without_room_end_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    prompt = prompts(1)[0]
    with caplog.at_level(logging.WARNING):
        probable_grids(biased_decoder(len(prompt) + 9), [Prompt(prompt, LIMITS)], 0.001)
    assert "no room" in caplog.text


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_a_threshold_that_is_none_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        probable_grids(biased_decoder(), [Prompt(prompts(1)[0])], threshold)


def test_candidates_include_probable_grids_that_no_view_names_first() -> None:
    model = GridModel(biased_decoder())

    def candidates(branching: float) -> set[bytes]:
        config = ProposalConfig(views=2, scoring_views=0, branching=branching)
        (proposal,) = model.propose(PAIRS, [QUESTION], np.random.default_rng(0), config, limits=[LIMITS])
        return {bytes(c.grid.shape) + c.grid.tobytes() for c in proposal.candidates}

    assert candidates(0.0) < candidates(0.01)
