"""Properties of all tasks: whatever text comes, only PuzzleError is raised; what is written is read as it was."""

from __future__ import annotations

import json
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from trm.grid import Grid, PuzzleError
from trm.tasks import Puzzle, Status, Task, detect, get, names
from trm.tasks.transforms import (
    IDENTITY,
    RestrictedTransform,
    TaskView,
    draw_task_view,
    exchangeable_colours,
    longest_test_side,
)

settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("repeatable")

TASKS = [pytest.param(get(name), id=name) for name in names()]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 12) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["train", "test", "input", "output"]), inner, max_size=4)
    ),
    max_leaves=20,
)
TEXTS = st.one_of(
    st.text(max_size=200),
    st.text("0123456789._|+-\n\r\t ²", max_size=200),
    st.text("# SGo\n\r", max_size=200),
    st.text('[]{},:"0123456789 \n', max_size=100),
    JSON.map(json.dumps),
)
ANY_GRID = arrays(np.uint8, st.tuples(st.integers(0, 12), st.integers(0, 12)))


def grids(symbols: tuple[int, ...], least: int = 1, most: int = 30) -> st.SearchStrategy[Grid]:
    shapes = st.tuples(st.integers(least, most), st.integers(least, most))
    return arrays(np.uint8, shapes, elements=st.sampled_from(symbols))


def questions(task: Task) -> st.SearchStrategy[Puzzle]:
    """Puzzles as `parse` may return them, valid or not."""
    if task.name == "sudoku":
        grid = arrays(np.uint8, (9, 9), elements=st.integers(0, 9))
        return grid.map(lambda cells: Puzzle("sudoku", (cells,)))
    if task.name == "maze":
        return grids(task.symbols[:4], least=2).map(lambda cells: Puzzle("maze", (cells,)))
    colours = grids(task.symbols, most=8)
    demos = st.lists(st.tuples(colours, colours), min_size=1, max_size=3)
    inputs = st.lists(colours, min_size=1, max_size=2)
    return st.builds(lambda some, pairs: Puzzle("arc", tuple(some), demos=tuple(pairs)), inputs, demos)


@pytest.mark.parametrize("task", TASKS)
@given(text=TEXTS)
@example(text="")
@example(text="[" * 100_000)
@example(text="\x0c" * 81)
def test_any_text_is_a_puzzle_or_a_puzzle_error(task: Task, text: str) -> None:
    sample = task.samples()[0]
    for read in (task.parse, task.read, lambda text: task.parse_answer(sample, text), detect):
        with suppress(PuzzleError):
            read(text)
    assert 0 <= task.detect(text) <= 1


@pytest.mark.parametrize("task", TASKS)
@given(value=JSON)
def test_any_json_is_a_puzzle_or_a_puzzle_error(task: Task, value: object) -> None:
    with suppress(PuzzleError):
        task.validate(task.read(value))


@pytest.mark.parametrize("task", TASKS)
@given(data=st.data())
def test_questions_and_tokens_round_trip(task: Task, data: st.DataObject) -> None:
    puzzle = data.draw(questions(task))
    for text in (task.question_text(puzzle), task.prompt_text(puzzle)):
        again = task.parse(text)
        assert all(map(np.array_equal, again.inputs, puzzle.inputs))
        assert all(map(np.array_equal, sum(again.demos, ()), sum(puzzle.demos, ())))
    for index, grid in enumerate(puzzle.inputs):
        assert np.array_equal(task.decode(puzzle, task.encode_question(puzzle, index), index), grid)


@pytest.mark.parametrize("task", TASKS)
@given(data=st.data())
def test_answers_round_trip(task: Task, data: st.DataObject) -> None:
    puzzle = data.draw(questions(task))
    answers = tuple(
        data.draw(arrays(np.uint8, grid.shape, elements=st.sampled_from(task.symbols)))
        for grid in puzzle.inputs
    )
    assert all(map(np.array_equal, task.parse_answer(puzzle, task.text(answers)), answers))


@pytest.mark.parametrize("task", TASKS)
@given(grid=ANY_GRID)
def test_any_grid_is_judged_and_drawn(task: Task, grid: Grid) -> None:
    puzzle = task.samples()[0]
    verdict = task.check(puzzle, grid)
    assert verdict.status is not Status.VERIFIED
    assert bool(verdict.violations) == (verdict.status is Status.UNSOLVED)
    task.render(puzzle, (grid,), colour=True)
    task.accepts_grid(grid)
    with suppress(PuzzleError):
        task.validate(Puzzle(task.name, (grid,), demos=((grid, grid),)))


@pytest.mark.parametrize("task", TASKS)
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_symmetries_and_restrictions_have_inverses(task: Task, data: st.DataObject, seed: int) -> None:
    rng = np.random.default_rng(seed)
    puzzle = data.draw(questions(task))
    symmetry = task.symmetries(puzzle.grid.shape).draw(rng)
    given_too = np.where(rng.random(puzzle.grid.shape) < 0.3, task.symbols[0], puzzle.grid).astype(np.uint8)
    for transform in (IDENTITY, symmetry, RestrictedTransform(symmetry, puzzle.grid, given_too)):
        assert np.array_equal(transform.inverse(transform.forward(puzzle.grid)), puzzle.grid)
        assert transform.forward(puzzle.grid).dtype == np.uint8


@given(puzzle=questions(get("arc")), seed=st.integers(0, 2**32), side=st.sampled_from([0, 8, 20, 30]))
def test_views_of_tasks_have_inverses(puzzle: Puzzle, seed: int, side: int) -> None:
    view = draw_task_view(puzzle, np.random.default_rng(seed), side, recolour=0.5, enlarged=True)
    for grid in (*puzzle.inputs, *sum(puzzle.demos, ())):
        assert np.array_equal(view.inverse(view.forward(grid)), grid)
    fixed = ~exchangeable_colours(puzzle)
    assert (view.colours[:10][fixed] == np.flatnonzero(fixed)).all()
    if side:
        most = side - view.scale * min(side, longest_test_side(puzzle))
        assert 0 <= view.top <= most
        assert 0 <= view.left <= most


@given(grid=grids(tuple(range(10)), most=12), turn=st.integers(0, 7), scale=st.integers(1, 3))
def test_any_grid_has_an_inverse_under_a_view(grid: Grid, turn: int, scale: int) -> None:
    back = TaskView(turn, scale=scale).inverse(grid)
    assert set(back.flat) <= set(grid.flat)
    assert min(back.shape) >= 1
