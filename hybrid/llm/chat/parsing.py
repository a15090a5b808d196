"""Grids out of what language models write: prose, fences, separators, lists, numbered rows, wrong lengths.

Nothing is corrected here: a cell is what the reply says, or it is not read.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trm.grid import Grid
from trm.tasks import Task

Row = list[int]

_THOUGHT = re.compile(r"<think>.*?(</think>|\Z)", re.S)
_NUMBERED = re.compile(
    r"^\s*[-*]?\s*(?:(?:row|line|r)\s*\d{1,2}\s*[:.)=-]|\d{1,2}\s*[:)]|\d{1,2}\.(?=\s))[ ]?", re.I
)
_RULER = re.compile(r"^[\s|+=:-]*[-=+][\s|+=:-]*$")
_SEPARATORS = str.maketrans("", "", " \t|,;-+[](){}\"'`*")
_QUOTED = re.compile(r"""(["'])(.)\1""")
_BLANKS = "._?xX"  # what models write for a blank digit
_FREE = ".·_"  # and for a free cell
MOST_NAMED = 3  # faults an error names


@dataclass(frozen=True, eq=False)
class Reading:
    """A grid, and what was odd about the text that it was read from; or no grid, and why."""

    grid: Grid | None
    error: str | None = None


@dataclass(frozen=True)
class Block:
    """Lines of a reply that look like rows of one grid. fenced: in a code block or a JSON list."""

    rows: list[Row]
    fenced: bool = False


def read_grid(text: str, task: Task, question: Grid, free: bool = False) -> Reading:
    """The answer in a reply about `question`.

    free: the answer may have any shape (ARC). Otherwise it has the question's; rows that cannot be read are
    then left blank, or as in the question where the task has no blank; and fewer than half are no answer.
    """
    alphabet = _alphabet(task, free)
    shape = None if free else (question.shape[0], question.shape[1])
    blocks = list(_blocks(_THOUGHT.sub("", text), alphabet, shape))
    if not blocks:
        return Reading(None, "no grid in the reply")
    if shape is None:
        return _free_grid(blocks, (task.height, task.width))
    blank = np.zeros_like(question) if 0 in task.symbols else question
    return _fixed_grid(blocks, question, blank)


def _alphabet(task: Task, free: bool) -> dict[str, int]:
    """Character to symbol: digits stand for themselves, other symbols are character codes."""
    found = {str(symbol) if symbol < 10 else chr(symbol): symbol for symbol in task.symbols}
    if " " in found:
        found |= {character: found[" "] for character in _FREE if character not in found}
        if "o" in found:
            found |= {"O": found["o"], "0": found["o"]}
    elif "0" in found and not free:
        found |= dict.fromkeys(_BLANKS, 0)
    return found


# -- lines ---------------------------------------------------------------------------------------------
def _blocks(text: str, alphabet: dict[str, int], shape: tuple[int, int] | None) -> Iterator[Block]:
    for lines in _json_lists(text):
        rows = [row for line in lines if (row := _row(line, alphabet, shape)) is not None]
        if len(rows) == len(lines):
            yield from _cut(Block(rows, fenced=True), shape)
    rows, fenced = [], False
    # Lists of lists on one line, cut short or not, become lines.
    for line in [*re.sub(r"\]\s*,\s*\[", "\n", text).splitlines(), "```"]:
        fence = line.lstrip().startswith("```")
        row = None if fence else _row(line, alphabet, shape)
        if not line and fenced and rows and shape and len(rows) < shape[0] and " " in alphabet:
            row = []  # a row of free cells that lost its spaces
        if row is None and not fence and _skipped(line, alphabet, shape):
            continue
        whole = bool(row and shape and shape[0] > 1 and len(row) == shape[0] * shape[1])
        if row is not None and not whole:
            rows.append(row)
            continue
        yield from _cut(Block(rows, fenced), shape)
        rows = []
        fenced ^= fence
        if row and shape and whole:
            yield Block([row[start : start + shape[1]] for start in range(0, len(row), shape[1])], fenced)


def _skipped(line: str, alphabet: dict[str, int], shape: tuple[int, int] | None) -> bool:
    """Whether the line stands inside a grid without being a row: a ruler, or an empty line between bands."""
    if _RULER.match(line):
        return True
    return not line.strip() and shape is not None and " " not in alphabet


def _cut(block: Block, shape: tuple[int, int] | None) -> Iterator[Block]:
    """A run of rows as the grids it holds: an echoed question may stand right before its answer."""
    if shape is None or len(block.rows) <= shape[0] or len(block.rows) % shape[0]:
        if block.rows:
            yield block
        return
    for start in range(0, len(block.rows), shape[0]):
        yield Block(block.rows[start : start + shape[0]], block.fenced)


def _row(line: str, alphabet: dict[str, int], shape: tuple[int, int] | None) -> Row | None:
    """The cells of a line; None if it is no row. Of several ways to read it, one with the right width."""
    if _RULER.match(line):
        return None
    bare = _NUMBERED.sub("", line, count=1)
    ways = _spaced_ways(line, bare) if " " in alphabet else _digit_ways(line, bare, "_" in alphabet)
    read = [[alphabet[c] for c in way] for way in ways if way and all(c in alphabet for c in way)]
    if shape is None or not read:
        return read[0] if read else None
    whole = (shape[1], shape[0] * shape[1])
    return next((row for row in read if len(row) in whole), read[0])


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
        quoted = "".join(match[1] for match in _QUOTED.findall(form))
        inner = re.sub(r"""^\s*\[?\s*["'`|]|["'`|]\s*\]?\s*,?\s*$""", "", form)
        spread = form.strip("[]|, ") if set(form[1::2]) <= set(" ,") else ""
        table = "".join(cell.strip() or " " for cell in form.strip().strip("|").split("|"))
        ways += [form, inner, quoted, spread[::2], table if "|" in form else ""]
    return ways


def _json_lists(text: str) -> Iterator[list[str]]:
    """The outermost JSON lists of rows in the text, each row as a line."""
    decoder, start = json.JSONDecoder(), 0
    while (start := text.find("[", start)) >= 0:
        try:
            value, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            start += 1
            continue
        start = end
        yield from _row_lists(value)


def _row_lists(value: Any) -> Iterator[list[str]]:
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
def _free_grid(blocks: Sequence[Block], most: tuple[int, int]) -> Reading:
    """The last block of equal rows; a fenced one, or one of several cells, before a lone number in prose."""
    even = [block for block in blocks if len({len(row) for row in block.rows}) == 1]
    if not even:
        rows = max(blocks, key=lambda block: len(block.rows)).rows
        usual = Counter(map(len, rows)).most_common(1)[0][0]
        return Reading(None, _named(_odd_rows(rows, usual)))
    ranked = sorted(even, key=lambda block: (block.fenced, len(block.rows) * len(block.rows[0]) > 1))
    rows = ranked[-1].rows
    if len(rows) > most[0] or len(rows[0]) > most[1]:
        return Reading(None, f"grid of {len(rows)}x{len(rows[0])}, expected at most {most[0]}x{most[1]}")
    return Reading(np.array(rows, dtype=np.uint8))


def _fixed_grid(blocks: Sequence[Block], question: Grid, blank: Grid) -> Reading:
    """The block with the most readable rows; the last of several, but an echo of the question last of all."""
    h, w = question.shape
    padded = [[_padded(row, index, question) for index, row in enumerate(block.rows)] for block in blocks]
    best = max(
        range(len(padded)),
        key=lambda i: (
            min(h, sum(len(row) == w for row in padded[i])),
            len(padded[i]) == h,
            padded[i] != question.tolist(),
            i,
        ),
    )
    rows = padded[best]
    faults = _odd_rows(rows[:h], w)
    if len(rows) != h:
        faults.append(f"reply held {len(rows)} rows, expected {h}")
    rows = rows[:h]
    readable = sum(len(row) == w for row in rows)
    if 2 * readable < h:
        return Reading(None, _named(faults))
    grid = blank.copy()
    first = _offset(rows, question)
    for index, row in enumerate(rows):
        if len(row) == w:
            grid[first + index] = row
    if not faults and np.array_equal(grid, question):
        faults.append("the reply repeats the question")
    return Reading(grid, _named(faults) if faults else None)


def _padded(row: Row, index: int, question: Grid) -> Row:
    """A maze's row whose free cells at the right end were lost, or to which some were added."""
    h, w = question.shape
    space = ord(" ")
    if (question < 10).all() or index >= h:
        return row
    if len(row) < w and (question[index, len(row) :] == space).all():
        return row + [space] * (w - len(row))
    return row[:w] if all(cell == space for cell in row[w:]) else row


def _offset(rows: Sequence[Row], question: Grid) -> int:
    """Where in the question too few rows begin: where most of their cells agree with it."""
    h, w = question.shape

    def agreement(first: int) -> int:
        pairs = ((row, question[first + index]) for index, row in enumerate(rows) if len(row) == w)
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
