"""Mazes up to 30x30. A grid is [H, W] of ASCII codes of `# SGo`; an answer marks a shortest path with `o`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from trm.grid import Grid, Grids, PuzzleError, shape_words
from trm.tasks.base import Cell, Puzzle, SymmetryGroup, Task, Violation, bucket
from trm.tasks.maze import drawing
from trm.tasks.maze.rules import (
    FREE,
    GOAL,
    LEAST,
    MOST,
    PATH,
    START,
    WALL,
    Field,
    find,
    find_violations,
    shown,
    wall_up_paths,
)
from trm.tasks.maze.text import ANSWER, read_answer, read_question, read_rows, write_grid
from trm.tasks.puzzle import place


class Maze(Task):
    name = "maze"
    rules = (
        "Find a shortest path from S to G in the maze. # is a wall, a space is free. A step goes up, down, "
        "left or right to a cell that is no wall. The answer is the whole maze, line by line, with every "
        "free cell of one shortest path marked with the letter o; walls, S, G and all other cells stay."
    )
    characters = "#SG"
    height = MOST
    width = MOST
    symbols = (WALL, FREE, START, GOAL, PATH)
    fills = {FREE: (FREE, PATH)}  # noqa: RUF012
    has_checker = True
    restart_noise = 0.0  # restarts of mazes are transformed, and need no noise (LOG.md)
    # Of equally short paths the label is the one that a search trying Down, Left, Right, Up finds.
    labels_equivariant = False
    generator = "trm.tasks.maze.generator"
    solver = "trm.tasks.maze.solver"
    comparison_options = {"height": (5, 7), "min_path": 6}  # noqa: RUF012

    def parse(self, text: str) -> Puzzle:
        return Puzzle(self.name, (read_question(text),))

    def parse_answer(self, puzzle: Puzzle, text: str) -> Grids:
        return (read_answer(text, puzzle.grid.shape),)

    def text(self, grids: Grids) -> str:
        return write_grid(grids[0])

    def accepts_grid(self, grid: Grid) -> bool:
        return grid.ndim == 2 and bool(np.isin(grid, self.symbols).all())

    def render(self, puzzle: Puzzle, grids: Grids | None = None, colour: bool = False) -> str:
        return drawing.render(puzzle.grid, grids[0] if grids else None, colour)

    def cells(self, grid: Grid, question: Grid | None = None) -> list[list[Cell]]:
        return drawing.cells(grid)

    def validate(self, puzzle: Puzzle) -> None:
        grid = puzzle.grid
        if len(puzzle.inputs) != 1 or grid.ndim != 2 or not all(LEAST <= n <= MOST for n in grid.shape):
            found = " and ".join(shape_words(g) for g in puzzle.inputs)
            raise PuzzleError(f"maze of {found}, expected one of {LEAST}x{LEAST} to {MOST}x{MOST}")
        unknown = np.argwhere(~np.isin(grid, (WALL, FREE, START, GOAL))).tolist()
        if unknown:
            row, column = unknown[0]
            symbol = shown(int(grid[row, column]))
            raise PuzzleError(f"maze: {place(row, column)} holds {symbol}, expected one of '# SG'")
        for code in (START, GOAL):
            cells = np.argwhere(grid == code).tolist()
            if len(cells) != 1:
                where = ": " + " and ".join(place(*cell) for cell in cells[:2]) if cells else ""
                raise PuzzleError(f"maze: {len(cells)} {chr(code)}, expected exactly one{where}")
        start, goal = find(grid, START), find(grid, GOAL)
        if Field.of(grid != WALL).moves(start, goal) is None:
            raise PuzzleError(f"maze: G at {place(*goal)} cannot be reached from S at {place(*start)}")

    def violations(self, question: Grid, answer: Grid) -> list[Violation]:
        return find_violations(question, answer)

    def exclude_solutions(
        self, puzzle: Puzzle, known: Sequence[Grids], rng: np.random.Generator
    ) -> Puzzle | None:
        """The maze with a cell of every known path walled up, so that another path as short is left."""
        paths = [[(row, col) for row, col in np.argwhere(grids[0] == PATH).tolist()] for grids in known]
        ends = find(puzzle.grid, START), find(puzzle.grid, GOAL)
        open_cells = wall_up_paths(puzzle.grid != WALL, paths, ends, rng)
        if open_cells is None:
            return None
        return replace(puzzle, inputs=(np.where(open_cells, puzzle.grid, WALL).astype(np.uint8),))

    def symmetries(self, shape: tuple[int, int]) -> SymmetryGroup:
        h, w = np.arange(shape[0]), np.arange(shape[1])
        return SymmetryGroup(np.stack([h, h[::-1]]), np.stack([w, w[::-1]]), transpose=True)

    def difficulty(self, puzzle: Puzzle) -> dict[str, str]:
        """By the number of moves of the label's path."""
        if puzzle.answers is None:
            return super().difficulty(puzzle)
        moves = int((puzzle.answers[0] != puzzle.grid).sum()) + 1
        return {"path": bucket(moves, (10, 20, 50, 110, 130)), **super().difficulty(puzzle)}

    def samples(self) -> list[Puzzle]:
        samples = []
        for number, rows in enumerate(_SAMPLES, 1):
            answer = read_rows(list(rows), ANSWER)
            question = np.where(answer == PATH, FREE, answer).astype(np.uint8)
            samples.append(Puzzle(self.name, (question,), id=f"maze-sample-{number}", answers=(answer,)))
        return samples


# From `generator`, with their answers.
_SAMPLES = (
    (
        " ###ooo   ",
        " # #S#o # ",
        "##   #o   ",
        " ##  #oo #",
        " # ## #o# ",
        " # ### o##",
        " ## # #o##",
        "       o  ",
        "     ooo# ",
        "  #  G#   ",
    ),
    (
        "# #  # ### # #",
        "          # # ",
        "#    #    oooo",
        "##  #oooooo##o",
        "  # oo##  ##oo",
        " ##oo## ##ooo#",
        "## o#   #oo## ",
        "  #o   # o## #",
        "   ooG # o  ##",
        " ##   #  ooS##",
        "#  #  #   ##  ",
        "   ## # #    #",
        "### # ## #### ",
        " #   #    ### ",
    ),
)

TASK = Maze()
