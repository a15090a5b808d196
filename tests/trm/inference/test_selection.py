"""Two attempts out of many proposals."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import doubles
import numpy as np
import pytest
from doubles import FakeRefiner, Outcome, Scripted
from hybrid.null import Passthrough
from hybrid.pooling import named, pooled, said_by
from trm.inference.attempts import Attempt, tally

from hybrid.pipeline import Options, Pipeline
from trm import tasks
from trm.grid import PuzzleError
from trm.tasks import Puzzle

PUZZLE = tasks.get("arc").samples()[0]
A, B, C = (np.full((2, 2), n, dtype=np.uint8) for n in (7, 5, 3))


def first(choice: object) -> list[int]:
    return [int(grid[0, 0]) for grid in choice]  # type: ignore[attr-defined]


def test_votes_decide_then_the_network_then_who_came_first() -> None:
    assert first(pooled(PUZZLE, [], [(A,), (B,), (C,), (B,)])[0]) == [5, 7]
    assert first(pooled(PUZZLE, [], [(A,), (B,), (C,)])[0]) == [7, 5]

    def score(
        puzzle: object, candidates: Sequence[Any], index: int
    ) -> Any:  # the lower the first cell, the likelier
        return np.array([-float(grids[0][0, 0]) for grids in candidates])

    assert first(pooled(PUZZLE, [], [(A,), (B,), (C,)], score)[0]) == [3, 5]
    assert first(pooled(PUZZLE, [[[C]]], [(A,), (A,)], score)[0]) == [7, 3]
    assert pooled(PUZZLE, [], []) == ()


def test_a_candidate_that_cannot_be_scored_comes_last_of_its_votes() -> None:
    def score(puzzle: object, candidates: Sequence[Any], index: int) -> Any:
        if any(grid[0, 0] == 7 for (grid,) in candidates):
            raise PuzzleError("draft of 2x2, expected 3x3")
        return np.array([1 / grid[0, 0] for (grid,) in candidates])

    assert first(pooled(PUZZLE, [], [(A,), (B,)], score)[0]) == [5, 7]
    assert first(pooled(PUZZLE, [], [(B,), (A,), (C,)], score)[0]) == [3, 5]


def test_the_network_is_asked_once_about_all_candidates_of_an_input() -> None:
    asked: list[tuple[int, list[int]]] = []

    def score(puzzle: Puzzle, candidates: Sequence[Any], index: int) -> Any:
        assert len(puzzle.inputs) > index  # the whole puzzle: what the network was fitted to
        asked.append((index, [int(grid[0, 0]) for (grid,) in candidates]))
        return np.arange(len(candidates))

    two = replace(PUZZLE, inputs=PUZZLE.inputs * 2)
    pooled(two, [], [(A, C), (B, C), (A, B)], score)
    assert asked == [(0, [7, 5]), (1, [3, 5])]
    pooled(PUZZLE, [], [(A,), (A,)], score)  # nothing to choose from
    assert len(asked) == 2


def test_equal_grids_have_one_row_of_a_tally() -> None:
    flat, tall = np.zeros((1, 4), dtype=np.uint8), np.zeros((4, 1), dtype=np.uint8)
    counted = tally([A, flat, tall, B, flat.copy(), np.asfortranarray(B)])
    assert [(grid.shape, votes) for grid, votes in counted] == [
        ((1, 4), 2), ((2, 2), 2), ((2, 2), 1), ((4, 1), 1),
    ]  # fmt: skip
    assert first([grid for grid, _ in counted]) == [0, 5, 7, 0]


def test_the_pipeline_pools_an_llms_drafts() -> None:
    """Three drafts, two of them alike: the first attempt is theirs, though another came first."""
    proposer = Scripted([(A,), (B,)])
    answer = next(Pipeline(proposer, Passthrough()).solve([PUZZLE], Options(drafts=3)))
    assert first(answer.candidates[0]) == [5, 7]
    assert (answer.source, answer.confidence) == ("llm", None)
    assert answer.grids is not None
    assert np.array_equal(answer.grids[0], B)


def test_a_networks_answer_that_wins_keeps_its_source() -> None:
    refiner = FakeRefiner(lambda p, d, o: ((C,), "refiner"))
    answer = next(Pipeline(Scripted([None]), refiner).solve([PUZZLE], Options()))
    assert (answer.source, answer.confidence) == ("refiner", 0.75)
    assert first(answer.candidates[0]) == [3]


def rollout(source: str, confidence: float, *answers: Any) -> Attempt:
    return Attempt(source, answers, confidence, tasks.get("arc").check(PUZZLE, answers), 1, ())


def outcome(*attempts: Attempt) -> Outcome:
    """A refinement of these rollouts, which names its first one's grids."""
    first = attempts[0]
    choices = [[grid] for grid in first.grids]
    return Outcome(first.grids, first.verdict, first.source, first.confidence, choices, attempts=attempts)


def test_every_rollout_of_a_network_has_a_vote() -> None:
    out = outcome(rollout("refiner", 0.9, A), rollout("refiner", 0.2, B), rollout("refiner", 0.3, B))
    assert first(named(out)[0]) == [7, 5, 5]
    assert first(pooled(PUZZLE, [named(out)], [(C,)])[0]) == [5, 7]
    assert said_by([out], (B,)) == ("refiner", pytest.approx(0.3 * 3 / 5))


def test_whose_answer_it_is_is_asked_input_by_input() -> None:
    out = outcome(
        rollout("refiner", 0.9, A, B), rollout("refiner", 0.4, B, A), rollout("refiner+draft", 0.6, C, C)
    )
    # Put together from two rollouts: as sure as the less sure, each with one vote of three (2 of 5, see `agreement`).
    assert said_by([out], (A, A)) == ("refiner", pytest.approx(0.4 * 2 / 5))
    assert said_by([out], (C, C)) == ("refiner+draft", pytest.approx(0.6 * 2 / 5))
    assert said_by([out], (C, A)) == ("refiner+draft", pytest.approx(0.4 * 2 / 5))
    assert said_by([out], (A, A * 0)) == ("llm", None)


def test_judging_counts_as_time_and_none_is_spent_on_it_beyond_the_budget() -> None:
    """Two drafts with a vote each, besides the network's: the network is asked which is likelier."""
    fake = FakeRefiner(doubles.cold_solves)
    asked: list[int] = []

    def score(question: Puzzle, candidates: Sequence[Any], index: int) -> Any:
        asked.append(index)
        time.sleep(0.05)
        return np.zeros(len(candidates))

    fake.score = score  # type: ignore[method-assign]
    pipeline = Pipeline(Scripted([(A,), (B,)]), fake)  # type: ignore[arg-type]
    answer = next(pipeline.solve([PUZZLE], Options(drafts=2)))
    assert asked == [0]
    assert answer.seconds.total > 0.05
    next(pipeline.solve([PUZZLE], Options(drafts=2, budget=1e-9)))
    assert asked == [0]
