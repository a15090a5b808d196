"""Every name and separator of a table, and which columns become what is known of a puzzle."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from forms import ANSWERS, LINE, LINES, MAZE, SUDOKU, TEXT, error, read

from trm.data import tables
from trm.data.files import load_text, strict
from trm.data.items import Item, Names, parse_json
from trm.grid import PuzzleError
from trm.tasks import Puzzle

QUESTIONS = [
    "question", "questions", "puzzle", "puzzles", "quiz", "quizzes", "sudoku", "sudokus", "maze", "mazes",
    "initial_board", "board", "grid", "input", "inputs", "problem", "unsolved", "prompt",
]  # fmt: skip
WORDS = ["answer", "answers", "solution", "solutions", "solved", "output", "label", "labels", "completion"]
STARTS, GOALS = ["start", "start_pos", "source"], ["goal", "end", "target", "finish", "end_pos"]


def one(text: str, name: str = "f.csv") -> Puzzle:
    (puzzle,) = strict(load_text(text, name))
    return puzzle


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_name_of_questions_heads_a_table_and_is_a_key(name: str, tmp_path: Path) -> None:
    others = [other for other in QUESTIONS if other != name]
    for text, file in (
        (f"{name}\n{LINE}\n", "f.csv"),
        (f"{name.upper()};level\n{LINE};3\n", "f.csv"),
        (json.dumps({name: LINE}) + "\n", "f.jsonl"),
        (json.dumps([{"id": "a", name: LINE}]), "f.json"),
    ):
        (puzzle,) = strict(read(tmp_path, text, file))
        assert SUDOKU.question_text(puzzle) == LINE
        assert name not in puzzle.meta
    # What comes first in the documented order is the question where there are several.
    record = dict.fromkeys(reversed(others[QUESTIONS.index(name) :]), LINES[1]) | {name: LINE}
    (puzzle,) = strict(read(tmp_path, json.dumps(record), "f.jsonl"))
    assert SUDOKU.question_text(puzzle) == LINE


@pytest.mark.parametrize("name", WORDS)
def test_every_name_of_answers_is_known(name: str) -> None:
    puzzle = one(f"puzzle,{name}\n{LINE},{ANSWERS[0]}\n")
    assert puzzle.answers is not None
    assert SUDOKU.text(puzzle.answers) == ANSWERS[0]
    assert puzzle.meta == {}
    later = WORDS[WORDS.index(name) + 1 :]
    record = dict.fromkeys(reversed(later), ANSWERS[1]) | {name: ANSWERS[0], "puzzle": LINE}
    columns = tables.columns_of(tuple(record))
    assert (columns.question, columns.answer, columns.others) == ("puzzle", name, ())


@pytest.mark.parametrize("name", ["id", "puzzle_id", "task_id"])
def test_every_name_of_ids_is_known_and_a_repeated_id_is_the_place(name: str) -> None:
    rows = f"{name},puzzle\nx7,{LINES[0]}\nx7,{LINES[1]}\n,{LINES[2]}\n"
    found = strict(load_text(rows, "f"))
    assert [puzzle.id for puzzle in found] == ["x7", "f:2", "f:3"]
    assert [puzzle.meta for puzzle in found] == [{}] * 3


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("goal", GOALS)
def test_every_name_of_a_mazes_ends_is_known(start: str, goal: str, tmp_path: Path) -> None:
    blank = TEXT.replace("S", " ").replace("G", " ")
    for ends in (([1, 1], [5, 5]), ("(1, 1)", "[5;5]"), ({"row": 1, "col": 1}, {"y": 5, "x": 5})):
        record = {"maze": blank, start: ends[0], goal: ends[1]}
        (puzzle,) = strict(read(tmp_path, json.dumps(record), "f.jsonl"))
        assert MAZE.question_text(puzzle) == TEXT


@pytest.mark.parametrize(
    "value",
    [None, "", 5, [1], [1, 2, 3], "1", [1, "x"], [True, 1], {"row": 1}, {"x": 1}, "(1, 1, 1)", "1 1 1"],
)
def test_ends_that_are_no_pair_are_passed_over(value: object) -> None:
    assert tables._ends(value, [5, 5]) is None
    assert tables._ends([5, 5], value) is None


@pytest.mark.parametrize(
    ("value", "pair"),
    [
        ([1, 2], (1, 2)), ((1, 2), (1, 2)), ("1,2", (1, 2)), ("(10; 20)", (10, 20)), ("[ 1 2 ]", (1, 2)),
        ({"row": 1, "col": 2}, (1, 2)), ({"row": 1, "column": 2}, (1, 2)), ({"y": 1, "x": 2}, (1, 2)),
    ],
)  # fmt: skip
def test_pairs_are_read_in_each_form(value: object, pair: tuple[int, int]) -> None:
    assert tables._ends(value, [0, 0]) == (pair, (0, 0), None)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_every_delimiter_parts_a_header_and_its_rows(delimiter: str) -> None:
    rows = [("id", "puzzle", "solution", "Level"), ("a", LINES[0], ANSWERS[0], "3"), ("b", LINES[1], "", "x")]
    text = "".join(delimiter.join(row) + "\n" for row in rows)
    first, second = strict(load_text(text, "f.csv"))
    assert (first.id, first.meta, second.id, second.meta) == ("a", {"level": 3}, "b", {"level": "x"})
    assert first.answers is not None
    assert second.answers is None


def test_the_delimiter_is_the_one_that_names_most_columns() -> None:
    puzzle = one(f"id,of;puzzle;solution\n1,2;{LINE};{ANSWERS[0]}\n")
    assert puzzle.answers is not None
    assert puzzle.meta == {"id,of": "1,2"}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("3", 3), ("-3", -3), ("0.25", 0.25), ("-1.5", -1.5), ("1e5", "1e5"), ("3.", "3."),
        (".5", ".5"), ("", None),
        ("123456789012345", 123456789012345), ("1234567890123456", "1234567890123456"), ("+3", "+3"),
        ("1.1234567890123456", "1.1234567890123456"), ("a", "a"),
    ],
)  # fmt: skip
def test_further_columns_are_numbers_where_they_are_plain_ones(written: str, value: object) -> None:
    meta = one(f"puzzle,level\n{LINE},{written}\n").meta
    assert meta == ({} if value is None else {"level": value})
    assert type(meta.get("level")) is type(value)


@pytest.mark.parametrize("mark", ["'", "=", '"'])
def test_marks_of_text_in_spreadsheets_are_taken_off(mark: str) -> None:
    row = f"{mark}{LINE}{mark},{mark}{ANSWERS[0]}{mark}"
    puzzle = one("puzzle,solution\n" + (row if mark != '"' else row.replace('"', '"""')) + "\n")
    assert SUDOKU.question_text(puzzle) == LINE
    assert puzzle.answers is not None


@pytest.mark.parametrize("number", ["1E+80", "1.2E+80", "5,30E+79", "1e80", "1E80"])
def test_a_rounded_number_is_no_puzzle(number: str, tmp_path: Path) -> None:
    assert number in error(tmp_path, f"puzzle;solution\n{number};{ANSWERS[0]}\n", "f.csv")


def test_zeros_come_back_only_where_the_answer_confirms_them(tmp_path: Path) -> None:
    numbers, answer = LINE.replace(".", "0"), ANSWERS[0]
    short = "00" + numbers[2:]
    for row in (f"{short[2:]},{answer}", f"{int(short)},{answer}"):
        assert SUDOKU.question_text(one(f"puzzle,solution\n{row}\n")).replace(".", "0") == short
    other = answer[:80] + ("1" if answer[80] != "1" else "2")
    wrong = short[:80] + answer[80]
    assert "f.csv, line 2" in error(tmp_path, f"puzzle,solution\n{wrong[2:]},{other}\n", "f.csv")
    assert "f.csv, line 2" in error(tmp_path, f"puzzle,solution\n{short[2:]},{answer[:-1]}\n", "f.csv")
    for side, name in ((4, "sudoku4"), (6, "sudoku6")):
        solved = {"sudoku4": "1234341221434321", "sudoku6": "123456456123231564564231312645645312"}[name]
        puzzle = one(f"puzzle,solution\n{solved[1:]},{solved}\n".replace(solved[1:], solved[1:], 1))
        assert (puzzle.task, puzzle.grid.shape, puzzle.grid[0, 0]) == (name, (side, side), 0)


# -- names -----------------------------------------------------------------------------------------------------
def test_names_are_new_once() -> None:
    names = Names()
    some = ["a", "a:1", "a:8", "a:9", "b:9", "a:01", "a:0", "a:", "a:x", ":1", "1", "a:١", "a:99999999999",
            "a:999999999999", "a:70000", "a:5000"]  # fmt: skip
    for known, name in enumerate(some):
        assert name not in names
        assert names.add(name)
        assert not names.add(name)
        assert all(other in names for other in some[: known + 1])
        assert not any(other in names for other in some[known + 1 :])
    assert all(names.add(f"f:{n}") for n in range(2, 3000))
    assert not any(names.add(f"f:{n}") for n in range(2, 3000))
    assert "f:1" not in names
    assert "f:3000" not in names


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{", "f, line 1: .*column 2"), ('{"a":\n1,}', "f, line 2: .*column 3"),
        ('{"a": 1, "a": 2}', "f: .*'?a"),
        ("1" * 5000, "f: no JSON"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_json_is_one_line(text: str, found: str) -> None:
    with pytest.raises(PuzzleError, match=found) as raised:
        parse_json(text, "f")
    with pytest.raises(PuzzleError) as bare:
        parse_json(text)
    assert str(raised.value).startswith("f")
    assert not str(bare.value).startswith((":", ",", "f"))


# -- what is read as a table ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("puzzle\n1234\n", True), ("puzzle\n123\n456\n", False), ("puzzle\n123\n4567\n", True),
        ("puzzle,a\n123\n456\n", False), ("grid\n" + "1" * 32 + "\n" + "1" * 32, False),
        ("puzzles\n\"a\"\nb\n", True),
        ("grid\n" + "1" * 33 + "\n" + "1" * 33, True), ("name,other\n1,2\n", False),
        ("puzzle\n1,2\n3,4\n", True),
        ("puzzle,b\n1,2\n3,4\n", True), ("\n \npuzzle\n123\n", True), ("\ufeffpuzzle\n1234\n", True),
        ("puzzle\nab\n\nab\n", False), ("puzzle\nab\n\nabc\n", True), (' "Puzzle" \nab', True),
    ],
)  # fmt: skip
def test_a_header_is_told_from_a_title(text: str, expected: bool) -> None:
    assert tables.has_header(text) is expected


@pytest.mark.parametrize("extra", [",", ",,", ",7"])
def test_fields_beyond_the_header_are_an_error_unless_they_are_empty(extra: str, tmp_path: Path) -> None:
    text = f"puzzle,level\n{LINE},3{extra}\n{LINES[1]},4\n"
    first, second = read(tmp_path, text, "f.csv")
    assert isinstance(second, Puzzle)
    if extra == ",7":
        assert "3 fields, expected 2" in str(first)
    else:
        assert isinstance(first, Puzzle)
    assert isinstance(load_text(text, "f")[1], Puzzle)


def test_an_item_says_by_itself_what_most_are() -> None:
    item = Item("f", "f:1", LINE)
    assert (item.answer, item.task, item.meta, item.ends, item.flat, item.notes) == (
        None,
        None,
        {},
        None,
        True,
        (),
    )


@pytest.mark.parametrize("name", ["x,y", "xax;bax", "\ufeffxa,yx"])
def test_a_header_of_other_names_is_shown_whole(name: str, tmp_path: Path) -> None:
    shown = ", ".join(name.strip("\ufeff").replace(";", ",").split(","))
    assert f"columns {shown};" in error(tmp_path, f"{name}\n1,2\n3,4\n", "f.csv")


def test_a_column_that_names_the_task_is_no_further_one() -> None:
    puzzle = one(f"task,puzzle,of\nsudoku,{LINE},x\n")
    assert (puzzle.task, puzzle.meta) == ("sudoku", {"of": "x"})


@pytest.mark.parametrize(("digits", "known"), [(41, True), (40, False)])
def test_a_number_in_json_is_a_sudoku_from_a_size_on(digits: int, known: bool, tmp_path: Path) -> None:
    record = f'{{"puzzle": {ANSWERS[0][81 - digits :]}, "solution": {ANSWERS[0]}}}\n'
    (item,) = read(tmp_path, record, "f.jsonl")
    assert isinstance(item, Puzzle) is known
