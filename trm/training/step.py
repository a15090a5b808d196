"""One training step, whole: refill, recur, learn, halt. What `trm.training.trainer` repeats."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from trm.config import ConfigError
from trm.data.device import Bank, Batch
from trm.model.network import TRM, Output, State
from trm.training.config import Config
from trm.training.losses import continue_target, losses
from trm.training.optim import Ema, Optimizer

WARM_UP_STEPS = 3  # ordinary steps run eagerly before a CUDA graph is captured
# Held while a graph is captured: the device's random numbers are the graph's then. A language model that samples on
# the same device in another thread waits for it, and it for the model.
CAPTURING = threading.Lock()
# How torch says that there is no room, each device and each size with an error of its own.
TOO_LARGE = re.compile(
    "allocate memory|out of memory|size calculation overflowed|overflow when unpacking", re.IGNORECASE
)
METERS = ("loss", "cells", "norm", "finished", "right", "steps")


@contextmanager
def within_memory() -> Iterator[None]:
    """What does not fit in the device's memory is a ConfigError."""
    try:
        yield
    except (MemoryError, RuntimeError, TypeError) as error:
        if not isinstance(error, MemoryError) and not TOO_LARGE.search(str(error)):
            raise
        asked = re.search(r"tried to allocate ([\d.]+ \w+)", str(error), re.IGNORECASE)
        raise ConfigError(
            f"not enough memory{f' ({asked[1]} at once)' if asked else ''}, expected a smaller [model], or less of "
            "train.batch, train.pool"
        ) from None


class Processes(Protocol):
    """What a step asks of `accelerate.Accelerator`."""

    @property
    def num_processes(self) -> int: ...
    @property
    def process_index(self) -> int: ...
    def reduce(self, tensor: Tensor, reduction: str) -> Tensor: ...


class Pool:
    """The slots of one process: puzzles under way, and the states they carry. All tensors stay in place.

    Slots are visited in turn, one batch of them a step: with more slots than a batch, one update's puzzles are
    not the next one's, which the network would otherwise learn by heart while they stay.
    tokens, labels, draft [S, L]; y, z [S, n, D]; context, steps, least, done [S]; turn [1]. `least`:
    supervision steps that a puzzle stays at least, whatever the network says.
    """

    def __init__(self, model: TRM, slots: int) -> None:
        cells = (slots, model.config.seq_len)
        device = model.device
        self.tokens = torch.zeros(cells, dtype=torch.int64, device=device)
        self.labels = torch.zeros(cells, dtype=torch.int64, device=device)
        self.draft = torch.zeros(cells, dtype=torch.int64, device=device)
        self.y, self.z = model.initial_state(slots)
        self.context = torch.zeros(slots, dtype=torch.int64, device=device)
        self.steps = torch.zeros_like(self.context)
        self.least = torch.zeros_like(self.steps)
        self.done = torch.zeros(slots, dtype=torch.bool, device=device)
        self.turn = torch.zeros(1, dtype=torch.int64, device=device)

    def state_dict(self) -> dict[str, Tensor]:
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name, tensor in vars(self).items():
            tensor.copy_(state[name])


class Visit(NamedTuple):
    """The slots whose turn it is, refilled: what one step works on."""

    rows: Tensor  # [B] their places in the pool
    batch: Batch
    state: State
    steps: Tensor  # [B] supervision steps including this one
    least: Tensor  # [B] supervision steps to stay at least


class Learner:
    """One training step, whole: refill, recur, learn, halt. Everything on the device, nothing asked of the host.

    Every process draws for the whole batch from the same generator and keeps its slice, so that any number of
    processes trains on the same puzzles.
    """

    def __init__(
        self,
        config: Config,
        model: TRM,
        bank: Bank,
        processes: Processes,
        stream: torch.cuda.Stream | None = None,
    ) -> None:
        """stream: to capture on. What products use as scratch belongs to it: graphs that were captured on the same
        one must not be replayed side by side."""
        self.config, self.model, self.bank, self.processes = config, model, bank, processes
        self.stream = stream
        batch, world = config.train.batch, processes.num_processes
        if batch % world:
            raise ConfigError(f"[train] batch {batch} does not divide among {world} processes")
        self.share = batch // world
        first = processes.process_index * self.share
        self.mine = slice(first, first + self.share)
        self.optimizer = Optimizer(model, config.optim)
        self.ema = Ema(model, config.train.ema)
        self.generator = torch.Generator(model.device).manual_seed(config.train.seed)
        self.pool = self._filled_pool()
        self.meters = torch.zeros(len(METERS), device=model.device)
        self.graph: torch.cuda.CUDAGraph | None = None

    def warm_up(self, step: int, progress: float) -> None:
        """On CUDA: a few steps op by op, which compile what is compiled, then `capture`. They are learned from."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for more in range(WARM_UP_STEPS):
                self.set_step(step + more, progress)
                self.step()
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        self.capture()

    def reset(self, seed: int) -> None:
        """Begin anew with the model and the bank as they are: optimiser, average, slots and seed, all in place."""
        self.optimizer.reset()
        self.ema.reset()
        self.generator.manual_seed(seed)
        self.pool.load_state_dict(self._filled_pool().state_dict())
        self.meters.zero_()

    def _filled_pool(self) -> Pool:
        """A pool whose puzzles are of every age, so that they do not all leave at once."""
        train = self.config.train
        pool = Pool(self.model, self.share * train.pool)
        for turn in range(train.pool):
            rows = slice(turn * self.share, (turn + 1) * self.share)
            drawn = self.bank.draw(train.batch, self.generator)
            ages = torch.randint(
                train.max_steps, (train.batch,), generator=self.generator, device=pool.steps.device
            )
            pool.tokens[rows], pool.labels[rows], pool.context[rows] = (part[self.mine] for part in drawn)
            pool.steps[rows] = ages[self.mine]
        return pool

    def set_step(self, step: int, progress: float) -> None:
        """Host to device: what depends on how far the run is."""
        self.optimizer.set_progress(progress)
        since = step - self.config.train.ema_from
        # A young average forgets its random start sooner.
        warm = (1 + since) / (10 + since) if since >= 0 else 0.0
        self.ema.keep.fill_(min(self.config.train.ema, warm))

    def step(self) -> None:
        """One optimiser step: replayed where a graph was captured, else op by op."""
        if self.graph is not None:
            self.graph.replay()
        else:
            self._step()

    def capture(self) -> None:
        """Record the whole step into one CUDA graph; warm-up steps must have run on a side stream."""
        self.graph = None
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.generator)
        with CAPTURING, torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            self._step()
        self.graph = graph

    def _visit(self) -> Visit:
        """Take the next slots; put a fresh puzzle where the last one left."""
        config, pool, batch = self.config, self.pool, self.config.train.batch
        rows = pool.turn * self.share + torch.arange(self.share, device=pool.turn.device)
        pool.turn.copy_((pool.turn + 1) % config.train.pool)
        done = pool.done[rows]
        fresh = done[:, None]
        tokens, labels, context = self.bank.draw(batch, self.generator)
        old = Batch(pool.tokens[rows], pool.labels[rows], pool.draft[rows], pool.context[rows])
        draft = old.draft
        if self.model.config.draft:
            given = self.bank.given_drafts(tokens, labels, config.draft.start_rate, self.generator)
            # Drawn for the whole batch, used for this process's part of it.
            fed, full_tokens, full_labels = torch.zeros_like(given), tokens.clone(), labels.clone()
            fed[self.mine], full_tokens[self.mine], full_labels[self.mine] = draft, old.tokens, old.labels
            fed = self.bank.noisy(
                fed, Batch(full_tokens, full_labels, fed, context), config.draft, self.generator
            )
            draft = torch.where(fresh, given[self.mine], fed[self.mine])
        start = self.model.initial_state(1)
        state = State(
            torch.where(fresh[:, :, None], start.y, pool.y[rows]),
            torch.where(fresh[:, :, None], start.z, pool.z[rows]),
        )
        new_tokens = torch.where(fresh, tokens[self.mine], old.tokens)
        new_labels = torch.where(fresh, labels[self.mine], old.labels)
        steps = torch.where(done, 0, pool.steps[rows]) + 1
        least = torch.where(done, self._explored(batch), pool.least[rows])
        new_context = torch.where(done, context[self.mine], old.context)
        return Visit(rows, Batch(new_tokens, new_labels, draft, new_context), state, steps, least)

    def _explored(self, batch: int) -> Tensor:
        """How long fresh puzzles stay at least [B]: for the explored share 2 to max_steps, so that the network
        also learns to keep what it has found; 0 for the others."""
        train, device = self.config.train, self.pool.steps.device
        chosen = torch.rand(batch, generator=self.generator, device=device) < train.exploration
        most = max(3, train.max_steps + 1)
        least = torch.randint(2, most, (batch,), generator=self.generator, device=device)
        return torch.where(chosen, least, 0)[self.mine]

    def _step(self) -> None:
        config, pool = self.config, self.pool
        visit = self._visit()
        batch, rows = visit.batch, visit.rows
        draft = batch.draft if self.model.config.draft else None
        self.optimizer.zero_grad()
        context = batch.context if self.model.config.identities else None
        state, out = self.model.step(visit.state, batch.tokens, context, draft)
        grid = out.logits.argmax(-1) if self.model.config.feedback else torch.zeros_like(batch.tokens)
        last = visit.steps >= config.train.max_steps
        worth = self._look_ahead(state, batch, grid, last) if self.model.config.q_continue else None
        loss = losses(out, batch.labels, config.loss, worth)
        (loss.total / config.train.batch).backward()  # type: ignore[no-untyped-call]
        self._reduce_gradients()
        norm = self.optimizer.clip()
        self.optimizer.step()
        self.ema.update()
        with torch.no_grad():
            done = self._halts(out, last, visit)
            new = {
                "tokens": batch.tokens,
                "labels": batch.labels,
                "context": batch.context,
                "draft": grid,
                "y": state.y,
                "z": state.z,
                "steps": visit.steps,
                "least": visit.least,
                "done": done,
            }
            for name, values in new.items():
                getattr(pool, name).index_copy_(0, rows, values)
            left = done.float()
            sums = (
                loss.total.detach() / len(left),
                loss.cells / len(left),
                norm,
                left.sum(),
                (left * loss.right).sum(),
                (left * visit.steps).sum(),
            )
            self.meters += torch.stack(sums)

    @torch.no_grad()
    def _look_ahead(self, state: State, batch: Batch, grid: Tensor, last: Tensor) -> Tensor:
        """What going on is worth [B], from the next supervision step as these weights would take it.

        No replay and no target network, as in arXiv:2506.21734. grid [B, L]: what is fed back to that step.
        """
        config = self.model.config
        context, draft = batch.context if config.identities else None, grid if config.draft else None
        return continue_target(self.model.step(state, batch.tokens, context, draft)[1], last)

    def _halts(self, out: Output, last: Tensor, visit: Visit) -> Tensor:
        """Which puzzles leave [B]: those that halt and are not held back, and the oldest (`last` [B])."""
        if not self.config.train.halting:
            return last
        return last | ((out.halt > out.go_on) & (visit.steps >= visit.least))

    def _reduce_gradients(self) -> None:
        if self.processes.num_processes == 1:
            return
        grads = [p.grad for p in self.optimizer.params if p.grad is not None]
        flat = self.processes.reduce(torch.cat([g.flatten() for g in grads]), reduction="sum")
        parts = torch.split(flat, [g.numel() for g in grads])
        for grad, part in zip(grads, parts, strict=True):
            grad.copy_(part.view_as(grad))

    def state_dict(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "ema": self.ema.mean,
            "optimizer": self.optimizer.state_dict(),
            "pool": self.pool.state_dict(),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        for mean, saved in zip(self.ema.mean, state["ema"], strict=True):
            mean.copy_(saved)
        self.optimizer.load_state_dict(state["optimizer"])
        if state.get("pool"):
            self.pool.load_state_dict(state["pool"])
        if state.get("generator") is not None:
            self.generator.set_state(state["generator"].cpu())
