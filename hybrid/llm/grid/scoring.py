"""How probable the model finds whole grids: the sum of log-probabilities of their tokens, averaged over views."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hybrid.llm.grid.attention import ContinuationCache, Store, hidden_states
from hybrid.llm.grid.decoding import Decoder
from hybrid.llm.grid.episodes import View, output_tokens
from hybrid.llm.grid.vocabulary import Tokens
from trm.grid import Grid

TOKENS_AT_ONCE = 4096  # of all candidates of a view that go through the model together


@torch.inference_mode()
def score_candidates(
    decoder: Decoder, prompts: Sequence[Tokens], views: Sequence[View], candidates: Sequence[Grid]
) -> NDArray[np.float64]:
    """[views, candidates]: the log-probability of each grid, row ends and `E` included, under each view.

    prompts: the same task and test input under each of `views`; they go through the model once, whatever the
    number of candidates.
    """
    scores = np.zeros((len(prompts), len(candidates)))
    if not candidates:
        return scores
    for start in range(0, len(prompts), decoder.most_rows):
        part = list(prompts[start : start + decoder.most_rows])
        store = decoder.memory.store(len(part), max(map(len, part)))
        first = decoder.prefill(part, store)
        for row, tokens in enumerate(part):
            answers = [output_tokens(views[start + row].apply(grid)) for grid in candidates]
            scores[start + row] = continuation_scores(decoder, store, row, len(tokens), first[row], answers)
    return scores


@torch.inference_mode()
def score_held(decoder: Decoder, views: Sequence[View], candidates: Sequence[Grid]) -> NDArray[np.float64]:
    """As `score_candidates`, for the prompts of the batch that was decoded last: they need not be read again."""
    held = decoder.held
    if held is None or len(held.lengths) != len(views):
        raise ValueError(f"{len(views)} views, expected those of the batch that was decoded last")
    rows = [
        continuation_scores(
            decoder,
            held.store,
            row,
            length,
            held.first[row],
            [output_tokens(view.apply(g)) for g in candidates],
        )
        for row, (view, length) in enumerate(zip(views, held.lengths, strict=True))
    ]
    return np.array(rows).reshape(len(views), len(candidates))


def continuation_scores(
    decoder: Decoder, store: Store, row: int, length: int, first: Tensor, answers: Sequence[Tokens]
) -> list[float]:
    """The log-probability of each answer after the prompt of `length` tokens in a row of the store.

    first: [V], the log-probabilities of the token after the prompt.
    """
    totals: list[Tensor] = []
    for part, owners, found in _continuations(decoder, store, row, length, answers):
        follows = _to(np.concatenate([answer[1:] for answer in part]), decoder.device)
        scores = found.gather(1, follows[:, None])[:, 0].double()
        total = first.double()[_to(np.array([answer[0] for answer in part]), decoder.device)]
        totals.append(total.index_add(0, owners, scores))
    result: list[float] = torch.cat(totals).tolist()
    return result


def continuation_distributions(
    decoder: Decoder, store: Store, row: int, length: int, first: Tensor, answers: Sequence[Tokens]
) -> list[Tensor]:
    """For each answer [T, V]: the log-probabilities of each of its tokens' alternatives, the tokens before it given.

    first: as in `continuation_scores`.
    """
    distributions: list[Tensor] = []
    for part, owners, found in _continuations(decoder, store, row, length, answers):
        distributions += [torch.cat([first[None], found[owners == n]]) for n in range(len(part))]
    return distributions


def _continuations(
    decoder: Decoder, store: Store, row: int, length: int, answers: Sequence[Tokens]
) -> Iterator[tuple[list[Tokens], Tensor, Tensor]]:
    """Some answers after the prompt in a row of the store; of each of their tokens whose it is, by its number among
    them, and [T, V] the log-probabilities of what follows it, where T leaves out each answer's last token.

    The answers stand one after the other in a single row; a mask keeps each from seeing another.
    """
    for part in _parts(answers):
        fed = [answer[:-1] for answer in part]
        owner = np.repeat(np.arange(len(part)), [len(tokens) for tokens in fed])
        offsets = np.concatenate([np.arange(len(tokens)) for tokens in fed])
        tokens = _to(np.concatenate(fed), decoder.device)
        owners, offset = _to(owner, decoder.device), _to(offsets, decoder.device)
        own = (owners[:, None] == owners) & (offset[:, None] >= offset)
        mask = torch.cat([own.new_ones(len(own), length), own], dim=1)[None, None]
        cache = ContinuationCache(store, row, length)
        hidden = hidden_states(decoder.model, tokens[None], (length + offset)[None], mask, cache)[0]
        yield part, owners, decoder.log_probabilities(hidden)


def _parts(answers: Sequence[Tokens]) -> list[list[Tokens]]:
    """The answers in order, in lists of at most TOKENS_AT_ONCE tokens where one alone is no longer."""
    parts: list[list[Tokens]] = []
    used = 0
    for answer in answers:
        if not parts or used + len(answer) > TOKENS_AT_ONCE:
            parts.append([])
            used = 0
        parts[-1].append(answer)
        used += len(answer)
    return parts


def _to(array: NDArray[np.int64], device: torch.device) -> Tensor:
    return torch.from_numpy(array).to(device)
