"""Puzzles as other programs print, export and mark them up."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from forms import error, read

from trm.tasks import Puzzle, get

SUDOKU, MAZE, ARC = (get(name).samples()[0] for name in ("sudoku", "maze", "arc"))
assert SUDOKU.answers is not None
GRID, SOLVED = SUDOKU.grid, SUDOKU.answers[0]
LINE, ANSWER = ("".join(map(str, grid.reshape(-1).tolist())) for grid in (GRID, SOLVED))
ROWS = [LINE[at : at + 9].replace("0", ".") for at in range(0, 81, 9)]
WALLS = get("maze").question_text(MAZE)
TASK = json.loads(get("arc").question_text(ARC))


def spelled(blank: str, grid: np.ndarray = GRID) -> list[list[str]]:
    return [[str(cell) if cell else blank for cell in row] for row in grid.tolist()]


def rows(start: str, between: str, end: str, blank: str) -> str:
    return "\n".join(start + between.join(row) + end for row in spelled(blank)) + "\n"


def flat(blank: str) -> str:
    return ",".join(cell for row in spelled(blank) for cell in row)


def names(letter: str) -> str:
    return ",".join(f"{letter}{number}" for number in range(81))


def zipped(text: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("p.txt", text)
    return data.getvalue()


def nested(blank: object) -> list[list[object]]:
    return [[cell or blank for cell in row] for row in GRID.tolist()]


LATEX = (
    "\\begin{tabular}{|ccc|ccc|ccc|}\n\\hline\n" + rows("", " & ", " \\\\ \\hline", " ") + "\\end{tabular}\n"
)
R = "     [,1] [,2] [,3] [,4] [,5] [,6] [,7] [,8] [,9]\n"
R += "\n".join(f" [{n},]    " + "    ".join(row) for n, row in enumerate(spelled("NA"), 1))
HEADER = "|" + "   |" * 9 + "\n|" + "---|" * 9 + "\n"
FULL = str.maketrans("0123456789. ", "０１２３４５６７８９．　")

SUDOKUS = {  # files with the question alone
    "html": "<html><table>\n" + rows("<tr><td>", "</td><td class='x'>", "</td></tr>", "&nbsp;") + "</table>",
    "entities": "\n".join("&nbsp;".join(row) for row in ROWS),
    "latex": LATEX,
    "markdown": HEADER + rows("| ", " | ", " |", " "),
    "quoted-mail": "\n".join(f"> {row}" for row in ROWS),
    "r": R,
    "matlab": "A = [" + "; ".join(map(" ".join, spelled("0"))) + "];",
    "matlab-shown": "A =\n\n" + rows("     ", "     ", "", "0"),
    "numpy-floats": str(GRID.astype(float)),
    "numpy-flat": str(GRID.reshape(-1)),
    "nan": str(nested(float("nan"))),
    "python": str(nested(None)),
    "python-text": f'grid = """\n{chr(10).join(ROWS)}\n"""\n',
    "javascript": "const board = [\n" + rows('  ["', '","', '"],', ".") + "];\n",
    "yaml": "puzzle:\n" + rows("  - [", ", ", "]", "0"),
    "quoted-lines": "\n".join(f'"{row}",' for row in ROWS),
    "full-width": "\n".join(ROWS).translate(FULL),
    "arabic": "\n".join(ROWS).translate({ord(str(n)): 0x660 + n for n in range(10)}),
    "points": LINE.replace("0", "·"),
    **{
        f"cells-{blank}": f"{names('c')}\n{flat(blank)}\n"
        for blank in ("", "null", "None", "NaN", "N/A", "-1")
    },
    "cells-by-columns": ",".join(f"r{r}c{c}" for c in range(1, 10) for r in range(1, 10))
    + "\n"
    + ",".join(map(str, GRID.T.reshape(-1).tolist())),
    "html-in-a-line": "<table>"
    + rows("<tr><td>", "</td><td>", "</td></tr>", "").replace("\n", "")
    + "</table>",
    "html-fields": rows("<tr><td><input value='", "'></td><td><input value='", "'></td></tr>", ""),
    "markdown-no-header": rows("|", "|", "|", ".").replace("\n", "\n|" + "---|" * 9 + "\n", 1),
    "titled": "My puzzle\n" + rows("", " ", "", "NA"),
    "cells-numbered": f",{names('cell_')}\n0,{flat('')}\n",
    "cells-floats": f"id,{names('q')}\nx1," + flat("").replace(",", ".0,").replace(",.0", ",") + "\n",
}
PAIRS = {  # tables and objects with question and answer
    "cells.csv": f"{names('q')},{names('s')}\n{flat('0')},{','.join(ANSWER)}\n",
    "swapped.csv": f"{names('s')},rating,{names('q')}\n{','.join(ANSWER)},3,{flat('')}\n",
    "told.csv": f"sep=;\r\npuzzle;solution\r\n{LINE};{ANSWER}\r\n",
    "apostrophe.csv": f"puzzle,solution\n'{LINE},'{ANSWER}\n",
    "formula.csv": f'puzzle,solution\n="{LINE}",="{ANSWER}"\n',
    "entities.csv": f"puzzle,solution\n&quot;{LINE}&quot;,&quot;{ANSWER}&quot;\n",
    "table.md": f"| puzzle | solution |\n|---|---|\n| {LINE} | {ANSWER} |\n",
    "pair.txt": str((LINE, ANSWER)),
    "nested.jsonl": json.dumps({"data": {"puzzle": LINE, "solution": ANSWER}}),
    "listed.json": json.dumps(
        {"newboard": {"grids": [{"value": GRID.tolist(), "solution": SOLVED.tolist()}], "n": 1}}
    ),
    "chat.jsonl": json.dumps({"prompt": "Solve this Sudoku:\n" + "\n".join(ROWS), "completion": ANSWER}),
    "null.json": json.dumps({"puzzle": nested(None), "solution": SOLVED.tolist()}),
    "flat.jsonl": json.dumps({"puzzle": GRID.reshape(-1).tolist(), "solution": SOLVED.reshape(-1).tolist()}),
    "printed.txt": str({"puzzle": LINE, "solution": ANSWER}),
}


def only(path: Path, text: str | bytes) -> Puzzle:
    (found,) = read(path.parent, text, path.name)
    assert isinstance(found, Puzzle), found
    return found


@pytest.mark.parametrize("name", SUDOKUS)
def test_sudokus_of_other_programs(name: str, tmp_path: Path) -> None:
    assert np.array_equal(only(tmp_path / "p.txt", SUDOKUS[name]).grid, GRID)


@pytest.mark.parametrize("name", PAIRS)
def test_sudokus_with_answers_of_other_programs(name: str, tmp_path: Path) -> None:
    found = only(tmp_path / name, PAIRS[name])
    assert np.array_equal(found.grid, GRID)
    assert found.answers is not None
    assert np.array_equal(found.answers[0], SOLVED)


@pytest.mark.parametrize("blank", [None, float("nan"), False, "", -1])
def test_cells_in_lists_that_stand_for_nothing(blank: object, tmp_path: Path) -> None:
    assert np.array_equal(only(tmp_path / "nine.json", json.dumps(nested(blank))).grid, GRID)
    cells = [cell or blank for cell in GRID.reshape(-1).tolist()]
    assert np.array_equal(only(tmp_path / "one.json", json.dumps(cells)).grid, GRID)


@pytest.mark.parametrize(
    "text",
    [
        f"<html><pre>\n{WALLS}\n</pre>",
        WALLS.replace(" ", "&nbsp;"),
        "\n".join(f'"{row}"' for row in WALLS.split("\n")),
        "\n".join(f"> {row}" for row in WALLS.split("\n")),
        str(WALLS.split("\n")),
        WALLS.translate(FULL),
    ],
)
def test_mazes_of_other_programs(text: str, tmp_path: Path) -> None:
    assert np.array_equal(only(tmp_path / "m.txt", text).grid, MAZE.grid)


@pytest.mark.parametrize(
    ("train", "test", "single"),
    [
        ("training", "testing", False),
        ("Train", "Test", False),
        ("examples", "test", True),
        ("train", "test", True),
    ],
)
def test_tasks_whose_lists_have_other_names(train: str, test: str, single: bool, tmp_path: Path) -> None:
    task = {train: TASK["train"], test: TASK["test"][0] if single else TASK["test"]}
    for name, text in (("a.json", json.dumps(task)), ("a.jsonl", json.dumps(task)), ("a.txt", str(task))):
        found = only(tmp_path / name, text)
        assert np.array_equal(found.grid, ARC.grid)
        assert len(found.demos) == len(ARC.demos)


@pytest.mark.parametrize("encoding", ["utf-32", "cp1252"])
def test_code_pages_whose_meaning_is_certain(encoding: str, tmp_path: Path) -> None:
    text = "Très difficile\n" + "\n".join(ROWS).replace(".", "·")
    assert np.array_equal(only(tmp_path / "p.txt", text.encode(encoding)).grid, GRID)


REFUSED: Sequence[tuple[str, bytes, str]] = [
    ("stray.txt", LINE[:40].encode() + b"\xff" + LINE[41:].encode(), "neither UTF-8 nor UTF-16"),
    ("frame.txt", b"\n".join(b"\xb3" + row.encode() + b"\xb3" for row in ROWS), "neither UTF-8 nor UTF-16"),
    ("elided.txt", b"[[5 3 0 ... 0 0 0]\n [6 0 0 ... 0 0 0]\n ...\n [0 0 0 ... 0 7 9]]", "'...' for cells"),
    ("rounded.csv", f"puzzle,solution\n5.3007E+80,{ANSWER}\n".encode(), "was rounded"),
    ("a.zip", zipped(f"{LINE}\n"), "an archive of p.txt"),
    (
        "order.csv",
        (",".join(f"{c}{n}" for c in "bacdefghi" for n in range(1, 10)) + f"\n{flat('0')}\n").encode(),
        "expected",
    ),
    ("two.jsonl", json.dumps({"prompt": "\n".join(["One:", *ROWS, "Two:", *ROWS])}).encode(), "2 grids"),
    ("rules.json", json.dumps({"variant": "killer", "data": [{"puzzle": LINE}]}).encode(), "'killer'"),
    ("inner.json", json.dumps({"rules": "killer", "data": {"puzzle": LINE}}).encode(), "'killer'"),
    ("more.json", json.dumps(GRID.reshape(-1).tolist() * 2).encode(), "162 cells"),
    ("chat.jsonl", b'{"messages": [{"role": "user"}]}', "among 'messages'"),
]


@pytest.mark.parametrize(("name", "data", "words"), REFUSED)
def test_what_cannot_be_certain_is_one_line(name: str, data: bytes, words: str, tmp_path: Path) -> None:
    assert words in error(tmp_path, data, name)
