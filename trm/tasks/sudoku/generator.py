"""Sudokus with one solution."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from trm.grid import Grid, PuzzleError
from trm.tasks.puzzle import Puzzle
from trm.tasks.ranges import TRIES, whole_range
from trm.tasks.sudoku.sizes import SIZES, Size
from trm.tasks.sudoku.solver import solve_sudoku

# Of each side: the usual numbers of clues, and the fewest that leave one solution (of 16x16 the fewest known).
CLUES = {4: (4, 8, 4), 6: (8, 16, 8), 9: (24, 36, 17), 16: (110, 150, 55)}
# Guesses that a search may take before something else is tried. None of 9x9 comes near; some of 16x16 have no end.
MOST_GUESSES = {4: 0, 6: 0, 9: 0, 16: 200}


def generate(
    side: int,
    rng: np.random.Generator,
    clues: int | tuple[int, int] | None = None,
    guesses: int | tuple[int, int] | None = None,
    like: Sequence[Puzzle] = (),
    swaps: int | tuple[int, int] | None = None,
    drift: bool = False,
) -> Iterator[Puzzle]:
    """Sudokus with exactly one solution, without end. Raises PuzzleError if the options ask for what does not exist.

    side: 4, 6, 9 or 16. clues: how many cells are given (of 9x9 24 to 36; 17 to 81 with `like`).
    guesses: how many the exact solver needs.
    like: puzzles with answers to stay near. Each new puzzle has the solution of one of them, and its clues but for
    `swaps` (1 to 3) that are replaced by as few others as possible; 0 leaves it as it is.
    drift: what is left of the clues gets another solution, so that solutions do not repeat either.
    """
    size, area = SIZES[side], side * side
    least, usual_most, possible = CLUES[side]
    unlimited = (0, sys.maxsize)
    easiest, hardest = whole_range("guesses", unlimited if guesses is None else guesses, *unlimited)
    usual = (possible, area) if like else (least, usual_most)
    fewest, most = whole_range("clues", usual if clues is None else clues, possible, area)
    if not isinstance(drift, bool):
        raise PuzzleError(f"drift {drift}: expected true or false")
    if not like and (swaps is not None or drift):
        raise PuzzleError("swaps, drift: expected like, the puzzles whose clues to swap")
    fewest_swaps, most_swaps = whole_range("swaps", (1, 3) if swaps is None else swaps, 0, possible)
    tries = TRIES // 50 if like else TRIES // 10  # each of the first kind takes many searches
    left = tries
    while left:
        left -= 1
        if like:
            model = like[int(rng.integers(len(like)))]
            count = int(rng.integers(fewest_swaps, most_swaps + 1))
            question, solution = _swapped(model.grid, (model.answers or ())[0], count, drift, rng)
        else:
            solution = _full_grid(size, rng)
            question = _dig(solution, int(rng.integers(fewest, most + 1)), rng.permutation(area))
        given = int(np.count_nonzero(question))
        if not fewest <= given <= most:
            continue
        search = solve_sudoku(question, most_guesses=MOST_GUESSES[side])
        if search.whole and len(search.solutions) == 1 and easiest <= search.guesses <= hardest:
            left = tries
            meta: dict[str, str | int | float] = {"clues": given, "guesses": search.guesses}
            yield Puzzle(size.task, (question,), answers=(solution,), meta=meta)
    near = " like the given ones" if like else ""
    raise PuzzleError(
        f"{size.task}: clues {fewest} to {most} with guesses {guesses}{near}: none in {tries} tries"
    )


def _swapped(
    question: Grid, solution: Grid, count: int, drift: bool, rng: np.random.Generator
) -> tuple[Grid, Grid]:
    """Take `count` clues away, add others where a second solution differs, then take away all that are not needed.

    Returns the question and its solution, both [side, side]; with `drift` another solution, if there is one.
    """
    if not count:
        return question, solution
    shown, left = np.flatnonzero(question).tolist(), question.copy()
    taken = set(rng.choice(shown, min(count, len(shown)), replace=False).tolist())
    left.flat[list(taken)] = 0
    if drift:
        found = solve_sudoku(left, rng=rng).solutions
        solution = next((other for other in found if np.any(other != solution)), solution)
    while others := [grid for grid in solve_sudoku(left, rng=rng).solutions if np.any(grid != solution)]:
        differs = np.flatnonzero(others[0] != solution).tolist()
        # Not what was taken away, if anything else tells the solutions apart.
        cell = int(rng.choice([cell for cell in differs if cell not in taken] or differs))
        left.flat[cell] = solution.flat[cell]
    return _dig(left, CLUES[len(left)][2], rng.permutation(np.flatnonzero(left))), solution


def _full_grid(size: Size, rng: np.random.Generator) -> Grid:
    while True:
        grid = np.zeros((size.side, size.side), dtype=np.uint8)
        height, width = size.box_height, size.box_width
        # The boxes on the diagonal do not see each other.
        for top, left in zip(range(0, size.side, height), range(0, size.side, width), strict=False):
            box = rng.permutation(size.side).reshape(height, width) + 1
            grid[top : top + height, left : left + width] = box
        if found := solve_sudoku(grid, most=1, rng=rng, most_guesses=5 * MOST_GUESSES[size.side]).solutions:
            return found[0]


def _dig(question: Grid, wanted: int, order: NDArray[np.int64]) -> Grid:
    """Blank cells in this order as long as the solution stays unique, until `wanted` clues remain."""
    question, most = question.copy(), MOST_GUESSES[len(question)]
    spare = np.count_nonzero(question) - wanted
    for cell in order.tolist():
        if spare <= 0:
            break
        clue, question.flat[cell] = int(question.flat[cell]), 0
        search = solve_sudoku(question, 1, without=(cell, clue), most_guesses=most)
        if search.solutions or not search.whole:
            question.flat[cell] = clue
        else:
            spare -= 1
    return question
