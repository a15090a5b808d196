"""When a network is adapted anew, how long that may take, and ensembles."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from arc_expert import QUICK, TASK, arc_refiner, count_adaptations, equal_weights, mirrored

from trm.inference.network import AdaptedNetwork
from trm.inference.search import Callbacks
from trm.tasks import Puzzle


# -- time ----------------------------------------------------------------------------------------------------
class Progress(Callbacks):
    def __init__(self) -> None:
        self.totals: set[int] = set()

    def adapting(self, puzzle: Puzzle, seconds: int, total: int) -> None:
        self.totals.add(total)


def test_adaptation_takes_its_share_of_the_budget() -> None:
    refiner, progress = arc_refiner(replace(QUICK, steps=0, seconds=60.0)), Progress()
    refiner.refine(TASK, steps=1, budget=5.0, callbacks=progress)
    (total,) = progress.totals
    assert total <= 4  # seconds: four fifths of the budget, building the trainer included
    (other,) = mirrored()
    assert refiner.refine(other, steps=1, restarts=3, budget=0.0).steps == 1
    network = refiner.pool.network(other, budget_seconds=0.0)
    assert isinstance(network, AdaptedNetwork)
    assert network.adapted_steps == 0


def test_a_network_that_was_given_less_time_does_not_stand_in_for_one_with_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = count_adaptations(monkeypatch.setattr)
    refiner = arc_refiner(replace(QUICK, steps=0, seconds=0.4))
    for budget in (0.125, 0.0, 0.125, 0.25, None, 0.25, None):
        refiner.pool.network(TASK, budget)
        refiner.score(TASK, [TASK.answers or ()])  # by the network that there is
    assert [seconds for _, seconds, _ in calls] == [pytest.approx(s) for s in (0.1, 0.2, 0.4)]
    counted = arc_refiner(replace(QUICK, steps=1))  # the clock does not end it
    for budget in (0.125, None):
        counted.pool.network(TASK, budget)
    assert len(calls) == 4


def test_a_budget_of_which_a_draft_leaves_a_little_more_or_less_adapts_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = count_adaptations(monkeypatch.setattr)
    refiner = arc_refiner(replace(QUICK, steps=0))
    for left in (0.095, 0.094999, 0.095001, 0.1):
        refiner.pool.network(TASK, left)
    assert len(calls) == 1
    refiner.pool.network(TASK, 0.2)
    assert len(calls) == 2


def test_an_answer_of_a_network_that_was_adapted_before_costs_the_adaptation_too() -> None:
    refiner = arc_refiner(QUICK)
    network = refiner.pool.network(TASK)
    assert 0 < network.seconds <= refiner.refine(TASK, steps=1).seconds


def test_only_so_many_adapted_networks_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = count_adaptations(monkeypatch.setattr)
    monkeypatch.setattr("trm.inference.provider.KEPT_ON_CPU", 4)
    refiner, puzzles = arc_refiner(replace(QUICK, ensemble_size=2)), mirrored(3)
    assert refiner.pool.kept == 2
    for puzzle in (*puzzles, puzzles[1], puzzles[0]):
        refiner.pool.network(puzzle)
    assert [name for name, *_ in calls][::2] == [puzzles[n].id for n in (0, 1, 2, 0)]


# -- ensembles -----------------------------------------------------------------------------------------------
def test_a_member_of_an_ensemble_is_adapted_from_a_seed_of_its_own() -> None:
    progress: list[tuple[int, int]] = []
    both = arc_refiner(replace(QUICK, ensemble_size=2, seed=5)).pool
    network = both.network(TASK, progress=lambda *at: progress.append(at))
    assert progress == [(1, 4), (2, 4), (3, 4), (4, 4)]
    models = [engine.model for engine in network.engines]
    for seed, model in zip((5, 6), models, strict=True):
        (single,) = arc_refiner(replace(QUICK, seed=seed)).pool.network(TASK).engines
        assert equal_weights(model, single.model)
    assert not equal_weights(*models)


def test_an_ensemble_shares_the_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = count_adaptations(monkeypatch.setattr)
    arc_refiner(replace(QUICK, steps=0, seconds=0.3, ensemble_size=3)).pool.network(TASK)
    assert [(seconds, seed) for _, seconds, seed in calls] == [(pytest.approx(0.1), n) for n in range(3)]


@pytest.mark.parametrize("budget", [None, 1000.0])
def test_attempts_are_the_members_by_turns_and_all_of_them_vote(budget: float | None) -> None:
    out = arc_refiner(replace(QUICK, ensemble_size=3)).refine(TASK, steps=1, restarts=6, budget=budget)
    assert Counter(attempt.member for attempt in out.attempts) == {0: 3, 1: 2, 2: 2}
    # The cold start and two views are those of the first alone, for views are drawn by their turn.
    first = arc_refiner().refine(TASK, steps=1, restarts=6)
    own = [attempt.grids[0] for attempt in out.attempts if attempt.member == 0]
    assert all(map(np.array_equal, own, [first.attempts[n].grids[0] for n in (0, 3, 6)]))


def test_a_score_is_the_mean_over_the_ensemble() -> None:
    candidates = [TASK.demos[0][1:], TASK.demos[0][:1]]
    each = [arc_refiner(replace(QUICK, seed=seed)).score(TASK, candidates) for seed in (0, 1)]
    both = arc_refiner(replace(QUICK, ensemble_size=2)).score(TASK, candidates)
    assert both == pytest.approx(np.exp(np.log(each).mean(0)), rel=1e-4)
    assert each[0] != pytest.approx(each[1], rel=1e-4)
