"""Decoding of grids, a batch of prompts at a time: greedy, with a key-value store of fixed size.

On CUDA a step (one token of every row, through the model and the choice of the next) is captured in a CUDA graph: of
such small matrices nearly all time goes into launching kernels. A model's parameters may change between calls, in
place. The whole loop looks at the device once in `CHECK_EVERY` steps.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from hybrid.llm.grid.attention import (
    Memory,
    PromptCache,
    StepCache,
    Store,
    compute_dtype,
    hidden_states,
    token_logits,
    use_grid_attention,
)
from hybrid.llm.grid.rules import GridState, Limits
from hybrid.llm.grid.vocabulary import PADDING, Tokens, parse_grid
from trm.grid import Grid

logger = logging.getLogger(__name__)

CHECK_EVERY = 16  # steps between two looks at whether all rows have ended
PREFILL_TOKENS = 65_536  # of prompts that go through the model at once


@dataclass(frozen=True)
class Prompt:
    """tokens: everything up to the `O` after which the answer comes. limits: what answers are allowed."""

    tokens: Tokens
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True)
class Decoded:
    """grid: None where it did not end within the steps allowed. log_probability: of its tokens, `E` included."""

    grid: Grid | None
    log_probability: float


@dataclass(frozen=True)
class Held:
    """Prompts that are still in the store after their answers were decoded, and what follows each: first [n, V]."""

    store: Store
    lengths: list[int]
    first: Tensor


class Decoder:
    """Decodes with one model, whose vocabulary is the sixteen words.

    model: a causal language model of the Llama kind; it is switched to evaluation. capture: whether CUDA graphs are
    used; a capture that fails turns them off, with a warning. most_rows: prompts decoded together. window: tokens
    of prompt and answer.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        most_rows: int = 16,
        window: int = 11_264,
        capture: bool = True,
    ) -> None:
        use_grid_attention(model)
        self.model = cast(PreTrainedModel, model.requires_grad_(False).train(False))
        self.device = next(model.parameters()).device
        self.most_rows, self.window = most_rows, window
        self.capture = capture and self.device.type == "cuda"
        self.memory = Memory(model.config, compute_dtype(model), self.device)
        self._loops: dict[tuple[int, int], _Loop] = {}
        self.held: Held | None = None  # the last batch that was decoded
        self.on_token: Callable[[int], None] | None = None  # takes the number of tokens decoded so far

    def log_probabilities(self, hidden: Tensor) -> Tensor:
        """Of the next token: hidden states [..., D] to [..., V] float32."""
        return token_logits(self.model, hidden).log_softmax(-1)

    @torch.inference_mode()
    def prefill(self, prompts: Sequence[Tokens], store: Store) -> Tensor:
        """Put prompt n into row n of the store; [n, V] log-probabilities of what follows each."""
        self.held = None  # all stores share their memory
        last, first = [], 0
        while first < len(prompts):
            width, end = len(prompts[first]), first + 1
            while end < len(prompts):
                wider = max(width, len(prompts[end]))
                if wider * (end + 1 - first) > PREFILL_TOKENS:
                    break
                width, end = wider, end + 1
            batch = np.full((end - first, width), PADDING, np.int64)
            for number, tokens in enumerate(prompts[first:end]):
                batch[number, : len(tokens)] = tokens
            x = torch.from_numpy(batch).to(self.device)
            positions = torch.arange(width, device=self.device)[None].expand_as(x)
            hidden = hidden_states(self.model, x, positions, None, PromptCache(store, first, end))
            ends = torch.tensor([len(tokens) - 1 for tokens in prompts[first:end]], device=self.device)
            last.append(self.log_probabilities(hidden[torch.arange(end - first, device=self.device), ends]))
            first = end
        return torch.cat(last)

    def greedy(self, prompts: Sequence[Prompt], most_tokens: int | None = None) -> list[Decoded]:
        """The grid that the most probable allowed token builds, for each prompt.

        most_tokens: an answer of more tokens is given up. Raises ValueError for a prompt that leaves no room.
        """
        decoded: list[Decoded] = []
        for first in range(0, len(prompts), self.most_rows):
            decoded += self._greedy(prompts[first : first + self.most_rows], most_tokens)
        return decoded

    @torch.inference_mode()
    def _greedy(self, prompts: Sequence[Prompt], most_tokens: int | None) -> list[Decoded]:
        most = max(prompt.limits.most_tokens for prompt in prompts)
        most = min(most, most_tokens or most)
        longest = max(len(prompt.tokens) for prompt in prompts)
        if longest + most > self.window:
            raise ValueError(f"a prompt of {longest} tokens, expected at most {self.window - most}")
        loop = self._loop(len(prompts), longest + most)
        lengths = torch.tensor([len(prompt.tokens) for prompt in prompts], device=self.device)
        scores = self.prefill([prompt.tokens for prompt in prompts], loop.store)
        self.held = Held(loop.store, [len(prompt.tokens) for prompt in prompts], scores)
        loop.begin(lengths, [prompt.limits for prompt in prompts], scores)
        taken = 1
        while taken < most:
            if taken % CHECK_EVERY == 1 and bool(loop.state.finished.all()):
                break
            (loop.replay or loop.step)()
            taken += 1
            if self.on_token is not None:
                self.on_token(taken)
        output, finished = loop.output[:, :taken].cpu().numpy(), loop.state.finished.tolist()
        totals = loop.log_probability.tolist()
        return [
            Decoded(parse_grid(output[row]) if finished[row] else None, totals[row])
            for row in range(len(prompts))
        ]

    def _loop(self, rows: int, tokens: int) -> _Loop:
        """The loop of a batch of this size, with its captured graph; few sizes, so that they are used again."""
        grain = 1024 if tokens <= 4096 else 2048
        window = min(self.window, -(-tokens // grain) * grain)
        rows = next(size for size in (1, 2, 4, 8, *range(16, rows + 16, 16)) if size >= rows)
        if (rows, window) not in self._loops:
            if self.device.type == "cuda":  # once for all sizes, so that graphs captured earlier stay valid
                self.memory.store(max(rows, self.most_rows), self.window)
            self._loops[rows, window] = self._new_loop(rows, window)
        loop = self._loops[rows, window]
        if loop.generation != self.memory.generation:
            self._loops = {(rows, window): self._new_loop(rows, window)}
        return self._loops[rows, window]

    def _new_loop(self, rows: int, window: int) -> _Loop:
        loop = _Loop(self, rows, window)
        loop.replay = self.captured(loop.step)
        return loop

    def captured(self, step: Callable[[], None]) -> Callable[[], None] | None:
        """A CUDA graph of a step on tensors at fixed addresses; None where graphs are off or the capture fails.

        The step runs, on a side stream, to warm up libraries and to be recorded: its tensors must be set afterwards.
        """
        if not self.capture:
            return None
        try:
            torch.cuda.synchronize()
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(2):
                    step()
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=stream):
                step()
        except torch.cuda.OutOfMemoryError:
            raise
        except RuntimeError as error:
            logger.warning("CUDA graph not captured (%s): decoding goes on without", error)
            self.capture = False
            return None
        return graph.replay


class _Loop:
    """The tensors of a batch that is decoded, at fixed addresses, and a step on them."""

    def __init__(self, decoder: Decoder, rows: int, window: int) -> None:
        self.decoder, device = decoder, decoder.device
        self.store = decoder.memory.store(rows, window)
        self.generation = decoder.memory.generation
        self.state = GridState(rows, device)
        self.token = torch.zeros(rows, dtype=torch.long, device=device)
        self.length = torch.zeros(rows, dtype=torch.long, device=device)  # tokens in the store
        self.output = torch.zeros(rows, Limits().most_tokens + 1, dtype=torch.long, device=device)
        self.written = torch.zeros(1, dtype=torch.long, device=device)
        self.log_probability = torch.zeros(rows, device=device)
        self.places = torch.arange(window, device=device)
        self.replay: Callable[[], None] | None = None

    def begin(self, lengths: Tensor, limits: Sequence[Limits], scores: Tensor) -> None:
        """Take up prompts that the store holds; scores [n, V]: log-probabilities of what follows them."""
        count = len(limits)
        self.state.begin(limits)
        self.length.zero_()
        self.length[:count] = lengths
        self.written.zero_()
        self.log_probability.zero_()
        every = scores.new_zeros(len(self.token), scores.shape[1])
        every[:count] = scores
        self._choose(every)

    def step(self) -> None:
        """Feed the last token of every row and choose the next."""
        mask = (self.places <= self.length[:, None])[:, None, None]
        cache = StepCache(self.store, self.length[:, None])
        hidden = hidden_states(self.decoder.model, self.token[:, None], self.length[:, None], mask, cache)
        self.length.add_(~self.state.finished)
        self._choose(self.decoder.log_probabilities(hidden[:, 0]))

    def _choose(self, scores: Tensor) -> None:
        live = ~self.state.finished
        chosen = scores.masked_fill(~self.state.allowed(), float("-inf")).argmax(-1)
        self.log_probability.add_(torch.where(live, scores.gather(1, chosen[:, None])[:, 0], 0))
        self.token.copy_(torch.where(live, chosen, PADDING))
        self.output.index_copy_(1, self.written, self.token[:, None])
        self.written.add_(1)
        self.state.advance(chosen)
