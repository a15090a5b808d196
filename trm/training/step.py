"""One training step: refill, recur, learn, halt. `trm.training.trainer` repeats it."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from trm.config import ConfigError
from trm.data.device import Batch, DeviceDataset, Drawn, Share, Source, below, uniform
from trm.model.network import TRM, State
from trm.training.config import Config
from trm.training.distributed import Capture, Processes, flat_gradients
from trm.training.losses import continue_target, losses
from trm.training.optim import Ema, Optimizer

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

    Every process draws random numbers for the whole batch from the same seed and keeps those of its own rows, so that
    any number of processes trains on the same puzzles.
    """

    def __init__(
        self,
        config: Config,
        model: TRM,
        bank: DeviceDataset,
        processes: Processes | None = None,
        stream: torch.cuda.Stream | None = None,
    ) -> None:
        """stream: where to capture the CUDA graph. Matrix products have scratch memory for each stream, so graphs
        that are replayed at the same time need streams of their own."""
        self.config, self.model, self.bank, self.stream = config, model, bank, stream
        self.processes = processes or Processes()
        world, batch = self.processes.count, config.train.batch
        if batch % world:
            raise ConfigError(f"[train] batch {batch} does not divide among {world} processes")
        self.share = batch // world
        self.optimizer = Optimizer(model, config.optim, self.processes)
        self.ema = Ema(model)
        self.generator = torch.Generator(model.device).manual_seed(config.train.seed)
        self.own: Source = self.generator
        self.drawn: Source = self.generator
        self.before = 0  # rows that are drawn besides, before this process's own
        if world > 1:
            first = self.processes.index * self.share
            self.own = self.drawn = Share(self.generator, batch, slice(first, first + self.share))
            if model.config.draft and not len(bank.renamed):  # the row before may be mixed into a draft
                rows = torch.arange(first - 1, first + self.share, device=model.device) % batch
                self.drawn, self.before = Share(self.generator, batch, rows), 1
        self.pool = self._filled_pool()
        self.meters = torch.zeros(len(METERS), device=model.device)
        self.gradients: Tensor | None = None  # of all weights; with several processes, from the first step on
        self.graph: Capture | None = None

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
        self.processes.wait()  # some compile for longer than others
        graph = Capture(self.generator, self.processes, self.stream)
        graph.record(self._step)
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
            drawn = self._draw()
            ages = below(self.own, train.max_steps, self.share)
            own = (part[self.before :] for part in drawn)
            pool.tokens[rows], pool.labels[rows], pool.context[rows], pool.steps[rows] = *own, ages
        return pool

    def _draw(self) -> Drawn:
        """New puzzles for this process's rows, and first those of `before`."""
        return self.bank.draw(self.before + self.share, self.drawn)

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
        drawn = self._draw()
        old = Batch(pool.tokens[rows], pool.labels[rows], pool.draft[rows], pool.context[rows])
        draft = self._drafts(drawn, old, fresh) if self.model.config.draft else old.draft
        tokens, labels, context = (part[self.before :] for part in drawn)
        batch = Batch(
            tokens=torch.where(fresh, tokens, old.tokens),
            labels=torch.where(fresh, labels, old.labels),
            draft=draft,
            context=torch.where(done, context, old.context),
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
        given = self.bank.given_drafts(drawn.tokens, drawn.labels, settings.start_rate, self.drawn)
        fed_back = self.bank.noisy(old.draft, old, settings, self.own)
        return torch.where(fresh, given[self.before :], fed_back)

    def _least_steps(self) -> Tensor:
        """How long new puzzles stay at least [B]: the explored share 2 to max_steps, the others 0.

        So the network also learns from states in which it has already found the answer.
        """
        train = self.config.train
        chosen = uniform(self.own, self.share) < train.exploration
        least = 2 + below(self.own, max(3, train.max_steps + 1) - 2, self.share)
        return torch.where(chosen, least, 0)

    def _step(self) -> None:
        config, shape = self.config, self.model.config
        visit = self._visit()
        batch = visit.batch
        if self.gradients is not None:
            self.gradients.zero_()
        else:
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
        if self.gradients is None and self.processes.count > 1:
            self.gradients = flat_gradients(self.optimizer.params)
        # All gradients are complete only now, because every cycle uses all weights. What needs none of them goes on
        # while they are added up.
        added_up = self.processes.add_up(self.gradients) if self.gradients is not None else None
        with torch.no_grad():
            halted = (out.halt > out.go_on) & (visit.steps >= visit.least)
            done = last | halted if config.train.halting else last
            self.pool.store(visit, state, grid, done)
        if added_up is not None:
            added_up()
        norm = self.optimizer.clip()
        self.optimizer.step()
        self.ema.update()
        with torch.no_grad():
            left = done.float()
            means = loss.total.detach() / len(left), loss.cells / len(left), norm
            sums = left.sum(), (left * loss.right).sum(), (left * visit.steps).sum()
            self.meters += torch.stack(means + sums)

    def whole_pool(self) -> dict[str, Tensor] | None:
        """The slots of all processes as those of one, on the main process; None elsewhere. Every process must ask."""
        slots = self.pool.state_dict()
        if self.processes.count == 1:
            return slots
        whole = {"turn": slots.pop("turn")}
        for name, own in slots.items():
            if (parts := self.processes.gathered(own)) is not None:
                whole[name] = torch.cat([self._by_turn(part) for part in parts], 1).flatten(0, 1)
        return whole if self.processes.index == 0 else None

    def _own_slots(self, whole: dict[str, Tensor]) -> dict[str, Tensor]:
        """This process's slots among those of all."""
        first = self.processes.index * self.share
        own = slice(first, first + self.share)
        slots = {name: x for name, x in whole.items() if name != "turn"}
        return {
            "turn": whole["turn"],
            **{n: self._by_turn(x)[:, own].flatten(0, 1) for n, x in slots.items()},
        }

    def _by_turn(self, slots: Tensor) -> Tensor:
        """[S, …] as [turns, batch, …], whatever part of a batch they are."""
        return slots.view(self.config.train.pool, -1, *slots.shape[1:])

    def state_dict(self) -> dict[str, Any]:
        """Everything but the slots (see `whole_pool`); the same on every process."""
        return {
            "model": self.model.state_dict(),
            "ema": self.ema.mean,
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """state: as from `state_dict`, on any number of processes; pool: that of `whole_pool`, or None."""
        self.model.load_state_dict(state["model"])
        for mean, saved in zip(self.ema.mean, state["ema"], strict=True):
            mean.copy_(saved)
        self.optimizer.load_state_dict(state["optimizer"])
        if state.get("pool"):
            self.pool.load_state_dict(self._own_slots(state["pool"]))
        if state.get("generator") is not None:
            self.generator.set_state(state["generator"].cpu())
