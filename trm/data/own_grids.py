"""What a file of questions and answers says of its task: the size of its grids, and their symbols."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from math import isqrt
from pathlib import Path

from trm.data.files import items
from trm.grid import PuzzleError
from trm.tasks.own_grid import OWN, own_grid_name, read_rows


def describe_own_grid(name: str, *sources: str) -> str:
    """The whole name of the task of these files (`trm.tasks.own_grid`), from all of their questions and answers.

    name: `grid`, or `grid:3x4` where the files hold each grid as a line that is no square. A source may be several
    files joined by `+`. A space is a cell where the grids have one size only then. Raises PuzzleError where there is
    no file, or its grids differ in size.
    """
    files = [Path(part) for source in sources for part in source.split("+") if part]
    if not files:
        raise PuzzleError(f"task {OWN}: expected data.train=FILE, with the columns question and answer")
    pairs = [pair for file in files for pair in _pairs(file)]
    if not pairs:
        raise PuzzleError(f"{files[0]}: no grid found, expected questions and answers")
    try:
        return _described(name, pairs, spaces=False)
    except PuzzleError as error:
        if not any(" " in question or " " in answer for _, question, answer in pairs):
            raise
        with suppress(PuzzleError):
            return _described(name, pairs, spaces=True)
        raise error


def _pairs(file: Path) -> Iterator[tuple[str, str, str]]:
    """The place, the question and the answer of each record, both as text. Raises PuzzleError."""
    for item in items(file):
        if isinstance(item, PuzzleError):
            raise item
        if item.answer is None:
            raise PuzzleError(f"{item.where}: no answer, expected one to learn from")
        question = item.question if isinstance(item.question, str) else json.dumps(item.question)
        yield item.where, question, item.answer


def _described(name: str, pairs: Sequence[tuple[str, str, str]], spaces: bool) -> str:
    size = _size_in(name)
    questions: dict[str, None] = {}  # symbols, in order
    answers: dict[str, None] = {}
    for where, question, answer in pairs:
        for text, known in ((question, questions), (answer, answers)):
            rows = read_rows(text, spaces)
            found = _size_of(rows, size, where)
            if found != (size := size or found):
                shapes = f"{found[0]}x{found[1]}, expected {size[0]}x{size[1]} as before"
                raise PuzzleError(f"{where}: a grid of {shapes}: all grids have one size")
            known.update(dict.fromkeys(cell for row in rows for cell in row))
    assert size is not None
    return own_grid_name(*size, sorted(questions), sorted(answers))


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
