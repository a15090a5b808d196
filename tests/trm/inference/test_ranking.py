"""Candidates of network and proposer in one ranking."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trm.grid import Grid
from trm.inference.proposals import CheckedDraft, Draft, ProposedGrid
from trm.inference.ranking import PooledGrid, PoolRanking, ranked_pool
from trm.inference.rollouts import SOURCE_COLD, SOURCE_FROM_DRAFT, Attempt
from trm.inference.selection import select_answer
from trm.tasks import Puzzle, Status, Verdict, get

UNVERIFIED = Verdict(Status.UNVERIFIED)
A, B, C = (np.full((2, 2), colour, np.uint8) for colour in (1, 2, 3))
PUZZLE = Puzzle("arc", (np.zeros((2, 2), np.uint8),), demos=((A, B),))


def attempt(grid: Grid, source: str = SOURCE_COLD) -> Attempt:
    return Attempt(source, (grid,), 0.5, UNVERIFIED, 1)


def draft(*candidates: ProposedGrid) -> CheckedDraft:
    drafted = Draft((candidates[0].grid,), candidates=(candidates,))
    return CheckedDraft.of(get("arc"), PUZZLE, drafted)


def test_a_pool_counts_the_views_of_each_side_and_asks_the_judge_about_grids_without_a_score() -> None:
    asked: list[Grid] = []

    def judge(index: int, grids: Sequence[Grid]) -> list[float]:
        asked.extend(grids)
        return [-7.0] * len(grids)

    attempts = [attempt(A), attempt(A), attempt(B), attempt(C, SOURCE_FROM_DRAFT)]
    pool = ranked_pool(0, attempts, [ProposedGrid(A, 0.75, -0.5), ProposedGrid(C, 0.25, -3.0)], judge)
    by_colour = {int(c.grid[0, 0]): c for c in pool}
    assert (by_colour[1].cold, by_colour[1].drafted, by_colour[1].proposed) == (2 / 3, 0.0, 0.75)
    assert (by_colour[3].cold, by_colour[3].drafted, by_colour[3].score) == (0.0, 1.0, -3.0)
    assert by_colour[2].score == -7.0
    assert [int(grid[0, 0]) for grid in asked] == [2]


def test_more_votes_and_higher_scores_are_more_probable() -> None:
    ranking = PoolRanking()
    least = ranking.probability(PooledGrid(A, score=-30.0))
    for better in (PooledGrid(A, cold=0.75, score=-30.0), PooledGrid(A, score=-1.0)):
        assert 0 < least < ranking.probability(better) < 1
    assert ranking.probability(PooledGrid(A)) <= least  # no score is no better than a low one


def test_a_draft_of_many_views_is_not_outvoted_by_the_networks_scattered_ones() -> None:
    attempts = [attempt(np.full((2, 2), colour, np.uint8)) for colour in (4, 4, 5, 6, 7, 8)]
    found = select_answer(get("arc"), PUZZLE, attempts, [draft(ProposedGrid(A, 0.9, -0.2))], judge=None)
    assert found.grids is not None
    assert np.array_equal(found.grids[0], A)
    assert found.source == "llm"
    assert len(found.candidates[0]) == 2
    assert found.confidence is not None
    assert 0 < found.confidence < 1


def test_agreement_of_both_is_a_refiners_answer_and_more_certain() -> None:
    alone = select_answer(get("arc"), PUZZLE, [attempt(B)], [draft(ProposedGrid(A, 0.9, -0.2))])
    both = select_answer(get("arc"), PUZZLE, [attempt(A)], [draft(ProposedGrid(A, 0.9, -0.2))])
    assert both.source == SOURCE_COLD
    assert both.confidence is not None
    assert alone.confidence is not None
    assert both.confidence > alone.confidence


def test_a_probability_is_the_logistic_of_the_weighted_values() -> None:
    ranking = PoolRanking(offset=0.5, majority=4.0, score=0.25)
    for candidate, odds in [
        (PooledGrid(A, score=-2.0), 1.0),
        (PooledGrid(A, cold=0.5, score=-2.0), 1.0),  # a share up to a half does not count
        (PooledGrid(A, cold=0.75, drafted=1.0, proposed=1.0, score=-6.0), 1.0),
        (PooledGrid(A, cold=1.0, score=-40.0), np.exp(-7.5)),
        (PooledGrid(A, cold=1.0, score=-1000.0), np.exp(-7.5)),  # no score counts as less
        (PooledGrid(A, cold=1.0), np.exp(-7.5)),
        (PooledGrid(A, score=2.0), np.exp(1.0)),
    ]:
        np.testing.assert_allclose(ranking.probability(candidate), odds / (1 + odds))


def test_shares_are_of_attempts_of_their_kind() -> None:
    attempts = [attempt(A), attempt(B), attempt(B, SOURCE_FROM_DRAFT), attempt(C, SOURCE_FROM_DRAFT)]
    by_colour = {int(c.grid[0, 0]): c for c in ranked_pool(0, attempts, [])}
    assert [(c.cold, c.drafted, c.proposed, c.score) for c in (by_colour[n] for n in (1, 2, 3))] == [
        (0.5, 0.0, 0.0, None), (0.5, 0.5, 0.0, None), (0.0, 0.5, 0.0, None),
    ]  # fmt: skip
    only = ranked_pool(0, [], [ProposedGrid(A, 1.0, -1.0)], lambda index, grids: None)
    assert [(c.cold, c.drafted, c.proposed, c.score) for c in only] == [(0.0, 0.0, 1.0, -1.0)]


def test_what_a_mender_makes_of_the_networks_grids_is_judged_and_ranked_with_the_others() -> None:
    shown: list[list[int]] = []

    def mend(index: int, grids: Sequence[Grid]) -> list[Grid]:
        shown.append([int(grid[0, 0]) for grid in grids])
        return [C, A]

    def judge(index: int, grids: Sequence[Grid]) -> list[float]:
        return [-0.1 if grid[0, 0] == 3 else -30.0 for grid in grids]

    attempts = [attempt(A), attempt(A), attempt(B)]
    pool = ranked_pool(0, attempts, [ProposedGrid(np.full((2, 2), 4, np.uint8), 1.0, -9.0)], judge, mend)
    assert shown == [[1, 2]]  # the network's, the most probable first
    assert sorted(int(c.grid[0, 0]) for c in pool) == [1, 2, 3, 4]
    (mended,) = (c for c in pool if c.grid[0, 0] == 3)
    assert (mended.cold, mended.drafted, mended.proposed, mended.score) == (0.0, 0.0, 0.0, -0.1)


def test_nothing_is_mended_where_the_network_named_nothing() -> None:
    def mend(index: int, grids: Sequence[Grid]) -> list[Grid]:
        raise AssertionError("asked")

    assert len(ranked_pool(0, [], [ProposedGrid(A, 1.0, -1.0)], None, mend)) == 1
