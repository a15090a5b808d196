"""A puzzle on its way through the search: its drafts and attempts, and what is left to spend on it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from trm.grid import Grids
from trm.inference.config import SearchConfig
from trm.inference.network import PuzzleNetwork
from trm.inference.proposals import CheckedDraft
from trm.inference.rollouts import Attempt
from trm.inference.selection import rank_attempts, verified_answers
from trm.tasks import Puzzle, Task, get


@dataclass(eq=False)
class SolveState:
    """A puzzle on its way through the search.

    cold: whether rollouts also start without a draft. refines_drafts: whether any start from one. draft_starts: the
    drafts from which the first rollouts and the restarts begin. attempts may be given: then the first pass is over.
    answered: a proposer replied or a network ran.
    stopped: set, from any thread, to end the search: rollouts leave their slots at the next step.
    """

    puzzle: Puzzle
    cold: bool = True
    refines_drafts: bool = True
    begun: float = field(default_factory=time.perf_counter)
    drafts: list[CheckedDraft] = field(default_factory=list)
    draft_starts: list[Grids] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    restarts: int = 0
    draft_seconds: float = 0.0
    adaptation_seconds: float = 0.0
    network: PuzzleNetwork | None = None
    answered: bool = False
    stopped: bool = False

    @property
    def task(self) -> Task:
        return get(self.puzzle.task)

    @property
    def refine_seconds(self) -> float:
        """Its share of the time that batches took, adaptation included."""
        return self.adaptation_seconds + sum(attempt.seconds for attempt in self.attempts)

    def seconds_left(self, config: SearchConfig) -> float | None:
        """Of its budget; None where there is none."""
        if config.budget_seconds is None:
            return None
        return max(0.0, config.budget_seconds - (time.perf_counter() - self.begun))

    def open(self, config: SearchConfig) -> bool:
        """Whether more is to be spent: not stopped, too few verified answers yet, and seconds left."""
        in_time = not self.stopped and self.seconds_left(config) != 0
        return in_time and len(self.verified()) < config.answers

    def verified(self) -> list[Grids]:
        """The distinct answers that the rules accept so far."""
        return verified_answers(self.attempts, self.drafts)

    def restart_start(self, turn: int) -> Grids | None:
        """Where a restart begins: cold (None) and from a draft by turns, so that drafts never take more than half."""
        if not self.draft_starts or (self.cold and turn % 2 == 0):
            return None
        return self.draft_starts[(turn // 2 if self.cold else turn) % len(self.draft_starts)]

    def newest_draft(self) -> Grids | None:
        """The last draft that could be read."""
        return next((d.draft.grids for d in reversed(self.drafts) if d.draft.grids is not None), None)

    def corrections(self, draft: CheckedDraft) -> tuple[str, ...]:
        """The cells of a draft that the network's best attempt fills otherwise, in words."""
        if draft.draft.grids is None or not self.attempts:
            return ()
        return self.task.differences(draft.draft.grids, rank_attempts(self.attempts)[0].grids)
