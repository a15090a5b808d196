"""Training: deep supervision over a pool of slots, each puzzle carried on until it halts."""

from __future__ import annotations

import contextlib
import json
import math
import pickle
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast

import trm
from trm.checkpoints.format import IDENTITIES, CheckpointError, Expert, load, save_folder
from trm.config import ConfigError, from_dict
from trm.data.device import Bank
from trm.data.pairs import PairBank, fits
from trm.data.stream import endless
from trm.evaluation.accuracy import evaluate
from trm.evaluation.curves import drop_behind, read
from trm.files import replacing
from trm.inference.engine import Engine
from trm.model.config import TRMConfig
from trm.model.network import TRM, TURNS
from trm.progress import interruptions
from trm.tasks import Puzzle, get
from trm.training.config import Config
from trm.training.step import METERS, WARM_UP_STEPS, Learner, within_memory

REPORT_EVERY = 5.0  # seconds


class Trainer:
    """A run: the loop, its clock, its folder.

    The folder holds config.json, environment.json, metrics.jsonl and checkpoints/{last,best}; both are
    `save_pretrained` folders with the averaged weights, and `last` also has training.pt, from which a run resumes.
    """

    @within_memory()
    def __init__(
        self,
        config: Config,
        folder: Path,
        train: Sequence[Puzzle],
        held_out: Sequence[Puzzle],
        device: str = "auto",
        say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
    ) -> None:
        if device not in ("auto", "cpu", "cuda", "mps"):
            raise ConfigError(f"device {device!r}: expected auto, cpu, cuda or mps")
        self.accelerator = Accelerator(cpu=device == "cpu", mixed_precision="no")
        if device in ("cuda", "mps") and self.accelerator.device.type != device:
            raise ConfigError(f"device {device}: none here, expected auto or cpu")
        self.config, self.folder, self.held_out, self.say = config, folder, held_out, say
        self.task = get(config.data.task)
        if self.task.has_demonstrations and config.model.canvas_width:
            self.task = self.task.on(config.model.canvas_width)
            self.held_out = [p for p in held_out if fits(self.task, p)]
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
        model.dtype = torch.bfloat16 if config.train.computes_in_bf16(model.device.type) else torch.float32
        if self.cuda or config.train.kernels == "fused":
            from trm.model import kernels

            kernels.use(config.train.kernels, model)
        self.compiled = config.train.compile == "on" or (config.train.compile == "auto" and self.cuda)
        if self.compiled:
            model.compile_net()
        self.contexts: dict[str, int] = {}  # of a puzzle's id: what the network knows it as
        bank = self._bank(train, model.device)
        if config.data.stream and self.accelerator.num_processes > 1:
            raise ConfigError("[data] stream: one process alone can train on it, for all must see the same")
        self.learner = Learner(config, model, bank, self.accelerator)
        self.engine = Engine(model, slots=self.learner.share)
        self.train_size = len(train)
        self.done_steps, self.seconds, self.best = 0, 0.0, -1.0
        self._reported = (0, 0.0)  # steps and seconds at the last report
        self._event: torch.cuda.Event | None = None  # end of the last step on the device

    def _bank(self, train: Sequence[Puzzle], device: torch.device) -> Bank:
        """The training puzzles on the device; raises ConfigError where the network has no identities for them."""
        data, model = self.config.data, self.config.model
        if not self.task.has_demonstrations:
            return Bank(self.task, train, data.augment, device, data.stream, data.reveal)
        if data.stream or data.reveal:
            raise ConfigError(
                f"[data] stream, reveal: {self.task.name} tasks are learned one by one, none can be replaced"
            )
        if model.identities < len(train) or not model.turns:
            raise ConfigError(
                f"[model] identities {model.identities}, turns {model.turns}: expected at least {len(train)}, one "
                "for each task, and turns = true"
            )
        self.contexts = {puzzle.id: TURNS * number for number, puzzle in enumerate(train)}
        return PairBank(
            self.task, train, data.augment, device, recolour=data.color_permutation_prob, balance=data.balance
        )

    def _initial(self, source: str) -> Expert:
        """The expert whose weights to start from. Raises CheckpointError or ConfigError."""
        expert = load(source).experts.get(self.task.name)
        if expert is None:
            raise ConfigError(f"[train] init: {source} has no expert for {self.task.name}")
        theirs = expert.config
        # No weight depends on how often the network is applied, or on how far back the gradient goes.
        mine = replace(
            self.config.model, h_cycles=theirs.h_cycles, l_cycles=theirs.l_cycles, gradient=theirs.gradient
        )
        if mine.positions == "rope2d":  # no weight depends on how large the canvas is
            mine = replace(mine, seq_len=theirs.seq_len, canvas_width=theirs.canvas_width)
        if mine.turns and 0 < theirs.identities < mine.identities:
            # The tasks that it knows come first in the data; others start from the mean of those, which is all that
            # `trm pack` keeps.
            rows = expert.state[IDENTITIES]
            others = rows.mean(0, keepdim=True).expand(mine.identities - len(rows), -1)
            expert = replace(expert, state={**expert.state, IDENTITIES: torch.cat([rows, others])})
            mine = replace(mine, identities=theirs.identities)
        if theirs != mine:
            raise ConfigError(f"[train] init: {source} has another shape than [model] says")
        return expert

    # -- the loop --------------------------------------------------------------------------------------
    def progress(self) -> float:
        """Share of the horizon that is behind."""
        train = self.config.train
        share = self.seconds / train.seconds if train.seconds else self.done_steps / train.steps
        return min(1.0, share)

    def _agreed(self, *mine: float) -> list[float]:
        """What the main process says, on every process: by their own clocks they would report and save at different
        steps, and wait for each other in different places."""
        if self.accelerator.num_processes == 1:
            return list(mine)
        said: list[float] = broadcast(torch.tensor(mine, device=self.accelerator.device)).tolist()
        return said

    def ended(self) -> dict[str, Any] | None:
        """The last evaluation of a run with nothing left to do, {} where nothing is held out. Raises ConfigError."""
        if self.progress() < 1:
            return None
        if not self.held_out:
            best = self.folder / "checkpoints" / "best"
            kept = load(best).experts[self.task.name].meta.get("step") if best.is_dir() else None
            return {} if kept == self.done_steps else None
        lines = read(self.folder) if (self.folder / "metrics.jsonl").is_file() else []
        return lines[-1].get("held_out") if lines and lines[-1]["step"] == self.done_steps else None

    @within_memory()
    def run(self) -> dict[str, Any]:
        """Train to the horizon; returns the last evaluation."""
        every = self.config.train.evaluate_every
        # Where it was before an interruption, too.
        next_eval = (math.floor(self.progress() / every + 1e-9) + 1) * every
        next_line, saved = 0.0, time.monotonic()
        result: dict[str, Any] = {}
        evaluated = -1  # at which step
        with contextlib.ExitStack() as stack:
            interrupted = stack.enter_context(interruptions())
            stream = endless(self.config.data, self.config.train.seed, self.done_steps, self.held_out)
            if stream is not None:
                stack.enter_context(stream)
            while True:
                now = time.monotonic()
                due = now >= next_line, now - saved > self.config.train.save_every_seconds
                progress, report, save, stop = self._agreed(self.progress(), *due, interrupted())
                if stop:
                    raise KeyboardInterrupt
                if progress >= 1:
                    break
                self.advance(progress)
                if report:
                    self._report(progress)
                    if stream is not None:
                        fresh = stream.ready()
                        self.learner.bank.replace(fresh)
                        self.train_size += len(fresh)
                    next_line = now + REPORT_EVERY
                if progress >= next_eval:
                    result, evaluated = self._evaluate(), self.done_steps
                    next_eval += every
                if save:
                    self.save("last")
                    saved = time.monotonic()
        if evaluated != self.done_steps:
            result = self._evaluate()
        self.save("last")
        return result

    def advance(self, progress: float) -> None:
        """One step, timed; the first ones on CUDA warm up and capture the graph, off the clock."""
        learner = self.learner
        learner.set_step(self.done_steps, progress)
        single = self.accelerator.num_processes == 1  # a captured collective is not worth its risk
        if self.cuda and self.compiled and single and learner.graph is None:
            learner.warm_up(self.done_steps, progress)
            self.done_steps += WARM_UP_STEPS
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
        """Held-out accuracy of the averaged weights; keeps the best, or the latest where nothing is held out."""
        result: dict[str, Any] = {}
        if self.accelerator.is_main_process and self.held_out:
            self._event = None
            with self.averaged():
                steps = self.config.train.eval_steps
                contexts = [self.contexts.get(puzzle.id, 0) for puzzle in self.held_out]
                result = evaluate(self.engine, self.task, self.held_out, steps, contexts=contexts)
            if result["accuracy"] >= self.best:
                self.save("best", result)
                self.best = result["accuracy"]
            # Last: a run that is resumed takes an evaluation that is written down for done.
            self._write({"step": self.done_steps, "seconds": round(self.seconds, 2), "held_out": result})
            self._say(f"step {self.done_steps}  held out {result['accuracy']:.1%} of {result['n']}")
        elif not self.held_out:
            self.save("best")
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

    def _reopen_folder(self) -> None:
        """Make a folder anew that was removed meanwhile: what was learned since is worth more than stopping there."""
        if not self.folder.is_dir():
            self._say(f"{self.folder} is gone, and made anew")
            self.open_folder()

    def save(self, name: str, metrics: dict[str, Any] | None = None) -> None:
        """Write checkpoints/NAME: averaged weights, and for `last` everything a resume needs."""
        if name == "last" and self.accelerator.num_processes > 1 and self.config.train.save_pool:
            self._save_slices()
        if not self.accelerator.is_main_process:
            return
        self._reopen_folder()
        with self.averaged():
            state = {k: v.detach().cpu().clone() for k, v in self.learner.model.state_dict().items()}
        meta = {
            "step": self.done_steps,
            "seconds": round(self.seconds, 1),
            "training_data": Path(self.config.data.train).name or "generated",
            "training_puzzles": self.train_size,
            "dtype": str(self.learner.model.dtype).removeprefix("torch."),
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
        try:
            raw = torch.load(path, map_location=self.learner.model.device, weights_only=True)
            self._resume(raw)
        except CheckpointError:
            raise
        except (OSError, RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise CheckpointError(f"{path}: not what a run left to go on from ({reason})") from None
        if self.accelerator.is_main_process:
            drop_behind(self.folder, self.done_steps)

    def _resume(self, raw: dict[str, Any]) -> None:
        # Read as any config is: a run older than a key has that key's default.
        if from_dict(TRMConfig, raw["config"]["model"]) != self.config.model:
            raise CheckpointError(f"{self.folder}: its network has another shape than [model] says")
        if raw.get("pool") is None:
            slices = self.folder / f"pool-{self.accelerator.process_index}.pt"
            if slices.is_file():
                saved = torch.load(slices, map_location=self.learner.model.device, weights_only=True)
                if saved.pop("step") == raw["step"]:
                    raw["pool"] = saved
        if raw["pool"] is not None and len(raw["pool"]["done"]) != len(self.learner.pool.done):
            raw["pool"] = None  # another batch, pool size or number of processes
        if raw["pool"] is None:
            self._say("resuming without the saved slots: every slot starts a fresh puzzle")
        self.learner.load_state_dict(raw)
        self.done_steps, self.seconds, self.best = raw["step"], raw["seconds"], raw["best"]
        self._reported = (self.done_steps, self.seconds)

    def _write(self, line: dict[str, Any]) -> None:
        if self.accelerator.is_main_process:
            self._reopen_folder()
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
