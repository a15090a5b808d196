"""Seeded generators of puzzles with answers, for `trm data` and for training: same seed, same puzzles."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trm.exact import shortest_path, solve_sudoku
from trm.grid import Grid, PuzzleError
from trm.tasks.base import Puzzle
from trm.tasks.maze import FREE, GOAL, LEAST, MOST, START, WALL, Field
from trm.tasks.sudoku import UNITS

Range = tuple[float, float]
TRIES = 100_000  # draws a puzzle before a request is called impossible


def generate(task_name: str, n: int, seed: int | np.random.Generator, **options: Any) -> Iterator[Puzzle]:
    """n puzzles of a task, with answers. Options are those of `sudoku`, `maze` and `arc` below.

    Raises PuzzleError at once for an unknown task or option, and later if no puzzle fits the options.
    """
    if task_name not in MAKERS:
        raise PuzzleError(f"unknown task {task_name!r}, expected one of {', '.join(MAKERS)}")
    make = MAKERS[task_name]
    known = list(inspect.signature(make).parameters)[1:]
    for option in options:
        if option not in known:
            raise PuzzleError(f"{task_name}: unknown option {option!r}, expected one of {', '.join(known)}")
    rng = np.random.default_rng(seed)
    label = f"{task_name}-{seed}" if isinstance(seed, int) else task_name
    return (replace(make(rng, **options), id=f"{label}-{i}") for i in range(1, n + 1))


# -- Sudoku ------------------------------------------------------------------------------------------------

_IN_UNITS = [[unit for unit in UNITS.tolist() if cell in unit] for cell in range(81)]
_UNIT_BITS = [
    [sum(1 << c for c in unit if c != cell) for unit in units] for cell, units in enumerate(_IN_UNITS)
]
_PEERS = [row | column | box for row, column, box in _UNIT_BITS]  # 81-bit sets of cells


def sudoku(
    rng: np.random.Generator,
    clues: int | tuple[int, int] = (24, 36),
    guesses: tuple[int, int] | None = None,
) -> Puzzle:
    """A Sudoku with one solution. clues: how many are given. guesses: how many the exact solver needs."""
    low, high = _whole_range("clues", clues, 17, 81)
    for _ in range(TRIES):
        solution = _full_grid(rng)
        wanted = int(rng.integers(low, high + 1))
        question = _dig(solution, wanted, rng)
        given = int(np.count_nonzero(question))
        if given > high:
            continue
        needed = solve_sudoku(question).guesses
        if guesses is None or guesses[0] <= needed <= guesses[1]:
            return Puzzle(
                "sudoku", (question,), answers=(solution,), meta={"clues": given, "guesses": needed}
            )
    raise PuzzleError(f"sudoku: clues {clues} with guesses {guesses}: none in {TRIES} tries")


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


def maze(
    rng: np.random.Generator,
    height: int | tuple[int, int] = 30,
    width: int | tuple[int, int] | None = None,
    wall: float | Range = (0.3, 0.5),
    min_path: int | None = None,
) -> Puzzle:
    """A maze whose cells are walls independently of each other; the label follows the benchmark's tie-break.

    wall: the chance of a wall, drawn anew for every maze from a range. min_path: the fewest moves from S to G;
    None asks for what the benchmark's 109 on 30x30 are on this area. width: None is a square.
    """
    h_low, h_high = _whole_range("height", height, LEAST, MOST)
    w_low, w_high = _whole_range("width", width, LEAST, MOST) if width is not None else (0, 0)
    wall_low, wall_high = wall if isinstance(wall, tuple) else (wall, wall)
    for _ in range(TRIES):
        h = int(rng.integers(h_low, h_high + 1))
        w = int(rng.integers(w_low, w_high + 1)) if width is not None else h
        moves = max(1, 109 * h * w // 900) if min_path is None else min_path
        grid = np.where(rng.random((h, w)) < rng.uniform(wall_low, wall_high), WALL, FREE).astype(np.uint8)
        start = (int(rng.integers(h)), int(rng.integers(w)))
        grid[start] = START
        far = _far_cells(grid, start, moves)
        # In proportion to the number of goals to choose from: every maze with S and G is then as likely as
        # any other, which taking the first that has a goal would not give.
        if rng.random() * h * w * FAR_SHARE >= len(far):
            continue
        grid[divmod(far[int(rng.integers(len(far)))], w)] = GOAL
        label = shortest_path(grid)
        assert label is not None
        length = int((label != grid).sum()) + 1
        return Puzzle("maze", (grid,), answers=(label,), meta={"moves": length})
    raise PuzzleError(f"maze: {min_path} moves or more in {height}x{width or height}: none in {TRIES} tries")


FAR_SHARE = 1.0


def _far_cells(grid: Grid, start: tuple[int, int], moves: int) -> list[int]:
    """Flat numbers of the cells that are at least `moves` moves from start, and can be reached."""
    field = Field(grid != WALL)
    near = field.bit(start)
    for _ in range(moves - 1):
        wider = field.spread(near)
        if wider == near:
            return []
        near = wider
    far, found = field.connected(start) & ~near, []
    while far:
        lowest = far & -far
        row, column = divmod(lowest.bit_length() - 1, field.stride)
        found.append(row * grid.shape[1] + column)
        far ^= lowest
    return found


def _whole_range(name: str, value: int | tuple[int, int], least: int, most: int) -> tuple[int, int]:
    low, high = (value, value) if isinstance(value, int) else value
    if not least <= low <= high <= most:
        raise PuzzleError(f"{name} {value}: expected whole numbers from {least} to {most}, the smaller first")
    return low, high


MAKERS: dict[str, Callable[..., Puzzle]] = {"sudoku": sudoku, "maze": maze}
