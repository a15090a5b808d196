"""Test-time training: a copy of an expert is fitted to one task's demonstrations before it answers.

For experts that were trained on many tasks, each with an identity of its own (`TRMConfig.turns`): an unseen task has
none, so a fresh one is fitted, and with it the whole network where there is a GPU to do it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from trm.checkpoint import Expert
from trm.config import Config, DataConfig, DraftConfig, LossConfig, OptimConfig, TrainConfig
from trm.grid import Grid
from trm.learner import Learner
from trm.model import TRM
from trm.pairs import PairBank, recolourable
from trm.tasks import Puzzle, get

IDENTITY = "embed.identities"


@dataclass(frozen=True)
class Fitting:
    """How a network is fitted. It ends after `seconds`, or after `steps` where given."""

    seconds: float = 30.0
    steps: int = 0
    batch: int = 16
    lr: float = 0.002  # Muon's, on the blocks
    adamw_lr: float = 0.003  # on everything else
    identity_alone: bool = False  # leave the network as it is: what a CPU has time for
    max_steps: int = 4  # supervision steps that a pair stays at most
    seed: int = 0


@dataclass(frozen=True)
class Turned:
    """A view of a whole task: every grid mirrored, transposed and recoloured alike, whatever its shape.

    turn as in `trm.pairs.View`; colours [256]: what each becomes.
    """

    turn: int
    colours: Grid

    def forward(self, grid: Grid) -> Grid:
        grid = grid[::-1] if self.turn & 1 else grid
        grid = grid[:, ::-1] if self.turn & 2 else grid
        grid = grid.T if self.turn & 4 else grid
        return np.ascontiguousarray(self.colours[grid])

    def inverse(self, grid: Grid) -> Grid:
        grid = grid.T if self.turn & 4 else grid
        grid = grid[:, ::-1] if self.turn & 2 else grid
        grid = grid[::-1] if self.turn & 1 else grid
        return np.ascontiguousarray(np.argsort(self.colours).astype(np.uint8)[grid])


def draw_view(puzzle: Puzzle, rng: np.random.Generator) -> Turned:
    """A random view of a task; the colours exchanged are those that `PairBank` exchanges."""
    free = np.flatnonzero(recolourable(puzzle))
    colours = np.arange(256, dtype=np.uint8)
    colours[free] = rng.permutation(free)
    return Turned(int(rng.integers(8)), colours)


class _Alone:
    """One process."""

    num_processes, process_index = 1, 0

    def reduce(self, tensor: Tensor, reduction: str) -> Tensor:
        return tensor


def fit(
    expert: Expert,
    puzzle: Puzzle,
    how: Fitting,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    progress: Callable[[int, int], None] | None = None,
) -> TRM:
    """The expert's network, fitted to the puzzle's demonstrations, with one identity: theirs. In evaluation mode.

    It starts from the mean of the identities that the expert knows. progress: called with the seconds (or steps)
    behind and in all. Only the demonstrations are learned from: nothing of the tests, not even their sizes.
    """
    shape = replace(expert.config, identities=1)
    state = {name: tensor.float() for name, tensor in expert.state.items()}
    state[IDENTITY] = state[IDENTITY].mean(0, keepdim=True)
    model = TRM(shape)
    model.load_state_dict(state)
    model = model.to(device)
    model.dtype = dtype
    if how.identity_alone:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name == IDENTITY)
    recipe = expert.meta.get("recipe", {})
    config = Config(
        model=shape,
        data=DataConfig(puzzle.task),
        optim=OptimConfig(
            name="adamw" if how.identity_alone else "muon",
            lr=how.adamw_lr if how.identity_alone else how.lr,
            adamw_lr=how.adamw_lr,
            weight_decay=0.0,
            adamw_weight_decay=0.0,
            warmup=0.1,
        ),
        loss=LossConfig(**recipe.get("loss", {})),
        draft=DraftConfig(**recipe.get("draft", {})) if shape.draft else DraftConfig(),
        train=TrainConfig(
            steps=how.steps,
            seconds=0.0 if how.steps else how.seconds,
            batch=how.batch,
            max_steps=how.max_steps,
            ema=0.0,
            seed=how.seed,
        ),
    )
    bank = PairBank(get(puzzle.task), [puzzle], True, model.device)
    torch.manual_seed(how.seed)
    with torch.inference_mode(False), torch.enable_grad():
        learner = Learner(config, model, bank, _Alone())
        begun, step, behind, total = time.perf_counter(), 0, 0.0, how.steps or how.seconds
        while behind < total:
            learner.set_step(step, behind / total)
            learner.step()
            step += 1
            behind = step if how.steps else time.perf_counter() - begun
            if progress is not None:
                progress(min(int(behind), int(total)), int(total))
    model.net.to(dtype)
    return model.eval().requires_grad_(False)
