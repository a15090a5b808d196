"""Inference: rollouts stream through fixed slots. Knows tokens, not puzzles.

A rollout leaves its slot when the caller's `stop` says so (the network has halted, say), or after `steps`; the
next waiting one takes the slot. In float32 the result equals that of a plain loop over one rollout, whatever shares
the batch.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Tokens = NDArray[np.int64]
Normal = TypeVar("Normal")  # a generator of normal numbers
# (questions [B, L], grids [B, L], both as tokens) -> [B] bool: the grids answer them. Any integer dtype.
Rule = Callable[["Tensor", "Tensor"], "Tensor"]
WEIGHED = 2  # tokens of a cell that are kept beside the decoded one
LEAST_WEIGHT = 0.05  # the least probability of these


@dataclass(frozen=True, eq=False)
class Rollout:
    """One run of the network over one question."""

    tokens: Tokens  # [L]
    draft: Tokens | None = None  # [L], 0 = unknown
    context: int = 0  # puzzle identity, for reference checkpoints
    noise: float = 0.0  # σ of the Gaussian noise added to y before every supervision step
    seed: int = 0  # of the noise
    keep_log_probs: bool = False  # keep log p of every token; a draft is then given at every step
    leaves: bool = False  # ends by itself when the network has halted and the engine's rule accepts a grid
    watched: bool = False  # keep what the network weighs after every cycle, and how far z moves


@dataclass(frozen=True, eq=False)
class Watched:
    """What a watched rollout shows of one supervision step, after each of its T cycles.

    grids: [T, L] what y decodes to. weighed: [T, L, WEIGHED] the next likely tokens of each cell, 0 where they are
    unlikely. z_moves: [T] the distance that z moved in the cycle, as a share of its length; z_moved: in all of them.
    """

    grids: Tokens
    weighed: Tokens
    z_moves: NDArray[np.float32]
    z_moved: float


@dataclass(eq=False)
class Trajectory:
    """What a rollout did: after every supervision step the decoded grid and the halt logit.

    likelihoods: of a rollout that keeps them, after every step log p of every token in every cell [L, V].
    go_ons: after every step what the halt logit must exceed to halt; 0 where it is missing.
    watched: of a rollout that is watched, what every step shows.
    seconds: its share of the steps, each shared equally by those in it.
    accepted: whether the engine's rule has accepted a grid; None where nobody asked it.
    """

    grids: list[Tokens] = field(default_factory=list)  # each [L]
    halts: list[float] = field(default_factory=list)
    likelihoods: list[NDArray[np.float32]] = field(default_factory=list)
    go_ons: list[float] = field(default_factory=list)
    watched: list[Watched] = field(default_factory=list)
    seconds: float = 0.0
    accepted: bool | None = None

    @property
    def steps(self) -> int:
        return len(self.grids)

    def add(self, grid: Tokens, halt: float, go_on: float, seconds: float) -> None:
        """Keep what a supervision step came to, and its share of the time."""
        self.grids.append(grid)
        self.halts.append(halt)
        self.go_ons.append(go_on)
        self.seconds += seconds

    @property
    def halted(self) -> bool:
        """Whether the network has halted, at any step so far: by the rule that it was trained with."""
        return any(self._says())

    def first_halt(self) -> int:
        """Index of the step at which learned halting stops: the first that says so, else the last."""
        return next((i for i, says in enumerate(self._says()) if says), len(self.halts) - 1)

    def _says(self) -> list[bool]:
        return [halt > go_on for halt, go_on in zip_longest(self.halts, self.go_ons, fillvalue=0.0)]


Stop = Callable[[int, Trajectory], bool]  # (index of the rollout, what it did so far) -> leave now?


# What a step gives, on the host: grids [B, L], halt, go_on [B], log p of every token [B, L, V] where any rollout
# keeps them, and what the slots of watched rollouts show.
StepReport = tuple[
    Tokens, NDArray[np.float32], NDArray[np.float32], NDArray[np.float32] | None, dict[int, Watched]
]


class Slots(ABC, Generic[Normal]):
    """The places of a batch. A freed slot idles until a rollout enters.

    busy: the index of the rollout in each slot that has one. noise: what draws the noise of those that have any.
    """

    def __init__(self, count: int, takes_drafts: bool) -> None:
        self.takes_drafts = takes_drafts
        self.busy: dict[int, int] = {}
        self.idle = list(range(count))[::-1]
        self.rollouts: dict[int, Rollout] = {}
        self.noise: dict[int, Normal] = {}

    def fill(self, waiting: list[int], rollouts: Sequence[Rollout]) -> None:
        """Take rollouts, by their indices from the end of `waiting`, into free slots."""
        while waiting and self.idle:
            slot, index = self.idle.pop(), waiting.pop()
            one = rollouts[index]
            if one.draft is not None and not self.takes_drafts:
                raise ValueError("this network was not trained on drafts, expected draft=None")
            self.busy[slot], self.rollouts[slot] = index, one
            self.enter(slot, one)

    def free(self, leaving: Sequence[int]) -> None:
        """Empty slots."""
        for slot in leaving:
            del self.busy[slot], self.rollouts[slot]
            self.noise.pop(slot, None)
            self.idle.append(slot)

    @abstractmethod
    def enter(self, slot: int, rollout: Rollout) -> None:
        """Set a slot to the start of a rollout."""

    @abstractmethod
    def step(self) -> StepReport:
        """One supervision step of the busy slots."""


class RolloutEngine(ABC):
    """Runs rollouts of one network in at most `slots` slots. rule: of an engine that checks grids itself."""

    slots: int
    rule: Rule | None = None

    @abstractmethod
    def open_slots(self, count: int) -> Slots[Any]:
        """The batch for so many rollouts."""

    def run(
        self,
        rollouts: Sequence[Rollout],
        steps: int = 16,
        stop: Stop | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> list[Trajectory]:
        """Every rollout's trajectory, in order. `progress` hears how many are done, after every step."""
        ended = dict(self.each(rollouts, steps, stop, progress))
        return [ended[index] for index in range(len(rollouts))]

    def each(
        self,
        rollouts: Sequence[Rollout],
        steps: int = 16,
        stop: Stop | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[tuple[int, Trajectory]]:
        """As `run`: the index of a rollout and its trajectory as soon as it has left its slot."""
        results = [Trajectory() for _ in rollouts]
        waiting = list(range(len(rollouts)))[::-1]
        slots = self.open_slots(len(rollouts))
        done = 0
        while waiting or slots.busy:
            begun = time.perf_counter()
            slots.fill(waiting, rollouts)
            grids, halts, go_ons, likelihoods, watched = slots.step()
            share = (time.perf_counter() - begun) / len(slots.busy)
            leaving = []
            for slot, index in slots.busy.items():
                result = results[index]
                result.add(grids[slot], float(halts[slot]), float(go_ons[slot]), share)
                if likelihoods is not None and rollouts[index].keep_log_probs:
                    result.likelihoods.append(likelihoods[slot])
                if rollouts[index].watched:
                    result.watched.append(watched[slot])
                told = stop is not None and stop(index, result)  # asked after the last step too: it watches
                if told or result.steps >= steps:
                    leaving.append(slot)
            ended = [slots.busy[slot] for slot in leaving]
            slots.free(leaving)
            done += len(leaving)
            if progress is not None:
                progress(done)
            yield from ((index, results[index]) for index in ended)
