"""Replies taken apart: which lines are rows, which lists are grids, which block is the answer."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hybrid.llm.chat import parsing
from hybrid.llm.chat.grid_text import read_cells, reply_format, spread, write_cells, write_grid
from hybrid.llm.chat.parsing import read_grid
from trm.tasks import Puzzle, get

SUDOKU, FOUR, MAZE, ARC = (get(name) for name in ("sudoku", "sudoku4", "maze", "arc"))
ROWS = ["1234", "3412", "2143", "4321"]
SOLVED = np.array([[int(c) for c in row] for row in ROWS], np.uint8)
OPEN = SOLVED * np.eye(4, dtype=np.uint8)
ANY = np.zeros((2, 2), np.uint8)


def read(text: str) -> tuple[str, str | None]:
    reading = read_grid(text, FOUR, OPEN)
    return "" if reading.grid is None else "".join(map(str, reading.grid.reshape(-1))), reading.error


def free(text: str) -> str:
    reading = read_grid(text, ARC, ANY)
    return reading.error or "" if reading.grid is None else write_cells(reading.grid).replace("\n", " ")


# -- lines -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "form",
    [
        "{}", "row {n}: {}", "Row {n} = {}", "line {n}. {}", "r{n}) {}", "- row {n} - {}", "* {}", "{n}: {}",
        "{n}) {}",
        "{n}. {}",
        "  {}  ", "| {} |", "[{}],",
        "({})", "`{}`", "\t{}", "'{}';", '"{}",', "{{{}}}", "row {n}:{}", "row  {n} : {}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("between", ["", " ", ",", ", ", " | ", "-", ";", "\t", "+"])
def test_every_way_to_write_a_row(form: str, between: str) -> None:
    if "-" in between and form.startswith("-"):
        return
    lines = [form.format(between.join(row), n=n) for n, row in enumerate(ROWS, 1)]
    assert read("\n".join(lines)) == ("".join(ROWS), None)
    assert read("\n".join(["Here is my answer, as asked:", *lines, "Every row holds each digit."]))[
        0
    ] == "".join(ROWS)


@pytest.mark.parametrize("ruler", ["----", "+--+--+", "=====", "|--|--|", ":--:--:", "", "   "])
def test_rulers_and_empty_lines_part_no_grid(ruler: str) -> None:
    assert read("\n".join([*ROWS[:2], ruler, *ROWS[2:]])) == ("".join(ROWS), None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1234\n3412\n2143", "1234341221430000"), ("3412\n2143\n4321", "0000341221434321"),
        ("2143\n4321", "0000000021434321"),
        ("1234\n341\n2143\n4321", "1234000021434321"), ("1234\n34121\n2143\n4321", "1234000021434321"),
        ("1234", ""),
        ("1234\n341\n214\n432", ""), ("1234\n3412\n214\n432", "1234341200000000"),
        ("1234\n3412\n2143\n4321\n1111", "1234341221434321"),
        ("1" * 16, "1" * 16), ("1" * 15, ""), ("1" * 17, ""),
        ("5234\n3412\n2143\n4321", "0000341221434321"), ("no grid", ""),
    ],
)  # fmt: skip
def test_rows_that_lack_or_are_too_many_leave_blanks(text: str, expected: str) -> None:
    grid, error = read(text)
    assert grid == expected
    assert (error is None) == (expected in ("1234341221434321", "1" * 16) and len(text) < 21)


def test_faults_are_counted_and_the_first_are_named() -> None:
    rows = ["1" * n for n in (8, 8, 8, 8, 9, 9, 9, 9, 9)]
    (reading,) = [read_grid("\n".join(rows), SUDOKU, np.zeros((9, 9), np.uint8))]
    assert reading.error is not None
    assert reading.error.count("held 8 cells") == 3
    assert reading.error.endswith("and 1 more")
    three = read_grid("\n".join(rows[1:] + rows[-1:]), SUDOKU, np.zeros((9, 9), np.uint8)).error or ""
    assert (three.count("held 8 cells"), "more" in three) == (3, False)


@pytest.mark.parametrize("blank", [*"._?xX0"])
def test_every_blank(blank: str) -> None:
    assert read("\n".join(ROWS).replace("3", blank))[0] == "".join(ROWS).replace("3", "0")
    assert read("\n".join(" ".join(row) for row in ROWS).replace("3", blank))[0] == "".join(ROWS).replace(
        "3", "0"
    )


@pytest.mark.parametrize("blank", ["-", "*"])
def test_dashes_and_stars_are_blanks_where_the_width_says_so(blank: str) -> None:
    assert read("\n".join(" ".join(row) for row in ROWS).replace("3", blank))[0] == "".join(ROWS).replace(
        "3", "0"
    )


# -- blocks ------------------------------------------------------------------------------------------------------
QUESTION = "\n".join("".join(str(cell or ".") for cell in row) for row in OPEN.tolist())
OTHER = "\n".join(["4321", "2143", "3412", "1234"])


@pytest.mark.parametrize(
    ("text", "last"),
    [
        (f"{OTHER}\n\nno:\n\n" + "\n".join(ROWS), True),
        ("\n".join(ROWS) + f"\n\nor\n{QUESTION}", True), (f"{QUESTION}\n" + "\n".join(ROWS), True),
        ("<think>" + "\n".join(ROWS) + f"</think>{OTHER}", False),
        (f"{OTHER}<think>" + "\n".join(ROWS), False),
        (f"{json.dumps(ROWS)}\nor\n{OTHER}", False), (f"```\n{OTHER}\n```\n" + "\n".join(ROWS), True),
        ("".join(ROWS) + f"\n{OTHER}", False),
    ],
)  # fmt: skip
def test_the_last_whole_grid_is_the_answer_but_for_the_question(text: str, last: bool) -> None:
    assert read(text)[0] == ("".join(ROWS) if last else OTHER.replace("\n", ""))


def test_what_repeats_the_question_says_so() -> None:
    assert read(QUESTION) == ("".join(map(str, OPEN.reshape(-1))), "the reply repeats the question")
    assert read(f"Answer:\n{QUESTION[:-1]}")[1] != "the reply repeats the question"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12\n34", "12 34"), ("1 2\n3 4", "12 34"), ("[[1,2],[3,4]]", "12 34"),
        ('{"rows": ["12", "34"]}', "12 34"), ("1", "1"),
        ("the answer is 7\n12\n34", "12 34"), ("12\n34\n\nin 2 steps\n\n7", "12 34"),
        ("```\n7\n```\n12\n34", "7"), ("[[7]]\n12\n34", "7"),
        ("12\n34\n\n5 6\n7 8", "56 78"), ("12\n345", "row 2 held 3 cells, expected 2"),
        ("12\n34\n567", "row 3 held 3 cells, expected 2"),
        ("no", "no grid in the reply"), ("\n".join(["1"] * 31), "grid of 31x1, expected at most 30x30"),
        ("1" * 31, "grid of 1x31, expected at most 30x30"),
        ("[[[1,2],[3,4]],[[5,6],[7,8]]]", "56 78"),
        ("\n".join(["1" * 30] * 30), " ".join(["1" * 30] * 30)), ("[[1, 2], [3, x]]", "12"),
        ('{"a": {"b": [[1, 2]]}}', "12"), ("[" * 9 + "1" + "]" * 9, "1"), ("[[], [1]]", "1"),
        ("row 1: 1 2\nrow 2: 3 4", "12 34"),
    ],
)  # fmt: skip
def test_a_grid_of_a_free_shape(text: str, expected: str) -> None:
    assert free(text) == expected


def test_only_the_end_of_a_long_reply_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n".join(ROWS)
    for most, whole in ((len(text), True), (len(text) - 1, False)):
        monkeypatch.setattr(parsing, "LONGEST_REPLY", most)
        assert (read(f"words\n{text}")[1] is None) is whole
    monkeypatch.setattr(parsing, "LONGEST_REPLY", 1 << 16)
    for lines, whole in ((4, True), (3, False)):
        monkeypatch.setattr(parsing, "MOST_LINES", lines)
        assert (read(f"words\n{text}")[1] is None) is whole


@pytest.mark.parametrize(("spaces", "known"), [(8 * 16 + 64 - 4, True), (8 * 16 + 64 - 3, False)])
def test_a_line_is_a_row_up_to_a_length(spaces: int, known: bool) -> None:
    assert (read("\n".join([ROWS[0] + " " * spaces, *ROWS[1:]]))[1] is None) is known
    wide = 8 * 900 + 64
    assert free("1" + " " * (wide - 1)) == "1"
    assert free("1" + " " * wide).startswith("no grid")


# -- mazes -------------------------------------------------------------------------------------------------------
WALLED = np.array([[ord(c) for c in row] for row in ("S  ", "## ", "G  ")], np.uint8)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Soo\n##o\nGoo", "Soo|##o|Goo"), ("S..\n##.\nG..", "S  |## |G  "),
        ("S__\n##_\nG··", "S  |## |G  "), ("SOO\n##0\nGOO", "Soo|##o|Goo"),
        ("S o o\n# # o\nG o o", "Soo|##o|Goo"), ("S,o,o\n#,#,o\nG,o,o", "Soo|##o|Goo"),
        ("|S|o|o|\n|#|#|o|\n|G|o|o|", "Soo|##o|Goo"),
        ('["Soo", "##o", "Goo"]', "Soo|##o|Goo"), ('"Soo",\n"##o",\n"Goo"', "Soo|##o|Goo"),
        ("`Soo`\n`##o`\n`Goo`", "Soo|##o|Goo"),
        ("S\n##\nG", "S  |## |G  "), ("So\n##\nGo", "So |## |Go "),
        ("Soo   \n##o\nGoo ", "Soo|##o|Goo"), ("SooG\n##o\nGoo", "S  |##o|Goo"),
        ("1: Soo\n2: ##o\n3: Goo", "Soo|##o|Goo"),
        ("'S' 'o' 'o'\n'#' '#' 'o'\n'G' 'o' 'o'", "Soo|##o|Goo"), ("Soo##oGoo", "Soo|##o|Goo"),
        ("```\nSoo\n##o\nGoo\n```", "Soo|##o|Goo"), ("| Soo |\n| ##o |\n| Goo |", None), ("hello", None),
    ],
)  # fmt: skip
def test_mazes_where_a_space_is_a_cell(text: str, expected: str | None) -> None:
    found = read_grid(text, MAZE, WALLED).grid
    if expected is None:
        assert found is None or "|".join("".join(map(chr, row)) for row in found.tolist()) == "Soo|##o|Goo"
    else:
        assert found is not None
        assert "|".join("".join(map(chr, row)) for row in found.tolist()) == expected


# -- what prompts write --------------------------------------------------------------------------------------------
def test_grids_are_written_for_prompts_and_records() -> None:
    assert write_grid(OPEN, FOUR) == "```\n1 _ _ _\n_ 4 _ _\n_ _ 4 _\n_ _ _ 1\n```"
    assert write_grid(ANY, ARC) == "```\n00\n00\n```"
    assert write_grid(WALLED, MAZE) == "```\nS  \n## \nG  \n```"
    assert (spread("1.\n.2", FOUR), spread("1.", ARC)) == ("1 _\n_ 2", "1.")
    assert write_cells(OPEN) == "1000\n0400\n0040\n0001"
    assert read_cells(write_cells(OPEN)).tolist() == OPEN.tolist()
    for wrong in ("", "1\n12", "a", "1\n\n2"):
        with pytest.raises(ValueError, match=r"."):
            read_cells(wrong)


def test_a_format_allows_what_the_task_does() -> None:
    made = reply_format(Puzzle("sudoku4", (OPEN,)))
    text = json.dumps([*vars(made).values()], default=str)
    assert text.count("[1234]") == 24
    assert '"minItems": 4' in text
    assert '"maxItems": 4' in text
    small = json.dumps([*vars(reply_format(Puzzle("arc", (ANY,)))).values()], default=str)
    assert "{30}" in small
    assert "{31}" not in small
    assert '"minItems": 1, "maxItems": 30' in small


def test_fewer_rows_go_where_they_agree_most() -> None:
    assert read("4431\n2341")[0] == "0000443123410000"
    assert read("1234\n2341\n1111")[0] == "0000123423411111"


@pytest.mark.parametrize(
    ("row", "cells"), [("1. 2", 3), ("row 1: 2 3", 2), ("1: 2 3", 2), ("1) 2 3 4 1 2", 5)]
)
def test_a_row_that_fits_in_no_way_is_read_in_the_first(row: str, cells: int) -> None:
    _, error = read("\n".join([row, *ROWS[1:]]))
    assert f"row 1 held {cells} cells" in str(error)
