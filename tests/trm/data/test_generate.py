from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from trm.data.datasets import write
from trm.data.generate import generate
from trm.grid import PuzzleError
from trm.tasks import Status, get
from trm.tasks.arc.generator import RULES
from trm.tasks.maze import generator as maze_generator
from trm.tasks.maze.solver import shortest_path
from trm.tasks.sudoku.solver import solve_sudoku


@pytest.mark.parametrize(
    ("name", "options"),
    [("sudoku", {"clues": (30, 40)}), ("maze", {"height": 8}), ("arc", {})],
)
def test_same_seed_same_puzzles_and_all_valid(name: str, options: dict[str, object]) -> None:
    task = get(name)
    first, again, other = (list(generate(name, 5, seed, **options)) for seed in (3, 3, 4))
    texts = [task.question_text(puzzle) for puzzle in first]
    assert texts == [task.question_text(puzzle) for puzzle in again]
    assert len(set(texts) | {task.question_text(puzzle) for puzzle in other}) == 10
    assert len({puzzle.id for puzzle in first + other}) == 10
    for puzzle in first:
        task.validate(puzzle)
        assert puzzle.answers is not None
        expected = Status.VERIFIED if task.has_checker else Status.UNVERIFIED
        assert task.check(puzzle, puzzle.answers).status is expected


@pytest.mark.parametrize("clues", [28, (40, 44), 81])
def test_sudokus_have_one_solution_and_the_clues_asked_for(clues: int | tuple[int, int]) -> None:
    low, high = (clues, clues) if isinstance(clues, int) else clues
    for puzzle in generate("sudoku", 4, 0, clues=clues):
        assert low <= np.count_nonzero(puzzle.grid) <= high
        assert len(solve_sudoku(puzzle.grid).solutions) == 1


def test_sudokus_are_as_hard_as_asked_for() -> None:
    for puzzle in generate("sudoku", 3, 0, clues=(22, 27), guesses=(4, 60)):
        assert 4 <= solve_sudoku(puzzle.grid).guesses <= 60
    for puzzle in generate("sudoku", 3, 0, clues=(26, 32), guesses=(0, 0)):
        assert solve_sudoku(puzzle.grid).guesses == 0


def test_sudokus_near_others_keep_their_solution_and_swap_clues(tmp_path: Path) -> None:
    models = list(generate("sudoku", 3, 0, clues=26))
    source = str(tmp_path / "models.csv")
    write(Path(source), "sudoku", models)
    solutions = {bytes(model.answers[0]): model.grid for model in models if model.answers}
    made = list(generate("sudoku", 12, 0, like=source, swaps=(1, 3)))
    assert len({bytes(puzzle.grid) for puzzle in made}) > 6
    for puzzle in made:
        assert puzzle.answers is not None
        model = solutions[bytes(puzzle.answers[0])]
        found = solve_sudoku(puzzle.grid).solutions
        assert len(found) == 1
        assert np.array_equal(found[0], puzzle.answers[0])
        assert np.any((puzzle.grid == 0) & (model != 0))
        for cell in np.argwhere(puzzle.grid):  # no clue that is not needed
            fewer = puzzle.grid.copy()
            fewer[tuple(cell)] = 0
            assert len(solve_sudoku(fewer).solutions) == 2
    as_they_are = generate("sudoku", 12, 0, like=source, swaps=0)
    assert {bytes(puzzle.grid) for puzzle in as_they_are} == {bytes(model.grid) for model in models}
    others = list(generate("sudoku", 12, 0, like=source, swaps=(2, 3), drift=True))
    for puzzle in others:
        assert puzzle.answers is not None
        assert bytes(puzzle.answers[0]) not in solutions
        assert np.array_equal(solve_sudoku(puzzle.grid).solutions[0], puzzle.answers[0])
        kept = max(np.count_nonzero((model.grid != 0) & (model.grid == puzzle.grid)) for model in models)
        assert kept > 9  # clues that it has in common with one of them
    few = generate("sudoku", 6, 0, like=source, clues=(17, 24), guesses=(2, 1000))
    assert all(np.count_nonzero(p.grid) <= 24 and solve_sudoku(p.grid).guesses >= 2 for p in few)


def test_mazes_have_shape_length_and_label_asked_for() -> None:
    task = get("maze")
    for puzzle in generate("maze", 10, 0, height=(5, 7), width=12, wall=0.3, min_path=9):
        height, width = puzzle.grid.shape
        assert 5 <= height <= 7
        assert width == 12
        assert puzzle.answers is not None
        path = shortest_path(puzzle.grid)
        assert path is not None
        assert np.array_equal(path, puzzle.answers[0])
        moves = np.count_nonzero(path != puzzle.grid) + 1
        assert puzzle.meta["moves"] == moves >= 9
        assert task.check(puzzle, path).status is Status.VERIFIED


def test_broad_mazes_are_of_every_size_and_have_their_shortest_path() -> None:
    task = get("maze")
    puzzles = list(generate("maze", 24, 0, broad=1.0))
    sides = {side for puzzle in puzzles for side in puzzle.grid.shape}
    assert min(sides) < 8
    assert max(sides) > 27
    assert sides <= set(range(5, 31))
    for puzzle in puzzles:
        assert puzzle.answers is not None
        assert task.check(puzzle, puzzle.answers).status is Status.VERIFIED
    walls = [float((puzzle.grid == ord("#")).mean()) for puzzle in puzzles]
    assert min(walls) < 0.2
    assert max(walls) > 0.4


def test_large_mazes_look_like_the_benchmark() -> None:
    (puzzle,) = generate("maze", 1, 0)
    assert puzzle.grid.shape == (30, 30)
    assert isinstance(puzzle.meta["moves"], int)
    assert puzzle.meta["moves"] >= 109
    assert 0.25 < (puzzle.grid == ord("#")).mean() < 0.5


@pytest.mark.parametrize("rule", RULES)
def test_arc_tasks_follow_their_rule(rule: str) -> None:
    for puzzle in generate("arc", 3, 0, rule=rule, demos=4, size=(3, 5)):
        assert puzzle.answers is not None
        assert puzzle.meta["synthetic"] == rule
        pairs = [*puzzle.demos, (puzzle.grid, puzzle.answers[0])]
        assert len(pairs) == 5
        if rule == "recolour":
            named = {(a, b) for before, after in pairs for a, b in zip(before.flat, after.flat, strict=True)}
            assert len({a for a, _ in named}) == len(named)  # one colour to one colour, in all pairs
        else:
            for before, after in pairs:
                assert np.array_equal(RULES[rule](before, np.arange(10, dtype=np.uint8)), after)
        assert json.loads(get("arc").question_text(puzzle))["train"]


def test_gravity_pulls_down() -> None:
    grid = np.array([[1, 0], [0, 2], [3, 0]], dtype=np.uint8)
    assert RULES["gravity"](grid, grid).tolist() == [[0, 0], [1, 0], [3, 2]]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("chess", {}, "unknown task 'chess'"),
        (
            "maze",
            {"hieght": 5},
            "maze: unknown option 'hieght', expected one of height, width, wall, min_path",
        ),
        ("maze", {"height": 31}, "height 31: expected whole numbers from 2 to 30"),
        ("maze", {"wall": 1.0}, "wall 1.0: expected shares"),
        ("maze", {"height": 2, "min_path": 9}, "maze: 2x2 with 9 moves or more"),
        ("maze", {"wall": (0.4, 0.3)}, "smaller first"),
        ("maze", {"min_path": "far"}, "min_path 'far': expected a number"),
        ("maze", {"broad": 2.0}, "broad 2.0: expected a share from 0 to 1"),
        ("maze", {"broad": 1, "height": 8}, "broad 1: mazes of any size and kind, expected no height"),
        ("sudoku", {"clues": (40, 30)}, "smaller first"),
        ("sudoku", {"clues": (40,)}, "clues .* expected a number, or two"),
        ("sudoku", {"clues": 16}, "clues 16: expected whole numbers from 17 to 81"),
        ("sudoku", {"guesses": 1.5}, "guesses 1.5"),
        ("sudoku", {"swaps": 2}, "expected like"),
        ("sudoku", {"drift": True}, "expected like"),
        ("sudoku", {"exclude": ("1" * 81,)}, "expected like"),
        ("sudoku", {"like": "none.csv"}, "none.csv"),
        ("sudoku", {"like": 3}, "like 3: expected"),
        ("arc", {"rule": "fly"}, "unknown rule 'fly'"),
        ("arc", {"demos": 0}, "demos 0: expected whole numbers from 1"),
    ],
)
def test_requests_that_cannot_be_met_are_refused(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(PuzzleError, match=message):
        list(generate(name, 1, 0, **options))


def test_mazes_that_hardly_exist_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maze_generator, "TRIES", 640)
    with pytest.raises(PuzzleError, match="none in 640 tries"):
        list(generate("maze", 1, 0, height=3, min_path=8))  # with nine cells there are eight moves at most
    assert len(list(generate("maze", 3, 0, height=4, min_path=1))) == 3
