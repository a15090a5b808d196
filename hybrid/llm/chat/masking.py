"""Keeps a local model's tokens to a form: a mask on the logits, at every step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from hybrid.llm.base import BackendError
from hybrid.llm.chat.constrained import Form

# How vocabularies write a space and a line end: byte-level BPE, SentencePiece.
_MARKS = {"Ġ": " ", "Ċ": "\n", "▁": " "}
_BYTES = {"<0x0A>": "\n", "<0x20>": " "}


class Spelling:
    """A tokenizer's tokens as texts. One serves all forms."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._by_alphabet: dict[frozenset[str], dict[str, list[tuple[int, str]]]] = {}

    @cached_property
    def _texts(self) -> dict[int, str]:
        special = set(self._tokenizer.all_special_ids)
        table = str.maketrans(_MARKS)
        vocabulary = self._tokenizer.get_vocab()
        return {
            token: _BYTES.get(piece) or piece.translate(table)
            for piece, token in vocabulary.items()
            if token not in special
        }

    def pieces(self, alphabet: frozenset[str]) -> dict[str, list[tuple[int, str]]]:
        """Tokens made of these characters alone, by their first: (token, text)."""
        if alphabet not in self._by_alphabet:
            found: dict[str, list[tuple[int, str]]] = defaultdict(list)
            for token, text in self._texts.items():
                if text and alphabet.issuperset(text):
                    found[text[0]].append((token, text))
            self._by_alphabet[alphabet] = dict(found)
        return self._by_alphabet[alphabet]

    def text(self, tokens: Sequence[int]) -> str:
        return "".join(self._texts.get(token, "") for token in tokens)

    def allowed(self, form: Form, text: str) -> list[int]:
        """The tokens all of whose characters may follow `text`; none when it is complete."""
        pieces = self.pieces(form.alphabet)
        return [
            token
            for first in form.next(text)
            for token, piece in pieces.get(first, ())
            if all(piece[i] in form.next(text + piece[:i]) for i in range(1, len(piece)))
        ]


class Mask:
    """A logits processor: every row of a batch keeps to its form (None: to none), and ends where that does."""

    def __init__(
        self, spelling: Spelling, forms: Sequence[Form | None], prompt_length: int, ends: Sequence[int]
    ) -> None:
        self._spelling, self._forms, self._start, self._ends = (
            spelling,
            list(forms),
            prompt_length,
            list(ends),
        )

    def __call__(self, ids: Any, scores: Any) -> Any:  # ids [B, L], scores [B, V] -> [B, V]
        masked = scores.new_full(scores.shape, float("-inf"))
        for row, (form, tokens) in enumerate(zip(self._forms, ids[:, self._start :].tolist(), strict=True)):
            if form is None:
                masked[row] = scores[row]
                continue
            allowed = self._ends
            if not set(self._ends) & set(tokens):
                text = self._spelling.text(tokens)
                if form.next(text):
                    allowed = self._spelling.allowed(form, text)
                    if not allowed:
                        raise BackendError(f"this model's tokenizer cannot spell what follows {text[-20:]!r}")
            masked[row, allowed] = scores[row, allowed]
        return masked
