"""Sudokus in the forms in which people have them, and one line for what is not certain."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from forms import (
    ANSWERS,
    GRID,
    LINE,
    LINES,
    NUMBERS,
    PAIRS,
    PUZZLES,
    ROWS,
    SUDOKU,
    TEXT,
    error,
    npy,
    read,
)
from numpy.typing import NDArray

from trm.data.files import load, strict
from trm.tasks import Puzzle, get


def bands(row: Callable[[str], str], between: int = 3) -> str:
    """The rows with an empty line after every so many."""
    groups = ["\n".join(map(row, ROWS[i : i + between])) for i in range(0, 9, between)]
    return "\n\n".join(groups)


def boxes(row: str, bar: str = "|", gap: str = "") -> str:
    return bar + bar.join(gap + gap.join(row[i : i + 3]) + gap for i in (0, 3, 6)) + bar


def table(delimiter: str, header: str = "puzzle,solution", end: str = "\n") -> str:
    rows = [header.replace(",", delimiter), *(delimiter.join(pair) for pair in PAIRS)]
    return "".join(row + end for row in rows)


FRAME = "+---+---+---+"
FORMS = {
    "a title of one word": "Sudoku\n" + "\n".join(ROWS),
    "digits of full width": "\n".join(ROWS).translate({ord(c): 0xFEE0 + ord(c) for c in ".123456789"}),
    "bands": bands(str),
    "bands of spaced rows with bars": bands(lambda row: boxes(row, "| ", " ")),
    "an empty line after each row": bands(str, 1),
    "a title above": "# Typed in on a long rainy afternoon by hand\n" + "\n".join(ROWS),
    "comments of a program": "#Aperson\n#DLong walk\n#B2020\n" + "\n".join(ROWS),
    "a frame with points for corners": "\n".join(
        [".-----------.", *map(boxes, ROWS[:3]), ":---+---+---:", *map(boxes, ROWS[3:]), "'-----------'"]
    ),
    "a frame with stars, and a name below": "\n".join(
        ["*-----------*", *map(boxes, ROWS), "*-----------*", "", "Made by Hand 3.1"]
    ),
    "spaces for blanks in a frame": "\n".join(
        [FRAME, *(boxes(row.replace(".", " ")) for row in ROWS), FRAME]
    ),
    "drawn lines": "\n".join(
        [
            "╔═══╦═══╦═══╗",
            *(boxes(row, "║") for row in ROWS[:6]),
            "╠═══╬═══╬═══╣",
            *(boxes(row, "║") for row in ROWS[6:]),
            "╚═══╩═══╩═══╝",
        ]
    ),
    "a line around each cell": "\n├─┼─┼─┼─┼─┼─┼─┼─┼─┤\n".join("│" + "│".join(row) + "│" for row in ROWS),
    "cells parted by commas": "\n".join(map(",".join, ROWS)),
    "empty cells of a spreadsheet": "\n".join(";".join(row.replace(".", "0")) for row in ROWS).replace(
        "0", ""
    ),
    "a data frame with its labels": "\n".join(
        [",0,1,2,3,4,5,6,7,8", *(f"{n},{','.join(row.replace('.', '0'))}" for n, row in enumerate(ROWS))]
    ),
    "spaces for blanks, lost at line ends": "\n".join(row.replace(".", " ").rstrip() for row in ROWS),
    "81 with spaces": LINE.replace(".", " "),
    "81 with stars": LINE.replace(".", "*"),
    "81 with dashes": LINE.replace(".", "-"),
    "81 with x": LINE.replace(".", "x"),
    "81 with commas": LINE.replace(".", ","),
    "nine lines with dashes": "\n".join(ROWS).replace(".", "-"),
    "nine lines with question marks": "\n".join(map(" ".join, ROWS)).replace(".", "?"),
    "a list of lists": json.dumps(NUMBERS),
    "lists with None": str([[cell or None for cell in row] for row in NUMBERS]),
    "an array as it is printed": str(GRID),
    "an assignment": "board = [\n" + "".join(f"    {row},\n" for row in NUMBERS) + "]\n",
    "braces": str(NUMBERS).replace("[", "{").replace("]", "}") + ";",
    "rows parted by a slash": "/".join(ROWS),
    "a sentence before it": f"Please fill in this one: {LINE.replace('.', '0')}",
    "markup": f"<?xml version='1.0'?>\n<games>\n<game level='2' data=\"{LINE.replace('.', '0')}\" />\n</games>",
    "a fence": "Here it is:\n\n```\n" + "\n".join(ROWS) + "\n```\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_a_sudoku_is_read_in_every_form(form: str, tmp_path: Path) -> None:
    (puzzle,) = strict(read(tmp_path, FORMS[form]))
    assert puzzle.task == "sudoku"
    assert np.array_equal(puzzle.grid, GRID)
    assert puzzle.notes == ()


NUMBERED = LINE.replace(".", "0")
RECORDS = {
    "quizzes and solutions": ("f.csv", table(",", "quizzes,solutions")),
    "puzzle with further columns": (
        "f.csv",
        "id,puzzle,solution,clues\n" + "".join(f"{n},{q},{a},30\n" for n, (q, a) in enumerate(PAIRS)),
    ),
    "semicolons and line ends of Windows": ("f.csv", table(";", "Question,Answer", "\r\n")),
    "tabs": ("f.tsv", table("\t", "sudoku,solution")),
    "bars": ("f.csv", table("|")),
    "line ends of an old system": ("f.csv", table(",", end="\r")),
    "a comma too many in each row": ("f.csv", table(",").replace(ANSWERS[1], ANSWERS[1] + ",")),
    "no header": ("f.csv", "\n".join(map(",".join, PAIRS))),
    "the answer first": ("f.txt", "\n".join(f"{a} {q}" for q, a in PAIRS)),
    "UTF-16": ("f.csv", table("\t").encode("utf-16")),
    "UTF-16 without a mark": ("f.txt", table(",").encode("utf-16-le")),
    "cells parted within their field": (
        "f.csv",
        "puzzle,solution\n" + "\n".join(f"{';'.join(q)},{';'.join(a)}" for q, a in PAIRS),
    ),
    "JSON lines": (
        "f.jsonl",
        "\n".join(
            json.dumps({"Puzzle": q, "Solution": a, "rules": "Normal sudoku rules apply."}) for q, a in PAIRS
        ),
    ),
    "lists in JSON lines": (
        "f.jsonl",
        "\n".join(
            json.dumps({"initial_board": p.grid.tolist(), "solution": (p.answers or ())[0].tolist()})
            for p in PUZZLES
        ),
    ),
    "numbers in JSON": (
        "f.jsonl",
        "".join(f'{{"puzzle": {q.replace(".", "0").lstrip("0")}, "solution": {a}}}\n' for q, a in PAIRS),
    ),
    "columns in JSON": ("f.json", json.dumps({"puzzles": LINES, "solutions": ANSWERS})),
    "columns by number": (
        "f.json",
        json.dumps({"quizzes": dict(enumerate(LINES)), "solutions": dict(enumerate(ANSWERS))}),
    ),
}


@pytest.mark.parametrize("form", RECORDS)
def test_tables_of_sudokus_are_read_with_their_answers(form: str, tmp_path: Path) -> None:
    name, content = RECORDS[form]
    puzzles = strict(read(tmp_path, content, name))
    assert [SUDOKU.question_text(puzzle) for puzzle in puzzles] == LINES
    assert [SUDOKU.text(puzzle.answers or ()) for puzzle in puzzles] == ANSWERS


LISTS = {
    "ratings behind": "\n".join(f"{line} ED=7.{n}/1.2/1.2" for n, line in enumerate(LINES)),
    "names before, numbers behind": "\n".join(
        f"0{n}ab12 {line.replace('.', '0')}  1.{n}" for n, line in enumerate(LINES)
    ),
    "a count first": "3\n" + "\n".join(LINES),
    "comments": "# the hard ones\n" + "\n".join(f"{line}  # number {n}" for n, line in enumerate(LINES)),
    "only carriage returns": "\r".join(LINES),
    "given cells marked": "\n".join(f":0100:12:{line[:9]}+{line[9:]}::" for line in LINES),
    "names above grids": "".join(
        f"Grid {n:02}\n" + "".join(line[i : i + 9] + "\n" for i in range(0, 81, 9))
        for n, line in enumerate(LINES)
    ),
    "grids without a gap": "\n".join(line[i : i + 9] for line in LINES for i in range(0, 81, 9)),
    "a list of lines": json.dumps(LINES),
    "names": json.dumps({f"no {n}": line for n, line in enumerate(LINES)}),
}


@pytest.mark.parametrize("form", LISTS)
def test_lists_of_sudokus_are_read_whatever_stands_beside_them(form: str, tmp_path: Path) -> None:
    assert [SUDOKU.question_text(puzzle) for puzzle in strict(read(tmp_path, LISTS[form]))] == LINES


@pytest.mark.parametrize(
    "array",
    [
        np.stack([puzzle.grid for puzzle in PUZZLES]),
        np.stack([puzzle.grid.reshape(81).astype(float) for puzzle in PUZZLES]),
        np.array(LINES),
    ],
)
def test_arrays_are_read(array: NDArray[np.generic], tmp_path: Path) -> None:
    puzzles = strict(read(tmp_path, npy(array), "quizzes.npy"))
    assert [SUDOKU.question_text(puzzle) for puzzle in puzzles] == LINES
    file = io.BytesIO()
    np.savez(file, quizzes=array, solutions=np.array(ANSWERS))
    puzzles = strict(read(tmp_path, file.getvalue(), "both.npz"))
    assert [SUDOKU.text(puzzle.answers or ()) for puzzle in puzzles] == ANSWERS


def test_a_parquet_file_is_read_and_so_is_its_folder(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    rows = pyarrow.table({"puzzle": LINES, "solution": ANSWERS})
    pyarrow.parquet.write_table(rows, tmp_path / "part.parquet")
    for spec in (tmp_path, tmp_path / "part.parquet"):
        assert [SUDOKU.question_text(puzzle) for puzzle in strict(load(spec))] == LINES


def test_zeros_that_a_spreadsheet_took_come_back_where_the_answer_confirms_them(tmp_path: Path) -> None:
    blank = "0" + LINE[1:].replace(".", "0")
    (puzzle,) = strict(read(tmp_path, f"question,answer\n{blank[1:]},{ANSWERS[0]}\n", "f.csv"))
    assert SUDOKU.question_text(puzzle) == blank.replace("0", ".")
    assert "80 cells" in error(tmp_path, f"question\n{blank[1:]}\n", "f.csv")


def test_of_pencil_marks_the_solved_cells_are_taken_with_a_note(tmp_path: Path) -> None:
    rows = ["  ".join("128" if c == "." else c for c in row) for row in ROWS]
    (puzzle,) = strict(read(tmp_path, "\n".join(rows)))
    assert np.array_equal(puzzle.grid, GRID)
    assert puzzle.notes
    places = "".join("".join(str(d) if c in (".", str(d)) else "." for d in range(1, 10)) for c in LINE)
    (puzzle,) = strict(read(tmp_path, places))
    assert np.array_equal(puzzle.grid, GRID)
    assert puzzle.notes


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "f.jsonl",
            json.dumps({"question": LINE, "rules": "The marked diagonals hold no digit twice."}),
            "rules",
        ),
        ("f.jsonl", json.dumps({"puzzle": LINE, "cages": [[0, 1, 7]]}), "cages"),
        ("f.csv", f"puzzle,variant\n{LINE},killer\n", "variant 'killer'"),
        ("f.txt", "Killer Sudoku 7\n" + "\n".join(ROWS), "title"),
        ("f.jsonl", json.dumps({"maze": TEXT, "rules": "Portals lead from A to A."}), "rules"),
    ],
)
def test_rules_that_are_not_known_are_refused(name: str, content: str, words: str, tmp_path: Path) -> None:
    message = error(tmp_path, content, name)
    assert words in message
    assert "other rules are not known" in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("12..\n..34\n....\n5...", "taken for a Sudoku: row 4, cell 1: '5', expected 1 to 4"),
        ("12..\n..3\n....\n4...", "taken for a Sudoku: row 2: 3 cells, expected 4"),
        ("1,xX,2,X\n2,4,X,3\n3,1,X,2\nX,x,x,x", "taken for a Sudoku: row 1, cell 2: 'xX'"),
        ("12..\n.1.4\n....\n4...", "taken for a Sudoku: sudoku4: the givens break a rule: box 1 has 1 twice"),
        ("1......2\n" + "........\n" * 7, "taken for a Sudoku: a grid of 8x8, expected 4x4"),
        ("1...|....|....|...G\n" * 16, "column 1 has 1 16 times"),
        ("1" + "." * 254 + "H", "row 16, cell 16: 'H', expected 1 to 9 and A to G"),
        ("1" + "." * 143, "taken for a Sudoku: 144 cells, a grid of 12x12"),
        ("\n".join(ROWS[:8]), "taken for a Sudoku: 8 rows"),
        ("\n".join([*ROWS, ROWS[0]]), "taken for a Sudoku: 10 rows"),
        ("012345678\n" + "|||\n" * 9, "taken for a Sudoku: row 1: 0 cells"),
        ("\n".join([*ROWS[:4], ROWS[4][:8], *ROWS[5:]]), "taken for a Sudoku: row 5: 8 cells"),
        (f"{LINE} {'ABCDEFGHI' * 9}", "2 fields of 81 symbols"),
        (LINE.replace(".", "*", 4), "taken for a Sudoku: row"),  # two symbols for a blank
        ("#" * 40 + "\n" + ("S" + " " * 38 + "G\n") * 1 + "#" * 40, "taken for a maze: maze of 3x40"),
        ("\n".join(["#" * 49, "#S" + " " * 46 + "#", "#" * 48 + "#"]), "taken for a maze: maze of 3x49"),
        ("#" * 33 + "\n" + ("#" + " " * 31 + "#\n") * 31 + "#" * 33, "taken for a maze: maze of 33x33"),
        ("S" + " " * 34 + "G", "taken for a maze: a single line of 36 cells"),
        (TEXT.replace("S", " "), "taken for a maze: 0 S"),
        (TEXT.replace("  #", " .#", 1), "taken for a maze: both"),
        (TEXT.replace("#     #", "#  ?  #"), "taken for a maze: row 4, cell 4: '?'"),
        (TEXT.replace("#     #", "#    #"), "taken for a maze: row 4: 6 cells, expected 7"),
        ("S  #\n #\n\n   G", "taken for a maze: row 3: 0 cells"),
        ("S \n #\n   G", "taken for a maze: row 3: 4 cells"),
        ("0010\n2001\n0030\n1101", "taken for a"),
        ("[[0, 1], [1, 0]]", "taken for a"),
        ("Dear reader,\nthere is nothing here.", "no puzzle found"),
        ("0000\n0230\n0100\n0000", "taken for a maze: no closed outer wall"),
        ("question\n" + "S" + " " * 33 + "G\n", "maze of 1x35"),
    ],
)
def test_one_mistake_is_one_line_that_names_the_kind_and_the_size(
    content: str, words: str, tmp_path: Path
) -> None:
    assert words in error(tmp_path, content)


def test_other_grids_are_never_taken_for_mazes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        height, width = rng.integers(2, 9, size=2).tolist()
        width = height if rng.random() < 0.7 else width
        given = rng.random((height, width)) < rng.random()
        grid = np.where(given, rng.integers(1, rng.integers(2, 6), (height, width)), 0)
        blank, between = rng.choice(list(".0_* x")), rng.choice(["", " ", ","])
        text = "\n".join(between.join(str(c) if c else blank for c in row) for row in grid.tolist())
        assert not any(isinstance(item, Puzzle) and item.task == "maze" for item in load(text)), text


def test_every_blank_of_a_sudoku_is_known_whatever_is_given() -> None:
    rng = np.random.default_rng(0)
    for number in range(40):
        (answer,) = PUZZLES[number % 3].answers or ()
        kept = rng.random((9, 9)) < rng.random() * 0.5
        grid = np.where(kept & (answer <= (9 if number % 2 else 3)), answer, 0)
        grid[4, 4] = answer[4, 4]
        for blank in ".0_*-x?":
            rows = [[str(cell) if cell else blank for cell in row] for row in grid.tolist()]
            for between in ("", " "):
                (puzzle,) = strict(load("\n".join(map(between.join, rows))))
                assert np.array_equal(puzzle.grid, grid)


def test_grids_of_nine_lines_are_read_together_as_they_are_alone(tmp_path: Path) -> None:
    task = get("sudoku")
    rows, line = (write(task.samples()[0]) for write in (task.prompt_text, task.question_text))
    broken = f"{rows[0]}{rows[0]}{rows[2:]}"
    found = task.parse_plain([rows, line, broken, f"{rows}\n", rows[:-1]], [line, rows, "", "", ""])
    assert [puzzle is not None for puzzle in found] == [True, True, False, False, False]
    assert all(puzzle is None or puzzle.answers is not None for puzzle in found)
    (tmp_path / "s.txt").write_text(f"{rows}\n\n{broken}\n\n{rows}\n")
    names = [
        item.id if isinstance(item, Puzzle) else str(item).split(":")[0] for item in load(tmp_path / "s.txt")
    ]
    assert names == ["s:1", f"{tmp_path / 's.txt'}, line 11", "s:21"]


def test_a_matrix_of_nine_lines_is_a_maze(tmp_path: Path) -> None:
    (tmp_path / "m.txt").write_text(
        "\n".join(["111111111", "120000001", *5 * ["101111101"], "100000031", "111111111"])
    )
    (found,) = load(tmp_path / "m.txt")
    assert isinstance(found, Puzzle)
    assert found.task == "maze"
