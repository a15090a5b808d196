"""The arms of a comparison: who proposes and who refines. Each of them is a `hybrid.pipeline.Pipeline`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil

import numpy as np

from eval.recorded import RecordedProposer
from eval.synthetic import MakeDraft, draft_maker
from hybrid.answer import Answer
from hybrid.pipeline import Pipeline
from trm.grid import Grid, Grids
from trm.inference.config import SearchConfig
from trm.inference.proposals import Blank, Draft, Feedback, Proposer
from trm.inference.refiner import Refiner
from trm.inference.search import Callbacks
from trm.inference.selection import CandidateScorer, distinct_grids, pool_candidates, same_grids
from trm.model.flops import count_flops
from trm.tasks import Puzzle, Status, get
from trm.tasks.registry import solver_of

MAIN = ("llm", "trm", "hybrid")
BEST_OF_K = "llm-best-of-k:"
TUNED, PLAIN = "llm:tuned", "llm:plain"  # the proposer fitted to nothing, and as it came
EQUAL_STEPS, EQUAL_SECONDS, MORE_VIEWS = "trm+restarts", "trm+seconds", "llm+views"
# Measured against what the hybrid spent on the same puzzle.
AGAINST_HYBRID = (EQUAL_STEPS, EQUAL_SECONDS, MORE_VIEWS)
UNLIMITED = 10_000  # restarts, where seconds are the limit
CONTROLS = (
    TUNED,
    PLAIN,
    MORE_VIEWS,
    "hybrid:pool",
    EQUAL_STEPS,
    EQUAL_SECONDS,
    "draft:llm",
    "draft:blank",
    "draft:random",
    "draft:oracle",
    *(BEST_OF_K + how for how in ("vote", "score", "rules")),
    "exact",
)
# draft:oracle@30: the label with 30 % of its free cells wrong, at random; draft:consistent@30: with the same mistake
# in all of them. From the draft alone, or (`beside:`) beside a cold start.
SWEEPS = tuple(f"{start}:{kind}@" for start in ("draft", "beside") for kind in ("oracle", "consistent"))


class ArmError(ValueError):
    """An arm that does not exist. One line for people."""


@dataclass(frozen=True)
class Setting:
    """What the arms share.

    refiner: None where there is none. proposer: of the LLM's drafts, None where there is none. variants: the same
    model in other states, by the arm that asks it. config: the hybrid's.
    at_once: puzzles that are refined together. prefetched: the next puzzles' drafts are asked for while the arms work
    on these.
    """

    proposer: RecordedProposer | None
    refiner: Refiner | None
    config: SearchConfig
    at_once: int = 16
    prefetched: bool = False
    callbacks: Callbacks | None = None
    variants: Mapping[str, RecordedProposer] = field(default_factory=dict)

    def proposer_of(self, name: str) -> RecordedProposer | None:
        """Whose drafts an arm takes; None where it takes none."""
        if name in (TUNED, PLAIN):
            return self.variants.get(name)
        return self.proposer if needs_llm(name) else None


@dataclass(frozen=True)
class Arm:
    """Who proposes; who refines, if anybody; whether the network also starts without a draft, and from drafts; what
    may be spent."""

    proposer: Proposer
    refiner: Refiner | None
    config: SearchConfig
    cold: bool = True
    refines_drafts: bool = True


def check(name: str) -> str:
    """The arm's name. Raises ArmError."""
    kind, at, share = name.partition("@")
    swept = kind + at in SWEEPS and share.isdecimal() and int(share) <= 100
    if name not in MAIN + CONTROLS and not swept:
        sweeps = ", ".join(f"{sweep}PERCENT" for sweep in SWEEPS)
        raise ArmError(f"unknown arm {name!r}, expected one of {', '.join(MAIN + CONTROLS)}, {sweeps}")
    return name


def needs_llm(name: str) -> bool:
    """Whether an arm cannot do without a language model."""
    named = name in ("llm", TUNED, PLAIN, "hybrid", "hybrid:pool", "draft:llm", *AGAINST_HYBRID)
    return named or name.startswith(BEST_OF_K)


def needs_refiner(name: str) -> bool:
    named = name in ("trm", "hybrid", "hybrid:pool", *AGAINST_HYBRID, BEST_OF_K + "score")
    return named or name.startswith(("draft:", "beside:"))


def needs_labels(name: str) -> bool:
    return name.startswith(("draft:random", "draft:oracle", "draft:consistent", "beside:"))


def missing_requirement(name: str, puzzles: Sequence[Puzzle], setting: Setting) -> str | None:
    """Why an arm cannot answer these puzzles, all of one task; None where it can."""
    task, refiner = puzzles[0].task, setting.refiner
    if needs_llm(name) and setting.proposer is None:
        return "no language model"
    if name in (TUNED, PLAIN) and name not in setting.variants:
        state = "not tuned" if name == PLAIN else "fitted to nothing"
        return f"the same as llm, which is {state} here, or not on file"
    if name == MORE_VIEWS:
        proposer = setting.proposer
        if not (get(task).has_demonstrations and proposer is not None and proposer.has_views):
            return f"{task}: the language model is asked under one view alone"
    if needs_refiner(name) and refiner is None:
        return "no network"
    if needs_refiner(name) and refiner is not None and task not in refiner.tasks:
        return f"{refiner.name} has no expert for {task} (it has: {', '.join(refiner.tasks)})"
    if needs_labels(name) and any(puzzle.answers is None for puzzle in puzzles):
        return f"{task}: not every puzzle has its answer"
    return f"no classical solver for {task}" if name == "exact" and solver_of(get(task)) is None else None


def arm(name: str, task: str, setting: Setting) -> Arm:
    """The arm of this name for puzzles of a task; of `trm+restarts` without its restarts."""
    refiner = setting.refiner
    once = replace(setting.config, drafts=1, rounds=0, restarts=0)
    start, _, kind = name.partition(":")
    proposer = setting.proposer_of(name)
    if name in ("trm", EQUAL_STEPS, EQUAL_SECONDS):
        return Arm(Blank(), refiner, once)
    if name == "exact":
        solver = solver_of(get(task))
        assert solver is not None
        return Arm(Computed(name, solver), None, once)
    if start in ("draft", "beside") and kind != "llm":
        return Arm(Computed(name, draft_maker(kind, once.seed)), refiner, once, start == "beside")
    assert proposer is not None
    if start == "hybrid":
        return Arm(proposer, refiner, setting.config, refines_drafts=kind != "pool")
    if name.startswith(BEST_OF_K):
        return Arm(BestOfK(proposer, kind, refiner), None, once)
    return Arm(proposer, None, once) if start == "llm" else Arm(proposer, refiner, once, cold=False)


def run(
    name: str, puzzles: Sequence[Puzzle], setting: Setting, spent: Sequence[float] = ()
) -> Iterator[Answer]:
    """The arm's answers to puzzles of one task, each as soon as it is there.

    spent: for arms `AGAINST_HYBRID` what the hybrid spent on each puzzle: steps for `trm+restarts`, else seconds.
    """
    chosen = arm(name, puzzles[0].task, setting)
    for group, given in _allowances(name, puzzles, setting.config, spent):
        proposer, config = chosen.proposer, chosen.config
        if name == EQUAL_STEPS:
            config = replace(config, restarts=int(given))
        elif name == EQUAL_SECONDS:
            config = replace(config, restarts=UNLIMITED, budget_seconds=given)
        elif name == MORE_VIEWS:
            assert isinstance(proposer, RecordedProposer)
            proposer = MoreViews(proposer, given, proposer.name)
        pipeline = Pipeline(
            proposer,
            chosen.refiner,
            setting.at_once,
            setting.callbacks,
            cold=chosen.cold,
            refines_drafts=chosen.refines_drafts,
        )
        yield from pipeline.solve(group, config)


def _allowances(
    name: str, puzzles: Sequence[Puzzle], config: SearchConfig, spent: Sequence[float]
) -> list[tuple[list[Puzzle], float]]:
    """Puzzles answered together, and what each of them may cost: restarts for `trm+restarts`, else seconds."""
    if name == EQUAL_STEPS:
        groups: dict[int, list[Puzzle]] = {}
        for puzzle, steps in zip(puzzles, spent, strict=True):
            groups.setdefault(affordable_restarts(puzzle, steps, config), []).append(puzzle)
        return [(group, restarts) for restarts, group in sorted(groups.items())]
    if name in AGAINST_HYBRID:
        return [([puzzle], seconds) for puzzle, seconds in zip(puzzles, spent, strict=True)]
    return [(list(puzzles), 0.0)]


# -- equal compute -------------------------------------------------------------------------------------------
def llm_flops(answer: Answer, parameters: int | None) -> float:
    """Two operations for each parameter and token, read or written, of the drafts that the answer used."""
    tokens = sum(draft.draft.tokens + draft.draft.prompt_tokens for draft in answer.drafts)
    return 2.0 * (parameters or 0) * tokens


def step_flops(refiner: Refiner | None, puzzle: Puzzle) -> float:
    """Of one supervision step over one input of a puzzle, on its canvas; 0 where no network runs."""
    if refiner is None or puzzle.task not in refiner.tasks:
        return 0.0
    config = refiner.pool.expert(puzzle.task).config
    if refiner.pool.adapts(puzzle.task):
        config = config.on(refiner.pool.canvas(puzzle).width)
    return count_flops(config).step


def affordable_restarts(puzzle: Puzzle, steps: float, config: SearchConfig) -> int:
    """The restarts of a cold start that so many supervision steps pay for.

    Rounded up: where the two cannot be made equal, the control has more. A restart takes all the steps it may; where
    no rule decides it ends when the network halts, after one step as a rule, and counts as one for every input.
    """
    each = config.steps if get(puzzle.task).has_checker else len(puzzle.inputs)
    return max(0, ceil(steps / each) - 1)


# -- proposers -----------------------------------------------------------------------------------------------
@dataclass
class Computed:
    """A proposer that computes its draft."""

    name: str | None
    make: MakeDraft

    def propose(
        self, puzzle: Puzzle, drafts: int = 1, feedback: Feedback | None = None, seed: int = 0
    ) -> list[Draft]:
        grids = self.make(puzzle)
        return [Draft(grids, error=None if grids is not None else f"{self.name}: no draft of this puzzle")]


@dataclass
class MoreViews:
    """The language model, asked under further views until so many seconds are spent, those of its drafts included."""

    replies: RecordedProposer
    seconds: float
    name: str | None

    def propose(
        self, puzzle: Puzzle, drafts: int = 1, feedback: Feedback | None = None, seed: int = 0
    ) -> list[Draft]:
        return [self.replies.with_more_views(puzzle, self.seconds, seed)]


class BestOfK:
    """The same K replies, of which one is picked: by majority (`vote`), by the refiner's `score`, or by the `rules`.

    Where no rule decides (ARC) an answer has two grids for every input, as its scoring allows and the hybrid does:
    those with the most votes, or the best scores; with no rules to ask, the first two that differ.
    """

    def __init__(self, replies: RecordedProposer, how: str, refiner: Refiner | None) -> None:
        self.name: str | None = replies.name
        self.replies, self.how, self.refiner = replies, how, refiner

    def propose(
        self, puzzle: Puzzle, drafts: int = 1, feedback: Feedback | None = None, seed: int = 0
    ) -> list[Draft]:
        every = self.replies.propose(puzzle, self.replies.drafts, seed=seed)
        read = [draft for draft in every if draft.grids is not None]
        if not read:
            best = every[:1]
        elif get(puzzle.task).has_checker:
            best = [self._picked(puzzle, read)]
        else:
            best = self._two_attempts(puzzle, [draft.grids or () for draft in read])
        free = [replace(draft, tokens=0, prompt_tokens=0, seconds=0.0) for draft in best]
        free[0] = replace(  # all K were paid for
            best[0],
            tokens=sum(d.tokens for d in every),
            prompt_tokens=sum(d.prompt_tokens for d in every),
            seconds=sum(d.seconds for d in every),
        )
        return free

    def _two_attempts(self, puzzle: Puzzle, read: Sequence[Grids]) -> list[Draft]:
        """One or two drafts, whose grids for an input are its first and second candidate."""
        ballots: list[list[Grid]] = [[grids[i] for grids in read] for i in range(len(puzzle.inputs))]
        if self.how != "vote":  # each counts once
            ballots = [[grid for (grid,) in distinct_grids((grid,) for grid in named)] for named in ballots]
        candidates = pool_candidates(ballots, self._judge(puzzle) if self.how == "score" else None)
        count = max(len(choice) for choice in candidates)
        return [
            Draft(tuple(choice[min(rank, len(choice) - 1)] for choice in candidates)) for rank in range(count)
        ]

    def _judge(self, puzzle: Puzzle) -> CandidateScorer:
        assert self.refiner is not None
        refiner = self.refiner
        return lambda index, grids: refiner.score(puzzle, [(grid,) for grid in grids], index=index).tolist()

    def _picked(self, puzzle: Puzzle, read: Sequence[Draft]) -> Draft:
        if self.how == "rules":
            task = get(puzzle.task)
            valid = (d for d in read if task.check(puzzle, d.grids or ()).status is Status.VERIFIED)
            return next(valid, read[0])
        if self.how == "score":
            assert self.refiner is not None
            fitting = [d for d in read if _fits(puzzle, d)]
            if not fitting:
                return read[0]
            scores = self.refiner.score(puzzle, [draft.grids or () for draft in fitting])
            return fitting[int(np.argmax(scores))]
        votes = Counter(
            {i: sum(same_grids(d.grids, other.grids) for other in read) for i, d in enumerate(read)}
        )
        return read[max(votes, key=lambda i: (votes[i], -i))]


def _fits(puzzle: Puzzle, draft: Draft) -> bool:
    return all(g.shape == q.shape for g, q in zip(draft.grids or (), puzzle.inputs, strict=True))
