"""The maze task."""

from trm.tasks.maze.task import TASK

__all__ = ["TASK"]
