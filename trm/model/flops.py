"""Floating-point operations counted from a network's shape: what a step costs on any machine."""

from __future__ import annotations

from dataclasses import dataclass

from trm.model.config import TRMConfig


@dataclass(frozen=True)
class FlopCount:
    """Floating-point operations for one puzzle; a multiplication and an addition are two."""

    network: float  # one application of `net`
    step: float  # one supervision step, forward only
    training_step: float  # forward and backward, and with q_continue another forward for its target


def count_flops(config: TRMConfig) -> FlopCount:
    """Count the matrix products, which are nearly all of the arithmetic."""
    n, d = config.length, config.hidden_size

    def swiglu(width: int, rows: int) -> float:
        hidden = -(-round(config.expansion * width * 2 / 3) // 256) * 256
        return 2.0 * rows * width * hidden * 3

    mix = swiglu(n, d) if config.mixer == "mlp_t" else 2.0 * n * d * 4 * d + 4.0 * n * n * d
    network = config.layers * (mix + swiglu(d, n))
    head = 2.0 * config.seq_len * d * config.vocab_size
    updates = config.l_cycles + 1  # per cycle
    step = config.h_cycles * updates * network + head
    with_gradient = 2 if config.gradient == "step" else updates
    backward = 2 * (with_gradient * network + head)
    target = step if config.q_continue else 0.0
    return FlopCount(network, step, step + backward + target)
