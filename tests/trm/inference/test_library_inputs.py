"""What callers of the library may hand over as questions, drafts and candidates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import doubles
import numpy as np
import pytest
from doubles import MAZE, SUDOKU

from trm.grid import PuzzleError
from trm.inference.inputs import as_draft, as_puzzle, is_batch
from trm.tasks import get

ROWS = [[0 if c == "." else int(c) for c in SUDOKU[i : i + 9]] for i in range(0, 81, 9)]
GRID = np.array(ROWS, dtype=np.uint8)
ARC = {"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[1, 1]]}, {"input": [[3]]}]}
FIRST, SECOND = [[2, 2]], [[4]]


@pytest.mark.parametrize(
    "question",
    [
        GRID,
        GRID.astype(np.int64),
        GRID.astype(float),
        GRID.reshape(-1),
        ROWS,
        tuple(map(tuple, ROWS)),
        [cell for row in ROWS for cell in row],
        [[cell or None for cell in row] for row in ROWS],
        [[str(cell) for cell in row] for row in ROWS],
        np.array([list(SUDOKU[i : i + 9]) for i in range(0, 81, 9)]),
    ],
)
def test_a_sudoku_in_each_form(question: Any) -> None:
    assert not is_batch(question)
    for task in (None, "sudoku"):
        puzzle = as_puzzle(question, task)
        assert (puzzle.task, puzzle.grid.tolist()) == ("sudoku", ROWS)


def test_a_maze_as_an_array_of_characters() -> None:
    puzzle = as_puzzle(np.array([list(row) for row in MAZE.split("\n")]))
    assert get("maze").question_text(puzzle) == MAZE


def test_an_arc_task_as_a_dictionary_or_a_file(tmp_path: Path) -> None:
    path = tmp_path / "task.json"
    path.write_text(json.dumps(ARC))
    for question in (ARC, path, json.dumps(ARC)):
        assert len(as_puzzle(question).inputs) == 2
    path.write_text(json.dumps({"a": ARC, "b": ARC}))
    with pytest.raises(PuzzleError, match="2 puzzles"):
        as_puzzle(path)


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (None, "NoneType"),
        (7, "int"),
        ({1, 2}, "set"),
        (np.array([GRID, GRID]), "2x9x9"),
        ([[object()] * 9] * 9, "object"),
        ([[0.5] * 9] * 9, "0.5"),
        (Path("none.csv"), "no such file"),
    ],
)
def test_what_is_no_question_is_named_by_its_type(question: Any, words: str) -> None:
    with pytest.raises(PuzzleError, match=words):
        as_puzzle(question)


def test_only_a_list_of_questions_is_a_batch() -> None:
    assert is_batch([SUDOKU, MAZE])
    assert is_batch([GRID, GRID])
    assert is_batch([ROWS, ROWS])
    assert is_batch([ARC])
    assert is_batch([])
    assert not is_batch(SUDOKU)
    refiner = doubles.refiner(lambda asked: [(doubles.right(doubles.sudoku())[0], 0.0)])
    assert len(refiner.refine([ROWS, GRID])) == 2  # type: ignore[list-item]
    assert refiner.refine(ROWS).text == doubles.SOLUTION


@pytest.mark.parametrize(
    "draft",
    [
        [FIRST, SECOND],
        (FIRST, SECOND),
        [np.array(FIRST), np.array(SECOND)],
        ["2 2", "4"],
        [np.array([["2", "2"]]), SECOND],
    ],
)
def test_a_draft_of_two_inputs_is_a_list_of_two_grids(draft: Any) -> None:
    assert [grid.tolist() for grid in as_draft(as_puzzle(ARC), draft)] == [FIRST, SECOND]


def test_a_draft_of_one_input_is_a_grid() -> None:
    puzzle = as_puzzle(SUDOKU)
    for draft in (ROWS, GRID, [GRID], SUDOKU, [ROWS], tuple(map(tuple, ROWS))):
        (grid,) = as_draft(puzzle, draft)  # type: ignore[arg-type]
        assert grid.tolist() == ROWS


@pytest.mark.parametrize(
    ("draft", "words"),
    [
        (FIRST, "1 grids, expected 2"),
        ([FIRST] * 3, "3 grids, expected 2"),
        (None, "NoneType"),
        ([[[]], []], "grid"),
    ],
)
def test_what_is_no_draft_says_why(draft: Any, words: str) -> None:
    with pytest.raises(PuzzleError, match=words):
        as_draft(as_puzzle(ARC), draft)
