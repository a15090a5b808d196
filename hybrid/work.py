"""A puzzle on its way through the pipeline: what was said of it so far."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from hybrid.answer import JudgedDraft, distinct
from hybrid.null import Judged
from trm import tasks
from trm.grid import Grids
from trm.tasks import Puzzle, Status

if TYPE_CHECKING:
    from trm.inference.attempts import Refinement

Refined: TypeAlias = "Refinement | Judged"


@dataclass(eq=False)
class Work:
    """A puzzle on its way."""

    puzzle: Puzzle
    begun: float
    drafts: list[JudgedDraft] = field(default_factory=list)
    refined: list[Refined] = field(default_factory=list)
    llm_seconds: float = 0.0
    refine_seconds: float = 0.0
    answerable: bool = False  # an LLM replied or a network ran
    tried: list[Grids] = field(default_factory=list)  # drafts refined so far

    def file(self, out: Refined, ran: bool) -> None:
        """Keep what a refiner said. ran: whether a network did."""
        self.refined.append(out)
        self.refine_seconds += out.seconds
        self.answerable |= ran

    def corrections(self, judged: JudgedDraft) -> tuple[str, ...]:
        """The cells of a draft that the network's best answer so far has otherwise, in words."""
        best = max(self.refined, key=rank)
        if judged.draft.grids is None or best.grids is None or best.source == "llm":
            return ()
        return tasks.get(self.puzzle.task).differences(judged.draft.grids, best.grids)

    def newest(self) -> Grids | None:
        """The last draft that could be read."""
        return next((d.draft.grids for d in reversed(self.drafts) if d.draft.grids is not None), None)

    def verified(self) -> list[Grids]:
        """The distinct answers that the rules accept so far, whatever anyone said of them."""
        task = tasks.get(self.puzzle.task)
        named = [draft.draft.grids for draft in self.drafts]
        for out in self.refined:
            named += [out.grids, *((grid,) for grid in out.alternatives)]
        found = distinct(grids for grids in named if grids is not None)
        return [grids for grids in found if task.check(self.puzzle, grids).status is Status.VERIFIED]

    def seconds_left(self, budget: float | None) -> float | None:
        """Of the seconds that it may take; None where they are not counted."""
        return None if budget is None else max(0.0, budget - (time.perf_counter() - self.begun))


def is_network(out: Refined) -> bool:
    return not isinstance(out, Judged)


def rank(out: Refined) -> tuple[bool, bool, float]:
    """Verified first, of these a cold start's (the draft added nothing), then the more confident."""
    verified = out.verdict.status is Status.VERIFIED
    return verified, verified and out.source == "refiner", out.confidence or 0.0


def groups(puzzles: Iterable[Puzzle], size: int) -> Iterator[list[Puzzle]]:
    """Runs of at most `size` puzzles of one task."""
    group: list[Puzzle] = []
    for puzzle in puzzles:
        if group and puzzle.task != group[0].task:
            yield group
            group = []
        group.append(puzzle)
        if len(group) == size:  # now, not when the next one comes: it may be long in coming
            yield group
            group = []
    if group:
        yield group
