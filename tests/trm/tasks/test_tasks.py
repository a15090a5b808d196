"""One contract for every task: what `trm.tasks.base.Task` promises, on the bundled samples."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from typing import Any

import numpy as np
import pytest

import trm
import trm.tasks
from trm.grid import Grid, PuzzleError
from trm.tasks import PAD, Puzzle, Status, Task, get, names, registry
from trm.tasks.base import IGNORE

TASKS = [get(name) for name in names()]
SAMPLES = [pytest.param(get(name), p, id=p.id) for name in names() for p in get(name).samples()]
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def known(puzzle: Puzzle) -> tuple[Grid, ...]:
    assert puzzle.answers is not None
    return puzzle.answers


def same(left: tuple[Grid, ...], right: tuple[Grid, ...]) -> bool:
    return len(left) == len(right) and all(map(np.array_equal, left, right))


def test_the_registry_names_its_tasks_and_refuses_others() -> None:
    assert names() == ["arc", "maze", "sudoku"]
    with pytest.raises(PuzzleError, match="unknown task 'chess', expected one of arc, maze, sudoku"):
        get("chess")


def test_tasks_cost_no_torch() -> None:
    code = "import sys, trm.tasks as t; t.names(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_samples_are_enough_and_named_apart(task: Task) -> None:
    ids = [puzzle.id for puzzle in task.samples()]
    assert len(ids) == len(set(ids)) >= 2


@pytest.mark.parametrize(("task", "puzzle"), SAMPLES)
def test_text_round_trips(task: Task, puzzle: Puzzle) -> None:
    task.validate(puzzle)
    for text in (task.question_text(puzzle), task.prompt_text(puzzle)):
        again = task.parse(text)
        assert same(again.inputs, puzzle.inputs)
        assert all(same(a, b) for a, b in zip(again.demos, puzzle.demos, strict=True))
        assert again.answers is None  # a question gives nothing away
    assert same(task.parse_answer(puzzle, task.text(known(puzzle))), known(puzzle))


@pytest.mark.parametrize(("task", "puzzle"), SAMPLES)
def test_tokens_round_trip(task: Task, puzzle: Puzzle) -> None:
    for index, (question, answer) in enumerate(zip(puzzle.inputs, known(puzzle), strict=True)):
        tokens = task.encode_question(puzzle, index)
        assert tokens.shape == (task.seq_len,)
        assert 0 <= tokens.min() <= tokens.max() < task.vocab_size
        canvas = tokens.reshape(task.height, task.width)[: question.shape[0], : question.shape[1]]
        assert (canvas == canvas.clip(1 + task.reserved)).all()

        label = task.encode_label(puzzle, index)
        assert (label != PAD).all()
        assert np.array_equal(task.decode(puzzle, np.where(label == IGNORE, PAD, label), index), answer)
        draft = task.encode_draft(puzzle, answer, index)
        assert np.array_equal(draft, np.where(label == IGNORE, PAD, label))


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_tokens_follow_the_published_layout(task: Task) -> None:
    assert (task.vocab_size, task.seq_len) == {"sudoku": (11, 81), "maze": (6, 900), "arc": (12, 900)}[
        task.name
    ]
    with pytest.raises(PuzzleError, match="expected at most"):
        task.encode(np.full((31, 2), task.symbols[0], dtype=np.uint8))
    with pytest.raises(PuzzleError, match="row 2, cell 1: symbol 200 is unknown"):
        task.encode(np.array([[task.symbols[0]], [200]], dtype=np.uint8))


@pytest.mark.parametrize(("task", "puzzle"), SAMPLES)
def test_check_accepts_the_answer_and_rejects_what_is_not_one(task: Task, puzzle: Puzzle) -> None:
    right = Status.VERIFIED if task.has_checker else Status.UNVERIFIED
    answers = known(puzzle)
    assert task.check(puzzle, answers).status is right
    assert task.check(puzzle, answers).violations == ()

    first, rest = answers[0], answers[1:]
    wrong: list[Any] = [first[:0], first[None], np.full_like(first, 200), first.astype(np.int64) - 1000]
    wrong += [puzzle.inputs[0], first[:-1], np.roll(first, 1)] if task.has_checker else []
    for grid in wrong:
        verdict = task.check(puzzle, (grid, *rest))
        assert verdict.status is Status.UNSOLVED
        assert all(verdict.violations)
        assert verdict.violations
    for grids in ((), (*answers, first)):
        assert task.check(puzzle, grids).status is Status.UNSOLVED


@pytest.mark.parametrize(("task", "puzzle"), [param for param in SAMPLES if "arc" not in str(param.id)])
def test_check_sees_every_single_cell(task: Task, puzzle: Puzzle) -> None:
    answer = known(puzzle)[0]
    rng = np.random.default_rng(0)
    for cell in range(answer.size):
        changed = answer.copy()
        others = [symbol for symbol in task.symbols if symbol != answer.flat[cell]]
        changed.flat[cell] = rng.choice(others)
        assert task.check(puzzle, changed).status is Status.UNSOLVED


@pytest.mark.parametrize(("task", "puzzle"), SAMPLES)
def test_symmetries_undo_themselves_and_keep_right_answers_right(task: Task, puzzle: Puzzle) -> None:
    question, answer = puzzle.inputs[0], known(puzzle)[0]
    rng = np.random.default_rng(0)
    for _ in range(20):
        symmetry = task.symmetries(question.shape).draw(rng)
        assert np.array_equal(symmetry.inverse(symmetry.forward(question)), question)
        if question.shape == answer.shape:
            moved = Puzzle(task.name, (symmetry.forward(question),), demos=puzzle.demos)
            task.validate(moved)
            expected = task.check(Puzzle(task.name, (question,), demos=puzzle.demos), answer)
            assert task.check(moved, symmetry.forward(answer)) == expected


@pytest.mark.parametrize(("task", "puzzle"), SAMPLES)
@pytest.mark.parametrize("answered", [False, True])
def test_render_draws_the_same_with_and_without_colour(task: Task, puzzle: Puzzle, answered: bool) -> None:
    grids = known(puzzle) if answered else None
    plain, colour = (task.render(puzzle, grids, colour=c) for c in (False, True))
    assert "\x1b" not in plain
    assert "\x1b" in colour
    assert "!" not in plain  # nothing is wrong with it
    assert plain.count("\n") == colour.count("\n")
    for line in colour.split("\n"):  # styles end with their line
        assert not ANSI.findall(line) or ANSI.findall(line)[-1] == "\x1b[0m"
    assert not plain.endswith("\n")


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.name)
def test_render_survives_any_grid(task: Task) -> None:
    puzzle = task.samples()[0]
    for grid in (np.full((2, 3), 200, dtype=np.uint8), np.zeros_like(puzzle.inputs[0])):
        for colour in (False, True):
            assert task.render(puzzle, (grid,), colour)


@pytest.mark.parametrize(("task", "puzzle"), [(get(p.values[0].name), p.values[1]) for p in SAMPLES])
def test_a_blank_draft_adds_nothing_to_the_question(task: Task, puzzle: Puzzle) -> None:
    blank = task.blank_draft(puzzle)
    known_cells = [
        int(((grid != 0) & (grid != own)).sum()) for grid, own in zip(blank, puzzle.inputs, strict=True)
    ]
    assert known_cells == [0] * len(puzzle.inputs)
    assert same(tuple(grid * 0 for grid in blank), tuple(grid * 0 for grid in puzzle.inputs))
    if task.name.startswith("sudoku"):
        assert not blank[0].any()


def test_packages_of_others_cannot_take_a_name_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint(name, f"{name}:TASK", registry.GROUP) for name in ("zebra", "sudoku", "sudoku6", "aunt")
    ]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    for cached in (registry._outside, registry._in_order):
        cached.cache_clear()
    try:
        assert names() == ["arc", "aunt", "maze", "sudoku", "zebra"]
        assert get("sudoku").name == "sudoku"
        with pytest.raises(PuzzleError, match="'zebra' cannot be loaded from zebra:TASK"):
            get("zebra")
    finally:
        monkeypatch.undo()
        for cached in (registry._outside, registry._in_order):
            cached.cache_clear()


def test_packages_export_what_they_name() -> None:
    for module in (trm, trm.tasks):
        assert [name for name in module.__all__ if not hasattr(module, name)] == []
