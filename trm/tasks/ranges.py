"""Options of the generators: a number, or a range of them, and how often to try."""

from __future__ import annotations

from typing import Any

from trm.grid import PuzzleError

TRIES = 100_000  # draws for a puzzle before a request is called impossible


def pair(name: str, value: Any, kinds: type | tuple[type, ...]) -> tuple[Any, Any]:
    """A range as its two ends; a single value is both."""
    low, high = value if isinstance(value, (tuple, list)) and len(value) == 2 else (value, value)
    if not all(isinstance(end, kinds) and not isinstance(end, bool) for end in (low, high)) or low > high:
        raise PuzzleError(f"{name} {value!r}: expected a number, or two with the smaller first")
    return low, high


def whole_range(name: str, value: Any, least: int, most: int) -> tuple[int, int]:
    low, high = pair(name, value, int)
    if not least <= low <= high <= most:
        raise PuzzleError(f"{name} {value}: expected whole numbers from {least} to {most}")
    return low, high
