"""Seeded generators of puzzles with answers, for `trm data` and for training: same seed, same puzzles."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trm.exact import shortest_path, solve_sudoku
from trm.grid import Grid, PuzzleError
from trm.tasks.base import Puzzle
from trm.tasks.maze import FREE, GOAL, LEAST, MOST, START, WALL, Field
from trm.tasks.sudoku import UNITS

TRIES = 100_000  # draws for a puzzle before a request is called impossible
GROUP = 32  # puzzles in a row from one generator of random numbers

Maker = Callable[..., Iterator[Puzzle]]


def generate(task_name: str, n: int, seed: int, start: int = 0, **options: Any) -> Iterator[Puzzle]:
    """Puzzles number start to start + n - 1 of a seed's endless row, with answers: any part can be made alone.

    Options are those of `sudoku`, `maze` and `arc` below. Raises PuzzleError at once for an unknown task or
    option, and later if no puzzle fits the options.
    """
    if task_name not in MAKERS:
        raise PuzzleError(f"unknown task {task_name!r}, expected one of {', '.join(MAKERS)}")
    make = MAKERS[task_name]
    known = list(inspect.signature(make).parameters)[1:]
    for option in options:
        if option not in known:
            raise PuzzleError(f"{task_name}: unknown option {option!r}, expected one of {', '.join(known)}")
    return _numbered(make, task_name, n, seed, start, options)


def _numbered(
    make: Maker, task_name: str, n: int, seed: int, start: int, options: dict[str, Any]
) -> Iterator[Puzzle]:
    number, end = start, start + n
    while number < end:
        group, skipped = divmod(number, GROUP)
        puzzles = make(np.random.default_rng([seed, group]), **options)
        for puzzle in islice(puzzles, skipped, min(GROUP, skipped + end - number)):
            number += 1
            yield replace(puzzle, id=f"{task_name}-{seed}-{number}")


# -- Sudoku ------------------------------------------------------------------------------------------------

_IN_UNITS = [[unit for unit in UNITS.tolist() if cell in unit] for cell in range(81)]
_UNIT_BITS = [[sum(1 << c for c in unit if c != cell) for unit in _IN_UNITS[cell]] for cell in range(81)]
_PEERS = [row | column | box for row, column, box in _UNIT_BITS]  # 81-bit sets of cells


def sudoku(
    rng: np.random.Generator,
    clues: int | tuple[int, int] = (24, 36),
    guesses: int | tuple[int, int] | None = None,
) -> Iterator[Puzzle]:
    """Sudokus with one solution. clues: how many are given. guesses: how many the exact solver needs."""
    low, high = _whole_range("clues", clues, 17, 81)
    easiest, hardest = (
        (0, sys.maxsize) if guesses is None else _whole_range("guesses", guesses, 0, sys.maxsize)
    )
    left = TRIES // 10
    while left:
        left -= 1
        solution = _full_grid(rng)
        wanted = int(rng.integers(low, high + 1))
        question = _dig(solution, wanted, rng)
        given = int(np.count_nonzero(question))
        if given > high:
            continue
        needed = solve_sudoku(question).guesses
        if easiest <= needed <= hardest:
            left = TRIES // 10
            meta: dict[str, str | int | float] = {"clues": given, "guesses": needed}
            yield Puzzle("sudoku", (question,), answers=(solution,), meta=meta)
    raise PuzzleError(f"sudoku: clues {clues} with guesses {guesses}: none in {TRIES // 10} tries")


def _full_grid(rng: np.random.Generator) -> Grid:
    grid = np.zeros((9, 9), dtype=np.uint8)
    for third in range(3):  # the boxes on the diagonal do not see each other
        box = slice(3 * third, 3 * third + 3)
        grid[box, box] = rng.permutation(9).reshape(3, 3) + 1
    return solve_sudoku(grid, most=1, rng=rng).solutions[0]


def _dig(solution: Grid, wanted: int, rng: np.random.Generator) -> Grid:
    """Blank cells in random order as long as one solution is left, until `wanted` clues remain."""
    cells = solution.reshape(-1).tolist()
    given = [0] * 10  # for each digit the set of cells that hold it as a clue
    for cell, digit in enumerate(cells):
        given[digit] |= 1 << cell
    left = 81
    for cell in rng.permutation(81).tolist():
        if left <= wanted:
            break
        given[cells[cell]] ^= 1 << cell
        if _forced(cell, cells[cell], given) or _unique(cells, given):
            left -= 1
        else:
            given[cells[cell]] ^= 1 << cell
    return _clues(cells, given)


def _forced(cell: int, digit: int, given: list[int]) -> bool:
    """Whether the other clues alone leave the cell one digit, or the digit one cell: no need to search."""
    seen = _PEERS[cell]
    if all(given[other] & seen for other in range(1, 10) if other != digit):
        return True
    barred, clues = sum(given), given[digit]
    while clues:
        lowest = clues & -clues
        barred |= _PEERS[lowest.bit_length() - 1]
        clues ^= lowest
    return any(unit & ~barred == 0 for unit in _UNIT_BITS[cell])


def _unique(cells: list[int], given: list[int]) -> bool:
    return len(solve_sudoku(_clues(cells, given), most=2).solutions) == 1


def _clues(cells: list[int], given: list[int]) -> Grid:
    shown = sum(given)
    flat = [digit if shown >> cell & 1 else 0 for cell, digit in enumerate(cells)]
    return np.array(flat, dtype=np.uint8).reshape(9, 9)


# -- mazes -------------------------------------------------------------------------------------------------

STARTS = 16  # tried in one layout of walls
LAYOUTS = 64  # drawn at a time


def maze(
    rng: np.random.Generator,
    height: int | tuple[int, int] = 30,
    width: int | tuple[int, int] | None = None,
    wall: float | tuple[float, float] = (0.28, 0.45),
    min_path: int | None = None,
    broad: float = 0.0,
) -> Iterator[Puzzle]:
    """Mazes whose cells are walls independently of each other; the label follows the benchmark's tie-break.

    wall: the chance of a wall, drawn anew for every layout from a range. min_path: the fewest moves from S to
    G; None asks for what the benchmark's 109 on 30x30 are on this area. width: None is a square. broad: the
    share of mazes that are of any kind instead (see `_broad`).
    """
    heights = _whole_range("height", height, LEAST, MOST)
    widths = heights if width is None else _whole_range("width", width, LEAST, MOST)
    walls = _pair("wall", wall, (int, float))
    if not 0 <= walls[0] <= walls[1] < 1:
        raise PuzzleError(f"wall {wall}: expected shares of the cells from 0 to below 1")
    if not 0 <= broad <= 1:
        raise PuzzleError(f"broad {broad}: expected a share from 0 to 1")
    if min_path is not None:
        _whole_range("min_path", min_path, 1, MOST * MOST)
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
        for field in _layouts(rng, h, w, walls):
            for start, goal in _ends(rng, field, h, w, moves):
                left = tries
                yield _maze_of(field.open_cells(h), start, goal)
    size = "x".join(
        f"{low}" if low == high else f"{low}…{high}" for low, high in (heights, widths or heights)
    )
    raise PuzzleError(f"maze: {size} with {min_path} moves or more and walls {walls}: none in {tries} tries")


def _layouts(rng: np.random.Generator, h: int, w: int, walls: tuple[float, float]) -> Iterator[Field]:
    """Scattered walls, LAYOUTS times."""
    shares = rng.uniform(*walls, size=(LAYOUTS, 1, 1))
    open_cells = rng.random((LAYOUTS, h, w), dtype=np.float32) >= shares
    yield from Field.many(open_cells)


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
    """A spanning tree over every second cell, grown depth first: one way between any two cells."""
    top, left = rng.integers(0, 2, size=2).tolist()
    open_cells = np.zeros((h, w), dtype=np.bool_)
    at = (top, left)
    open_cells[at] = True
    path = [at]
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
    """Walls across the area, and across the parts that they leave, each with one door."""
    open_cells = np.ones((h, w), dtype=np.bool_)
    least = int(rng.integers(2, 7))  # about the side of the smallest rooms
    parts = [(0, 0, h, w)]
    while parts:
        top, left, tall, wide = parts.pop()
        if max(tall, wide) < 2 * least + 1:
            continue
        if tall > wide:
            at = int(rng.integers(least, tall - least))
            open_cells[top + at, left : left + wide] = False
            open_cells[top + at, left + int(rng.integers(wide))] = True
            parts += [(top, left, at, wide), (top + at + 1, left, tall - at - 1, wide)]
        else:
            at = int(rng.integers(least, wide - least))
            open_cells[top : top + tall, left + at] = False
            open_cells[top + int(rng.integers(tall)), left + at] = True
            parts += [(top, left, tall, at), (top, left + at + 1, tall, wide - at - 1)]
    return open_cells


def _ends(
    rng: np.random.Generator, field: Field, h: int, w: int, moves: int
) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Pairs of S and G at least `moves` moves apart; none in most layouts.

    An S is used in proportion to the number of cells far enough to be G, so that over all layouts any maze with
    its S and G comes equally often, and long ways as often as they are. Taking one pair of every layout that has
    one would favour those in which hardly anything is far away. Not exact: a layout is given up where the longest
    way that two sweeps find is too short.
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
        far = _places(field, inside & ~_near(field, 1 << start, moves - 1))
        if rng.random() * most < len(far):
            yield divmod(start, field.stride), divmod(int(rng.choice(far)), field.stride)


def _sweep(field: Field, start: int) -> tuple[int, int, int]:
    """From a set of one cell: all cells reached, those reached last, and in how many moves."""
    reached, last, moves = start, start, 0
    bits, stride = field.bits, field.stride
    # `field.spread` written out: this is where a generator's time goes.
    while (
        wider := (reached | reached << 1 | reached >> 1 | reached << stride | reached >> stride) & bits
    ) != (reached):
        reached, last, moves = wider, wider & ~reached, moves + 1
    return reached, last, moves


def _near(field: Field, start: int, moves: int) -> int:
    for _ in range(moves):
        wider = field.spread(start)
        if wider == start:
            break
        start = wider
    return start


def _places(field: Field, cells: int) -> NDArray[np.int64]:
    """The bit numbers of a set of cells."""
    packed = np.frombuffer(cells.to_bytes((cells.bit_length() + 7) // 8 or 1, "little"), dtype=np.uint8)
    return np.flatnonzero(np.unpackbits(packed, bitorder="little"))


# -- ARC ---------------------------------------------------------------------------------------------------


def _recoloured(grid: Grid, colours: Grid) -> Grid:
    return colours[grid]


def _fallen(grid: Grid, colours: Grid) -> Grid:
    """Cells that are not background fall to the bottom of their column."""
    order = np.argsort(grid != 0, axis=0, kind="stable")
    return np.take_along_axis(grid, order, axis=0)


def _cropped(grid: Grid, colours: Grid) -> Grid:
    rows, cols = np.flatnonzero(grid.any(axis=1)), np.flatnonzero(grid.any(axis=0))
    return grid[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]


RULES: dict[str, Callable[[Grid, Grid], Grid]] = {
    "recolour": _recoloured,
    "gravity": _fallen,
    "crop": _cropped,
    "mirror": lambda grid, colours: grid[:, ::-1],
    "flip": lambda grid, colours: grid[::-1],
    "turn": lambda grid, colours: np.rot90(grid),
    "transpose": lambda grid, colours: grid.T,
    "double": lambda grid, colours: np.repeat(np.repeat(grid, 2, axis=0), 2, axis=1),
    "tile": lambda grid, colours: np.hstack([grid, grid]),
}


def arc(
    rng: np.random.Generator, rule: str | None = None, demos: int = 3, size: int | tuple[int, int] = (3, 8)
) -> Iterator[Puzzle]:
    """Synthetic ARC tasks of one simple rule (of RULES; None draws one), with `demos` pairs and one test."""
    if rule is not None and rule not in RULES:
        raise PuzzleError(f"arc: unknown rule {rule!r}, expected one of {', '.join(RULES)}")
    _whole_range("demos", demos, 1, 100)
    low, high = _whole_range("size", size, 2, MOST // 2)
    left = TRIES
    while left:
        left -= 1
        name = rule or str(rng.choice(list(RULES)))
        colours = np.arange(10, dtype=np.uint8)
        colours[1:] = rng.permutation(9) + 1
        shown = rng.choice(np.arange(1, 10, dtype=np.uint8), size=3, replace=False)
        pairs = []
        for _ in range(demos + 1):
            grid = _scattered(rng, low, high, shown)
            pairs.append((grid, np.ascontiguousarray(RULES[name](grid, colours))))
        if all(before.shape != after.shape or (before != after).any() for before, after in pairs):
            left = TRIES
            meta: dict[str, str | int | float] = {"synthetic": name}
            *train, (question, answer) = pairs
            yield Puzzle("arc", (question,), answers=(answer,), demos=tuple(train), meta=meta)
    raise PuzzleError(f"arc: rule {rule} changes nothing in grids of {size}: none in {TRIES} tries")


def _scattered(rng: np.random.Generator, low: int, high: int, colours: Grid) -> Grid:
    """A rectangle of coloured cells somewhere on a background of 0."""
    h, w = rng.integers(low, high + 1, size=2).tolist()
    grid = np.zeros((h, w), dtype=np.uint8)
    top, left = int(rng.integers(h)), int(rng.integers(w))
    tall, wide = int(rng.integers(1, h - top + 1)), int(rng.integers(1, w - left + 1))
    patch = rng.choice(colours, size=(tall, wide))
    patch[rng.random((tall, wide)) < 0.3] = 0
    patch[0, 0] = colours[0]  # never empty
    grid[top : top + tall, left : left + wide] = patch
    return grid


def _pair(name: str, value: Any, kinds: type | tuple[type, ...]) -> tuple[Any, Any]:
    """A range as its two ends; a single value is both."""
    low, high = value if isinstance(value, (tuple, list)) and len(value) == 2 else (value, value)
    if not all(isinstance(end, kinds) and not isinstance(end, bool) for end in (low, high)) or low > high:
        raise PuzzleError(f"{name} {value!r}: expected a number, or two with the smaller first")
    return low, high


def _whole_range(name: str, value: Any, least: int, most: int) -> tuple[int, int]:
    low, high = _pair(name, value, int)
    if not least <= low <= high <= most:
        raise PuzzleError(f"{name} {value}: expected whole numbers from {least} to {most}")
    return low, high


MAKERS: dict[str, Maker] = {"sudoku": sudoku, "maze": maze, "arc": arc}
