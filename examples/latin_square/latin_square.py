"""A fourth puzzle as a package of its own: 4x4 Latin squares, every digit once in each row and column.

`TASK` is found by the entry point in pyproject.toml. docs/how-to/add-a-puzzle.md walks through this file.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trm.grid import Grid, GridParseError, Grids, PuzzleError
from trm.tasks.base import Cell, Puzzle, SymmetryGroup, Task, Violation

SIDE = 4
INDEX = np.arange(SIDE)
LINES = [np.full(SIDE, n) for n in INDEX]
UNITS = [(line, INDEX) for line in LINES] + [
    (INDEX, line) for line in LINES
]  # cells of the rows, then columns


def read(text: str) -> Grid:
    """16 characters, or four lines of four, to a grid [4, 4] with 0 for a blank."""
    cells = "".join(text.split()).replace(".", "0")
    if len(cells) != SIDE * SIDE or set(cells) - set("01234"):
        raise GridParseError(f"{text!r}: expected 16 cells, each 1 to 4 or . for a blank")
    return np.array([int(cell) for cell in cells], dtype=np.uint8).reshape(SIDE, SIDE)


def repeated(grid: Grid) -> list[Violation]:
    """The digits that a row or column of grid [4, 4] holds more than once."""
    return [
        Violation(f"{'row' if number < SIDE else 'column'} {number % SIDE + 1} has {digit} more than once")
        for number, unit in enumerate(UNITS)
        for digit in range(1, SIDE + 1)
        if (grid[unit] == digit).sum() > 1
    ]


def generate(rng: np.random.Generator, clues: int = 8) -> Iterator[Puzzle]:
    """Puzzles with `clues` givens and an answer, without end. Most have one answer, some have several."""
    while True:
        square = np.add.outer(rng.permutation(SIDE), rng.permutation(SIDE)) % SIDE
        answer = (rng.permutation(SIDE)[square] + 1).astype(np.uint8)
        given = rng.permutation(SIDE * SIDE).reshape(SIDE, SIDE) < clues
        yield Puzzle("latin_square", ((answer * given).astype(np.uint8),), answers=(answer,))


class LatinSquare(Task):
    name = "latin_square"
    rules = (
        "Fill the blank cells (.) of the 4x4 grid with the digits 1 to 4, so that every row and every column holds "
        "each digit exactly once. The given digits stay as they are. The answer is four lines of four digits."
    )
    characters = "01234."
    height = width = SIDE
    symbols = tuple(range(SIDE + 1))
    fills = {0: tuple(range(1, SIDE + 1))}  # noqa: RUF012
    has_checker = True
    generator = "latin_square"  # the module with `generate`

    def parse(self, text: str) -> Puzzle:
        return Puzzle(self.name, (read(text),))

    def parse_answer(self, puzzle: Puzzle, text: str) -> Grids:
        return (read(text),)

    def text(self, grids: Grids) -> str:
        return "".join(str(cell or ".") for cell in grids[0].reshape(-1).tolist())

    def prompt_text(self, puzzle: Puzzle) -> str:
        return self.render(puzzle)

    def render(self, puzzle: Puzzle, grids: Grids | None = None, colour: bool = False) -> str:
        return "\n".join(
            "".join(str(cell or ".") for cell in row) for row in (grids or puzzle.inputs)[0].tolist()
        )

    def cells(self, grid: Grid, question: Grid | None = None) -> list[list[Cell]]:
        given = grid if question is None else question
        return [
            [Cell(str(cell or ""), "given" if was else "filled") for cell, was in zip(*rows, strict=True)]
            for rows in zip(grid.tolist(), given.tolist(), strict=True)
        ]

    def validate(self, puzzle: Puzzle) -> None:
        if found := repeated(puzzle.grid):
            raise PuzzleError(f"latin_square: the givens break a rule: {found[0].words}")

    def violations(self, question: Grid, answer: Grid) -> list[Violation]:
        changed = int(((question > 0) & (question != answer)).sum())
        blank = int((answer == 0).sum())
        found = [Violation(f"{changed} givens were changed")] if changed else []
        return found + ([Violation(f"{blank} cells are blank")] if blank else []) + repeated(answer)

    def symmetries(self, shape: tuple[int, int]) -> SymmetryGroup:
        orders = np.array([np.roll(INDEX, n)[::step] for n in INDEX for step in (1, -1)])
        return SymmetryGroup(orders, orders, transpose=True, symbols=tuple(range(1, SIDE + 1)))

    def samples(self) -> list[Puzzle]:
        return [
            Puzzle(self.name, (read("1.3..4.2.1..4..1"),), "latin-sample-1", (read("1234341221434321"),)),
            Puzzle(self.name, (read(".2.43.1...4..3.."),), "latin-sample-2", (read("1234341221434321"),)),
        ]


TASK = LatinSquare()
