"""The slots of a training process: puzzles that stay for several supervision steps, and the states they carry."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from trm.data.device import Batch
from trm.model.network import TRM, State


class Visit(NamedTuple):
    """The slots that one training step works on, after new puzzles have filled the free ones."""

    rows: Tensor  # [B] their places in the pool
    batch: Batch
    state: State
    steps: Tensor  # [B] supervision steps including this one
    least: Tensor  # [B] supervision steps to stay at least


class Pool:
    """Slots, visited in turn, one batch of them in each training step.

    With more slots than a batch, consecutive updates see different puzzles, which the network would otherwise
    memorise while they stay. All tensors keep their place in memory, where a captured graph reads them.

    tokens, labels, draft [S, L]; y, z [S, n, D]; context, steps, least, done [S]; turn [1]. `least` is the number of
    supervision steps that a puzzle stays at least, whatever the network says; `turn` the batch to visit next.
    """

    def __init__(self, model: TRM, slots: int) -> None:
        cells = (slots, model.config.seq_len)
        device = model.device
        self.tokens = torch.zeros(cells, dtype=torch.int64, device=device)
        self.labels = torch.zeros(cells, dtype=torch.int64, device=device)
        self.draft = torch.zeros(cells, dtype=torch.int64, device=device)
        self.y, self.z = model.initial_state(slots)
        self.context = torch.zeros(slots, dtype=torch.int64, device=device)
        self.steps = torch.zeros_like(self.context)
        self.least = torch.zeros_like(self.steps)
        self.done = torch.zeros(slots, dtype=torch.bool, device=device)
        self.turn = torch.zeros(1, dtype=torch.int64, device=device)

    def store(self, visit: Visit, state: State, draft: Tensor, done: Tensor) -> None:
        """Put back a visit's puzzles, with the states and drafts of their next step; `done` ones free their slots."""
        batch = visit.batch
        values = {
            "tokens": batch.tokens, "labels": batch.labels, "context": batch.context, "draft": draft,
            "y": state.y, "z": state.z, "steps": visit.steps, "least": visit.least, "done": done,
        }  # fmt: skip
        for name, value in values.items():
            getattr(self, name).index_copy_(0, visit.rows, value)

    def state_dict(self) -> dict[str, Tensor]:
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name, tensor in vars(self).items():
            tensor.copy_(state[name])
