"""Mazes like those of Maze-Hard, and of every other kind."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from trm.grid import PuzzleError
from trm.tasks.maze.rules import FREE, GOAL, LEAST, MOST, START, WALL, Field
from trm.tasks.maze.solver import shortest_path
from trm.tasks.puzzle import Puzzle
from trm.tasks.ranges import TRIES, number_range, whole_range

STARTS = 16  # tried in one layout of walls
LAYOUTS = 64  # drawn at a time


def generate(
    rng: np.random.Generator,
    height: int | tuple[int, int] = 30,
    width: int | tuple[int, int] | None = None,
    wall: float | tuple[float, float] = (0.28, 0.45),
    min_path: int | None = None,
    broad: float = 0.0,
) -> Iterator[Puzzle]:
    """Mazes, without end, whose cells are walls independently of each other; labels follow the benchmark's tie-break.

    height, width: of the maze; width None makes it square. wall: the probability of a wall, drawn for every layout.
    min_path: the fewest moves from S to G; None scales the benchmark's 109 moves on 30x30 to the maze's area.
    broad: the share of mazes that are of any size and kind instead (see `_broad`).
    Raises PuzzleError for options that ask for what does not exist.
    """
    heights = whole_range("height", height, LEAST, MOST)
    widths = heights if width is None else whole_range("width", width, LEAST, MOST)
    walls = number_range("wall", wall)
    if not 0 <= walls[0] <= walls[1] < 1:
        raise PuzzleError(f"wall {wall}: expected shares of the cells from 0 to below 1")
    if not 0 <= broad <= 1:
        raise PuzzleError(f"broad {broad}: expected a share from 0 to 1")
    if broad == 1 and (height, width, wall, min_path) != (30, None, (0.28, 0.45), None):
        raise PuzzleError("broad 1: mazes of any size and kind, expected no height, width, wall or min_path")
    if min_path is not None:
        whole_range("min_path", min_path, 1, MOST * MOST)
    scattered = _scattered_mazes(rng, heights, None if width is None else widths, walls, min_path)
    while True:
        yield _broad(rng) if broad and rng.random() < broad else next(scattered)


def _scattered_mazes(
    rng: np.random.Generator,
    heights: tuple[int, int],
    widths: tuple[int, int] | None,
    walls: tuple[float, float],
    min_path: int | None,
) -> Iterator[Puzzle]:
    most = heights[1] * (widths or heights)[1]
    tries = TRIES if min_path is None or min_path < most else 0
    left = tries
    while left > 0:
        left -= LAYOUTS
        h = int(rng.integers(heights[0], heights[1] + 1))
        w = h if widths is None else int(rng.integers(widths[0], widths[1] + 1))
        moves = max(1, 109 * h * w // 900 if min_path is None else min_path)
        shares = rng.uniform(*walls, size=(LAYOUTS, 1, 1))
        layouts = rng.random((LAYOUTS, h, w), dtype=np.float32) >= shares
        for open_cells, field in zip(layouts, Field.many(layouts), strict=True):
            for start, goal in _ends(rng, field, h, w, moves):
                left = tries
                yield _maze_of(open_cells, start, goal)
    sides = (heights, widths or heights)
    size = "x".join(f"{low}" if low == high else f"{low}…{high}" for low, high in sides)
    raise PuzzleError(f"maze: {size} with {min_path} moves or more and walls {walls}: none in {tries} tries")


def _maze_of(open_cells: NDArray[np.bool_], start: tuple[int, int], goal: tuple[int, int]) -> Puzzle:
    grid = np.where(open_cells, FREE, WALL).astype(np.uint8)
    grid[start], grid[goal] = START, GOAL
    label = shortest_path(grid)
    assert label is not None
    return Puzzle("maze", (grid,), answers=(label,), meta={"moves": int((label != grid).sum()) + 1})


def _broad(rng: np.random.Generator) -> Puzzle:
    """A maze of any size from 5 on and of any kind: scattered walls from none to half, corridors without or with
    a few loops, rooms with doors. S and G are any two connected cells."""
    h, w = rng.integers(5, MOST + 1, size=2).tolist()
    kind = rng.integers(4)
    while True:
        if kind < 2:
            open_cells = rng.random((h, w)) >= rng.uniform(0, 0.5)
        elif kind == 2:
            open_cells = _corridors(rng, h, w) | (rng.random((h, w)) < rng.choice([0, rng.uniform(0, 0.2)]))
        else:
            open_cells = _rooms(rng, h, w)
        if not open_cells.any():
            continue
        field = Field.of(open_cells)
        start = tuple(rng.choice(np.argwhere(open_cells)).tolist())
        others = _places(field, field.connected(start) & ~field.bit(start))
        if len(others):
            return _maze_of(open_cells, start, divmod(int(rng.choice(others)), field.stride))


def _corridors(rng: np.random.Generator, h: int, w: int) -> NDArray[np.bool_]:
    """A spanning tree over every second cell, grown depth first: a single path between any two cells."""
    top, left = rng.integers(0, 2, size=2).tolist()
    open_cells = np.zeros((h, w), dtype=np.bool_)
    open_cells[top, left] = True
    path = [(top, left)]
    while path:
        row, col = path[-1]
        ways = [(row + r, col + c) for r, c in ((2, 0), (-2, 0), (0, 2), (0, -2))]
        ways = [(r, c) for r, c in ways if 0 <= r < h and 0 <= c < w and not open_cells[r, c]]
        if not ways:
            path.pop()
            continue
        r, c = ways[rng.integers(len(ways))]
        open_cells[r, c] = open_cells[(row + r) // 2, (col + c) // 2] = True
        path.append((r, c))
    return open_cells


def _rooms(rng: np.random.Generator, h: int, w: int) -> NDArray[np.bool_]:
    """Walls, each with a door, that divide the area, and then the parts, into rooms."""
    open_cells = np.ones((h, w), dtype=np.bool_)
    least = int(rng.integers(2, 7))  # about the side of the smallest rooms
    parts = [(0, 0, h, w)]
    while parts:
        top, left, tall, wide = parts.pop()
        if max(tall, wide) < 2 * least + 1:
            continue
        across = tall > wide  # a wall from side to side, else from top to bottom
        at = int(rng.integers(least, max(tall, wide) - least))
        wall = open_cells[top : top + tall, left : left + wide]
        wall = wall[at] if across else wall[:, at]
        wall[:] = False
        wall[int(rng.integers(len(wall)))] = True
        if across:
            parts += [(top, left, at, wide), (top + at + 1, left, tall - at - 1, wide)]
        else:
            parts += [(top, left, tall, at), (top, left + at + 1, tall, wide - at - 1)]
    return open_cells


def _ends(
    rng: np.random.Generator, field: Field, h: int, w: int, moves: int
) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Pairs of S and G at least `moves` moves apart; none in most layouts.

    A start is accepted with a probability in proportion to the number of cells far enough away to be G, so that over
    all layouts every maze with its S and G is equally probable. A single pair from every layout that has any would
    favour layouts in which hardly any cell is far away. This is not exact: a layout is skipped if the longest of the
    paths that two sweeps see is too short.
    """
    if not field.bits:
        return
    first = 0
    while not first:
        first = field.bits & 1 << int(rng.integers(h * field.stride))
    inside, edge, steps = _sweep(field, first)
    if 2 * steps < moves or _sweep(field, edge & -edge)[2] < moves:
        return
    most = max(1 / 6, 0.7 - moves / (h * w) ** 0.5 / 6) * h * w  # hardly ever are more cells so far away
    for start in rng.permutation(_places(field, inside))[:STARTS].tolist():
        far = _places(field, inside & ~field.near(1 << start, moves - 1))
        if rng.random() * most < len(far):
            yield divmod(start, field.stride), divmod(int(rng.choice(far)), field.stride)


def _sweep(field: Field, start: int) -> tuple[int, int, int]:
    """From a single cell, as a bit: all cells reached, those reached last, and in how many moves."""
    reached, last, moves = start, start, 0
    bits, stride = field.bits, field.stride
    # `field.spread` written out: most of a generator's time is spent here.
    while True:
        wider = (reached | reached << 1 | reached >> 1 | reached << stride | reached >> stride) & bits
        if wider == reached:
            return reached, last, moves
        reached, last, moves = wider, wider & ~reached, moves + 1


def _places(field: Field, cells: int) -> NDArray[np.int64]:
    """The bit numbers of a set of cells."""
    packed = np.frombuffer(cells.to_bytes((cells.bit_length() + 7) // 8 or 1, "little"), dtype=np.uint8)
    return np.flatnonzero(np.unpackbits(packed, bitorder="little"))
