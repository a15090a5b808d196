"""Whatever makes drafts: the protocol, its values, and the proposer that drafts nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from trm.grid import Grids
from trm.tasks import Puzzle


@dataclass(frozen=True, eq=False)
class Draft:
    """A proposer's answer. grids: one for each input, symbols and shape of the task; None if none was read."""

    grids: Grids | None
    text: str = ""  # the raw reply
    error: str | None = None  # why there is no grid, or what is odd about it
    tokens: int = 0
    seconds: float = 0.0
    prompt_tokens: int = 0


class Proposer(Protocol):
    """Whatever drafts answers: an LLM, or nobody (`hybrid.proposers.Blank`)."""

    name: str | None

    def propose(
        self, puzzle: Puzzle, drafts: int = 1, feedback: Feedback | None = None, seed: int = 0
    ) -> list[Draft]:
        """`drafts` drafts for the puzzle; with feedback, another try at a draft that was judged."""
        ...


@runtime_checkable
class ManyProposer(Proposer, Protocol):
    """A proposer that drafts for many puzzles at once faster than one by one."""

    def propose_many(self, puzzles: Sequence[Puzzle], seed: int = 0) -> list[Draft]:
        """One draft for each."""
        ...


@dataclass(frozen=True, eq=False)
class Feedback:
    """What was wrong with a draft: for the re-ask."""

    draft: Draft
    violations: tuple[str, ...]
    corrections: tuple[str, ...] = ()  # cells that a refiner would have otherwise


class Blank:
    """A proposer that drafts nothing: with it the refiner works alone."""

    name: str | None = None

    def propose(
        self, puzzle: Puzzle, drafts: int = 1, feedback: Feedback | None = None, seed: int = 0
    ) -> list[Draft]:
        return []
