"""ARC's grids drawn for terminals, and as cells for other drawings."""

from __future__ import annotations

from itertools import zip_longest

from trm.grid import Grid, Grids
from trm.tasks.arc.text import problem
from trm.tasks.base import Cell
from trm.tasks.puzzle import Puzzle

PALETTE = ("000000", "0074d9", "ff4136", "2ecc40", "ffdc00", "aaaaaa", "f012be", "ff851b", "7fdbff", "870c25")


def _lines(grid: Grid, colour: bool) -> list[str]:
    """Lines of 2 * W columns: digits, or coloured cells."""
    if not colour or problem(grid):
        return [" ".join(map(str, row)) + " " for row in grid.tolist()]
    cells = [f"\x1b[48;2;{';'.join(str(b) for b in bytes.fromhex(code))}m  " for code in PALETTE]
    return ["".join(cells[c] for c in row) + "\x1b[0m" for row in grid.tolist()]


def _pair(left: Grid, right: Grid, colour: bool) -> str:
    """Two grids side by side, with an arrow between their first lines."""
    both = zip_longest(_lines(left, colour), _lines(right, colour))
    blank = " " * 2 * left.shape[1]
    lines = [
        (blank if a is None else a) + (" →  ", "    ")[i > 0] + (b or "") for i, (a, b) in enumerate(both)
    ]
    return "\n".join(line.rstrip(" ") for line in lines)


def render(puzzle: Puzzle, grids: Grids | None, colour: bool) -> str:
    """Demonstrations and test inputs; with an answer, the test inputs beside it."""
    if grids:
        return "\n\n".join(_pair(*pair, colour) for pair in zip(puzzle.inputs, grids, strict=False))
    parts = [f"demonstration {n}\n{_pair(*pair, colour)}" for n, pair in enumerate(puzzle.demos, 1)]
    for n, grid in enumerate(puzzle.inputs, 1):
        parts.append("\n".join([f"test {n}", *(line.rstrip(" ") for line in _lines(grid, colour))]))
    return "\n\n".join(parts)


def cells(grid: Grid) -> list[list[Cell]]:
    return [[Cell("", "colour", f"#{PALETTE[colour]}") for colour in row] for row in grid.tolist()]
