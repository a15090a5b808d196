"""A puzzle, and what the exact rules say of an answer to it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from enum import StrEnum

from trm.grid import Grid, Grids


class Status(StrEnum):
    VERIFIED = "verified"  # the exact rules hold, givens included
    UNVERIFIED = "unverified"  # no rule can decide
    UNSOLVED = "unsolved"


@dataclass(frozen=True)
class Verdict:
    """What the exact rules say. `violations` are sentences for people and for prompts; empty if verified."""

    status: Status
    violations: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Puzzle:
    """A question in a task's own symbols.

    inputs: the grids to answer: one for Sudoku (0 is blank) and maze, one per test input for ARC.
    answers: the labels, one grid per input, where they are known.
    demos: demonstration pairs (input, output), of tasks that have them (ARC).
    meta: whatever else the source says: rating, length of the path, file and line.
    notes: what a person should know of how the question was read, one sentence each.
    """

    task: str
    inputs: Grids
    id: str = ""
    answers: Grids | None = None
    demos: tuple[tuple[Grid, Grid], ...] = ()
    meta: dict[str, str | int | float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def grid(self) -> Grid:
        """The question of a puzzle with one input; the first test input otherwise."""
        return self.inputs[0]

    @property
    def checksum(self) -> int:
        """A number from the question alone. It seeds what is drawn for this puzzle, in whichever batch it is."""
        return zlib.crc32(b"".join(grid.tobytes() for grid in self.inputs))


def describe(verdict: Verdict, most: int = 3) -> str:
    """`unsolved: row 3 has 5 twice; and 4 more`: a verdict in one line, with at most so many violations."""
    shown = verdict.violations[:most]
    more = len(verdict.violations) - len(shown)
    tail = f"; and {more} more" if more else ""
    return f"{verdict.status}: {'; '.join(shown)}{tail}" if shown else str(verdict.status)


@dataclass(frozen=True)
class Violation:
    """A broken rule in words, and the (row, column) of the cells that break it, from 0."""

    words: str
    cells: tuple[tuple[int, int], ...] = ()


def place(row: int, column: int) -> str:
    """`row 4, column 2` of the cell (3, 1)."""
    return f"row {row + 1}, column {column + 1}"
