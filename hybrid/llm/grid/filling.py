"""Answers of a known shape, some cells of which are given: those are fed to the model, and it chooses the others.

Between two cells that are chosen, what is given goes through the model in one pass. Where most open cells are likely
to have a certain symbol (`guess`), a pass also takes the guessed cells that follow; those that the model would have
chosen itself are kept. The answer is the same as one token at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from hybrid.llm.grid.attention import StepCache, Store, hidden_states
from hybrid.llm.grid.decoding import Decoder
from hybrid.llm.grid.vocabulary import NEWLINE, PADDING, WORDS, Tokens

TEMPERATURE = 0.8  # of drafts after the first
OPEN = -1  # a token of an answer that the model chooses


@dataclass(frozen=True, eq=False)
class Blanks:
    """A prompt and its answer with open cells.

    choices: [H, W, V] bool, the tokens that each cell may have; a cell with a single one is given. guess: the token
    that open cells are likely to have, None where none is. seed: None for the likeliest tokens, else of the draws.
    """

    prompt: Tokens
    choices: NDArray[np.bool_]
    guess: int | None = None
    seed: tuple[int, ...] | None = None


class _Row:
    """An answer in the making. tokens: known so far, then OPEN. done: how many are certain. fed: how many the store
    holds."""

    def __init__(self, blanks: Blanks) -> None:
        height, width, _ = blanks.choices.shape
        self.allowed = np.zeros((height, width + 1, len(WORDS)), bool)
        self.allowed[:, :width] = blanks.choices
        self.allowed[:, width, NEWLINE] = True
        self.allowed = self.allowed.reshape(-1, len(WORDS))
        single = self.allowed.sum(1) == 1
        self.tokens = np.where(single, self.allowed.argmax(1), OPEN)
        self.noise = np.zeros(self.allowed.shape)
        if blanks.seed is not None:  # adding Gumbel noise and taking the largest draws from the distribution
            draws = np.random.default_rng(blanks.seed).gumbel(size=self.allowed.shape)
            self.noise = TEMPERATURE * draws
        self.start, self.guess = len(blanks.prompt), blanks.guess
        self.done = self.fed = 0
        self._extend()

    def _extend(self) -> None:
        """What is given after the certain tokens is certain too."""
        while self.done < len(self.tokens) and self.tokens[self.done] != OPEN:
            self.done += 1

    @property
    def complete(self) -> bool:
        return self.done == len(self.tokens)

    def block(self, guessed: int) -> list[int]:
        """The tokens of the next pass: those that are certain, and up to `guessed` after them."""
        if self.complete:
            return []
        block: list[int] = self.tokens[self.fed : self.done].tolist()
        if self.guess is not None:
            following = self.tokens[self.done : min(self.done + guessed, len(self.tokens) - 1)]
            block += np.where(following == OPEN, self.guess, following).tolist()
        return block

    def take(self, block: Sequence[int], scores: NDArray[np.floating]) -> None:
        """Choose the next cells. scores [T, V]: log-probabilities of what follows each token of the block."""
        first, place = self.fed, self.done
        while place < len(self.tokens) and place - 1 - first < len(block):
            if place > self.done and self.tokens[place - 1] != block[place - 1 - first]:
                break  # the model chose another token than was guessed: later scores are void
            if self.tokens[place] == OPEN:
                self.choose(place, scores[place - 1 - first])
            place += 1
        self.done = place
        self._extend()
        # A token that was guessed right is in the store; a wrong one is overwritten by the next pass.
        agreed = 0
        while agreed < len(block) and self.tokens[first + agreed] == block[agreed]:
            agreed += 1
        self.fed = min(first + agreed, self.done)

    def choose(self, place: int, scores: NDArray[np.floating]) -> None:
        self.tokens[place] = np.where(self.allowed[place], scores + self.noise[place], -np.inf).argmax()


@torch.inference_mode()
def fill(
    decoder: Decoder,
    puzzles: Sequence[Blanks],
    guessed: int = 32,
    on_tokens: Callable[[int], None] = lambda tokens: None,
) -> list[Tokens]:
    """The cells of each answer [H, W], as tokens. on_tokens: called with how many are certain in every answer."""
    answers: list[Tokens] = []
    for first in range(0, len(puzzles), decoder.most_rows):
        part = puzzles[first : first + decoder.most_rows]
        rows = [_Row(blanks) for blanks in part]
        _fill(decoder, [blanks.prompt for blanks in part], rows, guessed, on_tokens)
        for blanks, row in zip(part, rows, strict=True):
            height, width, _ = blanks.choices.shape
            answers.append(row.tokens.reshape(height, width + 1)[:, :width])
    return answers


def _fill(
    decoder: Decoder,
    prompts: Sequence[Tokens],
    rows: Sequence[_Row],
    guessed: int,
    on_tokens: Callable[[int], None],
) -> None:
    window = max(row.start + len(row.tokens) for row in rows) + guessed
    store = decoder.memory.store(len(rows), window)
    first = decoder.prefill(prompts, store).cpu().numpy()
    for row, scores in zip(rows, first, strict=True):
        if not row.complete and row.done == 0:
            row.choose(0, scores)
            row._extend()
    while any(not row.complete for row in rows):
        blocks = [row.block(guessed) for row in rows]
        scores = _pass(decoder, store, rows, blocks)
        for number, (row, block) in enumerate(zip(rows, blocks, strict=True)):
            if block:
                row.take(block, scores[number])
        on_tokens(min(row.done for row in rows))


def _pass(
    decoder: Decoder, store: Store, rows: Sequence[_Row], blocks: Sequence[Sequence[int]]
) -> NDArray[np.float32]:
    """Log-probabilities [B, T, V] of what follows each token of the blocks, which the store then holds."""
    width = max(map(len, blocks))
    tokens = np.full((len(rows), width), PADDING, np.int64)
    for number, block in enumerate(blocks):
        tokens[number, : len(block)] = block
    starts = np.array([row.start + row.fed for row in rows])
    places = np.minimum(starts[:, None] + np.arange(width), store.window - 1)
    where = torch.from_numpy(places).to(decoder.device)
    mask = torch.arange(store.window, device=decoder.device) <= where[:, :, None]
    hidden = hidden_states(
        decoder.model,
        torch.from_numpy(tokens).to(decoder.device),
        where,
        mask[:, None],
        StepCache(store, where),
    )
    scores: NDArray[np.float32] = decoder.log_probabilities(hidden).cpu().numpy()
    return scores
