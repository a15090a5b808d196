"""Exact rules that a device checks by itself, for many grids at once. Only where that is cheap: Sudokus so far."""

from __future__ import annotations

import torch
from torch import Tensor

from trm.inference.slots import Rule
from trm.tasks import Task
from trm.tasks.sudoku.task import Sudoku


def device_rule(task: Task) -> Rule | None:
    """The task's exact rule for a device; None where only the host checks."""
    if not isinstance(task, Sudoku) or task.width > 16:
        return None
    side, full = task.width, (1 << task.width) - 1
    units = torch.from_numpy(task.size.units)

    def accepts(questions: Tensor, grids: Tensor) -> Tensor:
        nonlocal units
        units = units.to(grids.device)  # once: a graph under capture must not copy from the host
        symbol = grids.long() - 2  # token 0 is padding, 1 a blank
        inside = ((symbol >= 0) & (symbol < side)).all(1)
        bits = torch.bitwise_left_shift(torch.ones_like(symbol), symbol.clamp(0, side - 1))
        # `side` powers of two add up to `full` only if each is there once.
        complete = (bits[:, units].sum(-1) == full).all(1)
        kept = ((questions <= 1) | (questions == grids)).all(1)
        return inside & complete & kept

    return accepts
