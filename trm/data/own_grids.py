"""What a file of questions and answers says of its task: the size of its grids, and their symbols."""

from __future__ import annotations

import json
from math import isqrt
from pathlib import Path

from trm.data.files import items
from trm.grid import PuzzleError
from trm.tasks.own_grid import OWN, own_grid_name, read_rows


def describe_own_grid(name: str, *sources: str) -> str:
    """The whole name of the task of these files (`trm.tasks.own_grid`), from all of their questions and answers.

    name: `grid`, or `grid:3x4` where the files hold each grid as a line that is no square. A source may be several
    files joined by `+`. Raises PuzzleError where there is no file, or its grids differ in size.
    """
    files = [Path(part) for source in sources for part in source.split("+") if part]
    if not files:
        raise PuzzleError(f"task {OWN}: expected data.train=FILE, with the columns question and answer")
    size = _size_in(name)
    symbols: tuple[dict[str, None], dict[str, None]] = ({}, {})  # of questions and of answers, in order
    for file in files:
        for item in items(file):
            if isinstance(item, PuzzleError):
                raise item
            for text, known in zip((item.question, item.answer), symbols, strict=True):
                if text is None:
                    raise PuzzleError(f"{item.where}: no answer, expected one to learn from")
                rows = read_rows(text if isinstance(text, str) else json.dumps(text))
                found = _size_of(rows, size, item.where)
                if found != (size := size or found):
                    shapes = f"{found[0]}x{found[1]}, expected {size[0]}x{size[1]} as before"
                    raise PuzzleError(f"{item.where}: a grid of {shapes}: all grids have one size")
                known.update(dict.fromkeys(cell for row in rows for cell in row))
    if size is None:
        raise PuzzleError(f"{files[0]}: no grid found, expected questions and answers")
    return own_grid_name(*size, sorted(symbols[0]), sorted(symbols[1]))


def _size_in(name: str) -> tuple[int, int] | None:
    """The size that a name such as `grid:3x4` says; None for the bare name."""
    if name == OWN:
        return None
    height, x, width = name.removeprefix(f"{OWN}:").partition("x")
    if not (x and height.isdecimal() and width.isdecimal()):
        raise PuzzleError(f"task {name!r}: expected {OWN} or {OWN}:ROWSxCOLUMNS")
    return int(height), int(width)


def _size_of(rows: list[list[str]], size: tuple[int, int] | None, where: str) -> tuple[int, int]:
    """Rows and columns of a grid; a single line is a grid of `size`, or else a square."""
    if widths := [len(row) for row in rows if len(row) != len(rows[0])]:
        raise PuzzleError(
            f"{where}: rows of {len(rows[0])} and {widths[0]} cells, expected rows of one length"
        )
    if not rows:
        raise PuzzleError(f"{where}: an empty grid")
    cells = len(rows) * len(rows[0])
    if len(rows) > 1 or (size is not None and size[0] == 1):
        return len(rows), len(rows[0])
    if size is not None and cells == size[0] * size[1]:
        return size
    if isqrt(cells) ** 2 != cells:
        shape = f"expected lines, or {OWN}:ROWSxCOLUMNS as the task"
        raise PuzzleError(f"{where}: {cells} cells in one line are no square: {shape}")
    return isqrt(cells), isqrt(cells)
