"""The answer to a puzzle as the pipeline hands it out, and its JSON record (docs/CONTRACT.md)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from trm import tasks
from trm.grid import Grid, Grids
from trm.inference.proposals import CheckedDraft
from trm.inference.ranking import PooledGrid
from trm.inference.rollouts import Attempt, RolloutStep
from trm.inference.selection import Candidates
from trm.tasks import Puzzle, Task, Verdict

CANDIDATES = 8  # of an input that a record holds


@dataclass(frozen=True)
class Seconds:
    """Wall-clock seconds. A puzzle has its share of the batches it took part in. A draft counts in full, also where
    the network refined other puzzles meanwhile."""

    llm: float = 0.0
    refine: float = 0.0
    total: float = 0.0


@dataclass(frozen=True, eq=False)
class Answer:
    """One puzzle's record.

    candidates: where no rule decides, for every input one or two grids, the best first. alternatives: further
    verified answers. trace: the grid after every supervision step. attempts: every rollout of the network.
    missing: nothing was there that could have answered. pool: where candidates of network and proposer were ranked
    together, all of them for each input.
    """

    puzzle: Puzzle
    grids: Grids | None
    verdict: Verdict
    source: str | None  # "llm" | "refiner" | "refiner+draft"; None if nobody could answer
    confidence: float | None = None
    candidates: Candidates = ()
    steps: int = 0
    restarts: int = 0
    drafts: tuple[CheckedDraft, ...] = ()
    seconds: Seconds = Seconds()
    llm: str | None = None
    refiner: str | None = None
    seed: int = 0
    alternatives: tuple[Grids, ...] = ()
    traced: tuple[RolloutStep, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    missing: bool = False
    pool: tuple[tuple[PooledGrid, ...], ...] = ()

    @property
    def trace(self) -> tuple[Grid, ...]:
        return tuple(step.grid for step in self.traced)

    @property
    def task(self) -> Task:
        return tasks.get(self.puzzle.task)

    @property
    def answers(self) -> tuple[Grids, ...]:
        """All answers, the main one first."""
        return () if self.grids is None else (self.grids, *self.alternatives)

    def to_json(self, answers: bool = False, trace: bool = False) -> dict[str, Any]:
        """The contract's keys; besides, "answers" and "trace" where those options ask for them."""
        task = self.task
        record: dict[str, Any] = {
            "id": self.puzzle.id,
            "task": task.name,
            "question": task.question_text(self.puzzle),
            "answer": None if self.grids is None else task.answer_json(self.grids, self.candidates),
            "status": str(self.verdict.status),
            "violations": list(self.verdict.violations),
            "confidence": None if self.confidence is None else round(self.confidence, 6),
            "source": self.source,
            "steps": self.steps,
            "restarts": self.restarts,
            "drafts": [draft_json(task, draft) for draft in self.drafts],
            "seconds": {part: round(value, 3) for part, value in asdict(self.seconds).items()},
            "llm": self.llm,
            "refiner": self.refiner,
            "seed": self.seed,
        }
        if self.pool:
            record["candidates"] = self.pool_json()
        if answers:
            record["answers"] = [task.answer_json(grids, as_candidates(grids)) for grids in self.answers]
        if trace:
            record["trace"] = [task.text((grid,)) for grid in self.trace]
            record["traced"] = [step_json(task, step) for step in self.traced]
        return record

    def pool_json(self) -> list[list[dict[str, Any]]]:
        """For every input its first ranked candidates, at most CANDIDATES."""
        return [[_candidate_json(candidate) for candidate in some[:CANDIDATES]] for some in self.pool]


def _candidate_json(candidate: PooledGrid) -> dict[str, Any]:
    """A ranked candidate of ARC as the record holds it."""
    values = {
        name: getattr(candidate, name) for name in ("probability", "cold", "drafted", "proposed", "score")
    }
    rounded = {name: None if value is None else round(value, 4) for name, value in values.items()}
    return {"grid": candidate.grid.tolist(), **rounded}


def step_json(task: Task, step: RolloutStep) -> dict[str, Any]:
    """What is known of a supervision step beside its grid, as the record holds it."""
    return {
        "confidence": round(step.confidence, 6),
        "weighed": [task.text((grid,)) for grid in step.weighed],
        "z_moved": None if step.z_moved is None else round(step.z_moved, 4),
        "cycles": [
            {
                "grid": task.text((cycle.grid,)),
                "weighed": [task.text((grid,)) for grid in cycle.weighed],
                "z_moved": round(cycle.z_moved, 4),
            }
            for cycle in step.cycles
        ],
    }


def draft_json(task: Task, checked: CheckedDraft) -> dict[str, Any]:
    """A draft as the record holds it."""
    grids = checked.draft.grids
    return {
        "answer": None if grids is None else task.answer_json(grids, as_candidates(grids)),
        "valid": checked.valid,
        "error": "; ".join(checked.faults) or None,
        "tokens": checked.draft.tokens,
        "seconds": round(checked.draft.seconds, 3),
    }


def as_candidates(grids: Grids) -> Candidates:
    """An answer as the only candidate of every input."""
    return tuple((grid,) for grid in grids)
