"""Stand-ins for a language model and a network, scripted, and puzzles to try them on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
from small_networks import SMALL

from eval.recorded import RecordedProposer
from hybrid.llm.base import LLM, OnReplies, Reply, Request, ignore_replies
from hybrid.llm.chat.prompts import ChatProposer
from trm import tasks
from trm.checkpoints.format import Checkpoint, Expert
from trm.grid import Grid, Grids, PuzzleError
from trm.inference.engine import Engine, Rollout, Stop, Trajectory
from trm.inference.proposals import Draft, Feedback, ProposerError
from trm.inference.provider import ModelPool
from trm.inference.refiner import Refiner
from trm.tasks import PAD, Puzzle
from trm.tasks.maze.solver import shortest_path
from trm.tasks.sudoku.solver import solve_sudoku

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


# -- language models -----------------------------------------------------------------------------------------
class ScriptedLLM:
    """An LLM that answers one request after the other with what `reply` says; `calls` counts the requests."""

    def __init__(self, name: str = "scripted", parameters: int | None = 1_000_000) -> None:
        self.name, self.parameters = name, parameters
        self.calls, self.concurrency, self.stopped = 0, list[tuple[int, int]](), False

    def reply(self, request: Request, samples: int) -> list[Reply]:
        raise NotImplementedError

    def complete(
        self, requests: Sequence[Request], *, samples: int = 1, seed: int = 0, concurrency: int = 1,
        on_replies: OnReplies = ignore_replies,
    ) -> list[list[Reply]]:  # fmt: skip
        self.concurrency.append((len(requests), concurrency))
        replies = []
        for number, request in enumerate(requests):
            self.calls += 1
            replies.append(self.reply(request, samples))
            on_replies(number, replies[-1])
        return replies

    def stop(self) -> None:
        self.stopped = True


class Parrot(ScriptedLLM):
    """An LLM whose samples are these texts in turn."""

    def __init__(self, *texts: str, name: str = "parrot") -> None:
        super().__init__(name)
        self.texts = texts

    def reply(self, request: Request, samples: int) -> list[Reply]:
        texts = [self.texts[i % len(self.texts)] for i in range(samples)]
        return [Reply(text, 100, 0.5, None, 400) for text in texts]


def recorded(
    *texts: str, drafts: int = 3, path: Path | None = None, llm: LLM | None = None
) -> RecordedProposer:
    return RecordedProposer(path, ChatProposer(llm or Parrot(*texts)), drafts)


@dataclass
class Scripted:
    """A proposer that gives these grids in turn; None stands for an unreadable reply, an error is raised."""

    replies: Sequence[Grids | ProposerError | None]
    name: str | None = "scripted"
    requests: list[dict[str, object]] = field(default_factory=list)

    def propose(
        self, puzzle: Puzzle, drafts: int = 1, feedback: Feedback | None = None, seed: int = 0
    ) -> list[Draft]:
        reply = self.replies[min(len(self.requests), len(self.replies) - 1)]
        self.requests.append({"puzzle": puzzle.id, "drafts": drafts, "feedback": feedback, "seed": seed})
        if isinstance(reply, ProposerError):
            raise reply
        error = "reply held 7 rows, expected 9" if reply is None else None
        return [Draft(reply, "raw", error, tokens=9, seconds=0.5) for _ in range(drafts)]


class ScriptedBatch(Scripted):
    """A `Scripted` that drafts for many puzzles in one call."""

    def propose_many(self, puzzles: Sequence[Puzzle], seed: int = 0) -> list[Draft]:
        return [self.propose(puzzle, seed=seed)[0] for puzzle in puzzles]


# -- networks ------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Asked:
    """A rollout as grids. number: how many came before. restart: whether it has noise."""

    question: Grid
    draft: Grid | None
    number: int
    restart: bool
    rollout: Rollout


Play = Callable[[Asked], Sequence[tuple[Grid, float]]]  # each step's grid and halt logit


@dataclass
class ScriptedEngine(Engine):
    """Plays grids instead of running a network."""

    task: tasks.Task
    play: Play
    seen: list[Asked] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)  # the number of rollouts of each

    def each(
        self, rollouts: Sequence[Rollout], steps: int = 16, stop: Stop | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[tuple[int, Trajectory]]:  # fmt: skip
        self.batches.append(len(rollouts))
        for index, rollout in enumerate(rollouts):
            question, draft = (self._grid(tokens) for tokens in (rollout.tokens, rollout.draft))
            assert question is not None
            self.seen.append(Asked(question, draft, len(self.seen), rollout.noise > 0, rollout))
            run = Trajectory(seconds=0.1)
            for grid, halt in self.play(self.seen[-1])[:steps]:
                run.grids.append(self.task.encode(grid))
                run.halts.append(halt)
                run.go_ons.append(0.0)
                if stop is not None and stop(index, run):
                    break
            if progress is not None:
                progress(index + 1)
            yield index, run

    def _grid(self, tokens: np.ndarray | None) -> Grid | None:
        if tokens is None:
            return None
        canvas = tokens.reshape(self.task.height, self.task.width)
        height, width = ((canvas != PAD).any(axis).sum() for axis in (1, 0))
        if self.task.reserved:  # the marks of a grid's end
            height, width = height - 1, width - 1
        symbols = np.array([0] * (1 + self.task.reserved) + list(self.task.symbols), dtype=np.uint8)
        return symbols[canvas[:height, :width]]


CANVAS = replace(SMALL, seq_len=900, canvas_width=30, positions="rope2d")
SHAPES = {"sudoku": SMALL, "maze": replace(CANVAS, vocab_size=6), "arc": replace(CANVAS, vocab_size=12)}


class ScriptedPool(ModelPool):
    """Experts for these tasks that play; none of them is adapted to a puzzle."""

    def __init__(self, play: Play, names: Sequence[str], drafts: bool) -> None:
        shapes = {name: replace(SHAPES[name], draft=drafts, feedback=drafts) for name in names}
        experts = {name: Expert(name, shape, {}) for name, shape in shapes.items()}
        super().__init__(Checkpoint("fake.pt sha256:0", experts), "cpu")
        self.engines = {name: ScriptedEngine(tasks.get(name), play) for name in names}

    def engine(self, task: str) -> Engine:
        self.expert(task)  # refuses a task without an expert
        return self.engines[task]


def refiner(play: Play, names: Sequence[str] = ("arc", "maze", "sudoku"), drafts: bool = True) -> Refiner:
    """A real refiner over a scripted network; `seen(…)` tells what it was asked."""
    return Refiner(ScriptedPool(play, names, drafts))


def seen(refiner: Refiner, task: str = "sudoku") -> list[Asked]:
    assert isinstance(refiner.pool, ScriptedPool)
    return refiner.pool.engines[task].seen


def batches(refiner: Refiner, task: str = "sudoku") -> list[int]:
    assert isinstance(refiner.pool, ScriptedPool)
    return refiner.pool.engines[task].batches


CONFIDENT = 1.0986  # a halt logit: confidence 0.75


def solve(grid: Grid) -> Grid:
    return solve_sudoku(grid, most=1).solutions[0]


def spoil(grid: Grid) -> Grid:
    """A grid that solves nothing: the first row is the last one's again."""
    spoilt = grid.copy()
    spoilt[0] = spoilt[-1]
    return spoilt


def cold_solves(asked: Asked) -> list[tuple[Grid, float]]:
    return [(solve(asked.question), CONFIDENT)]


def never_solves(asked: Asked) -> list[tuple[Grid, float]]:
    return [(spoil(solve(asked.question)), CONFIDENT)]


def solves_from_a_draft(asked: Asked) -> list[tuple[Grid, float]]:
    return never_solves(asked) if asked.draft is None else cold_solves(asked)


def solves_with_restarts(asked: Asked) -> list[tuple[Grid, float]]:
    return cold_solves(asked) if asked.restart else never_solves(asked)


def walks(asked: Asked) -> list[tuple[Grid, float]]:
    """A shortest path of a maze."""
    path = shortest_path(asked.question)
    assert path is not None
    return [(path, CONFIDENT)]


def refuses(asked: Asked) -> list[tuple[Grid, float]]:
    raise PuzzleError("maze: grid of 40x40, expected at most 30x30")


def echoes(asked: Asked) -> list[tuple[Grid, float]]:
    return [(asked.question, CONFIDENT)]


def solves_sudokus(asked: Asked) -> list[tuple[Grid, float]]:
    """Solves Sudokus in two steps, and echoes everything else."""
    if asked.question.shape != (9, 9):
        return echoes(asked)
    return [(asked.question, -CONFIDENT), (solve(asked.question), CONFIDENT)]


def says(grid: Grid) -> Play:
    return partial(lambda answer, asked: [(answer, CONFIDENT)], grid)
