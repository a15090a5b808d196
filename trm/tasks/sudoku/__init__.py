"""The sudoku task."""

from trm.tasks.sudoku.task import TASK

__all__ = ["TASK"]
