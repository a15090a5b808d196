"""ARC: a rule to find in demonstrations and to apply. Grids [H, W] up to 30x30 of colours 0 to 9."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain, groupby, zip_longest
from typing import cast

import numpy as np

from trm.grid import Grid, GridParseError, Grids, PuzzleError, shape_words
from trm.tasks.base import PAD, Candidates, Cell, Task, Tokens, bucket
from trm.tasks.puzzle import Puzzle, Violation, place
from trm.text import parse_json

MOST = 30  # rows and columns
END = 1  # token of the cells just below and just right of a grid: how the network says where an output ends
_COLOURS = bytes(range(10))
PALETTE = ("000000", "0074d9", "ff4136", "2ecc40", "ffdc00", "aaaaaa", "f012be", "ff851b", "7fdbff", "870c25")


# -- text: the public JSON of a task, and answers as rows of colours or as JSON ------------------------
def read_grid(rows: object) -> Grid:
    """A list of rows, each a list of colours or a string of digits, or text, to a grid. Raises GridParseError."""
    if (grid := _plain_grid(rows)) is not None:
        return grid
    if isinstance(rows, str) and len(blocks := _blocks(rows)) == 1:
        (rows,) = blocks
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list | str) and row for row in rows):
        raise GridParseError(f"{json.dumps(rows)[:40]}, expected a list of rows of colours")
    cells = [[_colour(cell) for cell in row] for row in rows]
    width = len(cells[0])
    for number, row in enumerate(cells, 1):
        for column, colour in enumerate(row, 1):
            if type(colour) is not int or not 0 <= colour <= 9:
                raise GridParseError(f"row {number}, cell {column}: {colour!r}, expected a colour 0 to 9")
        if len(row) != width:
            raise GridParseError(f"row {number}: {len(row)} cells, expected {width} as in row 1")
    if _too_large(rows):
        raise GridParseError(f"grid of {len(rows)}x{width}, expected at most {MOST}x{MOST}")
    return np.array(cells, dtype=np.uint8)


def _plain_grid(rows: object) -> Grid | None:
    """The grid of lists of whole numbers, read at once, as files hold millions; None for other forms."""
    if type(rows) is not list or not {list}.issuperset(map(type, rows)) or len(set(map(len, rows))) != 1:
        return None
    cells = list(chain.from_iterable(rows))
    if not {int}.issuperset(map(type, cells)) or not cells or max(len(rows), len(rows[0])) > MOST:
        return None
    try:
        colours = bytearray(cells)
    except ValueError:  # a number that is no byte
        return None
    if colours.translate(None, _COLOURS):
        return None
    return np.frombuffer(colours, dtype=np.uint8).reshape(len(rows), -1)


def _colour(cell: object) -> object:
    """The whole number that a cell writes as `1.0` or as a digit in a string; any other cell as it is."""
    if isinstance(cell, float) and cell.is_integer():
        return int(cell)
    return int(cell) if isinstance(cell, str) and len(cell) == 1 and cell in "0123456789" else cell


def _too_large(rows: object) -> bool:
    sides = (
        [len(side) for side in (rows, *rows[:1]) if isinstance(side, list | str)]
        if isinstance(rows, list)
        else []
    )
    return max(sides, default=0) > MOST


def _read_json(text: str, what: str) -> object:
    try:
        return parse_json(text)
    except ValueError as error:
        raise GridParseError(f"no {what}: {error}") from None


def _side(pair: object, key: str, where: str) -> Grid:
    if not isinstance(pair, (dict, Mapping)) or key not in pair:  # a dictionary is told faster
        raise GridParseError(f"{where}: no {key!r}, expected a grid under that name")
    try:
        return read_grid(pair[key])
    except GridParseError as error:
        raise GridParseError(f"{where}, {key}: {error}") from None


def _choices(data: object, name: str) -> list[list[object]]:
    """The candidates for each test input in a JSON answer.

    The answer is a grid, a list of grids or of candidates for each input, or attempts as submissions have them.
    """
    if isinstance(data, dict):
        if name not in data and len(data) != 1:
            raise GridParseError(f"answers to {len(data)} puzzles, expected one to {name or 'this one'}")
        data = data.get(name, next(iter(data.values())))
    if isinstance(data, list) and data and all(isinstance(own, dict) for own in data):
        return [[own[key] for key in sorted(own) if key.startswith("attempt_")] for own in data]
    depth, value = 0, data
    while isinstance(value, list) and value:
        value, depth = value[0], depth + 1
    listed = cast(list[object], data)
    if depth <= 3:
        return [[grid] for grid in (listed if depth == 3 else [data])]
    return [choice if isinstance(choice, list) else [choice] for choice in listed]


def _blocks(text: str) -> list[object]:
    """The rows of each grid, grids parted by empty lines; a cell that is no digit stays text."""
    lines = (line.replace(",", " ").split() for line in text.strip().splitlines())
    rows = (list(words[0]) if len(words) == 1 else words for words in lines)
    cells = ([int(cell) if cell in "0123456789" else cell for cell in row] for row in rows)
    return [list(block) for filled, block in groupby(cells, bool) if filled]


def problem(grid: Grid) -> str | None:
    """What keeps an array from being an ARC grid, in words; None if nothing does."""
    if grid.ndim != 2 or not all(1 <= side <= MOST for side in grid.shape):
        return f"a grid of {shape_words(grid)}, expected 1x1 to {MOST}x{MOST}"
    # Told faster than by a maximum.
    if grid.dtype == np.uint8 and not grid.tobytes().translate(None, _COLOURS):
        return None
    for row, column in np.argwhere((grid < 0) | (grid > 9)).tolist():
        return f"{place(row, column)} holds {grid[row, column]}, expected a colour 0 to 9"
    return None


# -- drawing -------------------------------------------------------------------------------------------
def _lines(grid: Grid, colour: bool) -> list[str]:
    """Lines of 2 * W columns: digits, or coloured cells."""
    if not colour or problem(grid):
        return [" ".join(map(str, row)) + " " for row in grid.tolist()]
    cells = [f"\x1b[48;2;{';'.join(map(str, bytes.fromhex(code)))}m  " for code in PALETTE]
    return ["".join(cells[c] for c in row) + "\x1b[0m" for row in grid.tolist()]


def _pair(left: Grid, right: Grid, colour: bool) -> str:
    """Two grids side by side, with an arrow between their first lines."""
    both = zip_longest(_lines(left, colour), _lines(right, colour))
    blank = " " * 2 * left.shape[1]
    lines = [(a or blank) + ("    " if i else " →  ") + (b or "") for i, (a, b) in enumerate(both)]
    return "\n".join(line.rstrip(" ") for line in lines)


class Arc(Task):
    name = "arc"
    noun = "an ARC task"
    rules = (
        "Each demonstration is a pair of an input grid and an output grid, whose cells are colours 0 to 9. "
        "One rule turns every input into its output. Find it and apply it to each test input. The answer is "
        "each output grid, one row a line, the colours of a row parted by spaces; an empty line parts grids."
    )
    symbols = tuple(range(10))
    reserved = 1
    has_checker = False
    has_demonstrations = True
    generator = "trm.tasks.arc.generator"
    comparison_options = {"size": (3, 5)}  # noqa: RUF012

    def __init__(self, side: int = MOST, top: int = 0, left: int = 0) -> None:
        """A square canvas of `side` cells, and where on it the first cell of a grid is."""
        self.height = self.width = side
        self.top, self.left = top, left

    def on(self, side: int) -> Arc:
        return Arc(side)

    def at(self, top: int, left: int) -> Arc:
        return Arc(self.width, top, left)

    def parse(self, text: str) -> Puzzle:
        return self.read(_read_json(text, "ARC task"))

    def read(self, question: object) -> Puzzle:
        """A puzzle from its public JSON, as text or parsed; with answers if all are given. Raises GridParseError.

        A list of pairs, as generators of examples write them, has its last pair as the test. Demonstrations that are
        too large are left out. Both are noted.
        """
        if isinstance(question, str):
            return self.parse(question)
        notes: list[str] = []
        if isinstance(question, list) and question and all(isinstance(pair, Mapping) for pair in question):
            if len(question) == 1:
                raise GridParseError("a list of one pair, expected two at least: the last one is the test")
            question = {"train": question[:-1], "test": question[-1:]}
            notes.append(f"a list of {len(question['train']) + 1} pairs: the last one is taken for the test")
        data = question if isinstance(question, Mapping) else {}
        if not all(isinstance(data.get(key), list) for key in ("train", "test")):
            raise GridParseError("no ARC task: expected an object with the lists 'train' and 'test'")
        demos = []
        for number, pair in enumerate(data["train"], 1):
            where = f"train pair {number}"
            try:
                demos.append((_side(pair, "input", where), _side(pair, "output", where)))
            except GridParseError:
                if not (
                    isinstance(pair, Mapping) and any(map(_too_large, map(pair.get, ("input", "output"))))
                ):
                    raise
                notes.append(f"{where} is left out: its grids are larger than {MOST}x{MOST}")
        if data["train"] and not demos:
            raise GridParseError(f"every train pair has a grid larger than {MOST}x{MOST}")
        test = [(pair, f"test pair {number}") for number, pair in enumerate(data["test"], 1)]
        inputs = tuple(_side(pair, "input", where) for pair, where in test)
        known = all(pair.get("output") is not None for pair, _ in test)
        answers = tuple(_side(pair, "output", where) for pair, where in test) if known else None
        return Puzzle("arc", inputs, answers=answers, demos=tuple(demos), notes=tuple(notes))

    def parse_answer(self, puzzle: Puzzle, text: str) -> Grids:
        """The first candidate for each test input."""
        return tuple(choice[0] for choice in self.parse_candidates(puzzle, text))

    def parse_candidates(self, puzzle: Puzzle, text: str) -> Candidates:
        """Rows of digits as `text` writes them, or JSON in one of the forms that `_choices` knows."""
        if text.lstrip()[:1] in ("[", "{"):
            choices = _choices(_read_json(text, "JSON grid"), puzzle.id)
        else:
            choices = [[grid] for grid in _blocks(text)]
        if len(choices) != len(puzzle.inputs) or not all(choices):
            raise GridParseError(f"{sum(map(bool, choices))} grids, expected {len(puzzle.inputs)}")
        return tuple(tuple(map(read_grid, choice)) for choice in choices)

    def question_text(self, puzzle: Puzzle) -> str:
        """The public JSON of a task without its answers."""
        train = [{"input": before.tolist(), "output": after.tolist()} for before, after in puzzle.demos]
        test = [{"input": grid.tolist()} for grid in puzzle.inputs]
        return json.dumps({"train": train, "test": test}, separators=(",", ":"))

    def text(self, grids: Grids) -> str:
        return "\n\n".join("\n".join(" ".join(map(str, row)) for row in grid.tolist()) for grid in grids)

    def detect(self, text: str) -> float:
        return float(text.lstrip()[:1] in ("{", "["))

    def render(self, puzzle: Puzzle, grids: Grids | None = None, colour: bool = False) -> str:
        """Demonstrations and test inputs; with an answer, the test inputs beside it."""
        if grids:
            return "\n\n".join(_pair(*pair, colour) for pair in zip(puzzle.inputs, grids, strict=False))
        parts = [f"demonstration {n}\n{_pair(*pair, colour)}" for n, pair in enumerate(puzzle.demos, 1)]
        for n, grid in enumerate(puzzle.inputs, 1):
            parts.append("\n".join([f"test {n}", *(line.rstrip(" ") for line in _lines(grid, colour))]))
        return "\n\n".join(parts)

    def cells(self, grid: Grid, question: Grid | None = None) -> list[list[Cell]]:
        return [[Cell("", "colour", f"#{PALETTE[colour]}") for colour in row] for row in grid.tolist()]

    def validate(self, puzzle: Puzzle) -> None:
        if not puzzle.demos or not puzzle.inputs:
            found = f"{len(puzzle.demos)} demonstrations and {len(puzzle.inputs)} tests"
            raise PuzzleError(f"arc: {found}, expected one at least of each")
        grids = [(f"test pair {n}, input", grid) for n, grid in enumerate(puzzle.inputs, 1)]
        for n, (before, after) in enumerate(puzzle.demos, 1):
            grids += [(f"train pair {n}, input", before), (f"train pair {n}, output", after)]
        for where, grid in grids:
            if words := problem(grid):
                raise PuzzleError(f"arc: {where}: {words}")

    def violations(self, question: Grid, answer: Grid) -> list[Violation]:
        """What keeps the answer from being a grid: no rule decides whether it is right."""
        return [Violation(words)] if (words := problem(answer)) else []

    def difficulty(self, puzzle: Puzzle) -> dict[str, str]:
        """By the number of cells of the largest test input."""
        cells = bucket(max(grid.size for grid in puzzle.inputs), (25, 100, 225, 400))
        return {"cells": cells, **super().difficulty(puzzle)}

    def samples(self) -> list[Puzzle]:
        tasks = enumerate((_MIRROR, _CROP), 1)
        return [replace(self.read(_from_lines(text)), id=f"arc-sample-{n}") for n, text in tasks]

    # An output may have another shape than its input: end markers bound it, in drafts and questions as well.
    def encode(self, grid: Grid) -> Tokens:
        drawn = super().encode(grid).reshape(self.height, self.width)
        h, w = grid.shape
        if h + self.top > self.height or w + self.left > self.width:
            where = f"row {self.top + 1}, column {self.left + 1}"
            within = f"expected it within {self.height}x{self.width}"
            raise PuzzleError(f"arc: grid of {shape_words(grid)} at {where}, {within}")
        drawn[h : h + 1, :w] = END
        drawn[:h, w : w + 1] = END
        inside = drawn[: self.height - self.top, : self.width - self.left]
        return np.pad(inside, ((self.top, 0), (self.left, 0)), constant_values=PAD).reshape(-1)

    def encode_draft(self, puzzle: Puzzle, draft: Grid, index: int = 0) -> Tokens:
        return self.encode(draft)

    def decode(self, puzzle: Puzzle, tokens: Tokens, index: int = 0) -> Grid:
        """The largest rectangle of colours that begins at the grid's first cell; a single 0 where there is none."""
        colours = tokens.reshape(self.height, self.width)[self.top :, self.left :] - 1 - self.reserved
        inside = np.logical_and.accumulate(colours >= 0, axis=1).sum(axis=1)  # [H] colours before the end
        widths = np.minimum.accumulate(inside)
        areas = widths * np.arange(1, len(widths) + 1)
        h = int(areas.argmax()) + 1
        rectangle = colours[:h, : widths[h - 1]]
        return rectangle.astype(np.uint8) if rectangle.size else np.zeros((1, 1), dtype=np.uint8)


def _from_lines(text: str) -> dict[str, list[object]]:
    """The public JSON of a task whose lines are `train INPUT > OUTPUT` and `test INPUT > OUTPUT`, row by row."""
    data: dict[str, list[object]] = {"train": [], "test": []}
    for line in text.strip().splitlines():
        part, pair = line.split(maxsplit=1)
        before, after = ([list(map(int, row)) for row in grid.split()] for grid in pair.split(">"))
        data[part].append({"input": before, "output": after})
    return data


# Written by hand: mirror left to right; cut out what is not background.
_MIRROR = """
train 100 120 > 001 021
train 3300 0400 5006 > 0033 0040 6005
train 78 07 80 > 87 70 08
test 2009 2200 0110 > 9002 0022 0110
"""
_CROP = """
train 0000 0440 0040 0000 > 44 04
train 00000 22200 02000 > 222 020
train 000 006 006 066 000 > 06 06 66
test 03030 03330 00000 > 303 333
test 000 800 880 080 > 80 88 08
"""

TASK = Arc()
