"""Generated puzzles without end: worker processes make them ahead of need, in the order of their numbers."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from types import TracebackType
from typing import Any

from trm.generate import generate
from trm.tasks import Puzzle

CHUNK = 16  # puzzles a worker makes at a time


class PuzzleStream:
    """The puzzles number start, start + 1, … of a seed (see `generate`), whatever the number of workers.

    workers: processes; 0 leaves one core to the caller, or uses the only one.
    """

    def __init__(
        self, task_name: str, seed: int, options: Mapping[str, Any], start: int = 0, workers: int = 0
    ) -> None:
        generate(task_name, 0, seed, **options)  # a mistake in the options is said here, not by a worker
        self.request = (task_name, seed, dict(options))
        self.next = start
        count = workers or max(1, (os.cpu_count() or 1) - 1)
        # Not forked: a process with CUDA or threads cannot be.
        context = multiprocessing.get_context("spawn")
        self.pool = ProcessPoolExecutor(count, mp_context=context, initializer=_give_way)
        self.ahead = 4 * count  # chunks under way
        self.chunks: deque[Future[list[Puzzle]]] = deque()
        self._order()

    def _order(self) -> None:
        while len(self.chunks) < self.ahead:
            self.chunks.append(self.pool.submit(_make, *self.request, self.next))
            self.next += CHUNK

    def __iter__(self) -> Iterator[Puzzle]:
        """One puzzle after the other, waited for."""
        while True:
            chunk = self.chunks.popleft()
            self._order()
            yield from chunk.result()

    def ready(self) -> list[Puzzle]:
        """The next puzzles as far as they are made, without waiting."""
        puzzles: list[Puzzle] = []
        while self.chunks and self.chunks[0].done():
            puzzles += self.chunks.popleft().result()
        self._order()
        return puzzles

    def close(self) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> PuzzleStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _give_way() -> None:
    """Workers run when nothing else wants the core: training must not wait for them."""
    if hasattr(os, "nice"):
        os.nice(10)


def _make(task_name: str, seed: int, options: dict[str, Any], start: int) -> list[Puzzle]:
    return list(generate(task_name, CHUNK, seed, start, **options))
