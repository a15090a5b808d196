"""Training data: tasks and puzzles from files, drawn as episodes, sorted by length and padded to batches."""

from __future__ import annotations

import csv
import gzip
import json
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from hybrid.llm.grid.episodes import (
    IGNORE,
    TURNS,
    Episode,
    Pair,
    View,
    choose_pairs,
    draw_colors,
    draw_view,
    episode,
    maze_cells,
    puzzle_episode,
    sudoku_cells,
)
from hybrid.llm.grid.vocabulary import LARGEST_SIDE, PADDING
from hybrid.llm.tuning.config import DataConfig
from trm.config import ConfigError

MULTIPLE = 64  # lengths are padded to multiples of it
EXTRA_CONTEXT = 2048  # tokens of a held-out task beyond an episode's


@dataclass(frozen=True)
class ArcTask:
    """Pairs of a task's demonstrations and of its tests."""

    name: str
    train: list[Pair]
    test: list[Pair]


@dataclass(frozen=True)
class Puzzles:
    """Questions and answers of one kind as cell tokens, and whether digits and places may be exchanged (Sudoku)."""

    questions: list[NDArray[np.int64]]
    answers: list[NDArray[np.int64]]
    symmetric: bool

    def split(self, held_out: int) -> tuple[Puzzles, Puzzles]:
        """All but the last `held_out` puzzles, and those."""
        cut = len(self.questions) - held_out
        if cut < 1:
            raise ConfigError(
                f"[data] held_out_puzzles {held_out}: expected fewer than the {len(self.questions)} puzzles"
            )
        first = Puzzles(self.questions[:cut], self.answers[:cut], self.symmetric)
        return first, Puzzles(self.questions[cut:], self.answers[cut:], self.symmetric)

    def episodes(self) -> list[Episode]:
        """Every puzzle as it is."""
        return [puzzle_episode(q, a) for q, a in zip(self.questions, self.answers, strict=True)]


@dataclass(frozen=True)
class Batch:
    """tokens, labels: [B, T]. real: tokens that are no padding. No tensors: workers pass those as open files."""

    tokens: NDArray[np.int16]
    labels: NDArray[np.int16]
    real: int


def read_tasks(file: Path) -> list[ArcTask]:
    """ARC tasks of a .json or .json.gz file in the public form. Raises ConfigError."""
    try:
        text = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        return [
            ArcTask(name, *map(_pairs, (task["train"], task["test"])))
            for name, task in json.loads(text).items()
        ]
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{file}: expected ARC tasks with answers in the public form ({error!r})") from None


def _pairs(pairs: list[dict[str, list[list[int]]]]) -> list[Pair]:
    return [
        (np.array(pair["input"], dtype=np.uint8), np.array(pair["output"], dtype=np.uint8)) for pair in pairs
    ]


def read_puzzles(files: Sequence[Path], kind: str) -> Puzzles:
    """Sudokus or mazes of CSV files with the columns question and answer. Raises ConfigError."""
    cells = []
    for file in files:
        try:
            with file.open(newline="", encoding="utf-8") as stream:
                rows = [(row["question"], row["answer"]) for row in csv.DictReader(stream)]
            cells += [(_cells(question, kind), _cells(answer, kind)) for question, answer in rows]
        except OSError as error:
            raise ConfigError(f"{file}: {error.strerror or error}") from None
        except (KeyError, ValueError) as error:
            raise ConfigError(
                f"{file}: expected {kind} puzzles in columns question and answer ({error!r})"
            ) from None
    return Puzzles(
        [question for question, _ in cells], [answer for _, answer in cells], symmetric=kind == "sudoku"
    )


def _cells(text: str, kind: str) -> NDArray[np.int64]:
    side = 9 if kind == "sudoku" else round(len(text) ** 0.5)
    codes = np.frombuffer(text.encode(), dtype=np.uint8).reshape(side, side)
    if kind == "maze":
        return maze_cells(codes)
    digits = np.where((codes >= ord("1")) & (codes <= ord("9")), codes - ord("0"), 0)
    return sudoku_cells(digits.astype(np.uint8))


class EpisodeSource:
    """Random episodes of tasks and puzzles, every one a function of the generator that draws it."""

    def __init__(self, config: DataConfig, tasks: Sequence[ArcTask], puzzles: Sequence[Puzzles]) -> None:
        self.config, self.puzzles = config, list(puzzles)
        self.tasks = [task.train + task.test for task in tasks]
        weights = np.array([len(pairs) for pairs in self.tasks], dtype=float) ** config.balance
        self.cumulative = np.cumsum(weights / weights.sum()) if len(weights) else weights

    def draw_group(self, rng: np.random.Generator) -> list[Episode]:
        """`config.group` episodes; Sudokus and mazes have `config.puzzle_rate` of their tokens, each kind alike."""
        episodes: list[Episode] = []
        spent = np.zeros(1 + len(self.puzzles))  # tokens of tasks, and of each kind of puzzle
        while len(episodes) < self.config.group:
            wanted = self.config.puzzle_rate if self.tasks else 1.0
            if self.puzzles and spent[1:].sum() <= wanted * spent.sum():
                kind = int(spent[1:].argmin())
                drawn: Episode | None = self.draw_puzzle(self.puzzles[kind], rng)
            else:
                kind, drawn = -1, self.draw_task(rng)
            if drawn is not None:
                episodes.append(drawn)
                spent[kind + 1] += len(drawn)
        return episodes

    def draw_task(self, rng: np.random.Generator) -> Episode | None:
        """An episode of a task, or None where fewer than two of its pairs fit."""
        config = self.config
        pairs = self.tasks[min(int(np.searchsorted(self.cumulative, rng.random())), len(self.tasks) - 1)]
        count = int(rng.integers(config.least_pairs, config.most_pairs + 1))
        order = rng.permutation(len(pairs))[: 3 * count]
        chosen = choose_pairs(pairs, order, config.most_tokens)[:count]
        if len(chosen) < 2:
            return None
        view = draw_view(rng)
        output_view = view
        draw = rng.random()
        limits = np.cumsum([config.turned_apart, config.recolored_apart, config.scaled, config.framed])
        if draw < limits[0]:
            output_view = View(int(rng.integers(TURNS)), view.colors)
        elif draw < limits[1]:
            output_view = View(view.turn, draw_colors(rng))
        elif draw < limits[2]:
            chosen = _scaled(chosen, int(rng.integers(2, 4)))
        elif draw < limits[3]:
            chosen = _framed(chosen, int(rng.integers(10)))
        drawn = episode(chosen, view, output_view, inputs=rng.random() < config.learned_inputs)
        return drawn if len(drawn) <= config.most_tokens + EXTRA_CONTEXT else None

    def draw_puzzle(self, puzzles: Puzzles, rng: np.random.Generator) -> Episode:
        """A puzzle with its answer; a Sudoku under one of its symmetries."""
        number = int(rng.integers(len(puzzles.questions)))
        question, answer = puzzles.questions[number], puzzles.answers[number]
        if puzzles.symmetric:
            rows, columns = _band_permutation(rng), _band_permutation(rng)
            digits = np.arange(16)
            digits[1:10] = rng.permutation(9) + 1
            question, answer = (digits[grid][rows][:, columns] for grid in (question, answer))
            if rng.random() < 0.5:
                question, answer = question.T, answer.T
        return puzzle_episode(question, answer)


def _scaled(pairs: list[Pair], factor: int) -> list[Pair]:
    if any(max(after.shape) * factor > LARGEST_SIDE for _, after in pairs):
        return pairs
    return [(before, after.repeat(factor, 0).repeat(factor, 1)) for before, after in pairs]


def _framed(pairs: list[Pair], color: int) -> list[Pair]:
    if any(max(after.shape) + 2 > LARGEST_SIDE for _, after in pairs):
        return pairs
    return [(before, np.pad(after, 1, constant_values=color)) for before, after in pairs]


def _band_permutation(rng: np.random.Generator) -> NDArray[np.int64]:
    """A permutation of a Sudoku's rows (or columns) that keeps its bands together."""
    return np.concatenate([3 * band + rng.permutation(3) for band in rng.permutation(3)])


def to_batches(episodes: Sequence[Episode], tokens: int) -> list[Batch]:
    """Episodes sorted by length and padded, in batches of at most `tokens`, unless a single episode is longer."""
    ordered = sorted(episodes, key=len)
    batches: list[Batch] = []
    waiting: list[Episode] = []
    for number, item in enumerate(ordered):
        waiting.append(item)
        following = ordered[number + 1] if number + 1 < len(ordered) else None
        if following is None or (len(waiting) + 1) * _padded(len(following)) > tokens:
            batches.append(pad(waiting))
            waiting = []
    return batches


def _padded(length: int) -> int:
    return -(-length // MULTIPLE) * MULTIPLE


def pad(episodes: Sequence[Episode]) -> Batch:
    """Episodes as the rows of one batch, which has at least two: compiled code would treat a lone row apart."""
    rows, length = max(2, len(episodes)), _padded(max(map(len, episodes)))
    tokens = np.full((rows, length), PADDING, dtype=np.int16)
    labels = np.full((rows, length), IGNORE, dtype=np.int16)
    for row, item in enumerate(episodes):
        tokens[row, : len(item)] = item.tokens
        labels[row, : len(item)] = item.labels
    return Batch(tokens, labels, sum(map(len, episodes)))


class _Groups(Dataset[list[Batch]]):
    """Group n of a process: its batches in random order, a function of seed, process and n alone."""

    def __init__(self, source: EpisodeSource, tokens: int, seed: int, process: int) -> None:
        self.source, self.tokens, self.seed, self.process = source, tokens, seed, process

    def __getitem__(self, number: int) -> list[Batch]:
        rng = np.random.default_rng((self.seed, self.process, number))
        batches = to_batches(self.source.draw_group(rng), self.tokens)
        return [batches[place] for place in rng.permutation(len(batches))]


class _From(Sampler[int]):
    """All whole numbers from `start` on."""

    def __init__(self, start: int) -> None:
        self.start = start

    def __iter__(self) -> Iterator[int]:
        number = self.start
        while True:
            yield number
            number += 1


def _default_signals(worker: int) -> None:
    """A worker ends when it is told to, and leaves Ctrl-C to the process that started it."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def stream(
    source: EpisodeSource,
    tokens: int,
    seed: int,
    process: int,
    workers: int,
    start: tuple[int, int],
) -> Iterator[tuple[tuple[int, int], Batch]]:
    """Batches without end, each with the place to start from after it.

    The order depends on seed and process, not on the number of workers. start: as it came with an earlier batch.
    """
    group, skip = start
    loader = DataLoader(
        _Groups(source, tokens, seed, process),
        batch_size=None,
        sampler=_From(group),
        num_workers=workers,
        prefetch_factor=2 if workers else None,
        multiprocessing_context="fork" if workers else None,
        worker_init_fn=_default_signals,
    )
    for number, batches in enumerate(loader, group):
        for place, batch in enumerate(batches):
            if number > group or place >= skip:
                done = place == len(batches) - 1
                yield (number + 1, 0) if done else (number, place + 1), batch


def held_out_episodes(tasks: Sequence[ArcTask], most_tokens: int) -> list[Episode]:
    """Each test of a task after the task's demonstrations (those that fit), with labels on the test's output."""
    room = most_tokens + EXTRA_CONTEXT
    episodes = []
    for task in tasks:
        for test in task.test:
            context = choose_pairs(task.train, range(len(task.train)), room - sum(g.size + 32 for g in test))
            episodes.append(episode([*context, test], learn="last"))
    return episodes
