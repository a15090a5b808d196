"""`hybrid solve` over files that are read a part at a time: as over those that are read whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import doubles
import pytest
from scripted_command import Parts, run

from trm.data import files, line_files

BROKEN = "55" + doubles.SUDOKU[2:]
QUESTIONS = [doubles.SUDOKU[:2] + doubles.SOLUTION[2:n] + doubles.SUDOKU[n:] for n in range(2, 10)]
ROWS = [*QUESTIONS[:3], BROKEN, QUESTIONS[3], BROKEN, doubles.SUDOKU[:50], *QUESTIONS[4:]]

pytestmark = pytest.mark.usefixtures("parts")


@pytest.fixture(params=[0, 1 << 20])
def long(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """From how many bytes on a file is read in parts: these are, or are not."""
    monkeypatch.setattr(line_files, "LONG", request.param)
    monkeypatch.setattr(line_files, "PART", 200)
    return int(request.param)


def timeless(file: str) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in Path(file).read_text().splitlines()]
    for record in records:
        del record["seconds"], record["drafts"]
    return records


def test_answers_errors_and_what_is_resumed_are_the_same(parts: Parts, long: int) -> None:
    Path("a.csv").write_text("question,id\n" + "".join(f"{row},{n % 5}\n" for n, row in enumerate(ROWS)))
    Path("b.txt").write_text("\n".join([*QUESTIONS[:3], BROKEN, ""]))
    args = ["solve", "a.csv", "-", "b.txt", "b.txt", "--json", "-o"]
    whole = run(*args, "whole", stdin="\n".join(QUESTIONS[:3]))
    assert whole.exit_code == 2
    assert [line.split(": ")[1] for line in whole.stderr.splitlines()] == [
        "a.csv, line 5",
        "a.csv, line 8",
        "b.txt, line 4",
    ]
    assert "1 more" in whole.stderr
    records = timeless("whole")
    assert len({record["id"] for record in records}) == len(records) == len(QUESTIONS) + 9
    text = Path("whole").read_text()
    Path("part").write_text(text[: len(text) // 2])
    again = run(*args, "part", "--resume", stdin="\n".join(QUESTIONS[:3]))
    assert (again.exit_code, again.stderr) == (2, whole.stderr)
    assert timeless("part") == records


def test_plain_answers_are_resumed_too(long: int) -> None:
    Path("a.txt").write_text("\n".join(QUESTIONS))
    assert run("solve", "a.txt", "-o", "answers").exit_code == 0
    text = Path("answers").read_text()
    Path("answers").write_text(text[: len(text) // 2])
    assert run("solve", "a.txt", "-o", "answers", "--resume").exit_code == 0
    assert Path("answers").read_text() == text


def test_a_file_that_is_changed_meanwhile_is_one_line(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_files, "LONG", 0)
    monkeypatch.setattr(line_files, "PART", 200)
    monkeypatch.setattr(files, "AT_ONCE", 2)
    file = Path("a.txt")
    file.write_text("\n".join(QUESTIONS))

    def changes(asked: doubles.Asked) -> Any:
        file.write_text("\n".join(QUESTIONS[:4]))
        return doubles.solves_sudokus(asked)

    parts.refiner = doubles.refiner(changes)
    result = run("solve", "a.txt", "--json")
    assert result.exit_code == 2
    assert result.stderr.startswith("hybrid: a.txt: was changed")
    assert len(result.stderr.splitlines()) == 1
    assert 0 < len(result.stdout.splitlines()) < len(QUESTIONS)
