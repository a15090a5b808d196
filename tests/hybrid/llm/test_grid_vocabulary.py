"""Cutting a model to the grid vocabulary, and grids as tokens."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from hybrid.llm.grid.vocabulary import (
    END,
    NEWLINE,
    OUTPUT,
    WORDS,
    VocabularyError,
    cut_vocabulary,
    grid_to_tokens,
    parse_grid,
    word_ids,
)


class Letters:
    """A tokenizer whose token is a character's code; `two` is written as two tokens."""

    def __init__(self, two: str = "") -> None:
        self.two = two

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return [1, 2] if text == self.two else [ord(letter) for letter in text]


def small_model(tied: bool) -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=128,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            tie_word_embeddings=tied,
        )
    ).eval()


@pytest.mark.parametrize("tied", [True, False])
def test_a_cut_model_gives_the_logits_of_the_kept_words(tied: bool) -> None:
    model, ids = small_model(tied), word_ids(Letters())
    text = torch.tensor([[ids[3], ids[NEWLINE], ids[OUTPUT]]])
    with torch.inference_mode():
        before = model(input_ids=text).logits[..., ids]
        cut_vocabulary(model, ids)
        after = model(input_ids=torch.tensor([[3, NEWLINE, OUTPUT]])).logits
    assert after.shape[-1] == len(WORDS)
    torch.testing.assert_close(before, after)


def test_embedding_and_head_of_a_cut_model_are_separate() -> None:
    model = cut_vocabulary(small_model(tied=True), word_ids(Letters()))
    with torch.no_grad():
        model.get_output_embeddings().weight.zero_()
    assert model.get_input_embeddings().weight.abs().sum() > 0


def test_a_word_of_two_tokens_is_refused() -> None:
    with pytest.raises(VocabularyError, match="2 tokens"):
        word_ids(Letters(two="?"))


def test_grids_come_back_from_their_tokens() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        grid = rng.integers(0, 10, rng.integers(1, 31, 2)).astype(np.uint8)
        assert np.array_equal(parse_grid([*grid_to_tokens(grid), END]), grid)


@pytest.mark.parametrize("tokens", [[], [END], [1, 2, END], [1, 2, NEWLINE, 3, NEWLINE, END], [NEWLINE, END]])
def test_what_is_no_rectangle_is_no_grid(tokens: list[int]) -> None:
    assert parse_grid(tokens) is None
