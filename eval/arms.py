"""The arms: who proposes, who refines. Every one is a `hybrid.pipeline.Pipeline`; none has a mode."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.drafts import Recorded
from hybrid.answer import Answer, same
from hybrid.draft import Draft, Feedback, Proposer
from hybrid.null import Blank, Passthrough
from hybrid.pipeline import Options, Pipeline, Refined
from trm import tasks
from trm.exact import shortest_path, solve_sudoku
from trm.grid import Grid, Grids
from trm.refine import Refiner
from trm.tasks import Puzzle, Status
from trm.tasks.maze import FREE, GOAL, PATH, START, WALL, find

MAIN = ("llm", "trm", "hybrid")
CONTROLS = (
    "trm+restarts",
    "draft:llm",
    "draft:blank",
    "draft:random",
    "draft:oracle",
    "llm-best-of-k:vote",
    "llm-best-of-k:score",
    "llm-best-of-k:rules",
    "exact",
)
# draft:oracle@30: the label with 30 % of its free cells wrong, at random; draft:consistent@30: by one and the same
# mistake. Alone, or (`beside:`) beside a cold start.
SWEEPS = tuple(f"{how}:{kind}@" for how in ("draft", "beside") for kind in ("oracle", "consistent"))


@dataclass(frozen=True)
class Setting:
    """What the arms share. refiner: None where there is none; proposer: the drafts on file, or a live model.

    ahead: the next puzzles' drafts are asked for while the arms work on these.
    """

    proposer: Recorded | None
    refiner: Refiner | None
    options: Options  # of the hybrid
    at_once: int = 16
    ahead: bool = False


class ArmError(ValueError):
    """An arm that nobody knows."""


def check(name: str) -> str:
    """The arm's name. Raises ArmError."""
    kind, at, share = name.partition("@")
    swept = kind + at in SWEEPS and share.isdecimal() and int(share) <= 100
    if name not in MAIN + CONTROLS and not swept:
        sweeps = ", ".join(f"{sweep}PERCENT" for sweep in SWEEPS)
        raise ArmError(f"unknown arm {name!r}, expected one of {', '.join(MAIN + CONTROLS)}, {sweeps}")
    return name


def needs_llm(name: str) -> bool:
    return name in ("llm", "hybrid", "draft:llm", "trm+restarts") or name.startswith("llm-")


def needs_refiner(name: str) -> bool:
    named = name in ("trm", "hybrid", "trm+restarts", "llm-best-of-k:score")
    return named or name.startswith(("draft:", "beside:"))


def run(name: str, puzzles: Sequence[Puzzle], setting: Setting, spent: Sequence[float] = ()) -> list[Answer]:
    """The arm's answers, in order. spent: for `trm+restarts`, what the hybrid spent on each, in steps."""
    once = replace(setting.options, drafts=1, rounds=0, restarts=0)
    if name == "trm+restarts":
        return _equal_compute(puzzles, setting, spent)
    if name in ("trm", "hybrid") or name.startswith(("draft:", "beside:")):
        assert setting.refiner is not None
    if name == "trm":
        return _solve(Blank(), setting.refiner, puzzles, once, setting)
    if name == "exact":
        return _solve(Drafting("exact", _solved), Passthrough(), puzzles, once, setting)
    if name.startswith(("draft:", "beside:")) and name != "draft:llm":
        how, _, kind = name.partition(":")
        refiner = DraftAlone(setting.refiner) if how == "draft" else setting.refiner
        return _solve(Drafting(name, _maker(kind, setting.options.seed)), refiner, puzzles, once, setting)
    assert setting.proposer is not None
    if name == "hybrid":
        return _solve(setting.proposer, setting.refiner, puzzles, setting.options, setting)
    if name == "draft:llm":
        return _solve(setting.proposer, DraftAlone(setting.refiner), puzzles, once, setting)
    if name == "llm":
        return _solve(setting.proposer, Passthrough(), puzzles, once, setting)
    picker = BestOfK(setting.proposer, name.rpartition(":")[2], setting.refiner, setting.proposer.most)
    return _solve(picker, Passthrough(), puzzles, once, setting)


def _solve(
    proposer: Proposer, refiner: Any, puzzles: Sequence[Puzzle], options: Options, setting: Setting
) -> list[Answer]:
    return list(Pipeline(proposer, refiner, at_once=setting.at_once).solve(puzzles, options))


# -- equal compute -------------------------------------------------------------------------------------------
def llm_flops(answer: Answer, parameters: int | None) -> float:
    """Two operations a parameter and token, read or written, of the drafts that the answer used."""
    tokens = sum(draft.draft.tokens + draft.draft.prompt_tokens for draft in answer.drafts)
    return 2.0 * (parameters or 0) * tokens


def step_flops(refiner: Refiner | None, task: str) -> float:
    """One supervision step of one puzzle; 0 where no network runs."""
    from trm.model import count_flops

    if refiner is None or task not in refiner.tasks:
        return 0.0
    return count_flops(refiner.checkpoint.experts[task].config).step


def _equal_compute(puzzles: Sequence[Puzzle], setting: Setting, spent: Sequence[float]) -> list[Answer]:
    """Cold starts alone, with as many restarts as the hybrid's steps and its LLM's arithmetic pay for.

    Rounded up: where the two cannot be made equal, the control has more.
    """
    restarts = [max(0, ceil(steps / setting.options.steps) - 1) for steps in spent]
    answers: dict[int, Answer] = {}
    for count in sorted(set(restarts)):
        rows = [row for row, has in enumerate(restarts) if has == count]
        options = replace(setting.options, drafts=1, rounds=0, restarts=count)
        made = _solve(Blank(), setting.refiner, [puzzles[row] for row in rows], options, setting)
        answers |= dict(zip(rows, made, strict=True))
    return [answers[row] for row in range(len(puzzles))]


# -- proposers -----------------------------------------------------------------------------------------------
@dataclass
class Drafting:
    """A proposer that computes its draft."""

    name: str | None
    make: Callable[[Puzzle], Grids | None]

    def propose(
        self, puzzle: Puzzle, drafts: int = 1, feedback: Feedback | None = None, seed: int = 0
    ) -> list[Draft]:
        grids = self.make(puzzle)
        return [Draft(grids, error=None if grids is not None else f"{self.name}: nothing to give")]


def _maker(kind: str, seed: int) -> Callable[[Puzzle], Grids | None]:
    if kind == "blank":
        return lambda puzzle: tuple(grid * 0 if puzzle.task == "sudoku" else grid for grid in puzzle.inputs)
    name, _, percent = kind.partition("@")
    share = 1.0 if name == "random" else float(percent or 0) / 100
    return lambda puzzle: _corrupted(puzzle, share, name, seed)


def _corrupted(puzzle: Puzzle, share: float, kind: str, seed: int) -> Grids | None:
    """The label with `share` of its free cells wrong; "random": every free cell drawn from what labels hold.

    "consistent": by one and the same mistake. Givens stay. None where the label is not known.
    """
    if puzzle.answers is None:
        return None
    crc = zlib.crc32(b"".join(grid.tobytes() for grid in puzzle.inputs))
    rng = np.random.default_rng([seed, crc, round(100 * share)])
    if kind == "consistent":
        if puzzle.task == "maze":
            return (_astray(puzzle.grid, puzzle.answers[0], share, rng),)
        labels = zip(puzzle.inputs, puzzle.answers, strict=True)
        return tuple(_exchanged(puzzle.task, question, label, share, rng) for question, label in labels)
    blind = kind == "random"
    made = []
    for question, label in zip(puzzle.inputs, puzzle.answers, strict=True):
        # What a maze's open cell or an ARC cell can be is what the label uses; a Sudoku's free cell any digit.
        symbols = np.unique(label[_free(puzzle.task, question, label)])
        draft = label.copy()
        cells = np.argwhere(_free(puzzle.task, question, label))
        chosen = cells if blind else rng.permutation(cells)[: round(share * len(cells))]
        for row, col in chosen:
            others = symbols if blind else symbols[symbols != label[row, col]]
            if len(others):
                draft[row, col] = rng.choice(others)
        made.append(draft)
    return tuple(made)


def _exchanged(task: str, question: Grid, label: Grid, share: float, rng: np.random.Generator) -> Grid:
    """In `share` of the free cells every symbol is the same other symbol, all along the grid."""
    symbols = rng.permutation(np.unique(label[_free(task, question, label)]))
    instead = np.arange(256, dtype=np.uint8)
    instead[symbols] = np.roll(symbols, 1)
    draft = label.copy()
    cells = np.argwhere(_free(task, question, label))
    for row, col in rng.permutation(cells)[: round(share * len(cells))]:
        draft[row, col] = instead[label[row, col]]
    return draft


def _astray(question: Grid, label: Grid, share: float, rng: np.random.Generator) -> Grid:
    """The marked path up to its last `share`; from there as long a way as was left, but to somewhere else."""
    start = find(question, START)
    distance = _moves(question != WALL, start)
    marked = [(row, col) for row, col in np.argwhere(label == PATH).tolist()]
    path = sorted(marked, key=lambda cell: int(distance[cell]))
    kept = path[: round((1 - share) * len(path))]
    draft = np.where(label == PATH, FREE, label)
    for cell in kept:
        draft[cell] = PATH
    fork = kept[-1] if kept else start
    away = _moves(question != WALL, fork)
    far = np.argwhere((away > 0) & (away <= len(path) - len(kept)) & (question == FREE) & (label != PATH))
    if not len(far) or len(kept) == len(path):
        return draft
    longest = max(int(away[tuple(cell)]) for cell in far)
    ends = [cell for cell in far.tolist() if away[tuple(cell)] == longest]
    detour = np.where(question == WALL, WALL, FREE).astype(np.uint8)
    end = tuple(ends[rng.integers(len(ends))])
    detour[fork], detour[end] = START, GOAL
    way = shortest_path(detour)
    assert way is not None
    on_way = ((way == PATH) | (way == GOAL)) & (question == FREE)
    return np.where(on_way, PATH, draft).astype(np.uint8)


def _moves(open_cells: NDArray[np.bool_], start: tuple[int, int]) -> NDArray[np.int64]:
    """Moves from start to every cell, -1 where there is no way. [H, W]"""
    height, width = open_cells.shape
    moves = np.full((height, width), -1, dtype=np.int64)
    moves[start], edge = 0, [start]
    while edge:
        row, col = edge.pop(0)
        for beside in ((row + 1, col), (row - 1, col), (row, col + 1), (row, col - 1)):
            inside = 0 <= beside[0] < height and 0 <= beside[1] < width
            if inside and open_cells[beside] and moves[beside] < 0:
                moves[beside] = moves[row, col] + 1
                edge.append(beside)
    return moves


def _free(task: str, question: Any, label: Any) -> Any:
    """Which cells an answer is free to fill: blanks; in a maze, cells that are neither wall nor S nor G."""
    if task == "arc":
        return np.ones(label.shape, dtype=bool)
    return question == (0 if task == "sudoku" else ord(" "))


def _solved(puzzle: Puzzle) -> Grids | None:
    """A classical solver's answer: a control, and the only place where one answers anything."""
    if puzzle.task == "sudoku":
        found = solve_sudoku(puzzle.grid, most=1).solutions
        return (found[0],) if found else None
    if puzzle.task == "maze":
        path = shortest_path(puzzle.grid)
        return None if path is None else (path,)
    return None


class BestOfK:
    """The same K replies, of which one is picked: by majority, by the refiner's `score`, or by the rules."""

    def __init__(self, replies: Recorded, how: str, refiner: Refiner | None, most: int) -> None:
        self.name: str | None = replies.name
        self.replies, self.how, self.refiner, self.most = replies, how, refiner, most

    def propose(
        self, puzzle: Puzzle, drafts: int = 1, feedback: Feedback | None = None, seed: int = 0
    ) -> list[Draft]:
        made = self.replies.propose(puzzle, self.most, seed=seed)
        read = [draft for draft in made if draft.grids is not None]
        best = self._picked(puzzle, read) if read else made[0]
        # All K were paid for.
        return [
            replace(
                best,
                tokens=sum(d.tokens for d in made),
                prompt_tokens=sum(d.prompt_tokens for d in made),
                seconds=sum(d.seconds for d in made),
            )
        ]

    def _picked(self, puzzle: Puzzle, read: list[Draft]) -> Draft:
        if self.how == "rules":
            task = tasks.get(puzzle.task)
            verdicts = [task.check(puzzle, draft.grids or ()).status for draft in read]
            return next((d for d, v in zip(read, verdicts, strict=True) if v is Status.VERIFIED), read[0])
        if self.how == "score":
            assert self.refiner is not None
            shaped = [d for d in read if _fits(puzzle, d)]
            if not shaped:
                return read[0]
            scores = self.refiner.score(puzzle, [draft.grids or () for draft in shaped])
            return shaped[int(np.argmax(scores))]
        votes = Counter({i: sum(same(d.grids, other.grids) for other in read) for i, d in enumerate(read)})
        return read[max(votes, key=lambda i: (votes[i], -i))]


def _fits(puzzle: Puzzle, draft: Draft) -> bool:
    return all(g.shape == q.shape for g, q in zip(draft.grids or (), puzzle.inputs, strict=True))


# -- refiners ------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class DraftAlone:
    """A refiner that never starts cold: without a draft it has nothing to say."""

    inner: Any  # a Refiner

    @property
    def name(self) -> str | None:
        named: str = self.inner.name
        return named

    @property
    def tasks(self) -> tuple[str, ...]:
        known: tuple[str, ...] = self.inner.tasks
        return known

    def accepts_drafts(self, task: str) -> bool:
        return bool(self.inner.accepts_drafts(task))

    def refine(self, question: Sequence[Puzzle], draft: Sequence[Grids | None], **asks: Any) -> list[Refined]:
        given = [row for row, grids in enumerate(draft) if grids is not None]
        outs: list[Refined] = list(Passthrough().refine(question, draft))
        if given:
            asks["cold"] = False
            made = self.inner.refine([question[row] for row in given], [draft[row] for row in given], **asks)
            for row, out in zip(given, made, strict=True):
                outs[row] = out
        return outs
