"""A small untrained ARC expert that is adapted to every task, and a task for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from trm.adaptation.config import AdaptationConfig
from trm.adaptation.test_time import TestTimeTrainer
from trm.checkpoints.format import Checkpoint, Expert
from trm.data.generate import generate
from trm.inference.refiner import Refiner
from trm.model.config import TRMConfig
from trm.model.network import TRM
from trm.tasks import Puzzle

TASK = next(generate("arc", 1, 3, rule="recolour", demos=3, size=(3, 5)))
SHAPE = TRMConfig(
    900, 12, canvas_width=30, hidden_size=32, heads=2, prefix=2, positions="rope2d", h_cycles=1, l_cycles=1,
    gated_norm=True, draft=True, feedback=True, identities=3, identity_dim=32, turns=True,
)  # fmt: skip
QUICK = AdaptationConfig(steps=2, batch=4, max_steps=1, lr=0.02, adamw_lr=0.02, smallest_canvas=10)


def arc_expert(shape: TRMConfig = SHAPE, **meta: Any) -> Expert:
    torch.manual_seed(0)
    state = TRM(shape).state_dict()
    state["embed.identities"] = torch.randn(3, 32)
    return Expert("arc", shape, state, meta)


def arc_refiner(config: AdaptationConfig = QUICK, expert: Expert | None = None) -> Refiner:
    checkpoint = Checkpoint("test", {"arc": expert or arc_expert()})
    return Refiner.from_checkpoint(checkpoint, "cpu", adaptation=config)


def mirrored(n: int = 1, seed: int = 4) -> list[Puzzle]:
    return list(generate("arc", n, seed, rule="mirror", demos=2, size=(3, 4)))


def equal_weights(first: TRM, second: TRM) -> bool:
    other = second.state_dict()
    return all(tensor.equal(other[name]) for name, tensor in first.state_dict().items())


def count_adaptations(patch: Callable[..., None]) -> list[tuple[str, float, int]]:
    """The (puzzle id, seconds allowed, seed) of every adaptation from now on. patch: `monkeypatch.setattr`."""
    calls: list[tuple[str, float, int]] = []
    adapt = TestTimeTrainer.adapt

    def counted(
        self: TestTimeTrainer, puzzle: Puzzle, progress: Any, seconds: float, seed: int, *more: Any
    ) -> Any:
        calls.append((puzzle.id, seconds, seed))
        return adapt(self, puzzle, progress, seconds, seed, *more)

    patch(TestTimeTrainer, "adapt", counted)
    return calls
