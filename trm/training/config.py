"""The configuration of a training run: model, data, drafts, optimiser, loss and length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from trm import tasks
from trm.config import ConfigError, apply_override, check_choices, check_range, from_dict, read_toml
from trm.data.config import DataConfig as DataConfig
from trm.data.config import DraftConfig as DraftConfig
from trm.data.own_grids import describe_own_grid
from trm.grid import PuzzleError
from trm.model.config import TRMConfig
from trm.tasks.own_grid import is_own, lacks_symbols
from trm.text import parse_json

# A run has one key of each pair: if the command line gives one, the file's other is dropped.
ALTERNATIVES = (("train.steps", "train.seconds"), ("data.train", "data.generate"))
RENAMED_DATA_KEYS = {"recolour": "color_permutation_prob"}  # files and run folders may have the old ones


@dataclass(frozen=True)
class OptimConfig:
    """Muon or NorMuon for the blocks' matrices and AdamW for the rest, or AdamW for everything."""

    name: Literal["muon", "normuon", "adamw"] = "muon"
    lr: float = 0.02  # peak learning rate of Muon, or of AdamW where it trains everything
    momentum: float = 0.6  # of Muon, in Nesterov's form
    weight_decay: float = 0.1  # decoupled from the gradient
    adamw_lr: float = 1e-4  # peak learning rate of the parameters that Muon does not train
    adamw_weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 1.0  # largest global gradient norm; 0: no limit
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = 0.02  # share of the run during which the learning rate rises

    def __post_init__(self) -> None:
        check_choices(self, "[optim]")
        check_range(self, "[optim]", ("lr", "weight_decay", "adamw_lr", "adamw_weight_decay", "clip"))
        check_range(self, "[optim]", ("momentum", "warmup"), 1)
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"[optim] betas: {list(self.betas)}, expected both at least 0 and less than 1")


@dataclass(frozen=True)
class LossConfig:
    """Cross-entropy of the cells, plus the halting loss times its weight."""

    name: Literal["softmax", "stablemax"] = "softmax"
    label_smoothing: float = 0.0
    halt_weight: float = 0.5

    def __post_init__(self) -> None:
        check_choices(self, "[loss]")
        check_range(self, "[loss]", ("halt_weight",))
        check_range(self, "[loss]", ("label_smoothing",), 1)


@dataclass(frozen=True)
class TrainConfig:
    """Length, batch and housekeeping of a run. Its length is `steps` or `seconds`."""

    steps: int = 0  # optimiser steps
    seconds: float = 0.0  # of training proper: compiling, evaluation and saving are not counted
    batch: int = 384  # puzzles a step, over all processes
    pool: int = 1  # batches' worth of slots; each step trains on the next batch of them
    max_steps: int = 16  # supervision steps after which a puzzle leaves its slot
    halting: bool = True  # puzzles also leave when the network halts
    exploration: float = 0.1  # share of puzzles that stay for a random minimum of steps, halted or not
    ema: float = 0.999  # decay of the moving average of the weights; 0: no average
    ema_from: int = 0  # optimiser step at which averaging starts
    init: str = ""  # checkpoint with the initial weights; empty: random
    seed: int = 0
    precision: Literal["auto", "bf16", "fp32"] = "auto"  # auto: bf16 on CUDA
    # fused: the kernels of trm.model.kernels, on CUDA. auto: those on Hopper GPUs, in bf16.
    kernels: Literal["auto", "plain", "fused"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"  # auto: compiled, and captured in a CUDA graph, on CUDA
    evaluate_every: float = 0.1  # share of the run
    save_every_seconds: float = 300.0
    eval_steps: int = 16  # supervision steps of an evaluation
    save_pool: bool = True  # save the slots too, which an exact resume needs

    def __post_init__(self) -> None:
        check_choices(self, "[train]")
        check_range(self, "[train]", ("batch", "pool", "max_steps", "eval_steps"), least=1)
        check_range(self, "[train]", ("steps", "seconds", "ema_from", "save_every_seconds"))
        check_range(self, "[train]", ("seed",), 2**64 - 1)  # the seeds that PyTorch's generators take
        if not (0 <= self.ema < 1 and 0 <= self.exploration <= 1 and self.evaluate_every > 0):
            found = f"ema {self.ema}, exploration {self.exploration}, evaluate_every {self.evaluate_every}"
            raise ConfigError(f"[train] {found}: expected 0 to 1, and the last above 0")

    def computes_in_bf16(self, device_type: str) -> bool:
        """Whether the recursion runs in bfloat16 on this type of device (`cpu`, `cuda`, `mps`)."""
        return self.precision == "bf16" or (self.precision == "auto" and device_type == "cuda")


@dataclass(frozen=True)
class Config:
    """A whole training run, as written in `configs/NAME.toml`."""

    model: TRMConfig
    data: DataConfig
    optim: OptimConfig = field(default_factory=OptimConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    draft: DraftConfig = field(default_factory=DraftConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        if bool(self.train.steps) == bool(self.train.seconds):
            raise ConfigError("[train]: give steps or seconds, one of the two")
        if self.draft.start_rate and not self.model.draft:
            raise ConfigError("[draft]: start_rate needs [model] draft = true")


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a TOML file and apply `section.key=value` overrides. Raises ConfigError."""
    path = Path(path)
    return _overridden(read_toml(path), overrides, path.name)


def load_run(folder: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The saved configuration of a run folder, to resume it. Raises ConfigError if overrides make it another run."""
    path = Path(folder) / "config.json"
    try:
        raw = parse_json(path.read_text(encoding="utf-8"))
        if raw["train"]["seconds"]:
            raw["train"]["steps"] = 0  # older runs may have both, of which seconds counted
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{path}: not the configuration of a run") from None
    saved = config_from(raw, str(path))
    resumed = _overridden(raw, overrides, str(path))
    own = [(config.data, config.train.seed, config.optim.name) for config in (saved, resumed)]
    if own[0] != own[1]:
        others = "train.init starts a new run from its weights"
        raise ConfigError(f"{folder}: data, seed and optimiser are the run's own; {others}")
    return resumed


def config_from(raw: Mapping[str, Any], where: str) -> Config:
    """A configuration from plain data, with old keys or without a network's seq_len and vocab_size too.

    Raises ConfigError.
    """
    whole = deepcopy(dict(raw))
    model, data = whole.get("model"), whole.get("data")
    if isinstance(data, dict):
        for old, new in RENAMED_DATA_KEYS.items():
            if old in data:
                data[new] = data.pop(old)
        if isinstance(model, dict) and "task" in data:
            try:
                if lacks_symbols(str(data["task"])):
                    sources = str(data.get("train", "")), str(data.get("held_out", ""))
                    data["task"] = describe_own_grid(str(data["task"]), *sources)
                task = tasks.get(str(data["task"]))
                if is_own(task.name):
                    model.setdefault("canvas_width", task.width)
                if task.has_demonstrations and isinstance(side := model.get("canvas_width"), int) and side:
                    task = task.on(side)
            except PuzzleError as error:
                raise ConfigError(f"{where}: {error}") from None
            whole["model"] = {"seq_len": task.seq_len, "vocab_size": task.vocab_size, **model}
    return from_dict(Config, whole, where)


def _overridden(raw: dict[str, Any], overrides: Sequence[str], where: str) -> Config:
    for name in (name for name, table in raw.items() if not isinstance(table, dict)):
        raise ConfigError(f"{where}: '{name}' must be a table")
    given = {key.strip(): value for key, _, value in (text.partition("=") for text in overrides)}
    if given.get("data.train") and raw.get("data", {}).get("generate"):
        for key in ("generate", "stream", "options"):  # all that the file says of its generator
            raw["data"].pop(key, None)
    for named, other in (*ALTERNATIVES, *(pair[::-1] for pair in ALTERNATIVES)):
        if named in given and other not in given:
            section, _, key = other.partition(".")
            raw.get(section, {}).pop(key, None)
    for override in overrides:
        apply_override(raw, override)
    return config_from(raw, where)
