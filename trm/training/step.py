"""One training step: refill, recur, learn, halt. `trm.training.trainer` repeats it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from trm.config import ConfigError
from trm.data.device import Batch, DeviceDataset, Drawn
from trm.device import GRAPH_CAPTURE_LOCK
from trm.model.network import TRM, State
from trm.training.config import Config
from trm.training.losses import continue_target, losses
from trm.training.optim import Ema, Optimizer

if TYPE_CHECKING:
    from accelerate import Accelerator

WARM_UP_STEPS = 3  # steps run one operation at a time before a CUDA graph is captured
# What a step adds up, over the steps since the meters were zeroed: sums of the loss, of its part for the cells and of
# the gradient norm; and of the puzzles that left: how many, how many of them right, and their supervision steps.
METERS = ("loss", "cells", "norm", "finished", "right", "steps")


class Visit(NamedTuple):
    """The slots that one training step works on, after new puzzles have filled the free ones."""

    rows: Tensor  # [B] their places in the pool
    batch: Batch
    state: State
    steps: Tensor  # [B] supervision steps including this one
    least: Tensor  # [B] supervision steps to stay at least


class Pool:
    """Slots, visited in turn, one batch of them in each training step.

    With more slots than a batch, consecutive updates see different puzzles, which the network would otherwise
    memorise while they stay. All tensors keep their place in memory, where a captured graph reads them.

    tokens, labels, draft [S, L]; y, z [S, n, D]; context, steps, least, done [S]; turn [1]. `least` is the number of
    supervision steps that a puzzle stays at least, whatever the network says; `turn` the batch to visit next.
    """

    def __init__(self, model: TRM, slots: int) -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.int64, device=model.device)

        self.tokens, self.labels, self.draft = (zeros(slots, model.config.seq_len) for _ in range(3))
        self.y, self.z = model.initial_state(slots)
        self.context, self.steps, self.least = (zeros(slots) for _ in range(3))
        self.done, self.turn = zeros(slots).bool(), zeros(1)

    def store(self, visit: Visit, state: State, draft: Tensor, done: Tensor) -> None:
        """Put back a visit's puzzles, with the states and drafts of their next step; `done` ones free their slots."""
        batch = visit.batch._replace(draft=draft)
        own = {"steps": visit.steps, "least": visit.least, "done": done}
        for name, value in {**batch._asdict(), **state._asdict(), **own}.items():
            getattr(self, name).index_copy_(0, visit.rows, value)

    def state_dict(self) -> dict[str, Tensor]:
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name, tensor in vars(self).items():
            tensor.copy_(state[name])


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
        accelerator: Accelerator | None = None,
        stream: torch.cuda.Stream | None = None,
    ) -> None:
        """accelerator: of several processes. stream: where to capture the CUDA graph. Matrix products have scratch
        memory for each stream, so graphs that are replayed at the same time need streams of their own."""
        self.config, self.model, self.bank, self.stream = config, model, bank, stream
        self.accelerator = accelerator if accelerator is not None and accelerator.num_processes > 1 else None
        world, index = (accelerator.num_processes, accelerator.process_index) if accelerator else (1, 0)
        if config.train.batch % world:
            raise ConfigError(f"[train] batch {config.train.batch} does not divide among {world} processes")
        self.share = config.train.batch // world
        self.own = slice(index * self.share, (index + 1) * self.share)
        self.optimizer = Optimizer(model, config.optim)
        self.ema = Ema(model)
        self.generator = torch.Generator(model.device).manual_seed(config.train.seed)
        self.pool = self._filled_pool()
        self.meters = torch.zeros(len(METERS), device=model.device)
        self.graph: torch.cuda.CUDAGraph | None = None

    def warm_up(self, step: int, progress: float) -> None:
        """On CUDA: take WARM_UP_STEPS ordinary steps, which also compile the network, and capture the next."""
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for more in range(WARM_UP_STEPS):
                self.set_step(step + more, progress)
                self.step()
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.generator)
        capturing = torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local")
        with GRAPH_CAPTURE_LOCK, capturing:
            self._step()
        self.graph = graph

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
            drawn, size = self.bank.draw(train.batch, self.generator), (train.batch,)
            ages = torch.randint(train.max_steps, size, generator=self.generator, device=pool.steps.device)
            own = (part[self.own] for part in (*drawn, ages))
            pool.tokens[rows], pool.labels[rows], pool.context[rows], pool.steps[rows] = own
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

    def _visit(self) -> Visit:
        """The next slots in turn, the free ones filled with new puzzles."""
        pool = self.pool
        rows = pool.turn * self.share + torch.arange(self.share, device=pool.turn.device)
        pool.turn.copy_((pool.turn + 1) % self.config.train.pool)
        done = pool.done[rows]
        fresh = done[:, None]
        drawn = self.bank.draw(self.config.train.batch, self.generator)
        old = Batch(pool.tokens[rows], pool.labels[rows], pool.draft[rows], pool.context[rows])
        batch = Batch(
            tokens=torch.where(fresh, drawn.tokens[self.own], old.tokens),
            labels=torch.where(fresh, drawn.labels[self.own], old.labels),
            draft=self._drafts(drawn, old, fresh) if self.model.config.draft else old.draft,
            context=torch.where(done, drawn.context[self.own], old.context),
        )
        y, z = self.model.initial_state(1)
        state = State(
            *(torch.where(fresh[:, :, None], new, was[rows]) for new, was in ((y, pool.y), (z, pool.z)))
        )
        steps = torch.where(done, 0, pool.steps[rows]) + 1
        least = torch.where(done, self._least_steps(), pool.least[rows])
        return Visit(rows, batch, state, steps, least)

    def _drafts(self, drawn: Drawn, old: Batch, fresh: Tensor) -> Tensor:
        """The drafts [B, L] of a visit: corrupted answers of `fresh` puzzles, fed-back grids with noise of others."""
        settings = self.config.draft
        given = self.bank.given_drafts(drawn.tokens, drawn.labels, settings.start_rate, self.generator)
        # Noise is drawn for the whole batch and used for this process's share of it.
        whole = Batch(drawn.tokens.clone(), drawn.labels.clone(), torch.zeros_like(given), old.context)
        whole.tokens[self.own], whole.labels[self.own], whole.draft[self.own] = old[:3]
        fed_back = self.bank.noisy(whole.draft, whole, settings, self.generator)
        return torch.where(fresh, given[self.own], fed_back[self.own])

    def _least_steps(self) -> Tensor:
        """How long new puzzles stay at least [B]: the explored share 2 to max_steps, the others 0.

        So the network also learns from states in which it has already found the answer.
        """
        train, device = self.config.train, self.pool.steps.device
        chosen = torch.rand(train.batch, generator=self.generator, device=device) < train.exploration
        most = max(3, train.max_steps + 1)
        least = torch.randint(2, most, (train.batch,), generator=self.generator, device=device)
        return torch.where(chosen, least, 0)[self.own]

    def _step(self) -> None:
        config, shape = self.config, self.model.config
        visit = self._visit()
        batch = visit.batch
        for p in self.optimizer.params:
            p.grad = None
        context, draft = batch.context if shape.identities else None, batch.draft if shape.draft else None
        state, out = self.model.step(visit.state, batch.tokens, context, draft)
        grid = out.logits.argmax(-1) if shape.feedback else torch.zeros_like(batch.tokens)
        last = visit.steps >= config.train.max_steps
        continue_value = None
        if shape.q_continue:  # from the next step with the present weights: no replay, no target network
            with torch.no_grad():
                later = self.model.step(state, batch.tokens, context, grid if shape.draft else None)[1]
                continue_value = continue_target(later, last)
        loss = losses(out, batch.labels, config.loss, continue_value)
        (loss.total / config.train.batch).backward()  # type: ignore[no-untyped-call]
        self._reduce_gradients()
        norm = self.optimizer.clip()
        self.optimizer.step()
        self.ema.update()
        with torch.no_grad():
            halted = (out.halt > out.go_on) & (visit.steps >= visit.least)
            done = last | halted if config.train.halting else last
            self.pool.store(visit, state, grid, done)
            left = done.float()
            means = loss.total.detach() / len(left), loss.cells / len(left), norm
            sums = left.sum(), (left * loss.right).sum(), (left * visit.steps).sum()
            self.meters += torch.stack(means + sums)

    def _reduce_gradients(self) -> None:
        if self.accelerator is None:
            return
        grads = [p.grad for p in self.optimizer.params if p.grad is not None]
        flat = self.accelerator.reduce(torch.cat([g.flatten() for g in grads]), reduction="sum")
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
