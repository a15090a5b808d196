"""Sudoku 9x9. A grid is [9, 9] with 0 for a blank; an answer holds 1 to 9 everywhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

from trm.grid import Grid, Grids, PuzzleError, shape_words
from trm.tasks.base import Cell, Task, bucket
from trm.tasks.grid_text import plain
from trm.tasks.puzzle import Puzzle, Violation, place
from trm.tasks.sudoku import text as written
from trm.tasks.transforms import SymmetryGroup

# -- rules ---------------------------------------------------------------------------------------------
_INDEX = np.arange(81).reshape(9, 9)
_BOXES = _INDEX.reshape(3, 3, 3, 3).swapaxes(1, 2).reshape(9, 9)
UNITS = np.concatenate([_INDEX, _INDEX.T, _BOXES])  # [27, 9] flat cell numbers: rows, columns, boxes
_UNIT_NAMES = tuple(f"{kind} {i + 1}" for kind in ("row", "column", "box") for i in range(9))
# For every cell of every unit its unit, and the cell: for a table [digit, unit] in one line.
_UNIT_OF, _CELLS = np.repeat(np.arange(27), 9), UNITS.reshape(-1)
_ORDERS = list(permutations(range(3)))
# [1296, 9]: the orders of nine rows that move bands, and rows inside their bands.
MOVES = np.array(
    [
        [3 * band + row for band, order in zip(bands, orders, strict=True) for row in order]
        for bands, orders in product(_ORDERS, product(_ORDERS, repeat=3))
    ]
)


def are_sound(cells: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which grids [n, 81] of 0 to 9 hold no digit twice in a unit [n]: together, since files hold millions."""
    tables = cells[:, _CELLS] * np.int64(27) + _UNIT_OF + 270 * np.arange(len(cells))[:, None]
    counts = np.bincount(tables.reshape(-1), minlength=270 * len(cells)).reshape(-1, 270)
    return np.asarray(counts[:, 27:].max(axis=1) < 2)


def repeated_digits(grid: Grid) -> list[Violation]:
    """The digits that a row, column or box of grid [9, 9] holds more than once. Symbols above 9 are left out."""
    inside = grid[UNITS // 9, UNITS % 9]  # [27, 9]
    counts = np.stack([(inside == digit).sum(axis=1) for digit in range(1, 10)], axis=1)  # [27, 9]
    violations = []
    for unit, column in np.argwhere(counts > 1).tolist():
        count, digit = counts[unit, column], column + 1
        times = "twice" if count == 2 else f"{count} times"
        cells = tuple(divmod(cell, 9) for cell in UNITS[unit][inside[unit] == digit].tolist())
        violations.append(Violation(f"{_UNIT_NAMES[unit]} has {digit} {times}", cells))
    return violations


class Sudoku(Task):
    name = "sudoku"
    noun = "a Sudoku"
    rules = (
        "Fill the blank cells (.) of the 9x9 grid with the digits 1 to 9, so that every row, every column "
        "and every 3x3 box holds each digit exactly once. The given digits stay as they are. The answer is "
        "the whole grid: nine lines of nine digits."
    )
    height = width = 9
    symbols = tuple(range(10))
    fills = {0: tuple(range(1, 10))}  # noqa: RUF012
    has_checker = True
    generator = "trm.tasks.sudoku.generator"
    solver = "trm.tasks.sudoku.solver"
    comparison_options = {"clues": (22, 25), "guesses": (15, 2000)}  # noqa: RUF012

    def parse(self, text: str) -> Puzzle:
        grid, notes = written.read(text)
        return Puzzle(self.name, (grid,), notes=notes)

    def parse_answer(self, puzzle: Puzzle, text: str) -> Grids:
        return (written.read_grid(text),)

    def detect(self, text: str) -> float:
        """The share of digits and blanks; frames count for nothing."""
        if self.is_certain(text):
            return 1.0
        visible = re.sub(r"[\s|+\[\](),;'\"-]", "", plain(text))
        others = "*xX?" if re.search(r"[1-9]", visible) else ""
        others += written.LETTERS if len(visible) in (12**2, 15**2, 16**2, 20**2, 25**2) else ""
        share = sum(map(visible.count, "123456789" + written.BLANKS + others)) / max(1, len(visible))
        walls = visible.count("1") > 9 and not set(visible) - set("0123")  # of a matrix that is a maze
        return 0.9 * share if walls else share

    def is_certain(self, text: str) -> bool:
        return len(text) == 81 and text.isascii() and not text.strip("0123456789.")

    def parse_plain(self, texts: Sequence[str]) -> list[Puzzle | None]:
        places, cells = written.read_plain(texts)
        puzzles: list[Puzzle | None] = [None] * len(texts)
        for number, sound, grid in zip(places.tolist(), are_sound(cells).tolist(), cells, strict=True):
            if sound:
                puzzles[number] = Puzzle(self.name, (grid.reshape(9, 9),))
        return puzzles

    def in_line(self, line: str) -> tuple[str, str | None] | None:
        return written.in_line(line)

    def parts(self, blocks: Sequence[Sequence[tuple[int, str]]]) -> list[tuple[int, str]]:
        return written.parts(blocks)

    def text(self, grids: Grids) -> str:
        return "".join(str(symbol or ".") for symbol in grids[0].reshape(-1).tolist())

    def prompt_text(self, puzzle: Puzzle) -> str:
        return "\n".join(re.findall(".{9}", self.question_text(puzzle)))

    def accepts_grid(self, grid: Grid) -> bool:
        return grid.shape == (9, 9) and bool(grid.max() <= 9)

    def render(self, puzzle: Puzzle, grids: Grids | None = None, colour: bool = False) -> str:
        """Nine lines with rulers between boxes. Cells that break a rule are red, or followed by `!`."""
        question, (grid, *_) = puzzle.grid, grids or puzzle.inputs
        if grid.shape != (9, 9):
            return self.text((grid,))
        found = self.violations(question, grid) if grids else []
        wrong = {cell for violation in found for cell in violation.cells}

        def cell(row: int, column: int) -> str:
            symbol = str(grid[row, column] or ".")
            if not colour:
                return symbol + ("!" if (row, column) in wrong else " ")
            style = "1;31" if (row, column) in wrong else "1" if question[row, column] else "36"
            return f"\x1b[{style}m{symbol}\x1b[0m "

        parts = [["".join(cell(row, left + i) for i in range(3)) for left in (0, 3, 6)] for row in range(9)]
        lines = ["| ".join(part).rstrip() for part in parts]
        return "\n------+-------+------\n".join("\n".join(lines[top : top + 3]) for top in (0, 3, 6))

    def cells(self, grid: Grid, question: Grid | None = None) -> list[list[Cell]]:
        given = grid if question is None else question
        kinds = np.where(grid == 0, "blank", np.where(given == 0, "filled", "given")).tolist()
        return [
            [Cell(str(symbol or ""), kind) for symbol, kind in zip(*row, strict=True)]
            for row in zip(grid.tolist(), kinds, strict=True)
        ]

    def validate(self, puzzle: Puzzle) -> None:
        grid = puzzle.grid
        if len(puzzle.inputs) != 1 or grid.shape != (9, 9):
            found = " and ".join(map(shape_words, puzzle.inputs))
            raise PuzzleError(f"sudoku: grid of {found}, expected one of 9x9")
        if grid.dtype == np.uint8 and grid.max() <= 9 and are_sound(grid.reshape(1, 81)).all():
            return  # a short cut
        if (grid > 9).any():
            row, column = np.argwhere(grid > 9)[0].tolist()
            raise PuzzleError(f"sudoku: {place(row, column)} holds {grid[row, column]}, expected 0 to 9")
        if repeated := repeated_digits(grid):
            where = " and ".join(place(*cell) for cell in repeated[0].cells[:2])
            raise PuzzleError(f"sudoku: the givens break a rule: {repeated[0].words} ({where})")

    def violations(self, question: Grid, answer: Grid) -> list[Violation]:
        found = []
        for cell, given in np.ndenumerate(question):
            symbol = answer[cell]
            if given and symbol != given:
                words = (
                    f"given {given} at {place(*cell)} was {f'changed to {symbol}' if symbol else 'blanked'}"
                )
            elif not symbol:
                words = f"{place(*cell)} is blank"
            elif symbol > 9:
                words = f"{place(*cell)} holds {symbol}, expected 1 to 9"
            else:
                continue
            found.append(Violation(words, (cell,)))
        return found + repeated_digits(answer)

    def blank_draft(self, puzzle: Puzzle) -> Grids:
        return (puzzle.grid * 0,)

    def symmetries(self, shape: tuple[int, int]) -> SymmetryGroup:
        return SymmetryGroup(MOVES, MOVES, transpose=True, symbols=tuple(range(1, 10)))

    def difficulty(self, puzzle: Puzzle) -> dict[str, str]:
        givens = bucket(int((puzzle.grid > 0).sum()), (22, 25, 28, 32, 40))
        return {"givens": givens, **super().difficulty(puzzle)}

    def samples(self) -> list[Puzzle]:
        grids = [written.read_grid(text) for text in _SAMPLES.split()]
        pairs = enumerate(zip(grids[::2], grids[1::2], strict=True), 1)
        return [Puzzle("sudoku", (grid,), f"sudoku-sample-{n}", (answer,)) for n, (grid, answer) in pairs]


# From `generator`, each with its answer: two that need no guess, and one that an exact solver has to search.
_SAMPLES = """
5.397.8.....2..6.181.4..397.2.3.4..5......26.951....73.84527916276..9.38..56.8.24
563971842749283651812456397627394185438715269951862473384527916276149538195638724
8.27.....53.4..8..9......5.1...8.5.4.....49...4..6.7....891...7..7..2185...8.56..
812753469536491872974628351169287534785134926243569718358916247697342185421875693
43......2.8....536.6.5......4.6.3..7....1.6..2....9...3.......5..9.5.........897.
435896712982174536167532849548623197793415628216789354374961285829357461651248973
"""

TASK = Sudoku()
