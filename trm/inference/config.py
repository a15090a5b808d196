"""How much a search may spend on a puzzle. Imports no torch: command lines read it before anything loads."""

from __future__ import annotations

from dataclasses import dataclass

from trm.grid import PuzzleError


@dataclass(frozen=True)
class SearchConfig:
    """How much to spend on a puzzle. Further drafts, rounds and restarts come only while it is not verified.

    drafts: asked of the proposer. rounds: of asking again with the violations named. steps: supervision steps of a
    rollout at most. restarts: extra rollouts. noise: σ of restarts; None for the task's own. budget_seconds: for a
    puzzle, adaptation and first rollout included. answers: distinct verified answers to look for. score_ties: whether
    the network scores candidates that have equal votes.
    """

    drafts: int = 1
    rounds: int = 0
    steps: int = 16
    restarts: int = 0
    budget_seconds: float | None = None
    answers: int = 1
    seed: int = 0
    noise: float | None = None
    trace: bool = False
    score_ties: bool = False

    def __post_init__(self) -> None:
        limits = {"drafts": 1, "rounds": 0, "steps": 1, "restarts": 0, "answers": 1, "seed": 0, "noise": 0}
        for name, least in limits.items():
            value = getattr(self, name)
            if value is not None and not value >= least:  # neither is nan
                raise PuzzleError(f"{name} {value}, expected at least {least}")
