"""The reference implementation's outputs and gradients, repeated (`golden/`)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_networks import GOLDEN

from trm.checkpoints.format import save_folder
from trm.checkpoints.reference import convert, reference_name
from trm.model.network import TRM
from trm.training.config import LossConfig
from trm.training.losses import losses

REFERENCE_LOSS = LossConfig(name="stablemax", halt_weight=0.5)


def golden(variant: str, tmp_path: Path) -> tuple[TRM, dict[str, torch.Tensor]]:
    overrides = json.loads((GOLDEN / f"{variant}.config.json").read_text())
    expert = convert(GOLDEN / f"{variant}.upstream.pt", "sudoku", overrides)
    save_folder(tmp_path / "converted", expert)
    return TRM.from_pretrained(tmp_path / "converted"), load_file(GOLDEN / f"{variant}.io.safetensors")


@pytest.mark.parametrize("variant", ["mlp_t", "attention"])
def test_forward_repeats_the_reference(variant: str, tmp_path: Path) -> None:
    model, io = golden(variant, tmp_path)
    tokens, labels, context = (io[k].long() for k in ("inputs", "labels", "puzzle_identifiers"))
    state = model.initial_state(len(tokens))
    for step in (1, 2, 3):
        with torch.no_grad():
            state, out = model.step(state, tokens, context)
        assert (out.logits - io[f"eval.step{step}.logits"]).abs().max() <= 1e-4
        assert (out.halt - io[f"eval.step{step}.q_halt_logits"]).abs().max() <= 1e-4
        total = losses(out, labels, REFERENCE_LOSS).total
        torch.testing.assert_close(total, io[f"eval.step{step}.loss"][0], rtol=1e-4, atol=0)


@pytest.mark.parametrize("variant", ["mlp_t", "attention"])
def test_gradients_repeat_the_reference(variant: str, tmp_path: Path) -> None:
    model, io = golden(variant, tmp_path)
    model.train()
    tokens, labels, context = (io[k].long() for k in ("inputs", "labels", "puzzle_identifiers"))
    _, out = model.step(model.initial_state(len(tokens)), tokens, context)
    total = losses(out, labels, REFERENCE_LOSS).total
    torch.testing.assert_close(total, io["train.loss_sum"][0], rtol=1e-4, atol=0)
    (total / len(tokens)).backward()
    ours = {name: p.grad for name, p in model.named_parameters() if name != "embed.identities"}
    theirs = {
        reference_name(k.removeprefix("train.grad.")): v for k, v in io.items() if k.startswith("train.grad.")
    }
    assert set(ours) == set(theirs)
    for name, reference in theirs.items():
        grad = ours[name]
        assert grad is not None, name
        assert (grad - reference).abs().max() <= 1e-4 * reference.abs().max(), name
