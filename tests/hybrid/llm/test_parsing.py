"""Replies as language models write them, read into grids."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.llm.chat.grid_text import write_grid
from hybrid.llm.chat.parsing import Reading, read_grid
from trm import tasks
from trm.grid import Grid
from trm.tasks import Puzzle

SUDOKU, MAZE, ARC = (tasks.get(name) for name in ("sudoku", "maze", "arc"))
ROWS = [
    "534678912",
    "672195348",
    "198342567",
    "859761423",
    "426853791",
    "713924856",
    "961537284",
    "287419635",
    "345286179",
]
SOLVED = np.array([[int(c) for c in row] for row in ROWS], dtype=np.uint8)
OPEN = SOLVED * (np.arange(81).reshape(9, 9) % 3 != 0).astype(np.uint8)
SPACED = "\n".join(" ".join(row) for row in ROWS)
RULED = "\n".join(
    "| " + " | ".join(row) + " |" + ("\n|---+---+---|" if i in (2, 5) else "") for i, row in enumerate(ROWS)
)
ECHO = "\n".join("".join(str(c or ".") for c in row) for row in OPEN.tolist())

WALLED = ["#####", "#S  #", "### #", "#G  #", "#####"]
MARKED = ["#####", "#Soo#", "###o#", "#Goo#", "#####"]
BARE = ["S  ", "## ", "G  "]  # no border: rows end in free cells
BARE_MARKED = ["Soo", "##o", "Goo"]


def codes(rows: Sequence[str]) -> np.ndarray:
    return np.array([[ord(c) for c in row] for row in rows], dtype=np.uint8)


MAZE_PUZZLE, BARE_PUZZLE = Puzzle("maze", (codes(WALLED),)), Puzzle("maze", (codes(BARE),))


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(ROWS),
        SPACED,
        f"Sure! Here is the solved Sudoku:\n\n```text\n{SPACED}\n```\nEach row holds 1 to 9.",
        "".join(ROWS),
        f"Answer: \n`{''.join(ROWS)}`",
        "\n".join(",".join(row) for row in ROWS),
        "\n".join("-".join(row) for row in ROWS),
        RULED,
        f"**Solution**\n\n{RULED}",
        str([[int(c) for c in row] for row in ROWS]),
        "[\n" + ",\n".join(str([int(c) for c in row]) for row in ROWS) + "\n]",
        '{"grid": ' + str(ROWS).replace("'", '"') + "}",
        "\n".join(f"row {n}: {' '.join(row)}" for n, row in enumerate(ROWS, 1)),
        "\n".join(f"Row {n} = {row}" for n, row in enumerate(ROWS, 1)),
        "\n".join(f"{n}. {' '.join(row)}" for n, row in enumerate(ROWS, 1)),
        "\n".join(f"{n}) {row}" for n, row in enumerate(ROWS, 1)),
        "\n\n".join(SPACED.split("\n")),
        f"The question:\n{ECHO}\n\nThe answer:\n{SPACED}",
        f"{ECHO}\n\n{SPACED}",
        f"{SPACED}\n\nfor the puzzle\n\n{ECHO}",
        f"<think>Perhaps\n{ECHO}\n</think>\n{SPACED}",
        SPACED.replace("\n", "\r\n"),
    ],
)
def test_whole_sudokus_are_read(text: str) -> None:
    reading = read_grid(text, SUDOKU, OPEN)
    assert reading.error is None
    assert reading.grid is not None
    np.testing.assert_array_equal(reading.grid, SOLVED)


def test_a_wrong_sudoku_stays_what_the_reply_says() -> None:
    reading = read_grid("\n".join(["999999999"] * 9), SUDOKU, OPEN)
    assert reading.grid is not None
    assert (reading.grid == 9).all()
    assert reading.error is None


@pytest.mark.parametrize("blank", [".", "_", "0", "-", "?"])
def test_blanks_of_a_sudoku(blank: str) -> None:
    reading = read_grid("\n".join([ROWS[0].replace("4", blank), *ROWS[1:]]), SUDOKU, OPEN)
    assert reading.grid is not None
    assert reading.grid[0].tolist() == [5, 3, 0, 6, 7, 8, 9, 1, 2]


def test_an_echo_is_named() -> None:
    reading = read_grid(ECHO, SUDOKU, OPEN)
    assert reading.error == "the reply repeats the question"


def test_rows_of_wrong_length_are_left_blank() -> None:
    reading = read_grid("\n".join([*ROWS[:3], "85976142", *ROWS[4:]]), SUDOKU, OPEN)
    assert reading.error == "row 4 held 8 cells, expected 9"
    assert reading.grid is not None
    assert (reading.grid[3] == 0).all()
    np.testing.assert_array_equal(reading.grid[4:], SOLVED[4:])


@pytest.mark.parametrize("first", [0, 2])
def test_too_few_rows_go_where_the_givens_agree(first: int) -> None:
    reading = read_grid("\n".join(ROWS[first : first + 7]), SUDOKU, OPEN)
    assert reading.error == "reply held 7 rows, expected 9"
    assert reading.grid is not None
    np.testing.assert_array_equal(reading.grid[first : first + 7], SOLVED[first : first + 7])
    assert (reading.grid == 0).sum() == 18


def test_too_many_rows_are_named() -> None:
    reading = read_grid("\n".join([*ROWS, ROWS[0], ROWS[1]]), SUDOKU, OPEN)
    assert reading.error == "reply held 11 rows, expected 9"
    np.testing.assert_array_equal(reading.grid, SOLVED)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("I cannot solve this puzzle.", "no grid in the reply"),
        ("", "no grid in the reply"),
        ("\n".join(ROWS[:4]), "reply held 4 rows, expected 9"),
        ("\n".join(row[:8] for row in ROWS), "row 1 held 8 cells, expected 9; row 2"),
        ("[" * 5000, "no grid in the reply"),
    ],
)
def test_less_than_half_a_sudoku_is_no_draft(text: str, error: str) -> None:
    reading = read_grid(text, SUDOKU, OPEN)
    assert reading.grid is None
    assert reading.error is not None
    assert reading.error.startswith(error)


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(MARKED),
        "Here it is:\n\n```\n" + "\n".join(MARKED) + "\n```\nThe path has 7 moves. Go!",
        "\n".join(" ".join(row) for row in MARKED),
        str(MARKED).replace("'", '"'),
        str([list(row) for row in MARKED]),
        "\n".join(f"row {n}: {row}" for n, row in enumerate(MARKED, 1)),
        "\n".join(f"| {' | '.join(row)} |" for row in MARKED),
        "\n".join(f'"{row}",' for row in MARKED),
        "\n".join(WALLED) + "\n\n" + "\n".join(MARKED),
        "\n".join(MARKED).replace("o", "O"),
    ],
)
def test_whole_mazes_are_read(text: str) -> None:
    reading = read_grid(text, MAZE, MAZE_PUZZLE.grid)
    assert reading.error is None
    np.testing.assert_array_equal(reading.grid, codes(MARKED))


def test_free_cells_at_the_ends_of_a_mazes_rows() -> None:
    partly = ["Soo", "##o", "G"]  # two free cells lost on the right
    reading = read_grid("```\n" + "\n".join(partly) + "\n```", MAZE, BARE_PUZZLE.grid)
    np.testing.assert_array_equal(reading.grid, codes(["Soo", "##o", "G  "]))
    question = codes([" S ", "   ", " G "])  # a leading space is a cell; an empty line was a row of spaces
    reading = read_grid("```\n S\n\n G\n```", MAZE, question)
    np.testing.assert_array_equal(reading.grid, question)
    reading = read_grid("\n".join(row + "  " for row in BARE_MARKED), MAZE, BARE_PUZZLE.grid)
    np.testing.assert_array_equal(reading.grid, codes(BARE_MARKED))


def test_short_rows_below_a_maze_are_too_many() -> None:
    reading = read_grid("```\n" + "\n".join([*BARE_MARKED, "o"]) + "\n```", MAZE, BARE_PUZZLE.grid)
    np.testing.assert_array_equal(reading.grid, codes(BARE_MARKED))
    assert reading.error == "reply held 4 rows, expected 3"


def test_unreadable_rows_of_a_maze_are_the_questions() -> None:
    reading = read_grid("\n".join([*MARKED[:2], "###o##", *MARKED[3:]]), MAZE, MAZE_PUZZLE.grid)
    assert reading.error == "row 3 held 6 cells, expected 5"
    np.testing.assert_array_equal(reading.grid, codes([*MARKED[:2], WALLED[2], *MARKED[3:]]))


ARC_GRID = np.array([[0, 1, 2], [3, 4, 5]], dtype=np.uint8)


@pytest.mark.parametrize(
    "text",
    [
        "[[0, 1, 2], [3, 4, 5]]",
        "012\n345",
        "0 1 2\n3 4 5",
        "The output has 2 rows:\n```\n0 1 2\n3 4 5\n```\nIt is 3 wide:\n3",
        "1 1\n1 1\n\nbecomes\n\n0,1,2\n3,4,5",
        '{"output": [[0,1,2],[3,4,5]]}',
        "row 1: 0 1 2\nrow 2: 3 4 5",
        "1) 0 1 2\n2) 3 4 5",
        "1: 0 1 2\n2: 3 4 5",
        "[[[0, 1, 2], [3, 4, 5]]]",
        "[[[9, 9]], [[0, 1, 2], [3, 4, 5]]]",  # of several the last
        "[[0,1,2],[3,4,5]",
    ],
)
def test_arc_grids_have_any_shape(text: str) -> None:
    reading = read_grid(text, ARC, np.ones((2, 2), dtype=np.uint8))
    np.testing.assert_array_equal(reading.grid, ARC_GRID)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("0 1 2\n3 4\n5 6 7", "row 2 held 2 cells, expected 3"),
        ("\n".join(["1" * 31] * 2), "grid of 2x31, expected at most 30x30"),
        ("none", "no grid in the reply"),
    ],
)
def test_ragged_arc_grids_are_none(text: str, error: str) -> None:
    reading = read_grid(text, ARC, np.ones((2, 2), dtype=np.uint8))
    assert (reading.grid, reading.error) == (None, error)


# -- whatever a model writes ---------------------------------------------------------------------------------
QUESTIONS = [(SUDOKU, OPEN), (MAZE, codes(WALLED)), (MAZE, codes(BARE)), (ARC, ARC_GRID)]
PIECES = ["```", "row 1: ", "12) ", "<think>", "</think>", "], [", "\ud800", "null", "NaN"]
PIECES += "0123456789#SGo .·_|-+=:,;[]{}()\"'`*\n\t\r"


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(QUESTIONS),
    st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=200).map("".join)),
)
def test_any_text_is_a_reading(question: tuple[tasks.Task, Grid], text: str) -> None:
    task, grid = question
    reading = read_grid(text, task, grid)
    assert isinstance(reading, Reading)
    assert reading.grid is not None or reading.error
    if reading.grid is not None:
        assert reading.grid.dtype == np.uint8
        assert set(np.unique(reading.grid)) <= set(task.symbols)
        assert not task.fills or reading.grid.shape == grid.shape


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_what_prompts_show_is_read_back(data: st.DataObject) -> None:
    task, question = data.draw(st.sampled_from(QUESTIONS))
    shape = question.shape if task.fills else (data.draw(st.integers(1, 30)), data.draw(st.integers(1, 30)))
    symbols = (
        task.symbols if task is not MAZE else (ord("#"), ord("o"), ord("S"))
    )  # free cells at a row's end may go
    cells = data.draw(
        st.lists(st.sampled_from(symbols), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1])
    )
    grid = np.array(cells, dtype=np.uint8).reshape(shape)
    before, after = data.draw(st.sampled_from([("", ""), ("Here it is:\n\n", "\n\nI hope it helps.")]))
    reading = read_grid(before + write_grid(grid, task) + after, task, question)
    np.testing.assert_array_equal(reading.grid, grid)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        "[" * 100_000 + "]" * 100_000,
        "[1]" * 70_000,
        '{"a":' * 40_000,
        "[" + '{"a":' * 2000 + "1" + "}" * 2000 + "]",
        "##|" + " " * 4000 + "#",
        ("##|" + " " * 4000 + "#\n") * 50,
        "1: " + " " * 4000 + ":",
        "-" * 200_000,
        "] ," * 70_000,
        "\n" * 200_000,
        "1\n" * 100_000,
        "#\n" * 100_000,
        "1 " * 100_000,
        "<think>" * 30_000,
        "row " * 50_000,
        "'" * 200_000,
        "[[" + "9" * 5000 + "]]",
    ],
    ids=lambda text: f"{text[:6]!r} x {len(text)}",
)
@pytest.mark.parametrize(
    ("task", "question"), [QUESTIONS[i] for i in (0, 1, 3)], ids=["sudoku", "maze", "arc"]
)
def test_reading_takes_linear_time(task: tasks.Task, question: Grid, text: str) -> None:
    started = time.process_time()
    read_grid(text, task, question)
    assert time.process_time() - started < 0.2
