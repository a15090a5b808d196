"""The rules of mazes: what connects, how long a shortest path is, what is wrong with a marked path.

Everything here measures; nothing returns a path.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from trm.grid import Grid
from trm.tasks.puzzle import Violation, place

WALL, FREE, START, GOAL, PATH = (ord(c) for c in "# SGo")
MOST = 30  # rows and columns
LEAST = 2
WALLING_TRIES = 1000  # about 0.2 s on a 30x30 maze


def shown(symbol: int) -> str:
    """A symbol in a message: `'#'`, or its number where it cannot be printed."""
    return repr(chr(symbol)) if 32 <= symbol < 127 else f"symbol {symbol}"


class Field:
    """The open cells of a maze as the bits of an integer: a step to all four sides at once is four shifts.

    It measures how far a goal is and which cells are connected; it returns no path.
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
        """The open cells as booleans [H, W]."""
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

    def near(self, cells: int, moves: int = MOST * MOST) -> int:
        """The open cells at most so many moves from `cells`, which are open too."""
        for _ in range(moves):
            wider = self.spread(cells)
            if wider == cells:
                break
            cells = wider
        return cells

    def connected(self, start: tuple[int, int]) -> int:
        """All cells that can be reached from start."""
        return self.near(self.bit(start))


def find(grid: Grid, symbol: int) -> tuple[int, int]:
    """The (row, column) of the grid's first cell with the symbol."""
    row, column = np.argwhere(grid == symbol)[0].tolist()
    return row, column


def find_violations(question: Grid, answer: Grid) -> list[Violation]:
    """Everything that is wrong with an answer [H, W] to a question [H, W]."""
    found = []
    for row, column in np.argwhere((question != answer) & ~((question == FREE) & (answer == PATH))).tolist():
        was, now = (shown(int(grid[row, column])) for grid in (question, answer))
        found.append(Violation(f"{place(row, column)}: {was} was changed to {now}", ((row, column),)))
    return found or _path_violations(question, answer)


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


def wall_up_paths(
    maze: Grid, paths: Sequence[Sequence[tuple[int, int]]], rng: np.random.Generator
) -> Grid | None:
    """The maze [H, W] with a wall on one cell of each shortest path, so that another path as short is left.

    None if none was found. A further shortest path misses some cell of every other, so the search is complete up to
    its WALLING_TRIES tries.
    """
    walled, ends, tries = maze.copy(), (find(maze, START), find(maze, GOAL)), iter(range(WALLING_TRIES))
    shortest = Field.of(maze != WALL).moves(*ends)

    def wall_up(paths: Sequence[Sequence[tuple[int, int]]]) -> bool:
        """Close cells in place; False, and nothing closed, where that was not possible."""
        if not paths:
            return True
        for number, _ in zip(rng.permutation(len(paths[0])).tolist(), tries, strict=False):
            cell = paths[0][number]
            walled[cell] = WALL
            others = [path for path in paths[1:] if cell not in path]
            if Field.of(walled != WALL).moves(*ends) == shortest and wall_up(others):
                return True
            walled[cell] = FREE
        return False

    return walled if wall_up(paths) else None
