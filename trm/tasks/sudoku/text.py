"""Sudoku as text: 81 characters, or nine lines with or without rulers."""

from __future__ import annotations

import numpy as np

from trm.grid import Grid, GridParseError, shorten

RULERS = frozenset(" \t|+-")
CELLS = {**dict.fromkeys("._0", 0), **{str(d): d for d in range(1, 10)}}
_CODES = np.full(128, 255, dtype=np.uint8)
_CODES[[ord(c) for c in CELLS]] = list(CELLS.values())


def read_grid(text: str) -> Grid:
    """81 characters, or nine lines, to a grid [9, 9]. Raises GridParseError."""
    if len(text) == 81 and text.isascii():  # a short cut: files hold millions of puzzles in this form
        grid = _CODES[np.frombuffer(text.encode(), dtype=np.uint8)]
        if grid.max() <= 9:
            return grid.reshape(9, 9)
    bare = ("".join(c for c in line if c not in RULERS) for line in text.splitlines())
    lines = [line for line in bare if line]
    if len(lines) == 1:
        if len(lines[0]) != 81:
            raise GridParseError(
                f"{len(lines[0])} cells, expected 81 (or nine lines): {shorten(lines[0], 24)}"
            )
        lines = [lines[0][i : i + 9] for i in range(0, 81, 9)]
    for row, line in enumerate(lines, 1):
        for column, symbol in enumerate(line, 1):
            if symbol not in CELLS:
                raise GridParseError(
                    f"row {row}, cell {column}: {symbol!r}, expected 1 to 9, or . 0 _ for a blank"
                )
        if len(line) != 9:
            raise GridParseError(f"row {row}: {len(line)} cells, expected 9: {shorten(line, 24)}")
    if len(lines) != 9:
        raise GridParseError(f"{len(lines)} rows, expected 9 (or 81 characters)")
    return np.array([[CELLS[symbol] for symbol in line] for line in lines], dtype=np.uint8)


def write_grid(grid: Grid) -> str:
    """81 characters, `.` for a blank."""
    return "".join("." if cell == 0 else str(cell) for cell in grid.reshape(-1).tolist())
