"""The arms: who proposes, who refines. Every one is a `hybrid.pipeline.Pipeline`; none has a mode."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

import numpy as np

from eval.recorded import Recorded
from eval.synthetic import maker, solved
from hybrid.answer import Answer, distinct, same
from hybrid.null import Passthrough
from hybrid.pipeline import Options, Pipeline, Watcher
from hybrid.pooling import pooled
from hybrid.proposers import Blank, Draft, Feedback, Proposer
from hybrid.work import Refined
from trm import tasks
from trm.grid import Grids
from trm.inference.refiner import Refiner
from trm.tasks import Puzzle, Status

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

    ahead: the next puzzles' drafts are asked for while the arms work on these. watcher: hears what could not be done.
    """

    proposer: Recorded | None
    refiner: Refiner | None
    options: Options  # of the hybrid
    at_once: int = 16
    ahead: bool = False
    watcher: Watcher | None = None


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


def needs_labels(name: str) -> bool:
    return name.startswith(("draft:random", "draft:oracle", "draft:consistent", "beside:"))


def lacks(name: str, puzzles: Sequence[Puzzle], refiner: Refiner | None) -> str | None:
    """Why an arm cannot answer these puzzles, all of one task; None where it can."""
    task = puzzles[0].task
    if needs_refiner(name) and refiner is None:
        return "no network"
    if needs_refiner(name) and refiner is not None and task not in refiner.tasks:
        return f"{refiner.name} has no expert for {task} (it has: {', '.join(refiner.tasks)})"
    if needs_labels(name) and any(puzzle.answers is None for puzzle in puzzles):
        return f"{task}: not every puzzle has its answer"
    return "no classical solver for arc" if name == "exact" and task == "arc" else None


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
        return _solve(Drafting("exact", solved), Passthrough(), puzzles, once, setting)
    if name.startswith(("draft:", "beside:")) and name != "draft:llm":
        how, _, kind = name.partition(":")
        refiner = DraftAlone(setting.refiner) if how == "draft" else setting.refiner
        return _solve(Drafting(name, maker(kind, setting.options.seed)), refiner, puzzles, once, setting)
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
    pipeline = Pipeline(proposer, refiner, at_once=setting.at_once, watcher=setting.watcher)
    return list(pipeline.solve(puzzles, options))


# -- equal compute -------------------------------------------------------------------------------------------
def llm_flops(answer: Answer, parameters: int | None) -> float:
    """Two operations a parameter and token, read or written, of the drafts that the answer used."""
    tokens = sum(draft.draft.tokens + draft.draft.prompt_tokens for draft in answer.drafts)
    return 2.0 * (parameters or 0) * tokens


def step_flops(refiner: Refiner | None, puzzle: Puzzle) -> float:
    """One supervision step of one input of a puzzle, on its canvas; 0 where no network runs."""
    from trm.model.flops import count_flops

    if refiner is None or puzzle.task not in refiner.tasks:
        return 0.0
    config = refiner.checkpoint.experts[puzzle.task].config
    if refiner.fits(puzzle.task):
        config = config.on(refiner.experts.spec(puzzle).width)
    return count_flops(config).step


def _equal_compute(puzzles: Sequence[Puzzle], setting: Setting, spent: Sequence[float]) -> list[Answer]:
    """Cold starts alone, with as many restarts as the hybrid's steps and its LLM's arithmetic pay for.

    Rounded up: where the two cannot be made equal, the control has more. A restart takes all the steps it may; where
    no rule decides it ends when the network halts, after one step as a rule, and is counted as one for every input.
    """
    each = [
        setting.options.steps if tasks.get(puzzle.task).has_checker else len(puzzle.inputs)
        for puzzle in puzzles
    ]
    restarts = [max(0, ceil(steps / most) - 1) for steps, most in zip(spent, each, strict=True)]
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


class BestOfK:
    """The same K replies, of which one is picked: by majority, by the refiner's `score`, or by the rules.

    Where no rule decides (ARC) two are handed in for every input, as its scoring allows and the hybrid does: those
    with the most votes, or the best scores; with no rules to ask, the first two that differ.
    """

    def __init__(self, replies: Recorded, how: str, refiner: Refiner | None, most: int) -> None:
        self.name: str | None = replies.name
        self.replies, self.how, self.refiner, self.most = replies, how, refiner, most

    def propose(
        self, puzzle: Puzzle, drafts: int = 1, feedback: Feedback | None = None, seed: int = 0
    ) -> list[Draft]:
        made = self.replies.propose(puzzle, self.most, seed=seed)
        read = [draft for draft in made if draft.grids is not None]
        if not read:
            best = made[:1]
        elif tasks.get(puzzle.task).has_checker:
            best = [self._picked(puzzle, read)]
        else:
            best = self._attempts(puzzle, [draft.grids or () for draft in read])
        free = [replace(draft, tokens=0, prompt_tokens=0, seconds=0.0) for draft in best]
        # All K were paid for.
        free[0] = replace(
            best[0],
            tokens=sum(d.tokens for d in made),
            prompt_tokens=sum(d.prompt_tokens for d in made),
            seconds=sum(d.seconds for d in made),
        )
        return free

    def _attempts(self, puzzle: Puzzle, read: list[Grids]) -> list[Draft]:
        """One or two drafts, whose grids for an input are its first and second candidate."""
        if self.how == "vote":
            candidates = pooled(puzzle, (), read)
        else:  # each counts once
            named = [
                [grid for (grid,) in distinct((grids[i],) for grids in read)]
                for i in range(len(puzzle.inputs))
            ]
            score = self.refiner.score if self.how == "score" and self.refiner is not None else None
            candidates = pooled(puzzle, [named], (), score)
        count = max(len(choice) for choice in candidates)
        return [
            Draft(tuple(choice[min(rank, len(choice) - 1)] for choice in candidates)) for rank in range(count)
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

    def score(self, question: Puzzle, candidates: Sequence[Grids], **asks: Any) -> Any:
        return self.inner.score(question, candidates, **asks)

    def each(
        self, puzzles: Sequence[Puzzle], draft: Sequence[Grids | None], **asks: Any
    ) -> Iterator[tuple[int, Refined]]:
        given = [row for row, grids in enumerate(draft) if grids is not None]
        yield from ((row, out) for row, out in Passthrough().each(puzzles, draft) if row not in given)
        if given:
            asks["cold"] = False
            made = self.inner.each([puzzles[row] for row in given], [draft[row] for row in given], **asks)
            yield from ((given[row], out) for row, out in made)
