"""The puzzles of a training run: read, generated, or generated without end by worker processes, ahead of need."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from itertools import islice, takewhile
from multiprocessing.connection import Connection

import numpy as np

from trm.config import ConfigError
from trm.data.config import DataConfig, refuse
from trm.data.datasets import labelled, puzzles_of
from trm.data.generate import generate, options_of
from trm.progress import bar
from trm.tasks import Puzzle, Task, get
from trm.tasks.registry import solver_of

CHUNK = 16  # puzzles that a worker generates at a time
# A worker may end at once only while it generates: the parent would wait for the rest of a half-sent result.
_GENERATING = threading.Semaphore(0)


class PuzzleStream:
    """The puzzles number start, start + 1, … of a seed (see `generate`), the same for any number of workers.

    workers: processes; 0 means one for each core but one. avoid: puzzles that are left out. process: of several
    `processes` that train together, each of which has a stream; it generates every `processes`-th chunk.
    """

    def __init__(
        self,
        task_name: str,
        seed: int,
        options: Mapping[str, object],
        start: int = 0,
        workers: int = 0,
        avoid: Sequence[Puzzle] = (),
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self._avoid = avoid
        # Raises for a mistake in the options, before workers start.
        generate(task_name, 0, seed, 0, **options)
        self._request = (task_name, seed, dict(options))
        self._next, self._stride = start + process * CHUNK, processes * CHUNK
        # `accelerate launch` and torchrun say how many processes of the run share this machine's cores.
        cores = (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
        count = workers or max(1, cores - 1)
        context = multiprocessing.get_context("spawn")  # a process with CUDA or threads cannot be forked
        # The sending end closes with the stream, or with this process however that ends. Then the workers end.
        receiver, self._lifeline = context.Pipe(duplex=False)
        self._pool = ProcessPoolExecutor(count, context, _start_worker, (receiver,))
        self._most_chunks = 4 * count
        self._chunks: deque[Future[list[Puzzle]]] = deque()
        self._request_chunks()

    def _request_chunks(self) -> None:
        with _interrupts_blocked():  # submitting starts the workers
            while len(self._chunks) < self._most_chunks:
                self._chunks.append(self._pool.submit(_generate_chunk, *self._request, self._next))
                self._next += self._stride

    def __iter__(self) -> Iterator[Puzzle]:
        """The puzzles in order, waiting for each."""
        while True:
            chunk = self._chunks.popleft()
            self._request_chunks()
            yield from self._wanted(chunk)

    def count_ready(self) -> int:
        """How many of the next chunks are generated."""
        return sum(1 for _ in takewhile(Future.done, self._chunks))

    def take(self, count: int) -> list[list[Puzzle]]:
        """The next chunks of puzzles; no waiting for `count_ready` of them."""
        chunks = [self._wanted(self._chunks.popleft()) for _ in range(count)]
        self._request_chunks()
        return chunks

    def _wanted(self, chunk: Future[list[Puzzle]]) -> list[Puzzle]:
        return without(chunk.result(), self._avoid)

    def close(self) -> None:
        """End the workers without waiting for what they generate: a rare puzzle may take arbitrarily long."""
        self._lifeline.close()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> PuzzleStream:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Block SIGINT while workers start: until `_start_worker` ignores it, Ctrl-C prints a traceback for each."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(lifeline: Connection) -> None:
    """Workers have the lowest priority, so that training does not wait for a core; the parent handles Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()
    if hasattr(os, "nice"):
        os.nice(10)


def _end_with(lifeline: Connection) -> None:
    """End this worker once the parent's end is closed; if the parent is gone, even in the middle of a result."""
    with suppress(OSError):  # Windows raises it for an end that was closed before
        lifeline.poll(None)
    parent = multiprocessing.parent_process()
    while not _GENERATING.acquire(timeout=0.1) and parent is not None and parent.is_alive():
        pass
    os._exit(0)


def _generate_chunk(task_name: str, seed: int, options: dict[str, object], start: int) -> list[Puzzle]:
    _GENERATING.release()
    try:
        return list(generate(task_name, CHUNK, seed, start, **options))
    finally:
        _GENERATING.acquire()


def training_puzzles(config: DataConfig, seed: int) -> tuple[list[Puzzle], list[Puzzle]]:
    """The training puzzles and the held-out puzzles of a run, which are never trained on. Raises ConfigError.

    Of a task with demonstrations (ARC) the network learns the demonstrations of all puzzles, and the tests of the
    first `held_out_size` are held out.
    """
    task, size = get(config.task), config.held_out_size
    _check(config, task)
    refuse(not (config.train or config.generate), "give train (a file or hub:ID) or generate (a number)")
    source = config.train
    puzzles = labelled(source, task.name, config.limit) if source else _generated(config, task, seed)
    if config.exclude:
        puzzles = without(puzzles, puzzles_of(config.exclude, task.name))
        refuse(not puzzles, f"exclude: {config.exclude} holds everything there is to learn")
    if task.has_demonstrations:
        # A task of two sources (ARC-AGI-2 has most of ARC-AGI-1's) is learned once, as the first source has it.
        first = {puzzle.id: puzzle for puzzle in reversed(puzzles)}
        train = [puzzle for puzzle in puzzles if puzzle is first[puzzle.id]]
        return train, [puzzle for puzzle in train if puzzle.answers is not None][:size]
    if config.held_out:
        train, held_out = puzzles, without(labelled(config.held_out, task.name, size), puzzles)
        refuse(not held_out, "held_out: all of its puzzles are trained on as well")
    else:
        there = f"the {len(puzzles)} puzzles there are"
        refuse(size >= len(puzzles), f"held_out_size {size}, expected less than {there}")
        order = np.random.default_rng(seed).permutation(len(puzzles))
        train, held_out = [puzzles[i] for i in order[size:]], [puzzles[i] for i in order[:size]]
    return _relabelled(task, train) if config.relabel else train, held_out


def _check(config: DataConfig, task: Task) -> None:
    """Raise ConfigError for what the configuration asks of a task that does not have it."""
    relabel, shown, name = config.relabel, task.has_demonstrations, task.name
    words = f"relabel: the labels of {name} are equivariant, expected augment = true instead"
    refuse(relabel and task.labels_equivariant, words)
    words = "relabel: puzzles that new ones replace are not relabelled, expected stream = 0"
    refuse(relabel and config.stream, words)
    words = f"color_permutation_prob, balance: they are for demonstrations, which {name} does not have"
    refuse(not shown and (config.color_permutation_prob != 1 or config.balance), words)
    words = f"held_out: of {name} the tests of the training tasks are held out"
    refuse(shown and config.held_out, words)
    words = f"stream: {name} has no generator of puzzles like those of `train`"
    refuse(config.stream and config.train and "like" not in options_of(task), words)


def _generated(config: DataConfig, task: Task, seed: int) -> list[Puzzle]:
    """As many generated puzzles as are trained on and held out, with a progress bar."""
    count = config.generate + (0 if config.held_out or task.has_demonstrations else config.held_out_size)
    puzzles: list[Puzzle] = []
    stream = PuzzleStream(task.name, seed, config.options) if config.stream else nullcontext()
    with stream as source, bar("generating", count) as tick:
        for puzzle in islice(source or generate(task.name, count, seed, 0, **config.options), count):
            puzzles.append(puzzle)
            tick(len(puzzles))
    return puzzles


def _relabelled(task: Task, puzzles: list[Puzzle]) -> list[Puzzle]:
    """Each puzzle under each of its symmetries, with the label that the task's solver finds.

    Raises ConfigError if the given labels are not the solver's: then they break ties in another way.
    """
    solve, relabelled = solver_of(task), []
    if solve is None:
        raise ConfigError(f"[data] relabel: {task.name} has no solver")
    for puzzle in puzzles:
        found, answers = solve(puzzle), puzzle.answers
        same = found and answers and all(map(np.array_equal, found, answers))
        refuse(not same, f"relabel: {puzzle.id or task.name} has another label than the solver's")
        for symmetry in task.symmetries(puzzle.grid.shape).without_renaming():
            moved = replace(puzzle, inputs=(symmetry.forward(puzzle.grid),))
            relabelled.append(replace(moved, answers=solve(moved)))
    return relabelled


def puzzle_stream(
    config: DataConfig,
    seed: int,
    done_steps: int = 0,
    held_out: Sequence[Puzzle] = (),
    process: int = 0,
    processes: int = 1,
) -> PuzzleStream | None:
    """The stream of puzzles that follow those of `training_puzzles`, other ones after a resume; None without one.

    With `config.train` they are like its puzzles, except for those that are held out. process, processes: as in
    `PuzzleStream`.
    """
    if not config.stream:
        return None
    options = config.options
    if config.train:
        question = get(config.task).question_text
        options = options | {"like": config.train, "exclude": tuple(question(puzzle) for puzzle in held_out)}
    start = config.generate + config.held_out_size + (done_steps << 20)
    return PuzzleStream(
        config.task, seed, options, start, avoid=held_out, process=process, processes=processes
    )


def without(puzzles: Sequence[Puzzle], others: Sequence[Puzzle]) -> list[Puzzle]:
    """The puzzles that are not among the others, by their question.

    Puzzles with demonstrations are the same if they share their id or any pair of grids. The id of other puzzles may
    be only their place in a file.
    """
    ids, known = {p.id for p in others if p.demos}, set().union(*map(_identifying_keys, others))
    return [p for p in puzzles if p.id not in ids and not known & _identifying_keys(p)]


def _identifying_keys(puzzle: Puzzle) -> set[tuple[bytes, ...]]:
    """The puzzle's question, or of one with demonstrations every pair of its grids."""
    tests = zip(puzzle.inputs, puzzle.answers or (), strict=False)
    groups = (*puzzle.demos, *tests) if puzzle.demos else (puzzle.inputs,)
    return {tuple(grid.tobytes() + bytes(grid.shape) for grid in grids) for grids in groups}
