"""Inference: rollouts stream through fixed slots. Knows tokens, not puzzles.

A rollout leaves its slot when the caller's `stop` says so (the network has halted, say), or after `steps`; the
next waiting one takes the slot. In float32 the result equals that of a plain loop over one rollout, whatever shares
the batch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trm.model.network import TRM, State

Tokens = NDArray[np.int64]
# (questions [B, L], grids [B, L], both as tokens) -> [B] bool: the grids answer them. Any integer dtype.
Rule = Callable[[Tensor, Tensor], Tensor]
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


class Engine:
    """Runs rollouts of one network in at most `slots` slots.

    compiled: compile the network at its first step, for all slots at once: a minute that pays for itself where
    many thousands of steps follow.
    """

    rule: Rule | None = None  # of an engine that checks grids itself

    def __init__(self, model: TRM, slots: int = 0, compiled: bool = False) -> None:
        self.model, self.compiled = model, compiled
        # A CPU's cores are busy with few puzzles: more make none faster, and keep the first ones waiting.
        few = max(4, min(16, torch.get_num_threads()))
        self.slots = slots or {"cuda": 384, "cpu": few}.get(model.device.type, 16)
        if compiled:
            model.compile_net()

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

    @torch.inference_mode()
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
        count = self.slots if self.compiled else min(self.slots, len(rollouts))
        slots = _Slots(self.model, count, self.compiled)
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


def has_bf16(device: str) -> bool:
    """Whether the device has bfloat16 products of its own; emulated ones are much slower than float32."""
    if device != "cpu":
        return device.startswith("cuda")
    able = _capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def gains_from_bf16(device: str) -> bool:
    """Whether bfloat16 products are faster than float32: .3 of the time on an EPYC, 1.6 times on Intel's without AMX
    (LOG.md)."""
    able = _capabilities() if device == "cpu" else {}
    return has_bf16(device) and ("Intel" not in able.get("cpu_name", "") or bool(able.get("amx_bf16")))


def _capabilities() -> Mapping[str, Any]:
    return torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}


# What a step gives, on the host: grids [B, L], halt, go_on [B], log p of every token [B, L, V] where any rollout
# keeps them, and what the slots of watched rollouts show.
_Step = tuple[
    Tokens, NDArray[np.float32], NDArray[np.float32], NDArray[np.float32] | None, dict[int, Watched]
]


class _Slots:
    """The tensors of the batch. A freed slot idles until a rollout enters."""

    def __init__(self, model: TRM, count: int, whole: bool = False) -> None:
        config, device = model.config, model.device
        # A GPU runs all slots, so that the shape never changes; a CPU only those that work.
        self.whole = whole or device.type != "cpu"
        self.model = model
        self.busy: dict[int, int] = {}  # slot -> index of its rollout
        self.idle = list(range(count))[::-1]
        self.tokens = torch.zeros(count, config.seq_len, dtype=torch.int64, device=device)
        self.draft = torch.zeros_like(self.tokens)
        self.context = torch.zeros(count, dtype=torch.int64, device=device)
        self.state = model.initial_state(count)
        self.fresh = model.initial_state(1)
        self.rollouts: dict[int, Rollout] = {}
        self.noise: dict[int, torch.Generator] = {}

    def fill(self, waiting: list[int], rollouts: Sequence[Rollout]) -> None:
        device = self.model.device
        while waiting and self.idle:
            slot, index = self.idle.pop(), waiting.pop()
            one = rollouts[index]
            if one.draft is not None and not self.model.config.draft:
                raise ValueError("this network was not trained on drafts, expected draft=None")
            self.busy[slot], self.rollouts[slot] = index, one
            self.tokens[slot] = torch.from_numpy(one.tokens).to(device)
            self.draft[slot] = 0 if one.draft is None else torch.from_numpy(one.draft).to(device)
            self.context[slot] = one.context
            self.state.y[slot], self.state.z[slot] = self.fresh.y[0], self.fresh.z[0]
            if one.noise:
                self.noise[slot] = torch.Generator(device).manual_seed(one.seed)

    def step(self) -> _Step:
        """One supervision step of the busy slots."""
        config, device = self.model.config, self.model.device
        for slot, generator in self.noise.items():
            y = self.state.y[slot]
            shock = torch.randn(y.shape, generator=generator, device=device)
            self.state.y[slot] = y + self.rollouts[slot].noise * shock.to(y.dtype)
        whole = self.whole or not self.idle
        rows = torch.arange(len(self.tokens)) if whole else torch.tensor(sorted(self.busy))
        rows = rows.to(device)
        watched = [slot for slot, one in self.rollouts.items() if one.watched]
        state, out = self.model.step(
            self.state if whole else State(self.state.y[rows], self.state.z[rows]),
            self.tokens[rows],
            self.context[rows] if config.identities else None,
            self.draft[rows] if config.draft else None,
            bool(watched),
        )
        seen = self._watch(watched, rows, out.cycles) if watched else {}
        self.state.y[rows], self.state.z[rows] = state.y, state.z
        grids = self._spread(out.logits.argmax(-1), rows)
        kept = [slot for slot, one in self.rollouts.items() if one.keep_log_probs]
        likelihoods = None
        if kept:
            likelihoods = self._spread(out.logits.log_softmax(-1), rows).cpu().numpy()
        if config.draft:
            later = grids.clone() if config.feedback else torch.zeros_like(grids)
            if held := [slot for slot in kept if self.rollouts[slot].draft is not None]:
                later[held] = self.draft[held]
            self.draft = later
        halts, go_ons = (self._spread(logit, rows).cpu().numpy() for logit in (out.halt, out.go_on))
        return grids.cpu().numpy(), halts, go_ons, likelihoods, seen

    def _watch(self, slots: list[int], rows: Tensor, cycles: tuple[State, ...]) -> dict[int, Watched]:
        """What each of `slots` shows of a step; `self.state` is still the one before it."""
        at = torch.searchsorted(rows, torch.tensor(slots, device=rows.device))
        z = first = self.state.z[slots]
        grids, weighed, moves = [], [], []
        for cycle in cycles:
            logits = self.model.logits(cycle.y[at])
            likely = logits.softmax(-1).topk(1 + WEIGHED)
            grids.append(logits.argmax(-1))
            weighed.append(torch.where(likely.values >= LEAST_WEIGHT, likely.indices, 0)[..., 1:])
            moves.append(_moved(z, cycle.z[at]))
            z = cycle.z[at]
        grid, other, move = (torch.stack(part, 1).cpu().numpy() for part in (grids, weighed, moves))
        whole = _moved(first, z).tolist()
        return {slot: Watched(grid[n], other[n], move[n], whole[n]) for n, slot in enumerate(slots)}

    def _spread(self, values: Tensor, rows: Tensor) -> Tensor:
        """Values of `rows` put at their slots, zeros elsewhere."""
        spread = values.new_zeros((len(self.tokens), *values.shape[1:]))
        spread[rows] = values
        return spread

    def free(self, leaving: list[int]) -> None:
        for slot in leaving:
            del self.busy[slot], self.rollouts[slot]
            self.noise.pop(slot, None)
            self.idle.append(slot)


def _moved(before: Tensor, after: Tensor) -> Tensor:
    """The distance between states [B, n, D] as a share of the later one's length [B]."""
    moved: Tensor = (after - before).float().flatten(1).norm(dim=1) / after.float().flatten(1).norm(dim=1)
    return moved
