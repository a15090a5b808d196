"""The comparison where the network is adapted to every task and no rule decides."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import doubles
import numpy as np
import pytest
from arc_expert import SHAPE, arc_expert, count_adaptations
from typer.testing import CliRunner

from eval import arms
from eval.compare import app
from eval.plan import puzzles_for
from trm.adaptation.config import AdaptationConfig
from trm.checkpoints.format import save
from trm.data.datasets import write
from trm.inference.config import SearchConfig
from trm.inference.refiner import Refiner
from trm.model.flops import count_flops
from trm.tasks import get

ARMS = (
    "hybrid,llm,trm,trm+restarts,draft:llm,draft:random,draft:oracle,llm-best-of-k:score,llm-best-of-k:vote"
)


def call(*args: object) -> None:
    done = CliRunner().invoke(app, [str(a) for a in args])
    assert done.exit_code == 0, done.output


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained expert that is adapted to every task."""
    path = tmp_path_factory.mktemp("arc") / "trm.pt"
    save(path, {"arc": arc_expert()})
    return path


def test_every_arm_answers_where_the_network_is_adapted(tmp_path: Path, checkpoint: Path) -> None:
    drafts, data, out = tmp_path / "replies.jsonl", tmp_path / "tasks.json", tmp_path / "out"
    puzzles = puzzles_for("arc", 2, 0, None)
    write(data, "arc", puzzles)
    recorder = doubles.recorded(f"```\n{get('arc').text((puzzles[0].grid,))}\n```", path=drafts, drafts=1)
    for puzzle in puzzles_for("arc", 2, 0, str(data)):
        recorder.propose(puzzle)
    asked = ("--tasks", "arc", "--n", 2, "--data", f"arc={data}", "--refiner", checkpoint, "--device", "cpu")
    asked += ("--drafts-from", drafts, "--drafts", 1, "--restarts", 2, "--fit", "steps=1")
    asked += ("--fit", "batch=2", "--fit", "smallest_canvas=10")
    call(*asked, "--arms", ARMS, "--out", out)
    found = json.loads((out / "results.json").read_text())["tasks"]["arc"]
    assert set(found) == set(ARMS.split(","))
    assert {figures["n"] for figures in found.values()} == {2}
    assert found["draft:oracle"]["solved"] == 2  # the label is one of two attempts
    assert found["llm"]["solved"] == 0


def test_the_control_has_as_many_views_as_the_hybrid_pays_for() -> None:
    """A view's rollout ends when the network halts, so that steps are counted one by one."""
    (puzzle,) = puzzles_for("arc", 1, 0, None)
    assert arms.affordable_restarts(puzzle, 66.5, SearchConfig()) == 66
    two = replace(puzzle, inputs=puzzle.inputs * 2)  # each view of it is two rollouts
    assert arms.affordable_restarts(two, 66.5, SearchConfig()) == 33


def test_a_step_is_counted_on_the_canvas_that_it_is_taken_on(checkpoint: Path) -> None:
    adaptation = AdaptationConfig(smallest_canvas=10)
    refiner = Refiner.from_pretrained(checkpoint, device="cpu", adaptation=adaptation)
    (small,) = puzzles_for("arc", 1, 0, None)
    large = replace(small, inputs=(np.zeros((28, 28), dtype=np.uint8),), answers=None)
    counted = []
    for puzzle, side in ((small, 10), (large, 30)):
        expected = count_flops(replace(SHAPE, identities=3, seq_len=side * side, canvas_width=side)).step
        counted.append(arms.step_flops(refiner, puzzle))
        assert counted[-1] == expected
    assert counted[1] > 9 * counted[0]
    assert arms.step_flops(None, small) == 0


@pytest.mark.parametrize("members", [1, 2])
def test_more_puzzles_than_networks_are_kept_are_answered_in_chunks(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, members: int
) -> None:
    """So that all arms of a puzzle are answered by the same networks."""
    calls = count_adaptations(monkeypatch.setattr)
    monkeypatch.setattr("trm.inference.provider.KEPT_ON_CPU", 2 * members)
    asked = ("--tasks", "arc", "--n", 5, "--refiner", checkpoint, "--device", "cpu", "--llm", "none")
    asked += ("--arms", "trm,draft:random,draft:oracle@50", "--fit", "steps=1", "--fit", "batch=2")
    asked += ("--fit", "smallest_canvas=10", "--fit", f"ensemble_size={members}")
    call(*asked, "--out", tmp_path / "out")
    assert len(calls) == len({(name, seed) for name, _, seed in calls}) == 5 * members


def test_drafts_of_arc_are_shown_and_two_attempts_judged(tmp_path: Path) -> None:
    """Two replies, the second right: only the arm with two attempts solves it."""
    drafts, out = tmp_path / "replies.jsonl", tmp_path / "out"
    (puzzle,) = puzzles_for("arc", 1, 0, None)
    assert puzzle.answers is not None
    replies = [f"```\n{get('arc').text((grid,))}\n```" for grid in (puzzle.grid, puzzle.answers[0])]
    doubles.recorded(*replies, path=drafts, drafts=2).propose(puzzle)
    asked = ("--tasks", "arc", "--n", 1, "--refiner", "none", "--drafts-from", drafts, "--drafts", 2)
    call(*asked, "--arms", "llm,llm-best-of-k:vote", "--out", out)
    found = json.loads((out / "results.json").read_text())["tasks"]["arc"]
    assert {arm: figures["solved"] for arm, figures in found.items()} == {"llm": 0, "llm-best-of-k:vote": 1}
    page = (out / "report.html").read_text()
    assert "none that could be read" not in page
