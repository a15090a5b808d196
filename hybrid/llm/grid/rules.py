"""Which token may follow: only rectangular grids of 1x1 to 30x30 cells come out of the language model.

The first row ends after 1 to 30 cells, every later row after just as many, and the grid ends after a whole row. The
state of a batch of rows is a handful of tensors, and all that is done with it are tensor operations, so that
a CUDA graph can hold them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hybrid.llm.grid.vocabulary import CELLS, END, LARGEST_SIDE, NEWLINE, WORDS


@dataclass(frozen=True)
class Limits:
    """Heights and widths that a grid may have, and the symbols its cells may have."""

    heights: tuple[int, int] = (1, LARGEST_SIDE)  # least and most
    widths: tuple[int, int] = (1, LARGEST_SIDE)
    cells: tuple[int, ...] = tuple(range(CELLS))

    @classmethod
    def of_shape(cls, height: int, width: int, cells: Sequence[int] = range(CELLS)) -> Limits:
        """Limits for a known shape: every row end is then fed, not chosen."""
        return cls((height, height), (width, width), tuple(cells))

    @property
    def most_tokens(self) -> int:
        return self.heights[1] * (self.widths[1] + 1) + 1


class GridState:
    """Where each of a batch of grids stands: its rows so far, the cells in its last row, its width once known."""

    def __init__(self, rows: int, device: torch.device) -> None:
        def number(value: int) -> Tensor:
            return torch.full((rows,), value, dtype=torch.long, device=device)

        self.row, self.column = number(0), number(0)
        self.width = number(0)  # not known before the first row has ended
        self.finished = torch.zeros(rows, dtype=torch.bool, device=device)
        self.least_height, self.most_height = number(1), number(LARGEST_SIDE)
        self.least_width, self.most_width = number(1), number(LARGEST_SIDE)
        self.cells = torch.zeros(rows, len(WORDS), dtype=torch.bool, device=device)

    def begin(self, limits: Sequence[Limits]) -> None:
        """Start a grid in the first len(limits) rows; the others count as finished."""
        for tensor in (self.row, self.column, self.width):
            tensor.zero_()
        self.finished.fill_(True)
        count, device = len(limits), self.row.device
        self.finished[:count] = False
        bounds = torch.tensor([(*limit.heights, *limit.widths) for limit in limits], device=device)
        targets = (self.least_height, self.most_height, self.least_width, self.most_width)
        for target, column in zip(targets, bounds.T, strict=True):
            target[:count] = column
        mask = torch.zeros(count, len(WORDS), dtype=torch.bool)
        for number, limit in enumerate(limits):
            mask[number, list(limit.cells)] = True
        self.cells[:count] = mask.to(device)

    def allowed(self) -> Tensor:
        """[B, V] bool: the tokens that may come next."""
        at_start, width_open = self.column == 0, self.width == 0
        most = torch.where(width_open, self.most_width, self.width)
        least = torch.where(width_open, self.least_width, self.width)
        cell = torch.where(at_start, self.row < self.most_height, self.column < most)
        allowed = self.cells & cell[:, None]
        allowed[:, NEWLINE] = ~at_start & (self.column >= least)
        allowed[:, END] = at_start & (self.row >= self.least_height)
        return allowed

    def advance(self, token: Tensor) -> None:
        """Take the token [B] that was chosen; finished grids stay as they are."""
        live = ~self.finished
        newline, end = live & (token == NEWLINE), live & (token == END)
        self.width.copy_(torch.where(newline & (self.width == 0), self.column, self.width))
        self.row.add_(newline)
        self.column.copy_(torch.where(newline, 0, self.column + (live & ~end)))
        self.finished.logical_or_(end)

    def reorder(self, index: Tensor) -> None:
        """Row n goes on from where row index[n] stands; both must have the same limits."""
        for tensor in (self.row, self.column, self.width):
            tensor.copy_(tensor[index])
