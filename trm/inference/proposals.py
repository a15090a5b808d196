"""Proposers: whatever makes drafts, from a language model to nobody. One protocol for all of them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from trm.grid import Grid, Grids
from trm.tasks import Puzzle, Status, Task, Verdict


class ProposerError(RuntimeError):
    """A proposer that cannot be asked: its model, file, network or server is missing. One line for people."""


@dataclass(frozen=True, eq=False)
class ProposedGrid:
    """A grid that a proposer names for an input.

    share: of its views (ways to show it the puzzle) that name the grid, in [0, 1]. score: the mean log-probability
    of the whole grid; None where the proposer does not say.
    """

    grid: Grid
    share: float
    score: float | None = None


@dataclass(frozen=True, eq=False)
class Draft:
    """A proposed answer. grids: one for each input in the task's symbols; None if none could be read.

    candidates: of a proposer that names several grids, all of them for each input, the best first; they stand in its
    first draft alone.
    """

    grids: Grids | None
    text: str = ""  # the raw reply
    error: str | None = None  # why there is no grid, or what is odd about it
    tokens: int = 0  # generated
    seconds: float = 0.0
    prompt_tokens: int = 0  # read
    candidates: tuple[tuple[ProposedGrid, ...], ...] = ()


@dataclass(frozen=True, eq=False)
class CheckedDraft:
    """A draft and what the exact rules say of it; `verdict` is None where no grid could be read."""

    draft: Draft
    verdict: Verdict | None

    @classmethod
    def of(cls, task: Task, puzzle: Puzzle, draft: Draft) -> CheckedDraft:
        return cls(draft, None if draft.grids is None else task.check(puzzle, draft.grids))

    @property
    def valid(self) -> bool:
        """Whether no rule is broken. Where no rule can decide (ARC): whether the draft is well formed."""
        return self.verdict is not None and self.verdict.status is not Status.UNSOLVED

    @property
    def verified(self) -> bool:
        return self.verdict is not None and self.verdict.status is Status.VERIFIED

    @property
    def faults(self) -> tuple[str, ...]:
        """In words, what is wrong: with the reply itself, then the rules that its grid breaks."""
        reply = (self.draft.error,) if self.draft.error else ()
        return reply + (self.verdict.violations if self.verdict is not None else ())


@dataclass(frozen=True, eq=False)
class Feedback:
    """What was wrong with a draft, for asking again."""

    draft: Draft
    violations: tuple[str, ...]
    corrections: tuple[str, ...] = ()  # cells that the network would fill otherwise, in words


class Proposer(Protocol):
    """Whatever drafts answers. `name` is the resolved model for records; None for nobody."""

    name: str | None

    def propose(
        self, puzzle: Puzzle, drafts: int = 1, feedback: Feedback | None = None, seed: int = 0
    ) -> list[Draft]:
        """`drafts` drafts for the puzzle; with feedback, another try at a draft that was checked.

        Raises ProposerError where the proposer cannot be asked at all.
        """
        ...


@runtime_checkable
class BatchProposer(Proposer, Protocol):
    """A proposer that drafts for many puzzles at once faster than for one after the other."""

    def propose_many(self, puzzles: Sequence[Puzzle], seed: int = 0) -> list[Draft]:
        """One draft for each puzzle. Raises ProposerError."""
        ...


@runtime_checkable
class Judge(Protocol):
    """A proposer that also says how likely it finds grids of others."""

    def score(self, puzzle: Puzzle, index: int, grids: Sequence[Grid], seed: int = 0) -> list[float] | None:
        """The log-probability of each grid as the answer to the puzzle's input number `index`, as in
        `ProposedGrid.score`; None where it cannot say. Raises ProposerError."""
        ...


@runtime_checkable
class Mender(Protocol):
    """A proposer that also changes single cells of grids of others."""

    def mend(self, puzzle: Puzzle, index: int, grids: Sequence[Grid], seed: int = 0) -> list[Grid]:
        """What grids for the puzzle's input number `index`, the best first, become where the proposer prefers other
        cells. Raises ProposerError."""
        ...


class Blank:
    """A proposer that drafts nothing: with it the network works alone."""

    name: str | None = None

    def propose(
        self, puzzle: Puzzle, drafts: int = 1, feedback: Feedback | None = None, seed: int = 0
    ) -> list[Draft]:
        return []


@dataclass(frozen=True, eq=False)
class Proposal:
    """What a proposer answered. error: why it could not be asked; each draft that was wanted then says so too."""

    drafts: list[Draft]
    seconds: float
    error: str | None = None


def ask_first(proposer: Proposer, puzzles: Sequence[Puzzle], seed: int) -> list[Proposal]:
    """The first draft of each puzzle, all in one go where the proposer can."""
    if len(puzzles) > 1 and isinstance(proposer, BatchProposer):
        begun = time.perf_counter()
        try:
            drafts, error = proposer.propose_many(puzzles, seed=seed), None
        except ProposerError as failure:
            drafts, error = [Draft(None, error=str(failure))] * len(puzzles), str(failure)
        share = (time.perf_counter() - begun) / len(puzzles)
        return [Proposal([draft], share, error) for draft in drafts]
    return [ask(proposer, puzzle, 1, None, seed) for puzzle in puzzles]


def ask(proposer: Proposer, puzzle: Puzzle, drafts: int, feedback: Feedback | None, seed: int) -> Proposal:
    begun = time.perf_counter()
    try:
        given = proposer.propose(puzzle, drafts=drafts, feedback=feedback, seed=seed)
    except ProposerError as failure:
        given = [Draft(None, error=str(failure))] * drafts
        return Proposal(given, time.perf_counter() - begun, str(failure))
    return Proposal(given, time.perf_counter() - begun)
