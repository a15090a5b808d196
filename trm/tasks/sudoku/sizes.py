"""The sizes of Sudokus that are known: their boxes, units, symbols and symmetries."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import permutations, product
from math import factorial

import numpy as np
from numpy.typing import NDArray

from trm.grid import Grid, character
from trm.tasks.puzzle import Violation

MOST_MOVES = 4096  # orders of rows in a table; 16 rows have eight millions


@dataclass(frozen=True, eq=False)
class Size:
    """A grid of side x side cells, in boxes of box_height rows and box_width columns. task: its task's name."""

    task: str
    side: int
    box_height: int
    box_width: int

    @property
    def words(self) -> str:
        return f"{self.side}x{self.side}"

    @property
    def symbols(self) -> str:
        """The symbols as answers write them: digits, then letters."""
        return "".join(map(character, range(1, self.side + 1)))

    @cached_property
    def units(self) -> NDArray[np.int64]:
        """Flat cell numbers [3 side, side]: those of each row, each column, each box."""
        index = np.arange(self.side**2).reshape(self.side, self.side)
        parts = index.reshape(-1, self.box_height, self.side // self.box_width, self.box_width)
        return np.concatenate([index, index.T, parts.swapaxes(1, 2).reshape(self.side, self.side)])

    @cached_property
    def row_moves(self) -> NDArray[np.int64]:
        """The orders of rows [n, side] that move bands, and rows inside their bands."""
        return _moves(self.side // self.box_height, self.box_height)

    @cached_property
    def column_moves(self) -> NDArray[np.int64]:
        return _moves(self.side // self.box_width, self.box_width)

    @cached_property
    def _places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For every cell of every unit the cell, and its unit: for a table [symbol, unit] in one line."""
        return self.units.reshape(-1), np.repeat(np.arange(3 * self.side), self.side)

    def are_sound(self, cells: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which grids [n, side²] of 0 to side hold no symbol twice in a unit [n], as files hold millions."""
        (cell_of, unit_of), units = self._places, 3 * self.side
        entries = units * (self.side + 1)
        tables = cells[:, cell_of] * np.int64(units) + unit_of + entries * np.arange(len(cells))[:, None]
        counts = np.bincount(tables.reshape(-1), minlength=entries * len(cells)).reshape(-1, entries)
        return np.asarray(counts[:, units:].max(axis=1) < 2)

    def repeated(self, grid: Grid) -> list[Violation]:
        """The symbols that a unit of grid [side, side] holds more than once. Those above `side` are left out."""
        inside = grid.reshape(-1)[self.units]  # [3 side, side]
        counts = np.stack([(inside == symbol).sum(axis=1) for symbol in range(1, self.side + 1)], axis=1)
        violations = []
        for unit, column in np.argwhere(counts > 1).tolist():
            count, symbol = counts[unit, column], column + 1
            times = "twice" if count == 2 else f"{count} times"
            name = f"{('row', 'column', 'box')[unit // self.side]} {unit % self.side + 1}"
            cells = tuple(divmod(c, self.side) for c in self.units[unit][inside[unit] == symbol].tolist())
            violations.append(Violation(f"{name} has {character(symbol)} {times}", cells))
        return violations


def _moves(bands: int, size: int) -> NDArray[np.int64]:
    if factorial(bands) * factorial(size) ** bands > MOST_MOVES:  # the identity and a fixed choice of others
        rng = np.random.default_rng(bands)
        orders = np.array([_order(rng, bands, size) for _ in range(MOST_MOVES)])
        orders[0] = np.arange(bands * size)
        return orders
    within = list(permutations(range(size)))
    return np.array(
        [
            [size * band + row for band, order in zip(order_of_bands, orders, strict=True) for row in order]
            for order_of_bands, orders in product(permutations(range(bands)), product(within, repeat=bands))
        ]
    )


def _order(rng: np.random.Generator, bands: int, size: int) -> NDArray[np.int64]:
    return np.concatenate([size * band + rng.permutation(size) for band in rng.permutation(bands)])


SIZES = {
    size.side: size
    for size in (
        Size("sudoku", 9, 3, 3),
        Size("sudoku4", 4, 2, 2),
        Size("sudoku6", 6, 2, 3),
        Size("sudoku16", 16, 4, 4),
    )
}
