"""The puzzles of a training run: read, generated, or generated without end by worker processes, ahead of need."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from itertools import islice
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

import numpy as np

from trm.config import ConfigError
from trm.data.config import DataConfig
from trm.data.datasets import labelled, puzzles_of
from trm.data.generate import generate
from trm.progress import bar
from trm.tasks import Puzzle, Task, get
from trm.tasks.maze.solver import shortest_path

CHUNK = 16  # puzzles a worker makes at a time
# Whether a worker may end at once: while it makes puzzles. Of a result half handed over the rest would be waited for.
_MAY_END = threading.Semaphore(0)


class PuzzleStream:
    """The puzzles number start, start + 1, … of a seed (see `generate`), whatever the number of workers.

    workers: processes; 0 leaves one core to the caller, or uses the only one. avoid: puzzles that are left out.
    """

    def __init__(
        self,
        task_name: str,
        seed: int,
        options: Mapping[str, Any],
        start: int = 0,
        workers: int = 0,
        avoid: Sequence[Puzzle] = (),
    ) -> None:
        self.avoid = {_key(puzzle) for puzzle in avoid}
        generate(task_name, 0, seed, **options)  # a mistake in the options is said here, not by a worker
        self.request = (task_name, seed, dict(options))
        self.next = start
        count = workers or max(1, (os.cpu_count() or 1) - 1)
        # Not forked: a process with CUDA or threads cannot be.
        context = multiprocessing.get_context("spawn")
        # The end that workers do not have closes with the stream, or with this process however that ends.
        heard, self.lifeline = context.Pipe(duplex=False)
        self.pool = ProcessPoolExecutor(count, mp_context=context, initializer=_begin, initargs=(heard,))
        self.ahead = 4 * count  # chunks under way
        self.chunks: deque[Future[list[Puzzle]]] = deque()
        self._order()

    def _order(self) -> None:
        with _unheard():  # workers begin when there is something for them
            while len(self.chunks) < self.ahead:
                self.chunks.append(self.pool.submit(_make, *self.request, self.next))
                self.next += CHUNK

    def __iter__(self) -> Iterator[Puzzle]:
        """One puzzle after the other, waited for."""
        while True:
            chunk = self.chunks.popleft()
            self._order()
            yield from self._wanted(chunk)

    def ready(self) -> list[Puzzle]:
        """The next puzzles as far as they are made, without waiting."""
        puzzles: list[Puzzle] = []
        while self.chunks and self.chunks[0].done():
            puzzles += self._wanted(self.chunks.popleft())
        self._order()
        return puzzles

    def _wanted(self, chunk: Future[list[Puzzle]]) -> list[Puzzle]:
        return [puzzle for puzzle in chunk.result() if _key(puzzle) not in self.avoid]

    def close(self) -> None:
        """End the workers, whatever they are at: nobody knows how long a rare puzzle takes."""
        self.lifeline.close()
        self.pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> PuzzleStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def _unheard() -> Iterator[None]:
    """Ctrl-C waits, and processes begun meanwhile never hear it: before `_begin` it would cost them a traceback."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(lifeline: Connection) -> None:
    """Workers run when nothing else wants the core: training must not wait for them. Ctrl-C is for their parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    if hasattr(os, "nice"):
        os.nice(10)


def _end_with(lifeline: Connection) -> None:
    """End this worker once the other end is closed: at once if nobody is left to hand anything over to."""
    with suppress(OSError):  # on Windows, of an end that was closed before
        lifeline.poll(None)
    parent = multiprocessing.parent_process()
    while not _MAY_END.acquire(timeout=0.1) and parent is not None and parent.is_alive():
        pass
    os._exit(0)


def _make(task_name: str, seed: int, options: dict[str, Any], start: int) -> list[Puzzle]:
    _MAY_END.release()
    try:
        return list(generate(task_name, CHUNK, seed, start, **options))
    finally:
        _MAY_END.acquire()


def training_puzzles(config: DataConfig, seed: int) -> tuple[list[Puzzle], list[Puzzle]]:
    """Training and held-out puzzles of a run. What is held out is never trained on.

    Of tasks that are shown by demonstrations (ARC) the network learns the demonstrations, and the tests of the
    first `held_out_size` tasks are what is held out.
    """
    task, size = get(config.task), config.held_out_size
    if config.relabel and task.labels_equivariant:
        raise ConfigError(
            f"[data] relabel: the labels of {task.name} turn with it, which is what augment does"
        )
    if config.relabel and config.stream:
        raise ConfigError("[data] relabel: puzzles that others replace are not turned, expected stream = 0")
    if not task.has_demonstrations and (config.color_permutation_prob != 1 or config.balance):
        raise ConfigError(f"[data] color_permutation_prob, balance: {task.name} has no demonstrations")
    if config.train:
        puzzles = labelled(config.train, task.name, config.limit)
    elif config.generate:
        count = config.generate + (0 if config.held_out or task.has_demonstrations else size)
        options, puzzles = _tuples(config.options), []
        with ExitStack() as stack:
            made = (
                islice(stack.enter_context(PuzzleStream(task.name, seed, options)), count)
                if config.stream
                else generate(task.name, count, seed, **options)
            )
            tick = stack.enter_context(bar("generating", count))
            for puzzle in made:
                puzzles.append(puzzle)
                tick(len(puzzles))
    else:
        raise ConfigError("[data]: give train (a file or hub:ID) or generate (a number)")
    if config.exclude:
        puzzles = without(puzzles, puzzles_of(config.exclude, task.name))
        if not puzzles:
            raise ConfigError(f"[data] exclude: {config.exclude} holds everything there is to learn")
    if task.has_demonstrations:
        # The same task out of two sources (ARC-AGI-2 holds most of ARC-AGI-1's) is one to learn, as the first has it.
        first: dict[str, Puzzle] = {}
        for puzzle in puzzles:
            first.setdefault(puzzle.id, puzzle)
        puzzles = list(first.values())
        if config.held_out:
            raise ConfigError(f"[data] held_out: {task.name} holds out the tests of the tasks that it learns")
        return puzzles, [p for p in puzzles if p.answers is not None][:size]
    if config.held_out:
        held_out = labelled(config.held_out, task.name, size)
        seen = {_key(p) for p in puzzles}
        if both := sum(_key(p) in seen for p in held_out):
            held_out = [p for p in held_out if _key(p) not in seen]
            if not held_out:
                raise ConfigError(f"[data] held_out: all {both} puzzles are trained on as well")
        return _turned(task, puzzles) if config.relabel else puzzles, held_out
    if size >= len(puzzles):
        raise ConfigError(
            f"[data] held_out_size {size}, expected less than the {len(puzzles)} puzzles there are"
        )
    order = np.random.default_rng(seed).permutation(len(puzzles))
    train, held_out = [puzzles[i] for i in order[size:]], [puzzles[i] for i in order[:size]]
    return _turned(task, train) if config.relabel else train, held_out


def _turned(task: Task, puzzles: list[Puzzle]) -> list[Puzzle]:
    """Each maze under all turns that it has, with the label that each has by the convention of the given ones.

    Raises ConfigError where those follow another.
    """
    made = []
    for puzzle in puzzles:
        found = shortest_path(puzzle.grid)
        if found is None or puzzle.answers is None or not np.array_equal(found, puzzle.answers[0]):
            raise ConfigError(
                f"[data] relabel: {puzzle.id or 'a maze'} has another label than the search of trm.exact finds"
            )
        for symmetry in task.symmetries(puzzle.grid.shape).without_renaming():
            grid = symmetry.forward(puzzle.grid)
            label = shortest_path(grid)
            assert label is not None
            made.append(replace(puzzle, inputs=(grid,), answers=(label,)))
    return made


def endless(
    config: DataConfig, seed: int, done_steps: int = 0, held_out: Sequence[Puzzle] = ()
) -> PuzzleStream | None:
    """What a run that streams goes on with: puzzles after those of `training_puzzles`, others after a resume.

    With `config.train` they are near its puzzles, but for those that are held out.
    """
    if not config.stream:
        return None
    options = _tuples(config.options)
    if config.train:
        question = get(config.task).question_text
        options |= {"like": config.train, "exclude": tuple(question(puzzle) for puzzle in held_out)}
    start = config.generate + config.held_out_size
    return PuzzleStream(config.task, seed, options, start + (done_steps << 20), avoid=held_out)


def without(puzzles: Sequence[Puzzle], others: Sequence[Puzzle]) -> list[Puzzle]:
    """The puzzles that are not among the others: neither by any question, nor by any pair of grids, nor as tasks by
    their id, which for other puzzles may be no more than a place in a file.
    """
    ids, known = {p.id for p in others if p.demos}, {mark for p in others for mark in _marks(p)}
    return [p for p in puzzles if p.id not in ids and not known & set(_marks(p))]


def _marks(puzzle: Puzzle) -> Iterator[tuple[bytes, ...]]:
    """What makes a puzzle the same: its question, or with demonstrations any pair of its grids."""
    if not puzzle.demos:
        yield _key(puzzle)
    tests = zip(puzzle.inputs, puzzle.answers or (), strict=False)
    for pair in (*puzzle.demos, *(tests if puzzle.demos else ())):
        yield tuple(grid.tobytes() + bytes(grid.shape) for grid in pair)


def _key(puzzle: Puzzle) -> tuple[bytes, ...]:
    return tuple(grid.tobytes() for grid in puzzle.inputs)


def _tuples(options: dict[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}
