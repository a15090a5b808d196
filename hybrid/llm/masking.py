"""Constrained decoding on this machine: at every step only tokens that keep a reply to its format."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import llguidance
import numpy as np
import torch
from torch import Tensor

from hybrid.llm.base import BackendError, ReplyFormat

# How vocabularies write spaces and line ends: byte-level BPE, SentencePiece.
_MARKS = str.maketrans({"Ġ": " ", "Ċ": "\n", "▁": " "})
_BYTES = {"<0x0A>": "\n", "<0x20>": " "}


class _Vocabulary:
    """A tokenizer's tokens as bytes, as llguidance asks for them.

    `llguidance.hf` would read them from the tokenizer's JSON: for Qwen 2.4 s of processor time instead of 0.6 s.
    """

    bos_token_id = None

    def __init__(self, tokenizer: Any, end: int) -> None:
        pieces = tokenizer.get_vocab()
        self.eos_token_id = end
        self.tokens = [b""] * (max(pieces.values()) + 1)
        for piece, token in pieces.items():
            self.tokens[token] = (_BYTES.get(piece) or piece.translate(_MARKS)).encode()
        self.special_token_ids = sorted({*tokenizer.all_special_ids, end})

    def __call__(self, text: str) -> list[int]:
        """Never needed: the grammars are over bytes and force no tokens."""
        return []


def grammar_vocabulary(tokenizer: Any, end: int) -> llguidance.LLTokenizer:
    """The vocabulary of a transformers tokenizer, for `FormatMask`. end: the token that ends a reply."""
    return llguidance.LLTokenizer(llguidance.TokenizerWrapper(_Vocabulary(tokenizer, end)), slices=[])


class FormatMask:
    """A logits processor: each row of a batch keeps to its format (None: to none) and ends where that ends."""

    def __init__(
        self, vocabulary: llguidance.LLTokenizer, formats: Sequence[ReplyFormat | None], ends: Sequence[int]
    ) -> None:
        """ends: the tokens that end a reply, the vocabulary's own end among them."""
        self._matchers = [
            None if format is None else llguidance.LLMatcher(vocabulary, _grammar(format))
            for format in formats
        ]
        self._ends = list(ends)
        self._started = False

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:  # ids [B, L], scores [B, V] -> [B, V]
        forbidden = np.zeros(scores.shape, dtype=bool)
        for row, (matcher, token) in enumerate(zip(self._matchers, ids[:, -1:].tolist(), strict=True)):
            if matcher is None:
                continue
            if self._started and not matcher.is_stopped():
                matcher.consume_token(token[0])
            forbidden[row] = True
            forbidden[row, self._allowed(matcher, scores.shape[1])] = False
        self._started = True
        return scores.masked_fill(torch.from_numpy(forbidden).to(scores.device), float("-inf"))

    def _allowed(self, matcher: llguidance.LLMatcher, size: int) -> list[int]:
        if matcher.is_stopped() and not matcher.is_error():
            return self._ends
        bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
        allowed: list[int] = np.flatnonzero(np.unpackbits(bits, bitorder="little")[:size]).tolist()
        if matcher.is_error() or not allowed:
            raise BackendError(
                f"this model's tokenizer cannot write the answer's format {matcher.get_error()}"
            )
        return allowed


def _grammar(format: ReplyFormat) -> str:
    """As Lark grammar. Without `no_forcing` only one way to split the text into tokens would be allowed."""
    regex = format.regex.replace("/", r"\/").replace("\n", r"\n")
    return llguidance.LLMatcher.grammar_from_lark(f'%llguidance {{"no_forcing": true}}\nstart: /{regex}/')
