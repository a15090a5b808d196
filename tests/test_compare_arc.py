"""The comparison where the network is fitted to every task and no rule decides."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import doubles
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from eval import arms
from eval.arms import Setting
from eval.compare import app
from eval.run import puzzles_for
from eval.synthetic import maker
from hybrid.pipeline import Options, Pipeline, Watcher
from trm.adaptation.test_time import Fitter, Fitting
from trm.checkpoints.format import Expert, save
from trm.data.datasets import write
from trm.inference.refiner import Refiner
from trm.model.config import TRMConfig
from trm.model.flops import count_flops
from trm.model.network import TRM
from trm.tasks import get

SHAPE = TRMConfig(
    900, 12, canvas_width=30, hidden_size=32, heads=2, prefix=2, positions="rope2d", h_cycles=1, l_cycles=1,
    gated_norm=True, draft=True, feedback=True, identities=3, identity_dim=32, turns=True,
)  # fmt: skip
ARMS = (
    "hybrid,llm,trm,trm+restarts,draft:llm,draft:random,draft:oracle,llm-best-of-k:score,llm-best-of-k:vote"
)


def call(*args: object) -> None:
    done = CliRunner().invoke(app, [str(a) for a in args])
    assert done.exit_code == 0, done.output


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained expert that is fitted to every task."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("arc") / "trm.pt"
    save(path, {"arc": Expert("arc", SHAPE, TRM(SHAPE).state_dict())})
    return path


def test_every_arm_answers_where_the_network_is_fitted(tmp_path: Path, checkpoint: Path) -> None:
    drafts, data, out = tmp_path / "replies.jsonl", tmp_path / "tasks.json", tmp_path / "out"
    puzzles = puzzles_for("arc", 2, 0, None)
    write(data, "arc", puzzles)
    recorder = doubles.recorded(f"```\n{get('arc').text((puzzles[0].grid,))}\n```", path=drafts, most=1)
    for puzzle in puzzles_for("arc", 2, 0, str(data)):
        recorder.propose(puzzle)
    asked = ("--tasks", "arc", "--n", 2, "--data", f"arc={data}", "--refiner", checkpoint, "--device", "cpu")
    asked += ("--drafts-from", drafts, "--drafts", 1, "--restarts", 2, "--fit", "steps=1")
    asked += ("--fit", "batch=2", "--fit", "smallest=10")
    call(*asked, "--arms", ARMS, "--out", out)
    found = json.loads((out / "results.json").read_text())["tasks"]["arc"]
    assert set(found) == set(ARMS.split(","))
    assert {figures["n"] for figures in found.values()} == {2}
    assert found["draft:oracle"]["solved"] == 2  # the label is one of two attempts
    assert found["llm"]["solved"] == 0


def test_the_control_has_as_many_views_as_the_hybrid_pays_for(checkpoint: Path) -> None:
    """A view's rollout ends when the network halts, so that steps are counted one by one."""
    made = Setting(None, doubles.FakeRefiner(doubles.cold_solves), Options())  # type: ignore[arg-type]
    (puzzle,) = puzzles_for("arc", 1, 0, None)
    arms.run("trm+restarts", [puzzle], made, [66.5])
    assert made.refiner.calls[-1]["restarts"] == 66  # type: ignore[union-attr]
    # Every view of two inputs is two rollouts.
    assert puzzle.answers is not None
    two = replace(puzzle, inputs=puzzle.inputs * 2, answers=puzzle.answers * 2)
    arms.run("trm+restarts", [two], made, [66.5])
    assert made.refiner.calls[-1]["restarts"] == 33  # type: ignore[union-attr]


def test_a_step_is_counted_on_the_canvas_that_it_is_taken_on(checkpoint: Path) -> None:
    refiner = Refiner.from_pretrained(checkpoint, device="cpu")
    (small,) = puzzles_for("arc", 1, 0, None)
    large = replace(small, inputs=(np.zeros((28, 28), dtype=np.uint8),), answers=None)
    counted = []
    for puzzle, side in ((small, 10), (large, 30)):
        refiner.experts.fitting = Fitting(smallest=10)
        expected = count_flops(replace(SHAPE, seq_len=side * side, canvas_width=side)).step
        counted.append(arms.step_flops(refiner, puzzle))
        assert counted[-1] == expected
    assert counted[1] > 9 * counted[0]
    assert arms.step_flops(None, small) == 0


@pytest.mark.parametrize("replicas", [1, 2])
def test_more_puzzles_than_networks_are_kept_are_answered_in_chunks(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, replicas: int
) -> None:
    """So that all arms of a puzzle share one fit."""
    fitted: list[tuple[str, int]] = []
    whole = Fitter.begin
    monkeypatch.setattr(Fitter, "begin", lambda self, p, s: fitted.append((p.id, s)) or whole(self, p, s))
    monkeypatch.setattr("trm.inference.provider.FITTED_KEPT_ON_CPU", 2 * replicas)
    asked = ("--tasks", "arc", "--n", 5, "--refiner", checkpoint, "--device", "cpu", "--llm", "none")
    asked += ("--arms", "trm,draft:random,draft:oracle@50", "--fit", "steps=1", "--fit", "batch=2")
    asked += ("--fit", "smallest=10", "--fit", f"replicas={replicas}")
    call(*asked, "--out", tmp_path / "out")
    assert len(fitted) == len(set(fitted)) == 5 * replicas


def test_a_random_grid_knows_nothing_of_the_label() -> None:
    for puzzle in puzzles_for("arc", 6, 0, None):
        assert puzzle.answers is not None
        other = replace(puzzle, answers=tuple(np.full((2, 7), 9, dtype=np.uint8) for _ in puzzle.inputs))
        mine, theirs = (maker("random", 0)(one) for one in (puzzle, other))
        assert mine is not None
        assert theirs is not None
        assert all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))
        assert [grid.shape for grid in mine] == [grid.shape for grid in puzzle.inputs]
        shown = {int(colour) for _, after in puzzle.demos for colour in after.ravel()}
        assert {int(colour) for grid in mine for colour in grid.ravel()} <= shown


def test_a_draft_too_large_for_its_canvas_costs_the_other_puzzles_nothing(checkpoint: Path) -> None:
    refiner = Refiner.from_pretrained(checkpoint, device="cpu")
    refiner.experts.fitting = Fitting(steps=1, batch=2, smallest=10)
    puzzles = puzzles_for("arc", 3, 0, None)
    large = np.zeros((25, 25), dtype=np.uint8)
    drafts = doubles.Scripted([puzzles[0].inputs, (large,), puzzles[2].inputs])
    heard: list[str] = []
    watcher = Watcher()
    watcher.warned = heard.append  # type: ignore[method-assign]
    alone = Pipeline(drafts, arms.DraftAlone(refiner), at_once=3, watcher=watcher)  # type: ignore[arg-type]
    answers = list(alone.solve(puzzles, Options(restarts=0)))
    assert [answer.steps > 0 for answer in answers] == [True, False, True]
    assert answers[1].source == "llm"
    assert len(heard) == 1
    assert "25x25" in heard[0]


def test_drafts_of_arc_are_shown_and_two_attempts_judged(tmp_path: Path) -> None:
    """Two replies, the second right: only the arm with two attempts solves it."""
    drafts, out = tmp_path / "replies.jsonl", tmp_path / "out"
    (puzzle,) = puzzles_for("arc", 1, 0, None)
    assert puzzle.answers is not None
    replies = [f"```\n{get('arc').text((grid,))}\n```" for grid in (puzzle.grid, puzzle.answers[0])]
    doubles.recorded(*replies, path=drafts, most=2).propose(puzzle)
    asked = ("--tasks", "arc", "--n", 1, "--refiner", "none", "--drafts-from", drafts, "--drafts", 2)
    call(*asked, "--arms", "llm,llm-best-of-k:vote", "--out", out)
    found = json.loads((out / "results.json").read_text())["tasks"]["arc"]
    assert {arm: figures["solved"] for arm, figures in found.items()} == {"llm": 0, "llm-best-of-k:vote": 1}
    page = (out / "report.html").read_text()
    assert "<figcaption>draft</figcaption><table" in page
