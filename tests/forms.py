"""Files of puzzles for tests of the forms in which people have them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trm.data.files import Loaded, load
from trm.grid import PuzzleError
from trm.tasks import get

SUDOKU, MAZE = get("sudoku"), get("maze")
PUZZLES = SUDOKU.samples()
LINES = [SUDOKU.question_text(puzzle) for puzzle in PUZZLES]
ANSWERS = [SUDOKU.text(puzzle.answers or ()) for puzzle in PUZZLES]
LINE = LINES[0]
ROWS = [LINE[i : i + 9] for i in range(0, 81, 9)]
GRID = PUZZLES[0].grid
NUMBERS = GRID.tolist()
PAIRS = list(zip(LINES, ANSWERS, strict=True))

WALLS = ["#######", "#S  # #", "### # #", "#     #", "# #####", "#    G#", "#######"]
TEXT = "\n".join(WALLS)


def read(folder: Path, content: str | bytes, name: str = "file.txt", task: str | None = None) -> Loaded:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load(path, task)


def error(folder: Path, content: str | bytes, name: str = "file.txt", task: str | None = None) -> str:
    (item,) = read(folder, content, name, task)
    assert isinstance(item, PuzzleError)
    assert "\n" not in str(item)
    return str(item)


def drawn(wall: str, free: str, start: str, goal: str) -> str:
    return TEXT.translate({ord("#"): wall, ord(" "): free, ord("S"): start, ord("G"): goal})


def npy(array: NDArray[np.generic]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()
