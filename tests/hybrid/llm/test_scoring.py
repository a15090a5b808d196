"""Scores of grids: the same as from whole sequences through the model, whatever else is scored."""

import numpy as np
import pytest
import torch

from hybrid.llm.grid import scoring
from hybrid.llm.grid.decoding import Decoder, Prompt
from hybrid.llm.grid.episodes import View, output_tokens
from hybrid.llm.grid.rules import Limits
from hybrid.llm.grid.scoring import score_candidates
from hybrid.llm.grid.views import draw_task_views, view_prompt
from hybrid.llm.grid.vocabulary import Tokens
from tests.hybrid.llm.tiny import PAIRS, QUESTION, tiny_model

CANDIDATES = [
    np.array([[1, 2, 3], [4, 5, 6]], np.uint8),
    np.array([[7]], np.uint8),
    np.array([[0, 0], [0, 1], [2, 2], [3, 0]], np.uint8),
]


def prompts_and_views(count: int) -> tuple[list[Tokens], list[View]]:
    views = draw_task_views(count, len(PAIRS), np.random.default_rng(1))
    return [view_prompt(PAIRS, QUESTION, view, 1000)[0] for view in views], [view.view for view in views]


def whole_sequence(prompt: Tokens, answer: Tokens) -> float:
    tokens = torch.from_numpy(np.concatenate([prompt, answer]))
    with torch.no_grad():
        scores = tiny_model()(input_ids=tokens[None]).logits[0].log_softmax(-1)
    places = torch.arange(len(prompt), len(tokens))
    return float(scores[places - 1, tokens[places]].sum())


@pytest.mark.parametrize("at_once", [1, 4096])
def test_scores_are_those_of_whole_sequences(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "TOKENS_AT_ONCE", at_once)
    prompts, views = prompts_and_views(5)
    scores = score_candidates(Decoder(tiny_model(), window=500, most_rows=4), prompts, views, CANDIDATES)
    assert scores.shape == (5, 3)
    for row, (prompt, view) in enumerate(zip(prompts, views, strict=True)):
        for column, grid in enumerate(CANDIDATES):
            expected = whole_sequence(prompt, output_tokens(view.apply(grid)))
            assert scores[row, column] == pytest.approx(expected, abs=1e-3)


def test_a_decoded_grid_has_the_score_that_decoding_gave_it() -> None:
    prompts, views = prompts_and_views(2)
    decoder = Decoder(tiny_model(), window=500)
    for prompt, view in zip(prompts, views, strict=True):
        (decoded,) = decoder.greedy([Prompt(prompt, Limits((1, 5), (1, 5)))])
        assert decoded.grid is not None
        score = score_candidates(decoder, [prompt], [view], [view.invert(decoded.grid)])
        assert score[0, 0] == pytest.approx(decoded.log_probability, abs=1e-3)


def test_no_candidate_no_score() -> None:
    prompts, views = prompts_and_views(2)
    assert score_candidates(Decoder(tiny_model(), window=500), prompts, views, []).shape == (2, 0)
