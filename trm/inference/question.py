"""What a refiner may be asked with: text, an array of the task's symbols, or a puzzle."""

from __future__ import annotations

from typing import Any

import numpy as np

from trm.data.files import detect
from trm.grid import Grid, Grids, PuzzleError
from trm.tasks import Puzzle, get

Question = str | Grid | Puzzle
GivenDraft = str | Grid | Grids


def as_puzzle(question: Question, task: str | None = None) -> Puzzle:
    """A question in whatever form it came, validated. Raises PuzzleError."""
    if isinstance(question, Puzzle):
        puzzle = question
    elif isinstance(question, str):
        puzzle = get(task or detect(question)).parse(question)
    else:
        grid = np.asarray(whole_numbers(question))
        name = task or ("sudoku" if grid.shape == (9, 9) and grid.max() <= 9 else "maze")
        puzzle = Puzzle(name, (grid,))
    get(puzzle.task).validate(puzzle)
    return puzzle


def whole_numbers(grid: Any) -> Any:
    """Arrays of whole numbers as uint8; tuples one by one."""
    if isinstance(grid, tuple):
        return tuple(whole_numbers(g) for g in grid)
    array = np.asarray(grid)
    if array.dtype != np.uint8:
        if (
            not np.issubdtype(array.dtype, np.integer)
            or array.min(initial=0) < 0
            or array.max(initial=0) > 255
        ):
            raise PuzzleError(f"grid of {array.dtype}, expected whole numbers from 0 to 255")
        array = array.astype(np.uint8)
    return array
