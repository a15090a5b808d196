"""Rows, lines and blocks of Sudokus, taken apart one by one: what a cell is, what a blank, and where a grid ends."""

from __future__ import annotations

import numpy as np
import pytest

from trm.grid import GridParseError
from trm.tasks import Puzzle, get
from trm.tasks.sudoku import text as written

SUDOKU = get("sudoku")
PUZZLE = SUDOKU.samples()[0]
LINE, ANSWER = SUDOKU.question_text(PUZZLE), SUDOKU.text(PUZZLE.answers or ())
ROWS = [LINE[at : at + 9] for at in range(0, 81, 9)]
SYMBOLS = "123456789ABCDEFG"
(LARGE,) = get("sudoku16").samples()[0].inputs
SMALL = {name: get(name).question_text(get(name).samples()[0]) for name in ("sudoku4", "sudoku6")}


def large(symbols: str, blank: str = ".") -> str:
    return "\n".join("".join(symbols[cell - 1] if cell else blank for cell in row) for row in LARGE.tolist())


def said(text: str) -> str:
    with pytest.raises(GridParseError) as raised:
        written.read(text)
    return str(raised.value)


# -- blanks and symbols ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("blank", [*"._0*-xX?·•□◻☐⬜⬛#~"])
def test_every_blank_stands_in_lines_and_in_rows(blank: str) -> None:
    for rows in (ROWS, [" ".join(row) for row in ROWS], [",".join(row) for row in ROWS]):
        assert np.array_equal(written.read_grid("\n".join(rows).replace(".", blank)), PUZZLE.grid)
    if blank not in "⬜⬛":
        assert np.array_equal(written.read_grid(LINE.replace(".", blank)), PUZZLE.grid)
        assert written.in_line(LINE.replace(".", blank)) == (LINE.replace(".", blank), None)


@pytest.mark.parametrize("blank", [" ", ","])
def test_blanks_that_may_part_cells_are_blanks_where_81_stand_in_a_line(blank: str) -> None:
    line = LINE.replace(".", blank)
    assert np.array_equal(written.read_grid(line), PUZZLE.grid)
    assert written.in_line(line) == (line, None)
    assert written.in_line(line + "1") is None


@pytest.mark.parametrize("pair", ["._", ".0", "_0"])
def test_plain_blanks_may_be_mixed(pair: str) -> None:
    text = "\n".join(row.replace(".", pair[n % 2]) for n, row in enumerate(ROWS))
    assert np.array_equal(written.read_grid(text), PUZZLE.grid)


@pytest.mark.parametrize("pair", ["*.", "*0", "x*", "?_", "x0"])
def test_other_blanks_stand_alone(pair: str) -> None:
    rows = [" ".join(row.replace(".", pair[n % 2])) for n, row in enumerate(ROWS)]
    assert f"row 1, cell {ROWS[0].index('.') + 1}: '{pair[0]}'" in said("\n".join(rows))


def test_xs_of_both_sizes_are_one_blank() -> None:
    text = "\n".join(row.replace(".", "xX"[n % 2]) for n, row in enumerate(ROWS))
    assert np.array_equal(written.read_grid(text), PUZZLE.grid)


@pytest.mark.parametrize(
    ("symbols", "blank"),
    [
        (SYMBOLS, "."), (SYMBOLS, "0"), (SYMBOLS, "-"), (SYMBOLS.lower(), "."), (SYMBOLS.lower(), "0"),
        ("0123456789ABCDEF", "."), ("0123456789abcdef", "_"), ("0123456789ABCDEF", "*"),
        ("ABCDEFGHIJKLMNOP", "."), ("abcdefghijklmnop", "-"),
    ],
)  # fmt: skip
def test_symbols_of_a_16x16_follow_from_those_that_are_there(symbols: str, blank: str) -> None:
    assert np.array_equal(written.read_grid(large(symbols, blank)), LARGE)
    assert np.array_equal(written.read_grid(large(symbols, blank).replace("\n", "")), LARGE)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ("A" + 255 * ".", 10),  # no letter above G: digits come before letters
        ("G" + 255 * ".", 16),
        ("H" + 255 * ".", 8),  # H and above: letters alone
        ("P" + 255 * ".", 16),
        ("h" + 255 * ".", 8),
        ("A" + "0" * 16 + "1" * 239, 11),  # as many zeros as a grid has of a symbol
        ("A" + "0" * 17 + "1" * 238, 10),
        ("A" + "0" * 17 + "." * 238, 11),  # another blank: zero is a symbol
        ("A" + "0" * 15 + "g" + "1" * 239, 10),
        ("A" + "0" * 15 + "G" + "1" * 239, 10),
    ],
)
def test_what_a_letter_stands_for(cells: str, expected: int) -> None:
    rows = [cells[at : at + 16] for at in range(0, 256, 16)]
    assert written.read_grid("\n".join(rows))[0, 0] == expected


@pytest.mark.parametrize("width", [1, 2])
def test_numbers_of_two_digits_are_symbols(width: int) -> None:
    text = "\n".join(" ".join(f"{cell:0{width}}" for cell in row) for row in LARGE.tolist())
    assert np.array_equal(written.read_grid(text.replace("00", "0")), LARGE)
    assert "row 1, cell 1: '17'" in said(text.replace(text.split()[0], "17", 1))


# -- what is wrong -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("length", [15, 17, 35, 37, 80, 82, 728, 730])
def test_a_line_of_almost_a_grid_is_told_by_its_number_of_cells(length: int) -> None:
    assert said("1" * length).startswith(f"{length} cells")


@pytest.mark.parametrize("side", [8, 10, 12, 15, 20, 25])
def test_other_sizes_are_named(side: int) -> None:
    cells = "1" * side
    for text in ("\n".join([cells] * side), cells * side, "\n".join([cells * side] * 2)):
        assert f"{side}x{side}" in said(text)


@pytest.mark.parametrize(("row", "cell"), [(1, 1), (1, 9), (5, 4), (9, 9)])
def test_a_cell_that_is_none_is_named(row: int, cell: int) -> None:
    cells = [list(line) for line in ROWS]
    cells[row - 1][cell - 1] = "k"
    for between in ("", " ", ","):
        assert f"row {row}, cell {cell}: 'k'" in said("\n".join(map(between.join, cells)))


@pytest.mark.parametrize(
    ("word", "cell"), [("()", "()"), ("(", "("), ("(1", "(1"), ("[k]", "k"), ("{12}", "12")]
)
def test_a_word_is_shown_without_its_brackets(word: str, cell: str) -> None:
    text = " ".join(ROWS[0]).replace("5", word, 1) + "\n" + "\n".join(" ".join(row) for row in ROWS[1:])
    if cell == "12":
        assert written.read(text)[1]  # candidates
    else:
        assert f"row 1, cell 1: '{cell}'" in said(text)


def test_a_list_of_rows_is_a_grid() -> None:
    assert np.array_equal(written.read_grid(str(ROWS)), PUZZLE.grid)
    assert np.array_equal(written.read_grid(str(list(LINE))), PUZZLE.grid)


@pytest.mark.parametrize("row", [1, 5, 9])
def test_a_row_of_another_length_is_named(row: int) -> None:
    longer, shorter = ROWS.copy(), ROWS.copy()
    longer[row - 1] += "1"
    shorter[row - 1] = shorter[row - 1][:-1]
    assert f"row {row}: 10 cells" in said("\n".join(longer))
    assert f"row {row}: 8 cells" in said("\n".join(shorter))
    assert "8 rows" in said("\n".join(ROWS[:8]))
    assert "10 rows" in said("\n".join([*ROWS, ROWS[0]]))


@pytest.mark.parametrize("name", SMALL)
def test_small_grids_hold_no_larger_digits(name: str) -> None:
    side = get(name).height
    line = SMALL[name]
    rows = [line[at : at + side] for at in range(0, side * side, side)]
    rows[1] = f"{side + 1}" + rows[1][1:]
    assert f"row 2, cell 1: '{side + 1}'" in said("\n".join(rows))
    assert f"row 2, cell 1: '{side + 1}'" in said("".join(rows))


@pytest.mark.parametrize(("marks", "open_cells"), [({0: "12"}, 1), ({0: "12", 8: "345", 40: "123456789"}, 3)])
def test_candidates_are_counted_and_passed_over(marks: dict[int, str], open_cells: int) -> None:
    cells = [marks.get(n, ".") for n in range(81)]
    text = "\n".join(" ".join(cells[at : at + 9]) for at in range(0, 81, 9))
    grid, (note,) = written.read(text)
    assert not grid.any()
    assert f" {open_cells} cells" in note
    for wrong in ("11", "102", "1a"):
        assert f"row 1, cell 1: '{wrong}'" in said(text.replace("12", wrong, 1))


def test_nine_places_for_the_candidates_of_each_cell() -> None:
    places = "".join(("." * (int(c) - 1) + c).ljust(9, ".") if c != "." else "12......." for c in LINE)
    grid, notes = written.read(places)
    assert np.array_equal(grid, PUZZLE.grid)
    assert len(notes) == 1
    assert written.in_line(places) == (places, None)
    assert not written.read_grid("." * 729).any()


# -- rows --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("line", "cells"),
    [
        ("123456789", "123456789"), ("1 2 3 4 5 6 7 8 9", "123456789"), ("1,2,3,4,5,6,7,8,9,", "123456789"),
        ("1;2;3;4;5;6;7;8;", "12345678 "), ("1,2,3,4,5,6,7,8,", "12345678 "), ("1,,,4,,,7,,", "1  4  7  "),
        ("|123|2|3|45|5|6|7|8|. |", "123 2 3 45 5 6 7 8 ."), ("| 1|22|3|444|", "1223444"),
        ("|1|2|3|4|5|6|7|8|9|", "123456789"), ("| |2| |4| |6| |8| |", " 2 4 6 8 "), ("1|2|3|4", "1234"),
        ("|1|2|3|4|5|6|", "123456"), ("123|456|789", "123456789"),
        ("| 1 2 3 | 4 5 6 | 7 8 9 |", "123456789"),
        ("|1 2 3|4 5 6|7 8 9|", "123456789"), ("|1 2  |  5  |7   9|", "12  5 7 9"),
        ("| 1   3 |   5   |     9 |", "1 3 5   9"),
        ("|1 . 3|. 5 .|7 . .|", "1.3.5.7.."), ("|(1)(2)(3)|456|789|", "(1)(2)(3)456789"),
        ("| (1) (2) 3 | {4} 5 6 | [7] 8 9 |", "123456789"), ("(1) 2 3 4 5 6 7 8 [9]", "123456789"),
        ("[1, 2, 3, 4, 5, 6, 7, 8, 9],", "123456789"), ("- [1, 2, 3, 4]", "1234"),
        ('["1","2","3","4"]', "1234"),
        ("{1,2,3,4};", "1234"), ("+ 1 2 3 4 +", "1234"), ("1 2 3 + 4 5 6 + 7 8 9", "123456789"),
        ("1---2---3", "1---2---3"), ("1-2-3-4-5-6-7-8-9", "123456789"), ("-2-4", "-2-4"), ("1-3-5", "135"),
        ("1 2 | 3 4", "1234"), ("|1 2|3 4|", "1234"), ("1\t2\t3\t4", "1234"), ("12|34|56", "123456"),
        ("1|2 3|4|5", "12345"), ("|1|2|3|. ", "123"), ("10 11 12 13", "10 11 12 13"),
    ],
)  # fmt: skip
def test_the_cells_of_a_row(line: str, cells: str) -> None:
    expected = cells.split() if cells.startswith(("10 ", "123 ")) else list(cells)
    assert written.row_cells(line) == expected


def test_labels_of_a_table_are_taken_off() -> None:
    names, rows = "0,1,2,3,4,5,6,7,8", [",".join(row) for row in ROWS]
    assert np.array_equal(written.read_grid("\n".join([names, *rows])), PUZZLE.grid)
    rows = [f"{n},{row}" for n, row in enumerate(rows)]
    assert np.array_equal(written.read_grid("\n".join([f",{names}", *rows])), PUZZLE.grid)
    assert "10x10" in said("\n".join([f",{names}", *rows[:3], "9" + rows[3][1:], *rows[4:]]))


# -- lines ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("line", "found"),
    [
        (LINE, (LINE, None)), (LINE[:80], None), (f"{LINE},{ANSWER}", (LINE, ANSWER)),
        (f"{ANSWER} {LINE}", (LINE, ANSWER)), (f"7;{LINE};x", (LINE, None)),
        (f"a {LINE[:80]} b {LINE[:80]}", None),
        (f"The answer: {ANSWER}.", (ANSWER, None)), (f"<{LINE}>", (LINE, None)),
        (f"'{LINE}' = {{{ANSWER}}}", (LINE, ANSWER)),
        (f"{LINE}2", None), (f"x{ANSWER}", None),
    ],
)  # fmt: skip
def test_a_line_holds_a_puzzle_and_perhaps_its_answer(
    line: str, found: tuple[str, str | None] | None
) -> None:
    assert written.in_line(line) == found


@pytest.mark.parametrize(
    "line",
    [
        f"{LINE} {LINE}", f"{ANSWER} {ANSWER}", f"{LINE} {ANSWER[::-1]}", f"{LINE} {ANSWER} {ANSWER}",
        f"{LINE} {'.' * 729}", f"{LINE} {'a' * 81}",
    ],
)  # fmt: skip
def test_fields_that_are_no_puzzle_and_its_answer_are_refused(line: str) -> None:
    with pytest.raises(GridParseError, match=f"{len(line.split())} fields"):
        written.in_line(line)


@pytest.mark.parametrize("name", ["sudoku4", "sudoku6", "sudoku16"])
def test_a_line_holds_a_grid_of_another_size(name: str) -> None:
    task = get(name)
    puzzle = task.samples()[0]
    question, answer = task.question_text(puzzle), task.text(puzzle.answers or ())
    for blank in "._0":
        assert written.in_line(question.replace(".", blank), task.height) == (
            question.replace(".", blank),
            None,
        )
    for blank in "x*-":
        line = question.replace(".", blank)
        assert written.in_line(line, task.height) == (line, None)
    assert written.in_line(f"a,{question},{answer},3", task.height) == (question, answer)
    assert written.in_line(f"{question} {answer} {answer}", task.height) is None
    assert written.in_line(question[:-1], task.height) is None
    assert written.in_line(question.replace(".", "*", 1).replace(".", "x", 1), task.height) is None
    assert written.in_line("word", 4) is None
    if task.height < 9:
        too_high = str(task.height + 1)
        assert written.in_line(question.replace(".", too_high, 1).replace(".", "x"), task.height) is None


def test_many_texts_are_read_together_where_they_are_plain() -> None:
    lines, tail = "\n".join(ROWS), LINE[:-1]
    texts = [LINE, tail, lines, LINE.replace(".", "x"), ANSWER, "", lines + "\n", lines.replace("\n", " ")]
    places, cells = written.read_plain(texts)
    assert places.tolist() == [0, 2, 4]
    assert [row.reshape(9, 9).tolist() for row in cells] == [
        PUZZLE.grid.tolist(), PUZZLE.grid.tolist(), (PUZZLE.answers or ())[0].tolist(),
    ]  # fmt: skip
    for side, name in ((4, "sudoku4"), (6, "sudoku6")):
        line = SMALL[name]
        rows = "\n".join(line[at : at + side] for at in range(0, len(line), side))
        places, cells = written.read_plain([rows, line, line.replace(".", str(side + 1), 1)], side)
        assert (places.tolist(), cells.shape) == ([0, 1], (2, side * side))
        assert np.array_equal(cells[0], cells[1])
    assert written.read_plain([large(SYMBOLS)], 16)[0].tolist() == []


# -- blocks --------------------------------------------------------------------------------------------------------
def parts(text: str) -> list[tuple[int, int]]:
    """The first line of each puzzle of a text, and how many lines it has."""
    blocks: list[list[tuple[int, str]]] = [[]]
    for number, line in enumerate(text.split("\n"), 1):
        blocks.append([]) if not line else blocks[-1].append((number, line))
    return [(number, found.count("\n") + 1) for number, found in written.parts(filter(None, blocks))]


FOUR, SIX = (["1234"] * 4), (["123456"] * 6)
NINE, SIXTEEN = ["123456789"] * 9, ["123456789ABCDEFG"] * 16


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        ([NINE], [(1, 9)]), ([NINE, NINE], [(1, 9), (11, 9)]), ([NINE * 2], [(1, 9), (10, 9)]),
        ([NINE[:3]] * 3, [(1, 9)]), ([NINE[:3]] * 6, [(1, 9), (13, 9)]), ([NINE[:1]] * 9, [(1, 9)]),
        ([NINE[:3]] * 2, [(1, 6)]), ([NINE[:2]] * 3, [(1, 2), (4, 2), (7, 2)]),
        ([NINE[:3], NINE], [(1, 3), (5, 9)]),
        ([NINE[:3], NINE[:1]], [(1, 3), (5, 1)]), ([NINE + NINE[:1]], [(1, 10)]),
        ([FOUR, NINE], [(1, 4), (6, 9)]),
        ([FOUR[:2]] * 2, [(1, 4)]), ([SIX[:2]] * 3, [(1, 6)]), ([SIX[:3]] * 2, [(1, 3), (5, 3)]),
        ([SIXTEEN[:4]] * 4, [(1, 16)]), ([SIXTEEN], [(1, 16)]),
        ([["1234123412341234"] * 3], [(1, 1), (2, 1), (3, 1)]),
        ([["1" * 36] * 2], [(1, 1), (2, 1)]), ([["1" * 256]], [(1, 1)]),
        ([NINE[:3], ["1" * 36]], [(1, 3), (5, 1)]),
        ([["12345"] * 5], [(1, 5)]),
        ([["123456789", "12345"]], [(1, 2)]), ([NINE[:3], ["12345"], NINE[:3]], [(1, 3), (5, 1), (7, 3)]),
        ([["# a", *NINE]], [(2, 9)]), ([["// a", "% b", *NINE]], [(3, 9)]), ([["# a"], NINE], [(3, 9)]),
        ([[*NINE[:3], "---+---", *NINE[:6]]], [(1, 9)]), ([["-" * 9, *NINE[:8]]], [(1, 9)]),
        ([["----", *FOUR[:3]]], [(1, 4)]), ([["-----", *FOUR]], [(2, 4)]),
        ([["1234123412341235"]], [(1, 1)]),
        ([FOUR + FOUR[:2]], [(1, 6)]), ([FOUR * 3], [(1, 4), (5, 4), (9, 4)]),
        ([NINE[:3], FOUR[:2], FOUR[:2]], [(1, 3), (5, 4)]),
    ],
)  # fmt: skip
def test_blocks_are_parted_where_a_grid_is_whole(
    blocks: list[list[str]], expected: list[tuple[int, int]]
) -> None:
    assert parts("\n\n".join("\n".join(block) for block in blocks)) == expected


def test_parsing_names_the_size_that_was_asked_for() -> None:
    four = get("sudoku4")
    with pytest.raises(GridParseError, match="9x9, expected 4x4"):
        four.parse(LINE)
    with pytest.raises(GridParseError, match="4x4, expected 9x9"):
        SUDOKU.parse_answer(PUZZLE, SMALL["sudoku4"])
    assert isinstance(SUDOKU.parse(SMALL["sudoku4"]), Puzzle)
    assert SUDOKU.parse(SMALL["sudoku6"]).task == "sudoku6"
