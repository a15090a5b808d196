"""The engine in PyTorch, for any device, and whether a device gains from bfloat16."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from trm.inference.slots import LEAST_WEIGHT, WEIGHED, Rollout, RolloutEngine, Slots, StepReport, Watched
from trm.inference.slots import Rule as Rule
from trm.inference.slots import Stop as Stop
from trm.inference.slots import Trajectory as Trajectory
from trm.model.network import TRM, State


class Engine(RolloutEngine):
    """Runs rollouts of one network in PyTorch.

    compiled: compile the network at its first step, for all slots at once: a minute that pays for itself where
    many thousands of steps follow.
    """

    def __init__(self, model: TRM, slots: int = 0, compiled: bool = False) -> None:
        self.model, self.compiled = model, compiled
        # A CPU's cores are busy with few puzzles: more make none faster, and keep the first ones waiting.
        few = max(4, min(16, torch.get_num_threads()))
        self.slots = slots or {"cuda": 384, "cpu": few}.get(model.device.type, 16)
        if compiled:
            model.compile_net()

    def open_slots(self, count: int) -> _Slots:
        return _Slots(self.model, self.slots if self.compiled else min(self.slots, count), self.compiled)


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


class _Slots(Slots[torch.Generator]):
    """The tensors of the batch."""

    @torch.inference_mode()
    def __init__(self, model: TRM, count: int, whole: bool = False) -> None:
        config, device = model.config, model.device
        super().__init__(count, config.draft)
        # A GPU runs all slots, so that the shape never changes; a CPU only those that work.
        self.whole = whole or device.type != "cpu"
        self.model = model
        self.tokens = torch.zeros(count, config.seq_len, dtype=torch.int64, device=device)
        self.draft = torch.zeros_like(self.tokens)
        self.context = torch.zeros(count, dtype=torch.int64, device=device)
        self.state = model.initial_state(count)
        self.fresh = model.initial_state(1)

    @torch.inference_mode()
    def enter(self, slot: int, rollout: Rollout) -> None:
        device, draft = self.model.device, rollout.draft
        self.tokens[slot] = torch.from_numpy(rollout.tokens).to(device)
        self.draft[slot] = 0 if draft is None else torch.from_numpy(draft).to(device)
        self.context[slot] = rollout.context
        self.state.y[slot], self.state.z[slot] = self.fresh.y[0], self.fresh.z[0]
        if rollout.noise:
            self.noise[slot] = torch.Generator(device).manual_seed(rollout.seed)

    @torch.inference_mode()
    def step(self) -> StepReport:
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


def _moved(before: Tensor, after: Tensor) -> Tensor:
    """The distance between states [B, n, D] as a share of the later one's length [B]."""
    moved: Tensor = (after - before).float().flatten(1).norm(dim=1) / after.float().flatten(1).norm(dim=1)
    return moved
