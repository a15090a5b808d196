"""The loss of a supervision step: cross-entropy of the cells, and of halting."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from trm.model.network import Output
from trm.tasks.base import IGNORE
from trm.training.config import LossConfig


class Losses(NamedTuple):
    total: Tensor  # [] summed over the batch
    cells: Tensor  # [] its part for the cells
    right: Tensor  # [B] bool: every labelled cell is right


def cell_losses(logits: Tensor, labels: Tensor, config: LossConfig) -> Tensor:
    """−log p of each labelled cell, 0 elsewhere. logits [B, L, V], labels [B, L]; returns [B, L]."""
    if config.name == "stablemax":  # p = s(v)/Σs, s(v) = v + 1 for v ≥ 0, else 1/(1 − v) (arXiv:2501.04697)
        s = torch.where(logits >= 0, logits + 1, 1 / (1 - logits.clamp(max=0)))
        log_p = s.log() - s.sum(-1, keepdim=True).log()
    else:
        log_p = F.log_softmax(logits, dim=-1)
    picked = log_p.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    if config.label_smoothing:
        picked = (1 - config.label_smoothing) * picked + config.label_smoothing * log_p.mean(-1)
    return torch.where(labels != IGNORE, -picked, 0.0)


def continue_target(later: Output, last: Tensor) -> Tensor:
    """The target [B] of `go_on`, a probability: the larger of the next step's two logits (arXiv:2506.21734).

    later: output of the next supervision step. last [B] bool: the puzzle leaves after this one, so
    that only halting counts.
    """
    return torch.sigmoid(torch.where(last, later.halt, torch.maximum(later.halt, later.go_on)))


def losses(
    output: Output, labels: Tensor, config: LossConfig, continue_value: Tensor | None = None
) -> Losses:
    """The loss of one supervision step, summed over the batch.

    For each puzzle: mean cross-entropy of its labelled cells + halt_weight · BCE(halt, all cells right), and with
    continue_value [B] (see `continue_target`) + halt_weight · BCE(go_on, continue_value).
    """
    scored = labels != IGNORE
    count = scored.sum(-1).clamp(min=1)
    right = ((output.logits.argmax(-1) == labels) | ~scored).all(-1)
    cells = (cell_losses(output.logits, labels, config).sum(-1) / count).sum()
    halt = F.binary_cross_entropy_with_logits(output.halt, right.float(), reduction="sum")
    if continue_value is not None:
        halt = halt + F.binary_cross_entropy_with_logits(output.go_on, continue_value, reduction="sum")
    return Losses(cells + config.halt_weight * halt, cells.detach(), right)
