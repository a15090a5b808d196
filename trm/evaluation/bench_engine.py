"""How fast the engine answers a file of puzzles: by batch, beside a fixed batch of as many steps for every puzzle."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, cycle
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trm.checkpoints.format import Checkpoint
from trm.device import resolve_device
from trm.evaluation.bench import INFERENCE_STEPS, peak_tflops
from trm.grid import PuzzleError
from trm.inference.captured import CapturedEngine
from trm.inference.config import SearchConfig
from trm.inference.device_rules import device_rule
from trm.inference.provider import ModelPool, with_kernels
from trm.inference.refiner import Refiner
from trm.inference.rollouts import sigmoid
from trm.inference.slots import Rollout, Trajectory
from trm.inference.state import SolveState
from trm.model.flops import count_flops
from trm.model.network import TRM
from trm.tasks import Puzzle, get
from trm.text import message_line

BATCHES = (1, 16, 64, 128, 384, 1024, 4096, 8192)
FIXED_BATCH = 768  # of the reference implementation's evaluation
SECTIONS = ("file", "table", "single", "company", "exact", "fixed")  # in this order: `file` counts the steps

Figures = dict[str, float]


@dataclass(eq=False)
class EngineBench:
    """Measures a checkpoint's expert on labelled puzzles of one task, section by section.

    say: is told every section's figures as soon as they are known.
    """

    checkpoint: Checkpoint
    puzzles: Sequence[Puzzle]
    device: str = "auto"
    compiled: bool = True  # on CUDA
    seconds: float = 3.0  # of measuring, for every batch
    slots: int = 384  # of the engine that answers the whole file
    singles: int = 40  # puzzles that are answered one at a time
    restarts: int = 32  # of these, at most
    exact: int = 256  # puzzles that float32 answers too
    say: Callable[[str, Mapping[str, float]], None] = lambda section, figures: None

    def __post_init__(self) -> None:
        self.task = get(self.puzzles[0].task)
        if any(len(puzzle.inputs) > 1 or not puzzle.answers for puzzle in self.puzzles):
            raise PuzzleError("expected puzzles of one grid each, with their answers")
        self.compiled &= resolve_device(self.device).startswith("cuda")
        self.pool = ModelPool(self.checkpoint, self.device, self.slots, compiled=self.compiled)
        self.expert = self.pool.expert(self.task.name)
        self.where = torch.device(self.pool.device)
        self.dtype = self.pool.torch_network(self.task.name).dtype
        self.rule = device_rule(self.task)
        self.flop = count_flops(self.expert.config).step
        self.peak = peak_tflops(self.where, self.dtype)
        self.rollouts = [Rollout(self.task.encode_question(puzzle), leaves=True) for puzzle in self.puzzles]
        self.answers = np.stack([self.task.encode_label(puzzle) for puzzle in self.puzzles])
        engine = self.pool.engine(self.task.name)
        self.engine = engine if isinstance(engine, CapturedEngine) else self._engine()
        self.mean_steps = 0.0  # that a puzzle of the file takes

    def run(self, sections: Sequence[str] = SECTIONS, batches: Sequence[int] = BATCHES) -> None:
        """Measure the sections; one that fails says so and the next one begins."""
        self.say("machine", {"peak_tflops": self.peak, "gflop_per_puzzle_step": self.flop / 1e9})
        parts: dict[str, Callable[[], Iterator[Figures]]] = {
            "table": lambda: self.table(batches),
            "file": self.whole_file,
            "company": self.company,
            "single": self.single,
            "exact": self.in_float32,
            "fixed": self.fixed_batch,
        }
        for section in sections:
            begun = time.perf_counter()
            try:
                for figures in parts[section]():
                    self.say(section, {**figures, "took_s": time.perf_counter() - begun})
            except RuntimeError as error:
                self.say(f"{section} failed: {message_line(error)}", {})

    def _engine(self, dtype: torch.dtype | None = None, slots: int = 0) -> CapturedEngine:
        model = self.expert.model(str(self.where), dtype or self.dtype)
        compiled = self.compiled and dtype is None
        return CapturedEngine(with_kernels(model), slots or self.slots, compiled, self.rule)

    def table(self, batches: Sequence[int]) -> Iterator[Figures]:
        """Full slots, each refilled at once. Latency: from asking to the answer, half a batch waiting before it."""
        for batch in batches:
            self.engine.slots = batch
            yield self._stream(batch)
        self.engine.slots = self.slots

    def _stream(self, batch: int) -> Figures:
        service = self.engine.open(batch)
        held, asked, came = service.slots.count, {}, []
        latencies: deque[float] = deque()
        source = cycle(self.rollouts)
        begun, worked, steps, warm = 0.0, 0, 0, False
        for number in count():
            while service.unfinished < held + held // 2:
                asked[service.add_request(next(source), INFERENCE_STEPS)] = time.perf_counter()
            service.step()
            now = time.perf_counter()
            for ticket, run in service.finished():
                latencies.append(now - asked.pop(ticket))
                came.append(run.steps)
            if not warm and number >= 3:  # the first one compiles and captures
                warm, begun, worked, steps = True, time.perf_counter(), service.worked, service.slots.read
                latencies.clear()
            elif warm and now - begun > self.seconds and number >= 3 + INFERENCE_STEPS and latencies:
                break
        seconds = time.perf_counter() - begun
        worked, steps = service.worked - worked, service.slots.read - steps
        service.close()
        tflops, taken = self.flop * worked / seconds / 1e12, self.mean_steps or float(np.mean(came))
        low, high = np.percentile(list(latencies), (50, 95))
        return {
            "batch": batch, "ms_per_step": 1000 * seconds / steps, "filled": worked / steps / held,
            "puzzles_per_second": worked / seconds / taken, "steps_used": taken,
            "tflops": tflops, "share_of_peak": tflops / self.peak,
            "latency_p50_ms": 1000 * float(low), "latency_p95_ms": 1000 * float(high),
        }  # fmt: skip

    def whole_file(self) -> Iterator[Figures]:
        """All puzzles, each until it is answered: twice, for the second time is warm."""
        # The last ones end in smaller buckets. Largest first, for which the compiler then chooses.
        for few in sorted({self.slots, *(size for size in BATCHES if size < self.slots)}, reverse=True):
            self.engine.run(self.rollouts[:few], 1)
        for _ in range(2):
            begun = time.perf_counter()
            runs = self.engine.run(self.rollouts, INFERENCE_STEPS)
            seconds = time.perf_counter() - begun
            steps = [run.steps for run in runs]
            self.mean_steps = float(np.mean(steps))
            tflops = self.flop * sum(steps) / seconds / 1e12
            yield {
                "n": len(steps), "seconds": seconds, "puzzles_per_second": len(steps) / seconds,
                "accuracy": self._accuracy(runs), "steps_used": self.mean_steps, "tflops": tflops,
                "share_of_peak": tflops / self.peak,
            }  # fmt: skip

    def company(self) -> Iterator[Figures]:
        """How far the confidence moves when the same puzzles share their batch with others, or with none."""
        some = self.rollouts[: min(len(self.rollouts), self.slots)]
        together = self.engine.run(some, INFERENCE_STEPS)
        order = np.random.default_rng(0).permutation(len(some))
        mixed = dict(
            zip(order.tolist(), self.engine.run([some[i] for i in order], INFERENCE_STEPS), strict=True)
        )
        few = range(min(16, len(some)))
        alone = [self.engine.run([some[i]], INFERENCE_STEPS)[0] for i in few]
        yield {
            "n": len(some),
            **_differences("mixed", together, [mixed[i] for i in range(len(some))]),
            **_differences("alone", together[: len(few)], alone),
        }

    def single(self) -> Iterator[Figures]:
        """One puzzle at a time, from the puzzle to its verified answer, restarts included."""
        refiner, config = Refiner(self.pool), SearchConfig(steps=INFERENCE_STEPS, restarts=self.restarts)
        times, verified = [], 0
        for turn, puzzle in enumerate((*self.puzzles[:3], *self.puzzles[: self.singles])):
            begun = time.perf_counter()
            (found,) = refiner.search([SolveState(puzzle)], config)
            if turn >= 3:
                times.append(1000 * (time.perf_counter() - begun))
                verified += found.verdict.status.name == "VERIFIED"
        low, high = np.percentile(times, (50, 95))
        yield {
            "n": len(times),
            "verified": verified / len(times),
            "p50_ms": float(low),
            "p95_ms": float(high),
        }

    def in_float32(self) -> Iterator[Figures]:
        """Some of the puzzles in float32 as well."""
        some = self.rollouts[: self.exact]
        half, full = (
            engine.run(some, INFERENCE_STEPS)
            for engine in (self.engine, self._engine(torch.float32, len(some)))
        )
        yield {
            "n": len(some),
            "accuracy": self._accuracy(half),
            "float32_accuracy": self._accuracy(full),
            **_differences("float32", half, full),
        }

    @torch.inference_mode()
    def fixed_batch(self) -> Iterator[Figures]:
        """The reference implementation's way: a compiled network, a fixed batch, as many steps for every puzzle."""
        model, size = self.expert.model(str(self.where), self.dtype), min(FIXED_BATCH, len(self.puzzles))
        if self.compiled:
            model.compile_net()
        tokens = torch.from_numpy(np.stack([one.tokens for one in self.rollouts]))
        tokens = torch.cat((tokens, tokens[: -len(tokens) % size]))
        self._fixed(model, tokens[:size], 1)  # compiles
        begun = time.perf_counter()
        grids = torch.cat([self._fixed(model, part, INFERENCE_STEPS) for part in torch.split(tokens, size)])
        seconds, n = time.perf_counter() - begun, len(self.puzzles)
        tflops = self.flop * len(tokens) * INFERENCE_STEPS / seconds / 1e12
        right = (grids[:n].numpy() == self.answers).all(1)
        yield {
            "n": n, "seconds": seconds, "puzzles_per_second": n / seconds, "accuracy": float(right.mean()),
            "steps_used": float(INFERENCE_STEPS), "tflops": tflops, "share_of_peak": tflops / self.peak,
        }  # fmt: skip

    def _fixed(self, model: TRM, tokens: torch.Tensor, steps: int) -> torch.Tensor:
        config, tokens = model.config, tokens.to(self.where)
        state, draft = model.initial_state(len(tokens)), torch.zeros_like(tokens)
        for _ in range(steps):
            state, out = model.step(state, tokens, None, draft if config.draft else None)
            grids = out.logits.argmax(-1)
            draft = grids if config.feedback else draft
        return grids.cpu()

    def _accuracy(self, runs: Sequence[Trajectory]) -> float:
        """Where the rule accepts a grid, that one is the answer; else the last."""
        right = [
            any((grid == answer).all() for grid in (run.grids if run.accepted else run.grids[-1:]))
            for run, answer in zip(runs, self.answers, strict=False)
        ]
        return float(np.mean(right))


def _differences(name: str, some: Sequence[Trajectory], others: Sequence[Trajectory]) -> Figures:
    """Of two runs of the same puzzles: the largest difference of confidence, and the share of the same grids."""
    one, two = (np.array([run.halts[run.first_halt()] for run in runs]) for runs in (some, others))
    same = [np.array_equal(a.grids[-1], b.grids[-1]) for a, b in zip(some, others, strict=True)]
    moved: NDArray[np.float64] = np.abs(sigmoid(one) - sigmoid(two))
    accepted = np.array([bool(a.accepted and b.accepted) for a, b in zip(some, others, strict=True)])
    return {
        f"{name}_confidence": float(moved.max()),
        f"{name}_confidence_accepted": float(moved[accepted].max(initial=0.0)),
        f"{name}_same": float(np.mean(same)),
    }


def format_figures(section: str, figures: Mapping[str, Any]) -> str:
    """A line for people."""
    return f"{section:8} " + "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
