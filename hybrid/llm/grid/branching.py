"""All grids that a model gives more than some probability, instead of the single one that greedy decoding finds.

Every prefix of a grid that is at least as probable as the threshold is continued with every token that keeps it so.
The prefixes of a prompt grow by a token at a time together: at any length there are at most 1 / threshold of them,
for their probabilities add up to 1 at most, so that a fixed number of branches a prompt is enough. The tokens of all
branches lie one after the other behind their prompt in the key-value store, and a mask lets each branch see its own.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from hybrid.llm.grid.attention import StepCache, hidden_states
from hybrid.llm.grid.decoding import CHECK_EVERY, Decoded, Decoder, Prompt
from hybrid.llm.grid.rules import GridState, Limits
from hybrid.llm.grid.vocabulary import END, WORDS, parse_grid

logger = logging.getLogger(__name__)


def probable_grids(
    decoder: Decoder,
    prompts: Sequence[Prompt],
    threshold: float = 0.1,
    most_tokens: int | None = None,
    branch_room: float = 3.0,
) -> list[list[Decoded]]:
    """For each prompt all grids of at least that probability, the most probable first.

    Args:
        threshold: above 0, below 1; the product of the probabilities of a grid's tokens, `E` included.
        most_tokens: an answer of more tokens is given up.
        branch_room: the tokens of all branches of a prompt, as a multiple of the longest answer; beyond it branches
            end unfinished, with a warning.

    Raises:
        ValueError: for a threshold out of range, or a prompt that leaves no room.
    """
    if not 0 < threshold < 1:
        raise ValueError(f"a threshold of {threshold}, expected more than 0 and less than 1")
    found: list[list[Decoded]] = []
    for first in range(0, len(prompts), decoder.most_rows):
        part = prompts[first : first + decoder.most_rows]
        most = max(prompt.limits.most_tokens for prompt in part)
        most = min(most, most_tokens or most)
        found += _probable(decoder, part, threshold, most, math.ceil(branch_room * most))
    return found


@torch.inference_mode()
def _probable(
    decoder: Decoder, prompts: Sequence[Prompt], threshold: float, most: int, branch_room: int
) -> list[list[Decoded]]:
    branches = math.floor(1 / threshold)
    longest = max(len(prompt.tokens) for prompt in prompts)
    if longest + most >= decoder.window:
        raise ValueError(f"a prompt of {longest} tokens, expected at most {decoder.window - most - 1}")
    room = min(max(branch_room, branches), decoder.window - longest - 1)
    run = _Branches(decoder, (len(prompts), branches), longest + room + 1, most, math.log(threshold))
    scores = decoder.prefill([prompt.tokens for prompt in prompts], run.store)
    lengths = torch.tensor([len(prompt.tokens) for prompt in prompts], device=decoder.device)
    limits = [prompt.limits for prompt in prompts]
    run.begin(lengths, limits, scores)
    replay = decoder.captured(run.step)
    if replay is not None:  # what was recorded has moved the branches on
        run.begin(lengths, limits, scores)
    for taken in range(1, most):
        if taken % CHECK_EVERY == 1 and not bool(run.alive().any()):
            break
        (replay or run.step)()
    if bool(run.overflowed):
        logger.warning("branches ended unfinished after %d tokens of a prompt: no room for more", room)
    return run.results()


class _Branches:
    """The branches of a batch of prompts, as tensors at fixed addresses, and a step that grows each by a token.

    B prompts of K branches each; a branch without a score (minus infinity) is dead, and its slot free.
    """

    def __init__(
        self, decoder: Decoder, size: tuple[int, int], window: int, most: int, least_score: float
    ) -> None:
        self.decoder, self.size, self.window, self.least_score = decoder, size, window, least_score
        device = decoder.device
        self.store = decoder.memory.store(size[0], window)
        self.state = GridState(size[0] * size[1], device)
        self.score = torch.zeros(size, device=device)
        self.token = torch.zeros(size, dtype=torch.long, device=device)
        self.sees = torch.zeros(*size, window, dtype=torch.bool, device=device)  # places in the store
        self.length = torch.zeros(size[0], dtype=torch.long, device=device)  # of the prompt
        self.used = torch.zeros(size[0], dtype=torch.long, device=device)  # places behind the prompt
        self.depth = torch.zeros(1, dtype=torch.long, device=device)  # tokens in every branch
        self.overflowed = torch.zeros((), dtype=torch.bool, device=device)
        history = (size[0], most, size[1])  # by the number of tokens before
        self.tokens = torch.zeros(history, dtype=torch.long, device=device)
        self.parents = torch.zeros(history, dtype=torch.long, device=device)
        self.ended = torch.zeros(history, device=device)  # the score of the grid that ends here
        self.row_of = torch.arange(size[0], device=device)[:, None]

    def begin(self, lengths: Tensor, limits: Sequence[Limits], scores: Tensor) -> None:
        """Start from prompts that the store holds; scores [B, V]: log-probabilities of what follows them."""
        self.state.begin([limit for limit in limits for _ in range(self.size[1])])
        self.score.fill_(float("-inf"))
        self.score[:, 0] = 0
        self.length.copy_(lengths)
        self.sees.copy_((torch.arange(self.window, device=lengths.device) < lengths[:, None])[:, None])
        for tensor in (self.used, self.depth, self.overflowed):
            tensor.zero_()
        self.ended.fill_(float("-inf"))
        self._choose(scores[:, None].expand(-1, self.size[1], -1))

    def alive(self) -> Tensor:
        return self.score > float("-inf")  # [B, K]

    def step(self) -> None:
        """Feed the last token of every branch and choose what to continue with."""
        alive = self.alive()
        place = (self.length + self.used)[:, None] + alive.cumsum(1) - 1
        last = self.window - 1  # where dead branches write, and nothing is read
        fits = alive & (place < last)
        self.overflowed.logical_or_((alive & ~fits).any())
        self.score.masked_fill_(~fits, float("-inf"))
        place = torch.where(fits, place, last)
        self.sees.scatter_(2, place[:, :, None], fits[:, :, None])
        self.used.add_(fits.sum(1))
        positions = (self.length[:, None] + self.depth - 1).expand(self.size)
        cache = StepCache(self.store, place)
        hidden = hidden_states(self.decoder.model, self.token, positions, self.sees[:, None], cache)
        self._choose(self.decoder.log_probabilities(hidden))

    def _choose(self, scores: Tensor) -> None:
        """scores [B, K, V]: keep the continuations of all branches that are probable enough."""
        total = self.score[:, :, None] + scores
        total = total.masked_fill(~self.state.allowed().view(total.shape), float("-inf"))
        total = total.masked_fill(total < self.least_score, float("-inf"))
        self.ended.index_copy_(1, self.depth, total[:, None, :, END])
        total[:, :, END] = float("-inf")
        best, index = total.flatten(1).topk(self.size[1])
        parent = index // len(WORDS)
        # A dead branch takes a cell, whatever comes first among the impossible: its slot must not count as finished.
        token = torch.where(best > float("-inf"), index % len(WORDS), 0)
        self.score.copy_(best)
        self.token.copy_(token)
        self.parents.index_copy_(1, self.depth, parent[:, None])
        self.tokens.index_copy_(1, self.depth, token[:, None])
        self.depth.add_(1)
        self.sees.copy_(self.sees[self.row_of, parent])
        self.state.reorder((self.row_of * self.size[1] + parent).flatten())
        self.state.advance(token.flatten())

    def results(self) -> list[list[Decoded]]:
        """The grids that ended, for every prompt."""
        tokens, parents, ended = (part.cpu().numpy() for part in (self.tokens, self.parents, self.ended))
        found: list[list[Decoded]] = [[] for _ in range(self.size[0])]
        for prompt, length, branch in np.argwhere(ended > -np.inf):
            answer: list[int] = []
            place = branch
            for step in range(length - 1, -1, -1):
                answer.append(int(tokens[prompt, step, place]))
                place = parents[prompt, step, place]
            score = float(ended[prompt, length, branch])
            found[prompt].append(Decoded(parse_grid([*answer[::-1], END]), score))
        return [sorted(grids, key=lambda decoded: -decoded.log_probability) for grids in found]
