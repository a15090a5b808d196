"""What the generators draw from a seed, as it was when data sets and results were made with it."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from itertools import islice

import numpy as np
import pytest

from trm.grid import PuzzleError
from trm.tasks import Puzzle, get
from trm.tasks.arc import generator as arc
from trm.tasks.maze import generator as maze
from trm.tasks.sudoku import generator as sudoku

LIKE = list(islice(sudoku.generate(9, np.random.default_rng(0), clues=(22, 27), guesses=(4, 60)), 3))


def checksum(puzzles: Iterable[Puzzle]) -> str:
    """Eight digits of the grids and the further values of puzzles."""
    known = [
        ([grid.tolist() for grid in (*puzzle.inputs, *(puzzle.answers or ()))], puzzle.meta,
         [[grid.tolist() for grid in pair] for pair in puzzle.demos])
        for puzzle in puzzles
    ]  # fmt: skip
    return f"{zlib.crc32(repr(known).encode()):08x}"


@pytest.mark.parametrize(
    ("side", "options", "count", "expected"),
    [
        (4, {}, 20, "a5535071"),
        (6, {}, 20, "a0c1cf09"),
        (9, {}, 10, "40390abd"),
        (9, {"clues": (22, 27), "guesses": (4, 60)}, 3, "efc0fc5b"),
        (9, {"clues": 81}, 1, "9bb0e76e"),
        (16, {}, 2, "24c7b09b"),
        (9, {"like": LIKE}, 10, "ccb26a90"),
        (9, {"like": LIKE, "swaps": 0}, 3, "846a0dc6"),
        (9, {"like": LIKE, "swaps": (2, 3), "drift": True}, 6, "8d9fb884"),
    ],
)
def test_sudokus_of_a_seed(side: int, options: dict[str, object], count: int, expected: str) -> None:
    made = sudoku.generate(side, np.random.default_rng(0), **options)  # type: ignore[arg-type]
    assert checksum(islice(made, count)) == expected


@pytest.mark.parametrize(
    ("options", "count", "expected"),
    [
        ({}, 3, "66279e13"),
        ({"height": (5, 9), "width": (4, 8), "wall": (0.1, 0.4), "min_path": 6}, 30, "f2954f3c"),
        ({"height": 9, "wall": 0.4}, 30, "ea450fd4"),
        ({"height": 6, "min_path": 1}, 40, "95e60a5e"),
        ({"broad": 1.0}, 80, "e3974820"),
        ({"height": 8, "broad": 0.5}, 20, "237492d7"),
    ],
)
def test_mazes_of_a_seed(options: dict[str, object], count: int, expected: str) -> None:
    made = maze.generate(np.random.default_rng(0), **options)  # type: ignore[arg-type]
    assert checksum(islice(made, count)) == expected


@pytest.mark.parametrize(
    ("options", "count", "expected"),
    [
        ({}, 40, "1c5492c9"),
        ({"demos": 1, "size": 2}, 20, "65644e7c"),
        ({"rule": "tile", "size": 15}, 3, "d86dc16b"),
        ({"rule": "recolour"}, 4, "73e04657"),
        ({"rule": "gravity"}, 4, "35636f5a"),
        ({"rule": "crop"}, 4, "fb1ecda5"),
        ({"rule": "mirror"}, 4, "a19fd4bc"),
        ({"rule": "flip"}, 4, "dff2ccc1"),
        ({"rule": "turn"}, 4, "257a7e76"),
        ({"rule": "transpose"}, 4, "ef133c16"),
        ({"rule": "double"}, 4, "804d4c0b"),
        ({"rule": "tile"}, 4, "69d0b1b5"),
    ],
)
def test_arc_tasks_of_a_seed(options: dict[str, object], count: int, expected: str) -> None:
    made = arc.generate(np.random.default_rng(0), **options)  # type: ignore[arg-type]
    assert checksum(islice(made, count)) == expected


def test_a_sudoku_and_a_maze_of_a_seed_in_words() -> None:
    (small,) = islice(sudoku.generate(4, np.random.default_rng(1)), 1)
    assert get("sudoku4").question_text(small) == ".....4....2.1.4."
    (walls,) = islice(maze.generate(np.random.default_rng(1), height=5), 1)
    assert walls.answers is not None
    assert get("maze").text(walls.answers).split("\n") == [" S # ", "#o   ", "Go ##", " #   ", "   # "]


@pytest.mark.parametrize(
    ("options", "found", "least", "most"),
    [
        ({"clues": 16}, "clues", 17, 81),
        ({"clues": (17, 82)}, "clues", 17, 81),
        ({"guesses": -1}, "guesses", 0, None),
        ({"like": LIKE, "swaps": 18}, "swaps", 0, 17),
        ({"swaps": 1}, "swaps", None, None),
        ({"drift": True}, "drift", None, None),
        ({"like": LIKE, "drift": 1}, "drift", None, None),
    ],
)
def test_options_of_sudokus_have_limits(
    options: dict[str, object], found: str, least: int | None, most: int | None
) -> None:
    with pytest.raises(PuzzleError, match=found) as raised:
        next(sudoku.generate(9, np.random.default_rng(0), **options))  # type: ignore[arg-type]
    assert all(str(limit) in str(raised.value) for limit in (least, most) if limit is not None)


@pytest.mark.parametrize("side", sudoku.CLUES)
def test_no_fewer_clues_are_asked_for_than_any_puzzle_has(side: int) -> None:
    fewest = {4: 4, 6: 8, 9: 17, 16: 55}[side]
    with pytest.raises(PuzzleError, match=f"from {fewest} to {side * side}"):
        next(sudoku.generate(side, np.random.default_rng(0), clues=fewest - 1))


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"height": 1}, "height 1: .*2 to 30"),
        ({"height": 31}, "height 31"),
        ({"width": 31}, "width 31: .*2 to 30"),
        ({"wall": 1.0}, "wall 1.0"),
        ({"wall": -0.1}, "wall -0.1"),
        ({"broad": 1.1}, "broad 1.1"),
        ({"broad": -0.1}, "broad -0.1"),
        ({"broad": 1, "height": 8}, "broad 1"),
        ({"broad": 1, "width": 8}, "broad 1"),
        ({"broad": 1, "wall": 0.2}, "broad 1"),
        ({"broad": 1, "min_path": 3}, "broad 1"),
        ({"min_path": 0}, "min_path 0: .*1 to 900"),
        ({"min_path": 901}, "min_path 901"),
        ({"height": 5, "min_path": 25}, "5x5 with 25 moves.*none in 0 tries"),
    ],
)
def test_options_of_mazes_have_limits(options: dict[str, object], found: str) -> None:
    with pytest.raises(PuzzleError, match=found):
        next(maze.generate(np.random.default_rng(0), **options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"rule": "twice"}, "twice"),
        ({"demos": 0}, "demos 0: .*1 to 100"),
        ({"demos": 101}, "demos 101"),
        ({"size": 1}, "size 1: .*2 to 15"),
        ({"size": (3, 16)}, "size"),
    ],
)
def test_options_of_arc_tasks_have_limits(options: dict[str, object], found: str) -> None:
    with pytest.raises(PuzzleError, match=found):
        next(arc.generate(np.random.default_rng(0), **options))  # type: ignore[arg-type]
