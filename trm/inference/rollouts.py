"""Rollouts of the network over puzzles: what is requested, how it runs, and the attempt that comes of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from trm.grid import Grid, Grids
from trm.inference.slots import Rollout, RolloutEngine, Trajectory
from trm.tasks import Puzzle, Status, Task, Verdict
from trm.tasks.transforms import IDENTITY, GridTransform, RestrictedTransform

SOURCE_COLD, SOURCE_FROM_DRAFT = (
    "refiner",
    "refiner+draft",
)  # of attempts, as the JSON record has them

# Called with the number of rollouts that have ended, their total, and the first puzzle's newest grid.
RolloutProgress = Callable[[int, int, Grid | None], None]
# Called after every step with the number of the owner and the step.
RolloutWatcher = Callable[[int, "RolloutStep"], None]


@dataclass(frozen=True, eq=False)
class RolloutRequest:
    """One attempt to be made at a puzzle: a rollout for each of its inputs, under one transform.

    original: the puzzle itself. puzzle, draft: as the network sees them, transformed. task: with the canvas and place
    that they are encoded on. context: which of the network's embeddings. member: which network of an ensemble.
    noise: σ; seed: of the noise.
    """

    original: Puzzle
    puzzle: Puzzle
    task: Task
    draft: Grids | None = None
    transform: GridTransform = IDENTITY
    context: int = 0
    member: int = 0
    noise: float = 0.0
    seed: int = 0
    trace: bool = False  # whether the attempt keeps the grid after every step

    @property
    def source(self) -> str:
        return SOURCE_COLD if self.draft is None else SOURCE_FROM_DRAFT

    def rollout(self, index: int) -> Rollout:
        """The rollout over the puzzle's input number `index`."""
        return Rollout(
            self.task.encode_question(self.puzzle, index),
            None if self.draft is None else self.task.encode_draft(self.puzzle, self.draft[index], index),
            context=self.context,
            noise=self.noise,
            seed=self.seed,
            watched=self.trace,
        )

    def decode(self, tokens: NDArray[np.int64], index: int) -> Grid:
        """Tokens [L] of the network as a grid of the original puzzle."""
        return self.transform.inverse(self.task.decode(self.puzzle, tokens, index))


@dataclass(frozen=True, eq=False)
class RolloutCycle:
    """A rollout after one of the T cycles of a supervision step. grid: what y decodes to.

    weighed: where rules decide, grids of the next likely symbols, 0 where they are unlikely. z_moved: how far z moved
    in the cycle, as a share of its length.
    """

    grid: Grid
    weighed: tuple[Grid, ...]
    z_moved: float


@dataclass(frozen=True, eq=False)
class RolloutStep:
    """A rollout after one supervision step. index: the puzzle's input; number: of the step, from 1.

    grid: of the original puzzle. confidence: the halting probability. weighed: as after the last of its cycles.
    z_moved: how far z moved in the step; None, and no cycles, where the engine does not say.
    """

    request: RolloutRequest
    index: int
    number: int
    grid: Grid
    confidence: float
    weighed: tuple[Grid, ...] = ()
    z_moved: float | None = None
    cycles: tuple[RolloutCycle, ...] = ()

    @classmethod
    def of(cls, request: RolloutRequest, index: int, run: Trajectory, number: int, grid: Grid) -> RolloutStep:
        """Step `number` of a trajectory."""
        confidence = float(sigmoid(np.array(run.halts[number - 1], dtype=np.float64)))
        if not run.watched:
            return cls(request, index, number, grid, confidence)
        seen, checks = run.watched[number - 1], request.task.has_checker
        cycles = tuple(
            RolloutCycle(
                request.decode(tokens, index),
                tuple(request.decode(other, index) for other in weighed.T) if checks else (),
                float(moved),
            )
            for tokens, weighed, moved in zip(seen.grids, seen.weighed, seen.z_moves, strict=True)
        )
        return cls(request, index, number, grid, confidence, cycles[-1].weighed, seen.z_moved, cycles)


@dataclass(frozen=True, eq=False)
class Attempt:
    """What one request came to. confidence: the network's, in [0, 1]. trace: the first input's grid after each step;
    traced: the same with all that is known of each step.

    member: which network of an ensemble made it. seconds: its share of the batches' time.
    """

    source: str
    grids: Grids
    confidence: float
    verdict: Verdict
    steps: int
    traced: tuple[RolloutStep, ...] = ()
    seconds: float = 0.0
    member: int = 0

    @property
    def verified(self) -> bool:
        return self.verdict.status is Status.VERIFIED

    @property
    def trace(self) -> tuple[Grid, ...]:
        return tuple(step.grid for step in self.traced)


def run_requests(
    engine: RolloutEngine,
    requests: Sequence[tuple[int, RolloutRequest]],
    steps: int,
    deadline: float | None = None,
    progress: RolloutProgress | None = None,
    stopped: Callable[[int], bool] = lambda owner: False,
    watch: RolloutWatcher | None = None,
) -> Iterator[tuple[int, list[Attempt]]]:
    """Run requests in one batch, each with the number of its owner; the requests of an owner stand together.

    Yields an owner and its attempts as soon as all of them have ended. A rollout ends when the network has halted
    and, where rules decide, a grid of it verifies: the rules never end it before the network does, so that the
    confidence does not depend on them. deadline: a `time.perf_counter()` after which every rollout ends at its
    next step. stopped: whether an owner's rollouts end at their next step. watch: hears of every step of requests
    that keep a trace.
    """
    rows = [(n, i) for n, (_, request) in enumerate(requests) for i in range(len(request.puzzle.inputs))]
    verified: set[int] = set()
    newest: list[Grid | None] = [None]

    def stop(row: int, run: Trajectory) -> bool:
        request, index = requests[rows[row][0]][1], rows[row][1]
        checks = request.task.has_checker
        if run.accepted:
            verified.add(row)
        if row == 0 or request.trace or (checks and run.accepted is None and row not in verified):
            grid = request.decode(run.grids[-1], index)
            if row == 0:
                newest[0] = grid
            if request.task.check(request.original, grid).status is Status.VERIFIED:
                verified.add(row)
            if watch is not None and request.trace:
                watch(requests[rows[row][0]][0], RolloutStep.of(request, index, run, run.steps, grid))
        late = deadline is not None and time.perf_counter() > deadline
        late = late or stopped(requests[rows[row][0]][0])
        return late or (run.halted and (row in verified or not checks))

    def rollout(row: int) -> Rollout:
        request, index = requests[rows[row][0]][1], rows[row][1]
        # The engine's rule knows the question that the network sees, which may have more givens than the puzzle.
        ruled = engine.rule is not None and not isinstance(request.transform, RestrictedTransform)
        return replace(request.rollout(index), leaves=ruled if request.task.has_checker else True)

    def tick(done: int) -> None:
        if progress is not None:
            progress(done, len(rows), newest[0])

    by_owner: dict[int, list[int]] = {}
    for row, (n, _) in enumerate(rows):
        by_owner.setdefault(requests[n][0], []).append(row)
    ended: dict[int, Trajectory] = {}
    for row, run in engine.each([rollout(row) for row in range(len(rows))], steps, stop=stop, progress=tick):
        ended[row] = run
        owner = requests[rows[row][0]][0]
        if all(other in ended for other in by_owner[owner]):
            grouped = groupby(by_owner[owner], lambda row: rows[row][0])
            yield owner, [attempt_of(requests[n][1], [ended[row] for row in some]) for n, some in grouped]


def attempt_of(request: RolloutRequest, runs: Sequence[Trajectory]) -> Attempt:
    """The attempt that a request's trajectories (one for each input of the original puzzle) come to.

    Its grid is the first one that verifies, else the last; its confidence the halting probability where the network
    halted first, else at the end, and of several inputs the lowest.
    """
    task = request.task
    answers: list[Grid] = []
    traced: tuple[RolloutStep, ...] = ()
    for index, run in enumerate(runs):
        seen: list[Grid] = []
        for tokens in run.grids if task.has_checker or request.trace else run.grids[-1:]:
            seen.append(request.decode(tokens, index))
            if task.has_checker and task.check(request.original, seen[-1]).status is Status.VERIFIED:
                break
        answers.append(seen[-1])
        if request.trace and index == 0:
            steps = enumerate(seen, 1)
            traced = tuple(RolloutStep.of(request, index, run, number, grid) for number, grid in steps)
    halts = np.array([run.halts[run.first_halt()] for run in runs], dtype=np.float64)
    grids = tuple(answers)
    return Attempt(
        request.source,
        grids,
        float(sigmoid(halts).min()),
        task.check(request.original, grids),
        steps=sum(run.steps for run in runs),
        traced=traced,
        seconds=sum(run.seconds for run in runs),
        member=request.member,
    )


def sigmoid(logit: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-np.clip(logit, -60, 60)))
