"""Random episodes of tasks and puzzles, and batches of them: sorted by length, padded, without end."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from hybrid.llm.grid.episodes import (
    COLORS,
    IGNORE,
    TURNS,
    Episode,
    Pair,
    View,
    choose_pairs,
    draw_colors,
    draw_view,
    episode,
    puzzle_episode,
)
from hybrid.llm.grid.vocabulary import LARGEST_SIDE, PADDING
from hybrid.llm.tuning.config import DataConfig
from hybrid.llm.tuning.data import ArcTask, Puzzles, is_large
from trm.grid import Grid

MULTIPLE = 64  # lengths are padded to multiples of it


@dataclass(frozen=True)
class Batch:
    """tokens, labels: [B, T]. real: tokens that are no padding. No tensors: workers pass those as open files."""

    tokens: NDArray[np.int16]
    labels: NDArray[np.int16]
    real: int


class EpisodeSource:
    """Random episodes of tasks and puzzles, every one a function of the generator that draws it."""

    def __init__(self, config: DataConfig, tasks: Sequence[ArcTask], puzzles: Sequence[Puzzles]) -> None:
        self.config, self.puzzles = config, list(puzzles)
        self.tasks = [task.train + task.test for task in tasks]
        small = [[pair for pair in pairs if not is_large([pair])] for pairs in self.tasks]
        enough = [len(pairs) >= config.least_pairs for pairs in small]
        self.small = [
            few if fit else pairs for few, fit, pairs in zip(small, enough, self.tasks, strict=True)
        ]
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
        number = min(int(np.searchsorted(self.cumulative, rng.random())), len(self.tasks) - 1)
        pairs = (self.small if rng.random() < config.small else self.tasks)[number]
        count = int(rng.integers(config.least_pairs, config.most_pairs + 1))
        pairs = self._changed([pairs[place] for place in rng.permutation(len(pairs))[: 3 * count]], rng)
        chosen = choose_pairs(pairs, range(len(pairs)), config.most_tokens)[:count]
        if len(chosen) < 2:
            return None
        view = draw_view(rng)
        output_view = view
        if rng.random() < config.turned_apart:
            output_view = View(int(rng.integers(TURNS)), output_view.colors)
        if rng.random() < config.recolored_apart:
            output_view = View(output_view.turn, draw_colors(rng))
        return episode(chosen, view, output_view, inputs=rng.random() < config.learned_inputs)

    def _changed(self, pairs: list[Pair], rng: np.random.Generator) -> list[Pair]:
        """The pairs, in some episodes enlarged, with outputs enlarged, or with framed outputs."""
        config = self.config
        if rng.random() < config.enlarged:
            factor = int(rng.integers(2, 4))
            pairs = self._where_they_fit(
                pairs, [(_enlarge(a, factor), _enlarge(b, factor)) for a, b in pairs]
            )
        if rng.random() < config.scaled:
            factor = int(rng.integers(2, 4))
            pairs = self._where_they_fit(pairs, [(a, _enlarge(b, factor)) for a, b in pairs])
        if rng.random() < config.framed:
            color = int(rng.integers(COLORS))
            pairs = self._where_they_fit(pairs, [(a, np.pad(b, 1, constant_values=color)) for a, b in pairs])
        return pairs

    def _where_they_fit(self, pairs: list[Pair], changed: list[Pair]) -> list[Pair]:
        """The changed pairs within the largest size; the pairs as they were where too few are for an episode."""
        fitting = [pair for pair in changed if max(*pair[0].shape, *pair[1].shape) <= LARGEST_SIDE]
        return fitting if len(fitting) >= self.config.least_pairs else pairs

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


def _enlarge(grid: Grid, factor: int) -> Grid:
    return grid.repeat(factor, 0).repeat(factor, 1)


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
