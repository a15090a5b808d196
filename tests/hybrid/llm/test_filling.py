"""Filling in open cells gives what one token at a time gives, however much goes through the model in one pass."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hybrid.llm.grid.decoding import Decoder
from hybrid.llm.grid.episodes import puzzle_prompt
from hybrid.llm.grid.filling import Blanks, fill
from hybrid.llm.grid.vocabulary import NEWLINE, WORDS, Tokens
from tests.hybrid.llm.tiny import tiny_model


def blanks(seed: int, guess: int | None = None, draws: tuple[int, ...] | None = None) -> Blanks:
    """A random question of random shape, about a half of whose cells are open."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 6, 2)
    question = rng.integers(0, 10, (height, width))
    choices = np.eye(len(WORDS), dtype=bool)[question]
    opened = rng.random((height, width)) < 0.5
    choices[opened, :10] = True
    return Blanks(puzzle_prompt(question), choices, guess, draws)


def one_at_a_time(asked: Blanks) -> list[list[int]]:
    """The whole sequence through the model for every token that is chosen."""
    model, tokens = tiny_model(), asked.prompt.tolist()
    rows = []
    for row in asked.choices:
        cells = []
        for allowed in row:
            with torch.no_grad():
                scores = model(input_ids=torch.tensor([tokens])).logits[0, -1].numpy()
            cells.append(int(np.where(allowed, scores, -np.inf).argmax()))
            tokens.append(cells[-1])
        tokens.append(NEWLINE)
        rows.append(cells)
    return rows


@pytest.mark.parametrize("guess", [None, 0, 7])
@pytest.mark.parametrize("guessed", [1, 32])
def test_the_answer_is_that_of_one_token_at_a_time(guess: int | None, guessed: int) -> None:
    asked = [blanks(seed, guess) for seed in range(6)]
    answers = fill(Decoder(tiny_model(), window=500, most_rows=4), asked, guessed)
    assert [answer.tolist() for answer in answers] == [one_at_a_time(each) for each in asked]


def test_all_and_none_may_be_given() -> None:
    given = np.eye(len(WORDS), dtype=bool)[[[1, 2], [3, 4]]]
    anything = np.zeros((2, 2, len(WORDS)), bool)
    anything[..., :10] = True
    prompt = puzzle_prompt(np.zeros((2, 2), int))
    first, second = fill(Decoder(tiny_model(), window=100), [Blanks(prompt, given), Blanks(prompt, anything)])
    assert first.tolist() == [[1, 2], [3, 4]]
    assert second.tolist() == one_at_a_time(Blanks(prompt, anything))


def test_draws_differ_repeat_and_keep_what_is_given() -> None:
    def draw(*seeds: int) -> list[Tokens]:
        return fill(Decoder(tiny_model(), window=500), [blanks(3, 0, (seed,)) for seed in seeds])

    first, second, again = draw(1, 2, 1)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)
    choices = blanks(3).choices
    assert all(choices[row, column, second[row, column]] for row, column in np.ndindex(second.shape))
