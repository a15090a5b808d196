"""ARC as text: the public JSON of a task, and answers as rows of colours or as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from trm.grid import Grid, GridParseError, shape_words
from trm.tasks.puzzle import Puzzle, place

MOST = 30  # rows and columns


def read_grid(rows: object) -> Grid:
    """A list of lists of colours to a grid. Raises GridParseError."""
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) and row for row in rows):
        raise GridParseError(f"{json.dumps(rows)[:40]}, expected a list of rows of colours")
    width = len(rows[0])
    for number, row in enumerate(rows, 1):
        for column, colour in enumerate(row, 1):
            if type(colour) is not int or not 0 <= colour <= 9:
                raise GridParseError(f"row {number}, cell {column}: {colour!r}, expected a colour 0 to 9")
        if len(row) != width:
            raise GridParseError(f"row {number}: {len(row)} cells, expected {width} as in row 1")
    if len(rows) > MOST or width > MOST:
        raise GridParseError(f"grid of {len(rows)}x{width}, expected at most {MOST}x{MOST}")
    return np.array(rows, dtype=np.uint8)


def problem(grid: Grid) -> str | None:
    """What keeps an array from being an ARC grid, in words; None if nothing does."""
    if grid.ndim != 2 or not all(1 <= side <= MOST for side in grid.shape):
        return f"a grid of {shape_words(grid)}, expected 1x1 to {MOST}x{MOST}"
    if ((grid < 0) | (grid > 9)).any():
        row, column = np.argwhere((grid < 0) | (grid > 9))[0].tolist()
        return f"{place(row, column)} holds {grid[row, column]}, expected a colour 0 to 9"
    return None


def read_task(data: object) -> Puzzle:
    """The public JSON of a task, parsed, to a puzzle with answers if all are given. Raises GridParseError."""
    if not isinstance(data, dict) or not all(isinstance(data.get(key), list) for key in ("train", "test")):
        raise GridParseError("no ARC task: expected an object with the lists 'train' and 'test'")
    train = [(pair, f"train pair {n}") for n, pair in enumerate(data["train"], 1)]
    test = [(pair, f"test pair {n}") for n, pair in enumerate(data["test"], 1)]
    demos = tuple((_side(pair, "input", where), _side(pair, "output", where)) for pair, where in train)
    inputs = tuple(_side(pair, "input", where) for pair, where in test)
    known = all(pair.get("output") is not None for pair, _ in test)
    answers = tuple(_side(pair, "output", where) for pair, where in test) if known else None
    return Puzzle("arc", inputs, answers=answers, demos=demos)


def _side(pair: object, key: str, where: str) -> Grid:
    if not isinstance(pair, Mapping) or key not in pair:
        raise GridParseError(f"{where}: no {key!r}, expected a grid under that name")
    try:
        return read_grid(pair[key])
    except GridParseError as error:
        raise GridParseError(f"{where}, {key}: {error}") from None


def write_task(puzzle: Puzzle) -> str:
    """The public JSON of a task without its answers."""
    train = [{"input": before.tolist(), "output": after.tolist()} for before, after in puzzle.demos]
    test = [{"input": grid.tolist()} for grid in puzzle.inputs]
    return json.dumps({"train": train, "test": test}, separators=(",", ":"))


def read_answer(text: str, inputs: int) -> tuple[Grid, ...]:
    """As many grids as there are test inputs. Raises GridParseError.

    Rows of digits as `write_answer` writes them, or JSON: a grid, or a list with for each test input a grid or a list
    of one or two candidates, of which the first is taken.
    """
    if text.lstrip().startswith("["):
        try:
            grids = _from_json(json.loads(text))
        except (RecursionError, ValueError) as error:
            raise GridParseError(f"no JSON grid: {error}") from None
    else:
        grids = _blocks(text)
    if len(grids) != inputs:
        raise GridParseError(f"{len(grids)} grids, expected {inputs}")
    return tuple(read_grid(grid) for grid in grids)


def _from_json(data: list[object]) -> list[object]:
    """What stands for each test input in a JSON answer."""
    depth, value = 0, data
    while isinstance(value, list) and value:
        value, depth = value[0], depth + 1  # type: ignore[assignment]
    if depth <= 2:
        return [data]
    if depth == 3:
        return data
    return [choice[0] if isinstance(choice, list) and choice else choice for choice in data]


def _blocks(text: str) -> list[object]:
    """The rows of each grid, grids parted by empty lines; a cell that is no digit stays text."""
    blocks: list[list[object]] = [[]]
    for line in text.strip().splitlines():
        words = line.replace(",", " ").split()
        if not words:
            blocks.append([])
            continue
        cells = list(words[0]) if len(words) == 1 else words
        blocks[-1].append([int(cell) if cell in "0123456789" else cell for cell in cells])
    return [block for block in blocks if block]


def write_answer(grids: tuple[Grid, ...]) -> str:
    """Rows of colours parted by spaces, an empty line between grids."""
    return "\n\n".join("\n".join(" ".join(map(str, row)) for row in grid.tolist()) for grid in grids)
