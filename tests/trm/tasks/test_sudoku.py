from __future__ import annotations

import numpy as np
import pytest

from trm.grid import GridParseError, PuzzleError
from trm.tasks import Puzzle, Status, get
from trm.tasks.sudoku.task import MOVES, UNITS

SUDOKU = get("sudoku")
SAMPLE = SUDOKU.samples()[0]
FLAT = SUDOKU.question_text(SAMPLE)
LINES = [FLAT[i : i + 9] for i in range(0, 81, 9)]


@pytest.mark.parametrize(
    "text",
    [
        FLAT,
        FLAT.replace(".", "0"),
        FLAT.replace(".", "_") + "\n",
        "\n".join(LINES),
        "\r\n".join(LINES),
        "  " + " ".join(FLAT),
        SUDOKU.render(SAMPLE),
        "+---+---+---+\n" + "\n".join(f"| {' | '.join(line)} |" for line in LINES),
    ],
)
def test_every_usual_way_to_write_it_is_read(text: str) -> None:
    assert np.array_equal(SUDOKU.parse(text).grid, SAMPLE.grid)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FLAT[:80], "80 cells, expected 81"),
        ("\n".join([*LINES[:3], "53..7...", *LINES[4:]]), r"row 4: 8 cells, expected 9: '53\.\.7\.\.\.'"),
        ("\n".join(LINES[:8]), "8 rows, expected 9"),
        (FLAT[:10] + "x" + FLAT[11:], "row 2, cell 2: 'x', expected 1 to 9"),
        (FLAT[:10] + "²" + FLAT[11:], "row 2, cell 2: '²'"),
        ("", "0 rows, expected 9"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, message: str) -> None:
    with pytest.raises(GridParseError, match=message):
        SUDOKU.parse(text)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({0: 5, 8: 5}, r"row 1 has 5 twice \(row 1, column 1 and row 1, column 9\)"),
        ({0: 5, 72: 5}, "column 1 has 5 twice"),
        ({0: 5, 10: 5}, "box 1 has 5 twice"),
        ({80: 12}, "row 9, column 9 holds 12, expected 0 to 9"),
    ],
)
def test_givens_that_break_a_rule_are_refused(cells: dict[int, int], message: str) -> None:
    grid = np.zeros((9, 9), dtype=np.uint8)
    grid.flat[list(cells)] = list(cells.values())
    with pytest.raises(PuzzleError, match=message):
        SUDOKU.validate(Puzzle("sudoku", (grid,)))


def test_a_puzzle_of_another_shape_is_refused() -> None:
    with pytest.raises(PuzzleError, match="grid of 4x4, expected one of 9x9"):
        SUDOKU.validate(Puzzle("sudoku", (np.zeros((4, 4), dtype=np.uint8),)))


def test_violations_name_given_blank_and_clash() -> None:
    assert SAMPLE.answers is not None
    answer = SAMPLE.answers[0].copy()
    given = np.flatnonzero(SAMPLE.grid)[0]
    blank = np.flatnonzero(SAMPLE.grid == 0)[-1]
    was = int(answer.flat[given])
    now = was % 9 + 1
    answer.flat[given], answer.flat[blank] = now, 0
    words = SUDOKU.check(SAMPLE, answer).violations
    assert f"given {was} at row {given // 9 + 1}, column {given % 9 + 1} was changed to {now}" in words
    assert f"row {blank // 9 + 1}, column {blank % 9 + 1} is blank" in words
    assert f"row {given // 9 + 1} has {now} twice" in words
    assert f"{now}!" in SUDOKU.render(SAMPLE, (answer,))


def test_another_complete_grid_is_no_answer() -> None:
    other = SUDOKU.samples()[-1].answers
    assert other is not None
    verdict = SUDOKU.check(SAMPLE, other)
    assert verdict.status is Status.UNSOLVED
    assert all(words.startswith("given") for words in verdict.violations)


def test_blanks_of_a_draft_are_unknown_and_its_shape_is_checked() -> None:
    tokens = SUDOKU.encode_draft(SAMPLE, SAMPLE.grid)
    assert np.array_equal(tokens == 0, SAMPLE.grid.reshape(-1) == 0)
    assert np.array_equal(tokens[tokens > 0] - 1, SAMPLE.grid[SAMPLE.grid > 0])
    with pytest.raises(PuzzleError, match="draft of 8x9, expected 9x9"):
        SUDOKU.encode_draft(SAMPLE, SAMPLE.grid[:8])


def test_symmetry_tables_hold_each_move_once() -> None:
    assert MOVES.shape == (1296, 9)
    assert len({tuple(move) for move in MOVES.tolist()}) == 1296
    assert (np.sort(MOVES, axis=1) == np.arange(9)).all()
    bands = MOVES.reshape(-1, 3, 3) // 3
    assert (bands == bands[:, :, :1]).all()


def test_units_cover_every_cell_three_times() -> None:
    assert (np.bincount(UNITS.reshape(-1)) == 3).all()
