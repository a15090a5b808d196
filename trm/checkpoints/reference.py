"""Checkpoints of the reference implementation, read into this project's names and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from trm.checkpoints import CheckpointError
from trm.checkpoints.format import Expert, read_tensors
from trm.config import ConfigError
from trm.model.config import TRMConfig
from trm.tasks import get as get_task

_PREFIXES = ("_orig_mod.", "model.", "inner.")
_NAMES = {
    "H_init": "y_init",
    "L_init": "z_init",
    "embed_tokens.embedding_weight": "embed.tokens",
    "puzzle_emb.weights": "embed.identities",
    "lm_head.weight": "head.weight",
    "q_head.weight": "halt.weight",
    "q_head.bias": "halt.bias",
}
_PARTS = {
    "L_level.layers.": "net.blocks.",
    ".self_attn.qkv_proj.": ".mix.qkv.",
    ".self_attn.o_proj.": ".mix.out.",
    ".mlp_t.gate_up_proj.": ".mix.gate_up.",
    ".mlp_t.down_proj.": ".mix.down.",
    ".mlp.gate_up_proj.": ".mlp.gate_up.",
    ".mlp.down_proj.": ".mlp.down.",
}


def reference_name(key: str) -> str:
    """This project's name for a parameter of the reference implementation."""
    for prefix in _PREFIXES:
        key = key.removeprefix(prefix)
    if key in _NAMES:
        return _NAMES[key]
    for theirs, ours in _PARTS.items():
        key = key.replace(theirs, ours)
    return key


def reference_config(state: Mapping[str, Tensor], task: str, overrides: Mapping[str, Any]) -> TRMConfig:
    """The shape of reference weights, from the tensors, the task's canvas and `overrides`.

    overrides: the reference's own keys (`H_cycles`, `num_heads`, `pos_encodings`, …). Raises CheckpointError where
    they are unknown or contradict the weights.
    """
    known = {
        "seq_len", "vocab_size", "hidden_size", "num_heads", "H_cycles", "L_cycles", "L_layers", "expansion",
        "pos_encodings", "mlp_t", "puzzle_emb_len", "puzzle_emb_ndim", "num_puzzle_identifiers",
        "batch_size", "halt_max_steps", "halt_exploration_prob", "forward_dtype", "no_ACT_continue", "H_layers",
        "rms_norm_eps", "rope_theta", "name", "loss",
    }  # fmt: skip
    if unknown := sorted(set(overrides) - known):
        raise CheckpointError(f"config: unknown {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    for key in ("seq_len", "num_heads", "H_cycles", "L_cycles", "puzzle_emb_len"):
        if type(overrides.get(key, 0)) is not int:
            raise CheckpointError(f"config: {key} = {overrides[key]!r}, expected a whole number")
    if type(expansion := overrides.get("expansion", 4)) not in (int, float):
        raise CheckpointError(f"config: expansion = {expansion!r}, expected a number")
    if (encodings := overrides.get("pos_encodings", "rope")) not in ("rope", "none"):
        raise CheckpointError(f"config: pos_encodings = {encodings!r}, expected 'rope' or 'none'")
    if overrides.get("rope_theta", 10_000) != 10_000 or overrides.get("rms_norm_eps", 1e-5) != 1e-5:
        raise CheckpointError("config: only rope_theta 10000 and rms_norm_eps 1e-5 are known here")
    mixer = "mlp_t" if "net.blocks.0.mix.down.weight" in state else "attention"
    identities = state.get("embed.identities")
    vocab, hidden = state["embed.tokens"].shape
    spec = get_task(task)
    identity_dim = int(identities.shape[1]) if identities is not None else 0
    prefix = overrides.get("puzzle_emb_len") or -(-identity_dim // hidden)
    seq_len = overrides.get("seq_len", spec.seq_len)
    if mixer == "mlp_t":
        positions = int(state["net.blocks.0.mix.down.weight"].shape[0])
        if "puzzle_emb_len" not in overrides:
            prefix = positions - seq_len
    elif "puzzle_emb_len" not in overrides:
        prefix = 16 if identities is not None else 0  # the published recipes' default
    layers = 1 + max(int(k.split(".")[2]) for k in state if k.startswith("net.blocks."))
    stated_by_weights: dict[str, Any] = {
        "vocab_size": vocab,
        "hidden_size": hidden,
        "L_layers": layers,
        "mlp_t": mixer == "mlp_t",
    }
    if identities is not None:
        stated_by_weights |= {"num_puzzle_identifiers": len(identities), "puzzle_emb_ndim": identity_dim}
    for key, value in stated_by_weights.items():
        if overrides.get(key, value) != value:
            raise CheckpointError(f"config: {key} = {overrides[key]!r}, but the weights have {value!r}")
    return TRMConfig(
        seq_len=seq_len,
        vocab_size=int(vocab),
        hidden_size=int(hidden),
        layers=layers,
        heads=overrides.get("num_heads", 8),
        expansion=float(expansion),
        mixer=mixer,  # type: ignore[arg-type]
        positions="rope" if mixer == "attention" and encodings == "rope" else "none",
        prefix=prefix,
        h_cycles=overrides.get("H_cycles", 3),
        l_cycles=overrides.get("L_cycles", 6 if task == "sudoku" else 4),
        identities=int(identities.shape[0]) if identities is not None else 0,
        identity_dim=identity_dim,
    )


def convert(upstream: str | Path, task: str, overrides: Mapping[str, Any] | None = None) -> Expert:
    """Read a checkpoint of the reference implementation (a state dict saved by torch). Raises CheckpointError."""
    get_task(task)
    raw = read_tensors(Path(upstream), "a torch state dict")
    if not isinstance(raw, dict) or not all(isinstance(v, Tensor) for v in raw.values()):
        raise CheckpointError(f"{upstream}: expected a state dict of tensors")
    state = {reference_name(k): v.float() for k, v in raw.items()}
    missing = {"embed.tokens", "head.weight", "halt.weight", "y_init", "z_init"} - set(state)
    if missing:
        raise CheckpointError(f"{upstream}: {', '.join(sorted(missing))} missing; not a reference TRM")
    try:
        config = reference_config(state, task, overrides or {})
    except ConfigError as error:
        raise CheckpointError(f"{upstream}: {error}") from None
    expert = Expert(task, config, state, {"task": task, "origin": f"converted from {Path(upstream).name}"})
    expert.model()  # weights that do not fit are refused here
    return expert
