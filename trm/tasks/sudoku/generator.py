"""Sudokus with one solution."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import numpy as np

from trm.grid import Grid, PuzzleError
from trm.tasks.puzzle import Puzzle
from trm.tasks.ranges import TRIES, whole_range
from trm.tasks.sudoku.solver import solve_sudoku
from trm.tasks.sudoku.task import UNITS

_IN_UNITS = [[unit for unit in UNITS.tolist() if cell in unit] for cell in range(81)]
_UNIT_BITS = [[sum(1 << c for c in unit if c != cell) for unit in _IN_UNITS[cell]] for cell in range(81)]
_PEERS = [row | column | box for row, column, box in _UNIT_BITS]  # 81-bit sets of cells


def generate(
    rng: np.random.Generator,
    clues: int | tuple[int, int] | None = None,
    guesses: int | tuple[int, int] | None = None,
    like: Sequence[Puzzle] = (),
    swaps: int | tuple[int, int] | None = None,
    drift: bool = False,
) -> Iterator[Puzzle]:
    """Sudokus with exactly one solution, without end. Raises PuzzleError if the options ask for what does not exist.

    clues: how many cells are given (24 to 36; 17 to 81 with `like`). guesses: how many the exact solver needs.
    like: puzzles with answers to stay near. Each new puzzle has the solution of one of them, and its clues but for
    `swaps` (1 to 3) that are replaced by as few others as possible; 0 leaves it as it is.
    drift: what is left of the clues gets another solution, so that solutions do not repeat either.
    """
    unlimited = (0, sys.maxsize)
    easiest, hardest = whole_range("guesses", unlimited if guesses is None else guesses, *unlimited)
    usual = (17, 81) if like else (24, 36)
    fewest, most = whole_range("clues", usual if clues is None else clues, 17, 81)
    if not isinstance(drift, bool):
        raise PuzzleError(f"drift {drift}: expected true or false")
    if not like and (swaps is not None or drift):
        raise PuzzleError("swaps, drift: expected like, the puzzles whose clues to swap")
    fewest_swaps, most_swaps = whole_range("swaps", (1, 3) if swaps is None else swaps, 0, 17)
    tries = TRIES // 50 if like else TRIES // 10  # each of the first kind takes many searches
    left = tries
    while left:
        left -= 1
        if like:
            model = like[int(rng.integers(len(like)))]
            count = int(rng.integers(fewest_swaps, most_swaps + 1))
            question, solution = _swapped(model.grid, (model.answers or ())[0], count, drift, rng)
        else:
            solution = _full_grid(rng)
            question = _dig(solution, int(rng.integers(fewest, most + 1)), rng)
        given = int(np.count_nonzero(question))
        if not fewest <= given <= most:
            continue
        search = solve_sudoku(question)
        if len(search.solutions) == 1 and easiest <= search.guesses <= hardest:
            left = tries
            meta: dict[str, str | int | float] = {"clues": given, "guesses": search.guesses}
            yield Puzzle("sudoku", (question,), answers=(solution,), meta=meta)
    near = " like the given ones" if like else ""
    raise PuzzleError(f"sudoku: clues {fewest} to {most} with guesses {guesses}{near}: none in {tries} tries")


def _swapped(
    question: Grid, solution: Grid, count: int, drift: bool, rng: np.random.Generator
) -> tuple[Grid, Grid]:
    """Take `count` clues away, add others where a second solution differs, then take away all that are not needed.

    Returns the question and its solution, both [9, 9]; with `drift` another solution, if the clues left have one.
    """
    if not count:
        return question, solution
    shown = np.flatnonzero(question).tolist()
    taken = set(rng.choice(shown, min(count, len(shown)), replace=False).tolist())
    left = [cell for cell in shown if cell not in taken]
    if drift:
        cells = solution.reshape(-1).tolist()
        found = solve_sudoku(_clues(cells, _by_digit(left, cells)), most=2, rng=rng).solutions
        solution = next((other for other in found if np.any(other != solution)), solution)
    cells = solution.reshape(-1).tolist()
    given = _by_digit(left, cells)
    while True:
        found = solve_sudoku(_clues(cells, given), most=2, rng=rng).solutions
        differs = np.flatnonzero(found[0] != solution)
        if not len(differs):
            if len(found) == 1:
                break
            differs = np.flatnonzero(found[1] != solution)
        # Not what was taken away, if anything else tells the solutions apart.
        cell = int(rng.choice([c for c in differs.tolist() if c not in taken] or differs))
        given[cells[cell]] |= 1 << cell
    _blank(rng.permutation(np.flatnonzero(_clues(cells, given))).tolist(), cells, given, 17)
    return _clues(cells, given), solution


def _full_grid(rng: np.random.Generator) -> Grid:
    grid = np.zeros((9, 9), dtype=np.uint8)
    for third in range(3):  # the boxes on the diagonal do not see each other
        box = slice(3 * third, 3 * third + 3)
        grid[box, box] = rng.permutation(9).reshape(3, 3) + 1
    return solve_sudoku(grid, most=1, rng=rng).solutions[0]


def _dig(solution: Grid, wanted: int, rng: np.random.Generator) -> Grid:
    """Blank cells in random order as long as the solution stays unique, until `wanted` clues remain."""
    cells = solution.reshape(-1).tolist()
    given = _by_digit(list(range(81)), cells)
    _blank(rng.permutation(81).tolist(), cells, given, wanted)
    return _clues(cells, given)


def _by_digit(shown: list[int], cells: list[int]) -> list[int]:
    """For each digit the set of cells, as bits, that hold it as a clue."""
    given = [0] * 10
    for cell in shown:
        given[cells[cell]] |= 1 << cell
    return given


def _blank(order: list[int], cells: list[int], given: list[int], wanted: int) -> None:
    """Remove clues from `given`, in place and in order, while the solution stays unique, until `wanted` remain."""
    left = sum(given).bit_count()
    for cell in order:
        if left <= wanted:
            break
        given[cells[cell]] ^= 1 << cell
        if _forced(cell, cells[cell], given) or _unique(cells, given):
            left -= 1
        else:
            given[cells[cell]] ^= 1 << cell


def _forced(cell: int, digit: int, given: list[int]) -> bool:
    """Whether the other clues alone leave only one digit for the cell, or only one cell for the digit.

    Then the solution is unique without a search.
    """
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
