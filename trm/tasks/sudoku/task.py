"""Sudokus. A grid is [side, side] with 0 for a blank; an answer holds 1 to the side everywhere.

The task `sudoku` has grids of 9x9, and reads those of every size that is known: each is a puzzle of its own task.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from trm.grid import Grid, GridParseError, Grids, PuzzleError, character, shape_words
from trm.tasks.base import Cell, Task, bucket
from trm.tasks.grid_text import is_large_row, plain
from trm.tasks.puzzle import Puzzle, Violation, place
from trm.tasks.sudoku import text as written
from trm.tasks.sudoku.samples import SAMPLES
from trm.tasks.sudoku.sizes import SIZES, Size
from trm.tasks.transforms import SymmetryGroup

_NUMBERS = {4: "four", 6: "six", 9: "nine", 16: "sixteen"}


class Sudoku(Task):
    noun = "a Sudoku"
    has_checker = True
    generator = "trm.tasks.sudoku.generator"
    solver = "trm.tasks.sudoku.solver"

    def __init__(self, size: Size) -> None:
        self.size, self.name = size, size.task
        self.height = self.width = size.side
        self.symbols = tuple(range(size.side + 1))
        self.fills = {0: self.symbols[1:]}
        self.generator_arguments = (size.side,)
        if size.side == 9:
            self.comparison_options = {"clues": (22, 25), "guesses": (15, 2000)}
        else:
            self.noun, self.recipe = f"a Sudoku of {size.words}", f"configs/{size.task}.toml"
        number, letters = _NUMBERS[size.side], size.side > 9
        digits = "symbols" if letters else "digits"
        span = f"1 to 9 and A to {size.symbols[-1]}" if letters else f"1 to {size.side}"
        square = size.box_height == size.box_width
        boxes = (
            f"every {size.box_height}x{size.box_width} box"
            if square
            else f"every box of {size.box_height} rows and {size.box_width} columns"
        )
        self.rules = (
            f"Fill the blank cells (.) of the {size.words} grid with the {digits} {span}, so that every row, every "
            f"column and {boxes} holds each {digits[:-1]} exactly once. The given {digits} stay as they are. The "
            f"answer is the whole grid: {number} lines of {number} {digits}."
        )

    def parse(self, text: str) -> Puzzle:
        grid, notes = written.read(text)
        if self.size.side not in (9, len(grid)):
            raise GridParseError(f"a grid of {shape_words(grid)}, expected {self.size.words}")
        return Puzzle(self.name_for(grid), (grid,), notes=notes)

    def parse_answer(self, puzzle: Puzzle, text: str) -> Grids:
        grid = written.read_grid(text)
        if grid.shape != puzzle.grid.shape:
            raise GridParseError(f"a grid of {shape_words(grid)}, expected {shape_words(puzzle.grid)}")
        return (grid,)

    def name_for(self, grid: Grid) -> str:
        size = SIZES.get(len(grid)) if grid.ndim == 2 and len(set(grid.shape)) == 1 else None
        return size.task if size and self.size.side == 9 else self.name

    def detect(self, text: str) -> float:
        """The share of digits and blanks; frames count for nothing."""
        if self.is_certain(text):
            return 1.0
        visible = re.sub(r"[\s|+\[\](),;'\"-]", "", plain(text))
        others = "*xX?·•□◻☐" if re.search(r"[1-9]", visible) else ""
        large = len(visible) in (12**2, 15**2, 16**2, 20**2, 25**2) or all(
            map(is_large_row, text.split("\n"))
        )
        others += written.LETTERS if large else ""
        share = sum(map(visible.count, "123456789" + written.BLANKS + others)) / max(1, len(visible))
        if set(visible) <= set("0123") and "0" in visible:  # perhaps of a matrix that is a maze
            if len(visible) < 81 and visible.count("2") == visible.count("3") == 1:
                return 0.4 * share
            return (0.9 if visible.count("1") > 9 else 1) * share
        return share

    def is_certain(self, text: str) -> bool:
        if len(text) == 89 and text[9::10] == 8 * "\n" and set(text) & set("456789"):  # lines, but of no maze
            text = text.replace("\n", "")
        return len(text) == 81 and text.isascii() and not text.strip("0123456789.")

    def parse_plain(self, texts: Sequence[str], answers: Sequence[str]) -> list[Puzzle | None]:
        places, cells = written.read_plain(texts, self.size.side)
        sound = self.size.are_sound(cells)
        grids = zip(places[sound].tolist(), cells[sound].reshape(-1, self.height, self.width), strict=True)
        of_answers = zip(*written.read_plain(answers, self.size.side), strict=True)
        known = {int(n): (cells.reshape(self.height, self.width),) for n, cells in of_answers}
        puzzles: list[Puzzle | None] = [None] * len(texts)
        for number, grid in grids:
            puzzles[number] = Puzzle(self.name, (grid,), answers=known.get(number))
        return puzzles

    def in_line(self, line: str) -> tuple[str, str | None] | None:
        return written.in_line(line, self.size.side)

    def parts(self, blocks: Sequence[Sequence[tuple[int, str]]]) -> list[tuple[int, str]]:
        return written.parts(blocks)

    def text(self, grids: Grids) -> str:
        return "".join(character(symbol) if symbol else "." for symbol in grids[0].reshape(-1).tolist())

    def prompt_text(self, puzzle: Puzzle) -> str:
        return "\n".join(re.findall(f".{{{self.width}}}", self.question_text(puzzle)))

    def accepts_grid(self, grid: Grid) -> bool:
        return grid.shape == (self.height, self.width) and bool(grid.max() <= self.width)

    def render(self, puzzle: Puzzle, grids: Grids | None = None, colour: bool = False) -> str:
        """Lines with rulers between boxes. Cells that break a rule are red, or followed by `!`."""
        question, (grid, *_) = puzzle.grid, grids or puzzle.inputs
        if grid.shape != (self.height, self.width):
            return self.text((grid,))
        found = self.violations(question, grid) if grids else []
        wrong = {cell for violation in found for cell in violation.cells}

        def cell(row: int, column: int) -> str:
            symbol = character(int(grid[row, column])) if grid[row, column] else "."
            if not colour:
                return symbol + ("!" if (row, column) in wrong else " ")
            style = "1;31" if (row, column) in wrong else "1" if question[row, column] else "36"
            return f"\x1b[{style}m{symbol}\x1b[0m "

        high, wide, side = self.size.box_height, self.size.box_width, self.size.side
        lines = [
            "| ".join(
                "".join(cell(row, left + i) for i in range(wide)) for left in range(0, side, wide)
            ).rstrip()
            for row in range(side)
        ]
        ruler = "+-".join(["-" * 2 * wide] * (side // wide))[:-1]
        bands = ["\n".join(lines[top : top + high]) for top in range(0, side, high)]
        return f"\n{ruler}\n".join(bands)

    def cells(self, grid: Grid, question: Grid | None = None) -> list[list[Cell]]:
        given = grid if question is None else question
        kinds = np.where(grid == 0, "blank", np.where(given == 0, "filled", "given")).tolist()
        return [
            [Cell(character(symbol) if symbol else "", kind) for symbol, kind in zip(*row, strict=True)]
            for row in zip(grid.tolist(), kinds, strict=True)
        ]

    def validate(self, puzzle: Puzzle) -> None:
        grid, side = puzzle.grid, self.size.side
        if len(puzzle.inputs) != 1 or grid.shape != (side, side):
            found = " and ".join(map(shape_words, puzzle.inputs))
            raise PuzzleError(f"{self.name}: grid of {found}, expected one of {self.size.words}")
        if grid.dtype == np.uint8 and grid.max() <= side and self.size.are_sound(grid.reshape(1, -1)).all():
            return  # a short cut
        if (grid > side).any():
            row, column = np.argwhere(grid > side)[0].tolist()
            raise PuzzleError(
                f"{self.name}: {place(row, column)} holds {grid[row, column]}, expected 0 to {side}"
            )
        if repeated := self.size.repeated(grid):
            where = " and ".join(place(*cell) for cell in repeated[0].cells[:2])
            raise PuzzleError(f"{self.name}: the givens break a rule: {repeated[0].words} ({where})")

    def violations(self, question: Grid, answer: Grid) -> list[Violation]:
        found = []
        for cell, given in np.ndenumerate(question):
            symbol = int(answer[cell])
            if given and symbol != given:
                change = f"changed to {_shown(symbol)}" if symbol else "blanked"
                words = f"given {_shown(int(given))} at {place(*cell)} was {change}"
            elif not symbol:
                words = f"{place(*cell)} is blank"
            elif symbol > self.size.side:
                words = f"{place(*cell)} holds {symbol}, expected 1 to {self.size.symbols[-1]}"
            else:
                continue
            found.append(Violation(words, (cell,)))
        return found + self.size.repeated(answer)

    def blank_draft(self, puzzle: Puzzle) -> Grids:
        return (puzzle.grid * 0,)

    def symmetries(self, shape: tuple[int, int]) -> SymmetryGroup:
        size = self.size
        square = size.box_height == size.box_width
        return SymmetryGroup(size.row_moves, size.column_moves, transpose=square, symbols=self.symbols[1:])

    def difficulty(self, puzzle: Puzzle) -> dict[str, str]:
        edges = [round(share * puzzle.grid.size / 81) for share in (22, 25, 28, 32, 40)]
        givens = bucket(int((puzzle.grid > 0).sum()), edges)
        return {"givens": givens, **super().difficulty(puzzle)}

    def samples(self) -> list[Puzzle]:
        cells, area = "".join(SAMPLES[self.size.side].split()), self.size.side**2
        grids = [written.read_grid(cells[at : at + area]) for at in range(0, len(cells), area)]
        pairs = enumerate(zip(grids[::2], grids[1::2], strict=True), 1)
        return [
            Puzzle(self.name, (grid,), f"{self.name}-sample-{n}", (answer,)) for n, (grid, answer) in pairs
        ]


def _shown(symbol: int) -> str:
    return character(symbol) if symbol < 32 else str(symbol)


TASKS = {size.task: Sudoku(size) for size in SIZES.values()}
TASK = TASKS["sudoku"]
