"""Where no rule can decide: what everyone proposed, pooled, and the two attempts that have the most votes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hybrid.answer import Candidates, same
from trm.grid import Grid, Grids, PuzzleError
from trm.inference.attempts import belief, tally
from trm.tasks import Puzzle

if TYPE_CHECKING:
    from hybrid.work import Refined

ATTEMPTS = 2  # grids an answer may name for one input (ARC's rule)
Scorer = Callable[..., Any]  # `Refiner.score`: (puzzle, candidates, index=…) -> how likely each one is [n]


def pooled(
    puzzle: Puzzle,
    refined: Sequence[Sequence[Sequence[Grid]]],
    drafts: Sequence[Grids],
    score: Scorer | None = None,
) -> Candidates:
    """For every input the candidates with the most votes, at most two; none where nobody proposed any.

    refined: what each refinement names, for every input its grids, one for each of its rollouts. A draft and a
    rollout have one vote each. score: the network as verifier, asked where votes are equal; then who came first.
    """
    if not refined and not drafts:
        return ()
    chosen = []
    for index in range(len(puzzle.inputs)):
        said = [grid for out in refined for grid in out[index]] + [draft[index] for draft in drafts]
        counted = tally(said)
        likely = [0.0] * len(counted)
        if score is not None and len(counted) > 1:
            likely = _scores(puzzle, index, [grid for grid, _ in counted], score)
        order = sorted(range(len(counted)), key=lambda i: (-counted[i][1], -likely[i], i))
        chosen.append(tuple(counted[i][0] for i in order[:ATTEMPTS]))
    return tuple(chosen)


def _scores(puzzle: Puzzle, index: int, candidates: Sequence[Grid], score: Scorer) -> list[float]:
    """The score of each candidate for an input; 0 where the network cannot be asked about it (its shape, say)."""
    try:
        return [float(one) for one in score(puzzle, [(grid,) for grid in candidates], index=index)]
    except PuzzleError:
        if len(candidates) == 1:
            return [0.0]
        return [_scores(puzzle, index, [grid], score)[0] for grid in candidates]


def named(out: Refined) -> list[list[Grid]]:
    """For every input the grids that a refinement names: what each of its rollouts says, else its candidates."""
    if not out.attempts:
        return list(out.candidates or [])
    return [[attempt.grids[index] for attempt in out.attempts] for index in range(len(out.candidates or []))]


def said_by(outs: Sequence[Refined], grids: Grids) -> tuple[str, float | None]:
    """Whose answer this is, of refinements where no rule decides, and how sure their network is.

    A cold start's if for every input some cold rollout says so; else any rollout's; else an LLM's, of which no
    network is sure.
    """
    attempts = [attempt for out in outs for attempt in out.attempts]
    calibration = next((out.calibration for out in outs if out.calibration is not None), None)
    for source in ("refiner", "refiner+draft"):
        mine = [attempt for attempt in attempts if source in (attempt.source, "refiner+draft")]
        if (sure := belief(attempts, mine, grids, calibration)) is not None:
            return source, sure
    whole = next((out for out in outs if not out.attempts and same(out.grids, grids)), None)
    return (whole.source, whole.confidence) if whole else ("llm", None)
