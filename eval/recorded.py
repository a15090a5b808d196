"""Raw replies of a language model, kept: made once, used by every arm, and on other machines."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hybrid.llm.base import Reply
from hybrid.llm.chat.prompts import LLMProposer, conversation, read_draft
from hybrid.proposers import Draft, Feedback
from trm import tasks
from trm.grid import PuzzleError
from trm.tasks import Puzzle

Key = tuple[str, int]  # (what was asked, number of the sample)


def fingerprint(puzzle: Puzzle) -> str:
    """The question itself, whatever its file calls it."""
    return hashlib.sha256(
        f"{puzzle.task}\n{tasks.get(puzzle.task).question_text(puzzle)}".encode()
    ).hexdigest()[:16]


def asked_again(puzzle: Puzzle, feedback: Feedback, seed: int) -> str:
    """A re-ask: the question, what was wrong with the draft before, and the seed."""
    said = [conversation(puzzle, index, feedback) for index in range(len(puzzle.inputs))]
    return hashlib.sha256(json.dumps([said, seed]).encode()).hexdigest()[:16]


@dataclass(eq=False)
class Recorded:
    """A proposer that reads from a file of replies, and asks `live` (if there is one) for what is not in it.

    A puzzle's first drafts are asked for together, `most` of them, whatever an arm takes of them.
    """

    path: Path | None  # where new replies go
    live: LLMProposer | None = None
    most: int = 1
    seed: int = 0
    name: str | None = None
    parameters: int | None = None
    known: dict[Key, tuple[Reply, ...]] = field(default_factory=dict)
    # First drafts may come in the background, while an arm asks again about another puzzle.
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        if self.live is not None:
            self.name, self.parameters = self.live.name, self.live.llm.parameters

    def read(self, path: Path, own: bool = False) -> int:
        """Take in a file of replies; returns how many drafts it holds. Raises PuzzleError for another model's.

        own: written by this very comparison, so that a kill may have cut a line short, which does not count.
        """
        count = 0
        try:
            text = path.read_text(encoding="utf-8", errors="replace" if own else "strict")
        except (OSError, UnicodeDecodeError) as error:
            raise PuzzleError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
        for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):  # replies hold other line ends
            try:
                row = json.loads(line)
                replies = tuple(Reply(**reply) for reply in row["replies"])
                key, name = (str(row["asked"]), int(row["sample"])), str(row["llm"])
                parameters = row["parameters"]
            except (ValueError, KeyError, TypeError) as error:
                if own and isinstance(error, json.JSONDecodeError):
                    continue
                raise PuzzleError(f"{path}: line {number} is no draft: {error!r}") from None
            if self.name not in (None, name):
                raise PuzzleError(f"{path}: line {number} is of {name}, expected {self.name}")
            self.name, self.parameters = name, parameters
            self.known[key] = replies
            count += 1
        return count

    def prepare(self, puzzles: Sequence[Puzzle], concurrency: int) -> None:
        """Make sure that every puzzle's first drafts are there, all asked for together; each is kept at once."""
        if self.live is None:
            return
        open_ = [p for p in puzzles if not self._has(fingerprint(p), self.most)]

        def keep(puzzle: Puzzle, replies: list[tuple[Reply, ...]]) -> None:
            self._keep(fingerprint(puzzle), puzzle, replies)

        self.live.replies_to(open_, self.most, seed=self.seed, concurrency=concurrency, done=keep)

    def lacking(self, puzzles: Sequence[Puzzle]) -> int:
        """How many puzzles have fewer first drafts on file than will be asked for, and nobody to write them."""
        return 0 if self.live else sum(not self._has(fingerprint(p), self.most) for p in puzzles)

    def _has(self, asked: str, wanted: int) -> bool:
        return all((asked, sample) in self.known for sample in range(wanted))

    def propose(
        self, puzzle: Puzzle, drafts: int = 1, feedback: Feedback | None = None, seed: int = 0
    ) -> list[Draft]:
        """The drafts on file, else new ones. Raises BackendError where a live model cannot be asked."""
        asked = fingerprint(puzzle) if feedback is None else asked_again(puzzle, feedback, seed)
        wanted = drafts if feedback is not None else max(drafts, self.most)
        if self.live is not None and not self._has(asked, wanted):
            made = self.live.replies(puzzle, wanted, feedback, self.seed if feedback is None else seed)
            self._keep(asked, puzzle, made)
        missing = (Reply("", 0, 0.0, "not among the drafts on file"),) * len(puzzle.inputs)
        return [read_draft(puzzle, self.known.get((asked, sample), missing)) for sample in range(drafts)]

    def _keep(self, asked: str, puzzle: Puzzle, made: Sequence[tuple[Reply, ...]]) -> None:
        lines = []
        for sample, replies in enumerate(made):
            self.known[asked, sample] = replies
            row: dict[str, Any] = {
                "task": puzzle.task,
                "id": puzzle.id,
                "asked": asked,
                "sample": sample,
                "llm": self.name,
                "parameters": self.parameters,
                "replies": [vars(reply) for reply in replies],
            }
            lines.append(json.dumps(row, ensure_ascii=False) + "\n")
        if self.path is not None:
            with self.lock, self.path.open("a", encoding="utf-8") as file:
                file.write("".join(lines))
