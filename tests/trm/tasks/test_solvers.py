from __future__ import annotations

import numpy as np
import pytest

from trm.tasks import Status, get
from trm.tasks.maze.solver import shortest_path
from trm.tasks.sudoku.solver import solve_sudoku

SUDOKU, MAZE = get("sudoku"), get("maze")


@pytest.mark.parametrize("number", range(3))
def test_the_samples_have_one_solution(number: int) -> None:
    puzzle = SUDOKU.samples()[number]
    search = solve_sudoku(puzzle.grid)
    assert puzzle.answers is not None
    assert len(search.solutions) == 1
    assert np.array_equal(search.solutions[0], puzzle.answers[0])
    assert (search.guesses > 0) == (number == 2)  # the last one is there because it needs a search


def test_all_solutions_are_found() -> None:
    puzzle = SUDOKU.samples()[0]
    assert puzzle.answers is not None
    open_grid = puzzle.answers[0].copy()
    open_grid[open_grid <= 2] = 0  # two digits that may be exchanged everywhere
    found = solve_sudoku(open_grid, most=100).solutions
    assert len({grid.tobytes() for grid in found}) == len(found) >= 2
    for grid in found:
        assert SUDOKU.check(type(puzzle)("sudoku", (open_grid,)), grid).status is Status.VERIFIED
    assert len(solve_sudoku(open_grid, most=1).solutions) == 1


def test_no_solution_is_said_so() -> None:
    grid = np.zeros((9, 9), dtype=np.uint8)
    grid[0, :8] = range(1, 9)
    grid[1, 8] = 9  # nothing is left for the end of row 1
    assert solve_sudoku(grid).solutions == ()
    grid[1, 8] = 0
    grid[0, 8] = 8
    assert solve_sudoku(grid).solutions == ()


def test_an_empty_grid_is_filled_as_the_seed_says() -> None:
    empty = np.zeros((9, 9), dtype=np.uint8)
    first, again, other = (
        solve_sudoku(empty, most=1, rng=np.random.default_rng(seed)).solutions[0] for seed in (1, 1, 2)
    )
    assert SUDOKU.check(type(SUDOKU.samples()[0])("sudoku", (empty,)), first).status is Status.VERIFIED
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("question", "label"),
    [
        ("S  \n   \n  G", "S  \no  \nooG"),  # Down before Right
        ("  S\n   \nG  ", "  S\n  o\nGoo"),  # Down before Left
        ("G  \n   \n  S", "G  \no  \nooS"),  # Left before Up
        ("  G\n   \nS  ", "  G\n  o\nSoo"),  # Right before Up
        (" # \nS G\n # ", " # \nSoG\n # "),
    ],
)
def test_ties_are_broken_as_in_the_published_labels(question: str, label: str) -> None:
    path = shortest_path(MAZE.parse(question).grid)
    assert path is not None
    assert MAZE.text((path,)) == label


def test_a_closed_maze_has_no_path() -> None:
    assert shortest_path(MAZE.parse("S#\n#G").grid) is None
    assert shortest_path(MAZE.parse("S# \n##G").grid) is None


def test_paths_are_verified_by_the_rules() -> None:
    for puzzle in MAZE.samples():
        path = shortest_path(puzzle.grid)
        assert path is not None
        assert MAZE.check(puzzle, path).status is Status.VERIFIED
        assert puzzle.answers is not None
        assert np.array_equal(path, puzzle.answers[0])


def test_a_search_that_is_cut_short_says_so() -> None:
    empty = np.zeros((9, 9), dtype=np.uint8)
    short = solve_sudoku(empty, most=1000, most_guesses=60)
    assert not short.whole
    assert short.guesses == 60
    assert 0 < len(short.solutions) < 1000
    assert solve_sudoku(SUDOKU.samples()[2].grid, most_guesses=10_000).whole
    solution = solve_sudoku(SUDOKU.samples()[0].grid).solutions[0]
    other = solve_sudoku(SUDOKU.samples()[0].grid, without=(80, int(solution[8, 8])))
    assert (other.solutions, other.whole) == ((), True)
