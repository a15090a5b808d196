"""The puzzles: `trm.tasks.get("sudoku")`. A puzzle is a folder here, or an entry point of a package."""

from trm.tasks.base import PAD, Cell, Puzzle, Status, Symmetry, SymmetryGroup, Task, Verdict, describe
from trm.tasks.registry import detect, detect_grid, get, names

__all__ = [
    "PAD",
    "Cell",
    "Puzzle",
    "Status",
    "Symmetry",
    "SymmetryGroup",
    "Task",
    "Verdict",
    "describe",
    "detect",
    "detect_grid",
    "get",
    "names",
]
