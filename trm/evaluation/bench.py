"""How fast this machine trains and infers, beside what it could reach."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path

import torch
from torch.utils.benchmark import Timer

from trm.config import ConfigError
from trm.device import resolve_device
from trm.inference.engine import Engine
from trm.inference.slots import Rollout
from trm.model import kernels
from trm.model.flops import count_flops
from trm.model.network import TRM
from trm.tasks import get
from trm.training.config import Config, load_config
from trm.training.setup import within_memory
from trm.training.trainer import Trainer

INFERENCE_STEPS = 16  # supervision steps of an answer


# The speed of a step. peak_tflops is measured, with a large matrix product in random data; puzzles_per_second is of
# inference alone, at INFERENCE_STEPS.
Benchmark = dict[str, str | float]


def peak_tflops(device: torch.device, dtype: torch.dtype) -> float:
    """TFLOP/s of a large matrix product of random numbers."""
    side = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / median_seconds(lambda: a @ b) / 1e12


def median_seconds(work: Callable[[], object]) -> float:
    """Median wall-clock seconds of `work`, after warming up and until the device has finished."""
    timer = Timer("work()", globals={"work": work}, num_threads=torch.get_num_threads())
    return float(timer.blocked_autorange(min_run_time=0.5).median)


def _config(path: Path | None, overrides: Sequence[str]) -> Config:
    if path is None:
        try:
            path = Path(str(resources.files("trm.configs") / "tiny.toml"))
        except ModuleNotFoundError:  # a checkout that is not installed
            path = Path(__file__).parent.parent.parent / "configs" / "tiny.toml"
    return load_config(path, overrides)


@within_memory()
def bench_train(path: Path | None, overrides: Sequence[str], device: str = "auto") -> Benchmark:
    """Whole training steps of a configuration, on the task's bundled puzzles. path: None for configs/tiny.toml."""
    config = _config(path, overrides)
    config = replace(config, train=replace(config.train, seconds=0.0, steps=10**6))
    trainer = Trainer(config, Path(), get(config.data.task).samples(), [], device)
    model = trainer.learner.model
    # The first step compiles and captures the graph on CUDA.
    seconds = median_seconds(lambda: trainer.advance(0.1))
    return _benchmark(model, seconds, count_flops(config.model).training_step, config.train.batch)


@within_memory()
def bench_infer(path: Path | None, overrides: Sequence[str], device: str = "auto") -> Benchmark:
    """Supervision steps of the engine with full slots. path: None for configs/tiny.toml."""
    config = _config(path, overrides)
    if any(text.startswith("train.batch=") for text in overrides):
        raise ConfigError("train.batch: for training alone; inference fills all slots of the engine")
    where = torch.device(resolve_device(device))
    model = TRM(config.model).to(where).eval()
    model.dtype = torch.bfloat16 if config.train.computes_in_bf16(where.type) else torch.float32
    kernels.use(config.train.kernels, model)
    engine, task, steps = Engine(model), get(config.data.task), 4
    rollouts = [Rollout(task.encode_question(task.samples()[0]))] * engine.slots
    seconds = median_seconds(lambda: engine.run(rollouts, steps)) / steps
    result = _benchmark(model, seconds, count_flops(config.model).step, engine.slots)
    return {**result, "puzzles_per_second": engine.slots / (INFERENCE_STEPS * seconds)}


def _benchmark(model: TRM, seconds: float, flop_per_puzzle: float, batch: int) -> Benchmark:
    device, config = model.device, model.config
    tflop, peak = flop_per_puzzle * batch / 1e12, peak_tflops(device, model.dtype)
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "dtype": str(model.dtype).removeprefix("torch."),
        "mixer": config.mixer,
        "cycles": f"T{config.h_cycles} n{config.l_cycles}",
        "kernels": "fused" if kernels.fused(model) else "plain",
        "batch": batch,
        "ms_per_step": 1000 * seconds,
        "tflop_per_step": tflop,
        "tflops": tflop / seconds,
        "peak_tflops": peak,
        "share_of_peak": tflop / seconds / peak,
        "puzzle_steps_per_second": batch / seconds,
    }
