"""Sudokus with one solution."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import numpy as np

from trm.exact import solve_sudoku
from trm.generate.ranges import TRIES, whole_range
from trm.grid import Grid, PuzzleError
from trm.tasks.base import Puzzle
from trm.tasks.sudoku import UNITS

_IN_UNITS = [[unit for unit in UNITS.tolist() if cell in unit] for cell in range(81)]
_UNIT_BITS = [[sum(1 << c for c in unit if c != cell) for unit in _IN_UNITS[cell]] for cell in range(81)]
_PEERS = [row | column | box for row, column, box in _UNIT_BITS]  # 81-bit sets of cells


def sudoku(
    rng: np.random.Generator,
    clues: int | tuple[int, int] = (24, 36),
    guesses: int | tuple[int, int] | None = None,
) -> Iterator[Puzzle]:
    """Sudokus with one solution. clues: how many are given. guesses: how many the exact solver needs."""
    low, high = whole_range("clues", clues, 17, 81)
    easiest, hardest = (
        (0, sys.maxsize) if guesses is None else whole_range("guesses", guesses, 0, sys.maxsize)
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
