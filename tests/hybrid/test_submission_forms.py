"""Submissions in each form, and what is no submission: read, resumed and scored without a language model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybrid.submission import SubmissionFile, grade, read_lines, read_solutions, read_submission
from trm.grid import PuzzleError
from trm.tasks import Puzzle

GRID = np.array([[1]], np.uint8)
PUZZLE = Puzzle("arc", (GRID,), "a", demos=((GRID, GRID),))
BOTH = {"attempt_1": [[1]], "attempt_2": [[2]]}
LINE = json.dumps({"id": "a", "answer": [[[[1]], [[2]], [[3]]], [[[4]]]]})


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_answers_of_json_lines_are_a_submission(tmp_path: Path) -> None:
    twice = {"attempt_1": [[4]], "attempt_2": [[4]]}
    others = ["", "{", "[]", '{"id": "b"}', '{"answer": []}', '{"id": "c", "answer": "123"}',
              '{"id": "d", "answer": [[]]}',
              '{"id": "e", "answer": [[1]]}', '{"id": 7, "answer": []}']  # fmt: skip
    path = write(tmp_path / "a.jsonl", "\n".join([LINE, *others]))
    assert read_submission(path) == {"a": [BOTH, twice], "7": []}
    assert len(read_lines(path)) == 1 + len(others) - 1
    with pytest.raises(PuzzleError, match=r"none\.jsonl"):
        read_lines(tmp_path / "none.jsonl")


@pytest.mark.parametrize("attempts", [BOTH, {"attempt_1": [[1]]}, {"attempt_2": [[1]], "note": 1}])
def test_one_attempt_is_enough(attempts: dict[str, Any], tmp_path: Path) -> None:
    assert read_submission(write(tmp_path / "s.json", {"a": [attempts]})) == {"a": [attempts]}


@pytest.mark.parametrize(
    "content", [[], 1, {"a": {}}, {"a": [1]}, {"a": [{}]}, {"a": [BOTH, {"attempt_3": 1}]}, "{"]
)
def test_what_is_no_submission(content: Any, tmp_path: Path) -> None:
    with pytest.raises(PuzzleError, match=r"s\.json"):
        read_submission(write(tmp_path / "s.json", content))
    (tmp_path / "s.json").write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(PuzzleError, match=r"s\.json: no text"):
        read_submission(tmp_path / "s.json")
    with pytest.raises(PuzzleError, match=r"none\.json: "):
        read_submission(tmp_path / "none.json")


def test_solutions_are_grids_or_tasks_with_outputs(tmp_path: Path) -> None:
    pair = {"input": [[1]], "output": [[5]]}
    assert read_solutions(write(tmp_path / "a.json", {"a": [[[5]]]})) == {"a": [[[5]]]}
    assert read_solutions(write(tmp_path / "b.json", {"a": {"train": [pair], "test": [pair]}})) == {
        "a": [[[5]]]
    }
    with pytest.raises(PuzzleError, match="known output"):
        read_solutions(write(tmp_path / "c.json", {"a": {"train": [pair], "test": [{"input": [[1]]}]}}))
    with pytest.raises(PuzzleError):
        read_solutions(write(tmp_path / "d.json", {"a": [[5]]}))


@pytest.mark.parametrize(
    ("submission", "solutions", "score", "right", "solved"),
    [
        ({}, {}, 0.0, 0, []), ({}, {"a": [[[1]]]}, 0.0, 0, []), ({"a": [BOTH]}, {"a": [[[1]]]}, 1.0, 1, ["a"]),
        ({"a": [BOTH]}, {"a": [[[2]]]}, 1.0, 1, ["a"]), ({"a": [BOTH]}, {"a": [[[3]]]}, 0.0, 0, []),
        ({"a": [BOTH]}, {"a": [[[1]], [[1]]]}, 0.5, 1, []), ({"a": [BOTH] * 3}, {"a": [[[1]], [[1]]]}, 1.0, 2, ["a"]),
        ({"a": [BOTH]}, {"a": []}, 0.0, 0, []), ({"a": [BOTH]}, {"a": [[[1]]], "b": [[[1]]]}, 0.5, 1, ["a"]),
        ({"a": [{}]}, {"a": [[[1]]]}, 0.0, 0, []),
    ],
)  # fmt: skip
def test_scores(submission: Any, solutions: Any, score: float, right: int, solved: list[str]) -> None:
    found = grade(submission, solutions)
    assert (found.score, found.right, found.solved) == (score, right, solved)
    assert (found.tasks, found.outputs) == (len(solutions), sum(map(len, solutions.values())))
    assert (found.missing, found.unknown) == (
        sorted({*solutions} - {*submission}),
        sorted({*submission} - {*solutions}),
    )


def test_a_file_that_exists_is_resumed_or_left_alone(tmp_path: Path) -> None:
    path, records = (
        write(tmp_path / "s.json", {"a": [BOTH]}),
        write(tmp_path / "r.jsonl", LINE.replace('"a"', '"b"')),
    )
    with pytest.raises(PuzzleError, match="exists"):
        SubmissionFile(path, [PUZZLE], resume=False)
    assert list(SubmissionFile(path, [PUZZLE], resume=True).content) == ["a"]
    assert list(SubmissionFile(path, [PUZZLE], resume=True, records=records).content) == ["b", "a"]
    assert SubmissionFile(tmp_path / "new.json", [PUZZLE], resume=False, records=records).content == {}
    assert (
        SubmissionFile(tmp_path / "new.json", [PUZZLE], resume=True, records=tmp_path / "none").content == {}
    )
    with pytest.raises(PuzzleError, match="folder that exists"):
        SubmissionFile(tmp_path / "none" / "s.json", [PUZZLE], resume=False)
    with pytest.raises(PuzzleError, match="is a sudoku"):
        SubmissionFile(tmp_path / "new.json", [PUZZLE, Puzzle("sudoku", (GRID,))], resume=False)
