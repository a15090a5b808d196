"""Checkpoints of the reference implementation, read into this project's names and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from torch import Tensor

from trm.checkpoints import CheckpointError
from trm.checkpoints.format import IDENTIFIERS, Expert, read_tensors
from trm.checkpoints.schema import weights_by_name
from trm.checkpoints.weights import to_tensor
from trm.config import ConfigError, from_dict
from trm.grid import first_line
from trm.model.config import TRMConfig
from trm.tasks import Task, names
from trm.tasks import get as get_task
from trm.text import parse_json

_NEEDED = ("embed.tokens", "head.weight", "halt.weight", "y_init", "z_init")
_WRAPPERS = ("model", "state_dict", "model_state_dict")  # under which training scripts keep the weights
# In the names of a data folder's identifiers.json: no puzzle at all, and a puzzle under another view.
_BLANK, _AUGMENTED = "<blank>", "|||"

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
    ".self_attn.o_proj.": ".mix.out.",
    ".self_attn.": ".mix.",
    ".mlp_t.": ".mix.",
    "_proj.": ".",
}


def reference_name(key: str) -> str:
    """This project's name for a parameter of the reference implementation."""
    for prefix in ("_orig_mod.", "model.", "inner."):
        key = key.removeprefix(prefix)
    for theirs, ours in _PARTS.items():
        key = key.replace(theirs, ours)
    return _NAMES.get(key, key)


@dataclass(frozen=True)
class ReferenceConfig:
    """The reference implementation's own keys. What is not given comes from the weights and the task."""

    seq_len: int = 0
    vocab_size: int = 0
    hidden_size: int = 0
    num_heads: int = 8
    H_cycles: int = 3
    L_cycles: int = 0
    L_layers: int = 0
    expansion: float = 4.0
    pos_encodings: Literal["rope", "none"] = "rope"
    mlp_t: bool = False
    puzzle_emb_len: int = 0
    puzzle_emb_ndim: int = 0
    num_puzzle_identifiers: int = 0
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10_000.0
    # Of its training alone:
    H_layers: int = 0
    batch_size: int = 0
    halt_max_steps: int = 0
    halt_exploration_prob: float = 0.0
    forward_dtype: str = ""
    no_ACT_continue: bool = True
    name: str = ""
    loss: dict[str, Any] = field(default_factory=dict)


def reference_config(state: Mapping[str, Tensor], task: str, overrides: Mapping[str, Any]) -> TRMConfig:
    """The shape of reference weights, from the tensors, the task's canvas and `overrides`, keys of ReferenceConfig.

    Raises ConfigError, or CheckpointError where the overrides contradict the weights.
    """
    given = from_dict(ReferenceConfig, overrides)
    if given.rope_theta != 10_000 or given.rms_norm_eps != 1e-5:
        raise CheckpointError("config: only rope_theta 10000 and rms_norm_eps 1e-5 are supported")
    vocab, hidden = map(int, state["embed.tokens"].shape)
    token_mixer = "net.blocks.0.mix.down.weight" in state
    layers = 1 + max(int(k.split(".")[2]) for k in state if k.startswith("net.blocks."))
    by_weights = {"vocab_size": vocab, "hidden_size": hidden, "L_layers": layers, "mlp_t": token_mixer}
    identities = identity_dim = 0
    if "embed.identities" in state:
        identities, identity_dim = map(int, state["embed.identities"].shape)
        by_weights |= {"num_puzzle_identifiers": identities, "puzzle_emb_ndim": identity_dim}
    for key, value in by_weights.items():
        if overrides.get(key, value) != value:
            raise CheckpointError(f"config: {key} = {overrides[key]!r}, but the weights have {value!r}")
    seq_len = given.seq_len or get_task(task).seq_len
    prefix = given.puzzle_emb_len or -(-identity_dim // hidden)
    if "puzzle_emb_len" not in overrides:
        # A token mixer has a weight for every position; else the default of the published recipes.
        prefix = 16 if identities else 0
        if token_mixer:
            prefix = int(state["net.blocks.0.mix.down.weight"].shape[0]) - seq_len
    return TRMConfig(
        seq_len=seq_len,
        vocab_size=vocab,
        hidden_size=hidden,
        layers=layers,
        heads=given.num_heads,
        expansion=given.expansion,
        mixer="mlp_t" if token_mixer else "attention",
        positions="none" if token_mixer else given.pos_encodings,
        prefix=prefix,
        h_cycles=given.H_cycles,
        l_cycles=given.L_cycles or (6 if task == "sudoku" else 4),
        identities=identities,
        identity_dim=identity_dim,
    )


def convert(
    upstream: str | Path,
    task: str,
    overrides: Mapping[str, Any] | None = None,
    identifiers: Mapping[str, int] | None = None,
) -> Expert:
    """Read a checkpoint of the reference implementation (a state dict saved by torch). Raises CheckpointError.

    overrides: keys of ReferenceConfig; where they name the vocabulary or the length, `task` is recorded and not
    checked. identifiers: the embedding of each puzzle of its training, as `read_identifiers` has them.
    """
    spec = get_task(task)
    state = _state_of(read_tensors(Path(upstream), "a torch state dict"), str(upstream))
    try:
        config = reference_config(state, task, overrides or {})
    except ConfigError as error:
        raise CheckpointError(f"{upstream}: {error}") from None
    except (ValueError, IndexError):  # names and numbers of dimensions that say nothing
        raise CheckpointError(f"{upstream}: its tensors are not those of a reference TRM") from None
    if not {"vocab_size", "seq_len"} & set(overrides or {}):
        _check_vocabulary(len(state["embed.tokens"]), spec, str(upstream))
    meta: dict[str, Any] = {"task": task, "origin": f"converted from {Path(upstream).name}"}
    if known := {name: number for name, number in (identifiers or {}).items() if number < config.identities}:
        meta[IDENTIFIERS] = known
    expert = Expert(task, config, state, meta)
    expert.model()  # weights that do not fit are refused here
    return expert


def _state_of(raw: object, where: str) -> dict[str, Tensor]:
    """The tensors under this project's names, also of a file that holds more than them. Raises CheckpointError."""
    inner = (
        next((raw[key] for key in _WRAPPERS if isinstance(raw.get(key), dict)), raw)
        if isinstance(raw, dict)
        else {}
    )
    state = {
        reference_name(key): to_tensor(value).float() for key, value in weights_by_name(inner, where).items()
    }
    if any(key.startswith("H_level.") for key in state):
        kind = "a Hierarchical Reasoning Model (HRM), with a network for each of its two levels"
        raise CheckpointError(f"{where}: {kind}; expected a Tiny Recursive Model, which has one")
    if missing := [theirs for theirs, own in _NAMES.items() if own in _NEEDED and own not in state]:
        raise CheckpointError(f"{where}: {', '.join(missing)} missing; not a reference TRM with two states")
    return state


def _check_vocabulary(found: int, task: Task, where: str) -> None:
    """Raise CheckpointError where weights were trained on another task's tokens."""
    if found != task.vocab_size:
        others = [name for name in names() if get_task(name).vocab_size == found]
        hint = f" (it is that of {' or '.join(others)})" if others else ""
        expected = f"expected {task.vocab_size} for {task.name}"
        raise CheckpointError(f"{where}: a vocabulary of {found} tokens{hint}, {expected}")


def read_run_config(path: Path) -> dict[str, Any]:
    """The keys of ReferenceConfig in a JSON or YAML file: alone, or as `arch` in a run's all_config.yaml.

    Raises CheckpointError for what is no such file, and for the configuration of another architecture; OSError.
    """
    try:
        text = path.read_text(encoding="utf-8")
        data = parse_json(text) if text.lstrip().startswith("{") else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: neither JSON nor YAML: {first_line(error)}") from None
    keys = data.get("arch", data) if isinstance(data, dict) else None
    if not isinstance(keys, dict):
        raise CheckpointError(f"{path}: expected an object, with keys of the reference implementation")
    if "hrm" in (name := str(keys.get("name", ""))).lower() or "Hierarchical" in name:
        raise CheckpointError(
            f"{path}: the configuration of an HRM ({name}), expected a Tiny Recursive Model's"
        )
    return keys


def read_identifiers(path: Path) -> dict[str, int]:
    """The number of each puzzle's embedding, from the identifiers.json of a data folder; augmented ones left out.

    Raises CheckpointError, and OSError.
    """
    try:
        names = parse_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path}: no JSON: {first_line(error)}") from None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CheckpointError(f"{path}: expected a list of the puzzles' names")
    return {name: number for number, name in enumerate(names) if name != _BLANK and _AUGMENTED not in name}
