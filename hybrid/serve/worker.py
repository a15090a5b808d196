"""One thread owns the models. Puzzles wait in a bounded queue, and those that wait together are searched together."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import TypeAlias

from rich.console import Console

from hybrid import render
from hybrid.serve.catalogue import Model
from hybrid.serve.events import Event, answer_event, draft_event, error_event, step_event
from hybrid.solving import AT_ONCE, AT_ONCE_ON_CPU, DRAFTED_AT_ONCE
from trm.grid import Grid, PuzzleError
from trm.inference.config import SearchConfig
from trm.inference.proposals import BatchProposer, CheckedDraft
from trm.inference.rollouts import RolloutStep
from trm.inference.state import SolveState
from trm.tasks import Puzzle

log = logging.getLogger("hybrid.serve")

Emit: TypeAlias = Callable[[Event], None]  # called in the worker's thread
LONGEST_RETRY_SECONDS = 60


class QueueFullError(RuntimeError):
    """No room for more puzzles. retry_seconds: when there should be."""

    def __init__(self, retry_seconds: int) -> None:
        super().__init__(f"the queue is full, try again in {retry_seconds} s")
        self.retry_seconds = retry_seconds


class StoppedError(Exception):
    """Ends what cannot be told to stop, a draft or an adaptation, from one of its callbacks."""


@dataclass(eq=False)
class Job:
    """A puzzle that somebody waits for.

    watched: whether every step is an event. detailed: whether the answer says where rules are broken, and who voted.
    """

    model: Model
    puzzle: Puzzle
    config: SearchConfig
    emit: Emit
    watched: bool = False
    detailed: bool = False
    with_trace: bool = False
    stopped: bool = False
    state: SolveState | None = None
    drafts: int = 0
    attempts: dict[object, int] = field(default_factory=dict)  # numbers of the rollouts by their requests

    def stop(self) -> None:
        """End the search at its next step; the answer is what there is by then."""
        self.stopped = True
        if self.state is not None:
            self.state.stopped = True


@dataclass(eq=False)
class Call:
    """Anything else that needs a model: runs in the worker's thread, alone."""

    function: Callable[[], Event]
    emit: Emit
    stopped: bool = False

    def stop(self) -> None:
        self.stopped = True


Work: TypeAlias = "Job | Call"


class Relay(render.Notes):
    """Hands what a search reports to the job whose puzzle it is about."""

    command = "hybrid serve"

    def __init__(self) -> None:
        super().__init__(Console(stderr=True))
        self.jobs: dict[int, Job] = {}  # by the identity of their puzzles

    def listen(self, llm: object) -> None:
        if hasattr(llm, "on_token"):
            llm.on_token = self._written

    def _written(self, tokens: int) -> None:
        if self.jobs and all(job.stopped for job in self.jobs.values()):
            raise StoppedError
        for job in self.jobs.values():
            job.emit(Event("drafting", {"tokens": tokens}))

    def drafted(self, puzzle: Puzzle, draft: CheckedDraft) -> None:
        job = self.jobs[id(puzzle)]
        job.drafts += 1
        job.emit(draft_event(puzzle, draft, job.drafts))

    def adapting(self, puzzle: Puzzle, seconds: int, total: int) -> None:
        job = self.jobs[id(puzzle)]
        if job.stopped:
            raise StoppedError
        job.emit(Event("adapting", {"seconds": seconds, "of": total}))

    def stepped(self, puzzle: Puzzle, step: RolloutStep) -> None:
        job = self.jobs[id(puzzle)]
        if job.watched:
            number = job.attempts.setdefault(step.request, len(job.attempts) + 1)
            job.emit(step_event(puzzle, step, number))

    def refining(self, puzzle: Puzzle, done: int, total: int, grid: Grid | None = None) -> None:
        """Steps are heard of one by one in `stepped`."""


class Worker:
    """Runs work in the order of coming; puzzles for one model, of one task and one configuration, as a batch.

    size: the most that may wait or run. Everything but `run` may be called from any thread.
    """

    def __init__(self, relay: Relay, size: int) -> None:
        self.relay, self.size = relay, size
        self._waiting: deque[Work] = deque()
        self._running: list[Work] = []
        self._changed = threading.Condition()
        self._closed = False
        self._adapted = False  # whether the network is adapted to what runs, or ran last
        self._seconds_each = 1.0  # a moving average, for Retry-After
        self._thread = threading.Thread(target=self._run, name="hybrid-serve-worker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop what runs, fail what waits, and end the thread."""
        with self._changed:
            self._closed = True
            for work in (*self._waiting, *self._running):
                work.stop()
            self._changed.notify()
        self._thread.join(timeout=10)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def running(self) -> int:
        return len(self._running)

    def submit(self, works: Sequence[Work]) -> None:
        """Queue all of it or nothing. Raises QueueFullError."""
        with self._changed:
            taken = len(self._waiting) + len(self._running)
            if self._closed or taken + len(works) > self.size:
                seconds = ceil(self._seconds_each * taken)
                raise QueueFullError(max(1, min(LONGEST_RETRY_SECONDS, seconds)))
            self._waiting.extend(works)
            self._changed.notify()

    def stop(self, work: Work, reason: Event | None = None) -> None:
        """End work that nobody waits for, or that took too long. What still waits leaves the queue with `reason`."""
        with self._changed:
            work.stop()
            if work in self._waiting:
                self._waiting.remove(work)
                if reason is not None:
                    work.emit(reason)
            elif self._running and all(each.stopped for each in self._running):
                self._interrupt_draft()

    def _interrupt_draft(self) -> None:
        for work in self._running:
            if isinstance(work, Job):
                stop = getattr(work.model.pipeline.proposer, "stop", lambda: None)
                stop()

    # -- in the worker's thread --------------------------------------------------------------------------
    def _run(self) -> None:
        while batch := self._take():
            begun = time.perf_counter()
            try:
                self._work_on(batch)
            except StoppedError:
                self._fail(batch, error_event(504, "stopped before there was an answer"))
            except PuzzleError as error:
                self._fail(batch, error_event(422, str(error)))
            except Exception:
                log.exception("a batch failed")
                self._fail(batch, error_event(500, "internal error"))
            finally:
                each = (time.perf_counter() - begun) / len(batch)
                self._seconds_each += 0.2 * (each - self._seconds_each)
        self._fail(list(self._waiting), error_event(503, "the server is shutting down"))

    def _take(self) -> list[Work]:
        """The oldest work, and whatever waits that can be done with it; waits for it. Empty when closed.

        After a puzzle whose network was adapted, which takes long, the oldest of the others.
        """
        with self._changed:
            self._running = []
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if self._closed:
                return []
            others = [work for work in self._waiting if not _adapts(work)] if self._adapted else []
            first = others[0] if others else self._waiting[0]
            self._waiting.remove(first)
            self._adapted = _adapts(first)
            batch: list[Work] = [first]
            if isinstance(first, Job):
                same = [work for work in self._waiting if isinstance(work, Job) and _together(first, work)]
                batch += same[: _at_once(first) - 1]
            for work in batch[1:]:
                self._waiting.remove(work)
            self._running = batch
            return list(batch)

    def _work_on(self, batch: Sequence[Work]) -> None:
        if isinstance(batch[0], Call):
            batch[0].emit(batch[0].function())
            return
        jobs = {id(job.puzzle): job for job in batch if isinstance(job, Job)}
        self.relay.jobs = jobs
        for job in jobs.values():
            job.state = SolveState(job.puzzle)
            job.state.stopped = job.stopped  # read after the state is there: it may be stopped at any moment
            job.emit(Event("started", {"task": job.puzzle.task}))
        first = next(iter(jobs.values()))
        states = [job.state for job in jobs.values() if job.state is not None]
        for state, answer in first.model.pipeline.solve_states(states, first.config):
            job = jobs.pop(id(state.puzzle))
            with self._changed:
                self._running.remove(job)
            job.emit(answer_event(answer, job.with_trace, job.detailed))

    def _fail(self, batch: Sequence[Work], event: Event) -> None:
        """Whoever of the batch has had no last event gets this one."""
        for work in batch:
            if work in self._running or work in self._waiting:
                work.emit(event)


def _together(first: Job, other: Job) -> bool:
    same_search = (first.model, first.config) == (other.model, other.config)
    return same_search and first.puzzle.task == other.puzzle.task


def _adapts(work: Work) -> bool:
    """Whether the network is adapted to the puzzle."""
    refiner = work.model.pipeline.refiner if isinstance(work, Job) else None
    return isinstance(work, Job) and refiner is not None and refiner.pool.adapts(work.puzzle.task)


def _at_once(job: Job) -> int:
    """How many puzzles are searched together. A network that is adapted to its puzzle answers alone."""
    pipeline = job.model.pipeline
    refiner, proposer = pipeline.refiner, pipeline.proposer
    if _adapts(job):
        return 1
    if proposer.name is not None:
        return DRAFTED_AT_ONCE if isinstance(proposer, BatchProposer) else 1
    return AT_ONCE_ON_CPU if refiner is None or refiner.device == "cpu" else AT_ONCE
