"""Mazes up to 30x30, and up to 32x32 where a closed wall, which the network need not see, surrounds them.

A grid is [H, W] of ASCII codes of `# SGo`; an answer marks a shortest path with `o`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from math import isqrt

import numpy as np

from trm.grid import Grid, GridParseError, Grids, PuzzleError, shape_words
from trm.tasks.base import Cell, Ends, Task, Tokens, bucket
from trm.tasks.maze import text as written
from trm.tasks.maze.rows import grouped, lines_of, parts, read_alike
from trm.tasks.maze.rules import (
    FREE,
    GOAL,
    LEAST,
    MOST,
    PATH,
    START,
    WALL,
    Field,
    are_joined,
    find,
    reachable,
    wall_up_paths,
)
from trm.tasks.maze.text import ANSWER
from trm.tasks.puzzle import Puzzle, Violation, place
from trm.tasks.transforms import SymmetryGroup

CELLS = {
    WALL: (Cell("", "wall"), "\x1b[90m██\x1b[0m"),
    FREE: (Cell("", "free"), "  "),
    START: (Cell("S", "start"), "\x1b[1;33mS \x1b[0m"),
    GOAL: (Cell("G", "goal"), "\x1b[1;33mG \x1b[0m"),
    PATH: (Cell("o", "path"), "\x1b[32m██\x1b[0m"),
}  # each symbol's cell, and how a terminal shows it in colour, two columns wide
OTHER, WRONG = (Cell("?", "free"), "  "), "\x1b[31m██\x1b[0m"
_PLAIN = re.compile(r"[# SG\n]*")
IN_QUESTIONS = np.isin(np.arange(256), (WALL, FREE, START, GOAL))  # by code
FLAT = "#█ .SGEsge"  # the characters of mazes in one line
SIDES = f"{LEAST}x{LEAST} to {MOST}x{MOST}, or to {MOST + 2}x{MOST + 2} with a closed outer wall"


def inner(grid: Grid) -> tuple[slice, slice]:
    """The part of a maze that a network sees: all of it, or what a closed outer wall surrounds if it is too large."""
    if max(grid.shape) > MOST:
        walls = grid == WALL
        if walls[0].all() and walls[-1].all() and walls[:, 0].all() and walls[:, -1].all():
            return slice(1, -1), slice(1, -1)
    return slice(None), slice(None)


def read_rows(lines: Sequence[str], allowed: str) -> Grid:
    """Lines of equal length, of the allowed characters, to a grid of their codes. Raises GridParseError."""
    width, joined = len(lines[0]), "".join(lines)
    if width and not joined.strip(allowed) and all(len(line) == width for line in lines):
        return np.frombuffer(bytearray(joined.encode()), dtype=np.uint8).reshape(-1, width)
    for number, line in enumerate(lines, 1):
        for column, symbol in enumerate(line, 1):
            if symbol not in allowed:
                raise GridParseError(f"row {number}, cell {column}: {symbol!r}, expected one of {allowed!r}")
        if len(line) != width:
            raise GridParseError(f"row {number}: {len(line)} cells, expected {width} as in row 1: {line!r}")
    return np.array([list(line.encode()) for line in lines], dtype=np.uint8)


def _shown(symbol: int) -> str:
    """A symbol in a message: `'#'`, or its number where it cannot be printed."""
    return repr(chr(symbol)) if 32 <= symbol < 127 else f"symbol {symbol}"


def _path_violations(question: Grid, answer: Grid) -> list[Violation]:
    """What is wrong with the marked path, in an answer that leaves everything else as it was."""
    start, goal = find(question, START), find(question, GOAL)
    marked = (answer == PATH) | (answer == START) | (answer == GOAL)
    fenced = np.pad(marked, 1).astype(int)
    # [H, W]: how many neighbours are marked
    beside = fenced[:-2, 1:-1] + fenced[2:, 1:-1] + fenced[1:-1, :-2] + fenced[1:-1, 2:]
    field = Field.of(marked)
    joined = field.connected(start)
    found = []
    if not joined & field.bit(goal):
        found.append(Violation("the marked cells do not connect S with G"))
    for cell in ((row, column) for row, column in np.argwhere(marked).tolist()):
        end, here = cell in (start, goal), place(*cell)
        surplus = int(beside[cell]) - (2 - end)
        if not joined & field.bit(cell):
            words = "" if end else f"{here} is marked, but not connected with S"
        elif surplus > 0:
            words = f"the path branches, or touches itself, at {here}"
        else:
            words = "S has no marked neighbour" if end else f"the path ends at {here}"
            words = words if surplus else ""
        if words:
            found.append(Violation(words, (cell,)))
    if not found:
        taken = int(marked.sum()) - 1
        shortest = Field.of(question != WALL).moves(start, goal)
        if taken != shortest:
            found.append(Violation(f"the path takes {taken} moves, a shortest one {shortest}"))
    return found


class Maze(Task):
    name = "maze"
    noun = "a maze"
    rules = (
        "Find a shortest path from S to G in the maze. # is a wall, a space is free. A step goes up, down, "
        "left or right to a cell that is no wall. The answer is the whole maze, line by line, with every "
        "free cell of one shortest path marked with the letter o; walls, S, G and all other cells stay."
    )
    height = width = MOST
    symbols = (WALL, FREE, START, GOAL, PATH)
    fills = {FREE: (FREE, PATH)}  # noqa: RUF012
    has_checker = True
    has_ends = True
    flat_is_certain = False
    restart_noise = 0.0  # restarts of mazes are transformed, and need no noise (LOG.md)
    # Of equally short paths the label is the one that a search trying Down, Left, Right, Up finds.
    labels_equivariant = False
    generator = "trm.tasks.maze.generator"
    solver = "trm.tasks.maze.solver"
    comparison_options = {"height": (5, 7), "min_path": 6}  # noqa: RUF012

    def parse(self, text: str) -> Puzzle:
        """A maze by lines, or a square one as a single line; in any notation that leaves a single meaning."""
        lines = lines_of(text)
        if lines == [""]:
            raise GridParseError(f"an empty maze, expected lines of {written.QUESTION!r}")
        if len(lines) == 1 and (side := self.flat_shape(lines[0])):  # no maze has one row: flat
            text = "\n".join(lines[0][i : i + side] for i in range(0, len(lines[0]), side))
            lines = text.split("\n")
        notes: tuple[str, ...]
        if self._is_plain(text) and len({len(line) for line in lines}) == 1 and len(lines[0]) <= MOST:
            grid, notes = read_rows(lines, written.QUESTION), ()  # a short cut: files hold a hundred thousand
        else:
            grid, notes = written.read(text)
        self._refuse_size(grid)
        return Puzzle(self.name, (grid,), notes=notes)

    def _is_plain(self, text: str) -> bool:
        """Whether a text is written in this project's symbols, with one S and one G."""
        return text.count("S") == text.count("G") == 1 and _PLAIN.fullmatch(text) is not None

    def is_certain(self, text: str) -> bool:
        return self._is_plain(text)

    def parse_plain(self, texts: Sequence[str], answers: Sequence[str]) -> list[Puzzle | None]:
        puzzles: list[Puzzle | None] = [None] * len(texts)
        for (height, width), places in grouped(texts).items():
            if not LEAST <= min(height, width) <= max(height, width) <= MOST:
                continue
            own = [texts[n] for n in places]
            known, grids = read_alike(own, height, width, written.QUESTION)
            known &= [text.count("S") == text.count("G") == 1 for text in own]
            labelled, labels = read_alike([answers[n] for n in places], height, width, ANSWER)
            joined = labelled.copy()
            joined[labelled] = are_joined(grids[labelled], labels[labelled])
            open_ones = known & ~joined
            left = grids[open_ones]
            known[open_ones] = reachable(left != WALL, left == START, left == GOAL)
            for number in np.flatnonzero(known).tolist():
                label = (labels[number],) if labelled[number] else None
                puzzles[places[number]] = Puzzle(self.name, (grids[number],), answers=label)
        return puzzles

    def flat_shape(self, line: str) -> int:
        """How long the rows of a maze in one line are: those of a square, or of the only closed wall; 0 if none."""
        if set(line) - set(FLAT):  # a row of some other grid
            return 0
        side = isqrt(len(line))
        if side >= LEAST and side * side == len(line):
            return side
        closed = [
            width
            for width in range(3, len(line) // 3 + 1)
            if not len(line) % width
            and set(line[:width] + line[-width:] + line[::width] + line[width - 1 :: width]) == {"#"}
        ]
        return closed[0] if len(closed) == 1 else 0

    def _refuse_size(self, grid: Grid) -> None:
        if grid.ndim != 2 or min(grid.shape) < LEAST or not self.fits(grid):
            raise GridParseError(f"maze of {shape_words(grid)}, expected {SIDES}")

    def detect(self, text: str) -> float:
        return written.share(text)

    def parts(self, blocks: Sequence[Sequence[tuple[int, str]]]) -> list[tuple[int, str]]:
        return parts(blocks)

    def with_ends(self, puzzle: Puzzle, ends: Ends) -> Puzzle:
        return replace(puzzle, inputs=(written.with_ends(puzzle.grid, ends),), notes=())

    def parse_answer(self, puzzle: Puzzle, text: str) -> Grids:
        """By lines or as a single line. Spaces lost at the ends of rows are put back; leading ones count.

        Also in the question's notation, or as a list of the path's cells.
        """
        if (listed := written.marked(text, puzzle.grid)) is not None:
            return (listed,)
        (height, width), lines = puzzle.grid.shape, lines_of(text)
        if len(lines) == 1 and len(lines[0]) > width:
            flat = lines[0].ljust(height * width)
            lines = [flat[i : i + width] for i in range(0, len(flat), width)]
        elif len(lines) < height:  # rows of spaces at the top or bottom may have become empty lines
            lines = text.replace("\r\n", "\n").split("\n")
            lines = lines[:-1] if len(lines) > height and not lines[-1] else lines
        if len(lines) != height:
            raise GridParseError(f"{len(lines)} rows, expected {height}")
        for number, line in enumerate(lines, 1):
            if len(line) > width:
                raise GridParseError(f"row {number}: {len(line)} cells, expected {width}: {line[:40]!r}")
        lines = written.translated([line.ljust(width) for line in lines], puzzle.grid)
        return (read_rows(lines, ANSWER),)

    def text(self, grids: Grids) -> str:
        return "\n".join("".join(map(chr, row)) for row in grids[0].tolist())

    def accepts_grid(self, grid: Grid) -> bool:
        return grid.ndim == 2 and bool(np.isin(grid, self.symbols).all())

    def render(self, puzzle: Puzzle, grids: Grids | None = None, colour: bool = False) -> str:
        """The maze itself; cells that break a rule as `!`, or in red."""
        question, (grid, *_) = puzzle.grid, grids or puzzle.inputs
        found = self.violations(question, grid) if grids and grid.shape == question.shape else []
        lines = [
            [CELLS.get(symbol, OTHER)[1] if colour else chr(symbol) for symbol in row]
            for row in grid.tolist()
        ]
        for row, column in (cell for violation in found for cell in violation.cells):
            lines[row][column] = WRONG if colour else "!"
        return "\n".join(map("".join, lines))

    def cells(self, grid: Grid, question: Grid | None = None) -> list[list[Cell]]:
        return [[CELLS.get(symbol, OTHER)[0] for symbol in row] for row in grid.tolist()]

    def validate(self, puzzle: Puzzle) -> None:
        grid = puzzle.grid
        if len(puzzle.inputs) != 1:
            found = " and ".join(map(shape_words, puzzle.inputs))
            raise PuzzleError(f"mazes of {found}, expected one of {SIDES}")
        self._refuse_size(grid)
        for row, column in np.argwhere(~IN_QUESTIONS[grid]).tolist():
            symbol = _shown(int(grid[row, column]))
            raise PuzzleError(f"maze: {place(row, column)} holds {symbol}, expected one of '# SG'")
        for code in (START, GOAL):
            cells = np.argwhere(grid == code).tolist()
            if len(cells) != 1:
                where = " and ".join(place(*cell) for cell in cells[:2])
                where = f": {where}" if cells else "; commands take --start and --goal ROW,COLUMN too"
                raise PuzzleError(f"maze: {len(cells)} {chr(code)}, expected exactly one{where}")
        start, goal = find(grid, START), find(grid, GOAL)
        if Field.of(grid != WALL).moves(start, goal) is None:
            raise PuzzleError(f"maze: G at {place(*goal)} cannot be reached from S at {place(*start)}")

    def violations(self, question: Grid, answer: Grid) -> list[Violation]:
        found = []
        changed = (question != answer) & ~((question == FREE) & (answer == PATH))
        for row, column in np.argwhere(changed).tolist():
            was, now = (_shown(int(grid[row, column])) for grid in (question, answer))
            found.append(Violation(f"{place(row, column)}: {was} was changed to {now}", ((row, column),)))
        return found or _path_violations(question, answer)

    def exclude_solutions(
        self, puzzle: Puzzle, known: Sequence[Grids], rng: np.random.Generator
    ) -> Puzzle | None:
        """The maze with a cell of every known path walled up, so that another path as short is left."""
        paths = [[(row, col) for row, col in np.argwhere(grids[0] == PATH).tolist()] for grids in known]
        grid = wall_up_paths(puzzle.grid, paths, rng)
        return None if grid is None else replace(puzzle, inputs=(grid,))

    # -- tokens: a wall around a maze that is too large with it is left out, and put back ------------------
    def fits(self, grid: Grid) -> bool:
        return grid.ndim == 2 and super().fits(grid[inner(grid)] if grid.size else grid)

    def encode(self, grid: Grid) -> Tokens:
        return super().encode(grid[inner(grid)] if grid.ndim == 2 and grid.size else grid)

    def encode_draft(self, puzzle: Puzzle, draft: Grid, index: int = 0) -> Tokens:
        question, part = puzzle.inputs[index], inner(puzzle.inputs[index])
        if draft.shape != question.shape:
            return super().encode_draft(puzzle, draft, index)
        return super().encode_draft(replace(puzzle, inputs=(question[part],)), draft[part])

    def decode(self, puzzle: Puzzle, tokens: Tokens, index: int = 0) -> Grid:
        question = puzzle.inputs[index]
        part = inner(question)
        seen = replace(puzzle, inputs=(question[part],))
        answer = question.copy()
        answer[part] = super().decode(seen, tokens)
        return answer

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
        answers = enumerate((read_rows(rows.split("|"), ANSWER) for rows in _SAMPLES), 1)
        grids = [
            (n, np.where(answer == PATH, FREE, answer).astype(np.uint8), answer) for n, answer in answers
        ]
        return [Puzzle(self.name, (grid,), f"maze-sample-{n}", (answer,)) for n, grid, answer in grids]


# From `generator`, with their answers, row by row.
_SAMPLES = (
    " ###ooo   | # #S#o # |##   #o   | ##  #oo #| # ## #o# |"
    " # ### o##| ## # #o##|       o  |     ooo# |  #  G#   ",
    "# #  # ### # #|          # # |#    #    oooo|##  #oooooo##o|  # oo##  ##oo|"
    " ##oo## ##ooo#|## o#   #oo## |  #o   # o## #|   ooG # o  ##| ##   #  ooS##|"
    "#  #  #   ##  |   ## # #    #|### # ## #### | #   #    ### ",
)

TASK = Maze()
