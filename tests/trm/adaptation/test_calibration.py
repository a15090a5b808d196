"""Calibration of an adapted network's confidence, from demonstrations that were left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from arc_expert import QUICK, TASK, arc_expert, arc_refiner
from typer.testing import CliRunner, Result

from trm.adaptation.calibration import (
    EDGE,
    KEY,
    Calibration,
    calibrate,
    calibration_of,
    leave_one_out,
    with_calibration,
)
from trm.checkpoints.format import Checkpoint, load, save
from trm.cli import app
from trm.data.datasets import write
from trm.data.generate import generate
from trm.evaluation.records import first_attempts, read_records
from trm.grid import PuzzleError
from trm.inference.selection import vote_confidence

HELD = Calibration(0.5, -1.0, 2)


# -- the function ------------------------------------------------------------------------------------------
def test_a_calibration_is_found_again() -> None:
    rng = np.random.default_rng(0)
    confidences = rng.uniform(0.02, 0.98, 10_000)
    for truth in (Calibration(0.6, -1.4), Calibration(2.0, 0.5)):
        right = rng.random(len(confidences)) < [truth(one) for one in confidences]
        found = calibrate(confidences.tolist(), right.tolist(), 7)
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
def test_the_confidence_is_calibrated_where_adaptation_was_long_enough(steps: int, holds: bool) -> None:
    confidences = []
    for meta in ({}, {KEY: asdict(HELD)}):
        refiner = arc_refiner(replace(QUICK, steps=steps), arc_expert(**meta))
        out = refiner.refine(TASK, steps=1, restarts=2)
        raw = vote_confidence(out.attempts, out.attempts, out.grids)
        assert raw is not None
        assert out.confidence == (HELD(raw) if meta and holds else raw)
        confidences.append(out.confidence)
    assert (confidences[0] != confidences[1]) == holds


# -- demonstrations left out -------------------------------------------------------------------------------
def test_each_demonstration_is_asked_without_itself() -> None:
    two, one = replace(TASK, id="two"), replace(TASK, id="one", demos=TASK.demos[:1])
    made = leave_one_out([two, one], 2)
    assert [puzzle.id for puzzle in made] == ["two without 2", "two without 3"]
    for puzzle, at in zip(made, (1, 2), strict=True):
        asked, answer = TASK.demos[at]
        assert [grid.tolist() for grid in puzzle.inputs] == [asked.tolist()]
        assert puzzle.answers is not None
        assert [grid.tolist() for grid in puzzle.answers] == [answer.tolist()]
        others = [pair for n, pair in enumerate(TASK.demos) if n != at]
        assert all(a is b for a, b in zip(puzzle.demos, others, strict=True))
    assert len(leave_one_out([two], 9)) == len(TASK.demos)
    with pytest.raises(PuzzleError, match="no puzzle has two demonstrations"):
        leave_one_out([one], 1)


# -- the command -------------------------------------------------------------------------------------------
@pytest.fixture
def measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`trm eval` on four tasks of two demonstrations, one of each left out, kept on record."""
    monkeypatch.chdir(tmp_path)
    save("arc.pt", {"arc": arc_expert()}, torch.float32)
    write(Path("four.json"), "arc", list(generate("arc", 4, 5, rule="recolour", demos=2, size=(3, 4))))
    words = ["calibrate", "arc.pt", "--task", "arc", "--data", "four.json", "--steps", "1", "--device", "cpu"]
    words += ["--adapt", "steps=2", "--adapt", "batch=2", "--adapt", "smallest_canvas=10", "--restarts", "2"]
    return lambda *more: CliRunner().invoke(app, [*words, "--records", "r.jsonl", *map(str, more)])


def test_left_out_demonstrations_calibrate_the_checkpoint(measure: Callable[..., Result]) -> None:
    result = measure("--out", "out.pt")
    assert result.exit_code == 2  # a network that knows nothing: the figures are there, a calibration is not
    assert "Brier score" in result.stdout
    assert "0% of first attempts right" in result.stderr.splitlines()[-1]
    assert not Path("out.pt").exists()
    # As if two of them had been right, those with the higher confidence.
    records = read_records(Path("r.jsonl"))
    assert [record["id"] for record in records] == [f"arc-5-{n} without 2" for n in (1, 2, 3, 4)]
    for n, record in enumerate(records):
        # 3 of 3 views by the rule of succession: 4 of 5.
        record["candidates"][0][0] |= {"votes": 3, "confidence": (0.3 + 0.1 * n) / 0.8, "right": n > 1}
    Path("r.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    result = measure("--out", "out.pt")
    assert result.exit_code == 0, result.stderr
    calibrated = load("out.pt").experts["arc"]
    assert (calibrated.meta[KEY]["n"], calibrated.meta[KEY]["n_tasks"]) == (4, 4)
    assert calibrated.meta[KEY]["brier"] == pytest.approx(np.mean([0.3**2, 0.4**2, 0.5**2, 0.4**2]))
    calibration = calibration_of(calibrated.meta)
    assert calibration is not None
    expected = calibrate([0.3, 0.4, 0.5, 0.6], [False, False, True, True], 2)
    assert asdict(calibration) == pytest.approx(asdict(expected), abs=1e-4)
    before = load("arc.pt").experts["arc"].state
    assert all(calibrated.state[name].equal(tensor) for name, tensor in before.items())
    confidences = [calibration(raw) for raw in (0.3, 0.4, 0.5, 0.6)]
    assert first_attempts(records, calibration)[0] == pytest.approx(confidences)
    for record in records:  # of shorter adaptations it says nothing
        record["adaptation_steps"] = 1
    assert first_attempts(records, calibration)[0] == pytest.approx([0.3, 0.4, 0.5, 0.6])


def test_a_confidence_that_misleads_calibrates_nothing() -> None:
    slope = {KEY: {"slope": -0.5, "offset": 0.0, "steps": 1}}
    evaluation = {**slope, "n": 2, "n_tasks": 2, "brier": 0.5, "pass_1": 0.5}
    with pytest.raises(PuzzleError, match="slope"):
        with_calibration(Checkpoint("test", {"arc": arc_expert()}), "arc", evaluation)


@pytest.mark.parametrize("out", ["no/out.pt", "."])
def test_what_cannot_be_written_is_said_before_the_work(measure: Callable[..., Result], out: str) -> None:
    result = measure("--out", out)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert f"--out {out}" in result.stderr
    assert not Path("r.jsonl").exists()
