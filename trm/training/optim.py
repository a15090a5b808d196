"""Muon or NorMuon for matrices, AdamW for the rest, and the moving average of weights.

`torch.optim.Muon` reads its learning rate on the host, which a captured CUDA graph cannot do. This one keeps it in a
tensor, orthogonalises matrices of the same shape together, and shares them out among the processes of a run.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from trm.training.config import OptimConfig
from trm.training.distributed import Processes

# Quintic Newton–Schulz coefficients and five steps (Keller Jordan's Muon, 2024).
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalise(updates: Tensor, half: bool = False, steps: int = 5) -> Tensor:
    """Approximately the nearest semi-orthogonal matrices: singular values become 0.7 to 1.2.

    updates: [K, out, in]. half: compute, and return the result, in bfloat16, as always on CUDA.
    """
    a, b, c = NEWTON_SCHULZ
    x = updates.bfloat16() if half or updates.is_cuda else updates
    if tall := x.shape[-2] > x.shape[-1]:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    result: Tensor = x.mT if tall else x
    return result


class Muon(torch.optim.Optimizer):
    """Orthogonalised momentum times √max(1, out/in), with decoupled weight decay. `lr` is a tensor [].

    half: orthogonalise in bfloat16, as the network; a step takes a third less time on CPUs that have it.
    NorMuon (arXiv:2510.05491) also divides each row by the root of its mean square over time (`neurons`: the decay),
    while the matrix keeps its norm. In plain Muon weight decay wins over rows with small gradients (LOG.md).
    """

    def __init__(
        self,
        params: list[nn.Parameter],
        lr: Tensor,
        config: OptimConfig,
        half: bool,
        processes: Processes,
    ) -> None:
        neurons = config.betas[1] if config.name == "normuon" else 0.0
        settings = {"momentum": config.momentum, "weight_decay": config.weight_decay, "neurons": neurons}
        super().__init__(params, {"lr": lr, **settings})
        self.half, self.processes = half, processes
        for p in params:
            self.state[p]["momentum"] = torch.zeros_like(p)
            if neurons:
                self.state[p]["squares"] = p.new_zeros(len(p))
        self.shares = shared_out(params, processes.count)
        if processes.count > 1:
            longest = max(sum(p.numel() for same in share for p in same) for share in self.shares)
            dtype = torch.bfloat16 if half or params[0].is_cuda else params[0].dtype
            # The updates of this process's share, and of everyone's.
            self.own = torch.zeros(longest, dtype=dtype, device=params[0].device)
            self.whole = self.own.new_zeros(processes.count, longest)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        (group,) = self.param_groups
        grads = [p.grad for p in group["params"] if p.grad is not None]
        momenta = [self.state[p]["momentum"] for p in group["params"]]
        torch._foreach_lerp_(momenta, grads, 1 - group["momentum"])
        own = [self._orthogonalised(same, group["momentum"]) for same in self.shares[self.processes.index]]
        for same, updates in self._everyones(own):
            self._apply(same, updates.to(same[0].dtype), group)

    def _orthogonalised(self, params: list[nn.Parameter], momentum: float) -> Tensor:
        """The orthogonalised updates [K, out, in] of matrices of one shape."""
        buffers = [self.state[p]["momentum"] for p in params]
        grads = [p.grad for p in params if p.grad is not None]
        return orthogonalise(
            torch.stack(torch._foreach_lerp(grads, buffers, momentum)), self.half
        )  # Nesterov

    def _everyones(self, own: list[Tensor]) -> Iterator[tuple[list[nn.Parameter], Tensor]]:
        """All matrices, by shape, with their updates [K, out, in], of which this process has its `own`."""
        if self.processes.count == 1:
            yield from zip(self.shares[0], own, strict=True)
            return
        sizes = [updates.numel() for updates in own]
        for part, updates in zip(torch.split(self.own[: sum(sizes)], sizes), own, strict=True):
            part.view_as(updates).copy_(updates)
        self.processes.join(self.whole, self.own)
        for share, row in zip(self.shares, self.whole, strict=True):
            end = 0
            for same in share:
                start, end = end, end + len(same) * same[0].numel()
                yield same, row[start:end].view(len(same), *same[0].shape)

    def _apply(self, params: list[nn.Parameter], updates: Tensor, group: dict[str, Any]) -> None:
        weights: list[Tensor] = list(params)
        if group["neurons"]:
            updates = self._even_rows(updates, params, group["neurons"])
        updates = updates * (group["lr"] * math.sqrt(max(1.0, updates.shape[1] / updates.shape[2])))
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_sub_(weights, list(updates.unbind()))

    def _even_rows(self, updates: Tensor, params: list[nn.Parameter], memory: float) -> Tensor:
        """Updates [K, out, in] whose rows have the same size on average over time."""
        squares = updates.square().mean(-1)  # [K, out]
        known = [self.state[p]["squares"] for p in params]
        torch._foreach_lerp_(known, list(squares.unbind()), 1 - memory)
        # At first the means are too small, by the same factor in all rows; keeping the norm cancels it.
        even = updates / (torch.stack(known).sqrt() + 1e-7).unsqueeze(-1)
        lengths = [x.norm(dim=(-2, -1), keepdim=True) for x in (updates, even)]
        result: Tensor = even * (lengths[0] / lengths[1].clamp(min=1e-12))
        return result


def shared_out(params: Sequence[nn.Parameter], processes: int) -> list[list[list[nn.Parameter]]]:
    """For each process the matrices that it orthogonalises, those of one shape together; the work is about the same.

    Small matrices of one shape take hardly longer than one of them, so they stay together unless processes would be
    left without work.
    """
    by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
    for p in params:
        by_shape[p.shape].append(p)
    if processes == 1:
        return [list(by_shape.values())]
    groups = list(by_shape.values())
    if len(groups) < processes:
        groups = [[p] for p in params]
    shares: list[list[list[nn.Parameter]]] = [[] for _ in range(processes)]
    loads = [0] * processes

    def work(same: list[nn.Parameter]) -> int:
        return len(same) * same[0].numel() * min(same[0].shape)

    for same in sorted(groups, key=work, reverse=True):
        least = loads.index(min(loads))
        shares[least].append(same)
        loads[least] += work(same)
    return shares


class Optimizer:
    """The optimisers of a run, their schedule and gradient clipping; usable in a CUDA graph."""

    def __init__(self, model: nn.Module, config: OptimConfig, processes: Processes | None = None) -> None:
        self.config, alone = config, config.name == "adamw"
        self.params = [p for p in model.parameters() if p.requires_grad]
        device = self.params[0].device
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad and not alone]
        matrices = [p for name, p in named if name.startswith("net.") and p.ndim == 2]
        chosen = set(map(id, matrices))
        peaks = [config.lr] if alone else [config.adamw_lr, config.lr]
        # The peak of each part's learning rate, and a tensor with the present one.
        self.lrs = [(peak, torch.tensor(0.0, device=device)) for peak in peaks]
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(
                [p for p in self.params if id(p) not in chosen],
                lr=self.lrs[0][1],
                betas=config.betas,
                weight_decay=config.weight_decay if alone else config.adamw_weight_decay,
                capturable=device.type == "cuda",
                foreach=True if device.type == "cuda" else None,
            )
        ]
        if not alone:
            half = getattr(model, "dtype", torch.float32) == torch.bfloat16
            self.parts.append(Muon(matrices, self.lrs[1][1], config, half, processes or Processes()))

    def schedule(self, progress: float) -> float:
        """The learning rate as a share of its peak, when `progress` (0 to 1) of the run is done."""
        warmup = self.config.warmup
        if progress < warmup or self.config.schedule == "constant":
            return min(1.0, progress / warmup) if warmup else 1.0
        done = (progress - warmup) / (1 - warmup)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))

    def set_progress(self, progress: float) -> None:
        """Set the learning rates (host to device) for the step about to run."""
        share = self.schedule(progress)
        for peak, tensor in self.lrs:
            tensor.fill_(peak * share)

    def clip(self) -> Tensor:
        """Scale the gradients to a norm of at most `clip`; returns their norm before, a tensor []."""
        grads = [p.grad for p in self.params if p.grad is not None]
        norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
        if self.config.clip:
            torch._foreach_mul_(grads, (self.config.clip / (norm + 1e-6)).clamp(max=1.0))
        return norm

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def reset(self) -> None:
        """Zero the state in place, where a captured graph reads it."""
        for value in (v for part in self.parts for own in part.state.values() for v in own.values()):
            value.zero_()

    def state_dict(self) -> list[dict[str, Any]]:
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        for part, state, (_, lr) in zip(self.parts, states, self.lrs, strict=True):
            part.load_state_dict(state)
            part.param_groups[0]["lr"] = lr  # this object's tensor, which the schedule sets


class Ema:
    """Exponential moving average of the weights, which keeps the share `keep` of itself at each update."""

    def __init__(self, model: nn.Module) -> None:
        self.live: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
        self.mean = [p.detach().clone() for p in self.live]
        self.keep = torch.tensor(0.0, device=self.live[0].device)  # 0 copies: before `ema_from`

    @torch.no_grad()
    def update(self) -> None:
        step = list(torch._foreach_sub(self.live, self.mean))
        torch._foreach_mul_(step, 1 - self.keep)
        torch._foreach_add_(self.mean, step)

    @torch.no_grad()
    def reset(self) -> None:
        torch._foreach_copy_(self.mean, self.live)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange live weights and averages: call twice around an evaluation."""
        for live, mean in zip(self.live, self.mean, strict=True):
            kept = live.clone()
            live.copy_(mean)
            mean.copy_(kept)
