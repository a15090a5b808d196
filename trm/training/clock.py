"""The clock of a run, and the metrics that it writes down."""

from __future__ import annotations

import time
from typing import Any

import torch

from trm.training.step import METERS, WARM_UP_STEPS, Learner


class Clock:
    """Takes steps of a learner and counts them, and the seconds of training proper."""

    def __init__(self, captures: bool) -> None:
        """captures: on CUDA, capture a graph at the first step."""
        self.captures = captures
        self.steps, self.seconds = 0, 0.0
        self._previous: torch.cuda.Event | None = None  # the end of the last step on the device

    def step(self, learner: Learner, progress: float) -> None:
        """Take one step and time it. The first steps on CUDA, which compile and capture, are not timed."""
        learner.set_step(self.steps, progress)
        if self.captures and learner.graph is None:
            learner.warm_up(self.steps, progress)
            self.steps += WARM_UP_STEPS
            return
        start = time.perf_counter()
        learner.step()
        if learner.model.device.type == "cuda":
            # The host stays one step ahead of the device, so that the clock is right and the device never waits.
            previous, self._previous = self._previous, torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._previous.record()
            if previous is not None:
                previous.synchronize()
        self.seconds += time.perf_counter() - start
        self.steps += 1

    def pause(self) -> None:
        """Note that other work comes before the next step, so that it does not wait for the last one."""
        self._previous = None


def metrics_line(
    sums: list[float], steps: int, seconds: float, processes: int, clock: Clock, lr: float
) -> dict[str, Any]:
    """A line of metrics.jsonl, from the meters of all processes summed over some steps that took so many seconds."""
    meters, steps = dict(zip(METERS, sums, strict=True)), max(1, steps)
    finished = max(1.0, meters["finished"])
    return {
        "step": clock.steps,
        "seconds": round(clock.seconds, 2),
        "lr": lr,
        **{name: meters[name] / steps / processes for name in ("loss", "cells", "norm")},
        "pool_accuracy": meters["right"] / finished,
        "pool_steps": meters["steps"] / finished,
        "ms_per_step": 1000 * seconds / steps,
    }
