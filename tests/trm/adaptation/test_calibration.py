"""What a fitted network's belief is worth, from demonstrations that were left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hybrid.pooling import said_by
from test_adapt import QUICK, SHAPE, TASK
from trm.inference.attempts import belief
from typer.testing import CliRunner, Result

from trm.adaptation.calibration import EDGE, KEY, Calibration, calibrate, calibrated, calibration_of, left_out
from trm.checkpoints.format import Checkpoint, Expert, load, save
from trm.cli import app
from trm.data.datasets import write
from trm.data.generate import generate
from trm.evaluation.records import believed, read_records
from trm.grid import PuzzleError
from trm.inference.refiner import Refiner
from trm.model.network import TRM

HELD = Calibration(0.5, -1.0, 2)


def expert(**meta: Any) -> Expert:
    torch.manual_seed(0)
    return Expert("arc", SHAPE, TRM(SHAPE).state_dict(), meta)


# -- the function ------------------------------------------------------------------------------------------
def test_a_calibration_is_found_again() -> None:
    rng = np.random.default_rng(0)
    beliefs = rng.uniform(0.02, 0.98, 10_000)
    for truth in (Calibration(0.6, -1.4), Calibration(2.0, 0.5)):
        right = rng.random(len(beliefs)) < [truth(one) for one in beliefs]
        found = calibrate(beliefs.tolist(), right.tolist(), 7)
        assert found.slope == pytest.approx(truth.slope, abs=0.1)
        assert found.offset == pytest.approx(truth.offset, abs=0.1)
        assert found.steps == 7


def test_a_calibration_rises_and_is_never_certain() -> None:
    found = calibrate([0.0, 0.1, 0.9, 1.0], [False, False, True, True], 1)
    said = [found(one) for one in (0.0, EDGE, 0.3, 0.7, 1 - EDGE, 1.0)]
    assert said == sorted(said)
    assert said[0] == said[1] > 0
    assert said[-1] == said[-2] < 1
    assert Calibration()(0.3) == pytest.approx(0.3)


@pytest.mark.parametrize("right", [[True, True], [False, False], []])
def test_no_calibration_without_right_and_wrong(right: list[bool]) -> None:
    with pytest.raises(PuzzleError, match="answers are right: expected some of each"):
        calibrate([0.5] * len(right), right, 1)


@pytest.mark.parametrize(
    "held", [None, 3, {}, {"slope": 1.0, "offset": 0.0}, {"slope": "x", "offset": 0, "steps": 1},
             {"slope": float("nan"), "offset": 0.0, "steps": 1}],
)  # fmt: skip
def test_what_is_no_calibration_is_none(held: object) -> None:
    assert calibration_of({KEY: held}) is None
    assert calibration_of({}) is None


# -- what is printed ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(("steps", "holds"), [(1, False), (2, True), (3, True)])
def test_the_confidence_is_calibrated_where_the_fit_was_long_enough(steps: int, holds: bool) -> None:
    confidences = []
    for meta in ({}, {KEY: asdict(HELD)}):
        refiner = Refiner(Checkpoint("mine", {"arc": expert(**meta)}), device="cpu")
        refiner.experts.fitting = replace(QUICK, steps=steps, smallest=10)
        out = refiner.refine(TASK, steps=1, restarts=2)
        raw = belief(out.attempts, out.attempts, out.grids)
        assert raw is not None
        assert out.confidence == (HELD(raw) if meta and holds else raw)
        assert said_by([out], out.grids) == ("refiner", out.confidence)
        confidences.append(out.confidence)
    assert (confidences[0] != confidences[1]) == holds


# -- demonstrations left out -------------------------------------------------------------------------------
def test_each_demonstration_is_asked_without_itself() -> None:
    two, one = replace(TASK, id="two"), replace(TASK, id="one", demos=TASK.demos[:1])
    made = left_out([two, one], 2)
    assert [puzzle.id for puzzle in made] == ["two without 2", "two without 3"]
    for puzzle, at in zip(made, (1, 2), strict=True):
        asked, answer = TASK.demos[at]
        assert [grid.tolist() for grid in puzzle.inputs] == [asked.tolist()]
        assert puzzle.answers is not None
        assert [grid.tolist() for grid in puzzle.answers] == [answer.tolist()]
        others = [pair for n, pair in enumerate(TASK.demos) if n != at]
        assert all(a is b for a, b in zip(puzzle.demos, others, strict=True))
    assert len(left_out([two], 9)) == len(TASK.demos)
    with pytest.raises(PuzzleError, match="no puzzle has two demonstrations"):
        left_out([one], 1)


# -- the command -------------------------------------------------------------------------------------------
@pytest.fixture
def measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`trm eval` on four tasks of two demonstrations, one of each left out, kept on record."""
    monkeypatch.chdir(tmp_path)
    save("arc.pt", {"arc": expert()}, torch.float32)
    write(Path("four.json"), "arc", list(generate("arc", 4, 5, rule="recolour", demos=2, size=(3, 4))))
    words = ["eval", "arc.pt", "--task", "arc", "--data", "four.json", "--left-out", "1", "--steps", "1"]
    words += ["--fit", "steps=2", "--fit", "batch=2", "--fit", "smallest=10", "--device", "cpu"]
    return lambda *more: CliRunner().invoke(app, [*words, "--records", "r.jsonl", *map(str, more)])


def test_an_evaluation_calibrates_the_checkpoint(measure: Callable[..., Result]) -> None:
    result = measure("--restarts", 2, "--calibrate", "out.pt")
    assert result.exit_code == 2  # a network that knows nothing: the figures are there, a calibration is not
    assert "confidence: Brier score" in result.stdout
    assert result.stderr.splitlines()[-1] == (
        "trm: --calibrate out.pt: 4 inputs, 0% of first attempts right: expected some right and some wrong"
    )
    assert not Path("out.pt").exists()
    # As if two of them had been right, those that are believed more.
    records = read_records(Path("r.jsonl"))
    assert [one["id"] for one in records] == [f"arc-5-{n} without 2" for n in (1, 2, 3, 4)]
    for n, record in enumerate(records):
        # 3 of 3 views by the rule of succession: 4 of 5.
        record["candidates"][0][0] |= {"votes": 3, "sure": (0.3 + 0.1 * n) / 0.8, "right": n > 1}
    Path("r.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    result = measure("--restarts", 2, "--calibrate", "out.pt", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["brier"] == pytest.approx(np.mean([0.3**2, 0.4**2, 0.5**2, 0.4**2]))
    made = load("out.pt").experts["arc"]
    assert made.meta[KEY] == {**found[KEY], "n": 4, "n_tasks": 4, "brier": found["brier"]}
    calibration = calibration_of(made.meta)
    assert calibration is not None
    expected = calibrate([0.3, 0.4, 0.5, 0.6], [False, False, True, True], 2)
    assert asdict(calibration) == pytest.approx(asdict(expected), abs=1e-4)
    before = load("arc.pt").experts["arc"].state
    assert all(made.state[name].dtype == torch.float32 for name in before)
    assert all(made.state[name].equal(tensor) for name, tensor in before.items())
    # Of shorter fits it says nothing.
    said = [calibration(one) for one in (0.3, 0.4, 0.5, 0.6)]
    assert believed(records, calibration)[0] == pytest.approx(said)
    shorter = [{**one, "fit_steps": 1} for one in records]
    assert believed(shorter, calibration)[0] == pytest.approx([0.3, 0.4, 0.5, 0.6])  # type: ignore[arg-type]


def test_a_belief_that_misleads_calibrates_nothing() -> None:
    held = Checkpoint("mine", {"arc": expert()})
    found = {
        KEY: {"slope": -0.5, "offset": 0.0, "steps": 1},
        "n": 2,
        "n_tasks": 2,
        "brier": 0.5,
        "pass_1": 0.5,
    }
    with pytest.raises(PuzzleError, match="belief is no higher in what is right: slope"):
        calibrated(held, "arc", found)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--calibrate", "no/out.pt", "--restarts", 2], "--calibrate no/out.pt: expected a file in a folder"),
        (["--calibrate", "out.pt"], "--calibrate out.pt: expected a file in a folder that is there, and --restarts"),
        (["--calibrate", ".", "--restarts", 2], "--calibrate .: expected a file"),
    ],
)  # fmt: skip
def test_what_cannot_be_written_is_said_before_the_work(
    measure: Callable[..., Result], more: list[object], said: str
) -> None:
    result = measure(*more)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert said in result.stderr
    assert not Path("r.jsonl").exists()
