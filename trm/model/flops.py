"""Arithmetic counted from a network's shape: what a step costs, whatever the machine."""

from __future__ import annotations

from dataclasses import dataclass

from trm.model.config import TRMConfig


@dataclass(frozen=True)
class FlopCount:
    """Arithmetic of one puzzle, counted: a multiply and an add are two operations."""

    network: float  # one application of `net`
    step: float  # one supervision step, forward only
    training_step: float  # the same with the backward pass, and the look ahead where going on is learned


def count_flops(config: TRMConfig) -> FlopCount:
    """Matrix products alone, which is where the arithmetic is."""
    n, d = config.length, config.hidden_size

    def swiglu(width: int, rows: int) -> float:
        hidden = -(-round(config.expansion * width * 2 / 3) // 256) * 256
        return 2.0 * rows * width * hidden * 3

    mix = swiglu(n, d) if config.mixer == "mlp_t" else 2.0 * n * d * 4 * d + 4.0 * n * n * d
    network = config.layers * (mix + swiglu(d, n))
    head = 2.0 * config.seq_len * d * config.vocab_size
    updates = config.l_cycles + 1  # of a cycle, with one state or two
    step = config.h_cycles * updates * network + head
    learned = 2 if config.gradient == "step" else updates  # updates that carry gradient
    backward = 2 * (learned * network + head)
    ahead = step if config.q_continue else 0.0  # the next step, forward only, says what going on is worth
    return FlopCount(network, step, step + backward + ahead)
