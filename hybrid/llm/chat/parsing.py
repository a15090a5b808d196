"""Grids out of what language models write: prose, fences, separators, lists, numbered rows, wrong lengths.

Nothing is corrected here: a cell is what the reply says, or it is not read. Reading takes time linear in the reply:
long lines and deep nesting are never rows, and expressions have nothing to try twice.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hybrid.llm.chat.grid_text import FENCE, has_blanks
from trm.grid import Grid, character
from trm.tasks import Task

Row = list[int]

LONGEST_REPLY, MOST_LINES = (
    1 << 16,
    2000,
)  # that are read, from the end, where answers stand; thoughts not counted
DEEPEST = 8  # lists and objects within one another
MOST_NAMED = 3  # faults that an error names
_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.S)
_NUMBERED = re.compile(
    r"^\s*+[-*]?\s*+(?:(?:row|line|r)\s*+\d{1,2}\s*+[:.)=-]|\d{1,2}\s*+[:)]|\d{1,2}\.(?=\s))[ ]?", re.I
)
_SEPARATORS = str.maketrans("", "", " \t|,;-+[](){}\"'`*")
_QUOTED = re.compile(r"""(["'])(.)\1""")
_BETWEEN_LISTS = re.compile(r"\]\s*+,\s*+\[")
# What models write for a symbol, where the task has that symbol and not what they write.
_ALIASES = ((" ", ".·_"), ("o", "O0"))
_BLANKS = "._?xX"


@dataclass(frozen=True, eq=False)
class Reading:
    """A grid, and what was odd about the text that it was read from; or no grid, and why."""

    grid: Grid | None
    error: str | None = None


@dataclass(frozen=True)
class _Block:
    """Lines of a reply that look like rows of one grid. marked: in a code block or a JSON list."""

    rows: list[Row]
    marked: bool = False


class _Expected:
    """What a row of the answer may hold. shape: of the whole answer; None if it is free."""

    def __init__(self, task: Task, question: Grid) -> None:
        self.shape: tuple[int, int] | None = (question.shape[0], question.shape[1]) if task.fills else None
        self.symbols = {character(symbol): symbol for symbol in task.symbols}
        self.spaces = " " in self.symbols  # then a space is a cell, else it separates cells
        self.blanks = has_blanks(task)
        for symbol, aliases in (*_ALIASES, *((("0", _BLANKS),) if self.blanks else ())):
            if symbol in self.symbols:
                self.symbols = dict.fromkeys(aliases, self.symbols[symbol]) | self.symbols
        cells = question.size if self.shape else task.height * task.width
        self.longest = 8 * cells + 64  # characters of a line: a whole grid as a JSON list of strings

    def row(self, line: str) -> Row | None:
        """The cells of a line; None if it is no row. Of several ways to read it, one with the right width."""
        if not line or len(line) > self.longest or _is_ruler(line):
            return None
        bare = _NUMBERED.sub("", line, count=1)
        ways = _spaced_ways(line, bare) if self.spaces else _digit_ways(line, bare, self.blanks)
        rows = [[self.symbols[c] for c in way] for way in ways if way and self.symbols.keys() >= set(way)]
        if self.shape and rows:
            whole = (self.shape[1], self.shape[0] * self.shape[1])
            return next((row for row in rows if len(row) in whole), rows[0])
        return rows[0] if rows else None

    def skips(self, line: str) -> bool:
        """Whether the line stands inside a grid without being a row: a ruler, or an empty line between bands."""
        return _is_ruler(line) or (not line.strip() and self.shape is not None and not self.spaces)


def read_grid(text: str, task: Task, question: Grid) -> Reading:
    """The answer in a reply about `question`.

    An answer whose shape is not free (`task.fills`) has the question's. Rows that cannot be read are then left blank,
    or as in the question where the task has no blank; fewer than half of the rows are no answer.
    """
    expected = _Expected(task, question)
    blocks = list(_blocks(_THOUGHT.sub("", text)[-LONGEST_REPLY:], expected))
    if not blocks:
        return Reading(None, "no grid in the reply")
    if expected.shape is None:
        return _free_grid(blocks, (task.height, task.width))
    return _fixed_grid(blocks, question, expected)


# -- lines ---------------------------------------------------------------------------------------------
def _blocks(text: str, expected: _Expected) -> Iterator[_Block]:
    shape = expected.shape
    for lines in _json_lists(text):
        listed = [row for line in lines if (row := expected.row(line)) is not None]
        if len(listed) == len(lines):
            yield from _cut(_Block(listed, marked=True), shape)
    rows: list[Row] = []
    fenced = False
    # Lists of lists on one line, cut short or not, become lines.
    for line in [*_BETWEEN_LISTS.sub("\n", text).splitlines()[-MOST_LINES:], FENCE]:
        fence = line.lstrip().startswith(FENCE)
        row = None if fence else expected.row(line)
        if not line and fenced and rows and shape and len(rows) < shape[0] and expected.spaces:
            row = []  # a row of free cells that lost its spaces
        if row is None and not fence and expected.skips(line):
            continue
        whole = bool(row and shape and shape[0] > 1 and len(row) == shape[0] * shape[1])
        if row is not None and not whole:
            rows.append(row)
            continue
        yield from _cut(_Block(rows, fenced), shape)
        rows = []
        fenced ^= fence
        if row and shape and whole:
            yield _Block([row[start : start + shape[1]] for start in range(0, len(row), shape[1])], fenced)


def _is_ruler(line: str) -> bool:
    return not set(line) - set(" \t|+=:-") and not set("-=+").isdisjoint(line)


def _cut(block: _Block, shape: tuple[int, int] | None) -> Iterator[_Block]:
    """A run of rows as the grids it holds: a repeated question may stand right before its answer."""
    height = shape[0] if shape and len(block.rows) % shape[0] == 0 else len(block.rows)
    for start in range(0, len(block.rows), height or 1):
        yield _Block(block.rows[start : start + height], block.marked)


def _digit_ways(line: str, bare: str, blanks: bool) -> list[str]:
    ways = [line.translate(_SEPARATORS), bare.translate(_SEPARATORS)]
    numbering = line[: len(line) - len(bare)].rstrip()
    if numbering.endswith((":", ")")):  # `3: 5 4 …` says itself that the first number is none of the cells
        ways.reverse()
    if blanks:
        ways.append(bare.replace("-", ".").replace("*", ".").translate(_SEPARATORS))
    return ways


def _spaced_ways(line: str, bare: str) -> list[str]:
    """Where a space is a cell, only whole wrappings can be taken off."""
    ways = []
    for form in dict.fromkeys((line, bare)):
        quoted = "".join(cell for _, cell in _QUOTED.findall(form))
        spread = form.strip("[]|, ") if set(form[1::2]) <= set(" ,") else ""
        table = "".join(cell.strip() or " " for cell in form.strip().strip("|").split("|"))
        ways += [form, _unwrapped(form), quoted, spread[::2], table if "|" in form else ""]
    return ways


def _unwrapped(line: str) -> str:
    """The line without a quote or bar, and a bracket, at either end: `["# S", ` is `# S`."""
    left, right = line.lstrip().removeprefix("[").lstrip(), line.rstrip().removesuffix(",").rstrip()
    right = right.removesuffix("]").rstrip()
    start = len(line) - len(left) + 1 if left[:1] in tuple("\"'`|") else 0
    end = len(right) - 1 if right[-1:] in tuple("\"'`|") else len(line)
    return line[start:end]


def _json_lists(text: str) -> Iterator[list[str]]:
    """The outermost JSON lists of rows in the text, each row as a line."""
    opened: list[tuple[int, int]] = []  # of each bracket not closed yet: where, and how deep what it holds is
    closed: list[tuple[int, int, int]] = []  # of each pair of brackets: start, end, depth
    for bracket in re.finditer(r"[\[\]{}]", text):
        if bracket[0] in "[{":
            opened.append((bracket.start(), 1))
        elif opened:
            start, depth = opened.pop()
            closed.append((start, bracket.end(), depth))
            if opened:
                opened[-1] = (opened[-1][0], max(opened[-1][1], depth + 1))
    after = 0
    for start, end, depth in sorted(closed):  # outer pairs before inner ones
        if start < after or depth > DEEPEST or text[start] == "{":
            continue
        try:
            value = json.loads(text[start:end])
        except ValueError:
            continue
        after = end
        yield from _row_lists(value)


def _row_lists(value: object) -> Iterator[list[str]]:
    """The lists of rows in a JSON value: itself, or where its rows are lists of lists each of them."""
    if (
        not isinstance(value, list)
        or not value
        or not all(isinstance(row, list | str) and row for row in value)
    ):
        return
    if any(isinstance(cell, list) for row in value for cell in row):
        for part in value:
            yield from _row_lists(part)
    else:
        yield ["".join(map(str, row)) for row in value]


# -- grids ---------------------------------------------------------------------------------------------
def _free_grid(blocks: Sequence[_Block], most: tuple[int, int]) -> Reading:
    """The last block of equal rows; a marked one, or one of several cells, before a lone number in prose."""
    even = [block for block in blocks if len({len(row) for row in block.rows}) == 1]
    if not even:
        rows = max(blocks, key=lambda block: len(block.rows)).rows
        usual = Counter(map(len, rows)).most_common(1)[0][0]
        return Reading(None, _named(_odd_rows(rows, usual)))
    ranked = sorted(even, key=lambda block: (block.marked, len(block.rows) * len(block.rows[0]) > 1))
    rows = ranked[-1].rows
    if len(rows) > most[0] or len(rows[0]) > most[1]:
        return Reading(None, f"grid of {len(rows)}x{len(rows[0])}, expected at most {most[0]}x{most[1]}")
    return Reading(np.array(rows, dtype=np.uint8))


def _fixed_grid(blocks: Sequence[_Block], question: Grid, expected: _Expected) -> Reading:
    """The block with the most readable rows; the last of several, but a repeated question last of all."""
    h, w = question.shape
    repeated = question.tolist()
    rank: tuple[int, bool, bool] = (-1, False, False)
    rows: list[Row] = []
    for block in blocks:
        padded = (
            [_padded(row, i, question) for i, row in enumerate(block.rows)] if expected.spaces else block.rows
        )
        readable = min(h, sum(len(row) == w for row in padded))
        if (this := (readable, len(padded) == h, padded != repeated)) >= rank:
            rank, rows = this, padded
    faults = _odd_rows(rows[:h], w)
    if len(rows) != h:
        faults.append(f"reply held {len(rows)} rows, expected {h}")
    if 2 * rank[0] < h:
        return Reading(None, _named(faults))
    rows = rows[:h]
    grid = np.zeros_like(question) if expected.blanks else question.copy()
    first = _offset(rows, question)
    for index, row in enumerate(rows, first):
        if len(row) == w:
            grid[index] = row
    if not faults and np.array_equal(grid, question):
        faults.append("the reply repeats the question")
    return Reading(grid, _named(faults) if faults else None)


def _padded(row: Row, index: int, question: Grid) -> Row:
    """A row whose free cells at the right end were lost, or to which some were added."""
    h, w = question.shape
    space = ord(" ")
    if index < h and len(row) < w and (question[index, len(row) :] == space).all():
        return row + [space] * (w - len(row))
    return row[:w] if index < h and all(cell == space for cell in row[w:]) else row


def _offset(rows: Sequence[Row], question: Grid) -> int:
    """Where in the question too few rows begin: where most of their cells agree with it."""
    h, w = question.shape

    def agreement(first: int) -> int:
        pairs = ((row, question[index]) for index, row in enumerate(rows, first) if len(row) == w)
        return sum(int(((np.array(row) == given) & (given != 0)).sum()) for row, given in pairs)

    return max(range(h - len(rows) + 1), key=lambda first: (agreement(first), -first))


def _odd_rows(rows: Sequence[Row], expected: int) -> list[str]:
    return [
        f"row {number} held {len(row)} cells, expected {expected}"
        for number, row in enumerate(rows, 1)
        if len(row) != expected
    ]


def _named(faults: Sequence[str]) -> str:
    more = f"; and {len(faults) - MOST_NAMED} more" if len(faults) > MOST_NAMED else ""
    return "; ".join(faults[:MOST_NAMED]) + more
