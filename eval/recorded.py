"""Raw replies of a language model in a file: asked for once, used by every arm, and on other machines."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hybrid.llm.base import Reply
from hybrid.llm.chat.grid_text import read_cells, write_cells
from hybrid.llm.chat.prompts import ChatProposer, conversation, read_draft
from hybrid.llm.grid.proposer import GridProposer
from trm import jsonl
from trm.grid import Grid, PuzzleError
from trm.inference.proposals import Draft, Feedback, ProposerError
from trm.tasks import Puzzle, get

Key = tuple[str, int]  # a fingerprint of the request, and the number of the sample
Replies = tuple[Reply, ...]  # one for each input of a puzzle
FAILURES_IN_A_ROW = 3


def fingerprint(puzzle: Puzzle) -> str:
    """Of the question itself, whatever its file calls it."""
    return _hash(f"{puzzle.task}\n{get(puzzle.task).question_text(puzzle)}")


def repair_fingerprint(puzzle: Puzzle, feedback: Feedback, seed: int) -> str:
    """Of a repair request: the question, what was wrong with the draft before, and the seed."""
    messages = [conversation(puzzle, index, feedback) for index in range(len(puzzle.inputs))]
    return _hash(json.dumps([messages, seed]))


def _reason(replies: Replies) -> str | None:
    """Why a server failed to answer one of these, so that it is to be asked again; None where it failed at none."""
    return next((reply.error for reply in replies if reply.unanswered), None)


def _reply(fields: dict[str, Any]) -> Reply:
    """A reply from a line of a file. Raises TypeError and ValueError for what a reply cannot have."""
    reply = Reply(**fields)
    kinds: list[tuple[Any, Any]] = [(reply.text, str), (reply.error, str | None)]
    kinds += [(reply.tokens, int), (reply.prompt_tokens, int), (reply.seconds, int | float)]
    kinds += [(reply.unanswered, bool)]
    for text, share, score in reply.candidates:
        read_cells(text)
        kinds += [(share, int | float), (score, int | float | None)]
    if not all(isinstance(value, kind) for value, kind in kinds):
        raise TypeError(f"{fields}: expected text and counts")
    return reply


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(eq=False)
class RecordedProposer:
    """A proposer that reads from a file of replies, and asks `live` (if there is one) for what is not in it.

    path: where new replies go. drafts: how many first drafts of a puzzle are asked for together, whatever an arm
    takes of them. failed: fingerprints of puzzles about which the live model could not be asked in this run.
    """

    path: Path | None
    live: ChatProposer | GridProposer | None = None
    drafts: int = 1
    seed: int = 0
    name: str | None = None
    parameters: int | None = None
    replies: dict[Key, Replies] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)  # of grids that others named for a puzzle's input
    mended: dict[str, list[str]] = field(default_factory=dict)  # what became of such grids
    failed: set[str] = field(default_factory=set)
    # First drafts may come in the background, while an arm asks for a repair of another puzzle's.
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        if self.live is not None:
            self.name, self.parameters = self.live.name, self.live.parameters

    def load(self, path: Path) -> int:
        """Take in a file of replies; returns how many drafts it holds. Raises PuzzleError for another model's.

        Replies that a server failed to write are no drafts.
        """
        try:
            lines = jsonl.read(path)
        except OSError as error:
            raise PuzzleError(f"{path}: {error.strerror}") from None
        for line in lines:
            try:
                row = line.value
                if "scored" in row:
                    self.scores[str(row["scored"])] = float(row["score"])
                    continue
                if "mended" in row:
                    self.mended[str(row["mended"])] = [write_cells(read_cells(text)) for text in row["grids"]]
                    continue
                replies = tuple(_reply(reply) for reply in row["replies"])
                key, name, parameters = (
                    (str(row["asked"]), int(row["sample"])),
                    str(row["llm"]),
                    row["parameters"],
                )
            except (ValueError, KeyError, TypeError):
                raise PuzzleError(
                    f"{path}, line {line.number}: {line.text[:40]!r}, expected a draft"
                ) from None
            if self.name not in (None, name):
                raise PuzzleError(f"{path}, line {line.number}: a draft of {name}, expected {self.name}")
            self.name, self.parameters = name, parameters
            if _reason(replies) is None:
                self.replies[key] = replies
        return len(lines)

    def prepare(self, puzzles: Sequence[Puzzle], concurrency: int) -> str | None:
        """See to it that every puzzle's first drafts are there, and keep each at once. Returns what failed, if any.

        They are asked for together; after a failure one by one, so that it costs its own puzzle alone. A model that
        fails `FAILURES_IN_A_ROW` times is not asked about the others.
        """
        try:
            return self._ask(puzzles, concurrency)
        except ProposerError as failure:
            error = str(failure)
        in_a_row = 0
        for puzzle in puzzles if len(puzzles) > 1 else ():
            try:
                error = self._ask([puzzle], 1) or error
                in_a_row = 0
            except ProposerError as failure:
                error, in_a_row = str(failure), in_a_row + 1
            if in_a_row == FAILURES_IN_A_ROW:
                break
        return error

    def stop(self) -> None:
        """Make a request that is under way in another thread fail soon."""
        if self.live is not None:
            self.live.stop()

    def _ask(self, puzzles: Sequence[Puzzle], concurrency: int) -> str | None:
        """Ask about the puzzles without drafts. Returns why one was not answered, if any; raises ProposerError."""
        missing = [p for p in puzzles if not self.has_drafts(p)]
        self.failed.difference_update(map(fingerprint, puzzles))
        if not missing or self.live is None:
            return None
        reasons: list[str] = []

        def keep(puzzle: Puzzle, replies: list[Replies]) -> None:
            reasons.extend(self._keep(fingerprint(puzzle), puzzle, replies))

        try:
            self.live.replies_to(missing, self.drafts, seed=self.seed, concurrency=concurrency, done=keep)
        finally:
            self.failed |= {fingerprint(p) for p in missing if not self.has_drafts(p)}
        return next(iter(reasons), None)

    @property
    def has_views(self) -> bool:
        """Whether a puzzle can be shown to the model in further ways."""
        return isinstance(self.live, GridProposer)

    def with_more_views(self, puzzle: Puzzle, seconds: float, seed: int = 0) -> Draft:
        """A draft for which the model is asked again and again for so many seconds. Raises ProposerError."""
        assert isinstance(self.live, GridProposer)
        return self.live.with_more_views(puzzle, seconds, seed)

    def score(self, puzzle: Puzzle, index: int, grids: Sequence[Grid], seed: int = 0) -> list[float] | None:
        """Grids of others as the model finds them, those on file or new ones; None where no such model is there."""
        keys = [f"{fingerprint(puzzle)} {index} {write_cells(grid)}" for grid in grids]
        missing = [n for n, key in enumerate(keys) if key not in self.scores]
        if missing and not isinstance(self.live, GridProposer):
            return None
        if missing:
            assert isinstance(self.live, GridProposer)
            found = self.live.score(puzzle, index, [grids[n] for n in missing], self.seed)
            if found is None:
                return None
            new = {keys[n]: value for n, value in zip(missing, found, strict=True)}
            with self.lock:
                self.scores |= new
                if self.path is not None:
                    rows = [{"scored": key, "score": value, "llm": self.name} for key, value in new.items()]
                    jsonl.append(self.path, rows)
        return [self.scores[key] for key in keys]

    def mend(self, puzzle: Puzzle, index: int, grids: Sequence[Grid], seed: int = 0) -> list[Grid]:
        """What the model makes of grids of others, on file or anew; none where no such model is there."""
        key = f"{fingerprint(puzzle)} {index} {_hash(' '.join(map(write_cells, grids)))}"
        if key not in self.mended:
            if not isinstance(self.live, GridProposer):
                return []
            found = [write_cells(grid) for grid in self.live.mend(puzzle, index, grids, self.seed)]
            with self.lock:
                self.mended[key] = found
                if self.path is not None:
                    jsonl.append(self.path, [{"mended": key, "grids": found, "llm": self.name}])
        return [read_cells(text) for text in self.mended[key]]

    def unavailable(self, puzzle: Puzzle) -> bool:
        """Whether the live model failed on this puzzle, so that it is to be asked again by another run."""
        return fingerprint(puzzle) in self.failed

    def has_drafts(self, puzzle: Puzzle) -> bool:
        """Whether all of the puzzle's first drafts are there."""
        return self._has(fingerprint(puzzle), self.drafts)

    def missing(self, puzzles: Sequence[Puzzle]) -> int:
        """How many puzzles have too few first drafts on file, where no live model can write them."""
        return 0 if self.live else sum(not self.has_drafts(p) for p in puzzles)

    def _has(self, request: str, drafts: int) -> bool:
        return all((request, sample) in self.replies for sample in range(drafts))

    def propose(
        self, puzzle: Puzzle, drafts: int = 1, feedback: Feedback | None = None, seed: int = 0
    ) -> list[Draft]:
        """The drafts on file, else new ones. Raises ProposerError where a live model cannot be asked."""
        request = fingerprint(puzzle) if feedback is None else repair_fingerprint(puzzle, feedback, seed)
        wanted = drafts if feedback is not None else max(drafts, self.drafts)
        new: Sequence[Replies] = ()
        if self.live is not None and not self._has(request, wanted):
            try:
                new = self.live.replies(puzzle, wanted, feedback, self.seed if feedback is None else seed)
            except ProposerError:
                self.failed.add(fingerprint(puzzle))
                raise
            self._keep(request, puzzle, new)
        none = (Reply("", 0, 0.0, "not among the drafts on file"),) * len(puzzle.inputs)
        found = dict(enumerate(new)) or {n: self.replies.get((request, n), none) for n in range(drafts)}
        return [read_draft(puzzle, found[sample]) for sample in range(drafts)]

    def _keep(self, request: str, puzzle: Puzzle, new: Sequence[Replies]) -> list[str]:
        """Keep what was answered; returns why the others were not."""
        answered = {sample: replies for sample, replies in enumerate(new) if _reason(replies) is None}
        reasons = [reason for replies in new if (reason := _reason(replies)) is not None]
        if reasons:
            self.failed.add(fingerprint(puzzle))
        with self.lock:
            self.replies |= {(request, sample): replies for sample, replies in answered.items()}
            if self.path is None:
                return reasons
            rows = [
                {
                    "task": puzzle.task,
                    "id": puzzle.id,
                    "asked": request,
                    "sample": sample,
                    "llm": self.name,
                    "parameters": self.parameters,
                    "replies": [asdict(reply) for reply in replies],
                }
                for sample, replies in answered.items()
            ]
            jsonl.append(self.path, rows)
        return reasons
