"""The answer among attempts and drafts: what verifies, else the most confident, else what most of them say.

The exact verdict, the learned confidence and the votes are three values, which are never merged into one number.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from trm.adaptation.calibration import Calibration
from trm.grid import Grid, Grids, PuzzleError, grid_key
from trm.inference.proposals import CheckedDraft
from trm.inference.ranking import GridMender, JudgeScorer, PooledGrid, ranked_pool
from trm.inference.rollouts import SOURCE_COLD, SOURCE_FROM_DRAFT, Attempt, RolloutStep
from trm.tasks import Puzzle, Status, Task, Verdict

GRIDS_PER_INPUT = 2  # grids that an answer may name for one input where no rule decides (ARC's scoring)
SOURCE_DRAFT = "llm"  # the source of an answer that is a draft as it came

Candidates = tuple[tuple[Grid, ...], ...]  # for every input of a puzzle its grids, the best first
# The grids named for one input (its number first), to how likely the network finds each. May raise PuzzleError.
CandidateScorer = Callable[[int, Sequence[Grid]], Sequence[float]]


@dataclass(frozen=True, eq=False)
class Selection:
    """The answer to a puzzle. grids: None where there is none. source: whose it is; None where nobody answered.

    candidates: where no rule decides, for every input one or two grids. alternatives: further verified answers.
    traced: every step of the best attempt. pool: where candidates of network and proposer were ranked
    together, all of them for each input.
    """

    grids: Grids | None
    verdict: Verdict
    source: str | None
    confidence: float | None = None
    candidates: Candidates = ()
    alternatives: tuple[Grids, ...] = ()
    traced: tuple[RolloutStep, ...] = ()
    pool: tuple[tuple[PooledGrid, ...], ...] = ()


def select_answer(
    task: Task,
    puzzle: Puzzle,
    attempts: Sequence[Attempt],
    drafts: Sequence[CheckedDraft] = (),
    calibration: Calibration | None = None,
    scorer: CandidateScorer | None = None,
    judge: JudgeScorer | None = None,
    mender: GridMender | None = None,
) -> Selection:
    """Choose among what the network attempted and a proposer drafted. scorer: asked where votes are equal.

    With rules: a verified attempt of a cold start, else a verified draft, else a verified attempt from a draft, else
    the most confident attempt, else the newest draft that could be read. Without: for every input the two grids
    that most attempts and drafts name; where the proposer named candidates, the two most probable of all that both
    name, and `judge` is asked about the network's and what `mender` makes of these.
    """
    ranked = rank_attempts(attempts)
    traced = ranked[0].traced if ranked else ()
    if task.has_demonstrations:  # whose attempts vote; of other tasks without rules there is one
        if any(draft.draft.candidates for draft in drafts):
            return _by_ranking(task, puzzle, attempts, drafts, judge, mender, traced)
        return _by_votes(task, puzzle, attempts, drafts, calibration, scorer, traced)
    best = ranked[0] if ranked else None
    own = next((draft.draft.grids for draft in drafts if draft.verified), None)
    newest = next((draft.draft.grids for draft in reversed(drafts) if draft.draft.grids is not None), None)
    grids: Grids | None
    source: str | None
    if best is not None and (own is None or (best.verified and best.source == SOURCE_COLD)):
        grids, source = best.grids, best.source
        confidence: float | None = best.confidence
    else:
        grids, source = own or newest, SOURCE_DRAFT if drafts else None
        # The network's confidence is in its own grid: it says nothing about another.
        confidence = best.confidence if best is not None and same_grids(grids, best.grids) else None
    verdict = _verdict(task, puzzle, grids, drafts)
    others = [other for other in verified_answers(attempts, drafts) if not same_grids(other, grids)]
    return Selection(grids, verdict, source, confidence, (), tuple(others), traced)


def rank_attempts(attempts: Sequence[Attempt]) -> list[Attempt]:
    """Verified attempts first, of these a cold start's (a draft added nothing), in the order of coming; then the
    others by their confidence."""
    verified = sorted((a for a in attempts if a.verified), key=lambda a: a.source != SOURCE_COLD)
    return verified + sorted((a for a in attempts if not a.verified), key=lambda a: -a.confidence)


def verified_answers(attempts: Sequence[Attempt], drafts: Sequence[CheckedDraft] = ()) -> list[Grids]:
    """The distinct answers that the rules accept: drafts first, then attempts as they are ranked."""
    named = [draft.draft.grids for draft in drafts if draft.verified and draft.draft.grids is not None]
    return distinct_grids([*named, *(a.grids for a in rank_attempts(attempts) if a.verified)])


def _verdict(task: Task, puzzle: Puzzle, grids: Grids | None, drafts: Sequence[CheckedDraft]) -> Verdict:
    """Whatever anyone claimed: the rules decide last, on the very grids that are handed out."""
    if grids is not None:
        return task.check(puzzle, grids)
    faults = drafts[-1].faults if drafts else ("no answer",)
    return Verdict(Status.UNSOLVED, faults)


# -- votes ---------------------------------------------------------------------------------------------------
def _by_votes(
    task: Task,
    puzzle: Puzzle,
    attempts: Sequence[Attempt],
    drafts: Sequence[CheckedDraft],
    calibration: Calibration | None,
    scorer: CandidateScorer | None,
    traced: tuple[RolloutStep, ...],
) -> Selection:
    read = [draft.draft.grids for draft in drafts if draft.draft.grids is not None]
    # Without a scorer the confidence decides between equal votes: among equals the first one named wins.
    named = attempts if scorer is not None else sorted(attempts, key=lambda a: -a.confidence)
    ballots = [[a.grids[i] for a in named] + [g[i] for g in read] for i in range(len(puzzle.inputs))]
    candidates = pool_candidates(ballots, scorer) if attempts or read else ()
    if not candidates:
        return Selection(None, _verdict(task, puzzle, None, drafts), SOURCE_DRAFT if drafts else None)
    grids = tuple(choice[0] for choice in candidates)
    source = _source_of_votes(attempts, grids)
    confidence = vote_confidence(attempts, _supporters(attempts, source), grids, calibration)
    return Selection(grids, _verdict(task, puzzle, grids, drafts), source, confidence, candidates, (), traced)


def _by_ranking(
    task: Task,
    puzzle: Puzzle,
    attempts: Sequence[Attempt],
    drafts: Sequence[CheckedDraft],
    judge: JudgeScorer | None,
    mender: GridMender | None,
    traced: tuple[RolloutStep, ...],
) -> Selection:
    proposed = next(draft.draft.candidates for draft in drafts if draft.draft.candidates)
    pool = tuple(
        tuple(ranked_pool(index, attempts, proposed[index], judge, mender))
        for index in range(len(puzzle.inputs))
    )
    chosen = tuple(tuple(candidate.grid for candidate in some[:GRIDS_PER_INPUT]) for some in pool)
    grids = tuple(choice[0] for choice in chosen)
    return Selection(
        grids,
        _verdict(task, puzzle, grids, drafts),
        _source_of_votes(attempts, grids),
        min(some[0].probability for some in pool),
        chosen,
        (),
        traced,
        pool,
    )


def _source_of_votes(attempts: Sequence[Attempt], grids: Grids) -> str:
    """A cold start's if for every input some cold attempt says so, else a draft's attempts', else the draft's."""
    for source in (SOURCE_COLD, SOURCE_FROM_DRAFT):
        own = _supporters(attempts, source)
        if all(any(np.array_equal(a.grids[i], grid) for a in own) for i, grid in enumerate(grids)):
            return source
    return SOURCE_DRAFT


def _supporters(attempts: Sequence[Attempt], source: str) -> list[Attempt]:
    """The attempts that count for a source: a cold start's cold ones, all for drafts' attempts, none for a draft."""
    return [a for a in attempts if source in (a.source, SOURCE_FROM_DRAFT)]


def pool_candidates(ballots: Sequence[Sequence[Grid]], scorer: CandidateScorer | None = None) -> Candidates:
    """For every input the grids with the most votes, at most two. ballots: for every input the grids named for it.

    scorer: asked where an input has several grids, to decide between equal votes; then the one that was named first.
    """
    chosen = []
    for index, named in enumerate(ballots):
        counted = tally(named)
        likely: Sequence[float] = [0.0] * len(counted)
        if scorer is not None and len(counted) > 1:
            likely = _likelihoods(scorer, index, [grid for grid, _ in counted])
        order = sorted(range(len(counted)), key=lambda n: (-counted[n][1], -likely[n], n))
        chosen.append(tuple(counted[n][0] for n in order[:GRIDS_PER_INPUT]))
    return tuple(chosen)


def _likelihoods(scorer: CandidateScorer, index: int, grids: Sequence[Grid]) -> Sequence[float]:
    """What the scorer finds of grids; 0 for those that it cannot be asked about, by their shape for example."""
    try:
        return scorer(index, grids)
    except PuzzleError:
        return [_likelihoods(scorer, index, [grid])[0] for grid in grids] if len(grids) > 1 else [0.0]


def tally(named: Sequence[Grid]) -> list[tuple[Grid, int]]:
    """The distinct grids with their votes, most votes first; among equals the one that was named first."""
    keys = [grid_key(grid) for grid in named]
    grids = dict(zip(keys, named, strict=True))
    return [(grids[key], votes) for key, votes in Counter(keys).most_common()]


def vote_confidence(
    attempts: Sequence[Attempt],
    supporters: Sequence[Attempt],
    grids: Grids,
    calibration: Calibration | None = None,
) -> float | None:
    """How sure the network is of an answer that attempts voted for; None where for some input no supporter says it.

    The highest halting probability among the supporters that say it, times the smoothed share of all attempts that
    do; of several inputs the lowest. Neither factor is enough for a network that was adapted: briefly adapted, it
    halts as it should and its views hardly agree; adapted for long, it halts at anything (LOG.md). calibration:
    turns the product into the probability that the answer is right.
    """
    found = []
    for index, grid in enumerate(grids):
        votes = sum(np.array_equal(a.grids[index], grid) for a in attempts)
        halting = [a.confidence for a in supporters if np.array_equal(a.grids[index], grid)]
        if not halting:
            return None
        found.append(max(halting) * smoothed_vote_share(votes, len(attempts)))
    return min(found) if calibration is None else calibration(min(found))


def smoothed_vote_share(votes: int, views: int) -> float:
    """The share of views that agree, by Laplace's rule of succession: that a single view agrees says little."""
    return (votes + 1) / (views + 2)


# -- equality ------------------------------------------------------------------------------------------------
def same_grids(first: Grids | None, second: Grids | None) -> bool:
    """Whether two answers are equal, grid by grid; no answer equals only no answer."""
    if first is None or second is None:
        return first is second
    return len(first) == len(second) and all(map(np.array_equal, first, second))


def distinct_grids(answers: Iterable[Grids]) -> list[Grids]:
    """Each answer once, in the order of coming."""
    seen: list[Grids] = []
    for grids in answers:
        if not any(same_grids(grids, other) for other in seen):
            seen.append(grids)
    return seen
