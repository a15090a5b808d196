"""Puzzles wait in bounded queues, and those that wait together are searched together.

Each of two threads has a queue: one for puzzles to which a network is adapted first, which takes long, and one for
the others.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil

import torch

from hybrid.serve.events import Event, answer_event, error_event
from hybrid.serve.jobs import Call, Job, Relay, StoppedError, Work
from hybrid.solving import AT_ONCE, AT_ONCE_ON_CPU, DRAFTED_AT_ONCE
from trm.grid import PuzzleError
from trm.inference.proposals import BatchProposer
from trm.inference.state import SolveState

log = logging.getLogger("hybrid.serve")

LONGEST_RETRY_SECONDS = 60


class QueueFullError(RuntimeError):
    """No room for more puzzles. retry_seconds: when there should be."""

    def __init__(self, retry_seconds: int) -> None:
        super().__init__(f"the queue is full, try again in {retry_seconds} s")
        self.retry_seconds = retry_seconds


@dataclass(eq=False)
class Lane:
    """What waits for one of the threads, and runs in it. adapts: whether that is work which adapts networks.

    most: how many may wait or run. seconds_each: a moving average, for Retry-After.
    """

    adapts: bool
    most: int
    seconds_each: float = 1.0
    waiting: deque[Work] = field(default_factory=deque)
    running: list[Work] = field(default_factory=list)


class Worker:
    """Runs work in the order of coming; puzzles for one model, of one task and one configuration, as a batch.

    size: the most that may wait or run, of which half at most adapt networks: they must not keep others out. What is
    public may be called from any thread.
    """

    def __init__(self, relay: Relay, size: int) -> None:
        self.relay, self.size = relay, size
        self._others = Lane(adapts=False, most=size)
        self._lanes = (self._others, Lane(adapts=True, most=max(1, size // 2)))
        self._threads: list[threading.Thread] = []
        self._changed = threading.Condition()
        self._closed = False
        self._cores = torch.get_num_threads()
        relay.between_steps = self._leave_cores

    def start(self) -> None:
        for lane in self._lanes:
            name = f"hybrid-serve-{'adapting' if lane.adapts else 'others'}"
            self._threads.append(threading.Thread(target=self._run, args=(lane,), name=name, daemon=True))
            self._threads[-1].start()

    def close(self) -> None:
        """Stop what runs, fail what waits, and end the threads."""
        with self._changed:
            self._closed = True
            for lane in self._lanes:
                for work in (*lane.waiting, *lane.running):
                    work.stop()
                self._fail(lane.waiting, error_event(503, "the server is shutting down"))
                lane.waiting.clear()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout=10)

    @property
    def waiting(self) -> int:
        return sum(len(lane.waiting) for lane in self._lanes)

    @property
    def running(self) -> int:
        return sum(len(lane.running) for lane in self._lanes)

    def submit(self, works: Sequence[Work]) -> None:
        """Queue all of it or nothing. Raises QueueFullError."""
        with self._changed:
            for lane in self._lanes:
                new = sum(self._lane_of(work) is lane for work in works)
                taken = len(lane.waiting) + len(lane.running)
                full = taken + new > lane.most or self.waiting + self.running + len(works) > self.size
                if new and (full or self._closed):
                    seconds = ceil(lane.seconds_each * taken)
                    raise QueueFullError(max(1, min(LONGEST_RETRY_SECONDS, seconds)))
            for work in works:
                self._lane_of(work).waiting.append(work)
            self._changed.notify_all()

    def _lane_of(self, work: Work) -> Lane:
        return next(lane for lane in self._lanes if lane.adapts == _adapts(work))

    def stop(self, work: Work, reason: Event | None = None) -> None:
        """End work that nobody waits for, or that took too long. What still waits leaves the queue with `reason`."""
        with self._changed:
            work.stop()
            waiting = self._lane_of(work).waiting
            if work in waiting:
                waiting.remove(work)
                if reason is not None:
                    work.emit(reason)
            else:
                self._interrupt_draft()

    def _interrupt_draft(self) -> None:
        """End the drafts of language models that nobody who runs waits for any more."""
        jobs = [work for lane in self._lanes for work in lane.running if isinstance(work, Job)]
        wanted = [job.model.pipeline.proposer for job in jobs if not job.stopped]
        for job in jobs:
            proposer = job.model.pipeline.proposer
            if not any(proposer is other for other in wanted):
                stop = getattr(proposer, "stop", lambda: None)
                stop()

    # -- in the worker's threads -------------------------------------------------------------------------
    def _run(self, lane: Lane) -> None:
        # Asked once, PyTorch keeps this number of cores for this thread, whatever the other thread sets for itself.
        torch.get_num_threads()
        while batch := self._take(lane):
            begun = time.perf_counter()
            try:
                self._work_on(lane, batch)
            except StoppedError:
                self._fail(lane.running, error_event(504, "stopped before there was an answer"))
            except PuzzleError as error:
                self._fail(lane.running, error_event(422, str(error), "bad_puzzle"))
            except Exception:
                log.exception("a batch failed")
                self._fail(lane.running, error_event(500, "internal error"))
            finally:
                each = (time.perf_counter() - begun) / len(batch)
                lane.seconds_each += 0.2 * (each - lane.seconds_each)

    def _take(self, lane: Lane) -> list[Work]:
        """The lane's oldest work, and whatever waits that can be done with it; waits for it. Empty when closed."""
        with self._changed:
            lane.running = []
            self._changed.wait_for(lambda: self._closed or lane.waiting)
            if self._closed:
                return []
            first = lane.waiting.popleft()
            batch = [first]
            if isinstance(first, Job):
                others = [work for work in lane.waiting if isinstance(work, Job) and _together(first, work)]
                batch += others[: _at_once(first) - 1]
            for work in batch[1:]:
                lane.waiting.remove(work)
            lane.running = batch
        if lane.adapts:
            self._leave_cores()
        return list(batch)

    def _leave_cores(self) -> None:
        """Called where networks are adapted: while others are answered they get half of the cores.

        An adaptation ends by the clock in any case. The others keep their threads: with another number of them sums
        are rounded otherwise, and answers would depend on what is done beside them.
        """
        threads = max(1, self._cores // 2) if self._others.running else self._cores
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)  # of this thread alone

    def _work_on(self, lane: Lane, batch: Sequence[Work]) -> None:
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
                lane.running.remove(job)
            job.emit(answer_event(answer, job.with_trace, job.detailed))

    def _fail(self, works: Iterable[Work], event: Event) -> None:
        """Give works that have had no last event this one."""
        for work in works:
            work.emit(event)


def _together(first: Job, other: Job) -> bool:
    same_search = (first.model, first.config) == (other.model, other.config)
    return same_search and first.puzzle.task == other.puzzle.task


def _adapts(work: Work) -> bool:
    """Whether a network is adapted for it."""
    if isinstance(work, Call):
        return work.adapts
    refiner = work.model.pipeline.refiner
    return refiner is not None and refiner.pool.adapts(work.puzzle.task)


def _at_once(job: Job) -> int:
    """How many puzzles are searched together. A network that is adapted to its puzzle answers alone."""
    pipeline = job.model.pipeline
    refiner, proposer = pipeline.refiner, pipeline.proposer
    if _adapts(job):
        return 1
    if proposer.name is not None:
        return DRAFTED_AT_ONCE if isinstance(proposer, BatchProposer) else 1
    return AT_ONCE_ON_CPU if refiner is None or refiner.device == "cpu" else AT_ONCE
