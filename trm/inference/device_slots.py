"""Slots whose whole supervision step runs on the device: on CUDA as one captured graph.

The step itself replaces rollouts that have ended, from a queue on the device, so that the device never waits for the
host. The host fills the queue and reads what a step did while the next one runs.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from trm.device import GRAPH_CAPTURE_LOCK
from trm.grid import first_line
from trm.inference.slots import Rule
from trm.model.network import TRM, State

WARM_UP_STEPS = 2  # steps run one operation at a time before a graph is captured; the first one compiles
REPORTS = 3  # reports on the host; each is read one step later
# Columns of a queued rollout's numbers: a number that no other has, the network's embedding, the seed of its noise,
# the steps it takes at most, and whether it leaves by itself.
TICKET, CONTEXT, SEED, LIMIT, LEAVES = range(5)
_CARRIED = ("cells", "numbers", "noise", "y", "z", "steps", "busy", "halted", "accepted")  # what a slot holds


@dataclass(frozen=True)
class Report:
    """What a step did, in every slot. ticket: of the rollout in the slot, −1 in an idle one."""

    ticket: NDArray[np.int64]  # [S]
    left: NDArray[np.bool_]  # [S] it has left the slot
    accepted: NDArray[np.bool_]  # [S] the rule has accepted a grid of it
    grids: NDArray[np.int64]  # [S, L]
    halts: NDArray[np.float32]  # [S]
    go_ons: NDArray[np.float32]  # [S]


class DynamicNet(nn.Module):
    """A network's layers, compiled once for every number of puzzles. axis: of the puzzles in h."""

    def __init__(self, net: nn.Module, axis: int) -> None:
        super().__init__()
        import torch._dynamo.config as dynamo  # 0.5 s, which uncompiled networks do without

        dynamo.recompile_limit = max(dynamo.recompile_limit, 64)  # of all networks together
        self.plain, self.axis = net, axis
        self.compiled = torch.compile(net)

    def forward(self, h: Tensor, which: int = 0) -> Tensor:
        torch._dynamo.maybe_mark_dynamic(h, self.axis)
        result: Tensor = self.compiled(h, which)
        return result


def gaussian(key: Tensor, step: Tensor, shape: Sequence[int]) -> Tensor:
    """Standard normal numbers [S, *shape] that depend on each slot's key [S] and step [S] alone.

    Counters are hashed, for a generator has a state that a graph would share among all slots.
    """
    count = int(np.prod(shape))
    place = torch.arange(count, device=key.device)
    own = _hashed(_hashed(key & 0xFFFFFFFF) ^ (key >> 32) & 0xFFFFFFFF) ^ _hashed(step.long() + 0x9E3779B9)
    first, second = (
        _hashed((place + more) ^ _hashed(own + more)[:, None]).float() for more in (0x1000000, 0x2000000)
    )
    radius = (-2 * ((first + 1) / 2**32).clamp(max=1.0).log()).sqrt()
    return (radius * (second * (2 * torch.pi / 2**32)).cos()).view(len(key), *shape)


def _hashed(x: Tensor) -> Tensor:
    """A 32-bit integer hash of int64 values."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = ((x ^ (x >> shift)) * factor) & 0xFFFFFFFF
    return x ^ (x >> 16)


class DeviceSlots:
    """A fixed number of slots, their queue, and the step that serves them.

    rule: accepts answers; a rollout that `LEAVES` does so once the network has halted
    and, where there is a rule, a grid of it was accepted. capture: whether the step becomes a CUDA graph.
    """

    def __init__(self, model: TRM, count: int, rule: Rule | None, capture: bool) -> None:
        config, device = model.config, model.device
        self.model, self.count, self.rule, self.capture = model, count, rule, capture
        self.room, length = max(16, 2 * count), config.seq_len
        self.cuda = device.type == "cuda"

        def zeros(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        def on_host(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.zeros(shape, dtype=dtype, pin_memory=self.cuda)

        # The queue: row `place % room` of each; places from `head` to `tail` wait.
        queued = ((2, length), torch.uint8), ((5,), torch.int64), ((), torch.float32)
        self.queue = [zeros(self.room, *shape, dtype=dtype) for shape, dtype in queued]
        self.staging = [on_host(self.room, *shape, dtype=dtype) for shape, dtype in queued]
        self.head, self.tail, self.filled = zeros(1), zeros(1), 0  # filled: `tail` as the host knows it
        self.cells, self.numbers, self.noise = (zeros(count, *s, dtype=d) for s, d in queued)
        self.y, self.z = model.initial_state(count)
        self.fresh = model.initial_state(1)
        self.steps, self.evicted = zeros(count), zeros(count) - 1
        self.busy, self.halted, self.accepted = (zeros(count, dtype=torch.bool) for _ in range(3))
        reported = ((), torch.int64), ((2,), torch.bool), ((length,), torch.uint8), ((2,), torch.float32)
        self.report = [zeros(count, *shape, dtype=dtype) for shape, dtype in reported]
        self.reports = [[on_host(count, *s, dtype=d) for s, d in reported] for _ in range(REPORTS)]
        self.events = [torch.cuda.Event() for _ in range(REPORTS)] if self.cuda else []  # type: ignore[no-untyped-call]
        self.graphs: dict[bool, torch.cuda.CUDAGraph] = {}  # with noise, and without
        self.launched = self.read = 0

    # -- the host's side -------------------------------------------------------------------------------
    def put(self, cells: NDArray[np.uint8], numbers: Sequence[Sequence[int]], noise: Sequence[float]) -> None:
        """Queue some rollouts: cells [k, 2, L] are their questions and drafts. The caller minds `room`."""
        at = (self.filled + np.arange(len(noise))) % self.room
        for staged, new in zip(self.staging, (cells, numbers, noise), strict=True):
            staged[at] = torch.as_tensor(new, dtype=staged.dtype)
        breaks = [0, *(np.flatnonzero(at == 0)), len(at)]
        for start, end in pairwise(breaks):
            if start < end:
                rows = slice(int(at[start]), int(at[end - 1]) + 1)
                for queue, staged in zip(self.queue, self.staging, strict=True):
                    queue[rows].copy_(staged[rows], non_blocking=True)
        self.filled += len(noise)
        self.tail.fill_(self.filled)

    def evict(self, slot: int, ticket: int) -> None:
        """Free the slot before the next step that is launched, if the rollout is still there."""
        self.evicted[slot].fill_(ticket)

    @torch.no_grad()
    def launch(self, noisy: bool) -> None:
        """Begin a step; its report can be read later."""
        if self.capture and noisy not in self.graphs:
            self._record(noisy)
        if noisy in self.graphs:
            self.graphs[noisy].replay()
        else:
            self._step(noisy)
        turn = self.launched % REPORTS
        for told, part in zip(self.reports[turn], self.report, strict=True):
            told.copy_(part, non_blocking=True)
        if self.cuda:
            self.events[turn].record()
        self.launched += 1

    def next_report(self) -> Report:
        """The report of the earliest step that was not read yet. Waits until it has ended."""
        turn = self.read % REPORTS
        if self.cuda:
            self.events[turn].synchronize()
        ticket, flags, grids, halts = (part.numpy().copy() for part in self.reports[turn])
        self.read += 1
        return Report(ticket, flags[:, 0], flags[:, 1], grids.astype(np.int64), halts[:, 0], halts[:, 1])

    def take(self, other: DeviceSlots, rows: Sequence[int]) -> None:
        """Go on with the rollouts in some slots of another bucket, which is empty afterwards."""
        at = torch.tensor(rows, device=self.y.device)
        for name in _CARRIED:
            getattr(self, name)[: len(rows)] = getattr(other, name)[at]
        other.clear()

    def clear(self) -> None:
        """Free all slots, and forget what waits."""
        self.busy.zero_()
        self.head.fill_(self.filled)
        self.evicted.fill_(-1)
        self.read = self.launched

    def _record(self, noisy: bool) -> None:
        """Capture the step. Where that fails, steps run one operation at a time from then on."""
        kept = {name: getattr(self, name).clone() for name in (*_CARRIED, "head")}
        try:
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                # Nobody is in, and nobody comes in: a step changes only what is put back afterwards.
                self.busy.zero_()
                self.tail.copy_(self.head)
                for _ in range(WARM_UP_STEPS):
                    self._step(noisy)
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            with GRAPH_CAPTURE_LOCK:
                torch.cuda.synchronize()
                with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                    self._step(noisy)
            self.graphs[noisy] = graph
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {first_line(error)}"
            if isinstance(net := self.model.net, DynamicNet):  # the compiler's fault, most likely
                warnings.warn(f"runs uncompiled: {reason}", RuntimeWarning, stacklevel=2)
                self.model.net = net.plain  # type: ignore[assignment]
                self._record(noisy)
            else:
                warnings.warn(f"runs without a CUDA graph: {reason}", RuntimeWarning, stacklevel=2)
                self.capture = False
        finally:
            for name, value in kept.items():
                getattr(self, name).copy_(value)
            self.tail.fill_(self.filled)

    # -- the device's side -----------------------------------------------------------------------------
    def _step(self, noisy: bool) -> None:
        """Admit, think, decode, judge, report: nothing here waits for the host or depends on its values."""
        config = self.model.config
        new = self._admit()
        wide = new[:, None, None]
        y, z = torch.where(wide, self.fresh.y, self.y), torch.where(wide, self.fresh.z, self.z)
        if noisy:
            shock = gaussian(self.numbers[:, SEED], self.steps, self.y.shape[1:])
            y = y + (self.noise[:, None, None] * shock).to(y.dtype)
        tokens, draft = self.cells.long().unbind(1)
        context = self.numbers[:, CONTEXT] if config.identities else None
        state, out = self.model.step(State(y, z), tokens, context, draft if config.draft else None)
        self.y.copy_(state.y)
        self.z.copy_(state.z)
        grids = out.logits.argmax(-1)
        self.cells[:, 1] = grids.to(torch.uint8) if config.feedback else 0
        self.steps += self.busy
        self.halted |= out.halt > out.go_on
        done = self.halted
        if self.rule is not None:
            self.accepted |= self.rule(tokens, grids)
            done = done & self.accepted
        done = (done & self.numbers[:, LEAVES].bool()) | (self.steps >= self.numbers[:, LIMIT])
        ticket, flags, shown, halts = self.report
        ticket.copy_(torch.where(self.busy, self.numbers[:, TICKET], -1))
        flags.copy_(torch.stack((self.busy & done, self.accepted), 1))
        shown.copy_(grids)
        halts.copy_(torch.stack((out.halt, out.go_on), 1))
        self.busy &= ~done

    def _admit(self) -> Tensor:
        """Free slots take what waits, in order. Which did [S]."""
        self.busy &= self.evicted != self.numbers[:, TICKET]
        free = ~self.busy
        place = self.head + free.cumsum(0) - 1
        new = free & (place < self.tail)
        row = place % self.room
        for own, queue in zip((self.cells, self.numbers, self.noise), self.queue, strict=True):
            own.copy_(torch.where(new.view(-1, *[1] * (own.ndim - 1)), queue[row], own))
        self.head += new.sum()
        self.busy |= new
        for value in (self.steps, self.halted, self.accepted):
            value.masked_fill_(new, 0)
        return new
