"""Sudoku drawn for terminals, and as cells for other drawings."""

from __future__ import annotations

from trm.grid import Grid
from trm.tasks.base import Cell
from trm.tasks.sudoku.rules import find_violations
from trm.tasks.sudoku.text import write_grid

GIVEN, FILLED, WRONG, PLAIN = "\x1b[1m", "\x1b[36m", "\x1b[1;31m", "\x1b[0m"


def render(question: Grid, answer: Grid | None, colour: bool) -> str:
    """Nine lines with rulers between boxes. Cells that break a rule are red, or followed by `!`."""
    grid = question if answer is None else answer
    if grid.shape != (9, 9):
        return write_grid(grid)
    found = [] if answer is None else find_violations(question, answer)
    wrong = {cell for violation in found for cell in violation.cells}

    def cell(row: int, column: int) -> str:
        symbol = str(grid[row, column] or ".")
        if not colour:
            return symbol + ("!" if (row, column) in wrong else " ")
        style = WRONG if (row, column) in wrong else GIVEN if question[row, column] else FILLED
        return f"{style}{symbol}{PLAIN} "

    lines = []
    for row in range(9):
        if row in (3, 6):
            lines.append("------+-------+------")
        boxes = ("".join(cell(row, column) for column in range(left, left + 3)) for left in (0, 3, 6))
        lines.append("| ".join(boxes).rstrip())
    return "\n".join(lines)


def cells(grid: Grid, question: Grid | None) -> list[list[Cell]]:
    given = grid if question is None else question
    kinds = [["given" if symbol else "filled" for symbol in row] for row in given.tolist()]
    return [
        [Cell(str(symbol), kind) if symbol else Cell("", "blank") for symbol, kind in zip(*pair, strict=True)]
        for pair in zip(grid.tolist(), kinds, strict=True)
    ]
