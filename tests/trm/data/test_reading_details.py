"""Details of reading: labelled answers, lost cells, repeated keys, headers of cells, other encodings."""

from __future__ import annotations

import json
import re
from itertools import product
from pathlib import Path

import pytest
from forms import ANSWERS, LINE, read

from trm.data.files import load, load_text
from trm.grid import PuzzleError
from trm.tasks import Puzzle, get

ANSWER = ANSWERS[0]
TASK = get("arc").question_text(get("arc").samples()[0])


def one(tmp_path: Path, name: str, text: str | bytes) -> Puzzle | PuzzleError:
    (found,) = read(tmp_path, text, name)
    return found


@pytest.mark.parametrize(("question", "answer"), [("puzzle", "solution"), ("Question", "Answer")])
def test_a_labelled_answer_belongs_to_the_puzzle_above(question: str, answer: str, tmp_path: Path) -> None:
    found = one(tmp_path, "a.txt", f"{question}: {LINE}\n{answer}: {ANSWER}\n")
    assert isinstance(found, Puzzle)
    assert found.answers is not None


def test_a_closed_right_wall_is_not_opened(tmp_path: Path) -> None:
    found = one(tmp_path, "a.txt", "#######\n#S  # #\n# # #\n#    G#\n#######\n")
    assert isinstance(found, PuzzleError)
    assert "row 3: 5 cells, expected 7" in str(found)
    several = one(tmp_path, "b.txt", "#######\n#S  # #\n# # #\n#   #\n#    G#\n#######\n")
    assert isinstance(several, Puzzle)
    assert "rows 3, 4" in several.notes[0]


@pytest.mark.parametrize("name", ["a.json", "a.txt"])
def test_a_repeated_key_is_an_error(name: str, tmp_path: Path) -> None:
    twice = f'{{"a1": {TASK},\n"a1": {TASK}}}'
    found = one(tmp_path, name, twice)
    assert isinstance(found, PuzzleError)
    assert "'a1' occurs twice" in str(found)
    found = one(tmp_path, "b.jsonl", f'{{"question": "{LINE}", "question": "{LINE}"}}')
    assert "line 1: the key 'question' occurs twice" in str(found)


GRID = [[int(cell) if cell != "." else None for cell in LINE[at : at + 9]] for at in range(0, 81, 9)]
CELLS = [[str(cell or "") for cell in row] for row in GRID]
FRAMED = "\n".join(
    "║" + "║".join("│".join(f" {cell or '·'} " for cell in row[at : at + 3]) for at in (0, 3, 6)) + "║"
    for row in CELLS
)
DIGITS = json.dumps([[cell or 0 for cell in row] for row in GRID])
ONE_ROW = ",".join(cell for row in CELLS for cell in row)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", f"np.array({DIGITS}, dtype=np.int64)"),
        ("a.txt", "grid = array(" + DIGITS.replace(",", "").replace("] [", "]\n [") + ")"),
        ("a.json", json.dumps(GRID)),
        ("a.jsonl", json.dumps({"puzzle": GRID})),
        ("a.csv", "A,B,C,D,E,F,G,H,I\n" + "\n".join(map(",".join, CELLS))),
        ("a.md", "|c1|c2|c3|c4|c5|c6|c7|c8|c9|\n" + "\n".join(f"| {' | '.join(row)} |" for row in CELLS)),
        ("a.csv", ",".join(f"r{n // 9 + 1}c{n % 9 + 1}" for n in range(81)) + f"\n{ONE_ROW}\n"),
        ("a.txt", f"╔═══╗\n{FRAMED}\n╚═══╝"),
        ("a.tex", "\n".join(f"|{'|'.join(cell or ' ' for cell in row)}|." for row in CELLS)),
    ],
)
def test_cells_are_read_as_the_grid(name: str, text: str, tmp_path: Path) -> None:
    found = one(tmp_path, name, text)
    assert isinstance(found, Puzzle), found
    assert get("sudoku").question_text(found) == LINE


def test_a_header_of_other_names_is_shown_as_it_stands(tmp_path: Path) -> None:
    header = "No.;Rätsel;Lösung"
    for encoding in ("utf-8", "cp1252"):
        found = str(one(tmp_path, "a.csv", f"{header}\n1;{LINE};{ANSWER}\n".encode(encoding)))
        assert "columns No., Rätsel, Lösung" in found
        assert "puzzle" in found
        assert "quiz" in found


def test_a_header_of_other_names_is_shown_with_tabs_too(tmp_path: Path) -> None:
    for name in ("a.csv", "a.tsv"):
        assert "columns number, riddle" in str(one(tmp_path, name, f"number\triddle\n1\t{LINE}\n"))


@pytest.mark.parametrize("name", ["sudoku4", "sudoku6", "sudoku"])
def test_cells_of_a_line_that_ends_with_a_blank(name: str, tmp_path: Path) -> None:
    task = get(name)
    grid = task.samples()[0].grid.copy()
    grid[-1, -1] = 0
    cells = ",".join(str(cell or "") for cell in grid.reshape(-1).tolist())
    for text in (cells, f"{cells},"):  # the last of which ends with a separator
        found = one(tmp_path, "a.txt", text)
        assert isinstance(found, Puzzle), found
        assert found.grid.tolist() == grid.tolist()


def test_a_folder_may_hold_a_file_about_its_tasks(tmp_path: Path) -> None:
    for name, text in (("a", TASK), ("b", TASK), ("README", '{"author": "someone"}')):
        (tmp_path / f"{name}.json").write_text(text)
    first, second = load(tmp_path)
    assert isinstance(first, Puzzle)
    assert isinstance(second, Puzzle)
    assert any("README.json" in note for note in first.notes)


def test_pairs_in_lists_are_an_arc_task(tmp_path: Path) -> None:
    grid, other = [[1, 2], [3, 4]], [[4, 3], [2, 1]]
    found = one(tmp_path, "a.json", json.dumps([[grid, other], [other, grid]]))
    assert isinstance(found, Puzzle)
    assert (found.task, len(found.demos)) == ("arc", 1)
    assert "ARC" in str(one(tmp_path, "a.json", json.dumps([{"input": grid, "output": other}])))


CLOSED = "#########\n#   #   #\n### # # #\n#   # # #\n# ##### #\n#       #\n#########\n"


@pytest.mark.parametrize(
    "text", [f"start: (1, 1)\nend: (5, 7)\n{CLOSED}", f"{CLOSED}\nStart = 1,1; Goal = 5,7\n"]
)
def test_lines_beside_a_maze_name_its_ends(text: str, tmp_path: Path) -> None:
    found = one(tmp_path, "a.txt", text)
    assert isinstance(found, Puzzle)
    assert (chr(found.grid[1, 1]), chr(found.grid[5, 7])) == ("S", "G")


def test_both_readings_of_ends_are_named(tmp_path: Path) -> None:
    rows = "#" * 7 + "\n" + "#     #\n" * 5 + "#" * 7
    found = str(one(tmp_path, "a.txt", f"start: (2, 2)\nend: (4, 4)\n{rows}"))
    assert "from row 2, column 2 to row 4, column 4 or from row 3, column 3 to row 5, column 5" in found


@pytest.mark.parametrize(("row", "place"), [("# Dk# # #", "cell 3: 'D'"), ("# # # k #", "cell 7: 'k'")])
def test_an_unknown_symbol_of_a_maze_is_named(row: str, place: str, tmp_path: Path) -> None:
    drawn = (
        CLOSED.replace("#   # # #", row).replace("#   #   #", "#S  #   #").replace("#       #", "#D     G#")
    )
    found = str(one(tmp_path, "a.txt", drawn))
    assert "row 4" in found or "row 6" in found
    assert "'k'" in found or place in found


def test_a_place_is_named_once(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"question\n{LINE}\nfoo bar baz\n")
    assert str(load(path)[1]).count("line 3") == 1


def test_every_documented_name_of_a_column_is_known(tmp_path: Path) -> None:
    page = Path(__file__).parents[3] / "docs" / "how-to" / "files.md"
    rows = re.findall(r"^\| (question|answer|name) \| (.*) \|$", page.read_text(encoding="utf-8"), re.M)
    columns = {kind: re.findall(r"`(\w+)`", names) for kind, names in rows}
    assert {"question", "answer", "name"} == columns.keys()
    for question in columns["question"]:
        (found,) = load_text(json.dumps([{question: LINE}]), "a")
        assert isinstance(found, Puzzle), question
        (found,) = load_text(f"number,{question}\n1,{LINE}\n", "a")
        assert isinstance(found, Puzzle), question
    for answer, name in product(columns["answer"], columns["name"]):
        (found,) = load_text(json.dumps([{"puzzle": LINE, answer: ANSWER, name: "p"}]), "a")
        assert isinstance(found, Puzzle)
        assert (found.answers is not None, found.id) == (True, "p"), (answer, name)


def test_every_documented_name_of_a_mazes_ends_is_known() -> None:
    page = Path(__file__).parents[3] / "docs" / "how-to" / "files.md"
    (names,) = re.findall(r"^\| start and goal of a maze \| (.*?):", page.read_text(encoding="utf-8"), re.M)
    start, *goals = re.findall(r"`(\w+)`", names)
    assert len(goals) > 2
    for goal in goals:
        (found,) = load_text(json.dumps([{"maze": "   \n # \n   ", start: [0, 0], goal: [2, 2]}]), "a")
        assert isinstance(found, Puzzle), found
        assert get("maze").question_text(found) == "S  \n # \n  G"


@pytest.mark.parametrize("cell", ["10", "-1", "true", "1.5", '"1"'])
def test_pairs_of_other_values_are_no_arc_task(cell: str) -> None:
    pairs = "[[[[1, 2]], [[2, 1]]], [[[0, 0, 3]], [[3, 0, CELL]]]]"
    assert [isinstance(p, Puzzle) and p.task for p in load_text(pairs.replace("CELL", "4"), "a")] == ["arc"]
    assert not any(isinstance(p, Puzzle) for p in load_text(pairs.replace("CELL", cell), "a"))


def test_a_record_that_names_its_task_is_of_that_task() -> None:
    for task, fits in (("sudoku", True), ("maze", False), ("no such task", True)):
        (found,) = load_text(json.dumps([{"puzzle": LINE, "task": task}]), "a")
        assert isinstance(found, Puzzle) == fits, found


def test_two_mazes_are_not_one() -> None:
    """Only where one block has the start and the next one the goal, a row of spaces was lost between them."""
    whole = load_text("S #\n  G\n\nS  \n  G", "a", "maze")
    assert [get("maze").question_text(maze) for maze in whole if isinstance(maze, Puzzle)] == [
        "S #\n  G", "S  \n  G",
    ]  # fmt: skip
    odd = load_text("S  \n  G\n\n  G\n   ", "a", "maze")
    assert [isinstance(maze, Puzzle) for maze in odd] == [True, False]
    second = load_text("S  \n  G\n\n  G\nS  ", "a", "maze")
    assert [isinstance(maze, Puzzle) for maze in second] == [True, True]


def test_a_title_that_is_the_name_of_a_column_is_no_header() -> None:
    rows = [LINE[at : at + 9] for at in range(0, 81, 9)]
    (found,) = load_text("\n".join(["Puzzle", *rows]), "a")
    assert isinstance(found, Puzzle)
    assert len(load_text("\n".join(["puzzle", LINE, LINE]), "a")) == 2
