"""A size before or above a grid, such as `4x4:`, is passed over where a grid of that size follows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from trm.data.files import load
from trm.grid import PuzzleError
from trm.tasks import get

FOUR = "1..4\n..1.\n.1..\n4..1"
SIX = "1.....\n.2....\n..3...\n...4..\n....5.\n.....6"
FLAT_FOUR, FLAT_SIX = FOUR.replace("\n", ""), SIX.replace("\n", "")
MAZE = "S   \n### \n    \n###G"


def questions(text: str, path: Path | None = None, task: str | None = None) -> list[str]:
    """The puzzles of a text, or of a file with it; `error` in the place of each that is none."""
    if path is not None:
        path.write_text(text)
    loaded = load(path or text, task)
    return ["error" if isinstance(p, PuzzleError) else get(p.task).question_text(p) for p in loaded]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"4x4: {FLAT_FOUR}", [FLAT_FOUR]),
        (f"4x4:{FLAT_FOUR}", [FLAT_FOUR]),
        (f"4 × 4: {FOUR}", [FLAT_FOUR]),
        ("4x4: " + FOUR.replace("\n", "/"), [FLAT_FOUR]),
        (f"4x4\n{FOUR}", [FLAT_FOUR]),
        (f"4x4:\n\n{FOUR}", [FLAT_FOUR]),
        (f"4x4\n{FLAT_FOUR}\n{FLAT_FOUR}", [FLAT_FOUR] * 2),
        (f"Sudoku 6x6:\n{SIX}", [FLAT_SIX]),
        (f"An easy sudoku 6x6: {FLAT_SIX}", [FLAT_SIX]),
        ("6x6:\n" + "\n\n".join(SIX[at : at + 13] for at in (0, 14, 28)), [FLAT_SIX]),
        (f"4x4: {FOUR}\n6x6: {SIX}\n4x4:\n{FOUR}", [FLAT_FOUR, FLAT_SIX, FLAT_FOUR]),
        (f"4x4: {FLAT_FOUR}\n" * 3, [FLAT_FOUR] * 3),
        (f"4x4:\n{MAZE}", [MAZE]),
        (f"4x4\n{MAZE}", [MAZE]),
    ],
)
def test_a_size_before_a_grid_is_passed_over(tmp_path: Path, text: str, expected: list[str]) -> None:
    assert questions(text) == expected
    assert questions(text, tmp_path / "f.txt") == expected
    if MAZE not in expected:
        assert questions(text, tmp_path / "f.txt", "sudoku") == expected


@pytest.mark.parametrize(
    "text", [f"4x4: {FLAT_SIX}", f"4x4\n{SIX}", f"6x6: {FOUR}", "4x4:\n44..\n....\n....\n...."]
)
def test_another_size_than_the_grid_has_is_an_error(tmp_path: Path, text: str) -> None:
    assert set(questions(text, tmp_path / "f.txt")) == {"error"}


def test_other_rules_beside_a_size_are_refused(tmp_path: Path) -> None:
    for text in (f"Killer 4x4:\n{FOUR}", f"Killer 4x4: {FLAT_FOUR}"):
        assert questions(text, tmp_path / "f.txt") == ["error"]


def test_what_looks_like_a_size_stays_a_row() -> None:
    assert questions("1xx3\nx2xx\nxx3x\n3xx1", task="sudoku") == ["1..3.2....3.3..1"]
    assert questions("4x4\nx4x\n4x4", task="grid:3x3:4x:4x") == ["4x4\nx4x\n4x4"]
