"""Networks fitted to one task from several seeds, whose views vote together."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_adapt import QUICK, SHAPE, TASK
from typer.testing import CliRunner

from trm.adaptation.test_time import Fitting, fit_together, fitting
from trm.checkpoints.format import Checkpoint, Expert, save
from trm.cli import app
from trm.config import ConfigError
from trm.data.datasets import write
from trm.data.generate import generate
from trm.evaluation.records import Judged, Record, alone, read_records
from trm.inference.refiner import Refiner
from trm.model.network import TRM

HOW = replace(QUICK, steps=2, smallest=10)


@pytest.fixture(scope="module")
def expert() -> Expert:
    torch.manual_seed(0)
    return Expert("arc", SHAPE, TRM(SHAPE).state_dict())


def refiner(expert: Expert, how: Fitting) -> Refiner:
    made = Refiner(Checkpoint("mine", {"arc": expert}), device="cpu")
    made.experts.fitting = how
    return made


def test_a_replica_is_what_is_fitted_from_its_seed(expert: Expert) -> None:
    heard: list[tuple[int, int]] = []
    both = refiner(expert, replace(HOW, replicas=2, seed=5)).experts
    (fit,) = both.fitted([TASK], lambda done, total, grid: heard.append((done, total)))
    assert heard == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert fit.steps == 2  # each
    states = [engine.model.state_dict() for engine in fit.engines]
    for seed, state in zip((5, 6), states, strict=True):
        (one,) = refiner(expert, replace(HOW, seed=seed)).experts.engines_for(TASK)
        assert all(state[name].equal(tensor) for name, tensor in one.model.state_dict().items())
    assert not all(states[0][name].equal(states[1][name]) for name in states[0])


def test_replicas_share_the_seconds(expert: Expert, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[float] = []

    def fit(fitters: Any, puzzles: Any, progress: Any, seconds: float, seed: int) -> Any:
        given.append(seconds)
        return fit_together(fitters, puzzles, progress, seconds, seed)

    monkeypatch.setattr("trm.adaptation.test_time.fit_together", fit)
    some = refiner(expert, replace(HOW, steps=0, seconds=0.6, replicas=3)).experts
    (fitted,) = some.fitted([TASK])
    assert given == [pytest.approx(0.2)] * 3
    assert len(fitted.engines) == 3
    assert fitted.seconds >= 0.6
    assert fitted.allowed == 0.6


def test_attempts_are_the_replicas_in_turn_and_all_of_them_vote(expert: Expert) -> None:
    out = refiner(expert, replace(HOW, replicas=3)).refine(TASK, steps=1, restarts=6)
    assert Counter(one.replica for one in out.attempts) == {0: 3, 1: 2, 2: 2}
    assert out.restarts == 6
    # The cold start and two views are those of the first alone, for views are drawn by their turn.
    first = refiner(expert, HOW).refine(TASK, steps=1, restarts=6)
    mine = [one.grids[0] for one in out.attempts if one.replica == 0]
    same = [first.attempts[n].grids[0] for n in (0, 3, 6)]
    assert all(map(np.array_equal, mine, same))
    # Further turns one by one, as where there is a budget, are shared in the same way.
    timed = refiner(expert, replace(HOW, replicas=3)).refine(TASK, steps=1, restarts=6, budget=1000)
    assert Counter(one.replica for one in timed.attempts) == {0: 3, 1: 2, 2: 2}


def test_a_puzzle_with_replicas_is_answered_once_in_a_batch(expert: Expert) -> None:
    others = [*generate("arc", 2, 4, rule="mirror", demos=2, size=(3, 4))]
    one = refiner(expert, replace(HOW, replicas=2))
    outs = one.refine([TASK, *others], steps=1, restarts=3)
    assert [len(out.attempts) for out in outs] == [4, 4, 4]
    assert [out.text for out in outs] == [one.refine(p, steps=1, restarts=3).text for p in (TASK, *others)]


def test_a_score_is_the_mean_over_replicas(expert: Expert) -> None:
    candidates = [TASK.demos[0][1:], TASK.demos[0][:1]]
    each = [refiner(expert, replace(HOW, seed=seed)).score(TASK, candidates) for seed in (0, 1)]
    both = refiner(expert, replace(HOW, replicas=2)).score(TASK, candidates)
    assert both == pytest.approx(np.exp(np.log(each).mean(0)), rel=1e-4)
    assert each[0] != pytest.approx(each[1], rel=1e-4)


def test_more_or_fewer_than_there_may_be_are_refused() -> None:
    for wrong in (0, 17):
        with pytest.raises(ConfigError, match=f"replicas {wrong}, expected 1 to 16"):
            fitting([f"replicas={wrong}"], "--fit", Fitting())


def _judged(right: bool, *votes: int) -> Judged:
    return Judged(votes=sum(votes), votes_of=list(votes), score=0.5, sure=0.5, right=right)


def test_what_one_replica_says_alone() -> None:
    record = dict.fromkeys(Record.__annotations__)
    easy = record | {"candidates": [[_judged(True, 3, 3)]]}
    # The first replica has the right grid third, the second has it first; of the third task the first never names it.
    hard = record | {"candidates": [[_judged(False, 3, 1), _judged(False, 2, 0), _judged(True, 1, 2)]]}
    two = record | {"candidates": [[_judged(True, 0, 2), _judged(False, 1, 0)], [_judged(True, 1, 1)]]}
    records: list[Record] = [easy, hard, two]  # type: ignore[list-item]
    assert alone(records, 0) == (pytest.approx(2 / 4), pytest.approx(1 / 3))
    assert alone(records, 1) == (1.0, 1.0)


def test_an_evaluation_counts_the_votes_of_each(
    expert: Expert, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save("arc.pt", {"arc": expert}, torch.float32)
    write(Path("two.json"), "arc", list(generate("arc", 2, 5, rule="recolour", demos=2, size=(3, 4))))
    words = ["eval", "arc.pt", "--task", "arc", "--data", "two.json", "--steps", "1", "--restarts", "5"]
    words += ["--fit", "steps=1", "--fit", "batch=2", "--fit", "smallest=10", "--fit", "replicas=2"]
    words += ["--device", "cpu", "--records", "r.jsonl"]
    said = CliRunner().invoke(app, words)
    assert said.exit_code == 0, said.output
    assert "by one replica alone" in said.stdout
    for record in read_records(Path("r.jsonl")):
        for mine in record["candidates"]:
            assert all(sum(one["votes_of"]) == one["votes"] for one in mine)
            assert [sum(votes) for votes in zip(*(one["votes_of"] for one in mine), strict=True)] == [3, 3]
    result = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert 0 <= result["tasks_alone"] <= result["pass_2_alone"] <= 1
