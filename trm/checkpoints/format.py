"""Checkpoints that describe themselves: a file with an expert for each task, or a folder with one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
from numpy.typing import NDArray

import trm
from trm.checkpoints import CheckpointError as CheckpointError
from trm.checkpoints.content import read_outline, read_stored
from trm.checkpoints.content import read_tensors as read_tensors
from trm.checkpoints.schema import check_size, plain_table, weights_by_name
from trm.checkpoints.weights import to_float32, to_tensor, without_vanished
from trm.config import ConfigError, from_dict
from trm.files import recover, replacing
from trm.grid import first_line
from trm.model.config import TRMConfig
from trm.model.numpy_network import weight_shapes
from trm.tasks import get, names
from trm.tasks.own_grid import lacks_symbols
from trm.text import parse_json

# PyTorch takes two seconds to load, and a puzzle on a CPU may be answered without it: it is loaded where it is used.
if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from trm.checkpoints.weights import Weight
    from trm.model.network import TRM

FORMAT = 1
TASK_EMBEDDINGS = "embed.identities"  # name of the tensor with a row for every task
IDENTIFIERS = (
    "identifiers"  # in an expert's meta: the number of each training puzzle's embedding, by the puzzle's id
)
EXPERTS = "experts.pt"  # in a folder of several experts
META = "trm.json"  # beside config.json and model.safetensors in a folder


@dataclass(frozen=True, eq=False)
class Expert:
    """Weights for one task, with their origin.

    weights: by the names of `TRM.state_dict()`, arrays as a file is read, or tensors. meta: training data, step,
    metrics, code version; free-form plain data.
    """

    task: str
    config: TRMConfig
    weights: Mapping[str, Weight]
    meta: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def state(self) -> dict[str, Tensor]:
        """The weights as tensors."""
        return {name: to_tensor(weight) for name, weight in self.weights.items()}

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """The weights as arrays in float32. Raises CheckpointError where they do not fit the config."""
        check_size(self.config, self.weights, self.task)
        arrays = {name: to_float32(weight) for name, weight in self.weights.items()}
        expected = weight_shapes(self.config)
        for name in {**expected, **arrays}:
            found = arrays[name].shape if name in arrays else "missing"
            if found != expected.get(name):
                reason = f"{name} is {found}, expected {expected.get(name, 'no such weight')}"
                raise CheckpointError(f"{self.task}: weights do not fit the config: {reason}")
        return arrays

    def model(self, device: str | torch.device = "cpu", dtype: torch.dtype | None = None) -> TRM:
        """The network in evaluation mode: recursion and its weights in `dtype` (float32 where it is not given),
        embeddings and heads in float32."""
        import torch

        from trm.model.loading import filled  # loads PyTorch

        check_size(self.config, self.weights, self.task)
        try:
            model = filled(self.config, self.state)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise CheckpointError(f"{self.task}: weights do not fit the config: {reason}") from None
        model.dtype = dtype or torch.float32
        model.net.to(model.dtype)  # once, not at every use
        return model.to(device).eval().requires_grad_(False)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A set of experts by task. name: where they were read, and the hash or revision."""

    name: str
    experts: dict[str, Expert]

    def task_named(self, name: str) -> str:
        """The task that a name means: of `grid`, or `grid:3x4`, the one such task that there is an expert for.

        Raises CheckpointError where that is not clear.
        """
        if not lacks_symbols(name):
            return name
        own = [task for task in self.experts if f"{task}:".startswith(f"{name}:")]
        if len(own) != 1:
            found = ", ".join(own or self.experts)
            raise CheckpointError(f"{self.name}: expected one expert for a {name}, found {found}")
        return own[0]


def load(source: str | Path, tasks: Collection[str] | None = None) -> Checkpoint:
    """Experts from a `.pt` file, a `save_pretrained` folder or a hub id. Raises CheckpointError.

    tasks: those whose experts are needed: only their weights are read, if the file has them all. None: all are.
    Only tensors and plain data are unpickled, and no code is taken from a hub.
    """
    path = Path(source)
    if not path.exists() and path.parent.is_dir():
        with suppress(OSError):
            recover(path)  # a writer that was killed may have left it without its name
    if path.is_dir():
        return _load_folder(path, str(source), tasks)
    if path.is_file():
        return _load_file(path, str(source), tasks)
    text = str(source)
    if path.suffix in (".pt", ".safetensors") or text.startswith((".", "/", "~")) or text.count("/") != 1:
        raise CheckpointError(f"{source}: no such file or folder, expected a checkpoint")
    return _load_hub(text, tasks)


def _load_file(path: Path, name: str, tasks: Collection[str] | None) -> Checkpoint:
    raw = read_outline(path, "a checkpoint")
    if not (isinstance(raw, dict) and type(raw.get("format")) is int and raw["format"] == FORMAT):
        raw = {}
    found = raw.get("experts")
    if not isinstance(found, dict):
        wrong = f"not a checkpoint of format {FORMAT}; `trm convert` reads reference ones"
        raise CheckpointError(f"{name}: {wrong}")
    if tasks is not None and set(tasks) <= set(found):
        found = {task: found[task] for task in tasks}
    experts = {}
    for task, entry in found.items():
        if not isinstance(entry, dict) or not {"config", "state"} <= set(entry):
            raise CheckpointError(f"{name}: expert {task!r}: expected its config and state")
        state = entry["state"]
        if isinstance(state, dict):
            state = read_stored(path, "a checkpoint", state)
        experts[str(task)] = _expert(str(task), entry["config"], state, entry.get("meta", {}), name)
    return Checkpoint(f"{name}@sha256:{_sha256(path)[:16]}", experts)


def _load_folder(path: Path, name: str, tasks: Collection[str] | None) -> Checkpoint:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if (path / EXPERTS).is_file():
        return _load_file(path / EXPERTS, name, tasks)
    weights = path / "model.safetensors"
    if not weights.is_file() or not (path / "config.json").is_file():
        raise CheckpointError(f"{name}: expected config.json and model.safetensors in the folder")
    try:
        raw = parse_json((path / "config.json").read_text())
        meta = parse_json((path / META).read_text()) if (path / META).is_file() else {}
        state = load_file(weights)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{name}: not a checkpoint: {first_line(error)}") from None
    if not isinstance(raw, dict) or not isinstance(meta, dict):
        raise CheckpointError(f"{name}: expected config.json and {META} to hold an object each")
    task = str(meta.get("task", ""))
    expert = _expert(task, raw.get("config", raw), state, meta, name)
    if not task:  # its shape says what it is for, if there is only one task of that shape
        shapes = {own: (get(own).seq_len, get(own).vocab_size) for own in names()}
        own_shape = expert.config.seq_len, expert.config.vocab_size
        task, *others = [own for own, shape in shapes.items() if shape == own_shape] or [""]
        if not task or others:
            raise CheckpointError(f"{name}: {META} names no task, expected one")
    return Checkpoint(f"{name}@sha256:{_sha256(weights)[:16]}", {task: replace(expert, task=task)})


def _load_hub(repo: str, tasks: Collection[str] | None) -> Checkpoint:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        folder = Path(snapshot_download(repo, allow_patterns=["*.json", "*.safetensors", EXPERTS]))
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = f"no such file, and the hub did not give it: {first_line(error)}"
        raise CheckpointError(f"{repo}: {reason}") from None
    return _load_folder(folder, f"{repo}@{folder.name[:12]}", tasks)


def _expert(task: str, config: object, state: object, meta: object, name: str) -> Expert:
    """An expert from what a file holds, whose structure and weights are checked here. Raises CheckpointError."""
    where = f"{name}: expert {task!r}"
    shape, origin = plain_table(config, f"{where}: config"), plain_table(meta, f"{where}: meta")
    weights = weights_by_name(state, where)
    weights = {name: without_vanished(weight) for name, weight in weights.items()}
    try:
        return Expert(task, from_dict(TRMConfig, shape, name), weights, origin)
    except ConfigError as error:
        raise CheckpointError(str(error)) from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save(
    path: str | Path, experts: Mapping[str, Expert], dtype: torch.dtype | str | None = "bfloat16"
) -> None:
    """Write experts into one file that `torch.load(weights_only=True)` reads. The same weights give the same file.

    dtype: of stored matrices; None keeps theirs. Deflated, bfloat16 is a fifth smaller: its exponents are much alike.
    """
    import torch

    wanted = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    raw = {
        task: {
            "config": asdict(expert.config),
            "state": {
                k: (v.to(wanted or v.dtype) if v.ndim > 1 else v).contiguous()
                for k, v in expert.state.items()
            },
            "meta": {"code_version": trm.__version__, **expert.meta},
        }
        for task, expert in experts.items()
    }
    with replacing(Path(path)) as temporary:
        plain = BytesIO()
        torch.save({"format": FORMAT, "experts": raw}, plain)
        with ZipFile(plain) as stored, ZipFile(temporary, "w") as deflated:
            for part in stored.infolist():  # with torch's constant date, not today's
                deflated.writestr(part, stored.read(part), ZIP_DEFLATED)


def save_folder(path: Path, expert: Expert) -> None:
    """Write a `save_pretrained` folder, with task and origin in `trm.json`. The folder must be new."""
    expert.model().save_pretrained(path)
    meta = {"task": expert.task, "code_version": trm.__version__, **expert.meta}
    (path / META).write_text(json.dumps(meta, indent=1) + "\n")


def pack(out: str | Path, sources: list[str], cycles: int = 0) -> dict[str, Expert]:
    """Gather the experts of several checkpoints into one file; on duplicate tasks the last one wins.

    Experts for other tasks that `out` holds already are kept; a file that is no checkpoint is not overwritten.

    cycles: h_cycles of the packed experts, if not those of their training; no weight depends on it.
    """
    experts = dict(load(str(out)).experts) if Path(out).is_file() else {}
    for source in sources:
        for task, expert in load(source).experts.items():
            config = replace(expert.config, h_cycles=cycles or expert.config.h_cycles)
            experts[task] = replace(expert, config=config)
    experts = {task: with_one_embedding(expert) for task, expert in experts.items()}
    save(out, experts)
    return experts


def with_one_embedding(expert: Expert) -> Expert:
    """An expert for test-time training with the mean of its training tasks' embeddings, from which that starts.

    Experts without such embeddings are returned as they are.
    """
    if not expert.config.turns:
        return expert
    mean = expert.state[TASK_EMBEDDINGS].float().mean(0, keepdim=True)
    state = {**expert.state, TASK_EMBEDDINGS: mean}
    return replace(expert, config=replace(expert.config, identities=1), weights=state)
