"""What users of the reference implementation bring: checkpoints of several kinds, run configurations, identities."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from small_networks import GOLDEN
from torch import Tensor

from trm.checkpoints.format import Checkpoint, CheckpointError
from trm.checkpoints.reference import convert, read_identifiers, read_run_config
from trm.inference.provider import ModelPool
from trm.inference.refiner import Refiner
from trm.inference.search import Callbacks
from trm.tasks import get

WIDTH, HIDDEN = 16, 256


def layer(prefix: str) -> dict[str, Tensor]:
    shapes = {
        "self_attn.qkv_proj": (3 * WIDTH, WIDTH),
        "self_attn.o_proj": (WIDTH, WIDTH),
        "mlp.gate_up_proj": (2 * HIDDEN, WIDTH),
        "mlp.down_proj": (WIDTH, HIDDEN),
    }
    return {f"{prefix}.{name}.weight": 0.05 * torch.randn(shape) for name, shape in shapes.items()}


def weights(vocabulary: int, identities: int = 1, levels: tuple[str, ...] = ("L",)) -> dict[str, Tensor]:
    """Random weights under the reference implementation's names."""
    state = {
        "H_init": torch.randn(WIDTH),
        "L_init": torch.randn(WIDTH),
        "embed_tokens.embedding_weight": torch.randn(vocabulary, WIDTH),
        "lm_head.weight": torch.randn(vocabulary, WIDTH),
        "q_head.weight": torch.zeros(2, WIDTH),
        "q_head.bias": torch.zeros(2),
        "puzzle_emb.weights": torch.randn(identities, WIDTH),
    }
    for level in levels:
        state |= layer(f"{level}_level.layers.0")
    return {f"_orig_mod.model.inner.{name}": tensor for name, tensor in state.items()}


def saved(path: Path, state: Any) -> Path:
    torch.save(state, path)
    return path


ARCH = {
    "H_cycles": 2,
    "num_heads": 2,
    "puzzle_emb_len": 1,
    "name": "recursive_reasoning.trm@TRM",
    "loss": {"name": "x"},
}


@pytest.mark.parametrize("name", ["all_config.yaml", "arch.yaml", "all_config.json", "arch.json"])
def test_a_run_configuration_is_read_in_each_form(name: str, tmp_path: Path) -> None:
    data = {"arch": ARCH, "seed": 0} if name.startswith("all") else ARCH
    path = tmp_path / name
    path.write_text(json.dumps(data) if name.endswith("json") else yaml.safe_dump(data))
    config = convert(saved(tmp_path / "step_1", weights(11)), "sudoku", read_run_config(path)).config
    assert (config.h_cycles, config.heads, config.prefix) == (2, 2, 1)


@pytest.mark.parametrize("content", ["[1, 2]", "arch: 3", "a: [", "{", "\x00"])
def test_what_is_no_run_configuration_is_one_line(content: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(content)
    with pytest.raises(CheckpointError) as refused:
        read_run_config(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)


def test_hrm_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="HRM"):
        convert(saved(tmp_path / "step_1", weights(11, levels=("H", "L"))), "sudoku")
    path = tmp_path / "all_config.yaml"
    path.write_text(yaml.safe_dump({"arch": {"name": "hrm.hrm_act_v1@HierarchicalReasoningModel_ACTV1"}}))
    with pytest.raises(CheckpointError, match="HRM"):
        read_run_config(path)


@pytest.mark.parametrize("key", ["model", "state_dict"])
def test_weights_may_lie_beside_other_things(key: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "step_1", {key: weights(11), "step": 100})
    assert convert(path, "sudoku", {"num_heads": 2}).config.vocab_size == 11


def test_weights_of_another_task_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "step_1", weights(11))
    with pytest.raises(CheckpointError, match=r"11 tokens .*sudoku.* for maze"):
        convert(path, "maze")
    assert (
        convert(path, "maze", {"vocab_size": 11, "num_heads": 2}).task == "maze"
    )  # which is only recorded then


def test_a_puzzle_that_was_learned_by_name_gets_its_own_embedding(tmp_path: Path) -> None:
    (tmp_path / "identifiers.json").write_text(json.dumps(["<blank>", "known", "known|||t1|||0123456789"]))
    known = read_identifiers(tmp_path / "identifiers.json")
    assert known == {"known": 1}
    arch = {"num_heads": 2, "H_cycles": 1, "L_cycles": 1}
    expert = convert(saved(tmp_path / "step_1", weights(12, identities=3)), "arc", arch, known)
    pool = ModelPool(Checkpoint("test", {"arc": expert}), "cpu")
    (puzzle, other) = get("arc").samples()
    puzzle = type(puzzle)("arc", puzzle.inputs, "known", puzzle.answers, puzzle.demos)
    assert (pool.context(puzzle), pool.context(other)) == (1, None)
    said: list[str] = []

    class Listener(Callbacks):
        def warned(self, message: str) -> None:
            said.append(message)

    Refiner(pool).refine(puzzle, steps=1, callbacks=Listener())
    assert not said
    Refiner(pool).refine(other, steps=1, callbacks=Listener())
    assert len(said) == 1


def test_convert_reads_the_shape_off_the_weights_and_refuses_what_does_not_fit(tmp_path: Path) -> None:
    overrides = json.loads((GOLDEN / "attention.config.json").read_text())
    one = convert(GOLDEN / "attention.upstream.pt", "arc", overrides)
    assert (one.task, one.config.seq_len, one.config.heads, one.config.l_cycles) == ("arc", 81, 4, 4)
    with pytest.raises(CheckpointError, match="unknown 'H_cycle'"):
        convert(GOLDEN / "attention.upstream.pt", "sudoku", {"H_cycle": 2})
    with pytest.raises(CheckpointError, match="do not fit"):
        convert(GOLDEN / "mlp_t.upstream.pt", "sudoku", {"seq_len": 50, "puzzle_emb_len": 16})
    for key, said in (("L_layers", 3), ("mlp_t", True), ("vocab_size", 11), ("num_puzzle_identifiers", 5)):
        with pytest.raises(CheckpointError, match=f"{key} = {said}, but the weights have"):
            convert(GOLDEN / "attention.upstream.pt", "arc", overrides | {key: said})
    with pytest.raises(CheckpointError, match="No such file"):
        convert(tmp_path / "none", "sudoku")
    torch.save({"a": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="missing"):
        convert(tmp_path / "other.pt", "sudoku")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("num_heads", "x", "config: num_heads = 'x', expected int"),
        ("num_heads", None, "config: num_heads = None, expected int"),
        ("H_cycles", 1.5, "config: H_cycles = 1.5, expected int"),
        ("seq_len", [81], "config: seq_len = [81], expected int"),
        ("seq_len", 10**13, "weights do not fit the config: "),
        ("puzzle_emb_len", True, "config: puzzle_emb_len = True, expected int"),
        ("expansion", "x", "config: expansion = 'x', expected float"),
        ("expansion", 0, "[model] expansion 0.0"),
        ("expansion", math.nan, "[model] expansion nan"),
        ("expansion", 8, "weights do not fit the config: size mismatch for net.blocks"),
        ("pos_encodings", "banana", "config: pos_encodings = 'banana'"),
    ],
)
def test_what_a_reference_config_cannot_mean_is_one_line(key: str, value: object, said: str) -> None:
    overrides = json.loads((GOLDEN / "mlp_t.config.json").read_text()) | {key: value}
    with pytest.raises(CheckpointError) as refused:
        convert(GOLDEN / "mlp_t.upstream.pt", "sudoku", overrides)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
