from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from trm.grid import GridParseError, PuzzleError
from trm.tasks import Puzzle, Status, get
from trm.tasks.arc.task import END
from trm.tasks.base import IGNORE

ARC = get("arc")
PAIR = {"input": [[1, 2]], "output": [[2], [1]]}


def task(**changes: Any) -> str:
    return json.dumps({"train": [PAIR], "test": [PAIR], **changes})


def test_the_public_form_is_read() -> None:
    puzzle = ARC.parse(task())
    assert puzzle.grid.tolist() == [[1, 2]]
    assert puzzle.answers is not None
    assert puzzle.answers[0].tolist() == [[2], [1]]
    assert [grid.tolist() for grid in puzzle.demos[0]] == [[[1, 2]], [[2], [1]]]
    assert ARC.parse(task(test=[{"input": [[1]]}])).answers is None
    assert ARC.parse(task(test=[PAIR, {"input": [[1]], "output": None}])).answers is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no ARC task"),
        ("[1]", "expected an object with the lists 'train' and 'test'"),
        (task(train=5), "expected an object with the lists"),
        (task(train=[{"input": [[1]]}]), "train pair 1: no 'output'"),
        (task(test=[{"input": [[1, 2], [3]]}]), "test pair 1, input: row 2: 1 cells, expected 2"),
        (
            task(test=[{"input": [[1, 10]]}]),
            "test pair 1, input: row 1, cell 2: 10, expected a colour 0 to 9",
        ),
        (task(test=[{"input": [[True]]}]), "row 1, cell 1: True"),
        (task(test=[{"input": [[0]] * 31}]), "grid of 31x1, expected at most 30x30"),
        (task(test=[{"input": []}]), "expected a list of rows"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, message: str) -> None:
    with pytest.raises(GridParseError, match=message):
        ARC.parse(text)


def test_a_task_without_tests_or_with_strange_arrays_is_refused() -> None:
    with pytest.raises(PuzzleError, match="1 demonstrations and 0 tests"):
        ARC.validate(ARC.parse(task(test=[])))
    grid = np.array([[1, 77]], dtype=np.uint8)
    with pytest.raises(PuzzleError, match="test pair 1, input: row 1, column 2 holds 77"):
        ARC.validate(Puzzle("arc", (grid,), demos=((grid % 10, grid % 10),)))


@pytest.mark.parametrize(
    "text",
    [
        "2 0\n1 1",
        " 20 \n 11\n",
        "2,0\n1,1",
        "[[2,0],[1,1]]",
        "[[[2,0],[1,1]]]",
        "[[[[2,0],[1,1]],[[0,0],[0,0]]]]",
    ],
)
def test_answers_are_read_as_rows_or_json(text: str) -> None:
    (grid,) = ARC.parse_answer(ARC.parse(task()), text)
    assert grid.tolist() == [[2, 0], [1, 1]]


def test_answers_to_a_named_puzzle() -> None:
    """Of an object with answers to several puzzles the one of this name, of an object with one that one."""
    puzzle = replace(ARC.parse(task()), id="a")
    attempts = [{"attempt_2": [[3]], "attempt_1": [[1]], "other": [[2]]}]
    for data in ({"a": attempts, "b": [[9]]}, {"other name": attempts}, attempts):
        choices = ARC.parse_candidates(puzzle, json.dumps(data))
        assert [[grid.tolist() for grid in choice] for choice in choices] == [[[[1]], [[3]]]]
    with pytest.raises(GridParseError, match="answers to 2 puzzles, expected one to a"):
        ARC.parse_candidates(puzzle, json.dumps({"b": attempts, "c": attempts}))


def test_an_answer_holds_a_grid_for_each_input() -> None:
    puzzle = ARC.parse(task(test=[PAIR, PAIR]))
    grids = ARC.parse_answer(puzzle, "1 2\n\n\n3\n4")
    assert [grid.tolist() for grid in grids] == [[[1, 2]], [[3], [4]]]
    assert ARC.check(puzzle, grids).status is Status.UNVERIFIED
    assert ARC.text(grids) == "1 2\n\n3\n4"
    with pytest.raises(GridParseError, match="1 grids, expected 2"):
        ARC.parse_answer(puzzle, "1 2")
    with pytest.raises(GridParseError, match="row 1, cell 2: 'x', expected a colour"):
        ARC.parse_answer(puzzle, "1 x\n\n1")


@pytest.mark.parametrize(
    "text",
    [
        "[",
        "[]",
        "[[]]",
        "[[[]]]",
        "[5]",
        "[[[[]]]]",
        '["a"]',
        "[[1],2]",
        "[[[[1]]],5]",
        "[[[[1]],5],5]",
        "[[[[1]]],[]]",
        "²",
    ],
)
def test_unreadable_answers_are_refused(text: str) -> None:
    with pytest.raises(GridParseError):
        ARC.parse_answer(ARC.parse(task()), text)


def test_end_markers_bound_the_grid_where_the_canvas_goes_on() -> None:
    canvas = ARC.encode(np.zeros((2, 3), dtype=np.uint8)).reshape(30, 30)
    assert canvas[:3, :4].tolist() == [[2, 2, 2, END], [2, 2, 2, END], [END, END, END, 0]]
    assert np.count_nonzero(canvas) == 11
    assert (ARC.encode(np.full((30, 30), 9, dtype=np.uint8)) == 11).all()
    tall = ARC.encode(np.zeros((30, 1), dtype=np.uint8)).reshape(30, 30)
    assert (tall[:, 1] == END).all()


@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (30, 30), (30, 1), (1, 30), (29, 30)])
def test_outputs_of_any_shape_are_decoded(shape: tuple[int, int]) -> None:
    output = np.random.default_rng(0).integers(0, 10, shape).astype(np.uint8)
    puzzle = Puzzle("arc", (np.zeros((3, 3), dtype=np.uint8),), answers=(output,))
    assert np.array_equal(ARC.decode(puzzle, ARC.encode_draft(puzzle, output)), output)
    label = ARC.encode_label(puzzle)
    assert np.array_equal(label == IGNORE, ARC.encode(output) == 0)


def test_a_ragged_prediction_becomes_its_largest_rectangle() -> None:
    canvas = np.zeros((30, 30), dtype=np.int64)
    canvas[:4, :2] = 5
    canvas[0, 2:7] = 6
    decoded = ARC.decode(ARC.samples()[0], canvas.reshape(-1))
    assert decoded.tolist() == [[3, 3]] * 4
    assert ARC.decode(ARC.samples()[0], np.zeros(900, dtype=np.int64)).tolist() == [[0]]


@pytest.mark.parametrize("key", ["input", "output"])
@pytest.mark.parametrize("large", [[[0] * 31], [[0]] * 31, ["0" * 31]])
def test_a_demonstration_with_a_grid_that_is_too_large_is_left_out(key: str, large: list[object]) -> None:
    pair = {"input": [[1]], "output": [[2]]}
    question = {"train": [{**pair, key: large}, pair], "test": [pair]}
    puzzle = ARC.read(question)
    assert len(puzzle.demos) == 1
    (note,) = puzzle.notes
    assert "train pair 1 " in note
    with pytest.raises(GridParseError, match="every train pair"):
        ARC.read({**question, "train": question["train"][:1]})
    with pytest.raises(GridParseError, match=f"test pair 1, {key}"):
        ARC.read({"train": [pair], "test": question["train"][:1]})
    assert len(ARC.read({**question, "train": [{**pair, key: [[0] * 30] * 30}, pair]}).demos) == 2
    with pytest.raises(GridParseError, match=f"train pair 1, {key}: row 2: 31 cells"):
        ARC.read({**question, "train": [{**pair, key: [[0], [0] * 31]}, pair]})


def test_of_a_list_of_pairs_the_last_is_the_test() -> None:
    pairs = [{"input": [[n]], "output": [[n + 1]]} for n in range(3)]
    puzzle = ARC.read(pairs)
    assert [before.tolist() for before, _ in puzzle.demos] == [[[0]], [[1]]]
    assert puzzle.grid.tolist() == [[2]]
    assert puzzle.answers is not None
    assert "3 pairs" in puzzle.notes[0]
    with pytest.raises(GridParseError, match="one pair"):
        ARC.read(pairs[:1])
