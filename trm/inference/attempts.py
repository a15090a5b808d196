"""Attempts at a puzzle: rollouts planned, run and settled into one refinement."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from trm.adaptation.calibration import Calibration
from trm.grid import Grid, Grids
from trm.tasks import Puzzle, Status, Task, Verdict, get

if TYPE_CHECKING:
    from trm.inference.engine import Engine, Trajectory

# Rollouts done, rollouts in all, the first one's grid; while a network is fitted, seconds in place of rollouts.
Progress = Callable[[int, int, Grid | None], None]
STEPS = 16  # supervision steps of a rollout at most, where nothing else is asked


class Seconds(int):
    """A total that counts seconds of fitting, not rollouts."""


@dataclass(frozen=True)
class Effort:
    """How much a refinement may take: the options of `trm.inference.refiner.Refiner.refine`, which says what they mean."""

    steps: int = STEPS
    restarts: int = 0
    noise: float | None = None
    seed: int = 0
    budget: float | None = None
    answers: int = 1
    trace: bool = False
    progress: Progress | None = None


@dataclass(frozen=True, eq=False)
class Refinement:
    """What came of one question. `confidence` is learned, `verdict` is exact; they are never merged.

    Where the network is shown demonstrations `confidence` is what `belief` says, by `calibration` where it has one.
    candidates: where no rule decides, for every input one or two grids, best first. steps: supervision steps of
    all rollouts. trace: the grid after every step of the rollout that gave the answer. alternatives: further
    distinct verified answers. attempts: how each rollout went, in order.
    """

    task: str
    grids: Grids
    confidence: float
    verdict: Verdict
    source: str  # "refiner" | "refiner+draft"
    steps: int
    restarts: int
    seconds: float  # its share where others were refined beside it
    trace: tuple[Grid, ...] = ()
    candidates: list[list[Grid]] | None = None
    alternatives: tuple[Grid, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    calibration: Calibration | None = None

    @property
    def grid(self) -> Grid:
        """The answer to a one-input puzzle, uint8 [H, W]."""
        return self.grids[0]

    @property
    def text(self) -> str:
        """The answer as the commands print it."""
        return get(self.task).text(self.grids)


class View(Protocol):
    """How the network sees a puzzle, and the way back for what it says."""

    def forward(self, grid: Grid) -> Grid: ...
    def inverse(self, grid: Grid) -> Grid: ...


@dataclass(frozen=True, eq=False)
class Narrowed:
    """A view of a puzzle of one input with more givens than it has: `asked` in place of `question`, both [H, W]."""

    view: View
    question: Grid
    asked: Grid

    def forward(self, grid: Grid) -> Grid:
        return self.view.forward(np.where(self.question != self.asked, self.asked, grid))

    def inverse(self, grid: Grid) -> Grid:
        back = self.view.inverse(grid)
        return np.where(self.question != self.asked, self.question, back)


@dataclass(frozen=True, eq=False)
class Plan:
    """One attempt at a puzzle: a rollout for each of its inputs, under one view."""

    job: int
    source: str
    puzzle: Puzzle  # as the network sees it
    draft: Grids | None
    symmetry: View | None = None
    context: int = 0  # which of the network's identities
    replica: int = 0  # which of the networks that were fitted to the puzzle
    noise: float = 0.0
    seed: int = 0
    task: Task | None = None  # its task with another place on the canvas


@dataclass(frozen=True, eq=False)
class Attempt:
    """How it went. replica: which of the networks that were fitted to the puzzle made it."""

    source: str
    grids: Grids
    confidence: float
    verdict: Verdict
    steps: int
    trace: tuple[Grid, ...]
    seconds: float = 0.0
    replica: int = 0


@dataclass(eq=False)
class Job:
    puzzle: Puzzle
    starts: tuple[Grids | None, ...]  # where rollouts begin, taken in turn; None is cold
    begun: float
    attempts: list[Attempt] = field(default_factory=list)
    restarts: int = 0

    def verified(self) -> list[Attempt]:
        """Attempts that the rules accept, one for each distinct answer, in order of coming."""
        seen: dict[bytes, Attempt] = {}
        for attempt in self.attempts:
            if attempt.verdict.status is Status.VERIFIED:
                seen.setdefault(b"".join(g.tobytes() for g in attempt.grids), attempt)
        return list(seen.values())


def tally(named: Sequence[Grid]) -> list[tuple[Grid, int]]:
    """The distinct grids and how often each is named, the most often named first; among equals who came first."""
    keys = [(grid.shape, grid.tobytes()) for grid in named]
    grids = dict(zip(keys, named, strict=True))
    return [(grids[key], votes) for key, votes in Counter(keys).most_common()]


def belief(
    attempts: Sequence[Attempt],
    said: Sequence[Attempt],
    grids: Grids,
    calibration: Calibration | None = None,
) -> float | None:
    """How sure the network is of an answer, from views that vote; None where for some input none of `said` says it.

    The confidence of the surest of `said` that says it, times the share of all attempts that do (`agreement`); of
    several inputs the least. Either alone is not to be believed of a network that was fitted: briefly fitted it halts
    as it should and its views hardly agree, fitted for long it halts at anything (LOG.md). With a calibration: how
    probable it makes it.
    """
    found = []
    for index, grid in enumerate(grids):
        votes = sum(np.array_equal(one.grids[index], grid) for one in attempts)
        sure = [one.confidence for one in said if np.array_equal(one.grids[index], grid)]
        if not sure:
            return None
        found.append(max(sure) * agreement(votes, len(attempts)))
    return min(found) if calibration is None else calibration(min(found))


def agreement(votes: int, views: int) -> float:
    """The share of views that agree, by Laplace's rule of succession: that a single one does says little."""
    return (votes + 1) / (views + 2)


def sigmoid(logit: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-np.clip(logit, -60, 60)))


def _back(plan: Plan, grid: Grid) -> Grid:
    return grid if plan.symmetry is None else plan.symmetry.inverse(grid)


def run_plans(
    engine: Engine,
    task: Task,
    plans: Sequence[Plan],
    jobs: Sequence[Job],
    steps: int,
    deadline: float | None,
    progress: Progress | None,
) -> Iterator[tuple[int, list[tuple[Plan, list[Trajectory]]]]]:
    """The number of a job and its plans in order, each with one trajectory for each of its inputs, as soon as all
    of them have ended.

    A rollout ends once the network has halted and, where rules decide, a grid of it verifies: the rules never
    end it before the network does, so that the confidence does not depend on them.
    """
    from trm.inference.engine import Rollout

    owners = [(plan, plan.task or task, i) for plan in plans for i in range(len(plan.puzzle.inputs))]
    rollouts = [
        Rollout(
            spec.encode_question(plan.puzzle, i),
            None if plan.draft is None else spec.encode_draft(plan.puzzle, plan.draft[i], i),
            context=plan.context,
            noise=plan.noise,
            seed=plan.seed,
        )
        for plan, spec, i in owners
    ]
    latest: list[Grid | None] = [None]
    shown = next((row for row, (plan, _, _) in enumerate(owners) if plan.job == 0), None)

    accepted: set[int] = set()

    def stop(index: int, run: Trajectory) -> bool:
        plan, spec, i = owners[index]
        if index == shown or (task.has_checker and index not in accepted):
            grid = _back(plan, spec.decode(plan.puzzle, run.grids[-1], i))
            if index == shown:
                latest[0] = grid
            if task.check(jobs[plan.job].puzzle, grid).status is Status.VERIFIED:
                accepted.add(index)
        late = deadline is not None and time.perf_counter() > deadline
        return late or (run.halted and (index in accepted or not task.has_checker))

    def tick(done: int) -> None:
        if progress is not None:
            progress(done, len(rollouts), latest[0])

    rows: dict[int, list[int]] = {}
    for row, (plan, _, _) in enumerate(owners):
        rows.setdefault(plan.job, []).append(row)
    ended: dict[int, Trajectory] = {}
    for index, run in engine.each(rollouts, steps, stop=stop, progress=tick):
        ended[index] = run
        number = owners[index][0].job
        if all(row in ended for row in rows[number]):
            by_plan = groupby(rows[number], lambda row: owners[row][0])
            yield number, [(plan, [ended[row] for row in mine]) for plan, mine in by_plan]


def file_attempt(task: Task, plan: Plan, puzzle: Puzzle, runs: Sequence[Trajectory], trace: bool) -> Attempt:
    """What a plan's trajectories answer: the first grid that verifies, else the last. The confidence is the
    halt logit's where the network halted first, else at the end."""
    answers: list[Grid] = []
    traced: tuple[Grid, ...] = ()
    for i, run in enumerate(runs):
        seen: list[Grid] = []
        for tokens in run.grids if task.has_checker or trace else run.grids[-1:]:
            seen.append(_back(plan, (plan.task or task).decode(plan.puzzle, tokens, i)))
            if task.has_checker and task.check(puzzle, seen[-1]).status is Status.VERIFIED:
                break
        answers.append(seen[-1])
        if trace and i == 0:
            traced = tuple(seen)
    halts = np.array([run.halts[run.first_halt()] for run in runs], dtype=np.float64)
    grids = tuple(answers)
    return Attempt(
        plan.source,
        grids,
        float(sigmoid(halts).min()),
        task.check(puzzle, grids),
        steps=sum(run.steps for run in runs),
        trace=traced,
        seconds=sum(run.seconds for run in runs),
        replica=plan.replica,
    )


def settle(job: Job, answers: int, calibration: Calibration | None = None) -> Refinement:
    """What verifies wins, a cold start's first (the draft added nothing); else the most confident, or where no rule
    decides what most attempts say."""
    task = get(job.puzzle.task)
    verified = sorted(job.verified(), key=lambda a: a.source != "refiner")
    ranked = verified or sorted(job.attempts, key=lambda a: -a.confidence)
    best = ranked[0]
    if best.verdict.status is Status.VERIFIED:
        cold_too = any(a.source == "refiner" and a.verdict.status is Status.VERIFIED for a in job.attempts)
        source = "refiner" if cold_too else best.source
    else:
        source = best.source
    candidates: list[list[Grid]] | None = None
    if not task.has_checker:
        candidates = []
        for index in range(len(job.puzzle.inputs)):
            # Among equally many votes the most confident, which came first in `ranked`.
            candidates.append([grid for grid, _ in tally([a.grids[index] for a in ranked])[:2]])
    grids, verdict, confidence = best.grids, best.verdict, best.confidence
    if candidates is not None:  # what is said of the answer is said of the one that is given
        grids = tuple(choice[0] for choice in candidates)
        verdict = task.check(job.puzzle, grids)
        if task.has_demonstrations:  # attempts are views, which vote
            confidence = belief(ranked, ranked, grids, calibration) or 0.0
        else:
            confidence = next(a.confidence for a in ranked if all(map(np.array_equal, a.grids, grids)))
    return Refinement(
        task=task.name,
        grids=grids,
        confidence=confidence,
        verdict=verdict,
        source=source,
        steps=sum(a.steps for a in job.attempts),
        restarts=job.restarts,
        seconds=sum(a.seconds for a in job.attempts),
        trace=best.trace,
        candidates=candidates,
        alternatives=tuple(a.grids[0] for a in verified[1:answers]),
        attempts=tuple(job.attempts),
        calibration=calibration,
    )
