"""ARC's pairs of grids on the device: drawn task by task, mirrored, transposed, scaled, moved and recoloured.

Both grids of a pair are always transformed alike. The network gets the task as an embedding and the orientation as a
token (`TRMConfig.turns`); the scale, the place on the canvas and the colours it has to see for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from trm.data.device import DeviceDataset, Drawn, Source, below, uniform
from trm.grid import Grid, PuzzleError
from trm.model.network import TURNS
from trm.tasks import Puzzle, Task
from trm.tasks.arc.task import END
from trm.tasks.base import IGNORE, PAD
from trm.tasks.transforms import COLOURS, LARGEST_SCALE, exchangeable_colours


class View(NamedTuple):
    """The views of B pairs, each that of a `trm.tasks.transforms.TaskView`."""

    turn: Tensor  # [B] 1 for rows mirrored + 2 for columns mirrored + 4 for then transposed
    scale: Tensor  # [B] side of the square that a cell becomes
    top: Tensor  # [B]
    left: Tensor  # [B]
    colours: Tensor  # [B, 10] what each colour becomes


def plain(batch: int, device: torch.device) -> View:
    """The views that leave grids as they are."""
    zero = torch.zeros(batch, dtype=torch.int64, device=device)
    return View(zero, zero + 1, zero, zero, torch.arange(COLOURS, device=device).expand(batch, -1))


def place(grids: Tensor, sizes: Tensor, view: View) -> Tensor:
    """Grids [B, S, S] of colours, of sizes [B, 2], under views: tokens [B, S²] with end markers, as `Arc.encode`."""
    side = grids.shape[-1]
    at = torch.arange(side, device=grids.device)
    row = (at[None] - view.top[:, None])[:, :, None]  # [B, S, 1] from the grid's first
    col = (at[None] - view.left[:, None])[:, None, :]
    flip_rows, flip_cols, transposed = ((view.turn >> bit & 1).bool()[:, None, None] for bit in range(3))
    h, w = (length[:, None, None] for length in sizes.unbind(1))
    scale = view.scale[:, None, None]
    tall, wide = torch.where(transposed, w, h) * scale, torch.where(transposed, h, w) * scale
    rows_in, cols_in = (row >= 0) & (row < tall), (col >= 0) & (col < wide)
    a, b = row // scale, col // scale
    source_row, source_col = torch.where(transposed, b, a), torch.where(transposed, a, b)
    source_row = torch.where(flip_rows, h - 1 - source_row, source_row).clamp(0, side - 1)
    source_col = torch.where(flip_cols, w - 1 - source_col, source_col).clamp(0, side - 1)
    colour = grids.flatten(1).gather(1, (source_row * side + source_col).flatten(1))
    tokens = view.colours.gather(1, colour).view(grids.shape) + END + 1
    end = ((row == tall) & cols_in) | ((col == wide) & rows_in)
    return torch.where(rows_in & cols_in, tokens, torch.where(end, END, PAD)).flatten(1)


class PairDataset(DeviceDataset):
    """The demonstrations of many ARC tasks. The index of a task's embedding is its place in the list of puzzles.

    Pairs larger than the task's canvas are left out. capacity: places for pairs (0: one for each).
    recolour: how likely the colours of a pair are permuted. balance: tasks are drawn in proportion to their number of
    pairs to this power; 0 is uniform.
    """

    def __init__(
        self,
        task: Task,
        puzzles: Sequence[Puzzle],
        augment: bool,
        device: torch.device,
        capacity: int = 0,
        recolour: float = 1.0,
        balance: float = 0.0,
    ) -> None:
        self.task, self.device, self.side = task, device, task.width
        self.recolour, self.balance = recolour, balance
        pairs = [self._fitting(puzzle) for puzzle in puzzles]
        places, side = max(capacity, sum(map(len, pairs))), self.side

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.int64, device=device)

        # Of inputs and outputs; bytes, because these hold all grids of all tasks.
        self.grids, self.sizes = zeros(2, places, side, side).to(torch.uint8), zeros(2, places, 2)
        self.counts, self.first = zeros(len(puzzles)), zeros(len(puzzles))
        self.exchangeable = zeros(len(puzzles), COLOURS).bool()
        # The numbers of the tasks with a pair.
        self.known = torch.tensor([n for n, some in enumerate(pairs) if some], device=device)
        if not len(self.known):
            raise PuzzleError(f"{task.name}: no demonstration fits a canvas of {side}x{side}")
        # Cumulative probabilities of the known tasks; the last is 1.
        self.chances = torch.zeros(len(self.known), dtype=torch.float64, device=device)
        self.replace(puzzles)
        self.augment = augment
        self.answer_tokens = torch.arange(END, task.vocab_size, device=device)
        self.changeable = torch.ones(task.vocab_size, dtype=torch.bool, device=device)
        self.renamed = torch.tensor(task.tokens(range(COLOURS)), device=device)

    def _fitting(self, puzzle: Puzzle) -> list[tuple[Grid, Grid]]:
        return [pair for pair in puzzle.demos if max(*pair[0].shape, *pair[1].shape) <= self.side]

    def replace(self, puzzles: Sequence[Puzzle]) -> None:
        """Put as many other tasks in the place of these, in the same tensors: a captured graph reads them."""
        pairs = [self._fitting(puzzle) for puzzle in puzzles]
        flat = [pair for some in pairs for pair in some]
        if len(pairs) != len(self.counts) or len(flat) > len(self) or not all(pairs[n] for n in self.known):
            expected = f"expected {len(self.counts)} with at most {len(self)}"
            raise PuzzleError(f"{len(pairs)} tasks with {len(flat)} pairs, {expected}")
        grids = np.zeros((2, len(flat), self.side, self.side), dtype=np.uint8)
        for number, pair in enumerate(flat):
            for which, grid in enumerate(pair):
                grids[which, number, : grid.shape[0], : grid.shape[1]] = grid
        sizes = [[grid.shape for grid in side] for side in zip(*flat, strict=True)]
        self.grids[:, : len(flat)] = torch.from_numpy(grids).to(self.device)
        self.sizes[:, : len(flat)] = torch.tensor(sizes, device=self.device)
        counts = torch.tensor([len(some) for some in pairs])
        self.counts.copy_(counts)
        self.first.copy_(counts.cumsum(0) - counts)
        chances = (self.counts[self.known].double() ** self.balance).cumsum(0)
        self.chances.copy_(chances / chances[-1])
        self.exchangeable.copy_(torch.from_numpy(np.array(list(map(exchangeable_colours, puzzles)))))

    def __len__(self) -> int:
        return self.grids.shape[1]

    def draw(self, batch: int, generator: Source) -> Drawn:
        """`batch` random pairs, each under its own random view; context: 8 · task + turn."""

        def under(most: Tensor) -> Tensor:
            return (uniform(generator, len(most)) * most).long().clamp(max=most - 1)

        if self.balance:
            share = uniform(generator, batch, dtype=torch.float64)
            drawn = torch.searchsorted(self.chances, share, right=True).clamp(max=len(self.known) - 1)
        else:
            drawn = below(generator, len(self.known), batch)
        which = self.known[drawn]
        index = self.first[which] + under(self.counts[which])
        view = plain(batch, self.device)
        if self.augment:
            largest = self.sizes[:, index].amax(0)  # [B, 2]
            turn = below(generator, TURNS, batch)
            largest = torch.where((turn >= 4)[:, None], largest.flip(1), largest)
            fits = (self.side // largest.amax(1)).clamp(1, LARGEST_SCALE)
            scale = torch.where(uniform(generator, batch) < 0.5, 1 + under(fits), 1)
            room = self.side - largest * scale[:, None] + 1
            colours = self.recoloured(self.exchangeable[which], generator)
            view = View(turn, scale, under(room[:, 0]), under(room[:, 1]), colours)
        both = zip(self.grids[:, index].long(), self.sizes[:, index], strict=True)
        tokens, answer = (place(grids, sizes, view) for grids, sizes in both)
        return Drawn(tokens, torch.where(answer == PAD, IGNORE, answer), which * TURNS + view.turn)

    def recoloured(self, free: Tensor, generator: Source) -> Tensor:
        """What each colour becomes [B, 10]: those that are `free` (bool [B, 10]) are permuted at random."""
        # Both orders begin with the free colours: in ascending order, and in random order.
        last = torch.arange(COLOURS, device=self.device) + 2.0
        ascending = torch.where(free, last - 2 - COLOURS, last).argsort(1)
        drawn = torch.where(free, uniform(generator, *free.shape) - 2 * COLOURS, last).argsort(1)
        colours = torch.zeros_like(ascending).scatter(1, ascending, drawn)
        if self.recolour == 1:
            return colours
        exchanged = uniform(generator, len(free), 1) < self.recolour
        return torch.where(exchanged, colours, torch.arange(COLOURS, device=self.device))


def fits(task: Task, puzzle: Puzzle) -> bool:
    """Whether the test inputs of a puzzle, and their answers where known, fit the canvas."""
    return all(map(task.fits, (*puzzle.inputs, *(puzzle.answers or ()))))
