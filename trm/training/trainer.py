"""A training run: deep supervision over a pool of slots, in which each puzzle stays until it halts."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from trm import jsonl
from trm.checkpoints.format import CheckpointError, Expert, load
from trm.config import ConfigError, from_dict
from trm.data.pairs import fits
from trm.data.stream import PuzzleStream, puzzle_stream
from trm.device import resolve_device
from trm.grid import first_line
from trm.model.config import TRMConfig
from trm.model.network import TRM
from trm.progress import interruptions
from trm.tasks import Puzzle, Task
from trm.training import setup
from trm.training.config import Config
from trm.training.distributed import Processes
from trm.training.run_folder import RunFolder
from trm.training.step import METERS, WARM_UP_STEPS, Learner

REPORT_EVERY = 5.0  # seconds

# Measures a network on held-out puzzles; `trm.evaluation.accuracy.evaluate_held_out`, a layer above training, is the
# only one. Takes network, task, puzzles, supervision steps, the embedding under which each puzzle is seen, and
# how many to run at a time. Returns figures with at least `accuracy` and `n`.
Evaluation = Callable[[TRM, Task, Sequence[Puzzle], int, Sequence[int], int], Mapping[str, Any]]


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Trainer:
    """The loop of a run, its clock, and what it says, evaluates and saves on the way."""

    @setup.within_memory()
    def __init__(
        self,
        config: Config,
        folder: Path,
        train: Sequence[Puzzle],
        held_out: Sequence[Puzzle],
        device: str = "auto",
        say: Callable[[str], None] = _print,
        evaluate: Evaluation | None = None,
    ) -> None:
        """evaluate: needed where there are held-out puzzles.

        Raises:
            ConfigError: the configuration fits neither the task nor the puzzles.
            CheckpointError: `train.init` cannot be read.
            DeviceError: there is no such device.
        """
        resolve_device(device)
        if ":" in device:
            chosen = "expected auto, cpu, cuda or mps; CUDA_VISIBLE_DEVICES chooses a GPU"
            raise ConfigError(f"device {device}: {chosen}")
        self.accelerator = Accelerator(cpu=device == "cpu", mixed_precision="no")
        self.config, self.folder, self.say, self.evaluate = config, RunFolder(folder), say, evaluate
        self.processes = Processes(self.accelerator.num_processes, self.accelerator.process_index)
        self.task = setup.canvas_task(config)
        self.held_out = [p for p in held_out if not self.task.has_demonstrations or fits(self.task, p)]
        self.contexts = setup.embedding_numbers(self.task, train)
        model = setup.first_network(config, self.task, self.accelerator.device)
        bank = setup.training_bank(config, self.task, train, model.device)
        self.learner = Learner(config, model, bank, self.processes)
        self.train_size = len(train)
        # Whether a CUDA graph is captured at the first step.
        self.captures = model.device.type == "cuda" and setup.is_compiled(config, model.device)
        self.done_steps, self.seconds = 0, 0.0  # optimiser steps, and seconds of training proper
        self._step_end: torch.cuda.Event | None = None  # of the last step on the device
        self.best = -1.0  # accuracy of checkpoints/best
        self.next_evaluation = config.train.evaluate_every  # as a share of the run
        self.evaluated_step = -1  # the step of the last evaluation
        self._reported = (0, 0.0)  # steps and seconds at the last report

    def progress(self) -> float:
        """The share of the run that is done, 0 to 1."""
        train = self.config.train
        share = self.seconds / train.seconds if train.seconds else self.done_steps / train.steps
        return min(1.0, share)

    @setup.within_memory()
    def run(self) -> Mapping[str, Any]:
        """Train to the end; returns the last evaluation, empty where nothing is held out.

        Ctrl-C raises KeyboardInterrupt between two steps, when everything may be saved.
        """
        train = self.config.train
        next_report, saved = 0.0, time.monotonic()
        result: Mapping[str, Any] = {}
        own = self.processes.index, self.processes.count
        stream = puzzle_stream(self.config.data, train.seed, self.done_steps, self.held_out, *own)
        with interruptions() as interrupted, stream or contextlib.nullcontext():
            while True:
                now, start = time.monotonic(), time.perf_counter()
                due = now >= next_report, now - saved > train.save_every_seconds
                progress, report, save, stop = self._agreed(self.progress(), *due, interrupted())
                if stop:
                    raise KeyboardInterrupt
                if progress >= 1:
                    break
                self.advance(progress, start)
                if report:
                    self._report(progress)
                    next_report = now + REPORT_EVERY
                    if stream is not None:
                        self._refresh(stream)
                if progress >= self.next_evaluation:
                    result = self._evaluate()
                    self.next_evaluation += train.evaluate_every
                if save:
                    self.save("last")
                    saved = time.monotonic()
        if self.evaluated_step != self.done_steps:
            result = self._evaluate()
        self.save("last")
        return result

    def _agreed(self, *values: float) -> list[float]:
        """The main process's values, on every process.

        By clocks of their own they would report and save at different steps, and wait for each other forever.
        """
        return self.processes.of_main(values)

    def _refresh(self, stream: PuzzleStream) -> None:
        """Put the puzzles that every process has generated meanwhile in the place of the oldest, on all of them."""
        chunks = stream.take(self.processes.least(stream.count_ready()))
        fresh = list(chain.from_iterable(self.processes.interleaved(chunks)))
        self.learner.bank.replace(fresh)
        self.train_size += len(fresh)

    def advance(self, progress: float, start: float | None = None) -> None:
        """Take one step, with the learning rate of this share of the run, and time it.

        start: when the time of the step began, on `time.perf_counter`; None: now. The first steps on CUDA, which
        compile and capture, are not timed.
        """
        start = time.perf_counter() if start is None else start
        learner = self.learner
        learner.set_step(self.done_steps, progress)
        if self.captures and learner.graph is None:
            learner.warm_up(self.done_steps, progress)
            self.done_steps += WARM_UP_STEPS
            return
        learner.step()
        if learner.model.device.type == "cuda":
            # The host stays one step ahead of the device, so that the clock is right and the device never waits.
            previous, self._step_end = self._step_end, torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._step_end.record()
            if previous is not None:
                previous.synchronize()
        self.seconds += time.perf_counter() - start
        self.done_steps += 1

    def _report(self, progress: float) -> None:
        """Print and write down the means of the meters since the last report."""
        sums = self.processes.total(self.learner.meters)
        self.learner.meters.zero_()
        meters, processes = dict(zip(METERS, sums, strict=True)), self.processes.count
        steps, seconds = max(1, self.done_steps - self._reported[0]), self.seconds - self._reported[1]
        self._reported, finished = (self.done_steps, self.seconds), max(1.0, meters["finished"])
        line = {
            "step": self.done_steps,
            "seconds": round(self.seconds, 2),
            "lr": float(self.learner.optimizer.lrs[-1][1]),
            **{name: meters[name] / steps / processes for name in ("loss", "cells", "norm")},
            "pool_accuracy": meters["right"] / finished,
            "pool_steps": meters["steps"] / finished,
            "ms_per_step": 1000 * seconds / steps,
        }
        self._write(line)
        left = self.seconds / progress * (1 - progress) if progress else 0.0
        self._say(
            f"step {line['step']}  loss {line['loss']:.4f}  pool {line['pool_accuracy']:.1%} "
            f"in {line['pool_steps']:.1f} steps  {line['ms_per_step']:.1f} ms/step  {left / 60:.1f} min left"
        )

    def _evaluate(self) -> Mapping[str, Any]:
        """Evaluate the averaged weights and keep the best; without held-out puzzles keep the latest."""
        result: Mapping[str, Any] = {}
        if self.accelerator.is_main_process and self.held_out:
            self._step_end = None  # the next step does not follow the last one at once
            if self.evaluate is None:
                raise ConfigError("[data]: puzzles are held out, but the trainer was given no evaluation")
            contexts, learner = [self.contexts.get(p.id, 0) for p in self.held_out], self.learner
            with self.averaged():
                steps, slots = self.config.train.eval_steps, learner.share
                result = self.evaluate(learner.model, self.task, self.held_out, steps, contexts, slots)
            if result["accuracy"] >= self.best:
                self.save("best", result)
                self.best = result["accuracy"]
            # Written last: a resumed run does not repeat an evaluation that is in metrics.jsonl.
            self._write({"step": self.done_steps, "seconds": round(self.seconds, 2), "held_out": result})
            self._say(f"step {self.done_steps}  held out {result['accuracy']:.1%} of {result['n']}")
        elif not self.held_out:
            self.save("best")
        self.processes.wait()
        self.evaluated_step = self.done_steps
        return result

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Within the block the model has the averaged weights."""
        self.learner.ema.swap()
        self.learner.model.eval()
        try:
            yield
        finally:
            self.learner.ema.swap()
            self.learner.model.train()

    def _write(self, line: dict[str, Any]) -> None:
        """Add a line to metrics.jsonl."""
        if self.accelerator.is_main_process:
            self._reopen_folder()
            jsonl.append(self.folder.metrics, [line])

    def _say(self, text: str) -> None:
        if self.accelerator.is_main_process:
            self.say(text)

    def open_folder(self) -> None:
        """Write the configuration and the environment into the run folder."""
        if self.accelerator.is_main_process:
            self.folder.create(self.config, self.processes.count)

    def _reopen_folder(self) -> None:
        """Create a folder that was removed meanwhile once more: what was learned is worth more than stopping."""
        if not self.folder.path.is_dir():
            self._say(f"{self.folder.path} is gone and is created again")
            self.open_folder()

    def save(self, name: str, metrics: Mapping[str, Any] | None = None) -> None:
        """Write checkpoints/NAME: averaged weights, and in `last` everything that a resume needs."""
        slots = self.learner.whole_pool() if name == "last" and self.config.train.save_pool else None
        if not self.accelerator.is_main_process:
            return
        self._reopen_folder()
        with self.averaged():
            weights = {k: v.detach().cpu().clone() for k, v in self.learner.model.state_dict().items()}
        meta = {
            "step": self.done_steps,
            "seconds": round(self.seconds, 1),
            "training_data": Path(self.config.data.train).name or "generated",
            "training_puzzles": self.train_size,
            "dtype": str(self.learner.model.dtype).removeprefix("torch."),
            "metrics": dict(metrics or {}),
            "recipe": {k: v for k, v in asdict(self.config).items() if k != "model"},
        }
        state = {
            "config": asdict(self.config),
            "step": self.done_steps,
            "seconds": self.seconds,
            "best": self.best,
            "next_evaluation": self.next_evaluation,
            **self.learner.state_dict(),
            "pool": slots,
        }
        expert = Expert(self.task.name, self.config.model, weights, meta)
        self.folder.save(name, expert, state if name == "last" else None)

    def resume(self) -> None:
        """Continue from checkpoints/last as if there had been no interruption. Raises CheckpointError."""
        try:
            self._restore(self.folder.load_state(self.learner.model.device))
        except CheckpointError:
            raise
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            reason = f"the training state does not fit the run: {first_line(error)}"
            raise CheckpointError(f"{self.folder.path}: {reason}") from None
        if self.accelerator.is_main_process:
            self.folder.drop_metrics_after(self.done_steps)

    def _restore(self, state: dict[str, Any]) -> None:
        # Keys that are newer than the run have their defaults.
        if from_dict(TRMConfig, state["config"]["model"]) != self.config.model:
            raise CheckpointError(f"{self.folder.path}: its network has another shape than [model] says")
        pool = state["pool"]
        if pool is not None and len(pool["done"]) != self.config.train.batch * self.config.train.pool:
            pool = None  # another batch or pool
        if pool is None:
            self._say("resuming without the saved slots: every slot starts a fresh puzzle")
        self.learner.load_state_dict({**state, "pool": pool})
        self.done_steps, self.seconds, self.best = state["step"], state["seconds"], state["best"]
        self._reported = (self.done_steps, self.seconds)
        every, progress = self.config.train.evaluate_every, self.progress()
        self.next_evaluation = (math.floor(progress / every + 1e-9) + 1) * every
        before, now = state["config"]["train"], asdict(self.config.train)
        if all(before.get(key) == now[key] for key in ("steps", "seconds", "evaluate_every")):
            # Not rounded: it decides at which step; runs of before this key do not say.
            self.next_evaluation = state.get("next_evaluation", self.next_evaluation)

    def close(self) -> None:
        """Leave the other processes of the run, if there are any; not after an error, when they may never come."""
        self.learner.graph = None  # NCCL would wait forever for graphs that hold its collectives
        self.processes.close()

    def ended(self) -> Mapping[str, Any] | None:
        """The last evaluation of a run with nothing left to do (empty where nothing is held out), else None.

        Raises ConfigError where metrics.jsonl cannot be read.
        """
        if self.progress() < 1:
            return None
        if not self.held_out:
            best = self.folder.checkpoint("best")
            step = load(best).experts[self.task.name].meta.get("step") if best.is_dir() else None
            return {} if step == self.done_steps else None
        last = self.folder.last_metrics()
        return last.get("held_out") if last.get("step") == self.done_steps else None
