"""One training step: refill, recur, learn, halt. `trm.training.trainer` repeats it."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from trm.config import ConfigError
from trm.data.device import Batch, DeviceDataset
from trm.device import GRAPH_CAPTURE_LOCK
from trm.model.network import TRM, Output, State
from trm.training.config import Config
from trm.training.losses import continue_target, losses
from trm.training.optim import Ema, Optimizer
from trm.training.pool import Pool, Visit

WARM_UP_STEPS = 3  # steps run one operation at a time before a CUDA graph is captured
# What a step adds up, over the steps since the meters were zeroed: sums of the loss, of its part for the cells and of
# the gradient norm; and of the puzzles that left: how many, how many of them right, and their supervision steps.
METERS = ("loss", "cells", "norm", "finished", "right", "steps")


class Processes(Protocol):
    """The part of `accelerate.Accelerator` that a step needs."""

    @property
    def num_processes(self) -> int: ...
    @property
    def process_index(self) -> int: ...
    def reduce(self, tensor: Tensor, reduction: str) -> Tensor: ...


class Learner:
    """Trains a model on the puzzles of a bank, step by step, on the device alone: the host waits for nothing.

    Every process draws random numbers for the whole batch from the same seed and keeps its share, so that any number
    of processes trains on the same puzzles.
    """

    def __init__(
        self,
        config: Config,
        model: TRM,
        bank: DeviceDataset,
        processes: Processes,
        stream: torch.cuda.Stream | None = None,
    ) -> None:
        """stream: where to capture the CUDA graph. Matrix products have scratch memory for each stream, so graphs
        that are replayed at the same time need streams of their own."""
        self.config, self.model, self.bank, self.processes = config, model, bank, processes
        self.stream = stream
        batch, world = config.train.batch, processes.num_processes
        if batch % world:
            raise ConfigError(f"[train] batch {batch} does not divide among {world} processes")
        self.share = batch // world
        first = processes.process_index * self.share
        self.own = slice(first, first + self.share)
        self.optimizer = Optimizer(model, config.optim)
        self.ema = Ema(model, config.train.ema)
        self.generator = torch.Generator(model.device).manual_seed(config.train.seed)
        self.pool = self._filled_pool()
        self.meters = torch.zeros(len(METERS), device=model.device)
        self.graph: torch.cuda.CUDAGraph | None = None

    def warm_up(self, step: int, progress: float) -> None:
        """On CUDA: take WARM_UP_STEPS ordinary steps, which also compile the network, and then `capture`."""
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
        """Start over with the model and the bank as they are: reset optimiser, average, slots and seed in place."""
        self.optimizer.reset()
        self.ema.reset()
        self.generator.manual_seed(seed)
        self.pool.load_state_dict(self._filled_pool().state_dict())
        self.meters.zero_()

    def _filled_pool(self) -> Pool:
        """A pool whose puzzles have taken different numbers of steps, so that they do not all leave at once."""
        train = self.config.train
        pool = Pool(self.model, self.share * train.pool)
        for turn in range(train.pool):
            rows = slice(turn * self.share, (turn + 1) * self.share)
            drawn = self.bank.draw(train.batch, self.generator)
            ages = torch.randint(
                train.max_steps, (train.batch,), generator=self.generator, device=pool.steps.device
            )
            pool.tokens[rows], pool.labels[rows], pool.context[rows] = (part[self.own] for part in drawn)
            pool.steps[rows] = ages[self.own]
        return pool

    def set_step(self, step: int, progress: float) -> None:
        """Set what depends on how far the run is: learning rates, and how much the average keeps."""
        self.optimizer.set_progress(progress)
        since = step - self.config.train.ema_from
        # Less at first, so that the average forgets the random start.
        warm = (1 + since) / (10 + since) if since >= 0 else 0.0
        self.ema.keep.fill_(min(self.config.train.ema, warm))

    def step(self) -> None:
        """One optimiser step: the captured graph if there is one."""
        if self.graph is not None:
            self.graph.replay()
        else:
            self._step()

    def capture(self) -> None:
        """Record the whole step as one CUDA graph; ordinary steps must have run on another stream before."""
        self.graph = None
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.generator)
        with (
            GRAPH_CAPTURE_LOCK,
            torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"),
        ):
            self._step()
        self.graph = graph

    def _visit(self) -> Visit:
        """The next slots in turn, the free ones filled with new puzzles."""
        config, pool, batch = self.config, self.pool, self.config.train.batch
        rows = pool.turn * self.share + torch.arange(self.share, device=pool.turn.device)
        pool.turn.copy_((pool.turn + 1) % config.train.pool)
        done = pool.done[rows]
        fresh = done[:, None]
        drawn = self.bank.draw(batch, self.generator)
        old = Batch(pool.tokens[rows], pool.labels[rows], pool.draft[rows], pool.context[rows])
        draft = self._drafts(drawn.tokens, drawn.labels, old, fresh) if self.model.config.draft else old.draft
        start = self.model.initial_state(1)
        state = State(
            torch.where(fresh[:, :, None], start.y, pool.y[rows]),
            torch.where(fresh[:, :, None], start.z, pool.z[rows]),
        )
        tokens = torch.where(fresh, drawn.tokens[self.own], old.tokens)
        labels = torch.where(fresh, drawn.labels[self.own], old.labels)
        steps = torch.where(done, 0, pool.steps[rows]) + 1
        least = torch.where(done, self._least_steps(batch), pool.least[rows])
        context = torch.where(done, drawn.context[self.own], old.context)
        return Visit(rows, Batch(tokens, labels, draft, context), state, steps, least)

    def _drafts(self, tokens: Tensor, labels: Tensor, old: Batch, fresh: Tensor) -> Tensor:
        """The drafts [B, L] of a visit: corrupted answers of `fresh` puzzles, fed-back grids with noise of others."""
        settings = self.config.draft
        given = self.bank.given_drafts(tokens, labels, settings.start_rate, self.generator)
        # Noise is drawn for the whole batch and used for this process's share of it.
        fed_back, all_tokens, all_labels = torch.zeros_like(given), tokens.clone(), labels.clone()
        fed_back[self.own], all_tokens[self.own], all_labels[self.own] = old.draft, old.tokens, old.labels
        whole = Batch(all_tokens, all_labels, fed_back, old.context)
        fed_back = self.bank.noisy(fed_back, whole, settings, self.generator)
        return torch.where(fresh, given[self.own], fed_back[self.own])

    def _least_steps(self, batch: int) -> Tensor:
        """How long new puzzles stay at least [B]: the explored share 2 to max_steps, the others 0.

        So the network also learns from states in which it has already found the answer.
        """
        train, device = self.config.train, self.pool.steps.device
        chosen = torch.rand(batch, generator=self.generator, device=device) < train.exploration
        most = max(3, train.max_steps + 1)
        least = torch.randint(2, most, (batch,), generator=self.generator, device=device)
        return torch.where(chosen, least, 0)[self.own]

    def _step(self) -> None:
        config, shape = self.config, self.model.config
        visit = self._visit()
        batch = visit.batch
        self.optimizer.zero_grad()
        context, draft = batch.context if shape.identities else None, batch.draft if shape.draft else None
        state, out = self.model.step(visit.state, batch.tokens, context, draft)
        grid = out.logits.argmax(-1) if shape.feedback else torch.zeros_like(batch.tokens)
        last = visit.steps >= config.train.max_steps
        continue_value = self._continue_value(state, batch, grid, last) if shape.q_continue else None
        loss = losses(out, batch.labels, config.loss, continue_value)
        (loss.total / config.train.batch).backward()  # type: ignore[no-untyped-call]
        self._reduce_gradients()
        norm = self.optimizer.clip()
        self.optimizer.step()
        self.ema.update()
        with torch.no_grad():
            done = self._halts(out, last, visit)
            self.pool.store(visit, state, grid, done)
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
    def _continue_value(self, state: State, batch: Batch, grid: Tensor, last: Tensor) -> Tensor:
        """The value of another supervision step [B], from the output of that step with the present weights.

        No replay and no target network, as in arXiv:2506.21734. grid [B, L]: the draft of that step.
        """
        config = self.model.config
        context, draft = batch.context if config.identities else None, grid if config.draft else None
        return continue_target(self.model.step(state, batch.tokens, context, draft)[1], last)

    def _halts(self, out: Output, last: Tensor, visit: Visit) -> Tensor:
        """Which puzzles leave [B]: those that halt after `least` steps or more, and those at their `last` [B]."""
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
