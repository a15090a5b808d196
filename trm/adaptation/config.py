"""How a network is adapted to a puzzle, and on which canvas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from trm.config import ConfigError, from_dict
from trm.model.config import TRMConfig
from trm.tasks import Puzzle
from trm.tasks.transforms import longest_test_side
from trm.text import parse_toml

CANVASES = (10, 15, 20, 30)  # sides: a step on 20x20 costs .4 of one on 30x30
LARGEST_ENSEMBLE = 16
RENAMED = {"recolour": "color_permutation_prob", "replicas": "ensemble_size", "smallest": "smallest_canvas"}
REMOVED = {
    "identity_alone": "training the embedding alone solved nothing",
    "together": "tasks are adapted one after the other",
}


@dataclass(frozen=True)
class AdaptationConfig:
    """How a network is adapted. The members of an ensemble share `seconds`, or take `steps` each where given."""

    seconds: float = 30.0
    steps: int = 0
    batch: int = 32
    lr: float = 0.003  # Muon's, on the blocks
    adamw_lr: float = 0.001  # on everything else
    smallest_canvas: int = 20  # side in cells: 20 is what the network was trained on
    color_permutation_prob: float = (
        0.5  # share of the pairs, and of augmented views, whose colours are permuted
    )
    moved: bool = True  # whether augmented views lie anywhere on the canvas, as the pairs in training do
    enlarged: bool = True  # whether moved views are also enlarged, where there is room
    max_steps: int = 2  # supervision steps that a pair stays in its slot at most
    ensemble_size: int = (
        1  # copies adapted one after the other from seeds of their own, whose views vote together
    )
    seed: int = 0

    def __post_init__(self) -> None:
        limits: dict[str, tuple[float, float]] = {
            "seconds": (0, math.inf),
            "steps": (0, math.inf),
            "batch": (1, math.inf),
            "lr": (0, math.inf),
            "adamw_lr": (0, math.inf),
            "smallest_canvas": (1, CANVASES[-1]),
            "color_permutation_prob": (0, 1),
            "max_steps": (1, math.inf),
            "ensemble_size": (1, LARGEST_ENSEMBLE),
            "seed": (0, math.inf),
        }
        for name, (least, most) in limits.items():
            value = getattr(self, name)
            if not least <= value <= most or value == math.inf:
                expected = f"at least {least:g}" if most == math.inf else f"{least:g} to {most:g}"
                raise ConfigError(f"adaptation: {name} {value}, expected {expected}")


def default_adaptation(device: str) -> AdaptationConfig:
    """What a device allows: on a CPU a person waits, so that batches and canvases are small."""
    return AdaptationConfig(batch=8, smallest_canvas=10) if device == "cpu" else AdaptationConfig()


def adaptation_config(pairs: Sequence[str], where: str, base: AdaptationConfig) -> AdaptationConfig:
    """`base` with other values, from `key=value` pairs as in TOML. Raises ConfigError, which begins with `where`."""
    raw: dict[str, Any] = {}
    for pair in pairs:
        try:
            raw |= parse_toml(pair)
        except ValueError:
            raise ConfigError(f"{where} {pair}: expected KEY=VALUE, a number or true or false") from None
    for key in raw:
        if key in RENAMED:
            raise ConfigError(f"{where}: {key} is called {RENAMED[key]} now")
        if key in REMOVED:
            raise ConfigError(f"{where}: there is no {key} any more: {REMOVED[key]}")
    if {"steps", "seconds"} <= set(raw):
        raise ConfigError(f"{where}: seconds and steps, expected one of the two")
    given = from_dict(AdaptationConfig, raw, where)
    return replace(base, **{key: getattr(given, key) for key in raw})


def canvas_side(puzzle: Puzzle, config: TRMConfig, smallest: int = 20) -> int:
    """The side in cells of the canvas to adapt and answer on: the smallest of `CANVASES`, from `smallest`, that is
    made of whole patches and holds all grids, the tests' as large as `longest_test_side` expects them.

    A network whose weights know their canvas (`positions` other than rope2d) keeps its own.
    """
    if config.positions != "rope2d":
        return config.canvas_width
    largest = max(longest_test_side(puzzle), *(max(grid.shape) for pair in puzzle.demos for grid in pair))
    side = next((side for side in CANVASES if side >= max(largest, smallest)), CANVASES[-1])
    return side + -side % config.patch
