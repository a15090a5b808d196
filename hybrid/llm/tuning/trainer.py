"""The training loop: schedule, optimiser, evaluation and checkpoints, in any number of processes (accelerate)."""

from __future__ import annotations

import math
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor

from hybrid.llm.grid.base_weights import GridModelError
from hybrid.llm.grid.lora import compile_layers
from hybrid.llm.tuning.config import TrainConfig, TuneConfig
from hybrid.llm.tuning.data import Puzzles, held_out_episodes, is_large, read_puzzles, read_tasks
from hybrid.llm.tuning.drawing import Batch, EpisodeSource, stream
from hybrid.llm.tuning.evaluation import HeldOut, Scores
from hybrid.llm.tuning.model import GridTrainer, build
from hybrid.llm.tuning.run_folder import Progress, RunFolder


@dataclass
class Window:
    """Sums since the last progress line: on the device, so that nothing waits for them. sums: loss, right, labels."""

    sums: Tensor
    tokens: int = 0
    real: int = 0
    since: float = 0.0


class Tuner:
    """A tuning run, from its configuration to the last checkpoint."""

    def __init__(self, config: TuneConfig, resume: bool = False) -> None:
        train = config.train
        cpu = train.device == "cpu" or (train.device == "auto" and not torch.cuda.is_available())
        handlers = [DistributedDataParallelKwargs(gradient_as_bucket_view=True, broadcast_buffers=False)]
        self.accelerator = Accelerator(cpu=cpu, mixed_precision="no", kwargs_handlers=handlers)
        self.config, self.device = config, self.accelerator.device
        self.bf16 = train.precision == "bf16" or (train.precision == "auto" and self.device.type == "cuda")
        torch.set_float32_matmul_precision("high")
        torch.manual_seed(train.seed)
        self.model, self.base_hash = build(config.model, self.device, self.bf16, train.seed)
        if train.compile == "on" or (train.compile == "auto" and self.device.type == "cuda"):
            compile_layers(self.model)
        self.network = GridTrainer(self.model, self.bf16, train.checkpointing)
        self.trained = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        self.parallel = self.accelerator.prepare_model(self.network)
        self.optimizer = self._optimizer()
        self.source, self.held_out = self._data()
        self.progress = Progress()
        self.folder = RunFolder(Path(train.out), config, self.base_hash, self.accelerator.is_main_process)
        if resume:
            self.progress = self.folder.restore(self.trained, self.optimizer, self.device)
        self.stopped = False

    def _optimizer(self) -> torch.optim.AdamW:
        train = self.config.train
        tables = [w for name, w in self.trained.items() if "embed_tokens" in name or "lm_head" in name]
        others = [w for w in self.trained.values() if all(w is not table for table in tables)]
        groups = [
            {"params": others, "base_lr": train.lr, "weight_decay": train.weight_decay},
            {"params": tables, "base_lr": train.table_lr, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=0.0, betas=train.betas, fused=self.device.type == "cuda")

    def _data(self) -> tuple[EpisodeSource, HeldOut]:
        data = self.config.data
        tasks = read_tasks(Path(data.tasks)) if data.tasks else []
        learned: list[Puzzles] = []
        sets = {}
        if data.held_out:
            held_out = read_tasks(Path(data.held_out))
            sets["arc"] = held_out_episodes(held_out, data.held_out_tokens)
            if large := [task for task in held_out if is_large(task.train + task.test)]:
                sets["arc_large"] = held_out_episodes(large, data.held_out_tokens)
        for kind, files in (("sudoku", data.sudoku), ("maze", data.maze)):
            if files:
                puzzles, unseen = read_puzzles([Path(file) for file in files.split("+")], kind).split(
                    data.held_out_puzzles
                )
                learned.append(puzzles)
                sets[kind] = unseen.episodes()
        return EpisodeSource(data, tasks, learned), HeldOut(sets, 2 * self.config.train.tokens)

    def run(self) -> Scores:
        """Train to the end of the horizon; the last scores. Raises GridModelError where the loss is no number."""
        train, main = self.config.train, self.accelerator.is_main_process
        self._listen()
        self._say(
            f"{sum(w.numel() for w in self.trained.values()) / 1e6:.1f}M of "
            f"{sum(w.numel() for w in self.model.parameters()) / 1e6:.1f}M parameters are trained, "
            f"{len(self.source.tasks)} tasks, {self.accelerator.num_processes} processes on {self.device.type}"
        )
        batches = stream(
            self.source,
            train.tokens,
            train.seed,
            self.accelerator.process_index,
            train.workers,
            (self.progress.group, self.progress.place),
        )
        begun = time.time()
        self._warm_up()
        self._say(f"compiled and warmed up in {time.time() - begun:.0f} s")
        scores = self.evaluate()
        start = saved = reported = time.time()
        before, share = self.progress.seconds, self._share(self.progress.seconds)
        evaluated = share
        window = Window(torch.zeros(3, device=self.device, dtype=torch.float64), since=start)
        while True:
            if self.progress.step % train.log_every == 0 or (
                train.steps and self.progress.step >= train.steps
            ):
                share, stop = self._agree(self._share(before + time.time() - start))
                self.progress.seconds = before + time.time() - start
                if main and time.time() - reported >= train.report_seconds:
                    self._report(window)
                    window, reported = Window(torch.zeros_like(window.sums), since=time.time()), time.time()
                if share >= 1 or stop:
                    break
                if share - evaluated >= train.evaluate_every:
                    scores, evaluated = self.evaluate(), share
                if time.time() - saved >= train.save_seconds:
                    self._save("last", scores)
                    saved = time.time()
            (self.progress.group, self.progress.place), batch = next(batches)
            self._step(batch, window, share if train.seconds else self._share(0))
        if main and window.tokens:
            self._report(window)
        scores = self.evaluate()
        self._save("last", scores)
        self._say("stopped early; --resume goes on" if self.stopped else "finished")
        return scores

    def _share(self, seconds: float) -> float:
        """How much of the horizon is over, 0 to 1."""
        train = self.config.train
        return min(1.0, self.progress.step / train.steps if train.steps else seconds / train.seconds)

    def _agree(self, share: float) -> tuple[float, bool]:
        """The main process' share of the horizon, and whether any process was told to stop."""
        values = torch.tensor(
            [share if self.accelerator.is_main_process else 0.0, float(self.stopped)], device=self.device
        )
        if self.accelerator.num_processes > 1:
            torch.distributed.all_reduce(values)
        share, stop = values.tolist()
        self.stopped = stop > 0
        return share, self.stopped

    def _step(self, batch: Batch, window: Window, share: float) -> None:
        train = self.config.train
        factor = schedule(train, self.progress.step, share)
        for group in self.optimizer.param_groups:
            group["lr"] = factor * group["base_lr"]
        self.network.train()
        tokens, labels = self._on_device(batch)
        loss, right = self.parallel(tokens, labels)
        count = (labels[:, 1:] >= 0).sum()
        self.optimizer.zero_grad(set_to_none=True)
        (loss / count.clamp_min(1)).backward()
        torch.nn.utils.clip_grad_norm_(self.trained.values(), train.clip or math.inf)
        self.optimizer.step()
        window.sums += torch.stack([loss.detach(), right.sum(), count])
        window.tokens += batch.tokens.size
        window.real += batch.real
        processes = self.accelerator.num_processes
        self.progress.step += 1
        self.progress.tokens += batch.tokens.size * processes  # as many on the other processes, nearly

    def _on_device(self, batch: Batch) -> tuple[Tensor, Tensor]:
        both = torch.stack([torch.from_numpy(batch.tokens), torch.from_numpy(batch.labels)])
        if self.device.type == "cuda":
            both = both.pin_memory().to(self.device, non_blocking=True)
        tokens, labels = both.long().unbind()
        return tokens, labels

    def _warm_up(self) -> None:
        """Compile forward and backward, on batches of the sizes that will come; the weights stay as they are."""
        longest = self.config.data.most_tokens if self.config.data.tasks else 256
        for length in (longest, 320, 512) if self.device.type == "cuda" else (64,):
            rows = max(1, self.config.train.tokens // length) if self.device.type == "cuda" else 2
            tokens = torch.randint(0, 10, (rows, length), device=self.device)
            self.network.train()
            loss, _ = self.parallel(tokens, tokens)
            (0 * loss).backward()
        self.optimizer.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.accelerator.wait_for_everyone()

    def evaluate(self) -> Scores:
        """Scores on what is held out; the best weights so far are saved."""
        begun = time.time()
        self.network.eval()
        with torch.inference_mode(), torch.compiler.set_stance("force_eager"):
            scores = self.held_out.score(self.network, self._on_device, self.accelerator)
        self.network.train()
        if self.accelerator.is_main_process:
            self.folder.log(self.progress, scores.as_dict())
            self._say(f"{scores.line()} ({time.time() - begun:.1f} s)")
            if self.progress.step and scores.decisive > self.progress.best:
                self.progress.best = scores.decisive
                self._save("best", scores, state=False)
        return scores

    def _save(self, name: str, scores: Scores, state: bool = True) -> None:
        if self.accelerator.is_main_process:
            optimizer = self.optimizer if state else None
            self.folder.save(name, self.model, self.trained, optimizer, self.progress, scores.as_dict())

    def _report(self, window: Window) -> None:
        loss, right, count = window.sums.tolist()
        if not math.isfinite(loss):
            raise GridModelError(f"step {self.progress.step}: the loss is {loss}; a lower train.lr may help")
        speed = window.tokens * self.accelerator.num_processes / (time.time() - window.since)
        memory = torch.cuda.max_memory_reserved() / 2**30 if self.device.type == "cuda" else 0.0
        figures = {
            "loss": loss / max(count, 1),
            "token_accuracy": right / max(count, 1),
            "lr": self.optimizer.param_groups[0]["lr"],
            "tokens_per_second": speed,
            "real_share": window.real / max(window.tokens, 1),
            "memory_gib": memory,
        }
        self.folder.log(self.progress, figures)
        self._say(
            f"step {self.progress.step} loss {figures['loss']:.4f} token accuracy {figures['token_accuracy']:.4f} "
            f"lr {figures['lr']:.2e} {speed / 1e3:.1f}k tokens/s {memory:.0f} GiB"
        )

    def _say(self, text: str) -> None:
        if self.accelerator.is_main_process:
            print(f"[{self.progress.seconds:.0f} s] {text}", flush=True)

    def _listen(self) -> None:
        """The first SIGTERM or SIGINT ends the run at the next look at the device, with a checkpoint."""

        def stop(number: int, frame: object) -> None:
            self.stopped = True
            signal.signal(number, signal.SIG_DFL)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)


def schedule(train: TrainConfig, step: int, share: float) -> float:
    """The learning rate's factor: warm-up, then 1, then linear to zero over the last `decay` of the horizon."""
    warm = min(1.0, (step + 1) / train.warmup_steps) if train.warmup_steps else 1.0
    return warm * (min(1.0, (1 - share) / train.decay) if train.decay else 1.0)
