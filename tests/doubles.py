"""Stand-ins for a language model and a network, scripted, and puzzles to try them on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eval.recorded import Recorded
from hybrid.llm.base import LLM, BackendError, Heard, Message, Reply, Request, unheard
from hybrid.llm.chat.constrained import Form
from hybrid.llm.chat.prompts import LLMProposer
from hybrid.proposers import Draft, Feedback
from trm import tasks
from trm.adaptation.calibration import Calibration
from trm.grid import Grid, Grids, PuzzleError
from trm.inference.attempts import Attempt
from trm.model.config import TRMConfig
from trm.model.network import TRM
from trm.tasks import Puzzle, Status, Verdict

SUDOKU = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"
SOLUTION = "534678912672195348198342567859761423426853791713924856961537284287419635345286179"
MAZE = "S  \n # \n  G"  # two shortest paths
PATHS = ("So \n#o \n oG", "Soo\n #o\n  G", "S  \no# \nooG")


def sudoku(name: str = "s1") -> Puzzle:
    task = tasks.get("sudoku")
    puzzle = task.parse(SUDOKU)
    return Puzzle("sudoku", puzzle.inputs, id=name, answers=task.parse_answer(puzzle, SOLUTION))


def maze(name: str = "m1") -> Puzzle:
    return Puzzle("maze", tasks.get("maze").parse(MAZE).inputs, id=name)


def grids(puzzle: Puzzle, text: str) -> Grids:
    return tasks.get(puzzle.task).parse_answer(puzzle, text)


def right(puzzle: Puzzle) -> Grids:
    assert puzzle.answers is not None
    return puzzle.answers


def wrong(puzzle: Puzzle) -> Grids:
    """The solution with the last two digits of the first row exchanged."""
    grid = right(puzzle)[0].copy()
    grid[0, -2:] = grid[0, -2:][::-1]
    return (grid,)


class OneByOne:
    """An LLM's answers to many conversations, from its answers to each."""

    chat: Callable[..., list[Reply]]

    def chat_many(
        self, requests: Sequence[Request], *, done: Heard = unheard, concurrency: int = 1, **asks: Any
    ) -> Any:
        made = []
        for number, asked in enumerate(requests):
            made.append(self.chat(asked.messages, max_tokens=asked.max_tokens, form=asked.form, **asks))
            done(number, made[-1])
        return made


class Parrot(OneByOne):
    """An LLM that gives these texts in turn and counts how often it is asked."""

    def __init__(self, *texts: str, name: str = "parrot") -> None:
        self.name, self.parameters, self.texts, self.asked = name, 1_000_000, texts, 0

    def chat(
        self, messages: Sequence[Message], *, samples: int = 1, greedy_first: bool = True, seed: int = 0,
        max_tokens: int = 512, form: Form | None = None,
    ) -> list[Reply]:  # fmt: skip
        self.asked += 1
        texts = [self.texts[i % len(self.texts)] for i in range(samples)]
        return [Reply(text, 100, 0.5, None, 400) for text in texts]


def recorded(*texts: str, most: int = 3, path: Path | None = None, llm: LLM | None = None) -> Recorded:
    return Recorded(path, LLMProposer(llm or Parrot(*texts)), most)


@dataclass
class Scripted:
    """A proposer that gives these grids in turn; None stands for an unreadable reply, an error is raised."""

    replies: Sequence[Grids | BackendError | None]
    name: str | None = "scripted"
    asked: list[dict[str, Any]] = field(default_factory=list)

    def propose(
        self, puzzle: Puzzle, drafts: int = 1, feedback: Feedback | None = None, seed: int = 0
    ) -> list[Draft]:
        reply = self.replies[min(len(self.asked), len(self.replies) - 1)]
        self.asked.append({"drafts": drafts, "feedback": feedback, "seed": seed})
        if isinstance(reply, BackendError):
            raise reply
        error = "reply held 7 rows, expected 9" if reply is None else None
        return [Draft(reply, "raw", error, tokens=9, seconds=0.5) for _ in range(drafts)]


@dataclass(frozen=True, eq=False)
class Outcome:
    grids: Grids
    verdict: Verdict
    source: str
    confidence: float = 0.75
    candidates: list[list[Grid]] | None = None
    steps: int = 16
    restarts: int = 0
    seconds: float = 0.1
    trace: tuple[Grid, ...] = ()
    alternatives: tuple[Grid, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    calibration: Calibration | None = None


Policy = Callable[[Puzzle, Grids | None, dict[str, Any]], tuple[Grids, str]]


@dataclass
class FakeRefiner:
    """A refiner whose answers a function gives: (puzzle, draft, options) -> (grids, source)."""

    policy: Policy
    tasks: tuple[str, ...] = ("arc", "maze", "sudoku")
    drafts: bool = True
    name: str | None = "fake.pt sha256:0"
    calls: list[dict[str, Any]] = field(default_factory=list)
    claims: Status | None = None  # what it says of its answers; None: the truth
    alternatives: tuple[Grid, ...] = ()

    def accepts_drafts(self, task: str) -> bool:
        return self.drafts

    def fits(self, task: str) -> bool:
        return False

    def check(self) -> None:
        """All of its experts are as they should be."""

    def each(
        self, puzzles: list[Puzzle], draft: list[Grids | None], **options: Any
    ) -> Iterator[tuple[int, Outcome]]:
        self.calls.append({"n": len(puzzles), "draft": draft, **options})
        if options["progress"] is not None:
            options["progress"](1, 1, puzzles[0].grid)
        for row, pair in enumerate(zip(puzzles, draft, strict=True)):
            yield row, self._one(*pair, options)

    def score(self, question: Puzzle, candidates: Sequence[Grids], index: int | None = None) -> Any:
        """Finds all candidates alike."""
        return np.zeros(len(candidates), dtype=np.float32)

    def restart(self, puzzles: list[Puzzle], **options: Any) -> Iterator[tuple[int, Outcome]]:
        self.calls.append({"n": len(puzzles), **options})
        for row, (puzzle, starts) in enumerate(zip(puzzles, options["starts"], strict=True)):
            yield row, self._one(puzzle, starts[-1], options)

    def _one(self, puzzle: Puzzle, draft: Grids | None, options: dict[str, Any]) -> Outcome:
        answer, source = self.policy(puzzle, draft, options)
        verdict = tasks.get(puzzle.task).check(puzzle, answer)
        if self.claims is not None:
            verdict = Verdict(self.claims)
        undecidable = not tasks.get(puzzle.task).has_checker
        return Outcome(
            answer,
            verdict,
            source,
            candidates=[[g, np.flip(g)] for g in answer] if undecidable else None,
            restarts=options["restarts"],
            trace=(puzzle.grid, answer[0]) if options["trace"] else (),
            alternatives=self.alternatives,
        )


def cold_solves(puzzle: Puzzle, draft: Grids | None, options: dict[str, Any]) -> tuple[Grids, str]:
    return right(puzzle), "refiner"


def never_solves(puzzle: Puzzle, draft: Grids | None, options: dict[str, Any]) -> tuple[Grids, str]:
    return wrong(puzzle), "refiner"


def solves_from_a_draft(puzzle: Puzzle, draft: Grids | None, options: dict[str, Any]) -> tuple[Grids, str]:
    return (wrong(puzzle), "refiner") if draft is None else (right(puzzle), "refiner+draft")


def solves_with_restarts(puzzle: Puzzle, draft: Grids | None, options: dict[str, Any]) -> tuple[Grids, str]:
    return (right(puzzle) if options["restarts"] else wrong(puzzle)), "refiner"


def refuses(puzzle: Puzzle, draft: Grids | None, options: dict[str, Any]) -> tuple[Grids, str]:
    raise PuzzleError("maze: grid of 40x40, expected at most 30x30")


def solves_from_the_text(puzzle: Puzzle, draft: Grids | None, options: dict[str, Any]) -> tuple[Grids, str]:
    """Solves the one Sudoku it knows, and echoes everything else."""
    known = puzzle.task == "sudoku" and tasks.get("sudoku").text(puzzle.inputs) == SUDOKU
    return (right(sudoku()) if known else puzzle.inputs), "refiner"


def echoes(puzzle: Puzzle, draft: Grids | None, options: dict[str, Any]) -> tuple[Grids, str]:
    return puzzle.inputs, "refiner"


SMALL = TRMConfig(
    seq_len=81, vocab_size=11, canvas_width=9, hidden_size=32, heads=2, prefix=2, h_cycles=2, l_cycles=2,
    positions="rowcolbox", qk_norm=True, gated_norm=True, draft=True, feedback=True,
)  # fmt: skip


def network(config: TRMConfig = SMALL, halt_bias: float = -5.0) -> TRM:
    """A network with random halt and draft weights, scaled down so that rounding is not amplified."""
    torch.manual_seed(1)
    made = TRM(config).eval()
    with torch.no_grad():
        for name, p in made.named_parameters():
            if name.startswith("net."):
                p.mul_(0.6)
        made.halt.weight.normal_(std=0.5)
        made.halt.bias.fill_(halt_bias)
        if config.draft:
            made.embed.draft.normal_(std=0.05)
    return made
