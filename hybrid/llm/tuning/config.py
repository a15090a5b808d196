"""What a tuning run is: strict TOML, every key of which is a field below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from trm.config import ConfigError, apply_override, check_choices, check_range, from_dict
from trm.text import parse_json, parse_toml

MODEL_FILE = "model.safetensors"  # in a checkpoint, where all weights are trained


@dataclass(frozen=True)
class ModelConfig:
    """The base model and how much of it is trained."""

    base: str  # folder, name in configs/llms.toml, or `random`: a small Llama-like model with random weights
    name: str = ""  # how the adapter names its base model; empty: as `base`
    method: Literal["lora", "full"] = "lora"  # full: all weights, without an adapter
    adapter: str = ""  # an adapter to start from: its folder, or the name of one that ships; empty: a new one
    rank: int = 48
    alpha: float = 32.0  # what the adapter adds is scaled by alpha / rank
    hidden_size: int = 128  # of a random base
    layers: int = 4  # of a random base
    heads: int = 4  # of a random base

    def __post_init__(self) -> None:
        check_choices(self, "[model]")
        check_range(self, "[model]", ("rank", "hidden_size", "layers", "heads"), least=1)
        if self.adapter and self.method != "lora":
            raise ConfigError(f'[model] adapter "{self.adapter}": expected method = "lora" with it')
        if self.hidden_size % (2 * self.heads):
            raise ConfigError(f"[model] hidden_size {self.hidden_size}: expected a multiple of 2 · heads")


@dataclass(frozen=True)
class DataConfig:
    """Files to learn from, and how episodes are drawn from them. Rates are shares of episodes."""

    tasks: str = ""  # ARC tasks (public JSON form, .json or .json.gz); all their pairs are learned
    held_out: str = ""  # ARC tasks that decide: their demonstrations are the context, their tests the target
    sudoku: str = ""  # CSV with question and answer; the last `held_out_puzzles` are held out
    maze: str = ""  # the same for mazes
    held_out_puzzles: int = 32  # of each kind
    held_out_tokens: int = 8192  # of a held-out task; demonstrations that do not fit are left out
    puzzle_rate: float = 0.1  # share of tokens that are Sudokus and mazes, where there are tasks too
    least_pairs: int = 3
    most_pairs: int = 6
    most_tokens: int = 4096  # of an episode
    balance: float = 0.5  # tasks are drawn in proportion to (number of pairs) ^ balance
    small: float = 0.5  # of pairs up to 20x20 only, where a task has enough of them; others of all its pairs
    turned_apart: float = 0.15  # outputs under another turn than the inputs: a new task
    recolored_apart: float = 0.15
    scaled: float = 0.05  # outputs enlarged two or three times
    framed: float = 0.05  # outputs with a border of one cell
    enlarged: float = (
        0.05  # inputs and outputs alike enlarged two or three times: the same task in larger grids
    )
    learned_inputs: float = 0.2  # episodes whose inputs are predicted too
    group: int = 512  # episodes that are sorted by length and split into batches together

    def __post_init__(self) -> None:
        check_range(self, "[data]", ("least_pairs", "most_tokens", "held_out_tokens", "group"), least=1)
        check_range(self, "[data]", ("held_out_puzzles",))
        rates = (
            "puzzle_rate",
            "small",
            "turned_apart",
            "recolored_apart",
            "scaled",
            "framed",
            "enlarged",
            "learned_inputs",
            "balance",
        )
        check_range(self, "[data]", rates, 1)
        if not (self.tasks or self.sudoku or self.maze):
            raise ConfigError("[data]: give tasks, sudoku or maze")
        if self.least_pairs > self.most_pairs:
            raise ConfigError(
                f"[data] least_pairs {self.least_pairs} is more than most_pairs {self.most_pairs}"
            )


@dataclass(frozen=True)
class TrainConfig:
    """Length, optimiser and housekeeping. The horizon is `steps` or `seconds`."""

    out: str  # run folder
    steps: int = 0  # optimiser steps
    seconds: float = 0.0  # wall clock after compiling, evaluation and saving included
    tokens: int = 28_672  # of a batch on one device, padding included
    lr: float = 5e-4
    table_lr: float = 2e-4  # of embedding and head
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.01  # of all but embedding and head
    clip: float = 1.0  # norm of the gradient
    warmup_steps: int = 150
    decay: float = 0.7  # last share of the horizon, over which the rate falls linearly to zero
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "bf16", "fp32"] = "auto"  # auto: bf16 on CUDA
    compile: Literal["auto", "on", "off"] = "auto"  # auto: on CUDA
    checkpointing: bool = False  # recompute activations in the backward pass: less memory, a third slower
    workers: int = 6  # processes that draw episodes, for each device; 0: none
    log_every: int = 10  # steps between looks at the device (schedule, progress, end)
    report_seconds: float = 15.0  # between progress lines
    evaluate_every: float = 0.1  # share of the horizon
    save_seconds: float = 180.0  # between checkpoints

    def __post_init__(self) -> None:
        check_choices(self, "[train]")
        check_range(self, "[train]", ("tokens", "log_every"), least=1)
        check_range(
            self, "[train]", ("steps", "seconds", "lr", "table_lr", "workers", "warmup_steps", "save_seconds")
        )
        check_range(self, "[train]", ("decay", "evaluate_every"), 1)
        if bool(self.steps) == bool(self.seconds):
            raise ConfigError("[train]: give steps or seconds, one of the two")


@dataclass(frozen=True)
class TuneConfig:
    """A whole tuning run, as written in configs/tune.toml."""

    model: ModelConfig
    train: TrainConfig
    data: DataConfig = field(default_factory=DataConfig)


def load_config(path: Path, overrides: Sequence[str] = ()) -> TuneConfig:
    """Read a TOML file, or a run folder's config.json, and apply `section.key=value`. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
        raw = parse_json(text) if path.suffix == ".json" else parse_toml(text)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    for name in (name for name, table in raw.items() if not isinstance(table, dict)):
        raise ConfigError(f"{path}: '{name}' must be a table")
    keys = {override.partition("=")[0].strip() for override in overrides}
    for given, other in (("steps", "seconds"), ("seconds", "steps")):
        if f"train.{given}" in keys and f"train.{other}" not in keys:
            raw.get("train", {}).pop(other, None)
    for override in overrides:
        apply_override(raw, override)
    return from_dict(TuneConfig, raw, path.name)


def base_override(overrides: Sequence[str]) -> str | None:
    """The name in `model.base=NAME`, the only override that merging takes; None without. Raises ConfigError."""
    base = None
    for override in overrides:
        key, equals, value = override.partition("=")
        if key != "model.base" or not equals:
            raise ConfigError(f"{override}: expected model.base=NAME, for nothing is trained")
        base = value
    return base
