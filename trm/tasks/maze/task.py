"""Mazes up to 30x30. A grid is [H, W] of ASCII codes of `# SGo`; an answer marks a shortest path with `o`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from trm.grid import Grid, GridParseError, Grids, PuzzleError, as_grids, shape_words
from trm.tasks.base import Puzzle, Status, SymmetryGroup, Task, Verdict

WALL, FREE, START, GOAL, PATH = (ord(c) for c in "# SGo")
MOST = 30  # rows and columns
LEAST = 2
WALLING_TRIES = 1000  # about .2 s on a 30x30 maze

DRAWN = {WALL: "\x1b[90m██\x1b[0m", START: "\x1b[1;33mS \x1b[0m", GOAL: "\x1b[1;33mG \x1b[0m"}
ON_PATH, WRONG = "\x1b[32m██\x1b[0m", "\x1b[31m██\x1b[0m"


@dataclass(frozen=True)
class Fault:
    """One broken rule in words, and the (row, column) cells that break it, from 0."""

    words: str
    cells: tuple[tuple[int, int], ...] = ()


def place(row: int, column: int) -> str:
    return f"row {row + 1}, column {column + 1}"


def _shown(symbol: int) -> str:
    return repr(chr(symbol)) if 32 <= symbol < 127 else f"symbol {symbol}"


class Field:
    """The open cells of a maze as one integer: a step to all four sides at once is four shifts.

    It measures how far a goal is and which cells are connected; it knows no path.
    """

    def __init__(self, bits: int, stride: int) -> None:
        self.bits, self.stride = bits, stride

    @classmethod
    def of(cls, open_cells: NDArray[np.bool_]) -> Field:  # [H, W]
        return next(cls.many(open_cells[None]))

    @classmethod
    def many(cls, open_cells: NDArray[np.bool_]) -> Iterator[Field]:  # [N, H, W]
        # One closed column to the right keeps a sideways shift from reaching the next row.
        fenced = np.pad(open_cells, ((0, 0), (0, 0), (0, 1)))
        for packed in np.packbits(fenced.reshape(len(fenced), -1), axis=1, bitorder="little"):
            yield cls(int.from_bytes(packed.tobytes(), "little"), fenced.shape[2])

    def open_cells(self, height: int) -> NDArray[np.bool_]:
        """As they were given [H, W]."""
        packed = np.frombuffer(self.bits.to_bytes(-(-height * self.stride // 8), "little"), dtype=np.uint8)
        flat = np.unpackbits(packed, count=height * self.stride, bitorder="little")
        return flat.reshape(height, self.stride)[:, :-1].astype(np.bool_)

    def bit(self, cell: tuple[int, int]) -> int:
        return 1 << (cell[0] * self.stride + cell[1])

    def spread(self, cells: int) -> int:
        """The open cells that are in `cells` or one move from them."""
        moved = cells << 1 | cells >> 1 | cells << self.stride | cells >> self.stride
        return (cells | moved) & self.bits

    def moves(self, start: tuple[int, int], goal: tuple[int, int]) -> int | None:
        """The number of moves from start to goal; None where there is no way."""
        reached, target, count = self.bit(start), self.bit(goal), 0
        while not reached & target:
            wider = self.spread(reached)
            if wider == reached:
                return None
            reached, count = wider, count + 1
        return count

    def connected(self, start: tuple[int, int]) -> int:
        """All cells that can be reached from start."""
        reached, wider = 0, self.bit(start)
        while wider != reached:
            reached, wider = wider, self.spread(wider)
        return reached


def find(grid: Grid, symbol: int) -> tuple[int, int]:
    """The first cell of grid that holds the symbol."""
    row, column = np.argwhere(grid == symbol)[0].tolist()
    return row, column


def faults_of(question: Grid, answer: Grid) -> list[Fault]:
    """Everything that is wrong with an answer [H, W] to a question [H, W]."""
    faults = []
    for row, column in np.argwhere((question != answer) & ~((question == FREE) & (answer == PATH))).tolist():
        was, now = (_shown(int(grid[row, column])) for grid in (question, answer))
        faults.append(Fault(f"{place(row, column)}: {was} was changed to {now}", ((row, column),)))
    return faults or _path_faults(question, answer)


def _path_faults(question: Grid, answer: Grid) -> list[Fault]:
    """What is wrong with the marked path, in an answer that leaves everything else as it was."""
    start, goal = find(question, START), find(question, GOAL)
    marked = (answer == PATH) | (answer == START) | (answer == GOAL)
    fenced = np.pad(marked, 1).astype(int)
    # [H, W]: how many neighbours are marked
    beside = fenced[:-2, 1:-1] + fenced[2:, 1:-1] + fenced[1:-1, :-2] + fenced[1:-1, 2:]
    field = Field.of(marked)
    joined = field.connected(start)

    faults = []
    if not joined & field.bit(goal):
        faults.append(Fault("the marked cells do not connect S with G"))
    for row, column in np.argwhere(marked).tolist():
        end = (row, column) in (start, goal)
        count = int(beside[row, column])
        if not joined & field.bit((row, column)):
            if not end:
                words = f"{place(row, column)} is marked, but not connected with S"
                faults.append(Fault(words, ((row, column),)))
        elif count > 2 - end:
            what = "branches, or touches itself, at"
            faults.append(Fault(f"the path {what} {place(row, column)}", ((row, column),)))
        elif count < 2 - end:
            what = "S has no marked neighbour" if end else f"the path ends at {place(row, column)}"
            faults.append(Fault(what, ((row, column),)))
    if not faults:
        taken = int(marked.sum()) - 1
        shortest = Field.of(question != WALL).moves(start, goal)
        if taken != shortest:
            faults.append(Fault(f"the path takes {taken} moves, a shortest one {shortest}"))
    return faults


def _wall_up(
    open_cells: NDArray[np.bool_],
    paths: Sequence[Sequence[tuple[int, int]]],
    ends: tuple[tuple[int, int], tuple[int, int]],
    shortest: int | None,
    rng: np.random.Generator,
    tries: list[int],
) -> bool:
    """Close, in place, a cell of each path so that the way stays as short; False where that was not found.

    A further shortest path misses some cell of every other one, so the search is complete up to `tries` [1], which
    it counts down.
    """
    if not paths:
        return True
    for number in rng.permutation(len(paths[0])).tolist():
        if not tries[0]:
            break
        tries[0] -= 1
        cell = paths[0][number]
        open_cells[cell] = False
        if Field.of(open_cells).moves(*ends) == shortest:
            left = [path for path in paths[1:] if cell not in path]
            if _wall_up(open_cells, left, ends, shortest, rng, tries):
                return True
        open_cells[cell] = True
    return False


def _rows(text: str) -> list[str]:
    """The lines of a grid without the empty ones around it. Cells, spaces too, are never stripped."""
    lines = text.replace("\r\n", "\n").split("\n")
    while lines and not lines[-1]:
        lines.pop()
    while lines and not lines[0]:
        lines.pop(0)
    return lines


def _codes(lines: list[str], allowed: str) -> Grid:
    """Lines of one width, of allowed symbols, to a grid."""
    width = len(lines[0])
    for number, line in enumerate(lines, 1):
        for column, symbol in enumerate(line, 1):
            if symbol not in allowed:
                raise GridParseError(f"row {number}, cell {column}: {symbol!r}, expected one of {allowed!r}")
        if len(line) != width:
            raise GridParseError(f"row {number}: {len(line)} cells, expected {width} as in row 1: {line!r}")
    return np.frombuffer("".join(lines).encode(), dtype=np.uint8).reshape(len(lines), width).copy()


class Maze(Task):
    name = "maze"
    rules = (
        "Find a shortest path from S to G in the maze. # is a wall, a space is free. A step goes up, down, "
        "left or right to a cell that is no wall. The answer is the whole maze, line by line, with every "
        "free cell of one shortest path marked with the letter o; walls, S, G and all other cells stay."
    )
    height = MOST
    width = MOST
    symbols = (WALL, FREE, START, GOAL, PATH)
    fills = {FREE: (FREE, PATH)}  # noqa: RUF012
    has_checker = True
    restart_noise = 0.0  # restarts of mazes are transformed, and need no noise (LOG.md)
    labels_equivariant = (
        False  # of equally short paths, the one that a search trying Down, Left, Right, Up finds
    )

    def parse(self, text: str) -> Puzzle:
        lines = _rows(text)
        if not lines:
            raise GridParseError("an empty maze, expected lines of '# SG'")
        side = isqrt(len(lines[0]))
        if len(lines) == 1 and side >= LEAST and side * side == len(lines[0]):  # no maze has one row: flat
            lines = [lines[0][i : i + side] for i in range(0, side * side, side)]
        grid = _codes(lines, "# SG")
        if not all(LEAST <= n <= MOST for n in grid.shape):
            raise GridParseError(f"maze of {shape_words(grid)}, expected {LEAST}x{LEAST} to {MOST}x{MOST}")
        return Puzzle(self.name, (grid,))

    def parse_answer(self, puzzle: Puzzle, text: str) -> Grids:
        """As `text` writes it or flat. Spaces lost at the ends of rows are put back; leading ones count."""
        height, width = puzzle.grid.shape
        lines = _rows(text)
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
        return (_codes([line.ljust(width) for line in lines], "# SGo"),)

    def question_text(self, puzzle: Puzzle) -> str:
        return self.text(puzzle.inputs)

    def text(self, grids: Grids) -> str:
        return "\n".join("".join(map(chr, row)) for row in grids[0].tolist())

    def render(self, puzzle: Puzzle, grids: Grids | None = None, colour: bool = False) -> str:
        """The maze itself, cells that break a rule as `!`; in colour cells are two columns wide."""
        question, grid = puzzle.grid, (grids or puzzle.inputs)[0]
        wrong: set[tuple[int, int]] = set()
        if grids and grid.shape == question.shape:
            wrong = {cell for fault in faults_of(question, grid) for cell in fault.cells}

        def cell(row: int, column: int, symbol: int) -> str:
            if (row, column) in wrong:
                return WRONG if colour else "!"
            if colour:
                return ON_PATH if symbol == PATH else DRAWN.get(symbol, "  ")
            return chr(symbol)

        rows = (enumerate(row) for row in grid.tolist())
        return "\n".join("".join(cell(r, c, symbol) for c, symbol in row) for r, row in enumerate(rows))

    def validate(self, puzzle: Puzzle) -> None:
        grid = puzzle.grid
        if len(puzzle.inputs) != 1 or grid.ndim != 2 or not all(LEAST <= n <= MOST for n in grid.shape):
            found = " and ".join(shape_words(g) for g in puzzle.inputs)
            raise PuzzleError(f"maze of {found}, expected one of {LEAST}x{LEAST} to {MOST}x{MOST}")
        strange = ~np.isin(grid, (WALL, FREE, START, GOAL))
        if strange.any():
            row, column = np.argwhere(strange)[0].tolist()
            symbol = _shown(int(grid[row, column]))
            raise PuzzleError(f"maze: {place(row, column)} holds {symbol}, expected one of '# SG'")
        for code in (START, GOAL):
            cells = np.argwhere(grid == code).tolist()
            if len(cells) != 1:
                where = ": " + " and ".join(place(*cell) for cell in cells[:2]) if cells else ""
                raise PuzzleError(f"maze: {len(cells)} {chr(code)}, expected exactly one{where}")
        start, goal = find(grid, START), find(grid, GOAL)
        if Field.of(grid != WALL).moves(start, goal) is None:
            raise PuzzleError(f"maze: G at {place(*goal)} cannot be reached from S at {place(*start)}")

    def check(self, puzzle: Puzzle, answer: Grid | Grids) -> Verdict:
        grids = as_grids(answer)
        if len(grids) != 1:
            return Verdict(Status.UNSOLVED, (f"{len(grids)} grids, expected 1",))
        if grids[0].shape != puzzle.grid.shape:
            words = f"grid of {shape_words(grids[0])}, expected {shape_words(puzzle.grid)}"
            return Verdict(Status.UNSOLVED, (words,))
        faults = faults_of(puzzle.grid, grids[0])
        return Verdict(Status.UNSOLVED if faults else Status.VERIFIED, tuple(f.words for f in faults))

    def exclude_solutions(
        self, puzzle: Puzzle, known: Sequence[Grids], rng: np.random.Generator
    ) -> Puzzle | None:
        """The maze with a cell of every known path walled up, so that a path as short is left."""
        open_cells = puzzle.grid != WALL
        ends = find(puzzle.grid, START), find(puzzle.grid, GOAL)
        paths = [[(row, col) for row, col in np.argwhere(grids[0] == PATH).tolist()] for grids in known]
        if not _wall_up(open_cells, paths, ends, Field.of(open_cells).moves(*ends), rng, [WALLING_TRIES]):
            return None
        return replace(puzzle, inputs=(np.where(open_cells, puzzle.grid, WALL).astype(np.uint8),))

    def symmetries(self, shape: tuple[int, int]) -> SymmetryGroup:
        h, w = np.arange(shape[0]), np.arange(shape[1])
        return SymmetryGroup(np.stack([h, h[::-1]]), np.stack([w, w[::-1]]), transpose=True)

    def samples(self) -> list[Puzzle]:
        samples = []
        for number, rows in enumerate(_SAMPLES, 1):
            answer = _codes(list(rows), "# SGo")
            question = np.where(answer == PATH, FREE, answer).astype(np.uint8)
            samples.append(Puzzle(self.name, (question,), id=f"maze-sample-{number}", answers=(answer,)))
        return samples


# From `trm.data.generate`, with their answers.
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
