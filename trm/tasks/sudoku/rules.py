"""The rules of Sudoku 9x9: which cells exclude each other, what is wrong with an answer, which symmetries hold."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

from trm.grid import Grid
from trm.tasks.puzzle import Violation, place

_INDEX = np.arange(81).reshape(9, 9)
_BOXES = _INDEX.reshape(3, 3, 3, 3).swapaxes(1, 2).reshape(9, 9)
UNITS = np.concatenate([_INDEX, _INDEX.T, _BOXES])  # [27, 9] flat cell numbers: rows, columns, boxes
UNIT_NAMES = tuple(f"{kind} {i + 1}" for kind in ("row", "column", "box") for i in range(9))


def _moves() -> NDArray[np.int64]:
    """[1296, 9]: the orders of nine rows that move bands, and rows inside their bands."""
    inner = list(permutations(range(3)))
    return np.array(
        [
            [3 * band + row for band, order in zip(bands, orders, strict=True) for row in order]
            for bands, orders in product(inner, product(inner, repeat=3))
        ],
        dtype=np.int64,
    )


MOVES = _moves()


def repeated_digits(grid: Grid) -> list[Violation]:
    """The digits that a row, column or box of grid [9, 9] holds more than once. Symbols above 9 are left out."""
    inside = grid[UNITS // 9, UNITS % 9]  # [27, 9]
    counts = np.stack([(inside == d).sum(axis=1) for d in range(1, 10)], axis=1)  # [27, 9]
    found = []
    for unit, column in np.argwhere(counts > 1).tolist():
        count, digit = counts[unit, column], column + 1
        times = "twice" if count == 2 else f"{count} times"
        cells = tuple(divmod(cell, 9) for cell in UNITS[unit][inside[unit] == digit].tolist())
        found.append(Violation(f"{UNIT_NAMES[unit]} has {digit} {times}", cells))
    return found


def find_violations(question: Grid, answer: Grid) -> list[Violation]:
    """Everything that is wrong with an answer [9, 9] to a question [9, 9]."""
    found = []
    symbols = zip(question.reshape(-1).tolist(), answer.reshape(-1).tolist(), strict=True)
    for number, (given, symbol) in enumerate(symbols):
        cell = divmod(number, 9)
        if given and symbol != given:
            change = f"changed to {symbol}" if symbol else "blanked"
            found.append(Violation(f"given {given} at {place(*cell)} was {change}", (cell,)))
        elif symbol == 0:
            found.append(Violation(f"{place(*cell)} is blank", (cell,)))
        elif not 1 <= symbol <= 9:
            found.append(Violation(f"{place(*cell)} holds {symbol}, expected 1 to 9", (cell,)))
    return found + repeated_digits(answer)
