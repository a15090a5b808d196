"""The registry of tasks: `trm.tasks.get("sudoku")`. A fourth puzzle is one new file here."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from trm.grid import PuzzleError
from trm.tasks.base import PAD, Puzzle, Status, Symmetry, SymmetryGroup, Task, Verdict, describe

__all__ = [
    "PAD",
    "Puzzle",
    "Status",
    "Symmetry",
    "SymmetryGroup",
    "Task",
    "Verdict",
    "describe",
    "get",
    "names",
]


@cache
def _tasks() -> dict[str, Task]:
    modules = (import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__))
    found = [module.TASK for module in modules if hasattr(module, "TASK")]
    return {task.name: task for task in found}


def names() -> list[str]:
    """The tasks' names, sorted."""
    return sorted(_tasks())


def get(name: str) -> Task:
    """The task of this name. Raises PuzzleError naming the choices."""
    try:
        return _tasks()[name]
    except KeyError:
        raise PuzzleError(f"unknown task {name!r}, expected one of {', '.join(names())}") from None
