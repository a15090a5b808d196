"""How puzzles are put into buckets of difficulty, and what a view does to a grid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from trm.tasks import Puzzle, bucket, get
from trm.tasks.transforms import RestrictedTransform, TaskView, shrink


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (9, "under 10"),
        (10, "10 to 19"),
        (19, "10 to 19"),
        (20, "20 to 49"),
        (49, "20 to 49"),
        (50, "50 or more"),
    ],
)
def test_a_bucket_begins_at_its_edge(value: int, words: str) -> None:
    assert bucket(value, (10, 20, 50)) == words


def test_mazes_go_by_the_moves_of_their_path() -> None:
    maze = get("maze")
    for marks, words in ((8, "under 10"), (9, "10 to 19"), (18, "10 to 19"), (19, "20 to 49")):
        puzzle = maze.parse("S" + " " * marks + "G\n" + "#" * (marks + 2))
        assert maze.difficulty(puzzle) == {}
        path = maze.parse_answer(puzzle, "S" + "o" * marks + "G\n" + "#" * (marks + 2))
        assert maze.difficulty(replace(puzzle, answers=path)) == {"path": words}
        rated = replace(puzzle, answers=path, meta={"rating": 10.5})
        assert maze.difficulty(rated) == {"path": words, "rating": "10 to 29"}


def test_sudokus_go_by_their_givens_as_a_share_of_the_cells() -> None:
    for name, edges in (("sudoku", (22, 25, 28, 32, 40)), ("sudoku4", (4, 5, 6, 6, 8))):
        task = get(name)
        for givens in range(1, task.height**2):
            grid = np.zeros(task.height**2, dtype=np.uint8)
            grid[:givens] = 1
            puzzle = Puzzle(name, (grid.reshape(task.height, -1),))
            assert task.difficulty(puzzle) == {"givens": bucket(givens, edges)}


def test_arc_goes_by_its_largest_test_input() -> None:
    inputs = tuple(np.zeros(shape, dtype=np.uint8) for shape in ((2, 3), (10, 10), (4, 5)))
    assert get("arc").difficulty(Puzzle("arc", inputs)) == {"cells": "100 to 224"}


def test_the_eight_turns_of_a_grid_are_eight() -> None:
    grid = np.arange(6, dtype=np.uint8).reshape(2, 3)
    turned = [TaskView(turn).forward(grid) for turn in range(8)]
    assert len({(view.shape, view.tobytes()) for view in turned}) == 8
    assert [view.tolist() for view in turned[:5]] == [
        [[0, 1, 2], [3, 4, 5]],
        [[3, 4, 5], [0, 1, 2]],
        [[2, 1, 0], [5, 4, 3]],
        [[5, 4, 3], [2, 1, 0]],
        [[0, 3], [1, 4], [2, 5]],
    ]
    assert all(np.array_equal(TaskView(turn).inverse(view), grid) for turn, view in enumerate(turned))
    larger = TaskView(5, scale=3).forward(grid)
    assert larger.shape == (9, 6)
    assert np.array_equal(TaskView(5, scale=3).inverse(larger), grid)


def test_what_a_restriction_gives_is_hidden_again() -> None:
    question, restricted = (np.array([row], dtype=np.uint8) for row in ([0, 0, 3], [1, 0, 3]))
    transform = RestrictedTransform(TaskView(turn=2), question, restricted)
    assert transform.forward(question).tolist() == [[3, 0, 1]]
    assert transform.forward(np.array([[4, 5, 3]], dtype=np.uint8)).tolist() == [[3, 5, 1]]
    assert transform.inverse(np.array([[3, 5, 1]], dtype=np.uint8)).tolist() == [[0, 5, 3]]


def test_a_block_becomes_its_most_frequent_symbol() -> None:
    assert shrink(np.array([[1, 1, 2], [1, 3, 2], [4, 4, 5]]), 2).tolist() == [[1, 2], [4, 5]]
    assert shrink(np.array([[7, 2], [2, 7]]), 2).tolist() == [[2]]  # on a tie the least
    assert shrink(np.array([[1, 1, 1, 2], [1, 1, 1, 2], [1, 1, 1, 2]]), 3).tolist() == [[1]]
    assert shrink(np.array([[5]]), 3).tolist() == [[5]]
