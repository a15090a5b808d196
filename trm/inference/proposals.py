"""Proposers: whatever makes drafts, from a language model to nobody. One protocol for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from trm.grid import Grids
from trm.tasks import Puzzle, Status, Task, Verdict


class ProposerError(RuntimeError):
    """A proposer that cannot be asked: its model, file, network or server is missing. One line for people."""


@dataclass(frozen=True, eq=False)
class Draft:
    """A proposed answer. grids: one for each input in the task's symbols; None if none could be read."""

    grids: Grids | None
    text: str = ""  # the raw reply
    error: str | None = None  # why there is no grid, or what is odd about it
    tokens: int = 0  # generated
    seconds: float = 0.0
    prompt_tokens: int = 0  # read


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


class Blank:
    """A proposer that drafts nothing: with it the network works alone."""

    name: str | None = None

    def propose(
        self, puzzle: Puzzle, drafts: int = 1, feedback: Feedback | None = None, seed: int = 0
    ) -> list[Draft]:
        return []
