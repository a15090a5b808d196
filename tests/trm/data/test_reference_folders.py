"""Data folders of the reference implementation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from doubles import SOLUTION, SUDOKU

from trm.data.files import load, strict
from trm.grid import PuzzleError


def part(
    folder: Path, inputs: list[list[int]], labels: list[list[int]], vocabulary: int, ids: list[int]
) -> Path:
    """One part of a data folder, with a puzzle for each of `ids`, in order, whose examples share the number."""
    folder.mkdir(parents=True, exist_ok=True)
    starts = [n for n in range(len(ids)) if n == 0 or ids[n] != ids[n - 1]]
    arrays = {
        "inputs": np.array(inputs, dtype=np.uint8),
        "labels": np.array(labels, dtype=np.uint8),
        "puzzle_identifiers": np.array([ids[n] for n in starts]),
        "puzzle_indices": np.array([*starts, len(ids)]),
        "group_indices": np.array([*range(len(starts) + 1)]),
    }
    for name, array in arrays.items():
        np.save(folder / f"all__{name}.npy", array)
    (folder / "dataset.json").write_text(json.dumps({"seq_len": len(inputs[0]), "vocab_size": vocabulary}))
    return folder


def sudoku_tokens(text: str) -> list[int]:
    return [int(c.replace(".", "0")) + 1 for c in text]


def arc_tokens(rows: list[list[int]], top: int = 0) -> list[int]:
    canvas = np.zeros((30, 30), dtype=int)
    grid = np.array(rows)
    canvas[top : top + grid.shape[0], : grid.shape[1]] = grid + 2
    canvas[top + grid.shape[0], : grid.shape[1]] = 1
    return [int(token) for token in canvas.reshape(-1)]


def test_sudokus_are_read_with_their_answers(tmp_path: Path) -> None:
    folder = part(tmp_path / "test", [sudoku_tokens(SUDOKU)], [sudoku_tokens(SOLUTION)], 11, [0])
    (puzzle,) = strict(load(folder))
    assert (puzzle.task, puzzle.id) == ("sudoku", "test:1")
    assert "".join(map(str, puzzle.grid.reshape(-1))) == SUDOKU.replace(".", "0")
    assert puzzle.answers is not None
    assert "".join(map(str, puzzle.answers[0].reshape(-1))) == SOLUTION


def test_arc_tests_have_the_demonstrations_of_the_training_part(tmp_path: Path) -> None:
    before, after = arc_tokens([[1, 2], [3, 4]], top=3), arc_tokens([[5]])
    part(tmp_path / "train", [before] * 3, [after] * 3, 12, [1, 1, 2])
    folder = part(tmp_path / "test", [after], [before], 12, [1])
    (tmp_path / "identifiers.json").write_text(json.dumps(["<blank>", "abc", "abc|||t2|||0123456789"]))
    (puzzle,) = strict(load(folder))
    assert (puzzle.id, len(puzzle.demos), puzzle.grid.tolist()) == ("abc", 2, [[5]])
    assert puzzle.demos[0][0].tolist() == [[1, 2], [3, 4]]


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    tokens = [sudoku_tokens(SUDOKU)]
    part(tmp_path / "data" / "test", tokens, tokens, 11, [0])
    part(tmp_path / "data" / "train", tokens, tokens, 11, [0])
    part(tmp_path / "other", tokens, tokens, 50, [0])
    part(tmp_path / "holes", [[0] * 81], tokens, 11, [0])
    for name, words in (("data", "test, train"), ("other", "50 tokens"), ("holes", "puzzle 1")):
        (error,) = load(tmp_path / name)
        assert isinstance(error, PuzzleError)
        assert words in str(error)


@pytest.mark.parametrize("name", ["inputs", "labels"])
def test_a_damaged_array_is_one_line(name: str, tmp_path: Path) -> None:
    folder = part(tmp_path / "test", [sudoku_tokens(SUDOKU)], [sudoku_tokens(SOLUTION)], 11, [0])
    (folder / f"all__{name}.npy").write_bytes(b"\x93NUMPY nonsense")
    (error,) = load(folder)
    assert isinstance(error, PuzzleError)
    assert name in str(error)
