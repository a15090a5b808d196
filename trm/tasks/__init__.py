"""The puzzles: `trm.tasks.get("sudoku")`. A puzzle is a folder here, or an entry point of a package."""

from trm.tasks.base import IGNORE, PAD, Cell, Task, bucket
from trm.tasks.puzzle import Puzzle, Status, Verdict, Violation, describe
from trm.tasks.registry import detect, detect_grid, get, names
from trm.tasks.transforms import Symmetry, SymmetryGroup

__all__ = ["IGNORE", "PAD", "Cell", "Task", "bucket"]
__all__ += ["Puzzle", "Status", "Verdict", "Violation", "describe"]
__all__ += ["detect", "detect_grid", "get", "names"]
__all__ += ["Symmetry", "SymmetryGroup"]
