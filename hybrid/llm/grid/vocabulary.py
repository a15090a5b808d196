"""The 16 words of the grid vocabulary, and how a causal language model is cut to them."""

from __future__ import annotations

from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from trm.grid import Grid

WORDS = (*"0123456789", "\n", "I", "O", "E", "S", "?")
# Tokens 0 to 9 are the cells of a grid. A pair of grids is written `I` rows `O` rows `E`, every row ended by NEWLINE.
NEWLINE, INPUT, OUTPUT, END, PUZZLE, BLANK = range(10, 16)
PADDING = 0  # fills up sequences of a batch; it is masked wherever it stands
CELLS = 10  # tokens below this are cells
LARGEST_SIDE = 30  # rows or columns

Tokens = NDArray[np.int64]


class VocabularyError(ValueError):
    """A tokenizer that does not have each word of the grid vocabulary as a single token."""


class Tokenizer(Protocol):
    """The part of a transformers tokenizer that is used here."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...


def word_ids(tokenizer: Tokenizer) -> list[int]:
    """The id that each of WORDS has in a model's own tokenizer. Raises VocabularyError."""
    ids = []
    for word in WORDS:
        pieces = tokenizer.encode(word, add_special_tokens=False)
        if len(pieces) != 1:
            raise VocabularyError(f"the tokenizer writes {word!r} as {len(pieces)} tokens, expected one")
        ids.append(pieces[0])
    return ids


def tables(model: PreTrainedModel) -> tuple[nn.Embedding, nn.Linear]:
    """A model's embedding and output head."""
    untyped = cast(Any, model)
    return untyped.get_input_embeddings(), untyped.get_output_embeddings()


def table_weights(model: PreTrainedModel) -> tuple[Tensor, Tensor]:
    """The weights of a model's embedding and output head."""
    embedding, head = tables(model)
    return embedding.weight, head.weight


def cut_vocabulary(model: PreTrainedModel, ids: list[int]) -> PreTrainedModel:
    """Keep the rows `ids` of a model's embedding and output head, as two separate tables, and nothing of the rest.

    The model is changed in place and returned. Where it tied the two tables, each gets its own copy.
    """
    old_embedding, old_head = table_weights(model)
    rows = torch.tensor(ids, device=old_embedding.device)
    width, dtype = old_embedding.shape[1], old_embedding.dtype
    embedding = nn.Embedding(len(ids), width, device=rows.device, dtype=dtype)
    head = nn.Linear(width, len(ids), bias=False, device=rows.device, dtype=dtype)
    with torch.no_grad():
        embedding.weight.copy_(old_embedding[rows])
        head.weight.copy_(old_head[rows])
    set_cut_config(model)
    model.set_input_embeddings(embedding)
    cast(Any, model).set_output_embeddings(head)
    return model


def set_cut_config(model: PreTrainedModel) -> PreTrainedModel:
    """Say in a model's configuration that its vocabulary is WORDS and its embedding and head are not tied."""
    for config in (model.config, model.generation_config):
        if config is not None:
            config.bos_token_id, config.eos_token_id, config.pad_token_id = None, END, BLANK
    model.config.vocab_size = len(WORDS)
    model.config.tie_word_embeddings = False
    return model


def grid_to_tokens(cells: NDArray[np.integer]) -> Tokens:
    """A grid of cell tokens [H, W] as a sequence [H · (W + 1)]: rows one after the other, each ended by NEWLINE."""
    height, width = cells.shape
    rows = np.full((height, width + 1), NEWLINE, dtype=np.int64)
    rows[:, :width] = cells
    return rows.ravel()


def parse_grid(tokens: NDArray[np.integer] | list[int]) -> Grid | None:
    """The grid that a generated sequence holds, read up to the first token that is neither cell nor NEWLINE.

    None where that is no grid: no row, an unfinished row, rows of different lengths, or more than 30 rows or columns.
    """
    rows: list[list[int]] = []
    row: list[int] = []
    for token in tokens:
        if token < CELLS:
            row.append(int(token))
        elif token == NEWLINE:
            rows.append(row)
            row = []
        else:
            break
    if row or not rows or not rows[0] or len({len(row) for row in rows}) != 1:
        return None
    if len(rows) > LARGEST_SIDE or len(rows[0]) > LARGEST_SIDE:
        return None
    return np.array(rows, dtype=np.uint8)
