"""What the worker does for a request, and how it hears of what a search reports."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from rich.console import Console

from hybrid import render
from hybrid.serve.catalogue import Model
from hybrid.serve.events import Event, draft_event, step_event
from trm.grid import Grid
from trm.inference.config import SearchConfig
from trm.inference.proposals import CheckedDraft
from trm.inference.rollouts import RolloutStep
from trm.inference.state import SolveState
from trm.tasks import Puzzle

Emit: TypeAlias = Callable[[Event], None]  # called in a thread of the worker


class StoppedError(Exception):
    """Ends what cannot be told to stop, a draft or an adaptation, from one of its callbacks."""


@dataclass(eq=False)
class Job:
    """A puzzle that somebody waits for.

    watched: whether every step is an event. detailed: whether the answer says where rules are broken, and who voted.
    """

    model: Model
    puzzle: Puzzle
    config: SearchConfig
    emit: Emit
    watched: bool = False
    detailed: bool = False
    with_trace: bool = False
    stopped: bool = False
    state: SolveState | None = None
    drafts: int = 0
    attempts: dict[object, int] = field(default_factory=dict)  # numbers of the rollouts by their requests

    def stop(self) -> None:
        """End the search at its next step; the answer is what there is by then."""
        self.stopped = True
        if self.state is not None:
            self.state.stopped = True


@dataclass(eq=False)
class Call:
    """Anything else that needs a model: runs in a worker's thread, alone. adapts: whether it adapts a network."""

    function: Callable[[], Event]
    emit: Emit
    adapts: bool = False
    stopped: bool = False

    def stop(self) -> None:
        self.stopped = True


Work: TypeAlias = "Job | Call"


class Relay(render.Notes):
    """Hands what a search reports to the job whose puzzle it is about. A search reports in its own thread.

    between_steps: called now and then while a network is adapted.
    """

    command = "hybrid serve"

    def __init__(self) -> None:
        super().__init__(Console(stderr=True))
        self.between_steps: Callable[[], None] = lambda: None
        self._of_thread = threading.local()

    @property
    def jobs(self) -> dict[int, Job]:
        """What this thread's search is about, by the identity of the puzzles."""
        return getattr(self._of_thread, "jobs", {})

    @jobs.setter
    def jobs(self, jobs: dict[int, Job]) -> None:
        self._of_thread.jobs = jobs

    def listen(self, llm: object) -> None:
        if hasattr(llm, "on_token"):
            llm.on_token = self._written

    def _written(self, tokens: int) -> None:
        if self.jobs and all(job.stopped for job in self.jobs.values()):
            raise StoppedError
        for job in self.jobs.values():
            job.emit(Event("drafting", {"tokens": tokens}))

    def drafted(self, puzzle: Puzzle, draft: CheckedDraft) -> None:
        job = self.jobs[id(puzzle)]
        job.drafts += 1
        job.emit(draft_event(puzzle, draft, job.drafts))

    def adapting(self, puzzle: Puzzle, seconds: int, total: int) -> None:
        job = self.jobs[id(puzzle)]
        if job.stopped:
            raise StoppedError
        self.between_steps()
        job.emit(Event("adapting", {"seconds": seconds, "of": total}))

    def stepped(self, puzzle: Puzzle, step: RolloutStep) -> None:
        job = self.jobs[id(puzzle)]
        if job.watched:
            number = job.attempts.setdefault(step.request, len(job.attempts) + 1)
            job.emit(step_event(puzzle, step, number))

    def refining(self, puzzle: Puzzle, done: int, total: int, grid: Grid | None = None) -> None:
        """Steps are heard of one by one in `stepped`."""
