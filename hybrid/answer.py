"""What the pipeline hands back for a puzzle, and its JSON record (docs/CONTRACT.md)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hybrid.proposers import Draft
from trm import tasks
from trm.grid import Grid, Grids
from trm.tasks import Puzzle, Status, Task, Verdict

if TYPE_CHECKING:
    from trm.inference.attempts import Attempt

Candidates = tuple[tuple[Grid, ...], ...]  # for every input of a puzzle, the grids proposed for it


@dataclass(frozen=True, eq=False)
class JudgedDraft:
    """A proposer's draft and what the rules say of it; `verdict` is None where no grid was read."""

    draft: Draft
    verdict: Verdict | None

    @property
    def valid(self) -> bool:
        """No rule is broken. Where no rule can decide (ARC): the draft is well formed."""
        return self.verdict is not None and self.verdict.status is not Status.UNSOLVED

    @property
    def verified(self) -> bool:
        return self.verdict is not None and self.verdict.status is Status.VERIFIED

    @property
    def faults(self) -> tuple[str, ...]:
        """In words, what is wrong: the reply itself, then the rules it breaks."""
        said = (self.draft.error,) if self.draft.error else ()
        return said + (self.verdict.violations if self.verdict is not None else ())

    def to_json(self, task: Task) -> dict[str, Any]:
        grids = self.draft.grids
        return {
            "answer": None if grids is None else answer_json(task, grids, tuple((g,) for g in grids)),
            "valid": self.valid,
            "error": "; ".join(self.faults) or None,
            "tokens": self.draft.tokens,
            "seconds": round(self.draft.seconds, 3),
        }


@dataclass(frozen=True)
class Seconds:
    """Wall-clock seconds. Of a batch's steps each puzzle has its share of those it took part in. A draft's count in
    full, also where the network refined others meanwhile."""

    llm: float = 0.0
    refine: float = 0.0
    total: float = 0.0


@dataclass(frozen=True, eq=False)
class Answer:
    """One puzzle's record.

    candidates: for every input one or two grids, the best first. alternatives: further verified answers.
    trace: the grid after every supervision step. attempts: how each rollout of the network went.
    missing: nothing was there that could have answered.
    """

    puzzle: Puzzle
    grids: Grids | None
    verdict: Verdict
    source: str | None  # "llm" | "refiner" | "refiner+draft"; None if nobody could answer
    confidence: float | None = None
    candidates: Candidates = ()
    steps: int = 0
    restarts: int = 0
    drafts: tuple[JudgedDraft, ...] = ()
    seconds: Seconds = Seconds()
    llm: str | None = None
    refiner: str | None = None
    seed: int = 0
    alternatives: tuple[Grids, ...] = ()
    trace: tuple[Grid, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    missing: bool = False

    @property
    def answers(self) -> tuple[Grids, ...]:
        """All answers, the main one first."""
        return () if self.grids is None else (self.grids, *self.alternatives)

    def to_json(self, answers: bool = False, trace: bool = False) -> dict[str, Any]:
        """The contract's keys; besides, "answers" and "trace" where those options asked for them."""
        task = tasks.get(self.puzzle.task)
        record: dict[str, Any] = {
            "id": self.puzzle.id,
            "task": task.name,
            "question": task.question_text(self.puzzle),
            "answer": None if self.grids is None else answer_json(task, self.grids, self.candidates),
            "status": str(self.verdict.status),
            "violations": list(self.verdict.violations),
            "confidence": None if self.confidence is None else round(self.confidence, 6),
            "source": self.source,
            "steps": self.steps,
            "restarts": self.restarts,
            "drafts": [draft.to_json(task) for draft in self.drafts],
            "seconds": {part: round(value, 3) for part, value in asdict(self.seconds).items()},
            "llm": self.llm,
            "refiner": self.refiner,
            "seed": self.seed,
        }
        if answers:
            record["answers"] = [
                answer_json(task, grids, tuple((g,) for g in grids)) for grids in self.answers
            ]
        if trace:
            record["trace"] = [task.text((grid,)) for grid in self.trace]
        return record


def answer_json(task: Task, grids: Grids, candidates: Candidates) -> str | list[list[list[list[int]]]]:
    """The answer's text; where no rule can decide, for every input the list of its candidates' rows."""
    if task.has_checker:
        return task.text(grids)
    return [[grid.tolist() for grid in choice] for choice in candidates]


def same(one: Grids | None, other: Grids | None) -> bool:
    """Whether two answers are equal, grid by grid; no answer equals only no answer."""
    if one is None or other is None:
        return one is other
    return len(one) == len(other) and all(map(np.array_equal, one, other))


def distinct(answers: Iterable[Grids]) -> list[Grids]:
    """Each answer once, in order."""
    seen: list[Grids] = []
    for grids in answers:
        if not any(same(grids, other) for other in seen):
            seen.append(grids)
    return seen
