"""Training: deep supervision over a pool of slots, each puzzle carried on until it halts."""

from __future__ import annotations

import contextlib
import json
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor

import trm
from trm.checkpoint import CheckpointError, Expert, load, replacing, save_folder
from trm.config import Config, ConfigError, from_dict
from trm.data import Bank, Batch
from trm.engine import Engine
from trm.evaluate import evaluate
from trm.losses import losses
from trm.model import TRM, State
from trm.optim import Ema, Optimizer
from trm.tasks import Puzzle, get

WARM_UP_STEPS = 3  # ordinary steps run eagerly before a CUDA graph is captured
METERS = ("loss", "cells", "norm", "finished", "right", "steps")


class Pool:
    """The slots of one process: puzzles under way, and the states they carry. All tensors stay in place.

    Slots are visited in turn, one batch of them a step: with more slots than a batch, one update's puzzles are
    not the next one's, which the network would otherwise learn by heart while they stay.
    tokens, labels, draft [S, L]; y, z [S, P+L, D]; steps, done [S]; turn [1].
    """

    def __init__(self, model: TRM, slots: int) -> None:
        cells = (slots, model.config.seq_len)
        device = model.device
        self.tokens = torch.zeros(cells, dtype=torch.int64, device=device)
        self.labels = torch.zeros(cells, dtype=torch.int64, device=device)
        self.draft = torch.zeros(cells, dtype=torch.int64, device=device)
        self.y, self.z = model.initial_state(slots)
        self.steps = torch.zeros(slots, dtype=torch.int64, device=device)
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


class Learner:
    """One training step, whole: refill, recur, learn, halt. Everything on the device, nothing asked of the host.

    Every process draws for the whole batch from the same generator and keeps its slice, so that any number of
    processes trains on the same puzzles.
    """

    def __init__(self, config: Config, model: TRM, bank: Bank, accelerator: Accelerator) -> None:
        self.config, self.model, self.bank, self.accelerator = config, model, bank, accelerator
        batch, world = config.train.batch, accelerator.num_processes
        if batch % world:
            raise ConfigError(f"[train] batch {batch} does not divide among {world} processes")
        self.share = batch // world
        first = accelerator.process_index * self.share
        self.mine = slice(first, first + self.share)
        self.optimizer = Optimizer(model, config.optim)
        self.ema = Ema(model, config.train.ema)
        self.generator = torch.Generator(model.device).manual_seed(config.train.seed)
        self.pool = self._filled_pool()
        self.meters = torch.zeros(len(METERS), device=model.device)
        self.graph: torch.cuda.CUDAGraph | None = None

    def _filled_pool(self) -> Pool:
        """A pool whose puzzles are of every age, so that they do not all leave at once."""
        train = self.config.train
        pool = Pool(self.model, self.share * train.pool)
        for turn in range(train.pool):
            rows = slice(turn * self.share, (turn + 1) * self.share)
            tokens, labels = self.bank.draw(train.batch, self.generator)
            ages = torch.randint(
                train.max_steps, (train.batch,), generator=self.generator, device=tokens.device
            )
            pool.tokens[rows], pool.labels[rows] = tokens[self.mine], labels[self.mine]
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
        with torch.cuda.graph(graph):
            self._step()
        self.graph = graph

    def _visit(self) -> Visit:
        """Take the next slots; put a fresh puzzle where the last one left."""
        config, pool, batch = self.config, self.pool, self.config.train.batch
        rows = pool.turn * self.share + torch.arange(self.share, device=pool.turn.device)
        pool.turn.copy_((pool.turn + 1) % config.train.pool)
        done = pool.done[rows]
        fresh = done[:, None]
        tokens, labels = self.bank.draw(batch, self.generator)
        old = Batch(pool.tokens[rows], pool.labels[rows], pool.draft[rows])
        draft = old.draft
        if self.model.config.draft:
            given = self.bank.given_drafts(tokens, labels, config.draft.start_rate, self.generator)
            # Drawn for the whole batch, used for this process's part of it.
            fed, full_tokens, full_labels = torch.zeros_like(given), tokens.clone(), labels.clone()
            fed[self.mine], full_tokens[self.mine], full_labels[self.mine] = draft, old.tokens, old.labels
            fed = self.bank.noisy(fed, Batch(full_tokens, full_labels, fed), config.draft, self.generator)
            draft = torch.where(fresh, given[self.mine], fed[self.mine])
        start = self.model.initial_state(1)
        state = State(
            torch.where(fresh[:, :, None], start.y, pool.y[rows]),
            torch.where(fresh[:, :, None], start.z, pool.z[rows]),
        )
        new_tokens = torch.where(fresh, tokens[self.mine], old.tokens)
        new_labels = torch.where(fresh, labels[self.mine], old.labels)
        steps = torch.where(done, 0, pool.steps[rows]) + 1
        return Visit(rows, Batch(new_tokens, new_labels, draft), state, steps)

    def _step(self) -> None:
        config, pool = self.config, self.pool
        visit = self._visit()
        batch, rows = visit.batch, visit.rows
        draft = batch.draft if self.model.config.draft else None
        self.optimizer.zero_grad()
        state, out = self.model.step(visit.state, batch.tokens, draft=draft)
        loss = losses(out, batch.labels, config.loss, draft)
        (loss.total / config.train.batch).backward()  # type: ignore[no-untyped-call]
        self._reduce_gradients()
        norm = self.optimizer.clip()
        self.optimizer.step()
        self.ema.update()
        with torch.no_grad():
            done = self._halts(out.halt, visit.steps)
            grid = out.logits.argmax(-1) if self.model.config.feedback else torch.zeros_like(batch.tokens)
            new = {
                "tokens": batch.tokens,
                "labels": batch.labels,
                "draft": grid,
                "y": state.y,
                "z": state.z,
                "steps": visit.steps,
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

    def _halts(self, halt: Tensor, steps: Tensor) -> Tensor:
        """Which puzzles leave: those that halt, save a share explored to a random minimum, and the oldest."""
        train, batch = self.config.train, self.config.train.batch
        explore = torch.rand(batch, generator=self.generator, device=halt.device) < train.exploration
        most = max(3, train.max_steps + 1)
        least = torch.randint(2, most, (batch,), generator=self.generator, device=halt.device)
        least = torch.where(explore, least, 0)[self.mine]
        last = steps >= train.max_steps
        return last | ((halt > 0) & (steps >= least)) if train.halting else last

    def _reduce_gradients(self) -> None:
        if self.accelerator.num_processes == 1:
            return
        grads = [p.grad for p in self.optimizer.params if p.grad is not None]
        flat = self.accelerator.reduce(torch.cat([g.flatten() for g in grads]), reduction="sum")
        for grad, part in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
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


class Trainer:
    """A run: the loop, its clock, its folder.

    The folder holds config.json, environment.json, metrics.jsonl and checkpoints/{last,best}; both are
    `save_pretrained` folders with the averaged weights, and `last` also has training.pt, from which a run resumes.
    """

    def __init__(
        self,
        config: Config,
        folder: Path,
        train: Sequence[Puzzle],
        held_out: Sequence[Puzzle],
        device: str = "auto",
        say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
    ) -> None:
        self.accelerator = Accelerator(cpu=device == "cpu", mixed_precision="no")
        if device == "cuda" and self.accelerator.device.type != "cuda":
            raise ConfigError("device cuda: none here, expected auto or cpu")
        self.config, self.folder, self.held_out, self.say = config, folder, held_out, say
        self.task = get(config.data.task)
        if (config.model.seq_len, config.model.vocab_size) != (self.task.seq_len, self.task.vocab_size):
            raise ConfigError(
                f"[model] seq_len {config.model.seq_len} and vocab_size {config.model.vocab_size}, expected "
                f"{self.task.seq_len} and {self.task.vocab_size} for {self.task.name}"
            )
        torch.manual_seed(config.train.seed)
        model = TRM(config.model)
        if config.train.init:
            model.load_state_dict(self._initial(config.train.init).state)
        model = model.to(self.accelerator.device)
        self.cuda = model.device.type == "cuda"
        half = config.train.precision == "bf16" or (config.train.precision == "auto" and self.cuda)
        model.dtype = torch.bfloat16 if half else torch.float32
        self.compiled = config.train.compile == "on" or (config.train.compile == "auto" and self.cuda)
        if self.compiled:
            model.net.compile(dynamic=False)  # in place: parameter names stay
        bank = Bank(self.task, train, config.data.augment, model.device)
        self.learner = Learner(config, model, bank, self.accelerator)
        self.engine = Engine(model, slots=self.learner.share)
        self.train_size = len(train)
        self.done_steps, self.seconds, self.best = 0, 0.0, -1.0
        self._reported = (0, 0.0)  # steps and seconds at the last report
        self._event: torch.cuda.Event | None = None  # end of the last step on the device

    def _initial(self, source: str) -> Expert:
        """The expert whose weights to start from. Raises CheckpointError or ConfigError."""
        expert = load(source).experts.get(self.task.name)
        if expert is None:
            raise ConfigError(f"[train] init: {source} has no expert for {self.task.name}")
        if expert.config != self.config.model:
            raise ConfigError(f"[train] init: {source} has another shape than [model] says")
        return expert

    # -- the loop --------------------------------------------------------------------------------------
    def progress(self) -> float:
        """Share of the horizon that is behind, the same on every process."""
        train = self.config.train
        share = self.seconds / train.seconds if train.seconds else self.done_steps / train.steps
        if train.seconds and self.accelerator.num_processes > 1:
            share = float(broadcast(torch.tensor(share, device=self.accelerator.device)))
        return min(1.0, share)

    def run(self) -> dict[str, Any]:
        """Train to the horizon; returns the last evaluation."""
        next_eval = self.progress() + self.config.train.evaluate_every
        next_line, saved = 0.0, time.monotonic()
        result: dict[str, Any] = {}
        while (progress := self.progress()) < 1:
            self.advance(progress)
            now = time.monotonic()
            if now >= next_line:
                self._report(progress)
                next_line = now + 5
            if progress >= next_eval:
                result = self._evaluate()
                next_eval += self.config.train.evaluate_every
            if now - saved > self.config.train.save_every_seconds:
                self.save("last")
                saved = time.monotonic()
        result = self._evaluate()
        self.save("last")
        return result

    def advance(self, progress: float) -> None:
        """One step, timed; the first ones on CUDA warm up and capture the graph, off the clock."""
        learner = self.learner
        learner.set_step(self.done_steps, progress)
        single = self.accelerator.num_processes == 1  # a captured collective is not worth its risk
        if self.cuda and self.compiled and single and learner.graph is None:
            self._warm_up(progress)
            return
        start = time.perf_counter()
        if self.cuda:
            # Stay one step ahead of the device, so that the clock is true and it never idles.
            previous = self._event
            learner.step()
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()
            if previous is not None:
                previous.synchronize()
        else:
            learner.step()
        self.seconds += time.perf_counter() - start
        self.done_steps += 1

    def _warm_up(self, progress: float) -> None:
        learner = self.learner
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_STEPS):
                learner.set_step(self.done_steps, progress)
                learner.step()
                self.done_steps += 1
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        learner.capture()

    def _report(self, progress: float) -> None:
        """A line of progress and of metrics.jsonl, from what the meters gathered since the last."""
        gathered = self.accelerator.reduce(self.learner.meters.clone(), reduction="sum")
        self.learner.meters.zero_()
        meters = dict(zip(METERS, gathered.tolist(), strict=True))
        steps, elapsed = self.done_steps - self._reported[0], self.seconds - self._reported[1]
        self._reported = (self.done_steps, self.seconds)
        world = self.accelerator.num_processes
        finished = max(1.0, meters["finished"])
        line = {
            "step": self.done_steps,
            "seconds": round(self.seconds, 2),
            "lr": float(self.learner.optimizer.lrs[-1][1]),
            "loss": meters["loss"] / max(1, steps) / world,
            "cells": meters["cells"] / max(1, steps) / world,
            "norm": meters["norm"] / max(1, steps) / world,
            "pool_accuracy": meters["right"] / finished,
            "pool_steps": meters["steps"] / finished,
            "ms_per_step": 1000 * elapsed / max(1, steps),
        }
        self._write(line)
        left = self.seconds / progress * (1 - progress) if progress else 0.0
        self._say(
            f"step {line['step']}  loss {line['loss']:.4f}  pool {line['pool_accuracy']:.1%} "
            f"in {line['pool_steps']:.1f} steps  {line['ms_per_step']:.1f} ms/step  {left / 60:.1f} min left"
        )

    def _evaluate(self) -> dict[str, Any]:
        """Held-out accuracy of the averaged weights; keeps the best."""
        result: dict[str, Any] = {}
        if self.accelerator.is_main_process and self.held_out:
            self._event = None
            with self.averaged():
                result = evaluate(self.engine, self.task, self.held_out, self.config.train.eval_steps)
            self._write({"step": self.done_steps, "seconds": round(self.seconds, 2), "held_out": result})
            self._say(f"step {self.done_steps}  held out {result['accuracy']:.1%} of {result['n']}")
            if result["accuracy"] >= self.best:
                self.best = result["accuracy"]
                self.save("best", result)
        self.accelerator.wait_for_everyone()
        return result

    @contextlib.contextmanager
    def averaged(self) -> Any:
        """The averaged weights in the model's place."""
        self.learner.ema.swap()
        self.learner.model.eval()
        try:
            yield
        finally:
            self.learner.ema.swap()
            self.learner.model.train()

    # -- the folder ------------------------------------------------------------------------------------
    def open_folder(self) -> None:
        """Write what the run is: the resolved configuration and where it runs."""
        if not self.accelerator.is_main_process:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "config.json").write_text(json.dumps(asdict(self.config), indent=1) + "\n")
        (self.folder / "environment.json").write_text(
            json.dumps(environment(self.accelerator.num_processes), indent=1) + "\n"
        )

    def save(self, name: str, metrics: dict[str, Any] | None = None) -> None:
        """Write checkpoints/NAME: averaged weights, and for `last` everything a resume needs."""
        if name == "last" and self.accelerator.num_processes > 1 and self.config.train.save_pool:
            self._save_slices()
        if not self.accelerator.is_main_process:
            return
        with self.averaged():
            state = {k: v.detach().cpu().clone() for k, v in self.learner.model.state_dict().items()}
        meta = {
            "step": self.done_steps,
            "seconds": round(self.seconds, 1),
            "training_data": self.config.data.train or "generated",
            "training_puzzles": self.train_size,
            "metrics": metrics or {},
            "recipe": {k: v for k, v in asdict(self.config).items() if k != "model"},
        }
        expert = Expert(self.task.name, self.config.model, state, meta)
        with replacing(self.folder / "checkpoints" / name) as temporary:
            save_folder(temporary, expert)
            if name == "last":
                torch.save(self._training_state(), temporary / "training.pt")

    def _training_state(self) -> dict[str, Any]:
        state = self.learner.state_dict()
        if not self.config.train.save_pool or self.accelerator.num_processes > 1:
            state["pool"] = None
        return {
            "config": asdict(self.config),
            "step": self.done_steps,
            "seconds": self.seconds,
            "best": self.best,
            **state,
        }

    def _save_slices(self) -> None:
        path = self.folder / f"pool-{self.accelerator.process_index}.pt"
        with replacing(path) as temporary:
            torch.save({"step": self.done_steps, **self.learner.pool.state_dict()}, temporary)
        self.accelerator.wait_for_everyone()

    def resume(self) -> None:
        """Go on from checkpoints/last as if nothing had happened. Raises CheckpointError."""
        path = self.folder / "checkpoints" / "last" / "training.pt"
        if not path.is_file():
            raise CheckpointError(f"{self.folder}: no checkpoints/last/training.pt to resume from")
        raw = torch.load(path, map_location=self.learner.model.device, weights_only=True)
        if raw.get("pool") is None:
            slices = self.folder / f"pool-{self.accelerator.process_index}.pt"
            if slices.is_file():
                saved = torch.load(slices, map_location=self.learner.model.device, weights_only=True)
                if saved.pop("step") == raw["step"]:
                    raw["pool"] = saved
            if raw.get("pool") is None:
                self._say("resuming without the saved slots: every slot starts a fresh puzzle")
        self.learner.load_state_dict(raw)
        self.done_steps, self.seconds, self.best = raw["step"], raw["seconds"], raw["best"]
        self._reported = (self.done_steps, self.seconds)

    def _write(self, line: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            with (self.folder / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")

    def _say(self, text: str) -> None:
        if self.accelerator.is_main_process:
            self.say(text)


def environment(processes: int = 1) -> dict[str, Any]:
    """Versions and devices, for a run folder and a bug report."""
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "trm": trm.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": devices or ["cpu"],
        "threads": torch.get_num_threads(),
        "processes": processes,
    }


def saved_config(folder: Path) -> Config:
    """The configuration a run folder was started with. Raises ConfigError."""
    try:
        return from_dict(
            Config, json.loads((folder / "config.json").read_text()), str(folder / "config.json")
        )
    except OSError as error:
        raise ConfigError(f"{folder}: no config.json ({error.strerror}), expected a run folder") from None
