"""Mazes drawn for terminals, and as cells for other drawings."""

from __future__ import annotations

from trm.grid import Grid
from trm.tasks.base import Cell
from trm.tasks.maze.rules import FREE, GOAL, PATH, START, WALL, find_violations

COLOURED = {
    WALL: "\x1b[90m██\x1b[0m",
    START: "\x1b[1;33mS \x1b[0m",
    GOAL: "\x1b[1;33mG \x1b[0m",
    PATH: "\x1b[32m██\x1b[0m",
}
WRONG = "\x1b[31m██\x1b[0m"
CELLS = {
    WALL: Cell("", "wall"),
    FREE: Cell("", "free"),
    START: Cell("S", "start"),
    GOAL: Cell("G", "goal"),
    PATH: Cell("o", "path"),
}


def render(question: Grid, answer: Grid | None, colour: bool) -> str:
    """The maze itself, cells that break a rule as `!`; in colour cells are two columns wide."""
    grid = question if answer is None else answer
    found = [] if answer is None or answer.shape != question.shape else find_violations(question, answer)
    wrong = {cell for violation in found for cell in violation.cells}

    def cell(place: tuple[int, int], symbol: int) -> str:
        if place in wrong:
            return WRONG if colour else "!"
        return COLOURED.get(symbol, "  ") if colour else chr(symbol)

    rows = enumerate(grid.tolist())
    return "\n".join("".join(cell((r, c), symbol) for c, symbol in enumerate(row)) for r, row in rows)


def cells(grid: Grid) -> list[list[Cell]]:
    return [[CELLS.get(symbol, Cell("?", "free")) for symbol in row] for row in grid.tolist()]
