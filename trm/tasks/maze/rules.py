"""Mazes as sets of cells: what connects, and how long a shortest path is. Nothing here returns a path."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from trm.grid import Grid

WALL, FREE, START, GOAL, PATH = (ord(c) for c in "# SGo")
MOST = 30  # rows and columns
LEAST = 2
_SHIFTS = np.array((1, 2, 4, 8, 16), dtype=np.uint32)
WALLING_TRIES = 1000  # about 0.2 s on a 30x30 maze


class Field:
    """The open cells of a maze as the bits of an integer: a step to all four sides at once is four shifts."""

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


def reachable(
    open_cells: NDArray[np.bool_], starts: NDArray[np.bool_], goals: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """In which of many mazes, all three [N, H, W] with W up to 32, open cells connect the start with the goal [N].

    Each row is the bits of a number. Cells are reached by sweeps over the rows, down and up, in all mazes at once.
    """
    cells, reached, targets = map(_row_bits, (open_cells, starts, goals))  # [H, N]
    runs = _runs(cells)
    connected = np.zeros(len(open_cells), dtype=np.bool_)
    left = np.arange(len(open_cells))  # the mazes that are not decided
    while left.size:
        before = reached.copy()
        for rows in (range(len(cells)), reversed(range(len(cells)))):
            beside = reached[0] * 0
            for row in rows:
                beside = reached[row] = _along(reached[row] | beside & cells[row], runs[:, row])
        done = (reached & targets).any(axis=0)
        connected[left[done]] = True
        more = ~done & (reached != before).any(axis=0)
        left, runs = left[more], runs[:, :, more]
        cells, reached, targets = cells[:, more], reached[:, more], targets[:, more]
    return connected


def are_joined(questions: NDArray[np.uint8], answers: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """In which of many mazes, both [N, H, W] with one start and one goal, the answer's path proves that they connect.

    A path's ends have one marked neighbour each and its other cells two. This is told faster than by a search.
    """
    # A row and a column of no cells behind each maze: neighbours are as far apart everywhere in a flat array.
    cells = np.pad(answers, ((0, 0), (0, 1), (0, 1)))
    path, stride = (cells == PATH).reshape(-1), cells.shape[2]
    marked = (path | ((cells == START) | (cells == GOAL)).reshape(-1)).view(np.uint8)
    beside = np.zeros_like(marked)
    for distance in (1, stride):
        beside[distance:] += marked[:-distance]
        beside[:-distance] += marked[distance:]
    wrong = marked & (beside != 1 + path.view(np.uint8))
    changed = np.where(answers == PATH, FREE, answers) != questions
    return np.asarray(~(wrong.reshape(cells.shape).any(axis=(1, 2)) | changed.any(axis=(1, 2))))


def _row_bits(cells: NDArray[np.bool_]) -> NDArray[np.uint32]:
    """The rows [H, N] of many mazes [N, H, W] as numbers: the cell of column 0 is the lowest bit."""
    padded = np.pad(cells, ((0, 0), (0, 0), (0, 32 - cells.shape[2])))
    bits = np.packbits(padded, axis=2, bitorder="little").view("<u4")[:, :, 0]
    return np.ascontiguousarray(bits.T, dtype=np.uint32)


def _runs(cells: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The open cells that 0, 1, 3, 7 and 15 open cells follow [5, H, N], of rows [H, N]."""
    runs = [cells]
    for shift in _SHIFTS[:-1]:
        runs.append(runs[-1] & (runs[-1] >> shift))
    return np.stack(runs)


def _along(reached: NDArray[np.uint32], runs: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """What can be reached in rows [N] from the cells that are reached. runs [5, N]: of `_runs`."""
    # A sum carries to the end of each run of open cells.
    reached = reached | (runs[0] & ~(runs[0] + reached))
    for shift, run in zip(_SHIFTS, runs, strict=True):
        reached = reached | (run & (reached >> shift))
    return reached


def find(grid: Grid, symbol: int) -> tuple[int, int]:
    """The (row, column) of the grid's first cell with the symbol."""
    row, column = np.argwhere(grid == symbol)[0].tolist()
    return row, column


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
