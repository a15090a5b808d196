"""Puzzles whose text or record names rules beyond the plain game are refused, wherever the words stand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trm.data.files import load
from trm.data.variants import named_rule
from trm.grid import PuzzleError
from trm.inference.inputs import as_puzzle
from trm.tasks import Puzzle, get

SAMPLE, MAZE_SAMPLE = get("sudoku").samples()[0], get("maze").samples()[0]
LINE, ROWS = get("sudoku").question_text(SAMPLE), get("sudoku").prompt_text(SAMPLE)
MAZE = get("maze").question_text(MAZE_SAMPLE)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (f"Solve this killer sudoku: {LINE}", "killer"),
        (f"{LINE}  # windoku", "windoku"),
        (f"{LINE} killer", "killer"),
        (f"# thermo\n{ROWS}", "thermo"),
        (f"# Anti-king, thermo\n{ROWS}", "Anti-king"),
        (f"{ROWS}\nkiller cages: A1+A2=3", "killer"),
        (f"{LINE}\nno consecutive digits touch", "consecutive"),
        (f"Sudoku with anti-king rule\n{ROWS}", "anti-king"),
        (f"No diagonal may hold a digit twice\n{LINE}", "diagonal"),
        (f"Moves may be diagonal\n{MAZE}", "diagonal"),
        (f"{MAZE}\n\nThe maze wraps around", "wraps around"),
        (f"Keys open doors\n```\n{MAZE}\n```", "Keys"),
    ],
)
def test_words_around_a_puzzle(text: str, word: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(text)
    for task in (None, "maze" if MAZE in text else "sudoku"):
        (found,) = load(path, task)
        assert isinstance(found, PuzzleError)
        assert repr(word) in str(found)
        assert "other rules are not known" in str(found)
    with pytest.raises(PuzzleError):
        as_puzzle(text)


@pytest.mark.parametrize(
    "text",
    [
        f"Normal sudoku rules apply.\n{ROWS}",
        f"Each row, column and 3x3 region holds 1 to 9. Dots are blanks in nine lines.\n{ROWS}",
        f"Solve: {LINE}",
        f"https://example.org/killer/1\n{LINE}",
        f"Diagonal moves are not allowed.\n{MAZE}",
        f"No diagonal moves; you cannot move diagonally.\n{MAZE}",
        f"Key: # is a wall\n{MAZE}",
    ],
)
def test_words_of_the_plain_game(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(text)
    (found,) = load(path)
    assert isinstance(found, Puzzle)


@pytest.mark.parametrize(
    ("fields", "refused"),
    [
        ({"description": "Digits may not repeat on the marked diagonals."}, True),
        ({"notes": ["two thermometers"]}, True),
        ({"meta": {"comment": "kropki"}}, True),
        ({"id": "killer 7", "author": "Killer", "difficulty": "Killer", "source": "killer.txt"}, False),
        ({"description": "A sudoku of 24 givens"}, False),
    ],
)
def test_fields_of_a_record(fields: dict[str, object], refused: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"question": LINE, **fields}))
    (found,) = load(path)
    assert isinstance(found, PuzzleError) is refused
    assert str(found).count("expected the plain game") == refused


def test_only_the_line_that_says_so_is_refused() -> None:
    found = load(f"{LINE} killer\n{LINE}")
    assert [isinstance(item, Puzzle) for item in found] == [False, True]


NAMES = (
    "diagonals|thermometers|arrows|kropki dots|jigsaw|irregular|hyper sudoku|anti_queen|knight's move|sandwich sums|"
    "nonconsecutive|whispers|renban|greater-than|Sudoku X|XV sudoku|even/odd|odd cells|extra regions|toroidal|"
    "wrap-around|portals|8 directions"
)


@pytest.mark.parametrize("words", NAMES.split("|"))
def test_names_of_rules(words: str) -> None:
    assert named_rule(f"with {words}")
