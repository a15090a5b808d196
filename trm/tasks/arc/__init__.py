"""The arc task."""

from trm.tasks.arc.task import TASK

__all__ = ["TASK"]
