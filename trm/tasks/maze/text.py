"""Mazes as text: rows of `#` wall, space, `S`, `G` and, in answers, `o` path. Spaces are cells, never stripped."""

from __future__ import annotations

from math import isqrt

import numpy as np

from trm.grid import Grid, GridParseError, shape_words
from trm.tasks.maze.rules import LEAST, MOST

QUESTION, ANSWER = "# SG", "# SGo"  # the characters of each


def _lines(text: str) -> list[str]:
    """The lines of a grid without the empty lines around it."""
    return text.replace("\r\n", "\n").strip("\n").split("\n")


def read_rows(lines: list[str], allowed: str) -> Grid:
    """Lines of equal length, of the allowed characters, to a grid of their codes. Raises GridParseError."""
    width = len(lines[0])
    for number, line in enumerate(lines, 1):
        for column, symbol in enumerate(line, 1):
            if symbol not in allowed:
                raise GridParseError(f"row {number}, cell {column}: {symbol!r}, expected one of {allowed!r}")
        if len(line) != width:
            raise GridParseError(f"row {number}: {len(line)} cells, expected {width} as in row 1: {line!r}")
    return np.frombuffer("".join(lines).encode(), dtype=np.uint8).reshape(len(lines), width).copy()


def read_question(text: str) -> Grid:
    """A maze by lines, or a square one as a single line. Raises GridParseError."""
    lines = _lines(text)
    if lines == [""]:
        raise GridParseError(f"an empty maze, expected lines of {QUESTION!r}")
    side = isqrt(len(lines[0]))
    if len(lines) == 1 and side >= LEAST and side * side == len(lines[0]):  # no maze has one row: flat
        lines = [lines[0][i : i + side] for i in range(0, side * side, side)]
    grid = read_rows(lines, QUESTION)
    if not all(LEAST <= n <= MOST for n in grid.shape):
        raise GridParseError(f"maze of {shape_words(grid)}, expected {LEAST}x{LEAST} to {MOST}x{MOST}")
    return grid


def read_answer(text: str, shape: tuple[int, ...]) -> Grid:
    """An answer of this shape by lines or as a single line. Spaces lost at the ends of rows are put back; leading
    ones count. Raises GridParseError."""
    height, width = shape
    lines = _lines(text)
    if len(lines) == 1 and len(lines[0]) > width:
        flat = lines[0].ljust(height * width)
        lines = [flat[i : i + width] for i in range(0, len(flat), width)]
    elif len(lines) < height:  # rows of spaces at the top or bottom may have become empty lines
        lines = text.replace("\r\n", "\n").split("\n")
        lines = lines[:-1] if len(lines) > height and not lines[-1] else lines
    if len(lines) != height:
        raise GridParseError(f"{len(lines)} rows, expected {height}")
    for number, line in enumerate(lines, 1):
        if len(line) > width:
            raise GridParseError(f"row {number}: {len(line)} cells, expected {width}: {line[:40]!r}")
    return read_rows([line.ljust(width) for line in lines], ANSWER)


def write_grid(grid: Grid) -> str:
    """The rows joined by newlines."""
    return "\n".join("".join(map(chr, row)) for row in grid.tolist())
