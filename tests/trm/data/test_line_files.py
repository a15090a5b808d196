"""Long files that are read a part at a time: the same puzzles, names and errors as of a file that is read whole."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import doubles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trm.data import line_files
from trm.data.files import Loaded, load, source
from trm.data.items import Names
from trm.grid import PuzzleError
from trm.tasks import get

settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("repeatable")

SUDOKU, SOLUTION = doubles.SUDOKU, doubles.SOLUTION
BROKEN = "55" + SUDOKU[2:]
FLAT_MAZE = "S.#..##.G".replace(".", " ")
JSON_LINES = [
    json.dumps({"question": SUDOKU, "id": "a"}), "", json.dumps({"question": BROKEN}), "{no json", '{"id": "x"}',
    json.dumps({"question": doubles.MAZE, "id": "a"}), json.dumps({"question": SUDOKU, "rating": 3}),
]  # fmt: skip

IN_PARTS = {
    "plain.csv": f"question,answer,id\n{SUDOKU},{SOLUTION},a\n\n{SUDOKU},,a\n{BROKEN},,\n{SUDOKU},{SUDOKU},b\n",
    "quoted.csv": 'question,answer\n"S  \n##\nG  ",\n"S##\n \nG##",\n'
    + f'"{SUDOKU}","{SOLUTION}"\n{SUDOKU},\n',
    "open.csv": f'id;question\n1;"{SUDOKU}\n2;{SUDOKU}\n3;"{SUDOKU}"\n4;{SUDOKU};surplus\n',
    "ends.csv": f"\ufeffpuzzle\tsolution\r\n{SUDOKU}\t{SOLUTION}\r\n{SUDOKU}\t\r\n{FLAT_MAZE}\t\r\n",
    "list.txt": f"\n{SUDOKU}\n{BROKEN}\n\n\n{SUDOKU.replace('.', '0')}\n{SUDOKU}",
    "records.jsonl": "\n".join(JSON_LINES),
    "records.txt": "\n".join(JSON_LINES) + "\n",
    "semicolons.csv": f'id;a,,,,,,b;puzzle\n1;"{SUDOKU}"\n2;x;{SUDOKU}\n',
    "open_end.csv": f'id;question\n1;{SUDOKU}\n2;{SUDOKU}\n3;"{SUDOKU}',
    "marked_part.csv": f"question\n{SUDOKU}\n{SUDOKU}\n{SUDOKU}\n\ufeff{SUDOKU}\n",
    "marked_up.jsonl": "\n".join([*JSON_LINES, '{"question": "&lt;"}']),
}
PIECES = [
    *(
        SUDOKU,
        BROKEN,
        SOLUTION,
        "_" * 81,
        "question",
        "puzzle;id",
        doubles.MAZE,
        "killer",
        "&amp;",
        "&amp",
        "\0",
    ),
    *(
        "\ufeff",
        "[,1]",
        "sep=;",
        "{}",
        '{"puzzle": 1}',
        "[",
        "PK\x03\x04",
        " ",
        ",",
        ";",
        "|",
        '"',
        '"',
        "\r",
    ),
    *["\n"] * 9,
]
WHOLE = {
    "titled.txt": f"# easy\n{SUDOKU}\n{SUDOKU}\nhard ones\n{SUDOKU}\n",
    "late.txt": f"{SUDOKU}\n{SUDOKU}\n{SUDOKU}\nkiller sudoku\n{SUDOKU}\n",
    "maze.txt": f"{doubles.MAZE}\n\n{doubles.MAZE}\n\n{doubles.MAZE}\n",
    "cells.csv": ",".join("abcdefghi") + "\n" + "".join(f"{','.join(SUDOKU[n : n + 9])}\n" for n in range(0, 81, 9)),
    "columns.csv": f"name,value\n{SUDOKU},1\n{SUDOKU},2\n",
    "cells81.csv": ",".join(f"c{n}" for n in range(81)) + f",n\n{','.join(SUDOKU)},1\n{','.join(SUDOKU)},2\n",
    "escaped.csv": f"puzzle,name\n{SUDOKU},a\n{SUDOKU},b\n{SUDOKU},c &amp; d\n",
    "entity_names.csv": f"puzzle,name\n{SUDOKU},a &amp b\n{SUDOKU},b\n{SUDOKU},c\n{SUDOKU},&nosuch;\n",
    "quoted_names.csv": f'"question,answer\n"x","y"\n{SUDOKU},{SOLUTION}\n{SUDOKU},\n',
    "titled_after_blanks.txt": f" \n{SUDOKU}\n{SUDOKU}\n{SUDOKU}\n# killer sudoku\n{SUDOKU}\n",
    "no.csv.gz": f"question,answer\n{SUDOKU},{SOLUTION}\n{SUDOKU},\n",
    "archive.csv": f"PK\x03\x04,question\n,{SUDOKU}\n,{SUDOKU}\n",
    "told.csv": f"sep=;\npuzzle;solution\n{SUDOKU};\n{SUDOKU};\n",
    "list.json": json.dumps([{"question": SUDOKU}] * 3, indent=1),
    "one.txt": SUDOKU,
    "empty.csv": "\n\n\n\n",
}  # fmt: skip


@pytest.fixture(autouse=True)
def short_files_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_files, "LONG", 0)
    monkeypatch.setattr(line_files, "PART", 300)


def described(loaded: Loaded) -> list[object]:
    return [
        str(one)
        if isinstance(one, PuzzleError)
        else (one.id, one.task, get(one.task).question_text(one), str(one.answers), one.meta, one.notes)
        for one in loaded
    ]


def is_in_parts(path: Path) -> bool:
    return line_files.in_parts(path, "f", "f", path.suffix[1:], None) is not None


@pytest.mark.parametrize(
    "name", [*IN_PARTS, *WHOLE, "invalid.csv", "letters.txt", "zero.csv", "wide.csv", "old.csv.gz"]
)
@pytest.mark.parametrize("task", [None, "sudoku", "maze", "nosuch"])
def test_parts_say_what_the_whole_file_says(tmp_path: Path, name: str, task: str | None) -> None:
    file, text = tmp_path / name, (IN_PARTS | WHOLE).get(name)
    rows = f"question,note\n{SUDOKU},x\n{SUDOKU},é\n{SUDOKU},\n"
    binary = {
        "invalid.csv": rows.encode("latin-1"),
        "zero.csv": rows.encode() + b"\0",
        "letters.txt": b"\xff" * 99,
    }
    file.write_bytes(text.encode() if text is not None else binary.get(name, rows.encode("utf-16")))
    assert is_in_parts(file) == (name in IN_PARTS)
    puzzles = source(file, task)
    expected = described(load(file, task))
    assert expected
    for _ in range(2):
        assert described(list(puzzles())) == expected


@given(
    start=st.sampled_from(
        [
            "question,answer\n",
            "id;a,,,b;puzzle\n",
            '"puzzle,\n',
            '"puzzle"\n',
            f"{SUDOKU}\n" * 2,
            f'{{"puzzle": "{SUDOKU}"}}\n' * 2,
        ]
    ),
    pieces=st.lists(st.sampled_from(PIECES), max_size=14),
    suffix=st.sampled_from(["csv", "txt", "jsonl"]),
    part=st.sampled_from([1, 60, 300]),
)
def test_parts_of_anything_say_what_the_whole_says(
    start: str, pieces: list[str], suffix: str, part: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    line_files.PART = part  # short_files_are_long puts it back
    file = tmp_path_factory.mktemp("parts") / f"f.{suffix}"
    file.write_bytes((start + "".join(pieces)).encode())
    assert described(list(source(file)())) == described(load(file))


def test_a_header_below_very_many_empty_lines(tmp_path: Path) -> None:
    file = tmp_path / "f.csv"
    file.write_text(f"{2000 * ' '}\n" * 200 + f"question\n{SUDOKU}\n")
    assert len(load(file)) == len(list(source(file)())) == 1


def test_of_standard_input_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in (IN_PARTS["list.txt"], IN_PARTS["plain.csv"], WHOLE["maze.txt"], " "):
        found = []
        for read in (lambda: source("-")(), lambda: load("-")):
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
            found.append(described(list(read())))
        assert found[0] == found[1]


def test_two_may_read_by_turns_and_what_changes_meanwhile_is_said(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text(f"{SUDOKU}\n" * 20)
    puzzles = source(file)
    pairs = list(zip(puzzles(), puzzles(), strict=True))
    assert len(pairs) == 20
    assert all(one.id == other.id for one, other in pairs if not isinstance(one, PuzzleError))  # type: ignore[union-attr]
    os.utime(file, (1, 1))
    with pytest.raises(PuzzleError, match="changed"):
        list(puzzles())


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Counted in names, the only things that are kept: numbers take a bit each, others are remembered as they are."""
    names = Names()
    assert all(names.add(f"f.csv:{n}") for n in range(1, 30_000))
    assert not names.add("f.csv:29999")
    assert names.add("g:1")
    assert not names.add("g:1")
    assert names.add("f.csv:030")
    assert names.add("1")
    assert names.add(":1")
    assert not names.add("1")
    assert names.add(f"far:{10**10}")
    assert not names.add(f"far:{10**10}")
    assert names.add("")
