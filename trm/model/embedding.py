"""Everything that a network is told of a puzzle, added up: tokens, positions, draft and prefix."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trm.model.config import TRMConfig
from trm.model.layers import truncated_normal_
from trm.model.positions import cell_groups

TURNS = 8  # symmetries of a square: transposed or not, rows and columns mirrored or not


class Embedding(nn.Module):
    """Tokens, positions, draft and prefix, added up to e [B, n, D].

    A patch of several cells is the sum of their embeddings, with a table for each place in the patch.
    """

    row_of: Tensor  # [L] the row, column and box of each cell
    col_of: Tensor
    box_of: Tensor
    place_of: Tensor  # [L] the place of each cell in its patch, times the vocabulary

    def __init__(self, config: TRMConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size

        def table(rows: int) -> nn.Parameter:
            return nn.Parameter(truncated_normal_(torch.empty(rows, width), width**-0.5))

        places = config.patch**2
        self.tokens = table(places * config.vocab_size)
        if places > 1:
            cells, side = torch.arange(config.seq_len), config.patch
            row, col = cells // config.canvas_width % side, cells % config.canvas_width % side
            self.register_buffer("place_of", config.vocab_size * (row * side + col), persistent=False)
        if config.identities:
            self.identities = nn.Parameter(torch.zeros(config.identities, config.identity_dim))
            if config.turns:
                self.turns = table(TURNS)
        elif config.prefix:
            self.prefix = table(config.prefix)
        if config.positions in ("rowcol", "rowcolbox"):
            height = config.seq_len // config.canvas_width
            row, col, box = cell_groups(config)
            self.rows, self.cols = table(height), table(config.canvas_width)
            self.register_buffer("row_of", row, persistent=False)
            self.register_buffer("col_of", col, persistent=False)
            if config.positions == "rowcolbox":
                self.boxes = table(int(box.max()) + 1)
                self.register_buffer("box_of", box, persistent=False)
        if config.draft:
            # Zero, so that drafts have no effect until they are trained on. Row 0 ("unknown") is never used.
            self.draft = nn.Parameter(torch.zeros(places * config.vocab_size, width))

    def forward(self, tokens: Tensor, context: Tensor | None, draft: Tensor | None) -> Tensor:
        config = self.config
        e = self._cells(tokens, self.tokens)
        if config.positions in ("rowcol", "rowcolbox"):
            e = e + self.rows[self.row_of] + self.cols[self.col_of]
            if config.positions == "rowcolbox":
                e = e + self.boxes[self.box_of]
        if draft is not None:
            if not config.draft:
                raise ValueError("this network was not trained on drafts, expected draft=None")
            e = e + self._cells(draft, self.draft, draft != 0)
        if config.prefix:
            e = torch.cat((self._prefix(tokens, context).to(e.dtype), e), dim=1)
        return math.sqrt(config.hidden_size) * e

    def _cells(self, tokens: Tensor, table: Tensor, counted: Tensor | None = None) -> Tensor:
        """Embeddings of tokens [B, L], summed over patches: [B, L / patch², D]. Only `counted` cells add to it."""
        side = self.config.patch
        rows = F.embedding(tokens if side == 1 else tokens + self.place_of, table)
        if counted is not None:
            rows = rows * counted.unsqueeze(-1)
        if side == 1:
            return rows
        across = self.config.canvas_width // side
        split = rows.view(len(rows), -1, side, across, side, rows.shape[-1])
        return split.sum((2, 4)).flatten(1, 2) / side  # of the same size as a single cell's

    def _prefix(self, tokens: Tensor, context: Tensor | None) -> Tensor:
        config, batch = self.config, tokens.shape[0]
        if not config.identities:
            return self.prefix.expand(batch, -1, -1)
        if context is None:
            context = tokens.new_zeros(batch)
        turn = context % TURNS
        identity = context // TURNS if config.turns else context
        vector = F.embedding(identity, self.identities)
        vector = F.pad(vector, (0, config.prefix * config.hidden_size - config.identity_dim))
        rows = vector.view(batch, config.prefix, config.hidden_size)
        if config.turns:
            rows = torch.cat((rows[:, :-1], F.embedding(turn, self.turns).unsqueeze(1)), dim=1)
        return rows
