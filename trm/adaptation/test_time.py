"""Test-time training: a copy of an expert is fitted to one task's demonstrations before it answers.

For experts that were trained on many tasks, each with an identity of its own (`TRMConfig.turns`): an unseen task has
none, so a fresh one is fitted, and with it the whole network.
"""

from __future__ import annotations

import math
import time
import tomllib
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from trm.checkpoints.format import IDENTITIES, Expert, with_one_identity
from trm.config import ConfigError, from_dict
from trm.data.pairs import PairBank
from trm.model.config import TRMConfig
from trm.model.network import TRM
from trm.tasks import Puzzle, get
from trm.tasks.transforms import TaskView, draw_task_view, longest_test_side, shrink
from trm.training.config import Config, DataConfig, DraftConfig, LossConfig, OptimConfig, TrainConfig
from trm.training.step import METERS, Learner

CANVASES = (10, 15, 20, 30)  # sides: a step on 20x20 costs .4 of one on 30x30
MOST_TOGETHER = 16
MOST_REPLICAS = 16
LATE = 0.9  # share of a fitting from which on what it has learned is looked at
MOST_PAIRS = 32  # demonstrations of one task that a fitter has places for; more make it begin anew

# Old names, until all callers use those of `trm.tasks.transforms`.
Turned, draw_view, shrunk = TaskView, draw_task_view, shrink


@dataclass(frozen=True)
class Fitting:
    """How a network is fitted. Its replicas share the `seconds`, or each of them takes `steps` where given."""

    seconds: float = 30.0
    steps: int = 0
    batch: int = 32
    lr: float = 0.003  # Muon's, on the blocks
    adamw_lr: float = 0.001  # on everything else
    identity_alone: bool = False  # leave the network as it is
    smallest: int = 20  # side of the smallest canvas used: 20 is what the network was trained on
    recolour: float = 0.5  # share of the pairs, and of further views, whose colours are exchanged
    moved: bool = True  # whether further views lie anywhere on the canvas, as training's pairs do
    enlarged: bool = True  # whether those that are moved are drawn larger too, where there is room
    max_steps: int = 2  # supervision steps that a pair stays at most
    replicas: int = 1  # copies fitted one after the other, from seeds of their own, whose views vote together
    together: int = 1  # tasks fitted side by side where several are asked for, each for its share of the time
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.seconds < math.inf:
            raise ConfigError(f"fitting: seconds {self.seconds}, expected 0 or more")
        if self.steps < 0 or self.batch < 1 or self.max_steps < 1 or self.seed < 0:
            raise ConfigError(
                f"fitting: steps {self.steps}, batch {self.batch}, max_steps {self.max_steps}, seed {self.seed}: "
                "expected at least 0, 1, 1, 0"
            )
        if not (0 <= self.lr < math.inf and 0 <= self.adamw_lr < math.inf):
            raise ConfigError(f"fitting: lr {self.lr}, adamw_lr {self.adamw_lr}, expected 0 or more")
        if not 0 <= self.recolour <= 1:
            raise ConfigError(f"fitting: recolour {self.recolour}, expected 0 to 1")
        for name, value, most in (
            ("together", self.together, MOST_TOGETHER),
            ("replicas", self.replicas, MOST_REPLICAS),
        ):
            if not 1 <= value <= most:
                raise ConfigError(f"fitting: {name} {value}, expected 1 to {most}")
        if not 1 <= self.smallest <= CANVASES[-1]:
            raise ConfigError(f"fitting: smallest {self.smallest}, expected 1 to {CANVASES[-1]}")


def fitting(pairs: Sequence[str], where: str, base: Fitting) -> Fitting:
    """`base` with other values, from `key=value` pairs as in TOML. Raises ConfigError, which begins with `where`."""
    raw: dict[str, Any] = {}
    for pair in pairs:
        try:
            raw |= tomllib.loads(pair)
        except tomllib.TOMLDecodeError:
            raise ConfigError(f"{where} {pair}: expected KEY=VALUE, a number or true or false") from None
    if {"steps", "seconds"} <= set(raw):
        raise ConfigError(f"{where}: seconds and steps, expected one of the two")
    made = from_dict(Fitting, raw, where)
    return replace(base, **{key: getattr(made, key) for key in raw})


class _Alone:
    """One process."""

    num_processes, process_index = 1, 0

    def reduce(self, tensor: Tensor, reduction: str) -> Tensor:
        return tensor


def canvas(puzzle: Puzzle, config: TRMConfig, smallest: int = 20) -> int:
    """The side of the canvas to fit and answer on: the smallest of `CANVASES`, from `smallest`, that holds all grids
    (and is made of whole patches), the tests' as large as `longest_test_side` has them.

    A network whose weights know their canvas (`positions` other than rope2d) keeps its own.
    """
    if config.positions != "rope2d":
        return config.canvas_width
    largest = max(longest_test_side(puzzle), *(max(grid.shape) for pair in puzzle.demos for grid in pair))
    side = next((side for side in CANVASES if side >= max(largest, smallest)), CANVASES[-1])
    return side + -side % config.patch


class Fitter:
    """Fits one expert to one task after the other, on one canvas.

    On CUDA the step is compiled and captured once, and every task replays it: its weights, optimiser state, pairs and
    slots are all set in place.
    """

    def __init__(
        self,
        expert: Expert,
        how: Fitting,
        side: int,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        stream: torch.cuda.Stream | None = None,
    ) -> None:
        self.how = how
        self.stream = stream  # on CUDA: where it takes its steps, shared with no fitter that works beside it
        expert = with_one_identity(expert)
        shape = expert.config.on(side)
        self.shape, self.device, self.dtype = shape, device, dtype
        self.start = {name: tensor.float().to(device) for name, tensor in expert.state.items()}
        self.model = _untrained(shape).to(device)
        self.model.dtype = dtype
        if how.identity_alone:
            for name, parameter in self.model.named_parameters():
                parameter.requires_grad_(name == IDENTITIES)
        self.task = get(expert.task).on(side)
        self.compiled = device.startswith("cuda")
        if self.compiled:
            from trm.model.kernels import use

            use("auto", self.model)
            self.model.compile_net()
            self.stream = stream or torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        recipe = expert.meta.get("recipe", {})
        self.config = Config(
            model=shape,
            data=DataConfig(expert.task),
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
                steps=1,  # its length is for `fit` to say
                batch=how.batch,
                max_steps=how.max_steps,
                ema=0.0,
                seed=how.seed,
            ),
        )
        self.learner: Learner | None = None

    def begin(self, puzzle: Puzzle, seed: int) -> Learner:
        """Everything as at the start, for this puzzle: the network is the expert's again, with a fresh identity."""
        self.model.load_state_dict(self.start)
        if self.learner is None or len(puzzle.demos) > len(self.learner.bank):
            bank = PairBank(self.task, [puzzle], True, self.model.device, MOST_PAIRS, self.how.recolour)
            self.learner = Learner(self.config, self.model, bank, _Alone(), self.stream)
            if self.compiled:
                self.learner.warm_up(0, 0.0)
                self.model.load_state_dict(self.start)
        self.learner.bank.replace([puzzle])
        self.learner.reset(seed)
        return self.learner

    def network(self) -> TRM:
        """A copy of the network as it is now, for evaluation."""
        fitted = _untrained(self.shape)
        fitted.load_state_dict(self.model.state_dict())
        fitted.dtype = self.dtype
        fitted.net.to(self.dtype)
        return fitted.to(self.device).eval().requires_grad_(False)


def _untrained(shape: TRMConfig) -> TRM:
    """A network whose weights are to be set. The caller's random numbers are left alone."""
    with torch.random.fork_rng(devices=[]):
        return TRM(shape)


def fit_together(
    fitters: Sequence[Fitter],
    puzzles: Sequence[Puzzle],
    progress: Callable[[int, int], None] | None = None,
    seconds: float | None = None,
    seed: int | None = None,
) -> tuple[list[TRM], int, list[float]]:
    """For every puzzle a network fitted to its demonstrations; the steps that each took; and of each the share of the
    demonstrations, as they were drawn in the last tenth of it, that it had wholly right.

    Every puzzle has a fitter to itself; all are fitted alike and take their steps side by side. On CUDA each has a
    stream of its own, so that one's small products run where another's leave the device idle.

    A network starts from the mean of the identities that the expert knows, and has one: its puzzle's. Only
    demonstrations are learned from: nothing of the tests but the canvas. progress: called with the seconds (or steps)
    behind and in all. seconds: in place of the fitting's own, for each puzzle, so that as many puzzles take as many
    times that; with none to spend nothing is learned. seed: in place of the fitting's own.
    """
    how, cuda = fitters[0].how, fitters[0].compiled
    # What is captured, recorded and waited for is so on the current device.
    there = torch.cuda.device(fitters[0].device) if cuda else nullcontext()
    with there, torch.inference_mode(False), torch.enable_grad():
        given = how.seed if seed is None else seed
        learners = [fitter.begin(puzzle, given) for fitter, puzzle in zip(fitters, puzzles, strict=True)]
        if cuda:
            torch.cuda.synchronize()  # what was set on one stream is read on others
        begun, step, behind, late = time.perf_counter(), 0, 0.0, False
        total = how.steps or len(puzzles) * (how.seconds if seconds is None else seconds)
        while behind < total:
            early, late = not late, late or behind >= LATE * total
            for fitter, learner in zip(fitters, learners, strict=True):
                with torch.cuda.stream(fitter.stream) if cuda else nullcontext():
                    if late and early:
                        learner.meters.zero_()
                    learner.set_step(step, behind / total)
                    learner.step()
            step += 1
            if cuda and step % 8 == 0:
                torch.cuda.synchronize()  # the clock must not run ahead of the device
            behind = step if how.steps else time.perf_counter() - begun
            if progress is not None:
                progress(min(int(behind), int(total)), int(total))
        if cuda:
            torch.cuda.synchronize()
    meters = [dict(zip(METERS, learner.meters.tolist(), strict=True)) for learner in learners]
    right = [one["right"] / max(1.0, one["finished"]) for one in meters]
    return [fitter.network() for fitter in fitters], step, right
