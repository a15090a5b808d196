"""What `trm.training.trainer.Trainer` evaluates a network with while it trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trm.evaluation.accuracy import evaluate_cold
from trm.inference.engine import Engine
from trm.model.network import TRM
from trm.tasks import Puzzle, Task


def evaluate_held_out(
    model: TRM, task: Task, puzzles: Sequence[Puzzle], steps: int, contexts: Sequence[int], slots: int
) -> Mapping[str, Any]:
    """Figures of one cold pass over held-out puzzles (see `trm.training.trainer.Evaluation`)."""
    return evaluate_cold(Engine(model, slots), task, puzzles, steps, contexts=contexts)
