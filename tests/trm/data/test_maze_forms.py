"""Mazes in the notations in which people have them, and answers in these."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from forms import LINES, MAZE, ROWS, TEXT, WALLS, drawn, error, npy, read

from trm.data.files import load, strict
from trm.tasks import Puzzle


def box(rows: list[str]) -> str:
    """The maze with a character for each of the lines between its cells: walls as `+--+` and `|`."""
    shape = [[cell == "#" for cell in row] for row in rows]
    lines = []
    for r, row in enumerate(rows):
        parts = []
        for c, cell in enumerate(row):
            if r % 2 == 0:
                parts.append("+" if c % 2 == 0 else "---" if shape[r][c] else "   ")
            else:
                parts.append(("|" if shape[r][c] else " ") if c % 2 == 0 else f" {cell.replace('#', ' ')} ")
        lines.append("".join(parts))
    return "\n".join(lines)


LEGEND = (
    "From 'q' (start) to '!' (goal):\n\n```\n"
    + drawn("w", "*", "q", "!")
    + "\n```\nLegend: 'w' = Wall, '*' = Passage"
)
MAZES = {
    "S and E": TEXT.replace("G", "E"),
    "small letters": TEXT.lower(),
    "A and B": drawn("#", " ", "A", "B"),
    "points for free cells": drawn("#", ".", "S", "G"),
    "blocks": drawn("█", " ", "S", "G"),
    "unbreakable spaces": drawn("#", "\xa0", "S", "G"),
    "X, O, B and E": drawn("X", "O", "B", "E"),
    "pictures": drawn("⬛", "⬜", "🟩", "🟥"),
    "pictures the other way": drawn("⬜", "⬛", "🚶", "🏠"),
    "numbers": drawn("1", "0", "2", "3"),
    "numbers the other way": drawn("0", "1", "2", "3"),
    "spaced numbers": "\n".join(map(" ".join, drawn("1", "0", "2", "3").split("\n"))),
    "numbers and commas": "\n".join(map(",".join, drawn("1", "0", "2", "3").split("\n"))),
    "a matrix": json.dumps([list(map(int, row)) for row in drawn("1", "0", "2", "3").split("\n")]),
    "a list of rows": json.dumps(WALLS),
    "a list of characters": json.dumps([list(row) for row in WALLS]),
    "a comment": f"# my own maze, 7x7\n{TEXT}",
    "a title that could be a header": f"Maze, large\n{TEXT}",
    "another comment": f"// mine\n{TEXT}",
    "its size": f"7 7\n{TEXT}",
    "a fence": f"Solve:\n\n```text\n{TEXT}\n```\n",
    "tabs before it": TEXT.replace("\n", "\n\t"),
    "an indent that the first line lost": TEXT.replace("\n", "\n    "),
    "rows parted by bars": "|".join(WALLS),
    "every cell twice": "\n".join("".join(c * 2 for c in row) for row in WALLS),
    "part of a path": TEXT.replace("S  ", "Soo", 1),
}


@pytest.mark.parametrize("form", MAZES)
def test_a_maze_is_read_in_every_notation(form: str, tmp_path: Path) -> None:
    (puzzle,) = strict(read(tmp_path, MAZES[form]))
    assert MAZE.question_text(puzzle) == TEXT
    assert bool(puzzle.notes) == (form == "part of a path")


def test_lines_between_cells_are_walls(tmp_path: Path) -> None:
    rows = ["#######", "#S  # #", "### # #", "#     #", "# #####", "#    G#", "#######"]
    (puzzle,) = strict(read(tmp_path, box(rows)))
    assert MAZE.question_text(puzzle) == TEXT


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("f.csv", f'maze\n"{TEXT}"\n'),
        ("f.csv", 'question\n"' + TEXT.replace("\n", "\\n") + '"\n'),
        ("f.csv", "question\n" + "".join(WALLS) + "\n"),
        ("f.jsonl", json.dumps({"Maze": WALLS, "Path": ["(1, 1)"]})),
        ("f.jsonl", json.dumps({"question": WALLS, "task": "maze"})),
        (
            "f.jsonl",
            json.dumps({"maze": TEXT.replace("S", " ").replace("G", " "), "start": [1, 1], "end": [5, 5]}),
        ),
        ("f.jsonl", json.dumps({"question": LEGEND, "answer": "8"})),
        ("f.npy", npy(np.array([list(map(int, row)) for row in drawn("1", "0", "2", "3").split("\n")]))),
    ],
)
def test_records_of_mazes_are_read(name: str, content: str | bytes, tmp_path: Path) -> None:
    (puzzle,) = strict(read(tmp_path, content, name))
    assert MAZE.question_text(puzzle) == TEXT


def test_a_flat_maze_that_is_no_square_is_read_by_its_closed_wall(tmp_path: Path) -> None:
    rows = ["########", "#S     #", "###### #", "#G     #", "########"]
    (puzzle,) = strict(read(tmp_path, "question\n" + "".join(rows), "f.csv"))
    assert MAZE.question_text(puzzle) == "\n".join(rows)


def test_a_start_beside_a_maze_is_refused_where_it_can_be_read_in_two_ways(tmp_path: Path) -> None:
    content = json.dumps({"maze": "\n".join(["    "] * 4), "start": [1, 2], "goal": [3, 3]})
    assert "ways" in error(tmp_path, content, "f.json")


def test_two_openings_of_an_outer_wall_are_start_and_goal_with_a_note(tmp_path: Path) -> None:
    rows = ["# #####", "#   # #", "### # #", "#     #", "# #####", "#      ", "#######"]
    (puzzle,) = strict(read(tmp_path, "\n".join(rows)))
    assert (MAZE.text(puzzle.inputs)[1], MAZE.text(puzzle.inputs)[8 * 5 + 6]) == ("S", "G")
    assert puzzle.notes
    (given,) = strict(load(tmp_path / "file.txt", ends=((2, 2), (4, 6), 1)))
    assert MAZE.question_text(given).count(" ") == MAZE.question_text(puzzle).count(" ")
    assert given.notes == ()


@pytest.mark.parametrize("between", ["---", "=======", "", "Maze 2"])
def test_mazes_are_parted_by_lines_of_other_kinds(between: str, tmp_path: Path) -> None:
    puzzles = strict(read(tmp_path, f"{TEXT}\n{between}\n{TEXT}\n"))
    assert [MAZE.question_text(puzzle) for puzzle in puzzles] == [TEXT, TEXT]


def test_spaces_lost_at_line_ends_come_back_where_a_wall_shows_the_width(tmp_path: Path) -> None:
    rows = ["########", "#S      ", "####### ", "#G      ", "########"]
    (puzzle,) = strict(read(tmp_path, "\n".join(row.rstrip() for row in rows)))
    assert MAZE.question_text(puzzle) == "\n".join(rows)


def test_a_list_of_cells_is_an_answer(tmp_path: Path) -> None:
    path = [
        [1, 1],
        [1, 2],
        [1, 3],
        [2, 3],
        [3, 3],
        [3, 2],
        [3, 1],
        [4, 1],
        [5, 1],
        [5, 2],
        [5, 3],
        [5, 4],
        [5, 5],
    ]
    for cells in (path, [[column + 1, row + 1] for row, column in path]):
        content = json.dumps({"maze": TEXT, "solution": cells})
        (puzzle,) = strict(read(tmp_path, content, "f.json"))
        assert MAZE.check(puzzle, puzzle.answers or ()).violations == ()


def test_kinds_may_be_mixed_in_a_file(tmp_path: Path) -> None:
    loaded = read(tmp_path, "\n\n".join([TEXT, "\n".join(ROWS), LINES[1], TEXT]))
    assert [item.task for item in loaded if isinstance(item, Puzzle)] == ["maze", "sudoku", "sudoku", "maze"]


def test_mazes_of_a_long_list_are_those_of_a_list_with_a_title(tmp_path: Path) -> None:
    mazes = "\n\n" + 3 * "S #\n   \n# G\n\n\n" + 2 * "    \n S  \n  G \n    \n\n" + "G#\n S"
    found = []
    for text in (mazes, f"{mazes}\n\n# a title"):
        (tmp_path / "m.txt").write_text(text)
        loaded = [puzzle for puzzle in load(tmp_path / "m.txt") if isinstance(puzzle, Puzzle)]
        found.append([(puzzle.id, puzzle.grid.tolist()) for puzzle in loaded])
    assert found[0] == found[1]
    assert [name for name, _ in found[0]] == ["m:3", "m:8", "m:13", "m:18", "m:23", "m:28"]
