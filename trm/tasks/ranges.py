"""Options of the generators that are a number or a range of numbers."""

from __future__ import annotations

from trm.grid import PuzzleError

TRIES = 100_000  # draws for a puzzle before its options are called impossible


def number_range(name: str, value: object) -> tuple[float, float]:
    """A range (low, high) as its two ends; a single number is both. Raises PuzzleError."""
    low, high = value if isinstance(value, (tuple, list)) and len(value) == 2 else (value, value)
    numbers = [end for end in (low, high) if isinstance(end, (int, float)) and not isinstance(end, bool)]
    if len(numbers) != 2 or numbers[0] > numbers[1]:
        raise PuzzleError(f"{name} {value!r}: expected a number, or two with the smaller first")
    return numbers[0], numbers[1]


def whole_range(name: str, value: object, least: int, most: int) -> tuple[int, int]:
    """`number_range` of whole numbers from `least` to `most`. Raises PuzzleError."""
    low, high = number_range(name, value)
    if not (isinstance(low, int) and isinstance(high, int) and least <= low <= high <= most):
        raise PuzzleError(f"{name} {value}: expected whole numbers from {least} to {most}")
    return low, high
