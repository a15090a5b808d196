"""Transforms of grids, each with its inverse: symmetries, views of a whole task, puzzles with more givens.

All take and return grids [H, W] of symbols; `inverse` undoes `forward` for every grid.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from trm.grid import Grid
from trm.tasks.puzzle import Puzzle

LARGEST_SCALE = 3  # a cell becomes a square of at most so many cells a side
ORIENTATIONS = 8  # the symmetries of a square
COLOURS = 10


class GridTransform(Protocol):
    """How the network sees the grids of a puzzle, and the way back for what it answers."""

    def forward(self, grid: Grid) -> Grid: ...
    def inverse(self, grid: Grid) -> Grid: ...


def _all_symbols() -> Grid:
    return np.arange(256, dtype=np.uint8)


@dataclass(frozen=True, eq=False)
class Symmetry:
    """Cells move and symbols are renamed: forward(g) = symbols[g[rows][:, cols]], transposed if `transpose`.

    rows [H], cols [W]: permutations of the grid's rows and columns. symbols [256]: what each symbol becomes.
    """

    rows: NDArray[np.int64]
    cols: NDArray[np.int64]
    transpose: bool
    symbols: Grid

    def forward(self, grid: Grid) -> Grid:
        moved = self.symbols[grid[self.rows][:, self.cols]]
        return np.ascontiguousarray(moved.T if self.transpose else moved)

    def inverse(self, grid: Grid) -> Grid:
        moved = grid.T if self.transpose else grid
        moved = moved[np.argsort(self.rows)][:, np.argsort(self.cols)]
        return np.argsort(self.symbols).astype(np.uint8)[moved]


@dataclass(frozen=True, eq=False)
class SymmetryGroup:
    """The symmetries of a task as tables, from which NumPy and the device (`trm.data.device`) both draw.

    rows [R, H], cols [C, W]: the row and column permutations to choose from. transpose: whether a transposed
    puzzle is a puzzle too. symbols: those that may be exchanged with one another.
    """

    rows: NDArray[np.int64]
    cols: NDArray[np.int64]
    transpose: bool
    symbols: tuple[int, ...] = ()

    def draw(self, rng: np.random.Generator) -> Symmetry:
        table = _all_symbols()
        if self.symbols:
            table[list(self.symbols)] = rng.permutation(np.array(self.symbols, dtype=np.uint8))
        rows, cols = (orders[rng.integers(len(orders))] for orders in (self.rows, self.cols))
        return Symmetry(rows, cols, bool(self.transpose and rng.integers(2)), table)

    def without_renaming(self) -> Iterator[Symmetry]:
        """Every symmetry that moves cells and leaves the symbols as they are, the identity first."""
        for rows, cols, transpose in product(self.rows, self.cols, (False, True)[: 1 + self.transpose]):
            yield Symmetry(rows, cols, transpose, _all_symbols())


@dataclass(frozen=True, eq=False)
class TaskView:
    """A view of a whole task: every grid is mirrored, transposed, enlarged and recoloured alike, whatever its shape.

    turn: 1 if rows are mirrored, plus 2 if columns are mirrored, plus 4 if the grid is then transposed.
    colours [256]: what each symbol becomes. scale: side of the square that a cell becomes.
    top, left: the row and column of the canvas at which the caller places the grids; they change no grid.
    """

    turn: int = 0
    colours: Grid = field(default_factory=_all_symbols)
    top: int = 0
    left: int = 0
    scale: int = 1

    def forward(self, grid: Grid) -> Grid:
        grid = grid[:: -1 if self.turn & 1 else 1, :: -1 if self.turn & 2 else 1]
        grid = grid.T if self.turn & 4 else grid
        grid = grid.repeat(self.scale, 0).repeat(self.scale, 1)
        return np.ascontiguousarray(self.colours[grid])

    def inverse(self, grid: Grid) -> Grid:
        """Any grid is accepted: each block of `scale` x `scale` cells becomes its most frequent symbol."""
        grid = shrink(grid, self.scale)
        grid = grid.T if self.turn & 4 else grid
        grid = grid[:: -1 if self.turn & 1 else 1, :: -1 if self.turn & 2 else 1]
        return np.ascontiguousarray(np.argsort(self.colours).astype(np.uint8)[grid])


IDENTITY: GridTransform = TaskView()


def shrink(grid: Grid, scale: int) -> Grid:
    """The grid with each block of `scale` x `scale` cells as one cell: its most frequent symbol, on a tie the least.

    A last row or column of blocks of which less than half is there is left out.
    """
    if scale == 1:
        return grid
    starts = [np.arange(max(1, (side + scale // 2) // scale)) * scale for side in grid.shape]
    symbols = np.unique(grid)
    counts = (grid[: starts[0][-1] + scale, : starts[1][-1] + scale, None] == symbols).astype(np.int64)
    for axis, start in enumerate(starts):
        counts = np.add.reduceat(counts, start, axis)
    return cast(Grid, symbols[counts.argmax(-1)])


def exchangeable_colours(puzzle: Puzzle) -> NDArray[np.bool_]:
    """Which of the 10 colours may be exchanged with one another in all grids of a task: those of its inputs.

    A colour that only outputs have is one that the rule names; and 0 is the background, which rules speak of.
    """
    present = {colour for before, _ in puzzle.demos for colour in np.unique(before).tolist()}
    return np.isin(np.arange(COLOURS), list(present - {0}))


def longest_test_side(puzzle: Puzzle) -> int:
    """The longest side, in cells, to expect of a test's input or output.

    The outputs of tests are not known: an output is expected to be at most as much longer than its input as in
    the demonstration with the largest growth.
    """
    growth = max(1.0, *(max(after.shape) / max(before.shape) for before, after in puzzle.demos))
    return int(max(round(max(grid.shape) * growth) for grid in puzzle.inputs))


def draw_task_view(
    puzzle: Puzzle,
    rng: np.random.Generator,
    side: int = 0,
    least: int = 0,
    recolour: float = 1.0,
    enlarged: bool = False,
) -> TaskView:
    """A random view of a task, as training draws views of its pairs (`trm.data.pairs.PairDataset`).

    side: of the canvas, over which the grids are moved too; 0 leaves them at its top left.
    least: the longest side that there must be room for, if a grid beside the tests' own is larger than those.
    recolour: probability that the exchangeable colours are exchanged.
    enlarged: whether half of the views are enlarged at random, as far as there is room.
    """
    exchanged = np.flatnonzero(exchangeable_colours(puzzle))
    colours = _all_symbols()
    if recolour == 1 or rng.random() < recolour:
        colours[exchanged] = rng.permutation(exchanged)
    turn = int(rng.integers(ORIENTATIONS))
    if not side:
        return TaskView(turn, colours)
    longest = min(side, max(longest_test_side(puzzle), least))
    scale, most = 1, min(LARGEST_SCALE, side // longest)
    if enlarged and most > 1 and rng.random() < 0.5:
        scale = int(rng.integers(1, most + 1))
    top, left = rng.integers(side - scale * longest + 1, size=2).tolist()
    return TaskView(turn, colours, top, left, scale)


@dataclass(frozen=True, eq=False)
class RestrictedTransform:
    """A transform of a puzzle with one input that shows more givens than the puzzle has.

    question, restricted [H, W]: the puzzle's own input, and the same with more cells given.
    """

    transform: GridTransform
    question: Grid
    restricted: Grid

    def forward(self, grid: Grid) -> Grid:
        return self.transform.forward(np.where(self.question != self.restricted, self.restricted, grid))

    def inverse(self, grid: Grid) -> Grid:
        back = self.transform.inverse(grid)
        return np.where(self.question != self.restricted, self.question, back)
