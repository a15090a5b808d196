"""Scores on held-out tasks and puzzles, with the right output given token by token (teacher forcing)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor

from hybrid.llm.grid.episodes import Episode
from hybrid.llm.tuning.drawing import Batch, to_batches
from hybrid.llm.tuning.model import GridTrainer


@dataclass(frozen=True)
class SetScores:
    """log_probability: mean of an output token. tokens, grids: shares that are all likeliest."""

    log_probability: float
    tokens: float
    grids: float


@dataclass(frozen=True)
class Scores:
    """By set: `arc`, `arc_large` (tasks of `arc` with a grid larger than 20x20), `sudoku`, `maze`."""

    sets: dict[str, SetScores]

    @property
    def decisive(self) -> float:
        """What the best checkpoint is chosen by: the log-probability of the first set."""
        return next((score.log_probability for score in self.sets.values()), float("-inf"))

    def as_dict(self) -> dict[str, float]:
        return {
            f"{name}_{key}": value for name, score in self.sets.items() for key, value in vars(score).items()
        }

    def line(self) -> str:
        """All scores in a line for the terminal."""
        parts = (
            f"{name} log-probability {score.log_probability:.5f} tokens {score.tokens:.4f} grids {score.grids:.3f}"
            for name, score in self.sets.items()
        )
        return "held out: " + "; ".join(parts)


class HeldOut:
    """Sets of episodes that are never learned from."""

    def __init__(self, sets: Mapping[str, Sequence[Episode]], tokens: int) -> None:
        """tokens: of a batch, on one device."""
        self.sets, self.tokens = sets, tokens

    def score(
        self,
        network: GridTrainer,
        on_device: Callable[[Batch], tuple[Tensor, Tensor]],
        accelerator: Accelerator,
    ) -> Scores:
        """The scores over all processes, each of which looks at a part of every set."""
        found = {}
        for name, episodes in self.sets.items():
            sums = torch.zeros(5, device=accelerator.device, dtype=torch.float64)
            mine = list(episodes)[accelerator.process_index :: accelerator.num_processes]
            for batch in to_batches(mine, self.tokens):
                tokens, labels = on_device(batch)
                loss, right = network(tokens, labels)
                learned = labels[:, 1:] >= 0
                rows = learned.any(1)
                whole = rows & (right | ~learned).all(1)
                counts = [loss, learned.sum(), (right & learned).sum(), whole.sum(), rows.sum()]
                sums += torch.stack([count.double() for count in counts])
            if accelerator.num_processes > 1:
                torch.distributed.all_reduce(sums)
            loss_sum, labels_sum, right_sum, whole_sum, row_sum = sums.tolist()
            count = max(labels_sum, 1)
            found[name] = SetScores(-loss_sum / count, right_sum / count, whole_sum / max(row_sum, 1))
        return Scores(found)
