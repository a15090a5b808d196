"""The processes of a training run: what they add up, share out and agree on; and CUDA graphs of a step with them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import chain
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from trm.device import GRAPH_CAPTURE_LOCK

T = TypeVar("T")
# The old name, which PyTorch before 2.13 has, warns in later versions.
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
# How long processes wait for each other on the host: the main process alone evaluates.
PATIENCE = timedelta(hours=12)


class Processes:
    """Process number `index` of `count`; with one, every method is free of communication.

    Tensors on the device go through the default process group, and nothing else does, so that graphs can hold its
    collectives. Values of the host go through a group of their own, so that no process waits for its device.
    """

    def __init__(self, count: int = 1, index: int = 0) -> None:
        """count, index: as the default process group has them, which must exist if there are several."""
        self.count, self.index = count, index
        self.host = dist.new_group(backend="gloo", timeout=PATIENCE) if count > 1 else None
        self.capture: Capture | None = None  # under way

    def add_up(self, values: Tensor) -> Callable[[], object]:
        """Begin to replace the values by their sums over all processes. What is returned waits for that."""
        if self.count == 1:
            return lambda: None
        if self.capture is not None and self.capture.splits:
            self.capture.split(lambda: dist.all_reduce(values))
            return lambda: None
        work = dist.all_reduce(values, async_op=True)
        return work.wait  # type: ignore[no-any-return]

    def join(self, whole: Tensor, own: Tensor) -> None:
        """Fill `whole` [count, n] with what each process has in `own` [n]."""

        def gather() -> None:
            _all_gather(whole.view(-1), own)

        if self.capture is not None and self.capture.splits:
            self.capture.split(gather)
        else:
            gather()

    def of_main(self, values: Sequence[float]) -> list[float]:
        """The main process's values, on every process."""
        if self.host is None:
            return list(values)
        told = torch.tensor(values, dtype=torch.float64)
        dist.broadcast(told, 0, group=self.host)
        return told.tolist()

    def total(self, values: Tensor) -> list[float]:
        """The sums of the values [n] over all processes. Waits for the device."""
        on_host = values.to("cpu", copy=True)
        if self.host is not None:
            dist.all_reduce(on_host, group=self.host)
        return on_host.tolist()

    def least(self, value: int) -> int:
        """The smallest value that a process has."""
        if self.host is None:
            return value
        told = torch.tensor(value)
        dist.all_reduce(told, dist.ReduceOp.MIN, group=self.host)
        return int(told)

    def interleaved(self, items: Sequence[T]) -> list[T]:
        """The first item of every process, in their order, then the second of every, … All have as many."""
        if self.host is None:
            return list(items)
        everyones: list[list[T]] = [[] for _ in range(self.count)]
        dist.all_gather_object(everyones, list(items), group=self.host)
        return list(chain.from_iterable(zip(*everyones, strict=True)))

    def gathered(self, values: Tensor) -> list[Tensor] | None:
        """The tensors of all processes, of one shape, on the main process and its host; None elsewhere."""
        own = values.cpu().contiguous()
        if self.host is None:
            return [own]
        flat = own.flatten().view(torch.uint8)  # gloo does not know all types
        everyones = [torch.empty_like(flat) for _ in range(self.count)] if self.index == 0 else None
        dist.gather(flat, everyones, group=self.host)
        return None if everyones is None else [b.view(own.dtype).view(own.shape) for b in everyones]

    def wait(self) -> None:
        """Until every process is here."""
        if self.host is not None:
            dist.barrier(self.host)

    def close(self) -> None:
        """End the process groups."""
        if self.count > 1:
            dist.destroy_process_group()


class Capture:
    """A step captured in a CUDA graph, collectives included; `replay` repeats it.

    splits: several graphs, with the collectives between them and in none, for drivers or networks that cannot have
    them in a graph; set TRM_COLLECTIVES=between. All memory that a step takes is in one pool, which its graphs share.
    """

    def __init__(
        self, generator: torch.Generator, processes: Processes, stream: torch.cuda.Stream | None = None
    ) -> None:
        """generator: random numbers that the step draws. stream: where to capture; None: PyTorch's own."""
        self.generator, self.processes, self.stream = generator, processes, stream
        self.splits = processes.count > 1 and os.environ.get("TRM_COLLECTIVES", "inside") == "between"
        self.parts: list[Callable[[], object]] = []
        self._pool = torch.cuda.graph_pool_handle() if self.splits else None

    def record(self, step: Callable[[], None]) -> None:
        self.processes.capture = self
        try:
            with GRAPH_CAPTURE_LOCK:
                self._begin()
                try:
                    step()
                finally:
                    self._end()
        finally:
            self.processes.capture = None

    def _begin(self) -> None:
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.generator)
        # "thread_local": NCCL's watchdog thread may ask for its events meanwhile.
        self._graph = torch.cuda.graph(
            graph, pool=self._pool, stream=self.stream, capture_error_mode="thread_local"
        )
        self._graph.__enter__()
        self.parts.append(graph.replay)

    def _end(self) -> None:
        self._graph.__exit__(None, None, None)

    def split(self, collective: Callable[[], object]) -> None:
        """End the graph, have the collective follow it, and begin another graph."""
        self._end()
        self.parts.append(collective)
        self._begin()

    def replay(self) -> None:
        for part in self.parts:
            part()


def flat_gradients(params: Sequence[torch.nn.Parameter]) -> Tensor:
    """One tensor with the gradients of all parameters; from now on each parameter's `grad` is a view of it.

    Parameters that have no gradient yet, which a network does not use, keep none.
    """
    learned = [(p, p.grad) for p in params if p.grad is not None]
    flat = torch.cat([grad.flatten() for _, grad in learned])
    parts = torch.split(flat, [grad.numel() for _, grad in learned])
    for (param, grad), part in zip(learned, parts, strict=True):
        param.grad = part.view_as(grad)
    return flat
