"""Null objects, so that the pipeline needs no modes: nobody drafts, or nobody refines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trm import tasks
from trm.grid import Grid, Grids
from trm.tasks import Puzzle, Verdict

if TYPE_CHECKING:
    from trm.inference.attempts import Attempt


@dataclass(frozen=True, eq=False)
class Judged:
    """What `Passthrough` makes of a draft: the fields of `trm.inference.refiner.Refinement`, without a network."""

    grids: Grids | None
    candidates: list[list[Grid]] | None
    verdict: Verdict
    confidence: float | None = None  # nobody is there to be confident
    source: str = "llm"
    steps: int = 0
    restarts: int = 0
    seconds: float = 0.0
    trace: tuple[Grid, ...] = ()
    alternatives: tuple[Grid, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    calibration: None = None


class Passthrough:
    """A refiner that leaves every draft as it is and lets the rules judge it."""

    name: str | None = None

    @property
    def tasks(self) -> tuple[str, ...]:
        return tuple(tasks.names())

    def accepts_drafts(self, task: str) -> bool:
        return True

    def each(
        self, puzzles: Sequence[Puzzle], draft: Sequence[Grids | None], **how: Any
    ) -> Iterator[tuple[int, Judged]]:
        """The index of a puzzle and its `Judged`, in order. Nothing else matters."""
        return enumerate(_judge(*pair) for pair in zip(puzzles, draft, strict=True))


def _judge(puzzle: Puzzle, grids: Grids | None) -> Judged:
    if grids is None:
        return Judged(None, None, Verdict(tasks.Status.UNSOLVED, ("no answer could be read",)))
    return Judged(grids, [[grid] for grid in grids], tasks.get(puzzle.task).check(puzzle, grids))
