"""How fast this machine trains and infers, against what it could do by counting."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from trm.checkpoints.format import CheckpointError
from trm.config import ConfigError
from trm.inference.engine import Engine, Rollout
from trm.inference.provider import usable
from trm.model import kernels
from trm.model.flops import count_flops
from trm.model.network import TRM
from trm.tasks import get
from trm.training.config import Config, load_config
from trm.training.step import within_memory

WARM_UP, REPEATS = 5, 20


def peak_tflops(device: torch.device, dtype: torch.dtype) -> float:
    """What a large matrix product reaches on this device, in random data: the yardstick."""
    side = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / median_seconds(lambda: a @ b, device) / 1e12


def median_seconds(work: Callable[[], Any], device: torch.device, repeats: int = REPEATS) -> float:
    """Median wall-clock seconds of `work`, warmed up, device finished."""

    def finish() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    for _ in range(WARM_UP if device.type == "cuda" else 1):
        work()
    times = []
    for _ in range(repeats if device.type == "cuda" else 3):
        finish()
        start = time.perf_counter()
        work()
        finish()
        times.append(time.perf_counter() - start)
    return median(times)


def _settings(path: Path | None, overrides: list[str]) -> Config:
    if path is None:
        from importlib import resources

        try:
            path = Path(str(resources.files("trm.configs") / "tiny.toml"))
        except ModuleNotFoundError:  # a plain checkout on the path, nothing installed
            path = Path(__file__).parent.parent / "configs" / "tiny.toml"
    return load_config(path, overrides)


@within_memory()
def bench_train(path: Path | None, overrides: list[str], device: str = "auto") -> dict[str, Any]:
    """Whole training steps of a configuration on made-up puzzles: milliseconds, TFLOP, share of the peak."""
    from trm.training.trainer import Trainer

    config = _settings(path, overrides)
    config = replace(config, train=replace(config.train, seconds=0.0, steps=10**6))
    puzzles = get(config.data.task).samples()
    trainer = Trainer(config, Path(), puzzles, [], device)
    learner, where = trainer.learner, trainer.learner.model.device
    dtype = learner.model.dtype
    trainer.advance(0.0)  # compiles and captures the graph on CUDA

    def step() -> None:
        learner.set_step(1000, 0.1)
        learner.step()

    seconds = median_seconds(step, where)
    tflop = count_flops(config.model).training_step * config.train.batch / 1e12
    return _report(config, learner.model, seconds, tflop, peak_tflops(where, dtype), config.train.batch)


@within_memory()
def bench_infer(path: Path | None, overrides: list[str], device: str = "auto") -> dict[str, Any]:
    """Supervision steps of the engine over full slots: milliseconds a step, puzzles a second at 16 steps."""
    config = _settings(path, overrides)
    if any(text.startswith("train.batch=") for text in overrides):
        raise ConfigError(
            "train.batch: of training alone; inference runs as many puzzles as its engine has slots"
        )
    try:
        where = torch.device(usable(device))
    except CheckpointError as error:
        raise ConfigError(str(error)) from None
    model = TRM(config.model).to(where).eval()
    model.dtype = torch.bfloat16 if config.train.computes_in_bf16(where.type) else torch.float32
    kernels.use(config.train.kernels, model)
    engine = Engine(model)
    task = get(config.data.task)
    tokens = task.encode_question(task.samples()[0])
    steps = 4
    seconds = median_seconds(lambda: engine.run([Rollout(tokens)] * engine.slots, steps), where) / steps
    tflop = count_flops(config.model).step * engine.slots / 1e12
    report = _report(config, model, seconds, tflop, peak_tflops(where, model.dtype), engine.slots)
    return {**report, "puzzles_per_second": engine.slots / (16 * seconds)}


def _report(
    config: Config, model: TRM, seconds: float, tflop: float, peak: float, batch: int
) -> dict[str, Any]:
    device = model.device
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "dtype": str(model.dtype).removeprefix("torch."),
        "mixer": config.model.mixer,
        "cycles": f"T{config.model.h_cycles} n{config.model.l_cycles}",
        "kernels": "fused" if kernels.fused(model) else "plain",
        "batch": batch,
        "ms_per_step": 1000 * seconds,
        "tflop_per_step": tflop,
        "tflops": tflop / seconds,
        "peak_tflops": peak,
        "share_of_peak": tflop / seconds / peak,
        "puzzle_steps_per_second": batch / seconds,
    }
