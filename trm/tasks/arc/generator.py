"""Synthetic ARC tasks with simple rules, as stand-ins for ARC's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from trm.grid import Grid, PuzzleError
from trm.tasks.arc.task import MOST
from trm.tasks.puzzle import Puzzle
from trm.tasks.ranges import TRIES, whole_range


def _cropped(grid: Grid) -> Grid:
    rows, cols = np.flatnonzero(grid.any(axis=1)), np.flatnonzero(grid.any(axis=0))
    return grid[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]


RULES: dict[str, Callable[[Grid, Grid], Grid]] = {  # of a grid and a permutation of the colours
    "recolour": lambda grid, colours: colours[grid],
    # Cells that are not background fall to the bottom of their column.
    "gravity": lambda grid, _: np.take_along_axis(grid, np.argsort(grid != 0, axis=0, kind="stable"), axis=0),
    "crop": lambda grid, _: _cropped(grid),
    "mirror": lambda grid, _: grid[:, ::-1],
    "flip": lambda grid, _: grid[::-1],
    "turn": lambda grid, _: np.rot90(grid),
    "transpose": lambda grid, _: grid.T,
    "double": lambda grid, _: grid.repeat(2, axis=0).repeat(2, axis=1),
    "tile": lambda grid, _: np.hstack([grid, grid]),
}


def generate(
    rng: np.random.Generator, rule: str | None = None, demos: int = 3, size: int | tuple[int, int] = (3, 8)
) -> Iterator[Puzzle]:
    """Synthetic ARC tasks, without end, of a rule of RULES (None draws one each time), with `demos` pairs and a test.

    size: the range of the sides of input grids. Raises PuzzleError for options that ask for what does not exist.
    """
    if rule is not None and rule not in RULES:
        raise PuzzleError(f"arc: unknown rule {rule!r}, expected one of {', '.join(RULES)}")
    whole_range("demos", demos, 1, 100)
    low, high = whole_range("size", size, 2, MOST // 2)
    left = TRIES
    while left:
        left -= 1
        name = rule or str(rng.choice(list(RULES)))
        colours = np.arange(10, dtype=np.uint8)
        colours[1:] = rng.permutation(9) + 1
        used = rng.choice(np.arange(1, 10, dtype=np.uint8), size=3, replace=False)
        grids = [_scattered(rng, low, high, used) for _ in range(demos + 1)]
        pairs = [(grid, np.ascontiguousarray(RULES[name](grid, colours))) for grid in grids]
        if not any(np.array_equal(*pair) for pair in pairs):
            left = TRIES
            *train, (question, answer) = pairs
            yield Puzzle("arc", (question,), "", (answer,), tuple(train), {"synthetic": name})
    raise PuzzleError(f"arc: rule {rule} changes nothing in grids of {size}: none in {TRIES} tries")


def _scattered(rng: np.random.Generator, low: int, high: int, colours: Grid) -> Grid:
    """A rectangle of coloured cells somewhere on a background of 0."""
    h, w = rng.integers(low, high + 1, size=2).tolist()
    grid = np.zeros((h, w), dtype=np.uint8)
    top, left = int(rng.integers(h)), int(rng.integers(w))
    tall, wide = int(rng.integers(1, h - top + 1)), int(rng.integers(1, w - left + 1))
    patch = rng.choice(colours, size=(tall, wide))
    patch[rng.random((tall, wide)) < 0.3] = 0
    patch[0, 0] = colours[0]  # never empty
    grid[top : top + tall, left : left + wide] = patch
    return grid
