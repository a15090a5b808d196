"""Grids as prompts write them, and the same as a format that a reply can be constrained to.

The format keeps givens and allows the task's symbols alone; whether the answer is right is another matter.
"""

from __future__ import annotations

import re

import numpy as np

from hybrid.llm.base import ReplyFormat
from trm import tasks
from trm.grid import Grid, character
from trm.tasks import Puzzle, Task

FENCE = "```"


def has_blanks(task: Task) -> bool:
    """Whether symbol 0 is a blank cell of the question. Where no rules are known, it is a symbol as any other."""
    return task.has_checker and 0 in task.symbols


def spread(text: str, task: Task) -> str:
    """Cells separated by spaces and blanks as `_`, in tasks that have blanks: each cell is then a token of its own.

    Written close together, or with dots for blanks, Qwen2.5-Coder-0.5B copies the question (LOG.md).
    """
    if not has_blanks(task):
        return text
    return "\n".join(" ".join(line) for line in text.replace(".", "_").split("\n"))


def write_grid(grid: Grid, task: Task) -> str:
    """A grid as prompts show answers: rows on lines in a code block."""
    blank = "." if has_blanks(task) else "0"
    rows = ("".join(character(cell) if cell else blank for cell in row) for row in grid.tolist())
    return "\n".join([FENCE, spread("\n".join(rows), task), FENCE])


def write_cells(grid: Grid) -> str:
    """A grid of digits, a line a row, for records."""
    return "\n".join("".join(map(str, row)) for row in grid.tolist())


def read_cells(text: str) -> Grid:
    """The grid that `write_cells` wrote. Raises ValueError for any other text."""
    grid = np.array([[int(cell) for cell in line] for line in text.split("\n")], np.uint8)
    if grid.ndim != 2 or not grid.size:
        raise ValueError(f"{text[:20]!r}, expected lines of digits of one length")
    return grid


def reply_format(puzzle: Puzzle, index: int = 0) -> ReplyFormat:
    """The format of replies about the puzzle's input number `index`: what `write_grid` writes, or JSON rows."""
    task = tasks.get(puzzle.task)
    choices = task.choices(puzzle, index)
    if choices is None:
        return _any_rectangle(_cell(task.symbols), max(task.height, task.width))
    rows = [[_cell(cell) for cell in row] for row in choices]
    separator = " " if has_blanks(task) else ""
    lines = "".join(separator.join(row) + "\n" for row in rows)
    strings = [{"type": "string", "pattern": f"^{''.join(row)}$"} for row in rows]
    schema = _rows_schema({"prefixItems": strings, "items": False}, len(rows), len(rows))
    return ReplyFormat(f"{FENCE}\n{lines}{FENCE}", schema)


def _any_rectangle(cell: str, side: int) -> ReplyFormat:
    """A rectangle of any shape up to side x side. The schema cannot say that the rows are of one length."""
    rectangles = "|".join(f"({cell}{{{width}}}\n){{1,{side}}}" for width in range(1, side + 1))
    row = {"type": "string", "pattern": f"^{cell}{{1,{side}}}$"}
    return ReplyFormat(f"{FENCE}\n({rectangles}){FENCE}", _rows_schema({"items": row}, 1, side))


def _cell(symbols: tuple[int, ...]) -> str:
    """A regular expression for one cell."""
    return f"[{re.escape(''.join(map(character, symbols)))}]"


def _rows_schema(items: dict[str, object], least: int, most: int) -> dict[str, object]:
    return {
        "type": "object",
        "properties": {"rows": {"type": "array", **items, "minItems": least, "maxItems": most}},
        "required": ["rows"],
        "additionalProperties": False,
    }
