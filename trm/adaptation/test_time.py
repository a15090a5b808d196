"""Test-time training: a copy of an expert is trained on one puzzle's demonstrations before it answers.

For experts that were trained on many ARC tasks, each with an embedding of its own (`TRMConfig.turns`): an unseen task
has no embedding, so a fresh one is trained, and with it the whole network.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from trm.checkpoints.format import Expert, with_one_embedding
from trm.config import ConfigError, from_dict
from trm.data.pairs import PairDataset
from trm.device import GRAPH_CAPTURE_LOCK
from trm.model.config import TRMConfig
from trm.model.network import TRM
from trm.tasks import Puzzle, get
from trm.tasks.transforms import longest_test_side
from trm.text import parse_toml
from trm.training.config import Config, DataConfig, DraftConfig, LossConfig, OptimConfig, TrainConfig
from trm.training.step import METERS, Learner

CANVASES = (10, 15, 20, 30)  # sides: a step on 20x20 costs .4 of one on 30x30
LARGEST_ENSEMBLE = 16
MEASURED_FROM = 0.9  # training accuracy is measured over the steps after this share of them
MOST_PAIRS = (
    32  # demonstrations that a trainer has places for; a task with more makes it build its tensors anew
)
SYNCHRONISE_EVERY = 8  # steps after which the clock waits for a GPU
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


class Adapted(NamedTuple):
    """An adapted network in evaluation mode, the steps it took, and the share of the pairs it had wholly right."""

    network: TRM
    steps: int
    accuracy: float


class TestTimeTrainer:
    """Adapts one expert to one puzzle after the other, on one canvas.

    On CUDA the step is compiled and captured once, and every puzzle replays it: weights, optimiser state, pairs and
    slots are all set in place.
    """

    __test__ = False  # not a test, whatever its name begins with

    def __init__(
        self,
        expert: Expert,
        config: AdaptationConfig,
        side: int,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """side: of the canvas in cells. dtype: of the network's products."""
        self.config = config
        expert = with_one_embedding(expert)
        self.shape, self.device, self.dtype = expert.config.on(side), device, dtype
        self.start = {name: tensor.float().to(device) for name, tensor in expert.state.items()}
        self.model = _untrained(self.shape).to(device)
        self.model.dtype = dtype
        self.task = get(expert.task).on(side)
        self.compiled = device.startswith("cuda")
        self.stream: torch.cuda.Stream | None = None
        if self.compiled:
            from trm.model.kernels import use  # Triton is not imported on a CPU

            use("auto", self.model)
            self.model.compile_net()
            self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        recipe = expert.meta.get("recipe", {})
        self.recipe = Config(
            model=self.shape,
            data=DataConfig(expert.task),
            optim=OptimConfig(
                name="muon",
                lr=config.lr,
                adamw_lr=config.adamw_lr,
                weight_decay=0.0,
                adamw_weight_decay=0.0,
                warmup=0.1,
            ),
            loss=LossConfig(**recipe.get("loss", {})),
            draft=DraftConfig(**recipe.get("draft", {})) if self.shape.draft else DraftConfig(),
            train=TrainConfig(
                steps=1,  # `adapt` says how long it takes
                batch=config.batch,
                max_steps=config.max_steps,
                ema=0.0,
                seed=config.seed,
            ),
        )
        self.learner: Learner | None = None

    def adapt(
        self,
        puzzle: Puzzle,
        progress: Callable[[int, int], None] | None = None,
        seconds: float | None = None,
        seed: int | None = None,
        deadline: float | None = None,
    ) -> Adapted:
        """A network trained on the puzzle's demonstrations; of its tests only the size of the canvas is used.

        It starts from the mean of the embeddings that the expert knows, and has one: the puzzle's. progress: called
        with the seconds (or steps) behind and in all. seconds, seed: in place of the configuration's; with no
        seconds to spend nothing is learned. deadline: a `time.perf_counter()` that ends seconds early, building the
        trainer's tensors included.
        """
        where = torch.cuda.device(self.device) if self.compiled else nullcontext()
        with where, torch.inference_mode(False), torch.enable_grad():
            learner = self._begin(puzzle, self.config.seed if seed is None else seed)
            if self.stream is not None:  # waiting for the whole device would break another thread's capture
                torch.cuda.current_stream().synchronize()  # what was set on one stream is read on another
            begun, step, behind, measuring = time.perf_counter(), 0, 0.0, False
            total = self.config.steps or (self.config.seconds if seconds is None else seconds)
            if deadline is not None and not self.config.steps:
                total = min(total, max(0.0, deadline - begun))
            while behind < total:
                with torch.cuda.stream(self.stream) if self.compiled else nullcontext():
                    if not measuring and behind >= MEASURED_FROM * total:
                        measuring = True
                        learner.meters.zero_()
                    learner.set_step(step, behind / total)
                    learner.step()
                step += 1
                if self.stream is not None and step % SYNCHRONISE_EVERY == 0:
                    self.stream.synchronize()  # the clock must not run ahead of the device
                behind = step if self.config.steps else time.perf_counter() - begun
                if progress is not None:
                    progress(min(int(behind), int(total)), int(total))
            if self.stream is not None:
                self.stream.synchronize()
            meters = dict(zip(METERS, learner.meters.tolist(), strict=True))
            return Adapted(self.network(), step, meters["right"] / max(1.0, meters["finished"]))

    def _begin(self, puzzle: Puzzle, seed: int) -> Learner:
        """Everything as at the start, for this puzzle: the expert's weights, with a fresh embedding."""
        self.model.load_state_dict(self.start)
        if self.learner is None or len(puzzle.demos) > len(self.learner.bank):
            share = self.config.color_permutation_prob
            bank = PairDataset(self.task, [puzzle], True, self.model.device, MOST_PAIRS, share)
            self.learner = Learner(self.recipe, self.model, bank, None, self.stream)
            if self.compiled:
                with GRAPH_CAPTURE_LOCK:  # compiling waits for the whole device
                    self.learner.warm_up(0, 0.0)
                self.model.load_state_dict(self.start)
        self.learner.bank.replace([puzzle])
        self.learner.reset(seed)
        return self.learner

    def network(self) -> TRM:
        """A copy of the network as it is now, for evaluation."""
        adapted = _untrained(self.shape)
        adapted.load_state_dict(self.model.state_dict())
        adapted.dtype = self.dtype
        adapted.net.to(self.dtype)
        return adapted.to(self.device).eval().requires_grad_(False)


def _untrained(shape: TRMConfig) -> TRM:
    """A network whose weights are to be set. The caller's random numbers are left alone."""
    with GRAPH_CAPTURE_LOCK, torch.random.fork_rng(devices=[]):
        return TRM(shape)
