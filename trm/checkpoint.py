"""Checkpoints that describe themselves: experts (one a task) in one file, folders, and reference weights."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import torch
import torch.nn.functional as F
from torch import Tensor

import trm
from trm.config import ConfigError, TRMConfig, from_dict, to_dict
from trm.grid import first_line
from trm.model import TRM
from trm.tasks import get as get_task

FORMAT = 1
VANISHED = 1e-9  # weights are about 1e-2
IDENTITIES = "embed.identities"  # name of the tensor with a row for every task
META = "trm.json"  # beside config.json and model.safetensors in a folder


class CheckpointError(RuntimeError):
    """A checkpoint that is missing or cannot be used. One line for people."""


@dataclass(frozen=True, eq=False)
class Expert:
    """Weights for one task, with where they came from.

    meta: training data, step, metrics, code version; free-form plain data.
    """

    task: str
    config: TRMConfig
    state: dict[str, Tensor]
    meta: dict[str, Any] = field(default_factory=dict)

    def model(self, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> TRM:
        """The network in evaluation mode: recursion and its weights in `dtype`, embeddings and heads in float32."""
        try:
            model = TRM(self.config)
            model.load_state_dict({k: v.float() for k, v in self.state.items()})
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise CheckpointError(f"{self.task}: weights do not fit the config: {reason}") from None
        model.dtype = dtype
        model.net.to(dtype)  # once, not at every use
        return model.to(device).eval().requires_grad_(False)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A set of experts, and its own name: where it was found and what it hashes to."""

    name: str
    experts: dict[str, Expert]


# -- reading ---------------------------------------------------------------------------------------------
def load(source: str | Path) -> Checkpoint:
    """Experts from a `.pt` file, a `save_pretrained` folder or a hub id. Raises CheckpointError.

    Nothing is unpickled beyond tensors and plain data, and no code is taken from a hub.
    """
    path = Path(source)
    if path.is_dir():
        return _load_folder(path, str(source))
    if path.is_file():
        return _load_file(path, str(source))
    text = str(source)
    if path.suffix in (".pt", ".safetensors") or text.startswith((".", "/", "~")) or text.count("/") != 1:
        raise CheckpointError(f"{source}: no such file or folder, expected a checkpoint")
    return _load_hub(text)


def _load_file(path: Path, name: str) -> Checkpoint:
    try:
        raw = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a file that is not its own
        raise CheckpointError(f"{name}: not a checkpoint: {_unread(error)}") from None
    if not isinstance(raw, dict) or raw.get("format") != FORMAT or "experts" not in raw:
        raise CheckpointError(
            f"{name}: not a checkpoint of format {FORMAT}; `trm convert` reads reference ones"
        )
    experts = {
        task: Expert(task, _config(one["config"], name), _present(one["state"]), one.get("meta", {}))
        for task, one in raw["experts"].items()
    }
    return Checkpoint(f"{name}@sha256:{_sha256(path)[:16]}", experts)


def _unread(error: Exception) -> str:
    """Why torch did not read a file, without its advice to let the file run code."""
    if isinstance(error, pickle.UnpicklingError):
        return "expected tensors and plain data, nothing else is unpickled"
    return first_line(error)


def _load_folder(path: Path, name: str) -> Checkpoint:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    weights = path / "model.safetensors"
    if not weights.is_file() or not (path / "config.json").is_file():
        raise CheckpointError(f"{name}: expected config.json and model.safetensors in the folder")
    try:
        raw = json.loads((path / "config.json").read_text())
        meta = json.loads((path / META).read_text()) if (path / META).is_file() else {}
        state = _present(load_file(weights))
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{name}: not a checkpoint: {first_line(error)}") from None
    if not isinstance(raw, dict) or not isinstance(meta, dict):
        raise CheckpointError(f"{name}: expected config.json and {META} to hold an object each")
    config = _config(raw, name)
    task = meta.get("task") or _guess_task(config)
    if task is None:
        raise CheckpointError(f"{name}: {META} names no task, expected one")
    return Checkpoint(f"{name}@sha256:{_sha256(weights)[:16]}", {task: Expert(task, config, state, meta)})


def _present(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights without those that decay has all but taken: a CPU multiplies denormals twenty times as slowly."""
    return {
        name: F.hardshrink(tensor, VANISHED) if tensor.is_floating_point() else tensor
        for name, tensor in state.items()
    }


def _load_hub(repo: str) -> Checkpoint:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        folder = Path(snapshot_download(repo, allow_patterns=["*.json", "*.safetensors"]))
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{repo}: no such file, and the hub did not give it: {first_line(error)}"
        ) from None
    return _load_folder(folder, f"{repo}@{folder.name[:12]}")


def _config(raw: Mapping[str, Any], name: str) -> TRMConfig:
    try:
        return from_dict(TRMConfig, dict(raw.get("config", raw)), name)
    except ConfigError as error:
        raise CheckpointError(str(error)) from None


def _guess_task(config: TRMConfig) -> str | None:
    """Sudoku, maze and ARC differ in shape: what a folder without `trm.json` must be for."""
    from trm.tasks import names

    fits = [
        n
        for n in names()
        if (get_task(n).seq_len, get_task(n).vocab_size) == (config.seq_len, config.vocab_size)
    ]
    return fits[0] if len(fits) == 1 else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# -- writing ---------------------------------------------------------------------------------------------
@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary place beside `path` that takes its name when the block ends well.

    A folder is replaced by a folder alone, never by a file: IsADirectoryError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    temporary = scratch / path.name
    try:
        yield temporary
        if path.is_dir():
            if not temporary.is_dir():
                raise IsADirectoryError(errno.EISDIR, "is a folder, expected the name of a file", str(path))
            path.rename(scratch / "old")  # a folder cannot be renamed over another
        os.replace(temporary, path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def save(path: str | Path, experts: Mapping[str, Expert], dtype: torch.dtype | None = torch.bfloat16) -> None:
    """Write experts into one file that `weights_only=True` loads. Matrices are stored in `dtype` (None: as they are),
    and the file's parts deflated: the exponents of bfloat16 are much alike, which makes it a fifth smaller."""
    raw = {
        task: {
            "config": to_dict(one.config),
            "state": {
                k: (v.to(dtype or v.dtype) if v.ndim > 1 else v).contiguous() for k, v in one.state.items()
            },
            "meta": {"code_version": trm.__version__, **one.meta},
        }
        for task, one in experts.items()
    }
    with replacing(Path(path)) as temporary:
        plain = BytesIO()
        torch.save({"format": FORMAT, "experts": raw}, plain)
        with ZipFile(plain) as stored, ZipFile(temporary, "w") as deflated:
            # Parts keep torch's date, not today's: the same weights have the same hash.
            for part in stored.infolist():
                deflated.writestr(part, stored.read(part), ZIP_DEFLATED)


def save_folder(path: Path, expert: Expert) -> None:
    """Write a `save_pretrained` folder that also says its task and origin. The folder must be new."""
    model = expert.model()
    model.save_pretrained(path)
    meta = {"task": expert.task, "code_version": trm.__version__, **expert.meta}
    (path / META).write_text(json.dumps(meta, indent=1) + "\n")


def pack(out: str | Path, sources: list[str], cycles: int = 0) -> dict[str, Expert]:
    """Gather the experts of several checkpoints into one file; of two for one task the later is kept.

    Experts that `out` has for other tasks stay in it: it is read first, and not replaced where it is no checkpoint.

    cycles: of a supervision step (T), where they are to be others than in training; no weight depends on them.
    """
    held = load(str(out)).experts if Path(out).is_file() else {}
    experts = {task: with_one_identity(one) for task, one in held.items()}
    for source in sources:
        for task, one in load(source).experts.items():
            kept = with_one_identity(one)
            config = replace(kept.config, h_cycles=cycles or kept.config.h_cycles)
            experts[task] = replace(kept, config=config)
    save(out, experts)
    return experts


def with_one_identity(expert: Expert) -> Expert:
    """An expert that is fitted to every task anew, without the identities of the tasks that it learned from.

    Their mean is kept, which is what fitting starts from. Other experts are returned as they are.
    """
    if not expert.config.turns:
        return expert
    state = {**expert.state, IDENTITIES: expert.state[IDENTITIES].float().mean(0, keepdim=True)}
    return replace(expert, config=replace(expert.config, identities=1), state=state)


# -- reference checkpoints -------------------------------------------------------------------------------
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
    """This project's name of a reference implementation's parameter."""
    for prefix in _PREFIXES:
        key = key.removeprefix(prefix)
    if key in _NAMES:
        return _NAMES[key]
    for theirs, ours in _PARTS.items():
        key = key.replace(theirs, ours)
    return key


def reference_config(state: Mapping[str, Tensor], task: str, overrides: Mapping[str, Any]) -> TRMConfig:
    """The shape of reference weights: read off the tensors, the task and, where given, its config file.

    `overrides` takes the reference's own keys (`H_cycles`, `num_heads`, `pos_encodings`, …).
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
    found: dict[str, Any] = {
        "vocab_size": vocab,
        "hidden_size": hidden,
        "L_layers": layers,
        "mlp_t": mixer == "mlp_t",
    }
    if identities is not None:
        found |= {"num_puzzle_identifiers": len(identities), "puzzle_emb_ndim": identity_dim}
    for key, value in found.items():
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
    try:
        raw = torch.load(upstream, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{upstream}: {error.strerror or error}") from None
    except Exception as error:  # torch raises many kinds for a file that is not its own
        raise CheckpointError(f"{upstream}: not a torch state dict: {_unread(error)}") from None
    if not isinstance(raw, dict) or not all(isinstance(v, Tensor) for v in raw.values()):
        raise CheckpointError(f"{upstream}: expected a state dict of tensors")
    state = {reference_name(k): v.float() for k, v in raw.items()}
    missing = {"embed.tokens", "head.weight", "halt.weight", "y_init", "z_init"} - set(state)
    if missing:
        raise CheckpointError(f"{upstream}: {', '.join(sorted(missing))} missing; not a TRM of the reference")
    try:
        config = reference_config(state, task, overrides or {})
    except ConfigError as error:
        raise CheckpointError(f"{upstream}: {error}") from None
    expert = Expert(task, config, state, {"task": task, "origin": f"converted from {Path(upstream).name}"})
    expert.model()  # weights that do not fit are refused here
    return expert
