"""Proposers and their values, by the names under which `trm.inference.proposals` defines them."""

from trm.inference.proposals import (
    BatchProposer,
    Blank,
    CheckedDraft,
    Draft,
    Feedback,
    Proposer,
    ProposerError,
)

__all__ = ["BatchProposer", "Blank", "CheckedDraft", "Draft", "Feedback", "Proposer", "ProposerError"]
