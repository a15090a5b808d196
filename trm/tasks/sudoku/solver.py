"""A classical exact solver for Sudoku: for the generator and the `exact` control arm, nothing else.

Nothing that `hybrid solve`, `trm.Refiner` or `trm eval` can reach may import this module: their answers come from a
language model or the network.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trm.grid import Grid, Grids
from trm.tasks.puzzle import Puzzle

# A Sudoku's state is one integer with a bit for each of 729 candidates: bit 81 * (digit - 1) + 9 * row +
# column. Each of the four kinds of constraint (a cell holds one digit; a row, a column, a box holds a digit
# once) has 81 constraints of 9 candidates, one of which is its anchor; the other eight lie at the same
# distances from every anchor. So nine shifts count the candidates of 81 constraints at once.
_ALL = (1 << 729) - 1


def _bits(places: list[int]) -> int:
    return sum(1 << place for place in places)


_DIGITS = [81 * digit for digit in range(9)]
_KINDS: tuple[tuple[tuple[int, ...], int], ...] = (  # (shifts, anchors)
    (tuple(_DIGITS), _bits(list(range(81)))),  # cells
    (tuple(range(9)), _bits([d + 9 * row for d in _DIGITS for row in range(9)])),  # rows
    (tuple(range(0, 81, 9)), _bits([d + column for d in _DIGITS for column in range(9)])),  # columns
    (
        tuple(9 * row + column for row in range(3) for column in range(3)),
        _bits([d + 27 * band + 3 * stack for d in _DIGITS for band in range(3) for stack in range(3)]),
    ),  # boxes
)


def _kept() -> tuple[int, ...]:
    """For each candidate, all candidates that may stay when it is chosen."""
    kept = []
    for chosen in range(729):
        rivals = 0
        for shifts, anchors in _KINDS:
            anchor = next(chosen - s for s in shifts if chosen >= s and anchors >> chosen - s & 1)
            rivals |= sum(1 << anchor + shift for shift in shifts)
        kept.append(_ALL & ~rivals | 1 << chosen)
    return tuple(kept)


_KEPT = _kept()


def solve(puzzle: Puzzle) -> Grids | None:
    """The Sudoku's solution, the first of several; None if there is none."""
    return solve_sudoku(puzzle.grid, most=1).solutions or None


@dataclass(frozen=True, eq=False)
class SudokuSearch:
    """solutions: as many as asked for, [9, 9] each. guesses: candidates tried where nothing forced one."""

    solutions: tuple[Grid, ...]
    guesses: int


def solve_sudoku(
    grid: Grid, most: int = 2, rng: np.random.Generator | None = None, without: tuple[int, int] | None = None
) -> SudokuSearch:
    """Up to `most` solutions of grid [9, 9] (0 blank), by depth-first search that takes what is forced first.

    It branches on a constraint with the fewest candidates left. rng shuffles their order (for generators).
    without: a cell from 0 to 80 and a digit that it does not hold.
    """
    state, chosen, tried = _ALL, 0, 0
    if without:
        state ^= 1 << 81 * (without[1] - 1) + without[0]
    found: list[Grid] = []
    for cell, digit in enumerate(grid.reshape(-1).tolist()):
        if digit:
            candidate = 81 * (digit - 1) + cell
            state &= _KEPT[candidate]
            chosen |= 1 << candidate
    stack = [(state, chosen)] if state & chosen == chosen else []
    while stack and len(found) < most:
        state, chosen = _forced(*stack.pop())
        tried += 1
        if chosen.bit_count() == 81:
            found.append(_grid(chosen))
        elif state:
            choices = _narrowest(state)
            if rng is not None:
                rng.shuffle(choices)
            stack.extend((state & _KEPT[choice], chosen | 1 << choice) for choice in choices)
    return SudokuSearch(tuple(found), max(tried - 1, 0))


def _forced(state: int, chosen: int) -> tuple[int, int]:
    """Choose, while there is one, every candidate that is a constraint's last. (0, 0): a dead end."""
    while True:
        for shifts, anchors in _KINDS:
            once = twice = 0
            for shift in shifts:
                here = state >> shift & anchors
                twice |= once & here
                once |= here
            if once != anchors:
                return 0, 0
            last, fresh = once ^ twice, 0
            for shift in shifts:
                fresh |= state & last << shift
            fresh &= ~chosen
            if fresh:
                break
        else:
            return state, chosen
        chosen |= fresh
        while fresh:
            lowest = fresh & -fresh
            fresh ^= lowest
            state &= _KEPT[lowest.bit_length() - 1]
        if state & chosen != chosen:
            return 0, 0


def _narrowest(state: int) -> list[int]:
    """The candidates of a constraint that has the fewest, of those that have more than one."""
    fewest: list[int] = []
    for shifts, anchors in _KINDS:
        once = twice = thrice = 0
        for shift in shifts:
            here = state >> shift & anchors
            thrice |= twice & here
            twice |= once & here
            once |= here
        for some in (twice & ~thrice, thrice):
            while some and len(fewest) != 2:
                anchor = (some & -some).bit_length() - 1
                some &= some - 1
                held = [anchor + shift for shift in shifts if state >> anchor + shift & 1]
                fewest = held if not fewest or len(held) < len(fewest) else fewest
    return fewest


def _grid(chosen: int) -> Grid:
    grid = np.zeros(81, dtype=np.uint8)
    while chosen:
        digit, cell = divmod(chosen.bit_length() - 1, 81)
        grid[cell] = digit + 1
        chosen ^= 1 << 81 * digit + cell
    return grid.reshape(9, 9)
