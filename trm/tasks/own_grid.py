"""Grids whose task is known by their size and symbols alone: a file of questions and answers, and no code.

The name of such a task describes it whole, so that a checkpoint that holds the name needs nothing else:
`grid:3x4:.AB:AB` has 3 rows of 4 cells, `.`, `A` and `B` in its questions, and `A` and `B` in its answers. Symbols of
several characters are each followed by a comma: `grid:2x2:0,10,:0,10,`. There are no rules, so no answer is verified.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import numpy as np

from trm.grid import Grid, GridParseError, Grids, PuzzleError, shape_words, shorten
from trm.tasks.base import Candidates, Cell, Task
from trm.tasks.puzzle import Puzzle, Violation, place
from trm.text import parse_json

OWN = "grid"  # the name that people write: the size and symbols follow from a file or a checkpoint
MOST_SYMBOLS = 255
_NAME = re.compile(rf"{OWN}:(\d+)x(\d+):([^:]+):([^:]+)")
_ESCAPES = {"%": "%25", ":": "%3A"}


def is_own(name: str) -> bool:
    """Whether a task's name is that of a grid of one's own, described whole or not."""
    return name == OWN or name.startswith(f"{OWN}:")


def lacks_symbols(name: str) -> bool:
    """Whether a name is `grid` or `grid:3x4`, to which only a file or a checkpoint adds the rest."""
    return is_own(name) and name.count(":") < 2


def read_rows(text: str, spaces: bool = False) -> list[list[str]]:
    """The cells of each line of a grid; a single line may hold a whole grid.

    A cell is a character; where there are spaces, commas or semicolons, what they part; or an entry of a JSON list.
    spaces: a space is a cell like any other character.
    """
    if spaces:
        return [list(line) for line in text.strip("\r\n").splitlines()]
    if text.lstrip().startswith("[") and (rows := _json_rows(text)) is not None:
        return rows
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if any(re.search(r"[\s,;]", line) for line in lines):
        return [[cell for cell in re.split(r"[\s,;]+", line) if cell] for line in lines]
    return [list(line) for line in lines]


def _json_rows(text: str) -> list[list[str]] | None:
    """The rows of a JSON list: of lists of cells, of lines of text, or of the cells of one line."""
    try:
        data = parse_json(text)
    except ValueError:
        return None
    nested = [row if isinstance(row, list) else list(row) if isinstance(row, str) else None for row in data]
    rows = [row for row in nested if row is not None]
    rows = rows if len(rows) == len(data) else [data]
    return [[cell if isinstance(cell, str) else json.dumps(cell) for cell in row] for row in rows]


def own_grid_name(height: int, width: int, question: Sequence[str], answer: Sequence[str]) -> str:
    """The name of the task with these symbols. Raises PuzzleError where there are too many."""
    if len({*question, *answer}) > MOST_SYMBOLS:
        raise PuzzleError(f"{len({*question, *answer})} different symbols, expected at most {MOST_SYMBOLS}")
    return f"{OWN}:{height}x{width}:{_written(question)}:{_written(answer)}"


def _written(symbols: Sequence[str]) -> str:
    escaped = [re.sub("[%:]", lambda found: _ESCAPES[found[0]], symbol) for symbol in symbols]
    return "".join(escaped if all(len(s) == 1 for s in symbols) else (f"{s}," for s in escaped))


def _symbols(written: str) -> list[str]:
    parts = written.split(",")[:-1] if "," in written else re.findall("%25|%3A|.", written)
    return [part.replace("%3A", ":").replace("%25", "%") for part in parts]


def _codes(symbols: Sequence[str]) -> list[int]:
    """The number of each symbol in a grid: its own, or a character's code, or its place where neither fits."""
    if all(symbol.isdecimal() and symbol == str(int(symbol)) and int(symbol) < 256 for symbol in symbols):
        return [int(symbol) for symbol in symbols]
    if all(len(symbol) == 1 and ord(symbol) < 256 for symbol in symbols):
        return [ord(symbol) for symbol in symbols]
    return list(range(len(symbols)))


class OwnGrid(Task):
    """A task by its name. Every cell of the question may change, to any symbol that answers have."""

    has_checker = False

    def __init__(self, name: str) -> None:
        """Raises PuzzleError for a name that does not describe a grid."""
        parts = _NAME.fullmatch(name)
        if parts is None or not (int(parts[1]) and int(parts[2])):
            example = f"{OWN}:3x4:.AB:AB (rows x columns, the symbols of questions and of answers)"
            raise PuzzleError(f"task {name!r}: expected a description such as {example}")
        self.name, self.height, self.width = name, int(parts[1]), int(parts[2])
        question, answer = _symbols(parts[3]), _symbols(parts[4])
        self._texts = list(dict.fromkeys(question + answer))
        codes = _codes(self._texts)
        self._code_of = dict(zip(self._texts, codes, strict=True))
        self._text_of = dict(zip(codes, self._texts, strict=True))
        self._code_of_byte = np.full(256, -1, dtype=np.int16)  # of each character of Latin-1
        for symbol, code in self._code_of.items():
            if len(symbol) == 1 and ord(symbol) < 256:
                self._code_of_byte[ord(symbol)] = code
        self._is_symbol = np.isin(np.arange(256), codes)
        self.symbols = tuple(codes)
        self.answer_symbols = tuple(self._code_of[symbol] for symbol in answer)
        self.fills = dict.fromkeys(codes, self.answer_symbols)
        self.rules = (
            f"The question is a grid of {self.height} rows of {self.width} cells, and so is its answer. Answers "
            f"hold the symbols {' '.join(answer)}. What makes an answer right is not known in words."
        )

    def parse(self, text: str) -> Puzzle:
        return Puzzle(self.name, (self._grid(text),))

    def parse_answer(self, puzzle: Puzzle, text: str) -> Grids:
        return (self._grid(text),)

    def _grid(self, text: str) -> Grid:
        if (grid := self._plain(text)) is not None:
            return grid
        rows = read_rows(text, " " in self._code_of)
        size = f"{self.height}x{self.width}"
        if len(rows) == 1 < self.height:
            (cells,) = rows
            if len(cells) != self.height * self.width:
                raise GridParseError(f"{len(cells)} cells in one line, expected a grid of {size}")
            rows = [cells[at : at + self.width] for at in range(0, len(cells), self.width)]
        if len(rows) != self.height:
            raise GridParseError(f"{len(rows)} rows, expected {self.height}: the grid is {size}")
        for number, row in enumerate(rows, 1):
            if len(row) != self.width:
                raise GridParseError(f"row {number}: {len(row)} cells, expected {self.width}")
            for column, symbol in enumerate(row, 1):
                if symbol not in self._code_of:
                    known = shorten(" ".join(self._texts))
                    raise GridParseError(f"row {number}, cell {column}: {symbol!r}, expected one of {known}")
        return np.array([[self._code_of[symbol] for symbol in row] for row in rows], dtype=np.uint8)

    def _plain(self, text: str) -> Grid | None:
        """The grid of text that is lines of known characters and no more: files hold many in this form."""
        lines = text.split("\n")
        if len(lines) > 1 and [len(line) for line in lines] != [self.width] * self.height:
            return None
        try:
            grid = self._code_of_byte[np.frombuffer("".join(lines).encode("latin-1"), dtype=np.uint8)]
        except UnicodeEncodeError:
            return None
        if grid.size != self.height * self.width or grid.min() < 0:
            return None
        return grid.astype(np.uint8).reshape(self.height, self.width)

    def text(self, grids: Grids) -> str:
        gap = "" if all(len(symbol) == 1 for symbol in self._texts) else " "
        return "\n".join(gap.join(map(self._symbol, row)) for row in grids[0].tolist())

    def _symbol(self, code: int) -> str:
        return self._text_of.get(code, "?")

    def answer_json(self, grids: Grids, candidates: Candidates) -> str:
        return self.text(grids)

    def render(self, puzzle: Puzzle, grids: Grids | None = None, colour: bool = False) -> str:
        return self.text(grids or puzzle.inputs)

    def cells(self, grid: Grid, question: Grid | None = None) -> list[list[Cell]]:
        given = grid if question is None else question
        return [
            [Cell(self._symbol(a), "given" if a == b else "filled") for a, b in zip(*rows, strict=True)]
            for rows in zip(grid.tolist(), given.tolist(), strict=True)
        ]

    def validate(self, puzzle: Puzzle) -> None:
        if len(puzzle.inputs) != 1 or puzzle.grid.shape != (self.height, self.width):
            found = " and ".join(map(shape_words, puzzle.inputs))
            raise PuzzleError(f"{OWN}: grid of {found}, expected one of {self.height}x{self.width}")
        if not self._is_symbol[puzzle.grid].all():
            self.encode(puzzle.grid)  # says which symbol is unknown

    def violations(self, question: Grid, answer: Grid) -> list[Violation]:
        """What keeps the answer from being one at all: whether it is right, nobody knows."""
        expected = shorten(" ".join(map(self._symbol, self.answer_symbols)))
        found = []
        for row, column in np.argwhere(~np.isin(answer, self.answer_symbols)).tolist():
            words = (
                f"{place(row, column)} holds {self._symbol(answer[row, column])}, expected one of {expected}"
            )
            found.append(Violation(words, ((row, column),)))
        return found

    def samples(self) -> list[Puzzle]:
        return []
