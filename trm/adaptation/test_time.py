"""Test-time training: a copy of an expert is trained on one puzzle's demonstrations before it answers.

For experts that were trained on many ARC tasks, each with an embedding of its own (`TRMConfig.turns`): an unseen task
has no embedding, so a fresh one is trained, and with it the whole network.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import NamedTuple

import torch

from trm.adaptation.config import AdaptationConfig
from trm.checkpoints.format import Expert, with_one_embedding
from trm.data.pairs import PairDataset
from trm.device import GRAPH_CAPTURE_LOCK
from trm.model.config import TRMConfig
from trm.model.network import TRM
from trm.tasks import Puzzle, get
from trm.training.config import Config, DataConfig, DraftConfig, LossConfig, OptimConfig, TrainConfig
from trm.training.step import METERS, Learner

MEASURED_FROM = 0.9  # training accuracy is measured over the steps after this share of them
MOST_PAIRS = (
    32  # demonstrations that a trainer has places for; a task with more makes it build its tensors anew
)
SYNCHRONISE_EVERY = 8  # steps after which the clock waits for a GPU


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
