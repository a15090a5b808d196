"""Grids: the one currency of the project.

A `Grid` is a uint8 array [H, W] in a task's own symbols: Sudoku 0 (blank) to 9, ARC colours 0 to 9, mazes
the ASCII codes of `# SGo`. An answer is one grid for each input of a puzzle: `Grids`. Sudoku and maze have
one input, ARC one or more.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Grid: TypeAlias = NDArray[np.uint8]
Grids: TypeAlias = tuple[Grid, ...]


def first_line(error: BaseException) -> str:
    """What an error says, for one line of ours; its kind where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class PuzzleError(ValueError):
    """Input that is no puzzle, or no answer to it. The message says where, what came, what was expected."""


class GridParseError(PuzzleError):
    """Text that cannot be read as a grid."""


def as_grids(answer: Grid | Grids) -> Grids:
    """A lone grid as the one-input answer it is."""
    return (answer,) if isinstance(answer, np.ndarray) else tuple(answer)


def shape_words(grid: Grid) -> str:
    """`9x9`: rows x columns."""
    return "x".join(str(side) for side in grid.shape)
