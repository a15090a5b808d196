from __future__ import annotations

import numpy as np
import pytest

from trm.grid import GridParseError, PuzzleError
from trm.tasks import Puzzle, Status, get
from trm.tasks.registry import SIZES as NAMES
from trm.tasks.sudoku.sizes import SIZES, Size

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
    for size, rows, columns in ((4, 8, 8), (6, 48, 72), (9, 1296, 1296)):
        for moves, count in ((SIZES[size].row_moves, rows), (SIZES[size].column_moves, columns)):
            assert moves.shape == (count, size)
            assert len({tuple(move) for move in moves.tolist()}) == count


@pytest.mark.parametrize("size", SIZES.values(), ids=lambda size: size.words)
def test_moves_keep_boxes_together(size: Size) -> None:
    for moves, high in ((size.row_moves, size.box_height), (size.column_moves, size.box_width)):
        assert (moves[0] == np.arange(size.side)).all()
        assert (np.sort(moves, axis=1) == np.arange(size.side)).all()
        bands = moves.reshape(len(moves), -1, high) // high
        assert (bands == bands[:, :, :1]).all()


@pytest.mark.parametrize("size", SIZES.values(), ids=lambda size: size.words)
def test_units_cover_every_cell_three_times(size: Size) -> None:
    assert size.units.shape == (3 * size.side, size.side)
    assert (np.bincount(size.units.reshape(-1)) == 3).all()


def test_boxes_of_six_rows_are_two_rows_high() -> None:
    assert SIZES[6].units[12].tolist() == [0, 1, 2, 6, 7, 8]
    assert not get("sudoku6").symmetries((6, 6)).transpose  # boxes would be three rows high
    grid = np.zeros((6, 6), dtype=np.uint8)
    grid[0, 0] = grid[1, 2] = 5
    with pytest.raises(PuzzleError, match="box 1 has 5 twice"):
        get("sudoku6").validate(Puzzle("sudoku6", (grid,)))


@pytest.mark.parametrize("name", NAMES)
def test_every_size_has_samples_that_it_draws_writes_and_checks(name: str) -> None:
    task = get(name)
    for sample in task.samples():
        assert sample.answers is not None
        assert task.check(sample, sample.answers).status is Status.VERIFIED
        assert task.check(sample, sample.grid).status is Status.UNSOLVED
        for text in (task.question_text(sample), task.prompt_text(sample), task.render(sample)):
            for reader in (task, SUDOKU):  # which names the size itself
                puzzle = reader.parse(text)
                assert puzzle.task == name
                assert np.array_equal(puzzle.grid, sample.grid)
        (answer,) = task.parse_answer(sample, task.text(sample.answers))
        assert np.array_equal(answer, sample.answers[0])
        symmetry = task.symmetries(sample.grid.shape).draw(np.random.default_rng(0))
        moved = Puzzle(name, (symmetry.forward(sample.grid),))
        assert task.check(moved, symmetry.forward(sample.answers[0])).status is Status.VERIFIED


def test_another_size_than_the_named_one_is_refused() -> None:
    with pytest.raises(GridParseError, match="a grid of 9x9, expected 6x6"):
        get("sudoku6").parse(FLAT)
    (sample, *_) = get("sudoku4").samples()
    with pytest.raises(GridParseError, match="a grid of 9x9, expected 4x4"):
        get("sudoku4").parse_answer(sample, FLAT)
    with pytest.raises(PuzzleError, match="sudoku16"):
        get("sudoku5")


def test_symbols_above_nine_are_letters_in_words() -> None:
    task = get("sudoku16")
    sample = task.samples()[0]
    assert sample.answers is not None
    answer = sample.answers[0].copy()
    row, column = np.argwhere((answer == 16) & (sample.grid == 16))[0]
    answer[row, column] = 10
    assert (
        f"given G at row {row + 1}, column {column + 1} was changed to A"
        in task.check(sample, answer).violations
    )


def test_boxes_are_ruled_off_in_a_drawing() -> None:
    assert get("sudoku4").render(get("sudoku4").parse("1..3 .... 3... ..2.")) == "\n".join(
        ["1 . | . 3", ". . | . .", "----+----", "3 . | . .", ". . | 2 ."]
    )
    puzzle = SUDOKU.parse(FLAT)
    assert SUDOKU.render(puzzle).splitlines()[3] == "------+-------+------"
    wrong = puzzle.grid.copy()
    wrong[0, :2] = 9
    assert SUDOKU.render(puzzle, (wrong,)).splitlines()[0].startswith("9!9!")
    assert "\x1b[1;31m9\x1b[0m" in SUDOKU.render(puzzle, (wrong,), colour=True)


def test_the_cell_with_an_unknown_symbol_is_named() -> None:
    grid = np.zeros((9, 9), dtype=np.uint8)
    grid[0, 0], grid[2, 4], grid[5, 5] = 9, 12, 11
    with pytest.raises(PuzzleError, match="row 3, column 5 holds 12, expected 0 to 9"):
        SUDOKU.validate(Puzzle("sudoku", (grid,)))


def test_one_other_symbol_may_stand_for_blanks() -> None:
    rows = [FLAT[at : at + 9].replace("0", ".") for at in range(0, 81, 9)]
    assert np.array_equal(SUDOKU.parse("\n".join(rows).replace(".", "x")).grid, SUDOKU.parse(FLAT).grid)
    mixed = "\n".join([rows[0].replace(".", "x"), *(row.replace(".", "*") for row in rows[1:])])
    with pytest.raises(GridParseError):
        SUDOKU.parse(mixed)


def test_symmetries_that_rename_nothing_are_counted() -> None:
    for name, moves in (("sudoku4", 8 * 8 * 2), ("sudoku6", 48 * 72)):  # boxes of 2x3 cannot be transposed
        grid = get(name).samples()[0].grid
        every = [symmetry.forward(grid) for symmetry in get(name).symmetries(grid.shape).without_renaming()]
        assert len(every) == moves
        assert np.array_equal(every[0], grid)


@pytest.mark.parametrize("shape", [(4,), (4, 5), (6, 4), (9, 6), (2, 4, 4)])
def test_a_grid_of_another_shape_is_of_no_other_size(shape: tuple[int, ...]) -> None:
    assert SUDOKU.name_for(np.zeros((4, 4), dtype=np.uint8)) == "sudoku4"
    assert SUDOKU.name_for(np.zeros(shape, dtype=np.uint8)) == "sudoku"
