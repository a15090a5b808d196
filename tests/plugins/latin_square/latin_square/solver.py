"""An exact solver for Latin squares."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trm.grid import Grid, Grids
from trm.tasks import Puzzle


def solutions(grid: Grid) -> Iterator[Grid]:
    """Every solution of a grid [4, 4], by depth-first search."""
    blanks = np.argwhere(grid == 0)
    if not len(blanks):
        yield grid.copy()
        return
    row, column = blanks[0]
    for digit in set(range(1, len(grid) + 1)) - {*grid[row].tolist(), *grid[:, column].tolist()}:
        filled = grid.copy()
        filled[row, column] = digit
        yield from solutions(filled)


def solve(puzzle: Puzzle) -> Grids | None:
    found = next(solutions(puzzle.grid), None)
    return None if found is None else (found,)
