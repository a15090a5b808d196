"""Sudokus with one solution."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache

import numpy as np

from trm.data.datasets import labelled
from trm.grid import Grid, PuzzleError
from trm.tasks import Status, get
from trm.tasks.base import Puzzle
from trm.tasks.ranges import TRIES, whole_range
from trm.tasks.sudoku.solver import solve_sudoku
from trm.tasks.sudoku.task import UNITS

_IN_UNITS = [[unit for unit in UNITS.tolist() if cell in unit] for cell in range(81)]
_UNIT_BITS = [[sum(1 << c for c in unit if c != cell) for unit in _IN_UNITS[cell]] for cell in range(81)]
_PEERS = [row | column | box for row, column, box in _UNIT_BITS]  # 81-bit sets of cells


def sudoku(
    rng: np.random.Generator,
    clues: int | tuple[int, int] | None = None,
    guesses: int | tuple[int, int] | None = None,
    like: str = "",
    swaps: int | tuple[int, int] | None = None,
    drift: bool = False,
    apart: tuple[str, ...] = (),
) -> Iterator[Puzzle]:
    """Sudokus with one solution. clues: how many are given (24 to 36). guesses: how many the exact solver needs.

    like: puzzles with answers (a source as `trm.data.datasets.puzzles_of` reads it) to stay near. Each puzzle made has the
    solution of one of them, and its clues but for `swaps` (1 to 3), in whose place others stand, as few as can be; 0
    leaves it as it is. drift: what is left of the clues gets another solution than it had, so that there are no fewer
    solutions than puzzles. `clues` is then any number. apart: questions of `like` that nothing is made of.
    """
    easiest, hardest = whole_range(
        "guesses", (0, sys.maxsize) if guesses is None else guesses, 0, sys.maxsize
    )
    usual = (17, 81) if like else (24, 36)
    fewest, most = whole_range("clues", usual if clues is None else clues, 17, 81)
    if not isinstance(like, str):
        raise PuzzleError(f"like {like}: expected a file, or hub:ID")
    if not isinstance(drift, bool):
        raise PuzzleError(f"drift {drift}: expected true or false")
    if not like and (swaps is not None or apart or drift):
        raise PuzzleError("swaps, drift, apart: expected like, the puzzles whose clues to swap")
    least, largest = whole_range("swaps", (1, 3) if swaps is None else swaps, 0, 17)
    tries = TRIES // 50 if like else TRIES // 10  # each of the first kind takes many searches
    models = _models(like, apart) if like else []
    left = tries
    while left:
        left -= 1
        if models:
            model = models[int(rng.integers(len(models)))]
            count = int(rng.integers(least, largest + 1))
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
    near = f" like {like}" if like else ""
    raise PuzzleError(f"sudoku: clues {fewest} to {most} with guesses {guesses}{near}: none in {tries} tries")


@cache
def _models(source: str, apart: tuple[str, ...]) -> list[Puzzle]:
    task, out = get("sudoku"), set(apart)
    kept = [puzzle for puzzle in labelled(source, "sudoku") if task.question_text(puzzle) not in out]
    for puzzle in kept:
        if task.check(puzzle, puzzle.answers or ()).status is not Status.VERIFIED:
            raise PuzzleError(f"{source}: {puzzle.id}: the answer breaks the rules, expected a right one")
    if not kept:
        raise PuzzleError(f"{source}: all of its puzzles are among those to stay apart from")
    return kept


def _swapped(
    question: Grid, solution: Grid, count: int, drift: bool, rng: np.random.Generator
) -> tuple[Grid, Grid]:
    """`count` clues taken away, others added where a second solution differs, then all that are not needed gone.

    Returns the question and its solution, which with `drift` is another one where what is left allows that.
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
    """Blank cells in random order as long as one solution is left, until `wanted` clues remain."""
    cells = solution.reshape(-1).tolist()
    given = _by_digit(list(range(81)), cells)
    _blank(rng.permutation(81).tolist(), cells, given, wanted)
    return _clues(cells, given)


def _by_digit(shown: list[int], cells: list[int]) -> list[int]:
    """For each digit the set of cells that hold it as a clue."""
    given = [0] * 10
    for cell in shown:
        given[cells[cell]] |= 1 << cell
    return given


def _blank(order: list[int], cells: list[int], given: list[int], wanted: int) -> None:
    """Take clues out of `given`, in order, as long as one solution is left, until `wanted` remain."""
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
