"""Propose, check, refine, check: the one pipeline behind every arm.

LLM alone is `Pipeline(llm, Passthrough())`, the network alone `Pipeline(Blank(), refiner)`, the hybrid
`Pipeline(llm, refiner)`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from hybrid.answer import Answer, Candidates, JudgedDraft, Seconds
from hybrid.draft import BackendError, Draft, Feedback, Proposer
from hybrid.null import Passthrough
from trm import tasks
from trm.grid import Grid, Grids, PuzzleError
from trm.tasks import Puzzle, Status, Verdict

CANDIDATES = 2  # grids an answer may name for one input where no rule can decide (ARC's two attempts)


class Refined(Protocol):
    """What the pipeline reads of `trm.refine.Refinement`."""

    @property
    def grids(self) -> Grids | None: ...
    @property
    def candidates(self) -> list[list[Grid]] | None: ...
    @property
    def verdict(self) -> Verdict: ...
    @property
    def confidence(self) -> float | None: ...
    @property
    def source(self) -> str: ...
    @property
    def steps(self) -> int: ...
    @property
    def restarts(self) -> int: ...
    @property
    def seconds(self) -> float: ...
    @property
    def trace(self) -> tuple[Grid, ...]: ...
    @property
    def alternatives(self) -> tuple[Grid, ...]: ...


class GridRefiner(Protocol):
    """What the pipeline asks of a refiner: `trm.Refiner`, or `hybrid.null.Passthrough`."""

    @property
    def name(self) -> str | None: ...
    @property
    def tasks(self) -> tuple[str, ...]: ...
    def accepts_drafts(self, task: str) -> bool: ...
    @property
    def refine(self) -> Callable[..., Any]: ...  # a list of puzzles to a list of `Refined`


class Watcher:
    """Told what happens while it happens. This one does not care; `hybrid.render.Live` draws it."""

    def started(self, puzzles: Sequence[Puzzle]) -> None:
        """Work on these begins; they are refined together."""

    def drafted(self, puzzle: Puzzle, draft: JudgedDraft) -> None:
        """A draft came and was checked."""

    def refining(self, done: int, total: int, grids: Any = None) -> None:
        """`done` of `total` supervision steps; `grids` as `Refiner.refine`'s progress callback gives them."""

    def warned(self, message: str) -> None:
        """Something is missing, yet there will be answers."""


@dataclass(frozen=True)
class Options:
    """How much to spend on a puzzle. Further drafts, rounds and restarts only while it is not verified."""

    drafts: int = 1
    rounds: int = 0
    steps: int = 16  # supervision steps
    restarts: int = 8
    budget: float | None = None  # seconds a puzzle
    answers: int = 1
    seed: int = 0
    trace: bool = False


@dataclass(eq=False)
class _Work:
    """A puzzle on its way."""

    puzzle: Puzzle
    begun: float
    drafts: list[JudgedDraft] = field(default_factory=list)
    refined: list[Refined] = field(default_factory=list)
    refine_seconds: float = 0.0
    answerable: bool = False  # an LLM replied or a network ran

    def verified(self) -> list[Grids]:
        """The distinct answers that the rules accept so far, whatever anyone said of them."""
        task = tasks.get(self.puzzle.task)
        named = [draft.draft.grids for draft in self.drafts]
        for out in self.refined:
            named += [out.grids, *((grid,) for grid in out.alternatives)]
        distinct = _distinct(grids for grids in named if grids is not None)
        return [grids for grids in distinct if task.check(self.puzzle, grids).status is Status.VERIFIED]


class Pipeline:
    """Answers puzzles. `at_once`: how many are refined together; with a slow proposer, one."""

    def __init__(
        self, proposer: Proposer, refiner: GridRefiner, at_once: int = 1, watcher: Watcher | None = None
    ) -> None:
        self.proposer = proposer
        self.refiner = refiner
        self.at_once = at_once
        self.watcher = watcher if watcher is not None else Watcher()
        self._said: set[str] = set()

    def solve(self, puzzles: Iterable[Puzzle], options: Options = Options()) -> Iterator[Answer]:
        """One answer a puzzle, in order, each as soon as it is there."""
        # A budget is a puzzle's own: the seconds of a batch are nobody's.
        size = 1 if options.budget is not None else self.at_once
        for group in _groups(puzzles, size):
            yield from self._solve_together(group, options)

    def _solve_together(self, puzzles: list[Puzzle], options: Options) -> list[Answer]:
        self.watcher.started(puzzles)
        group = [_Work(puzzle, time.perf_counter()) for puzzle in puzzles]
        asked = [self._propose(work, options.seed) for work in group]
        further = options.drafts - 1 + options.rounds if any(asked) else 0
        self._refine(group, options, last=not further)
        for work in group:
            for turn in range(1, further + 1):
                if not self._open(work, options):
                    break
                # Drafts first, then rounds, which name what is wrong with the last one.
                feedback = _feedback(work) if turn >= options.drafts else None
                self._propose(work, options.seed + turn, feedback)
                if turn == further or work.drafts[-1].draft.grids is not None:
                    self._refine([work], options, last=turn == further)
        return [self._answer(work, options, len(group)) for work in group]

    def _open(self, work: _Work, options: Options) -> bool:
        """Whether more is to be spent: not enough verified answers yet, and seconds left."""
        left = _seconds_left(work, options)
        return len(work.verified()) < options.answers and (left is None or left > 0)

    def _propose(self, work: _Work, seed: int, feedback: Feedback | None = None) -> bool:
        """Ask for one draft and judge it; whether the proposer said anything. Failures are counted values."""
        begun = time.perf_counter()
        try:
            drafts = self.proposer.propose(work.puzzle, drafts=1, feedback=feedback, seed=seed)
            work.answerable |= bool(drafts)
        except BackendError as error:
            self._warn(str(error))
            drafts = [Draft(None, error=str(error), seconds=time.perf_counter() - begun)]
        task = tasks.get(work.puzzle.task)
        for draft in drafts:
            verdict = None if draft.grids is None else task.check(work.puzzle, draft.grids)
            work.drafts.append(JudgedDraft(draft, verdict))
            self.watcher.drafted(work.puzzle, work.drafts[-1])
        return bool(drafts)

    def _refine(self, group: list[_Work], options: Options, last: bool) -> None:
        """Refine every work's newest draft beside a cold start. Restarts are for the last try."""
        begun = time.perf_counter()
        first = group[0]
        refiner = self._refiner_for(first.puzzle.task)
        takes_drafts = refiner.accepts_drafts(first.puzzle.task)
        if not takes_drafts and any(work.drafts for work in group):
            self._warn(f"{refiner.name} was not trained on drafts of {first.puzzle.task}: cold start only")
        wanted = last and any(self._open(work, options) for work in group)
        asks: dict[str, Any] = {
            "draft": [
                work.drafts[-1].draft.grids if work.drafts and takes_drafts else None for work in group
            ],
            # A later draft need not repeat the first one's cold start, unless restarts begin from it.
            "cold": last or not first.refined,
            "steps": options.steps,
            "restarts": options.restarts if wanted else 0,
            "seed": options.seed,
            "budget": _seconds_left(first, options),
            "answers": options.answers,
            "trace": options.trace,
            "progress": self.watcher.refining,
        }
        puzzles = [work.puzzle for work in group]
        try:
            outs = refiner.refine(puzzles, **asks)
        except PuzzleError as error:  # the expert's canvas is too small for it, say
            self._warn(f"{refiner.name}: {error}; the draft is judged alone")
            refiner = Passthrough()
            outs = refiner.refine(puzzles, **asks)
        share = (time.perf_counter() - begun) / len(group)
        for work, out in zip(group, outs, strict=True):
            work.refined.append(out)
            work.refine_seconds += share
            work.answerable |= refiner.name is not None

    def _refiner_for(self, task: str) -> GridRefiner:
        if task in self.refiner.tasks:
            return self.refiner
        has = ", ".join(self.refiner.tasks) or "none"
        self._warn(f"{self.refiner.name} has no expert for {task} (it has: {has}); the draft is judged alone")
        return Passthrough()

    def _warn(self, message: str) -> None:
        """Say it once, however many puzzles it holds for."""
        if message not in self._said:
            self._said.add(message)
            self.watcher.warned(message)

    def _answer(self, work: _Work, options: Options, group_size: int) -> Answer:
        task = tasks.get(work.puzzle.task)
        ranked = sorted(work.refined, key=_rank, reverse=True)
        best = ranked[0]
        own = next((draft.draft for draft in work.drafts if draft.verified), None)
        cold_verified = best.verdict.status is Status.VERIFIED and best.source == "refiner"
        grids, source, confidence = best.grids, best.source, best.confidence
        if own is not None and not cold_verified:
            grids, source = own.grids, "llm"
            # The network's confidence is in its own grid: it says nothing of another one.
            confidence = best.confidence if _same(grids, best.grids) else None
        faults = next((draft.faults for draft in reversed(work.drafts)), ("no answer",))
        # Whatever anyone claimed: the rules decide here, last, on the very grids that are handed out.
        verdict = Verdict(Status.UNSOLVED, faults) if grids is None else task.check(work.puzzle, grids)
        others = [other for other in work.verified() if not _same(other, grids)][: options.answers - 1]
        total = (time.perf_counter() - work.begun) / group_size
        return Answer(
            puzzle=work.puzzle,
            grids=grids,
            verdict=verdict,
            source=source if work.answerable else None,
            confidence=confidence,
            candidates=_merged(ranked),
            steps=sum(out.steps for out in work.refined),
            restarts=sum(out.restarts for out in work.refined),
            drafts=tuple(work.drafts),
            seconds=Seconds(sum(d.draft.seconds for d in work.drafts), work.refine_seconds, total),
            llm=self.proposer.name,
            refiner=self.refiner.name,
            seed=options.seed,
            alternatives=tuple(others),
            trace=best.trace,
            missing=not work.answerable,
        )


def _rank(out: Refined) -> tuple[bool, bool, float]:
    """Verified first, of these a cold start's (the draft added nothing), then the more confident."""
    verified = out.verdict.status is Status.VERIFIED
    return verified, verified and out.source == "refiner", out.confidence or 0.0


def _merged(ranked: list[Refined]) -> Candidates:
    """The candidates for every input, the best refinement's first, each grid once."""
    named = [out.candidates for out in ranked if out.candidates]
    return tuple(
        tuple(grids[0] for grids in _distinct((grid,) for choice in choices for grid in choice)[:CANDIDATES])
        for choices in zip(*named, strict=True)
    )


def _feedback(work: _Work) -> Feedback | None:
    return Feedback(work.drafts[-1].draft, work.drafts[-1].faults) if work.drafts else None


def _seconds_left(work: _Work, options: Options) -> float | None:
    if options.budget is None:
        return None
    return max(0.0, options.budget - (time.perf_counter() - work.begun))


def _same(one: Grids | None, other: Grids | None) -> bool:
    if one is None or other is None:
        return one is other
    return len(one) == len(other) and all(map(np.array_equal, one, other))


def _distinct(answers: Iterable[Grids]) -> list[Grids]:
    seen: list[Grids] = []
    for grids in answers:
        if not any(_same(grids, other) for other in seen):
            seen.append(grids)
    return seen


def _groups(puzzles: Iterable[Puzzle], size: int) -> Iterator[list[Puzzle]]:
    """Runs of at most `size` puzzles of one task."""
    group: list[Puzzle] = []
    for puzzle in puzzles:
        if group and puzzle.task != group[0].task:
            yield group
            group = []
        group.append(puzzle)
        if len(group) == size:  # now, not when the next one comes: it may be long in coming
            yield group
            group = []
    if group:
        yield group
