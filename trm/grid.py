"""Grids: what tasks, models and files exchange.

A `Grid` is a uint8 array [H, W] in a task's own symbols: Sudoku 0 (blank) to its side, ARC colours 0 to 9, mazes
the ASCII codes of `# SGo`. An answer is one grid for each input of a puzzle: `Grids`. Sudoku and maze have
one input, ARC one or more.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Grid: TypeAlias = NDArray[np.uint8]
Grids: TypeAlias = tuple[Grid, ...]


def character(symbol: int) -> str:
    """A symbol as one character: a digit, `A` for 10 to `V` for 31 (of large Sudokus), above that its code's."""
    return str(symbol) if symbol < 10 else chr(symbol + 55 if symbol < 32 else symbol)


def first_line(error: BaseException) -> str:
    """The first line of an error's message; the name of its class if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class PuzzleError(ValueError):
    """Input that is no puzzle, or no answer to it. The message says where, what was found and what was expected."""


class GridParseError(PuzzleError):
    """Text that cannot be read as a grid."""


def as_grids(answer: Grid | Grids) -> Grids:
    """An answer as a tuple: a single grid is the answer to a puzzle with one input."""
    return (answer,) if isinstance(answer, np.ndarray) else tuple(answer)


GridKey = tuple[tuple[int, ...], bytes]


def grid_key(grid: Grid) -> GridKey:
    """Equal for equal grids alone: what dictionaries and counters of grids go by."""
    return grid.shape, grid.tobytes()


def shape_words(grid: Grid) -> str:
    """`9x9`: rows x columns."""
    return "x".join(str(side) for side in grid.shape)


def shorten(text: str, most: int = 40) -> str:
    """A text quoted for a message, cut off after `most` characters."""
    return repr(text if len(text) <= most else text[:most] + "...")
