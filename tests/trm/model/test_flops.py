"""Counted arithmetic against torch's own counter, and against the published figure."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from trm.evaluation.bench import bench_train
from trm.model.config import TRMConfig
from trm.model.flops import count_flops
from trm.model.network import TRM
from trm.training.config import LossConfig
from trm.training.losses import continue_target, losses


def test_counted_arithmetic_is_that_of_the_published_configuration() -> None:
    """Reference mlp_t: 97 positions, token-mixing hidden 512, T3 n6, batch 768: 33 TFLOP a training step."""
    config = TRMConfig(seq_len=81, vocab_size=11, mixer="mlp_t", positions="none", prefix=16)
    assert count_flops(config).training_step * 768 / 1e12 == pytest.approx(33, rel=0.03)


@pytest.mark.parametrize("mixer", ["mlp_t", "attention"])
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"states": 1},
        {"networks": 2, "layers": 4},
        {"gradient": "step"},
        {"gradient": "step", "states": 1},
        {"gradient": "step", "l_cycles": 1},
        {"q_continue": True},
        {"networks": 2, "gradient": "step", "q_continue": True},
        {"patch": 2, "canvas_width": 10},
    ],
    ids=str,
)
def test_a_step_costs_what_torch_counts(mixer: str, change: dict[str, Any]) -> None:
    shape: dict[str, Any] = {
        "seq_len": 20, "vocab_size": 5, "hidden_size": 32, "heads": 2, "mixer": mixer, "positions": "none",
        "prefix": 2, "h_cycles": 2, "l_cycles": 3, **change,
    }  # fmt: skip
    config = TRMConfig(**shape)
    model, tokens = TRM(config), torch.ones(1, 20, dtype=torch.int64)
    # Attention as plain products: its fused kernels recompute in the backward pass, which is not counted here.
    with FlopCounterMode(display=False) as counted, sdpa_kernel(SDPBackend.MATH):
        state, out = model.step(model.initial_state(1), tokens)
        forward = counted.get_total_flops()
        worth = None
        if config.q_continue:
            with torch.no_grad():
                worth = continue_target(model.step(state, tokens)[1], torch.zeros(1, dtype=torch.bool))
        losses(out, tokens, LossConfig(), worth).total.backward()  # type: ignore[no-untyped-call]
    # The halting logits are left out of ours: some hundred operations.
    assert count_flops(config).step == pytest.approx(forward, rel=1e-4)
    assert count_flops(config).training_step == pytest.approx(counted.get_total_flops(), rel=1e-4)


def test_bench_counts_the_look_ahead_of_q_learning() -> None:
    small = ["train.batch=2", "model.hidden_size=32"]
    plain, learned = (
        bench_train(None, [*small, f"model.q_continue={on}"], "cpu")["tflop_per_step"]
        for on in ("false", "true")
    )
    shape = TRMConfig(
        seq_len=81, vocab_size=11, canvas_width=9, hidden_size=32, heads=4, positions="rowcolbox", prefix=1,
        h_cycles=2, l_cycles=2,
    )  # fmt: skip
    assert float(learned) - float(plain) == pytest.approx(2 * count_flops(shape).step / 1e12)
