"""Variants of the recursion in the literature; the TRM itself needs none of them (see `TRM.cycle`).

- `states = 1` (ablation in arXiv:2510.04871): no separate reasoning; a cycle is n+1 updates y ← net(y + e).
- `networks = 2` (HRM, arXiv:2506.21734): a second network updates the answer.
- `gradient = "step"` (HRM): only the last update of z and the last of y carry gradient.

HRM's fourth difference, halting by Q-learning, is the key `q_continue` and `trm.training.losses.continue_target`.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from trm.model.config import TRMConfig


class Net(Protocol):
    """`trm.model.network.Network`: h [B, n, D] to the same shape; `which` chooses among two sets of layers."""

    def __call__(self, h: Tensor, which: int = 0) -> Tensor: ...


def cycle(net: Net, config: TRMConfig, y: Tensor, z: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
    """One cycle of the configured variant: y, z, e [B, n, D] to the next y and z."""
    single = config.states == 1
    without_gradient = config.l_cycles - 1 if config.gradient == "step" else 0
    z, injected = (y, e) if single else (z, y + e)
    with torch.no_grad():
        for _ in range(without_gradient):
            z = net(z + injected)
    for _ in range(config.l_cycles - without_gradient):
        z = net(z + injected)
    if single:
        y = net(z + e)
        return y, y
    return net(y + z, config.networks - 1), z
