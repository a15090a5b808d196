"""Candidates with a few wrong cells: votes cell by cell, and the cells that views together prefer."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from hybrid.llm.grid import mending
from hybrid.llm.grid.attention import Store
from hybrid.llm.grid.decoding import Decoder
from hybrid.llm.grid.episodes import output_tokens
from hybrid.llm.grid.scoring import continuation_distributions, continuation_scores
from hybrid.llm.grid.views import draw_task_views, view_prompt
from hybrid.llm.grid.vocabulary import WORDS, Tokens
from tests.hybrid.llm.tiny import PAIRS, QUESTION, tiny_model

TRUTH = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
NEAR = np.array([[1, 2, 3], [4, 0, 0]], np.uint8)
SHOWN = draw_task_views(8, len(PAIRS), np.random.default_rng(1))
VIEWS = [shown.view for shown in SHOWN]
PROMPTS = [view_prompt(PAIRS, QUESTION, shown, 1000)[0] for shown in SHOWN]


def decoder() -> Decoder:
    return Decoder(tiny_model(), window=500)


def knowing(truth: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that finds the truth's cells likely under each view, whatever stands before them."""

    def distributions(
        decoder: Decoder, store: Store, row: int, length: int, first: Tensor, answers: Sequence[Tokens]
    ) -> list[Tensor]:
        known = torch.full((truth.size + max(truth.shape) + 9, len(WORDS)), -5.0)
        seen = output_tokens(VIEWS[row].apply(truth))
        known[torch.arange(len(seen)), torch.from_numpy(seen)] = -0.1
        return [known[: len(answer)] for answer in answers]

    monkeypatch.setattr(mending, "continuation_distributions", distributions)


def test_cells_that_all_views_prefer_are_changed_back_to_the_grids_own_turn_and_colours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    knowing(TRUTH, monkeypatch)
    (found,) = mending.mend(decoder(), PROMPTS, VIEWS, [NEAR])
    assert np.array_equal(found, TRUTH)


def test_what_is_right_already_and_what_came_before_is_not_named_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    knowing(TRUTH, monkeypatch)
    assert mending.mend(decoder(), PROMPTS, VIEWS, [TRUTH]) == []
    assert mending.mend(decoder(), PROMPTS, VIEWS, [NEAR, TRUTH]) == []
    assert len(mending.mend(decoder(), PROMPTS, VIEWS, [NEAR, NEAR + 1])) == 1


def test_a_models_own_opinion_ends_after_few_rounds_and_keeps_the_shape() -> None:
    found = mending.mend(decoder(), PROMPTS, VIEWS, [NEAR])
    assert 1 <= len(found) <= mending.ROUNDS
    assert {grid.shape for grid in found} == {NEAR.shape}
    assert not any(np.array_equal(grid, NEAR) for grid in found)


def test_distributions_are_those_that_scores_are_summed_from() -> None:
    model = decoder()
    store = model.memory.store(1, len(PROMPTS[0]))
    with torch.inference_mode():
        first = model.prefill(PROMPTS[:1], store)[0]
        answers = [output_tokens(grid) for grid in (TRUTH, NEAR, TRUTH[:1])]
        given = (model, store, 0, len(PROMPTS[0]), first, answers)
        scores, every = continuation_scores(*given), continuation_distributions(*given)
    for score, distribution, answer in zip(scores, every, answers, strict=True):
        assert distribution.shape == (len(answer), len(WORDS))
        total = distribution[torch.arange(len(answer)), torch.from_numpy(answer)].sum()
        assert float(total) == pytest.approx(score, abs=1e-4)


def test_a_consensus_takes_each_cell_from_the_grids_of_the_commonest_shape() -> None:
    first, second, third = (np.array([row], np.uint8) for row in ([1, 2, 9], [1, 8, 3], [7, 2, 3]))
    agreed = mending.consensus([(first, 2), (second, 2), (third, 2), (np.array([[5]], np.uint8), 4)])
    assert agreed is not None
    assert agreed.tolist() == [[1, 2, 3]]
    one = mending.consensus([(first, 1), (np.array([[5]], np.uint8), 4)])
    assert one is not None
    assert one.tolist() == [[5]]
    assert mending.consensus([]) is None
