"""A classical exact solver for Sudoku: for the generator and the `exact` control arm, nothing else.

Nothing that `hybrid solve`, `trm.Refiner` or `trm eval` can reach may import this module: their answers come from a
language model or the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from trm.grid import Grid, Grids
from trm.tasks.puzzle import Puzzle
from trm.tasks.sudoku.sizes import SIZES

# A Sudoku's state is one integer with a bit for each candidate, 729 for 9x9: bit 81 * (digit - 1) + 9 * row +
# column. Each of the four kinds of constraint (a cell holds one digit; a row, a column, a box holds a digit
# once) has 81 constraints of 9 candidates, one of which is its anchor; the other eight lie at the same
# distances from every anchor. So nine shifts count the candidates of 81 constraints at once.


@dataclass(frozen=True, eq=False)
class _Constraints:
    """kinds: (shifts, anchors) of each kind of constraint. kept: for each candidate, all that may stay beside it."""

    kinds: tuple[tuple[tuple[int, ...], int], ...]
    kept: tuple[int, ...]


def _bits(places: list[int]) -> int:
    return sum(1 << place for place in places)


@cache
def _constraints(side: int) -> _Constraints:
    size, area = SIZES[side], side * side
    lines = range(side)
    digits = [area * digit for digit in lines]
    boxes = [
        side * row + column
        for row in range(0, side, size.box_height)
        for column in range(0, side, size.box_width)
    ]
    in_box = tuple(side * row + column for row in range(size.box_height) for column in range(size.box_width))
    kinds = (
        (tuple(digits), _bits(list(range(area)))),  # cells
        (tuple(lines), _bits([d + side * row for d in digits for row in lines])),  # rows
        (tuple(range(0, area, side)), _bits([d + column for d in digits for column in lines])),  # columns
        (in_box, _bits([d + box for d in digits for box in boxes])),  # boxes
    )
    everything = (1 << side**3) - 1
    kept = []
    for chosen in range(side**3):
        rivals = 0
        for shifts, anchors in kinds:
            anchor = next(chosen - s for s in shifts if chosen >= s and anchors >> chosen - s & 1)
            rivals |= sum(1 << anchor + shift for shift in shifts)
        kept.append(everything & ~rivals | 1 << chosen)
    return _Constraints(kinds, tuple(kept))


def solve(puzzle: Puzzle) -> Grids | None:
    """The Sudoku's solution, the first of several; None if there is none."""
    return solve_sudoku(puzzle.grid, most=1).solutions or None


@dataclass(frozen=True, eq=False)
class SudokuSearch:
    """solutions: as many as asked for, [side, side] each. guesses: candidates tried where nothing forced one.

    whole: whether the search came to its end, not to the most guesses that it was allowed.
    """

    solutions: tuple[Grid, ...]
    guesses: int
    whole: bool = True


def solve_sudoku(
    grid: Grid,
    most: int = 2,
    rng: np.random.Generator | None = None,
    without: tuple[int, int] | None = None,
    most_guesses: int = 0,
) -> SudokuSearch:
    """Up to `most` solutions of grid [side, side] (0 blank), by depth-first search that takes what is forced first.

    It branches on a constraint with the fewest candidates left. rng shuffles their order (for generators).
    without: a cell, counted from 0, and a symbol that it does not hold. most_guesses: 0 is no limit.
    """
    side, area, constraints = len(grid), grid.size, _constraints(len(grid))
    state, chosen, tried = (1 << side**3) - 1, 0, 0
    if without:
        state ^= 1 << area * (without[1] - 1) + without[0]
    found: list[Grid] = []
    for cell, digit in enumerate(grid.reshape(-1).tolist()):
        if digit:
            candidate = area * (digit - 1) + cell
            state &= constraints.kept[candidate]
            chosen |= 1 << candidate
    stack = [(state, chosen)] if state & chosen == chosen else []
    while stack and len(found) < most:
        if most_guesses and tried > most_guesses:
            return SudokuSearch(tuple(found), tried - 1, whole=False)
        state, chosen = _forced(constraints, *stack.pop())
        tried += 1
        if chosen.bit_count() == area:
            found.append(_grid(chosen, side))
        elif state:
            choices = _narrowest(constraints, state)
            if rng is not None:
                rng.shuffle(choices)
            stack.extend((state & constraints.kept[choice], chosen | 1 << choice) for choice in choices)
    return SudokuSearch(tuple(found), max(tried - 1, 0))


def _forced(constraints: _Constraints, state: int, chosen: int) -> tuple[int, int]:
    """Choose, while there is one, every candidate that is a constraint's last. (0, 0): a dead end."""
    while True:
        for shifts, anchors in constraints.kinds:
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
            state &= constraints.kept[lowest.bit_length() - 1]
        if state & chosen != chosen:
            return 0, 0


def _narrowest(constraints: _Constraints, state: int) -> list[int]:
    """The candidates of a constraint that has the fewest, of those that have more than one."""
    fewest: list[int] = []
    for shifts, anchors in constraints.kinds:
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


def _grid(chosen: int, side: int) -> Grid:
    grid = np.zeros(side * side, dtype=np.uint8)
    while chosen:
        digit, cell = divmod(chosen.bit_length() - 1, side * side)
        grid[cell] = digit + 1
        chosen ^= 1 << side * side * digit + cell
    return grid.reshape(side, side)
