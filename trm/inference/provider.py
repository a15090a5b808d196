"""The networks behind a refiner: one engine for a task, or one fitted to a puzzle's demonstrations."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from trm.adaptation.calibration import Calibration, calibration_of
from trm.grid import PuzzleError
from trm.inference.attempts import Progress, Seconds
from trm.tasks import Puzzle, Task, get

if TYPE_CHECKING:
    import torch

    from trm.adaptation.test_time import Fitter, Fitting
    from trm.checkpoints.format import Checkpoint, Expert
    from trm.inference.engine import Engine
    from trm.model.network import TRM

FITTING_SHARE = 0.8  # of a budget
# The share of the seconds now allowed that a network must have been given to be used again: of one budget the clock
# and a draft leave a little more or less each time, and for that little it would be fitted anew in full.
ENOUGH = 0.9
# Fitted networks, kept for questions that come again: drafts, scores, arms of a comparison. As many as puzzles are
# answered in step (`hybrid.solving.TOGETHER`): fewer would have each of them fitted anew at every turn. 14 MB each.
FITTED_KEPT, FITTED_KEPT_ON_CPU = 256, 32


class Fitted(NamedTuple):
    """Networks fitted to a puzzle's demonstrations, one for each replica, the steps that each took, and their share
    of the seconds.

    allowed: the seconds that they were given. right: the share of the demonstrations that they have learned.
    """

    engines: tuple[Engine, ...]
    steps: int
    seconds: float
    allowed: float
    right: float


class Experts:
    """The experts of a checkpoint on a device, each loaded when it is first asked for.

    fitting: how to fit to demonstrations; None: as the device allows. compiled: see `Engine`. Raises CheckpointError
    for a device that is not there.
    """

    def __init__(self, checkpoint: Checkpoint, device: str, slots: int = 0) -> None:
        self.checkpoint, self.device, self.slots = checkpoint, usable(device), slots
        self.fitting: Fitting | None = None
        self.compiled = False
        self._engines: dict[str, Engine] = {}
        # By task, canvas, way of fitting and place among those that are fitted side by side: each has a stream.
        self._fitters: dict[tuple[str, int, Fitting, int], Fitter] = {}
        self._streams: list[torch.cuda.Stream] = []
        self._fitted: OrderedDict[bytes, Fitted] = OrderedDict()  # by what they were fitted to

    def engine(self, task: str) -> Engine:
        """The engine of a task's expert. Raises PuzzleError where there is none."""
        from trm.inference.engine import Engine

        if task not in self._engines:
            expert = self.expert(task)
            network = expert.model(self.device, self._dtype(expert))
            self._engines[task] = Engine(with_kernels(network), self.slots, self.compiled)
        return self._engines[task]

    def expert(self, task: str) -> Expert:
        """The task's expert. Raises PuzzleError where there is none, or one of another shape."""
        if task not in self.checkpoint.experts:
            known = ", ".join(sorted(self.checkpoint.experts))
            raise PuzzleError(f"{self.checkpoint.name}: no expert for {task}, expected one of {known}")
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

    def _dtype(self, expert: Expert) -> torch.dtype:
        import torch

        from trm.inference.engine import gains_from_bf16

        trained_half = expert.meta.get("dtype") == "bfloat16"
        return torch.bfloat16 if trained_half and gains_from_bf16(self.device) else torch.float32

    @property
    def kept(self) -> int:
        """Puzzles whose fitted networks are kept."""
        networks = FITTED_KEPT_ON_CPU if self.device == "cpu" else FITTED_KEPT
        return max(1, networks // self.how().replicas)

    def fits(self, task: str) -> bool:
        """Whether the task's expert is fitted to the demonstrations of every puzzle before it answers."""
        expert = self.checkpoint.experts.get(task)
        return expert is not None and get(task).has_demonstrations and expert.config.turns

    def calibration(self, puzzle: Puzzle) -> Calibration | None:
        """What belief in an answer is worth of the networks that were fitted to this puzzle, if that is known."""
        if not self.fits(puzzle.task):
            return None
        found = calibration_of(self.checkpoint.experts[puzzle.task].meta)
        known = self._fitted.get(self._key(puzzle, self.how()))
        return found if found is not None and known is not None and found.holds(known.steps) else None

    def engines_for(self, puzzle: Puzzle) -> tuple[Engine, ...]:
        """The engines that answer this puzzle: its task's, or those `fitted` to it last, if need be now."""
        if not self.fits(puzzle.task):
            return (self.engine(puzzle.task),)
        known = self._fitted.get(self._key(puzzle, self.how()))
        return known.engines if known is not None else self.fitted([puzzle])[0].engines

    def replica(self, task: str, turn: int) -> int:
        """Which of a puzzle's engines makes the attempt of this turn; 0 is the cold one."""
        return turn % self.how().replicas if self.fits(task) else 0

    def fitted(
        self, puzzles: Sequence[Puzzle], progress: Progress | None = None, budget: float | None = None
    ) -> list[Fitted]:
        """Networks fitted to the demonstrations of each puzzle, `Fitting.together` puzzles side by side.

        budget: seconds that a puzzle may take in all, most of which fitting then takes. A network that was fitted to
        the same demonstrations before is used again, unless it was given clearly less time than is now.
        """
        how = self.how()
        if budget is not None:
            how = replace(how, seconds=FITTING_SHARE * budget)
        asked = {self._key(puzzle, how): puzzle for puzzle in puzzles}
        known = {key: self._fitted[key] for key in asked if key in self._fitted}
        found = {key: one for key, one in known.items() if how.steps or one.allowed >= ENOUGH * how.seconds}
        missing = [(key, puzzle) for key, puzzle in asked.items() if key not in found]
        for first in range(0, len(missing), how.together):
            group = missing[first : first + how.together]
            found |= zip(
                (key for key, _ in group), self._fit([p for _, p in group], how, progress), strict=True
            )
        for key, one in found.items():
            self._fitted[key] = one
            self._fitted.move_to_end(key)
        while len(self._fitted) > self.kept:
            self._fitted.popitem(last=False)
        return [found[self._key(puzzle, how)] for puzzle in puzzles]

    def ahead(
        self, puzzles: Sequence[Puzzle], progress: Progress | None = None, budget: float | None = None
    ) -> Iterator[tuple[Puzzle, float]]:
        """The puzzles in turn, each with its share of the seconds that fitting took so far.

        The networks of as many as fit side by side are fitted before the first of them; none where each has a budget.
        """
        together, share = self.how().together, 0.0
        for n, puzzle in enumerate(puzzles):
            if budget is None and n % together == 0:
                begun, some = time.perf_counter(), [p for p in puzzles[n : n + together] if self.fits(p.task)]
                self.fitted(some, progress)
                share = (time.perf_counter() - begun) / max(1, len(some))
            yield puzzle, share if self.fits(puzzle.task) else 0.0

    def _key(self, puzzle: Puzzle, how: Fitting) -> bytes:
        """What a fitted network depends on, but for the time it was given."""
        grids = [grid.tobytes() + bytes(grid.shape) for pair in puzzle.demos for grid in pair]
        return b"|".join([*grids, f"{self.spec(puzzle).width} {replace(how, seconds=0)}".encode()])

    def _fit(self, puzzles: Sequence[Puzzle], how: Fitting, progress: Progress | None) -> list[Fitted]:
        """Side by side, by fitters that are kept: one compiles and captures once for each canvas."""
        import torch

        from trm.adaptation.test_time import Fitter, fit_together
        from trm.inference.engine import Engine

        fitters: list[Fitter] = []
        for place, puzzle in enumerate(puzzles):
            if self.device.startswith("cuda") and place == len(self._streams):
                self._streams.append(torch.cuda.Stream(self.device))  # type: ignore[no-untyped-call]
            place_of = (puzzle.task, self.spec(puzzle).width, replace(how, seconds=0), place)
            if place_of not in self._fitters:
                expert, stream = self.expert(puzzle.task), self._streams[place] if self._streams else None
                dtype = self._dtype(expert)
                self._fitters[place_of] = Fitter(expert, how, place_of[1], self.device, dtype, stream)
            fitters.append(self._fitters[place_of])

        def tick(replica: int, behind: int, total: int) -> None:
            if progress is not None:
                progress(replica * total + behind, Seconds(how.replicas * total), None)

        begun = time.perf_counter()
        rounds = [
            fit_together(
                fitters, puzzles, partial(tick, replica), how.seconds / how.replicas, how.seed + replica
            )
            for replica in range(how.replicas)
        ]
        seconds = (time.perf_counter() - begun) / len(puzzles)
        networks, steps, right = zip(*rounds, strict=True)
        return [
            Fitted(
                tuple(Engine(with_kernels(network), self.slots) for network in mine),
                sum(steps) // how.replicas,
                seconds,
                how.seconds,
                sum(shares) / how.replicas,
            )
            for mine, shares in zip(zip(*networks, strict=True), zip(*right, strict=True), strict=True)
        ]

    def steps(self, task: str, asked: int) -> int:
        """Supervision steps that a rollout takes at most.

        A fitted network stops where its training did: no rule tells which of its later grids is the better one.
        """
        if not self.fits(task):
            return asked
        recipe = self.checkpoint.experts[task].meta.get("recipe", {})
        return min(asked, int(recipe.get("train", {}).get("max_steps", asked)))

    def how(self) -> Fitting:
        """How networks are fitted: as said, or as the device allows."""
        from trm.adaptation.test_time import Fitting

        small = Fitting(seconds=30, batch=8, smallest=10)  # a person waits
        return self.fitting or (small if self.device == "cpu" else Fitting())

    def spec(self, puzzle: Puzzle) -> Task:
        """The puzzle's task, on the canvas that its network sees it on."""
        task = get(puzzle.task)
        if not task.has_demonstrations or puzzle.task not in self.checkpoint.experts:
            return task
        config = self.checkpoint.experts[puzzle.task].config
        if not self.fits(puzzle.task):
            return task.on(config.canvas_width or task.width)
        from trm.adaptation.test_time import canvas

        return task.on(canvas(puzzle, config, self.how().smallest))


def with_kernels(network: TRM) -> TRM:
    """The same network, which uses `trm.model.kernels` where they were measured to be faster."""
    if network.device.type == "cuda":  # elsewhere they are not even imported
        from trm.model.kernels import use

        use("auto", network)
    return network


def usable(device: str) -> str:
    """The device that a name stands for. Raises CheckpointError if it is not there."""
    import torch

    from trm.checkpoints.format import CheckpointError

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "mps") and not device.startswith("cuda"):
        raise CheckpointError(f"device {device!r}: expected auto, cpu, cuda or mps")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise CheckpointError("device cuda: there is none here, expected auto or cpu")
    if device == "mps" and not torch.backends.mps.is_available():
        raise CheckpointError("device mps: there is none here, expected auto or cpu")
    return device
