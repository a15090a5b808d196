"""Greedy decoding of grids: the same as one token at a time without a cache, and nothing but grids."""

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from hybrid.llm.grid.decoding import Decoder, Prompt
from hybrid.llm.grid.rules import GridState, Limits
from hybrid.llm.grid.views import draw_task_views, view_prompt
from hybrid.llm.grid.vocabulary import END, NEWLINE, WORDS, Tokens, parse_grid
from tests.hybrid.llm.tiny import PAIRS, QUESTION, tiny_model


def plain_greedy(model: PreTrainedModel, prompt: Tokens, limits: Limits) -> tuple[list[int], float]:
    """The whole sequence through the model for every token."""
    state = GridState(1, torch.device("cpu"))
    state.begin([limits])
    tokens: list[int] = []
    total = 0.0
    while not state.finished.item():
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([[*prompt.tolist(), *tokens]])).logits[0, -1]
        scores = logits.log_softmax(-1)
        token = scores.masked_fill(~state.allowed()[0], float("-inf")).argmax()
        total += scores[token].item()
        tokens.append(int(token))
        state.advance(token[None])
    return tokens, total


def prompts(count: int) -> list[Tokens]:
    views = draw_task_views(count, len(PAIRS), np.random.default_rng(0))
    return [view_prompt(PAIRS, QUESTION, view, 1000)[0] for view in views]


def test_a_batch_is_decoded_as_one_token_at_a_time_without_a_cache() -> None:
    limits = [
        Limits(heights=(1, 4), widths=(1, 5)),
        Limits.of_shape(3, 2),
        Limits(heights=(2, 3), widths=(3, 9)),
    ]
    expected = [plain_greedy(tiny_model(), p, limit) for p, limit in zip(prompts(3), limits, strict=True)]
    decoder = Decoder(tiny_model(), window=500)
    batch = [Prompt(p, limit) for p, limit in zip(prompts(3), limits, strict=True)]
    for decoded, (tokens, total) in zip(decoder.greedy(batch), expected, strict=True):
        grid = parse_grid(tokens)
        assert decoded.grid is not None
        assert grid is not None
        assert decoded.grid.tolist() == grid.tolist()
        assert decoded.log_probability == pytest.approx(total, abs=1e-3)


def test_a_row_does_not_depend_on_its_batch_nor_on_what_was_decoded_before() -> None:
    limits = Limits(heights=(1, 6), widths=(1, 6))
    decoder = Decoder(tiny_model(), window=500, most_rows=2)
    together = decoder.greedy([Prompt(p, limits) for p in prompts(5)])
    alone = [decoder.greedy([Prompt(p, limits)])[0] for p in prompts(5)]
    for first, second in zip(together, alone, strict=True):
        assert np.array_equal(first.grid, second.grid)
        assert first.log_probability == pytest.approx(second.log_probability, abs=1e-3)


@pytest.mark.parametrize("seed", [0, 2])
def test_only_grids_come_out_of_a_model_that_has_learned_nothing(seed: int) -> None:
    decoder = Decoder(tiny_model(seed), window=2000)
    for decoded in decoder.greedy([Prompt(p) for p in prompts(4)]):
        assert decoded.grid is not None
        assert 1 <= decoded.grid.shape[0] <= 30
        assert 1 <= decoded.grid.shape[1] <= 30


def test_a_known_shape_and_known_symbols_are_kept_to() -> None:
    limits = Limits.of_shape(9, 9, cells=range(1, 10))
    (decoded,) = Decoder(tiny_model(), window=500).greedy([Prompt(prompts(1)[0], limits)])
    assert decoded.grid is not None
    assert decoded.grid.shape == (9, 9)
    assert decoded.grid.min() >= 1


def test_an_answer_longer_than_allowed_is_given_up() -> None:
    (decoded,) = Decoder(tiny_model(), window=500).greedy([Prompt(prompts(1)[0], Limits.of_shape(5, 5))], 10)
    assert decoded.grid is None


def test_a_prompt_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(ValueError, match="tokens, expected at most"):
        Decoder(tiny_model(), window=40).greedy([Prompt(prompts(1)[0])])


def test_row_ends_are_forced_by_the_first_row() -> None:
    state = GridState(1, torch.device("cpu"))
    state.begin([Limits()])

    def words() -> set[int]:
        return set(state.allowed()[0].nonzero()[:, 0].tolist())

    cells = set(range(10))
    assert words() == cells
    for token, expected in [
        (3, cells | {NEWLINE}),
        (3, cells | {NEWLINE}),
        (NEWLINE, cells | {END}),
        (1, cells),
        (1, {NEWLINE}),
        (NEWLINE, cells | {END}),
    ]:
        state.advance(torch.tensor([token]))
        assert words() == expected
    state.advance(torch.tensor([END]))
    assert state.finished.item()


def test_no_row_and_no_grid_grows_beyond_thirty() -> None:
    state = GridState(1, torch.device("cpu"))
    state.begin([Limits()])
    for _ in range(30):
        state.advance(torch.tensor([0]))
    assert state.allowed()[0].nonzero()[:, 0].tolist() == [NEWLINE]
    state.advance(torch.tensor([NEWLINE]))
    for _ in range(29):
        for token in [0] * 30 + [NEWLINE]:
            state.advance(torch.tensor([token]))
    assert state.allowed()[0].nonzero()[:, 0].tolist() == [END]
    assert state.allowed().shape == (1, len(WORDS))


def test_demonstrations_that_do_not_fit_are_left_out_and_counted() -> None:
    view = draw_task_views(1, len(PAIRS), np.random.default_rng(0))[0]
    whole, none_left_out = view_prompt(PAIRS, QUESTION, view, 1000)
    short, left_out = view_prompt(PAIRS, QUESTION, view, 30)
    assert none_left_out == 0
    assert left_out > 0
    assert len(short) <= 30 < len(whole)
