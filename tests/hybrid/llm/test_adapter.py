"""Adapters in 4 bits: what is trained, what is stored, what is merged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from hybrid.llm.grid.adapter import LoraShape, load_grid_model, read_adapter, save_adapter
from hybrid.llm.grid.base_weights import GridModelError, load_base, save_parts, weights_hash
from hybrid.llm.grid.lora import add_adapter
from hybrid.llm.grid.quantization import (
    pack_eight_bits,
    pack_four_bits,
    simulate_four_bits,
    unpack_eight_bits,
    unpack_four_bits,
)
from hybrid.llm.tuning.config import ModelConfig
from hybrid.llm.tuning.model import random_model

SHAPE = LoraShape(rank=4, alpha=6.0)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    random_model(ModelConfig("random", hidden_size=32, layers=2, heads=2), seed=1).bfloat16().save_pretrained(
        tmp_path / "base"
    )
    return tmp_path / "base"


def trained(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def adapted(base: Path, folder: Path) -> PreTrainedModel:
    """A model with a random adapter, which is also saved."""
    model, digest = load_base(base, dtype=torch.float32)
    add_adapter(model, SHAPE)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for weight in trained(model).values():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.1)
    weights = {name.replace(".default.", "."): weight for name, weight in trained(model).items()}
    save_adapter(folder, weights, SHAPE, "some/model", {"base_sha256": digest})
    return model


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=torch.arange(16)[None]).logits


def test_four_bits_come_back_as_they_were_simulated() -> None:
    weight = torch.randn(6, 64, generator=torch.Generator().manual_seed(0))
    weight[0] = 0
    back = unpack_four_bits(*pack_four_bits(weight), (6, 64))
    assert torch.equal(back, simulate_four_bits(weight))
    assert (back - weight).abs().max() <= weight.abs().max() / 13.9
    assert torch.equal(simulate_four_bits(back), back)


def test_the_gradient_passes_through_the_simulation() -> None:
    weight = torch.randn(2, 64, requires_grad=True)
    simulate_four_bits(weight).square().sum().backward()
    torch.testing.assert_close(weight.grad, 2 * simulate_four_bits(weight.detach()))


def test_eight_bits_are_close() -> None:
    weight = torch.randn(5, 70, generator=torch.Generator().manual_seed(0))
    assert (unpack_eight_bits(*pack_eight_bits(weight)) - weight).abs().max() < weight.abs().max() / 250


def test_a_merged_adapter_computes_what_was_trained(base: Path, tmp_path: Path) -> None:
    model = adapted(base, tmp_path / "adapter")
    merged = load_grid_model(base, tmp_path / "adapter", dtype=torch.float32)
    assert not any("lora" in name for name, _ in merged.named_parameters())
    torch.testing.assert_close(logits(merged), logits(model), atol=2e-3, rtol=2e-3)
    assert (logits(merged) - logits(load_grid_model(base, dtype=torch.float32))).abs().max() > 0.05


def test_a_new_adapter_changes_nothing_and_leaves_the_base_frozen(base: Path) -> None:
    model, _ = load_base(base, dtype=torch.float32)
    before = logits(model)
    add_adapter(model, SHAPE)
    torch.testing.assert_close(logits(model), before)
    names = trained(model)
    assert all(".lora_" in name or "embed_tokens" in name or "lm_head" in name for name in names)
    assert len(names) == 2 * 7 * 2 + 2
    assert all(weight.dtype == torch.float32 for weight in names.values())


def test_the_folder_is_in_the_layout_of_peft(base: Path, tmp_path: Path) -> None:
    adapted(base, tmp_path / "adapter")
    config = LoraConfig.from_pretrained(str(tmp_path / "adapter"))
    assert (config.r, config.lora_alpha) == (SHAPE.rank, SHAPE.alpha)
    shape, weights = read_adapter(tmp_path / "adapter")
    assert shape == SHAPE
    assert weights["model.layers.0.self_attn.q_proj.lora_A.weight"].shape == (4, 32)


def test_an_adapter_of_other_weights_is_refused(base: Path, tmp_path: Path) -> None:
    adapted(base, tmp_path / "adapter")
    info = json.loads((tmp_path / "adapter" / "grid.json").read_text())
    (tmp_path / "adapter" / "grid.json").write_text(json.dumps(info | {"base_sha256": "0" * 64}))
    with pytest.raises(GridModelError, match="hash"):
        load_grid_model(base, tmp_path / "adapter")
    with pytest.raises(GridModelError, match="no adapter"):
        load_grid_model(base, tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("grid.json", b"[]"),
        ("grid.json", b"[" * 2000),
        ("adapter_config.json", b"{}"),
        ("adapter_config.json", b'{"r": 0, "lora_alpha": 2}'),
        ("adapter_model.safetensors", b"\0" * 40),
        ("adapter_model.safetensors", None),  # one bit of a weight is another
    ],
)
def test_a_damaged_adapter_is_refused(base: Path, tmp_path: Path, name: str, content: bytes | None) -> None:
    adapted(base, tmp_path / "adapter")
    file = tmp_path / "adapter" / name
    if content is None:
        content = file.read_bytes()[:-1] + bytes([file.read_bytes()[-1] ^ 1])
    file.write_bytes(content)
    with pytest.raises(GridModelError, match=r"\A.*\Z"):
        read_adapter(tmp_path / "adapter")


@pytest.mark.parametrize("change", ["no counterpart", "no scale", "not finite", "another rank", "no matrix"])
def test_odd_tensors_of_an_adapter_are_refused(base: Path, tmp_path: Path, change: str) -> None:
    adapted(base, tmp_path / "adapter")
    file, info = tmp_path / "adapter" / "adapter_model.safetensors", tmp_path / "adapter" / "grid.json"
    weights = load_file(file)
    up = next(name for name in weights if name.endswith("lora_B.weight"))
    if change == "no counterpart":
        del weights[up]
    elif change == "no scale":
        del weights[f"{up}.scale"]
    elif change == "not finite":
        weights[f"{up}.scale"][0] = float("nan")
    elif change == "another rank":
        weights[up] = weights[up].view(-1, 1).contiguous()
    else:
        weights[up] = weights[up].view(-1)
    save_file(weights, file)
    info.write_text(json.dumps({**json.loads(info.read_text()), "weights_sha256": None}))
    with pytest.raises(GridModelError, match=r"\A.*\Z"):
        read_adapter(tmp_path / "adapter")


def test_parts_hold_the_same_model_in_eight_bits(base: Path, tmp_path: Path) -> None:
    model, digest = load_base(base, dtype=torch.float32)
    files = save_parts(model, digest, "some/model", tmp_path / "parts", most_bytes=20_000)
    assert len(files) > 1
    back, same = load_base(tmp_path / "parts", dtype=torch.float32)
    assert same == digest == weights_hash(model)
    torch.testing.assert_close(logits(back), logits(model), atol=0.05, rtol=0.05)
    files[0].unlink()
    with pytest.raises(GridModelError, match="missing"):
        load_base(tmp_path / "parts")
