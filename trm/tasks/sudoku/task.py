"""Sudoku 9x9. A grid is [9, 9] with 0 for a blank; an answer holds 1 to 9 everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

from trm.grid import Grid, GridParseError, Grids, PuzzleError, as_grids, shape_words
from trm.tasks.base import Puzzle, Status, SymmetryGroup, Task, Verdict

RULERS = frozenset(" \t|+-")
CELLS = {**dict.fromkeys("._0", 0), **{str(d): d for d in range(1, 10)}}
_CODES = np.full(128, 255, dtype=np.uint8)
_CODES[[ord(c) for c in CELLS]] = list(CELLS.values())

_INDEX = np.arange(81).reshape(9, 9)
_BOXES = _INDEX.reshape(3, 3, 3, 3).swapaxes(1, 2).reshape(9, 9)
UNITS = np.concatenate([_INDEX, _INDEX.T, _BOXES])  # [27, 9] flat cell numbers: rows, columns, boxes
UNIT_NAMES = tuple(f"{kind} {i + 1}" for kind in ("row", "column", "box") for i in range(9))

GIVEN, FILLED, WRONG, PLAIN = "\x1b[1m", "\x1b[36m", "\x1b[1;31m", "\x1b[0m"


@dataclass(frozen=True)
class Fault:
    """One broken rule in words, and the flat numbers of the cells that break it."""

    words: str
    cells: tuple[int, ...]


def place(cell: int) -> str:
    """`row 4, column 2` of flat cell number 28."""
    return f"row {cell // 9 + 1}, column {cell % 9 + 1}"


def clashes(grid: Grid) -> list[Fault]:
    """Digits that a row, column or box of grid [9, 9] holds more than once. Symbols above 9 are left out."""
    inside = grid[UNITS // 9, UNITS % 9]  # [27, 9]
    faults = []
    counts = np.stack([(inside == d).sum(axis=1) for d in range(1, 10)], axis=1)  # [27, 9]
    for unit, column in np.argwhere(counts > 1).tolist():
        count, digit = counts[unit, column], column + 1
        times = "twice" if count == 2 else f"{count} times"
        cells = tuple(UNITS[unit][inside[unit] == digit].tolist())
        faults.append(Fault(f"{UNIT_NAMES[unit]} has {digit} {times}", cells))
    return faults


def faults_of(question: Grid, answer: Grid) -> list[Fault]:
    """Everything that is wrong with an answer [9, 9] to a question [9, 9]."""
    given, cells = question.reshape(-1).tolist(), answer.reshape(-1).tolist()
    faults = []
    for i, (was, now) in enumerate(zip(given, cells, strict=True)):
        if was and now != was:
            change = f"changed to {now}" if now else "blanked"
            faults.append(Fault(f"given {was} at {place(i)} was {change}", (i,)))
        elif now == 0:
            faults.append(Fault(f"{place(i)} is blank", (i,)))
        elif not 1 <= now <= 9:
            faults.append(Fault(f"{place(i)} holds {now}, expected 1 to 9", (i,)))
    return faults + clashes(answer)


def _read(text: str) -> Grid:
    """81 characters, or nine lines, to a grid [9, 9]."""
    if len(text) == 81 and text.isascii():  # what files of a million puzzles hold
        grid = _CODES[np.frombuffer(text.encode(), dtype=np.uint8)]
        if grid.max() <= 9:
            return grid.reshape(9, 9)
    bare = ("".join(c for c in line if c not in RULERS) for line in text.splitlines())
    lines = [line for line in bare if line]
    if len(lines) == 1:
        if len(lines[0]) != 81:
            raise GridParseError(f"{len(lines[0])} cells, expected 81 (or nine lines): {_short(lines[0])}")
        lines = [lines[0][i : i + 9] for i in range(0, 81, 9)]
    for row, line in enumerate(lines, 1):
        for column, symbol in enumerate(line, 1):
            if symbol not in CELLS:
                raise GridParseError(
                    f"row {row}, cell {column}: {symbol!r}, expected 1 to 9, or . 0 _ for a blank"
                )
        if len(line) != 9:
            raise GridParseError(f"row {row}: {len(line)} cells, expected 9: {_short(line)}")
    if len(lines) != 9:
        raise GridParseError(f"{len(lines)} rows, expected 9 (or 81 characters)")
    return np.array([[CELLS[symbol] for symbol in line] for line in lines], dtype=np.uint8)


def _short(line: str, most: int = 24) -> str:
    return repr(line if len(line) <= most else line[:most] + "...")


def _moves() -> NDArray[np.int64]:
    """[1296, 9]: the orders of nine rows that move bands, and rows inside their bands."""
    inner = list(permutations(range(3)))
    return np.array(
        [
            [3 * band + row for band, order in zip(bands, orders, strict=True) for row in order]
            for bands, orders in product(inner, product(inner, repeat=3))
        ],
        dtype=np.int64,
    )


MOVES = _moves()


class Sudoku(Task):
    name = "sudoku"
    rules = (
        "Fill the blank cells (.) of the 9x9 grid with the digits 1 to 9, so that every row, every column "
        "and every 3x3 box holds each digit exactly once. The given digits stay as they are. The answer is "
        "the whole grid: nine lines of nine digits."
    )
    height = 9
    width = 9
    symbols = tuple(range(10))
    fills = {0: tuple(range(1, 10))}  # noqa: RUF012
    has_checker = True

    def parse(self, text: str) -> Puzzle:
        return Puzzle(self.name, (_read(text),))

    def parse_answer(self, puzzle: Puzzle, text: str) -> Grids:
        return (_read(text),)

    def question_text(self, puzzle: Puzzle) -> str:
        return self.text(puzzle.inputs)

    def prompt_text(self, puzzle: Puzzle) -> str:
        flat = self.question_text(puzzle)
        return "\n".join(flat[i : i + 9] for i in range(0, 81, 9))

    def text(self, grids: Grids) -> str:
        return "".join("." if cell == 0 else str(cell) for cell in grids[0].reshape(-1).tolist())

    def render(self, puzzle: Puzzle, grids: Grids | None = None, colour: bool = False) -> str:
        """Nine lines with rulers between boxes. Cells that break a rule are red, or followed by `!`."""
        question, grid = puzzle.grid, (grids or puzzle.inputs)[0]
        if grid.shape != (9, 9):
            return self.text((grid,))
        wrong = {cell for fault in faults_of(question, grid) for cell in fault.cells} if grids else set()

        def cell(i: int) -> str:
            symbol = "." if grid.flat[i] == 0 else str(grid.flat[i])
            if not colour:
                return symbol + ("!" if i in wrong else " ")
            style = WRONG if i in wrong else GIVEN if question.flat[i] else FILLED
            return f"{style}{symbol}{PLAIN} "

        lines = []
        for row in range(9):
            if row in (3, 6):
                lines.append("------+-------+------")
            thirds = ("".join(cell(9 * row + 3 * third + i) for i in range(3)) for third in range(3))
            lines.append("| ".join(thirds).rstrip())
        return "\n".join(lines)

    def validate(self, puzzle: Puzzle) -> None:
        grid = puzzle.grid
        if len(puzzle.inputs) != 1 or grid.shape != (9, 9):
            found = " and ".join(shape_words(g) for g in puzzle.inputs)
            raise PuzzleError(f"sudoku: grid of {found}, expected one of 9x9")
        if (grid > 9).any():
            cell = int(np.argmax(grid > 9))
            raise PuzzleError(f"sudoku: {place(cell)} holds {grid.flat[cell]}, expected 0 to 9")
        if faults := clashes(grid):
            where = " and ".join(place(cell) for cell in faults[0].cells[:2])
            raise PuzzleError(f"sudoku: the givens break a rule: {faults[0].words} ({where})")

    def check(self, puzzle: Puzzle, answer: Grid | Grids) -> Verdict:
        grids = as_grids(answer)
        if len(grids) != 1:
            return Verdict(Status.UNSOLVED, (f"{len(grids)} grids, expected 1",))
        if grids[0].shape != (9, 9):
            return Verdict(Status.UNSOLVED, (f"grid of {shape_words(grids[0])}, expected 9x9",))
        faults = faults_of(puzzle.grid, grids[0])
        return Verdict(Status.UNSOLVED if faults else Status.VERIFIED, tuple(f.words for f in faults))

    def symmetries(self, shape: tuple[int, int]) -> SymmetryGroup:
        return SymmetryGroup(MOVES, MOVES, transpose=True, symbols=tuple(range(1, 10)))

    def samples(self) -> list[Puzzle]:
        return [
            Puzzle(self.name, (_read(question),), id=f"sudoku-sample-{n}", answers=(_read(answer),))
            for n, (question, answer) in enumerate(_SAMPLES, 1)
        ]

    def encode_draft(self, puzzle: Puzzle, draft: Grid, index: int = 0) -> NDArray[np.int64]:
        tokens = super().encode_draft(puzzle, draft, index)
        return np.where(tokens == 1, 0, tokens)  # a blank in a draft says nothing about the cell


# From `trm.data.generate`: two that need no guess, one that an exact solver has to search.
_SAMPLES = (
    (
        "5.397.8.....2..6.181.4..397.2.3.4..5......26.951....73.84527916276..9.38..56.8.24",
        "563971842749283651812456397627394185438715269951862473384527916276149538195638724",
    ),
    (
        "8.27.....53.4..8..9......5.1...8.5.4.....49...4..6.7....891...7..7..2185...8.56..",
        "812753469536491872974628351169287534785134926243569718358916247697342185421875693",
    ),
    (
        "43......2.8....536.6.5......4.6.3..7....1.6..2....9...3.......5..9.5.........897.",
        "435896712982174536167532849548623197793415628216789354374961285829357461651248973",
    ),
)

TASK = Sudoku()
