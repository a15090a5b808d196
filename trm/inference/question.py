"""What a refiner takes as a question or a draft: text, an array of the task's symbols, or a puzzle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trm.grid import Grid, Grids, PuzzleError, as_grids
from trm.tasks import Puzzle, detect, detect_grid, get

Question: TypeAlias = "str | NDArray[np.integer] | Puzzle"
GivenDraft: TypeAlias = "str | NDArray[np.integer] | Sequence[NDArray[np.integer]]"


def as_puzzle(question: Question, task: str | None = None) -> Puzzle:
    """A question in whatever form it came, validated. Raises PuzzleError."""
    if isinstance(question, Puzzle):
        puzzle = question
    elif isinstance(question, str):
        puzzle = get(task or detect(question)).parse(question)
    else:
        grid = as_grid(question)
        puzzle = Puzzle(task or detect_grid(grid), (grid,))
    get(puzzle.task).validate(puzzle)
    return puzzle


def as_draft(puzzle: Puzzle, draft: GivenDraft) -> Grids:
    """A draft or candidate as one grid for each input. Raises PuzzleError for another shape, or unknown symbols."""
    task = get(puzzle.task)
    if isinstance(draft, str):
        grids = task.parse_answer(puzzle, draft)
    elif isinstance(draft, np.ndarray):
        grids = as_grids(as_grid(draft))
    else:
        grids = tuple(as_grid(grid) for grid in draft)
    if len(grids) != len(puzzle.inputs):
        raise PuzzleError(f"draft of {len(grids)} grids, expected {len(puzzle.inputs)}")
    for index, grid in enumerate(grids):
        task.encode_draft(puzzle, grid, index)  # refuses shapes and symbols
    return grids


def as_grid(grid: ArrayLike) -> Grid:
    """An array of whole numbers as uint8 [H, W]. Raises PuzzleError."""
    array = np.asarray(grid)
    if array.dtype == np.uint8:
        return array
    whole = np.issubdtype(array.dtype, np.integer)
    if not whole or array.min(initial=0) < 0 or array.max(initial=0) > 255:
        raise PuzzleError(f"grid of {array.dtype}, expected whole numbers from 0 to 255")
    return array.astype(np.uint8)
