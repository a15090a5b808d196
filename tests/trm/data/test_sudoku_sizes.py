"""Sudokus of 4x4, 6x6 and 16x16 in the forms that people write them in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests import doubles
from tests.forms import error, npy, read
from trm.data.datasets import labelled
from trm.data.files import load, strict
from trm.data.generate import generate
from trm.grid import Grid, PuzzleError
from trm.inference.inputs import as_puzzle
from trm.model.config import TRMConfig
from trm.model.layers import cell_groups
from trm.tasks import Puzzle, Status, Task, get
from trm.tasks.sudoku.solver import solve_sudoku
from trm.training.config import load_config

NAMES = ("sudoku4", "sudoku6", "sudoku16")
HEX, LETTERS = "0123456789ABCDEF", "ABCDEFGHIJKLMNOP"


def rows(text: str) -> list[str]:
    side = round(len(text) ** 0.5)
    return [text[at : at + side] for at in range(0, len(text), side)]


def grid_in(symbols: str, grid: Grid, blank: str = ".") -> str:
    return "\n".join("".join(symbols[cell - 1] if cell else blank for cell in row) for row in grid.tolist())


def numbers(grid: Grid, blank: str, between: str) -> str:
    return "\n".join(between.join(str(cell) if cell else blank for cell in row) for row in grid.tolist())


FORMS: dict[str, Callable[[Task, Puzzle], str]] = {
    "a line": lambda task, p: task.question_text(p),
    "zeros": lambda task, p: task.question_text(p).replace(".", "0"),
    "rows": lambda task, p: task.prompt_text(p),
    "dashes": lambda task, p: task.prompt_text(p).replace(".", "-"),
    "a line of dashes": lambda task, p: task.question_text(p).replace(".", "-"),
    "frames": lambda task, p: task.render(p),
    "a title": lambda task, p: "The first one\n" + task.prompt_text(p),
    "empty lines between bands": lambda task, p: _banded(task, p),
    "a list": lambda task, p: str(p.grid.tolist()),
    "numbers and zeros": lambda task, p: numbers(p.grid, "0", " "),
    "numbers and points": lambda task, p: numbers(p.grid, ".", "\t"),
    "numbers between commas": lambda task, p: numbers(p.grid, "", ","),
    "small letters": lambda task, p: task.prompt_text(p).lower(),
    "JSON": lambda task, p: json.dumps(
        {"puzzle": task.question_text(p), "solution": task.text(p.answers or ())}
    ),
    "columns": lambda task, p: f"question,answer\n{task.question_text(p)},{task.text(p.answers or ())}\n",
}


def _banded(task: Task, puzzle: Puzzle) -> str:
    lines, high = task.prompt_text(puzzle).split("\n"), 2 if task.height < 9 else 4
    return "\n\n".join("\n".join(lines[at : at + high]) for at in range(0, len(lines), high))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", NAMES)
def test_every_size_is_read_in_every_form(name: str, form: str, tmp_path: Path) -> None:
    task = get(name)
    for sample in task.samples():
        text = FORMS[form](task, sample)
        for kind in (None, "sudoku", name):
            (puzzle,) = strict(read(tmp_path, text, "f.jsonl" if form == "JSON" else "f.txt", kind))
            assert puzzle.task == name
            assert np.array_equal(puzzle.grid, sample.grid)
            assert puzzle.notes == ()


@pytest.mark.parametrize("name", NAMES)
def test_several_in_a_file_are_parted(name: str, tmp_path: Path) -> None:
    task = get(name)
    wanted = [task.question_text(sample) for sample in task.samples()]
    flat, grids = "\n".join(wanted), ["\n".join(rows(text)) for text in wanted]
    for text in (flat, "\n\n".join(grids), "\n".join(grids)):
        puzzles = strict(read(tmp_path, text))
        assert [task.question_text(puzzle) for puzzle in puzzles] == wanted
    listed = np.stack([sample.grid for sample in task.samples()])
    for array in (listed, listed.reshape(len(wanted), -1)):
        puzzles = strict(read(tmp_path, npy(array), "f.npy"))
        assert [task.question_text(puzzle) for puzzle in puzzles] == wanted
    other = "\n\n".join((*grids, "\n".join(rows(get("sudoku").question_text(get("sudoku").samples()[0])))))
    assert [puzzle.task for puzzle in strict(read(tmp_path, other))] == [name] * len(wanted) + ["sudoku"]


def test_the_symbols_of_sixteen_are_known_by_what_else_is_there() -> None:
    task = get("sudoku16")
    sample = task.samples()[0]
    (answer,) = sample.answers or ()
    for text in (grid_in(HEX, sample.grid), grid_in(LETTERS, sample.grid), grid_in(HEX, sample.grid, "-")):
        (puzzle,) = strict(load(text))
        assert np.array_equal(puzzle.grid, sample.grid)
    for text in (grid_in(HEX, answer), grid_in(LETTERS, answer), numbers(answer, "", " ")):
        assert np.array_equal(task.parse_answer(sample, text)[0], answer)


def test_words_are_no_rows_of_letters(tmp_path: Path) -> None:
    assert "no puzzle" in error(tmp_path, "Dear reader, all\nnothing is inside\n")


def test_arrays_and_named_sizes_are_puzzles_of_their_size() -> None:
    (sample, *_) = get("sudoku6").samples()
    for task in (None, "sudoku", "sudoku6"):
        for question in (sample.grid, sample.grid.tolist(), get("sudoku6").question_text(sample)):
            assert as_puzzle(question, task).task == "sudoku6"
    with pytest.raises(PuzzleError, match="expected one of 4x4"):
        as_puzzle(sample.grid, "sudoku4")


def test_sizes_do_not_mix_where_one_network_answers_or_learns(tmp_path: Path) -> None:
    lines = ["question,answer"]
    for name in ("sudoku6", "sudoku4"):
        task = get(name)
        lines += [f"{task.question_text(p)},{task.text(p.answers or ())}" for p in task.samples()]
    file = tmp_path / "both.csv"
    file.write_text("\n".join(lines))
    with pytest.raises(PuzzleError, match="sudoku4 and sudoku6"):
        labelled(str(file), "sudoku", any_size=True)
    file.write_text("\n".join(lines[:3]))
    assert {puzzle.task for puzzle in labelled(str(file), "sudoku", any_size=True)} == {"sudoku6"}
    with pytest.raises(PuzzleError, match="puzzles of sudoku6, expected sudoku alone"):
        labelled(str(file), "sudoku")


@pytest.mark.parametrize(("name", "n"), [("sudoku4", 20), ("sudoku6", 20), ("sudoku16", 2)])
def test_generated_puzzles_have_one_solution(name: str, n: int) -> None:
    task = get(name)
    puzzles = list(generate(name, n, 3))
    assert len({task.question_text(puzzle) for puzzle in puzzles}) == n
    for puzzle in puzzles:
        assert puzzle.task == name
        assert task.check(puzzle, puzzle.answers or ()).status is Status.VERIFIED
        (found,) = solve_sudoku(puzzle.grid).solutions
        assert np.array_equal(found, (puzzle.answers or ())[0])
    assert [task.question_text(p) for p in generate(name, n, 3)] == [task.question_text(p) for p in puzzles]


def test_the_options_of_the_generator_fit_the_size() -> None:
    assert {p.meta["clues"] for p in generate("sudoku4", 8, 0, clues=4)} == {4}
    with pytest.raises(PuzzleError, match="from 4 to 16"):
        list(generate("sudoku4", 1, 0, clues=3))


def test_heads_see_boxes_of_the_size() -> None:
    config = TRMConfig(36, 8, canvas_width=6, box=2, box_width=3, positions="groups", hidden_size=32, heads=4)
    boxes = cell_groups(config)[2].numpy()
    for box in get("sudoku6").size.units[12:]:  # type: ignore[attr-defined]
        assert len(set(boxes[box].tolist())) == 1
    assert len(set(boxes.tolist())) == 6


def test_without_an_expert_the_command_that_trains_one_is_named() -> None:
    with pytest.raises(PuzzleError, match=r"trm train configs/sudoku6\.toml"):
        doubles.refiner(doubles.echoes).refine(get("sudoku6").samples()[0])


@pytest.mark.parametrize("name", NAMES)
def test_each_configuration_fits_its_task(name: str) -> None:
    config = load_config(Path(__file__).parents[3] / "configs" / f"{name}.toml")
    task = get(name)
    assert (config.model.seq_len, config.model.canvas_width) == (task.seq_len, task.width)
    assert int(cell_groups(config.model)[2].max()) + 1 == task.height
