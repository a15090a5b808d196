"""The engine for GPUs: a service that takes rollouts at any time, in slots whose step never waits for the host."""

from __future__ import annotations

import copy
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trm.inference.device_slots import DeviceSlots, DynamicNet, Report
from trm.inference.engine import Engine
from trm.inference.slots import Rollout, Rule, Stop, Trajectory
from trm.model.network import TRM

# Numbers of slots that a step is captured for.
BUCKETS = (1, 4, 16, 64, 128, 256, 384, 1024, 2048, 4096, 8192)
_LAG = 1  # steps that a report is behind: one runs while the one before it is read


class CapturedEngine(Engine):
    """An engine whose steps are captured CUDA graphs. On other devices the same steps run one operation at a time.

    rule: lets a rollout that `leaves` go at once when its grid is accepted. A rollout that is watched, or whose
    likelihoods are kept, is left to the plain engine. The network is copied: later changes of it are not seen.
    """

    def __init__(
        self,
        model: TRM,
        slots: int = 0,
        compiled: bool = False,
        rule: Rule | None = None,
        capture: bool = True,
    ) -> None:
        super().__init__(model, slots)
        self.rule, self.capture = rule, capture and model.device.type == "cuda"
        self.fast = copy.deepcopy(model)
        if compiled:
            self.fast.net = DynamicNet(self.fast.net, int(model.config.mixer == "mlp_t"))  # type: ignore[assignment]
        self._idle: dict[int, list[DeviceSlots]] = {}

    def bucket(self, count: int) -> int:
        """The number of slots in which so many rollouts are served."""
        most = max(1, min(count, self.slots))
        return min((size for size in BUCKETS if size >= most), default=self.slots)

    def open(self, slots: int, stop: Stop | None = None, shrinks: bool = False) -> Service:
        """A service in so many slots, or a few more. stop: asked of every rollout after every step, one step late.
        shrinks: no more rollouts come than were asked for before the first step."""
        return Service(self, self.bucket(slots), stop, shrinks)

    def each(
        self,
        rollouts: Sequence[Rollout],
        steps: int = 16,
        stop: Stop | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[tuple[int, Trajectory]]:
        if any(one.watched or one.keep_log_probs for one in rollouts):
            yield from super().each(rollouts, steps, stop, progress)
            return
        service, done = self.open(len(rollouts), stop, shrinks=True), 0
        try:
            for one in rollouts:
                service.add_request(one, steps)
            while service.unfinished:
                service.step()
                ended = service.finished()
                done += len(ended)
                if progress is not None:
                    progress(done)
                yield from ended
        finally:
            service.close()

    def lend(self, count: int) -> DeviceSlots:
        """Slots that nobody uses."""
        idle = self._idle.get(count)
        return idle.pop() if idle else DeviceSlots(self.fast, count, self.rule, self.capture)

    def give_back(self, slots: DeviceSlots) -> None:
        slots.clear()
        self._idle.setdefault(slots.count, []).append(slots)

    def smaller(self, slots: DeviceSlots, count: int) -> int | None:
        """The smallest bucket that was used before, holds so many, and is at most half of `slots`."""
        ready = (size for size, idle in self._idle.items() if idle and count <= size <= slots.count // 2)
        return min(ready, default=None)


@dataclass(eq=False)
class _Request:
    rollout: Rollout
    steps: int
    run: Trajectory = field(default_factory=Trajectory)


class Service:
    """Rollouts that come at any time and leave when they are done. `close` it, so that others use its slots."""

    def __init__(self, engine: CapturedEngine, count: int, stop: Stop | None, shrinks: bool) -> None:
        self.engine, self.stop, self.shrinks, self.slots = engine, stop, shrinks, engine.lend(count)
        self._requests: dict[int, _Request] = {}  # by ticket, until they are finished
        self._waiting: deque[int] = deque()  # not yet in the queue of the device
        self._queued = 0  # in that queue, as far as reports tell
        self._places: dict[int, int] = {}  # ticket -> slot, of those in slots at the last report
        self._finished: list[tuple[int, Trajectory]] = []
        self._tickets, self._noisy, self._time = 0, False, time.perf_counter()
        self.worked = 0  # steps of rollouts, as far as reports tell

    def add_request(self, rollout: Rollout, steps: int = 16) -> int:
        """Ask for a rollout of at most `steps`. Its ticket: tickets count from 0."""
        if rollout.draft is not None and not self.engine.model.config.draft:
            raise ValueError("this network was not trained on drafts, expected draft=None")
        if rollout.watched or rollout.keep_log_probs:
            raise ValueError("a rollout that is watched needs the plain engine")
        ticket = self._tickets
        self._tickets += 1
        self._requests[ticket] = _Request(rollout, steps)
        self._waiting.append(ticket)
        self._noisy |= rollout.noise > 0
        return ticket

    @property
    def unfinished(self) -> int:
        """How many rollouts were asked for and have not ended."""
        return len(self._requests)

    def step(self) -> None:
        """Begin a step of all rollouts, and read what the step before it did."""
        self._fill()
        self._shrink()
        self.slots.launch(self._noisy)
        if self.slots.launched - self.slots.read > _LAG:
            self._read(self.slots.next_report())

    def finished(self) -> list[tuple[int, Trajectory]]:
        """The rollouts that ended since this was last asked, with their tickets."""
        ended, self._finished = self._finished, []
        return ended

    def close(self) -> None:
        """Give up what has not ended. Nothing can be asked afterwards."""
        self.engine.give_back(self.slots)

    def _fill(self) -> None:
        count = min(len(self._waiting), self.slots.room - self._queued)
        if count <= 0:
            return
        tickets = [self._waiting.popleft() for _ in range(count)]
        requests = [self._requests[ticket] for ticket in tickets]
        cells = np.zeros((count, 2, self.engine.model.config.seq_len), dtype=np.uint8)
        for row, request in zip(cells, requests, strict=True):
            row[0] = request.rollout.tokens
            if request.rollout.draft is not None:
                row[1] = request.rollout.draft
        numbers = [
            (ticket, one.rollout.context, one.rollout.seed, one.steps, int(one.rollout.leaves))
            for ticket, one in zip(tickets, requests, strict=True)
        ]
        self.slots.put(cells, numbers, [one.rollout.noise for one in requests])
        self._queued += count

    def _shrink(self) -> None:
        """Go on in fewer slots where the rest fits into a bucket that is ready."""
        if not self.shrinks or self._waiting or self._queued:
            return
        if self.engine.smaller(self.slots, self.unfinished) is None:
            return
        while self.slots.read < self.slots.launched:
            self._read(self.slots.next_report())
        count = self.engine.smaller(self.slots, self.unfinished)
        if count is None or not self._requests:
            return
        smaller, tickets = self.engine.lend(count), list(self._requests)
        smaller.take(self.slots, [self._places[ticket] for ticket in tickets])
        self.engine.give_back(self.slots)
        self.slots = smaller

    def _read(self, report: Report) -> None:
        now = time.perf_counter()
        places: dict[int, int] = {}
        slots: NDArray[np.int64] = np.flatnonzero(report.ticket >= 0)
        self.worked += len(slots)
        share = (now - self._time) / max(1, len(slots))
        self._time = now
        halts, go_ons = report.halts.tolist(), report.go_ons.tolist()
        for slot, ticket in zip(slots.tolist(), report.ticket[slots].tolist(), strict=True):
            request = self._requests.get(ticket)
            if request is None:  # it was told to leave after an earlier step
                continue
            run = request.run
            self._queued -= not run.grids
            places[ticket] = slot
            run.add(report.grids[slot], halts[slot], go_ons[slot], share)
            if self.engine.rule is not None and request.rollout.leaves:
                run.accepted = bool(report.accepted[slot])
            told = self.stop is not None and self.stop(ticket, run)
            if report.left[slot] or told:
                if not report.left[slot]:
                    self.slots.evict(slot, ticket)
                self._finished.append((ticket, run))
                del self._requests[ticket]
        self._places = places
