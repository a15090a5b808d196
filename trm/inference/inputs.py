"""What callers of the library may hand over as a question, a draft or a candidate, turned into puzzles and grids."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from trm.data.files import load, strict
from trm.data.variants import refuse_other_rules
from trm.grid import Grid, Grids, PuzzleError, shape_words
from trm.tasks import Puzzle, Task, detect_grid, get
from trm.tasks.registry import BUILT_IN, demonstrated, recognise

Rows: TypeAlias = "Sequence[Sequence[int | float | str | None]] | Sequence[int | None]"
Question: TypeAlias = "str | Path | NDArray[np.generic] | Puzzle | Rows | Mapping[str, object]"
GivenDraft: TypeAlias = "str | NDArray[np.generic] | Rows | Sequence[NDArray[np.generic]] | Sequence[Rows]"
EXPECTED = "expected text, an array [H, W], a list of rows, an ARC task as a dictionary, a Path or a Puzzle"


def is_batch(question: object) -> bool:
    """Whether this is a list of questions. A list of rows, which holds lists of cells or cells, is one question."""
    if not isinstance(question, list):
        return False
    return not question or not all(
        isinstance(row, list | tuple | int | float | None) and _is_row(row) for row in question
    )


def _is_row(row: object) -> bool:
    """Whether a list is a row of cells and no grid of its own."""
    return not isinstance(row, list | tuple) or all(_is_cell(cell) for cell in row)


def _is_cell(cell: object) -> bool:
    return (
        cell is None
        or isinstance(cell, int | float | np.number)
        or (isinstance(cell, str) and len(cell) <= 1)
    )


def as_puzzle(question: Question, task: str | None = None) -> Puzzle:
    """A question in whatever form it came, validated. Raises PuzzleError."""
    if isinstance(question, Puzzle):
        puzzle = question
    elif isinstance(question, Path):
        puzzles = strict(load(question, task))
        if len(puzzles) != 1:
            raise PuzzleError(
                f"{question}: {len(puzzles)} puzzles, expected one; trm.data.files.load reads them all"
            )
        puzzle = puzzles[0]
    elif isinstance(question, Mapping):
        puzzle = get(task or demonstrated()).read(question)
    elif isinstance(question, str):
        if task in (None, *BUILT_IN):
            refuse_other_rules(question)
        puzzle = get(task).parse(question) if task else recognise(question)
    elif isinstance(question, np.ndarray) and question.ndim == 2 and question.dtype.kind in "iuf":
        grid = as_grid(question)
        puzzle = Puzzle(get(task).name_for(grid) if task else detect_grid(grid), (grid,))
    elif isinstance(question, np.ndarray | list | tuple):
        text = _text_of(question)
        puzzle = get(task).parse(text) if task else recognise(text)
    else:
        raise PuzzleError(f"a question of type {type(question).__name__}, {EXPECTED}")
    get(puzzle.task).validate(puzzle)
    return puzzle


def _text_of(rows: object) -> str:
    """Rows of characters as lines of text, those of numbers as a JSON list, a flat grid as one line. None is 0.

    Raises PuzzleError.
    """
    if isinstance(rows, np.ndarray) and rows.ndim not in (1, 2):
        found = f"an array of {shape_words(rows)}, which is no grid [H, W]"
        raise PuzzleError(f"{found}: expected a list of arrays for a batch of questions")
    listed = rows.tolist() if isinstance(rows, np.ndarray) else rows
    assert isinstance(listed, list | tuple)
    if listed and all(not isinstance(row, list | tuple | str | np.ndarray) for row in listed):
        return "".join(str(_cell(cell)) for cell in listed)  # a flat grid
    cells = [list(row) if isinstance(row, str) else [_cell(cell) for cell in row] for row in listed]
    if all(isinstance(cell, str) for row in cells for cell in row):
        return "\n".join("".join(map(str, row)) for row in cells)
    return json.dumps(cells)


def _cell(cell: object) -> int | str:
    """Raises PuzzleError for what is no cell."""
    if cell is None:
        return 0
    if isinstance(cell, str):
        return cell
    if isinstance(cell, int | float | np.number) and not isinstance(cell, bool) and cell == int(cell):
        return int(cell)
    raise PuzzleError(
        f"a cell {cell!r} of type {type(cell).__name__}, expected a whole number or a character"
    )


def as_draft(puzzle: Puzzle, draft: GivenDraft) -> Grids:
    """A draft or candidate as one grid for each input. Raises PuzzleError for another shape, or unknown symbols."""
    task, number = get(puzzle.task), len(puzzle.inputs)
    if isinstance(draft, str):
        grids = task.parse_answer(puzzle, draft)
    elif isinstance(draft, np.ndarray):
        grids = (_draft_grid(task, puzzle, draft),)
    elif isinstance(draft, list | tuple):
        each = [draft] if _is_grid(draft) else draft
        grids = tuple(_draft_grid(task, puzzle, grid) for grid in each)
    else:
        expected = "expected text, an array [H, W], rows of cells, or a list with one of them for each input"
        raise PuzzleError(f"a draft of type {type(draft).__name__}, {expected}")
    if len(grids) != number:
        raise PuzzleError(f"draft of {len(grids)} grids, expected {number}")
    for index, grid in enumerate(grids):
        task.encode_draft(puzzle, grid, index)  # refuses shapes and symbols
    return grids


def _is_grid(rows: Sequence[object]) -> bool:
    """Whether a list holds rows of cells, not grids."""
    return bool(rows) and all(isinstance(row, list | tuple) and _is_row(row) for row in rows)


def _draft_grid(task: Task, puzzle: Puzzle, grid: object) -> Grid:
    """One grid of an answer, as an array, rows of cells, or text."""
    if isinstance(grid, str):
        return task.parse_answer(Puzzle(puzzle.task, puzzle.inputs[:1], demos=puzzle.demos), grid)[0]
    if isinstance(grid, list | tuple):
        grid = np.asarray([[_cell(cell) for cell in row] for row in grid])
    if isinstance(grid, np.ndarray) and grid.dtype.kind in "US":
        rows = "\n".join("".join(map(str, row)) for row in grid.tolist())
        return _draft_grid(task, puzzle, rows)
    return as_grid(grid)  # type: ignore[arg-type]


def as_grid(grid: ArrayLike) -> Grid:
    """An array of whole numbers as uint8 [H, W]. Raises PuzzleError."""
    try:
        array = np.asarray(grid)
    except ValueError:
        raise PuzzleError("rows of different lengths, expected a grid [H, W]") from None
    if array.dtype == np.uint8:
        return array
    numbers = array.dtype.kind in "iu" or (array.dtype.kind == "f" and bool((array == array.round()).all()))
    if not numbers or array.min(initial=0) < 0 or array.max(initial=0) > 255:
        raise PuzzleError(f"grid of {array.dtype}, expected whole numbers from 0 to 255")
    return array.astype(np.uint8)
