"""Checkpoints that describe themselves: experts (one a task) in one file, folders, and reference weights."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import torch
import torch.nn.functional as F
from torch import Tensor

import trm
from trm.config import ConfigError, from_dict, to_dict
from trm.files import replacing
from trm.grid import first_line
from trm.model.config import TRMConfig
from trm.model.network import TRM
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
