"""Sudoku 9x9. A grid is [9, 9] with 0 for a blank; an answer holds 1 to 9 everywhere."""

from __future__ import annotations

import numpy as np

from trm.grid import Grid, Grids, PuzzleError, shape_words
from trm.tasks.base import Cell, Puzzle, SymmetryGroup, Task, Violation, bucket
from trm.tasks.puzzle import place
from trm.tasks.sudoku import drawing
from trm.tasks.sudoku.rules import MOVES, find_violations, repeated_digits
from trm.tasks.sudoku.text import read_grid, write_grid


class Sudoku(Task):
    name = "sudoku"
    rules = (
        "Fill the blank cells (.) of the 9x9 grid with the digits 1 to 9, so that every row, every column "
        "and every 3x3 box holds each digit exactly once. The given digits stay as they are. The answer is "
        "the whole grid: nine lines of nine digits."
    )
    characters = "0123456789._|+-"
    height = 9
    width = 9
    symbols = tuple(range(10))
    fills = {0: tuple(range(1, 10))}  # noqa: RUF012
    has_checker = True
    generator = "trm.tasks.sudoku.generator"
    solver = "trm.tasks.sudoku.solver"
    comparison_options = {"clues": (22, 25), "guesses": (15, 2000)}  # noqa: RUF012

    def parse(self, text: str) -> Puzzle:
        return Puzzle(self.name, (read_grid(text),))

    def parse_answer(self, puzzle: Puzzle, text: str) -> Grids:
        return (read_grid(text),)

    def text(self, grids: Grids) -> str:
        return write_grid(grids[0])

    def prompt_text(self, puzzle: Puzzle) -> str:
        flat = self.question_text(puzzle)
        return "\n".join(flat[i : i + 9] for i in range(0, 81, 9))

    def accepts_grid(self, grid: Grid) -> bool:
        return grid.shape == (9, 9) and bool(grid.max() <= 9)

    def render(self, puzzle: Puzzle, grids: Grids | None = None, colour: bool = False) -> str:
        return drawing.render(puzzle.grid, grids[0] if grids else None, colour)

    def cells(self, grid: Grid, question: Grid | None = None) -> list[list[Cell]]:
        return drawing.cells(grid, question)

    def validate(self, puzzle: Puzzle) -> None:
        grid = puzzle.grid
        if len(puzzle.inputs) != 1 or grid.shape != (9, 9):
            found = " and ".join(shape_words(g) for g in puzzle.inputs)
            raise PuzzleError(f"sudoku: grid of {found}, expected one of 9x9")
        if (grid > 9).any():
            cell = tuple(np.argwhere(grid > 9)[0].tolist())
            raise PuzzleError(f"sudoku: {place(*cell)} holds {grid[cell]}, expected 0 to 9")
        if repeated := repeated_digits(grid):
            where = " and ".join(place(*cell) for cell in repeated[0].cells[:2])
            raise PuzzleError(f"sudoku: the givens break a rule: {repeated[0].words} ({where})")

    def violations(self, question: Grid, answer: Grid) -> list[Violation]:
        return find_violations(question, answer)

    def blank_draft(self, puzzle: Puzzle) -> Grids:
        return (puzzle.grid * 0,)

    def symmetries(self, shape: tuple[int, int]) -> SymmetryGroup:
        return SymmetryGroup(MOVES, MOVES, transpose=True, symbols=tuple(range(1, 10)))

    def difficulty(self, puzzle: Puzzle) -> dict[str, str]:
        givens = bucket(int((puzzle.grid > 0).sum()), (22, 25, 28, 32, 40))
        return {"givens": givens, **super().difficulty(puzzle)}

    def samples(self) -> list[Puzzle]:
        return [
            Puzzle(self.name, (read_grid(question),), id=f"sudoku-sample-{n}", answers=(read_grid(answer),))
            for n, (question, answer) in enumerate(_SAMPLES, 1)
        ]


# From `generator`: two that need no guess, and one that an exact solver has to search.
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
