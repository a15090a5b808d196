"""Figures of records, and statistics, in examples that are worked out by hand."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from trm.adaptation.calibration import Calibration
from trm.evaluation import records, statistics
from trm.evaluation.records import Record, ScoredCandidate
from trm.inference.rollouts import Attempt
from trm.tasks import Puzzle, Status, Verdict


# -- statistics ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("right", "wrong", "area"),
    [
        ([0.9], [0.1], 1.0),
        ([0.1], [0.9], 0.0),
        ([0.5], [0.5], 0.5),
        ([0.9, 0.5, 0.2], [0.5, 0.1], (2 + 1.5 + 1) / 6),
        ([3.0, 1.0], [2.0, 2.0, 0.0], (3 + 1) / 6),
    ],
)
def test_the_area_under_the_curve_is_the_share_of_pairs_in_order(
    right: list[float], wrong: list[float], area: float
) -> None:
    assert statistics.auroc(right, wrong) == pytest.approx(area)


def by_hand(hits: int, n: int) -> tuple[float, float]:
    z, share = 1.959963984540054, hits / n
    middle = share + z * z / (2 * n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


@pytest.mark.parametrize(("hits", "n"), [(0, 5), (5, 5), (1, 10), (8, 10), (50, 400)])
def test_wilsons_interval_is_that_of_his_formula(hits: int, n: int) -> None:
    assert statistics.wilson(hits, n) == pytest.approx(by_hand(hits, n), abs=1e-9)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("1111", "1111", (4, 4, 0, 0, 1.0)),
        ("1100", "1010", (4, 1, 1, 1, 1.0)),
        ("1110", "0000", (4, 0, 3, 0, 0.25)),  # 2 / 2³
        ("000001", "111110", (6, 0, 1, 5, 14 / 64)),  # 2 (1 + 6) / 2⁶
        ("00", "01", (2, 0, 0, 1, 1.0)),
    ],
)
def test_mcnemars_test_is_that_of_a_coin(one: str, other: str, expected: tuple[float, ...]) -> None:
    found = statistics.mcnemar(*([letter == "1" for letter in some] for some in (one, other)))
    assert [*found] == ["n", "both", "only_first", "only_second", "p"]
    assert list(found.values()) == pytest.approx(expected)


def test_lists_of_different_lengths_are_not_paired() -> None:
    with pytest.raises(ValueError, match="argument 2"):
        statistics.mcnemar([True], [True, False])


# -- a summary -----------------------------------------------------------------------------------------------
def candidate(
    votes: int, of: tuple[int, int], score: float, confidence: float, right: bool
) -> ScoredCandidate:
    return ScoredCandidate(votes=votes, votes_of=[*of], score=score, confidence=confidence, right=right)


SETTINGS: dict[str, Any] = {"restarts": 3, "adaptation.ensemble_size": 2}


def record(steps: int, learned: float, own: list[list[ScoredCandidate]], **more: Any) -> Record:
    cold = [{"right": [False, hit], "halt": n, "cells": 0.5 + n / 4} for n, hit in enumerate(more["last"])]
    right = {name: more[name] for name in ("pass_1", "pass_2", "oracle")}
    return cast(Record, {
        "id": "a", "question": 1, "settings": SETTINGS | more.get("settings", {}), "canvas": 10,
        "adaptation_seconds": 1.0, "adaptation_steps": steps, "adaptation_accuracy": learned,
        "cold": cold, "candidates": own, "seconds": 2.5, **right,
    })  # fmt: skip


RECORDS = [
    record(
        100, 0.9,
        [
            [candidate(3, (1, 2), 0.2, 0.6, right=False), candidate(1, (1, 0), 0.7, 0.9, right=True)],
            [candidate(4, (2, 2), 0.5, 0.8, right=True)],
        ],
        last=[True, True], pass_1=[False, True], pass_2=[True, True], oracle=[True, True],
    ),
    record(
        60, 0.5,
        [
            [
                candidate(2, (2, 0), 0.1, 0.4, right=False), candidate(1, (0, 1), 0.3, 0.5, right=False),
                candidate(1, (0, 1), 0.05, 0.7, right=True),
            ]
        ],
        last=[False], pass_1=[False], pass_2=[False], oracle=[True],
    ),
]  # fmt: skip


def test_a_summary_counts_inputs_and_tasks() -> None:
    found = records.summary(RECORDS)
    expected = {
        "n": 3, "n_tasks": 2, "seconds": 5.0, "verified": 0.0, "adaptation_accuracy": 0.7,
        "pass_1": 1 / 3, "accuracy": 1 / 3, "pass_2": 2 / 3, "oracle": 1.0, "tasks": 0.5,
        "pass_2_score": 2 / 3, "pass_2_confidence": 1.0, "pass_2_votes_score": 2 / 3,
        # Of right against wrong: 0.7, 0.5, 0.05 against 0.2, 0.1, 0.3; and 0.9, 0.8, 0.7 against 0.6, 0.4, 0.5.
        "auroc": 6 / 9, "auroc_confidence": 1.0, "auroc_first": 1.0,
        # Of the first network: both of the first record's inputs, neither of the other's; of the second the
        # second input alone, and that of the last record.
        "pass_2_alone": (2 / 3 + 2 / 3) / 2, "tasks_alone": (0.5 + 0.5) / 2,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert found["by_step"] == pytest.approx({"1": 0.0, "2": 2 / 3})
    assert found["calibration"]["steps"] == 60
    assert found["calibration"]["slope"] > 0


def test_the_confidence_of_first_attempts_is_smoothed_and_calibrated_where_that_holds() -> None:
    raw, right = records.first_attempts(RECORDS)
    assert raw == pytest.approx([0.6 * 4 / 6, 0.8 * 5 / 6, 0.4 * 3 / 6])
    assert right == [False, True, False]
    brier = (0.4**2 + (1 / 3) ** 2 + 0.2**2) / 3
    assert records.summary(RECORDS)["brier"] == pytest.approx(brier)
    calibration = Calibration(2.0, 0.5, steps=100)
    reported, _ = records.first_attempts(RECORDS, calibration)
    assert reported == pytest.approx([calibration(raw[0]), calibration(raw[1]), raw[2]])
    assert records.summary(RECORDS, calibration)["brier"] == pytest.approx(
        np.mean((np.array(reported) - right) ** 2)
    )


def test_halting_and_cells_are_those_of_the_one_view() -> None:
    found = records.summary(RECORDS)
    assert (found["halt_accuracy"], found["mean_steps"], found["cells"]) == pytest.approx(
        (1 / 3, 4 / 3, 7 / 12)
    )


def test_what_needs_restarts_several_networks_or_both_kinds_of_answers_is_left_out() -> None:
    plain = {"restarts": 0, "adaptation.ensemble_size": 1}
    own = [[candidate(1, (1, 0), 0.5, 0.5, right=True)]]
    (one,) = [record(5, 1.0, own, last=[False], pass_1=[True], pass_2=[True], oracle=[True], settings=plain)]
    found = records.summary([one])
    assert not found.keys() & {"auroc", "auroc_first", "calibration", "pass_2_alone", "tasks_alone"}
    assert found["accuracy"] == 0.0  # of the one view
    assert records.first_attempts([one])[0] == pytest.approx([0.5 * 2 / 3])
    assert records.by_member(RECORDS, 0) == pytest.approx((2 / 3, 0.5))


# -- candidates ----------------------------------------------------------------------------------------------
def attempt(member: int, confidence: float, colour: int, puzzle: Puzzle) -> Attempt:
    grid = np.array([[colour // 10, colour % 10]], np.uint8)
    return Attempt(
        "refiner", (grid,) * len(puzzle.inputs), confidence, Verdict(Status.UNVERIFIED), 1, member=member
    )


def scored(
    networks: int, attempts: list[tuple[int, float, int]], answers: bool = True
) -> list[ScoredCandidate]:
    """The candidates of a puzzle, whose answer is 0 1, to whose input attempts of networks gave these grids."""
    grid = np.array([[0, 1]], np.uint8)
    puzzle = Puzzle("arc", (grid,), answers=(grid,) if answers else None)
    network = SimpleNamespace(
        engines=[None] * networks,
        log_likelihood=lambda _, named, steps: [
            [-float(n) * steps for n in range(len(own))] for own in named
        ],
    )
    out = SimpleNamespace(attempts=[attempt(*one, puzzle) for one in attempts])
    (own,) = records.score_candidates(cast(Any, network), puzzle, cast(Any, out), 2)
    return own


def test_candidates_have_the_votes_of_each_network() -> None:
    found = scored(2, [(0, 0.3, 7), (1, 0.9, 1), (1, 0.2, 7), (0, 0.5, 7)])
    assert found == [
        {"votes": 3, "votes_of": [2, 1], "score": 1.0, "confidence": 0.5, "right": False, "grid": ["07"]},
        {"votes": 1, "votes_of": [0, 1], "score": pytest.approx(np.exp(-2)), "confidence": 0.9, "right": True,
         "grid": ["01"]},
    ]  # fmt: skip
    assert [one["right"] for one in scored(1, [(0, 0.5, 1)], answers=False)] == [False]


@pytest.mark.parametrize(("networks", "most"), [(1, 64), (2, 128)])
def test_only_so_many_candidates_are_scored_for_each_network(networks: int, most: int) -> None:
    several = [(0, 0.5, colour) for colour in range(150)]
    assert len(scored(networks, several)) == most
    assert len(scored(networks, several[: most - 1])) == most - 1


@dataclass(frozen=True)
class Adaptation:
    steps: int = 7
    batch: int = 3


def test_the_settings_of_a_record_are_what_it_depends_on() -> None:
    refiner = SimpleNamespace(name="some/name@1234", pool=SimpleNamespace(adaptation=Adaptation()))
    assert records.settings_of(cast(Any, refiner), steps=16, restarts=5, seed=9) == {
        "refiner": "1234", "steps": 16, "restarts": 5, "seed": 9, "adaptation.steps": 7, "adaptation.batch": 3,
    }  # fmt: skip
