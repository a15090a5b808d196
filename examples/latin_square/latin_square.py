"""A fourth puzzle as a package of its own: 4x4 Latin squares, every digit once in each row and column.

`TASK` is found by the entry point in pyproject.toml. docs/how-to/add-a-puzzle.md walks through this file.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, permutations

import numpy as np

from trm.grid import Grid, GridParseError, Grids, PuzzleError, shape_words
from trm.tasks import Cell, Puzzle, SymmetryGroup, Task, Violation, bucket
from trm.tasks.ranges import whole_range

SIDE = 4
ORDERS = np.array(list(permutations(range(SIDE))))  # [24, 4]


# -- rules and text ------------------------------------------------------------------------------------
def read_grid(text: str) -> Grid:
    """16 characters, white space aside, to a grid [4, 4] with 0 for a blank."""
    cells = "".join(text.split())
    if len(cells) != SIDE * SIDE:
        raise GridParseError(f"{len(cells)} cells, expected {SIDE * SIDE}")
    for number, cell in enumerate(cells):
        if cell not in ".01234":
            row, column = divmod(number, SIDE)
            where = f"row {row + 1}, cell {column + 1}"
            raise GridParseError(f"{where}: {cell!r}, expected 1 to 4, or . for a blank")
    return np.array([int(cell.replace(".", "0")) for cell in cells], dtype=np.uint8).reshape(SIDE, SIDE)


def repeated_digits(grid: Grid) -> list[Violation]:
    """The digits that a row or column holds more than once."""
    return [
        Violation(f"{kind} {number} has {digit} more than once")
        for kind, lines in (("row", grid), ("column", grid.T))
        for number, line in enumerate(lines, 1)
        for digit in range(1, SIDE + 1)
        if (line == digit).sum() > 1
    ]


# -- puzzles for training, and an exact solver for the comparison ----------------------------------------
def solutions(grid: Grid) -> Iterator[Grid]:
    """Every solution of a grid [4, 4], by depth-first search."""
    blanks = np.argwhere(grid == 0)
    if not len(blanks):
        yield grid.copy()
        return
    row, column = blanks[0]
    for digit in set(range(1, SIDE + 1)) - {*grid[row].tolist(), *grid[:, column].tolist()}:
        filled = grid.copy()
        filled[row, column] = digit
        yield from solutions(filled)


def solve(puzzle: Puzzle) -> Grids | None:
    found = next(solutions(puzzle.grid), None)
    return None if found is None else (found,)


def generate(rng: np.random.Generator, clues: int | tuple[int, int] = (6, 12)) -> Iterator[Puzzle]:
    """Puzzles with one solution, without end. clues: how many cells are given."""
    fewest, most = whole_range("clues", clues, 6, 16)
    cyclic = np.add.outer(np.arange(SIDE), np.arange(SIDE)) % SIDE + 1
    while True:
        solution = cyclic.astype(np.uint8)[rng.permutation(SIDE)][:, rng.permutation(SIDE)]
        question = solution.copy()
        wanted = int(rng.integers(fewest, most + 1))
        for cell in rng.permutation(SIDE * SIDE).tolist():
            if np.count_nonzero(question) == wanted:
                break
            digit, question.flat[cell] = question.flat[cell], 0
            if len(list(islice(solutions(question), 2))) > 1:
                question.flat[cell] = digit
        if np.count_nonzero(question) == wanted:
            yield Puzzle("latin_square", (question,), answers=(solution,))


class LatinSquare(Task):
    name = "latin_square"
    rules = (
        "Fill the blank cells (.) of the 4x4 grid with the digits 1 to 4, so that every row and every column holds "
        "each digit exactly once. The given digits stay as they are. The answer is four lines of four digits."
    )
    characters = ".01234"
    height = width = SIDE
    symbols = tuple(range(SIDE + 1))
    fills = {0: tuple(range(1, SIDE + 1))}  # noqa: RUF012
    has_checker = True
    generator = solver = "latin_square"  # the module with `generate`, and that with `solve`
    comparison_options = {"clues": 11}  # noqa: RUF012

    def parse(self, text: str) -> Puzzle:
        return Puzzle(self.name, (read_grid(text),))

    def parse_answer(self, puzzle: Puzzle, text: str) -> Grids:
        return (read_grid(text),)

    def text(self, grids: Grids) -> str:
        return "\n".join("".join(str(cell or ".") for cell in row) for row in grids[0].tolist())

    def accepts_grid(self, grid: Grid) -> bool:
        return grid.shape == (SIDE, SIDE) and bool(grid.max() <= SIDE)

    def render(self, puzzle: Puzzle, grids: Grids | None = None, colour: bool = False) -> str:
        rows = self.text(grids or puzzle.inputs).split("\n")
        return "\n".join(f"\x1b[1m{row}\x1b[0m" if colour else row for row in rows)

    def cells(self, grid: Grid, question: Grid | None = None) -> list[list[Cell]]:
        given = grid if question is None else question
        kinds = np.where(grid == 0, "blank", np.where(given == 0, "filled", "given"))
        return [
            [Cell(str(symbol or ""), str(kind)) for symbol, kind in zip(*rows, strict=True)]
            for rows in zip(grid.tolist(), kinds.tolist(), strict=True)
        ]

    def validate(self, puzzle: Puzzle) -> None:
        if not self.accepts_grid(puzzle.grid):
            raise PuzzleError(f"latin_square: grid of {shape_words(puzzle.grid)}, expected 4x4 of 0 to 4")
        if repeated := repeated_digits(puzzle.grid):
            raise PuzzleError(f"latin_square: the givens break a rule: {repeated[0].words}")

    def violations(self, question: Grid, answer: Grid) -> list[Violation]:
        wrong = np.argwhere(((question > 0) & (question != answer)) | (answer < 1) | (answer > SIDE)).tolist()
        changed = [
            Violation(f"row {row + 1}, column {column + 1} holds {answer[row, column]}", ((row, column),))
            for row, column in wrong
        ]
        return changed + repeated_digits(answer)

    def symmetries(self, shape: tuple[int, int]) -> SymmetryGroup:
        return SymmetryGroup(ORDERS, ORDERS, transpose=True, symbols=tuple(range(1, SIDE + 1)))

    def difficulty(self, puzzle: Puzzle) -> dict[str, str]:
        return {"givens": bucket(int((puzzle.grid > 0).sum()), (6, 9, 12)), **super().difficulty(puzzle)}

    def samples(self) -> list[Puzzle]:
        answer = read_grid("1234 3412 2143 4321")
        questions = [read_grid(text) for text in ("12.. 3412 2143 43.1", "1... ..12 2143 ....")]
        return [Puzzle(self.name, (q,), f"latin-sample-{n}", (answer,)) for n, q in enumerate(questions, 1)]


TASK = LatinSquare()
