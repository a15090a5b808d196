"""Tasks and puzzles from files: to learn from, and to hold out."""

from __future__ import annotations

import csv
import gzip
import json
import lzma
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hybrid.llm.grid.episodes import (
    Episode,
    Pair,
    choose_pairs,
    episode,
    maze_cells,
    puzzle_episode,
    sudoku_cells,
)
from trm.config import ConfigError

LARGE = 20  # a grid of more rows or columns is a large one
UNPACK: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.decompress, ".xz": lzma.decompress}


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


def read_tasks(file: Path) -> list[ArcTask]:
    """ARC tasks of a .json, .json.gz or .json.xz file in the public form. Raises ConfigError."""
    try:
        tasks = json.loads(UNPACK.get(file.suffix, bytes)(file.read_bytes()))
        return [ArcTask(name, *map(_pairs, (task["train"], task["test"]))) for name, task in tasks.items()]
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, lzma.LZMAError) as error:
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


def is_large(pairs: Sequence[Pair]) -> bool:
    """Whether a grid is larger than 20x20."""
    return any(max(grid.shape) > LARGE for pair in pairs for grid in pair)


def held_out_episodes(tasks: Sequence[ArcTask], room: int) -> list[Episode]:
    """Each test of a task after the demonstrations that fit into `room` tokens, with labels on the test's output."""
    episodes = []
    for task in tasks:
        for test in task.test:
            context = choose_pairs(task.train, range(len(task.train)), room - sum(g.size + 32 for g in test))
            episodes.append(episode([*context, test], learn="last"))
    return episodes
