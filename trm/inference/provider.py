"""The provider: gives the network for a puzzle, a task's expert as it is or one adapted to the puzzle."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from trm.adaptation.calibration import calibration_of
from trm.adaptation.config import AdaptationConfig, canvas_side, default_adaptation
from trm.checkpoints.format import IDENTIFIERS, Checkpoint, CheckpointError, Expert
from trm.device import DeviceError, resolve_device
from trm.grid import PuzzleError
from trm.inference.network import AdaptedNetwork, ExpertNetwork, PuzzleNetwork
from trm.inference.numpy_engine import NumpyEngine
from trm.inference.slots import RolloutEngine
from trm.model.numpy_network import NumpyNetwork, can_run
from trm.tasks import Puzzle, Task, get

# PyTorch takes two seconds to load, and a puzzle in NumPy needs none: what uses it is imported where it is used.
if TYPE_CHECKING:
    import torch

    from trm.adaptation.test_time import TestTimeTrainer
    from trm.model.network import TRM

ADAPTATION_SHARE = 0.8  # of a budget
# A cached adaptation is used again if it had at least this share of the time allowed now: of one budget, the clock
# and a draft leave a little more or less each time.
ENOUGH = 0.9
# Adapted networks that are kept for puzzles that come again: drafts, scores, arms of a comparison. 14 MB each.
KEPT_ON_GPU, KEPT_ON_CPU = 256, 32
UNKNOWN_PUZZLE = (
    "this expert knows a puzzle by an embedding that it learned for it, and sees no demonstrations: "
    "for a puzzle that it did not learn the answer is a guess"
)


class ModelPool:
    """The experts of a checkpoint on a device, each loaded when it is first asked for, and adapted copies of them."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str = "auto",
        slots: int = 0,
        adaptation: AdaptationConfig | None = None,
        compiled: bool = False,
        numpy: bool = False,
    ) -> None:
        """slots, compiled: see `Engine`. adaptation: None for what the device allows. numpy: run experts as they are
        in NumPy and float32, on the CPU, where that is possible; PyTorch is not even loaded then.

        Raises CheckpointError for a device that is not there.
        """
        self.numpy = numpy
        try:
            self.device = "cpu" if numpy else resolve_device(device)
        except DeviceError as error:
            raise CheckpointError(str(error)) from None
        self.checkpoint, self.slots = checkpoint, slots
        self.adaptation = adaptation or default_adaptation(self.device)
        self.compiled = compiled
        self._engines: dict[str, RolloutEngine] = {}
        self._trainers: dict[tuple[str, int], TestTimeTrainer] = {}  # by task and canvas
        self._adapted: OrderedDict[bytes, AdaptedNetwork] = OrderedDict()  # by what they were adapted to

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that there is an expert for."""
        return tuple(sorted(self.checkpoint.experts))

    @property
    def kept(self) -> int:
        """Puzzles whose adapted networks are kept."""
        networks = KEPT_ON_CPU if self.device == "cpu" else KEPT_ON_GPU
        return max(1, networks // self.adaptation.ensemble_size)

    def expert(self, task: str) -> Expert:
        """The task's expert. Raises PuzzleError where there is none, or one of another shape than the task."""
        if task not in self.checkpoint.experts:
            known = ", ".join(self.tasks)
            message = f"{self.checkpoint.name}: no expert for {task}, expected one of {known}"
            raise PuzzleError(message + training_hint(task))
        expert, spec = self.checkpoint.experts[task], get(task)
        if spec.has_demonstrations and expert.config.canvas_width:
            spec = spec.on(expert.config.canvas_width)
        shape = expert.config.seq_len, expert.config.vocab_size
        if shape != (expected := (spec.seq_len, spec.vocab_size)):
            raise PuzzleError(
                f"{self.checkpoint.name}: seq_len and vocab_size {shape}, expected {expected} for {task}: "
                "usable through TRM.from_pretrained alone"
            )
        return expert

    def check(self) -> None:
        """Raises PuzzleError where an expert has another shape than its task."""
        for task in self.checkpoint.experts:
            self.expert(task)

    def engine(self, task: str) -> RolloutEngine:
        """The engine of a task's expert as it is. Raises PuzzleError where there is none."""
        if task not in self._engines:
            expert = self.expert(task)
            in_numpy = self.numpy and can_run(expert.config)
            self._engines[task] = (
                NumpyEngine(NumpyNetwork(expert.config, expert.arrays()), self.slots)
                if in_numpy
                else self._torch_engine(task, expert)
            )
        return self._engines[task]

    def torch_network(self, task: str) -> TRM:
        """The task's expert in PyTorch, as its engine runs it. Raises PuzzleError where there is none."""
        from trm.inference.engine import Engine  # loads PyTorch

        engine = self.engine(task)
        if not isinstance(engine, Engine):
            raise PuzzleError(f"the {task} expert runs in NumPy, expected numpy=False")
        return engine.model

    def _torch_engine(self, task: str, expert: Expert) -> RolloutEngine:
        from trm.inference.captured import CapturedEngine  # loads PyTorch, as the next
        from trm.inference.device_rules import device_rule
        from trm.inference.engine import Engine

        network = with_kernels(expert.model(self.device, self._dtype(expert)))
        if network.device.type == "cuda":
            return CapturedEngine(network, self.slots, self.compiled, device_rule(get(task)))
        return Engine(network, self.slots, self.compiled)

    def accepts_drafts(self, task: str) -> bool:
        """Whether the task's expert was trained on drafts. Raises PuzzleError where there is none."""
        return self.expert(task).config.draft

    def adapts(self, task: str) -> bool:
        """Whether the task's expert is adapted to every puzzle before it answers."""
        expert = self.checkpoint.experts.get(task)
        return expert is not None and get(task).has_demonstrations and expert.config.turns

    def canvas(self, puzzle: Puzzle) -> Task:
        """The puzzle's task, on the canvas that its network sees."""
        task, expert = get(puzzle.task), self.checkpoint.experts.get(puzzle.task)
        if not task.has_demonstrations or expert is None:
            return task
        if not self.adapts(puzzle.task):
            return task.on(expert.config.canvas_width or task.width)
        return task.on(canvas_side(puzzle, expert.config, self.adaptation.smallest_canvas))

    def _without_rules(self, task: str) -> str:
        """What answers are worth that neither rules nor demonstrations judge: the accuracy of the training run."""
        if get(task).has_checker or get(task).has_demonstrations:
            return ""
        metrics = self.expert(task).meta.get("metrics", {})
        known = "accuracy" in metrics and "n" in metrics
        share = (
            f"{metrics['accuracy']:.1%} of {metrics['n']} held-out puzzles right"
            if known
            else "nothing measured"
        )
        return f"no rules verify its answers; training ended with {share}"

    def context(self, puzzle: Puzzle) -> int | None:
        """The number of the embedding of a puzzle that the expert learned by name; None if it did not learn it.

        0 where the embedding does not stand for the puzzle.
        """
        expert = self.expert(puzzle.task)
        if not get(puzzle.task).has_demonstrations or not expert.config.identities:
            return 0
        return cast(dict[str, int], expert.meta.get(IDENTIFIERS, {})).get(puzzle.id)

    def network(
        self,
        puzzle: Puzzle,
        budget_seconds: float | None = None,
        progress: Callable[[int, int], None] | None = None,
        fresh: bool = True,
    ) -> PuzzleNetwork:
        """The network for a puzzle, adapted now if that is due.

        budget_seconds: for the whole puzzle; adaptation gets 80 % of it. An earlier adaptation to the same
        demonstrations is used again unless it was given clearly less time; with `fresh` false, always.
        progress: called with the seconds of adaptation behind and in all. Raises PuzzleError where there is no
        network for the puzzle.
        """
        task = puzzle.task
        if not self.adapts(task):
            drafts, context = self.accepts_drafts(task), self.context(puzzle)
            return ExpertNetwork(
                (self.engine(task),),
                self.canvas(puzzle),
                accepts_drafts=drafts,
                context=context or 0,
                warning=UNKNOWN_PUZZLE if context is None else self._without_rules(task),
            )
        key, config = self._key(puzzle), self.adaptation
        if budget_seconds is not None:
            config = replace(config, seconds=ADAPTATION_SHARE * budget_seconds)
        known = self._adapted.get(key)
        enough = known is not None and known.allowed_seconds >= ENOUGH * config.seconds
        if known is None or (fresh and not config.steps and not enough):
            known = self._adapt(puzzle, config, progress, in_time=budget_seconds is not None)
        self._adapted[key] = known
        self._adapted.move_to_end(key)
        while len(self._adapted) > self.kept:
            self._adapted.popitem(last=False)
        return known

    def _adapt(
        self,
        puzzle: Puzzle,
        config: AdaptationConfig,
        progress: Callable[[int, int], None] | None,
        in_time: bool,
    ) -> AdaptedNetwork:
        """in_time: `config.seconds` hold for building the trainer and its tensors too."""
        from trm.adaptation.test_time import TestTimeTrainer  # loads PyTorch, as the next
        from trm.inference.engine import Engine

        begun = time.perf_counter()
        expert, task = self.expert(puzzle.task), self.canvas(puzzle)
        place = puzzle.task, task.width
        if place not in self._trainers:  # one compiles and captures once for each canvas
            dtype = self._dtype(expert)
            self._trainers[place] = TestTimeTrainer(expert, config, task.width, self.device, dtype)
        trainer, members = self._trainers[place], config.ensemble_size

        def tick(member: int, behind: int, total: int) -> None:
            if progress is not None:
                progress(member * total + behind, members * total)

        ensemble = [
            trainer.adapt(
                puzzle,
                lambda behind, total, member=member: tick(member, behind, total),  # type: ignore[misc]
                config.seconds / members,
                config.seed + member,
                begun + (member + 1) * config.seconds / members if in_time else None,
            )
            for member in range(members)
        ]
        steps = sum(one.steps for one in ensemble) // members
        calibration = calibration_of(expert.meta)
        recipe = expert.meta.get("recipe", {})
        return AdaptedNetwork(
            tuple(Engine(with_kernels(one.network), self.slots) for one in ensemble),
            task,
            # No rule tells which of the later grids is better, so it stops where its training did.
            most_steps=int(recipe.get("train", {}).get("max_steps", 0)),
            calibration=calibration if calibration is not None and calibration.holds(steps) else None,
            accepts_drafts=expert.config.draft,
            votes=True,
            config=config,
            adapted_steps=steps,
            seconds=time.perf_counter() - begun,
            allowed_seconds=config.seconds,
            accuracy=sum(one.accuracy for one in ensemble) / members,
        )

    def _key(self, puzzle: Puzzle) -> bytes:
        """What an adapted network depends on, but for the time it was given."""
        grids = [grid.tobytes() + bytes(grid.shape) for pair in puzzle.demos for grid in pair]
        return b"|".join([*grids, f"{puzzle.task} {self.canvas(puzzle).width}".encode()])

    def _dtype(self, expert: Expert) -> torch.dtype:
        import torch

        from trm.inference.engine import gains_from_bf16  # loads PyTorch

        trained_half = expert.meta.get("dtype") == "bfloat16"
        return torch.bfloat16 if trained_half and gains_from_bf16(self.device) else torch.float32


def training_hint(task: str) -> str:
    """Words for the end of a message: the command that trains an expert for the task, where a recipe ships."""
    recipe = get(task).recipe
    return f"; `trm train {recipe}` trains one" if recipe else ""


def with_kernels(network: TRM) -> TRM:
    """The same network, which uses `trm.model.kernels` where they were measured to be faster."""
    if network.device.type == "cuda":
        from trm.model.kernels import use  # Triton is not imported on a CPU

        use("auto", network)
    return network
