"""`hybrid check` of answers in other notations, and what `--start` and `--goal` name."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from hybrid import inputs
from hybrid.cli import app
from trm.grid import PuzzleError
from trm.tasks import get

MAZE = "#######\n#S    #\n# ### #\n# # # #\n# ### #\n#    G#\n#######"
SOLVED = "#######\n#Soooo#\n# ###o#\n# # #o#\n# ###o#\n#    G#\n#######"


def check(folder: Path, question: str, answer: str, *options: str) -> Result:
    files = (folder / "question.txt", folder / "answer.txt")
    for path, text in zip(files, (question, answer), strict=True):
        path.write_text(text)
    return CliRunner().invoke(app, ["check", *map(str, files), *options])


def drawn(text: str, wall: str, free: str, start: str, goal: str, path: str) -> str:
    symbols = dict(zip("# SGo", (wall, free, start, goal, path), strict=True))
    return text.translate({ord(old): new for old, new in symbols.items()})


@pytest.mark.parametrize(
    "symbols",
    ["# SGX", "# SE.", "#.SGo", "#.SGX", "█ SG•", "# sg+", "# SG*", "10238", "⬛⬜🟩🟥o", "# XXX", "# SG→"],
)
def test_solved_paths_of_other_notations_are_judged(symbols: str, tmp_path: Path) -> None:
    for text, status in ((SOLVED, "verified"), (SOLVED.replace("o#\n# #", " #\n# #"), "unsolved")):
        question = drawn(MAZE, *(symbols if symbols != "# XXX" else "# SGo"))
        done = check(tmp_path, question, drawn(text, *symbols))
        assert done.output.splitlines()[:1] == [status], done.output
        assert done.exit_code == int(status != "verified")


def test_a_sudoku_answer_may_have_a_frame(tmp_path: Path) -> None:
    task = get("sudoku")
    puzzle = task.samples()[0]
    answer = task.render(puzzle, puzzle.answers)
    assert check(tmp_path, task.question_text(puzzle), answer).exit_code == 0


def test_start_and_goal_are_named_from_one(tmp_path: Path) -> None:
    blank = MAZE.replace("S", " ").replace("G", " ")
    assert check(tmp_path, blank, SOLVED, "--start", "2,2", "--goal", "6,6").exit_code == 0
    for options, words in (
        ([], "taken for a maze: 0 S"),
        (["--start", "2,2"], "--goal is missing"),
        (["--start", "2;2", "--goal", "x"], "--goal x: expected ROW,COLUMN"),
        (["--start", "1,1", "--goal", "6,6"], "not two free cells"),
    ):
        done = check(tmp_path, blank, SOLVED, *options)
        assert done.exit_code == 2
        assert words in done.output
        assert done.output.count("\n") == 1


def test_repeated_errors_are_one_message() -> None:
    errors = [PuzzleError(f"f.txt, line {n}: taken for a Sudoku: 8 rows: '{n}'") for n in range(1, 10)]
    first, second = inputs.messages([*errors, PuzzleError("f.txt, line 20: something else")])
    assert first.startswith("f.txt, line 1: ")
    assert "8 more" in first
    assert "f.txt, line 9" in first
    assert second == "f.txt, line 20: something else"
