"""The answer among attempts and drafts: rules, votes, confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import doubles
import numpy as np
import pytest
from arc_expert import TASK, arc_refiner
from doubles import Scripted

from hybrid.pipeline import Pipeline
from trm.adaptation.calibration import Calibration
from trm.grid import Grid, Grids, PuzzleError
from trm.inference.config import SearchConfig
from trm.inference.proposals import CheckedDraft, Draft
from trm.inference.rollouts import Attempt
from trm.inference.selection import (
    Selection,
    distinct_grids,
    pool_candidates,
    rank_attempts,
    same_grids,
    select_answer,
    smoothed_vote_share,
    tally,
    verified_answers,
    vote_confidence,
)
from trm.tasks import get

ARC = get("arc")
PUZZLE = ARC.samples()[0]
A, B, C = (np.full((2, 2), n, dtype=np.uint8) for n in (7, 5, 3))


def first_cells(choice: Sequence[Grid]) -> list[int]:
    return [int(grid[0, 0]) for grid in choice]


def attempt(source: str, confidence: float, *grids: Grid) -> Attempt:
    return Attempt(source, grids, confidence, ARC.check(PUZZLE, grids), 1)


def select(attempts: Sequence[Attempt], drafts: Sequence[Grids] = ()) -> Selection:
    inputs = len(attempts[0].grids) if attempts else 1
    puzzle = replace(PUZZLE, inputs=PUZZLE.inputs[:1] * inputs, answers=None)
    return select_answer(
        ARC, puzzle, attempts, [CheckedDraft.of(ARC, puzzle, Draft(grids)) for grids in drafts]
    )


# -- votes ---------------------------------------------------------------------------------------------------
def test_votes_decide_then_the_judge_then_what_was_named_first() -> None:
    def lower_is_likelier(index: int, grids: Sequence[Grid]) -> list[float]:
        return [-float(grid[0, 0]) for grid in grids]

    assert first_cells(pool_candidates([[A, B, C, B]])[0]) == [5, 7]
    assert first_cells(pool_candidates([[A, B, C]])[0]) == [7, 5]
    assert first_cells(pool_candidates([[A, B, C]], lower_is_likelier)[0]) == [3, 5]
    assert first_cells(pool_candidates([[C, A, A]], lower_is_likelier)[0]) == [7, 3]


def test_a_candidate_that_the_judge_refuses_comes_last_of_its_votes() -> None:
    def judge(index: int, grids: Sequence[Grid]) -> list[float]:
        if any(grid[0, 0] == 7 for grid in grids):
            raise PuzzleError("draft of 2x2, expected 3x3")
        return [1 / float(grid[0, 0]) for grid in grids]

    assert first_cells(pool_candidates([[A, B]], judge)[0]) == [5, 7]
    assert first_cells(pool_candidates([[B, A, C]], judge)[0]) == [3, 5]


def test_the_judge_is_asked_once_about_all_candidates_of_an_input() -> None:
    calls: list[tuple[int, list[int]]] = []

    def judge(index: int, grids: Sequence[Grid]) -> list[float]:
        calls.append((index, first_cells(grids)))
        return [0.0] * len(grids)

    pool_candidates([[A, B, A], [C, C, B], [A, A]], judge)  # of the last there is nothing to choose
    assert calls == [(0, [7, 5]), (1, [3, 5])]


def test_equal_grids_have_one_row_of_a_tally() -> None:
    flat, tall = np.zeros((1, 4), dtype=np.uint8), np.zeros((4, 1), dtype=np.uint8)
    counted = tally([A, flat, tall, B, flat.copy(), np.asfortranarray(B)])
    assert [(grid.shape, votes) for grid, votes in counted] == [
        ((1, 4), 2), ((2, 2), 2), ((2, 2), 1), ((4, 1), 1),
    ]  # fmt: skip
    assert first_cells([grid for grid, _ in counted]) == [0, 5, 7, 0]


def test_every_attempt_and_every_draft_has_a_vote() -> None:
    attempts = [attempt("refiner", 0.9, A), attempt("refiner", 0.2, B), attempt("refiner", 0.3, B)]
    selection = select(attempts, [(C,)])
    assert first_cells(selection.candidates[0]) == [5, 7]
    assert (selection.source, selection.confidence) == ("refiner", pytest.approx(0.3 * 3 / 5))


def test_the_more_confident_wins_among_equal_votes() -> None:
    attempts = [
        attempt("refiner", confidence, grid) for grid, confidence in ((A, 0.9), (B, 0.3), (C, 0.95), (B, 0.2))
    ]
    selection = select(attempts)
    assert first_cells(selection.candidates[0]) == [5, 3]
    assert selection.confidence == pytest.approx(0.3 * 3 / 6)  # half of the views agree, smoothed
    assert select(attempts[:1]).confidence == pytest.approx(
        0.9 * 2 / 3
    )  # that a single view agrees says little


def test_the_source_is_found_input_by_input() -> None:
    cold, drafted = "refiner", "refiner+draft"
    # Put together from two attempts: as confident as the less confident, each with two votes of three.
    both = select([attempt(cold, 0.9, A, B), attempt(cold, 0.4, B, A), attempt(drafted, 0.6, A, A)])
    assert [first_cells(choice)[0] for choice in both.candidates] == [7, 7]
    assert (both.source, both.confidence) == (cold, pytest.approx(0.4 * 3 / 5))
    assert (
        select([attempt(cold, 0.4, A), attempt(drafted, 0.6, C), attempt(drafted, 0.5, C)]).source == drafted
    )
    llm = select([attempt(cold, 0.9, A)], [(C,), (C,)])
    assert (llm.source, llm.confidence) == ("llm", None)


def test_nothing_named_is_no_answer() -> None:
    selection = select([])
    assert (selection.grids, selection.source, selection.candidates) == (None, None, ())


# -- in the pipeline -----------------------------------------------------------------------------------------
def test_an_llms_drafts_are_pooled() -> None:
    """Three drafts, two of them alike: the first candidate is theirs, though another came first."""
    answer = next(Pipeline(Scripted([(A,), (B,)]), None).solve([PUZZLE], SearchConfig(drafts=3)))
    assert first_cells(answer.candidates[0]) == [5, 7]
    assert (answer.source, answer.confidence) == ("llm", None)
    assert answer.grids is not None
    assert np.array_equal(answer.grids[0], B)


def test_the_network_judges_equal_votes_as_long_as_there_is_time() -> None:
    refiner = arc_refiner()
    drafts = [(TASK.grid,), ((TASK.answers or ())[0],), (np.full((3, 3), 9, dtype=np.uint8),)]

    def answers(**options: object) -> list[str]:
        pipeline = Pipeline(Scripted(drafts), refiner)
        (answer,) = pipeline.solve([TASK], SearchConfig(drafts=3, steps=1, **options))  # type: ignore[arg-type]
        assert len(answer.drafts) in (1, 3)
        return [str(grid.tolist()) for grid in answer.candidates[0]]

    assert len(answers(score_ties=True)) == 2
    assert answers(score_ties=False, budget_seconds=0.0) == answers(score_ties=True, budget_seconds=0.0)


def test_where_rules_decide_a_verified_draft_beats_an_unverified_attempt() -> None:
    puzzle, task = doubles.sudoku(), get("sudoku")
    right, wrong = doubles.right(puzzle), doubles.wrong(puzzle)

    def of(grids: Grids, source: str, confidence: float = 0.9) -> Attempt:
        return Attempt(source, grids, confidence, task.check(puzzle, grids), 1)

    def chosen(attempts: Sequence[Attempt], *drafts: Grids) -> tuple[str | None, float | None]:
        checked = [CheckedDraft.of(task, puzzle, Draft(grids)) for grids in drafts]
        selection = select_answer(task, puzzle, attempts, checked)
        return selection.source, selection.confidence

    assert chosen([of(wrong, "refiner")], right) == ("llm", None)
    assert chosen([of(wrong, "refiner"), of(right, "refiner+draft", 0.5)], right) == ("llm", 0.5)
    assert chosen([of(right, "refiner+draft"), of(right, "refiner", 0.4)], right) == ("refiner", 0.4)
    assert chosen([of(wrong, "refiner", 0.2), of(wrong, "refiner+draft", 0.3)], wrong) == (
        "refiner+draft",
        0.3,
    )


def test_everything_of_an_answer_that_rules_decided() -> None:
    puzzle, task = doubles.sudoku(), get("sudoku")
    right, wrong = doubles.right(puzzle), doubles.wrong(puzzle)

    def attempt_at(grids: Grids, source: str, confidence: float) -> Attempt:
        return Attempt(source, grids, confidence, task.check(puzzle, grids), 1)

    blank = (puzzle.grid * 0,)
    checked = [CheckedDraft.of(task, puzzle, Draft(grids)) for grids in (wrong, blank, None)]
    newest = select_answer(task, puzzle, [], checked)
    assert (newest.source, newest.confidence, newest.alternatives) == ("llm", None, ())
    assert newest.grids is blank
    none = select_answer(task, puzzle, [], checked[2:])
    assert (none.grids, none.source, none.verdict.violations) == (None, "llm", checked[2].faults)
    assert select_answer(task, puzzle, []).verdict.violations == ("no answer",)
    ranked = rank_attempts(
        [attempt_at(wrong, "refiner", 0.1), attempt_at(right, "refiner+draft", 0.2),
         attempt_at(wrong, "refiner", 0.9),
         attempt_at(right, "refiner", 0.3), attempt_at(right, "refiner+draft", 0.8)]
    )  # fmt: skip
    assert [one.confidence for one in ranked] == [0.3, 0.2, 0.8, 0.9, 0.1]
    assert len(verified_answers(ranked, checked)) == 1
    assert verified_answers(ranked[3:], checked) == []
    assert [smoothed_vote_share(*votes) for votes in ((0, 0), (1, 1), (3, 8))] == [
        0.5,
        pytest.approx(2 / 3),
        0.4,
    ]
    assert same_grids(None, None)
    assert not same_grids(right, None)
    assert not same_grids(None, right)
    assert not same_grids(right, (*right, *right))
    assert not same_grids(right, wrong)
    assert distinct_grids([right, wrong, right]) == [right, wrong]


def test_the_confidence_of_votes_is_that_of_the_least_certain_input() -> None:
    attempts = [
        attempt("refiner", 0.9, A, A),
        attempt("refiner", 0.8, A, B),
        attempt("refiner+draft", 0.95, A, A),
    ]
    cold = attempts[:2]
    assert vote_confidence(attempts, cold, (A, A)) == pytest.approx(0.9 * 3 / 5)
    assert vote_confidence(attempts, cold, (A, B)) == pytest.approx(0.8 * 2 / 5)
    assert vote_confidence(attempts, attempts, (A, A)) == pytest.approx(0.95 * 3 / 5)
    assert vote_confidence(attempts, cold, (C, A)) is None
    calibration = Calibration(2.0, 0.5)
    assert vote_confidence(attempts, cold, (A, B), calibration) == pytest.approx(calibration(0.8 * 2 / 5))
