"""The whole trainer, on the recipe for two CPU cores: it must learn, halt, use drafts and judge them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_networks import ROOT

from trm.checkpoints.format import Checkpoint, Expert, load
from trm.data.generate import generate
from trm.evaluation.accuracy import evaluate
from trm.inference.refiner import Refiner
from trm.tasks import Puzzle, Status

pytestmark = pytest.mark.slow
FRESH = list(generate("sudoku", 100, 99, clues=(50, 60)))  # another seed than the recipe's


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`trm train configs/tiny.toml` as a user would run it; about two minutes on two free cores."""
    folder = tmp_path_factory.mktemp("tiny") / "run"
    command = [
        sys.executable,
        "-m",
        "trm",
        "train",
        str(ROOT / "configs" / "tiny.toml"),
        "--out",
        str(folder),
    ]
    done = subprocess.run(
        [*command, "--device", "cpu"], cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def refiner(run: Path) -> Refiner:
    return Refiner.from_pretrained(run / "checkpoints" / "best", device="cpu")


def corrupted(puzzle: Puzzle, wrong: int, seed: int) -> np.ndarray:
    """The answer with so many free cells changed to another digit."""
    rng = np.random.default_rng(seed)
    assert puzzle.answers is not None
    grid = puzzle.answers[0].copy()
    free = np.argwhere(puzzle.grid == 0)
    for row, col in rng.permutation(free)[:wrong]:
        grid[row, col] = (grid[row, col] + rng.integers(1, 9) - 1) % 9 + 1
    return grid


def test_it_learns_puzzles_it_has_never_seen(run: Path, refiner: Refiner) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    held_out = [line["held_out"]["accuracy"] for line in lines if "held_out" in line]
    assert held_out[-1] >= 0.9
    result = evaluate(refiner, FRESH, steps=8)
    assert result["accuracy"] >= 0.9
    assert result["verified"] == result["accuracy"]  # one solution each: right and valid are the same


def test_it_knows_when_to_stop(refiner: Refiner) -> None:
    result = evaluate(refiner, FRESH, steps=8)
    assert result["mean_steps"] < 4
    assert result["halt_accuracy"] > result["by_step"]["1"]


def test_a_draft_is_used_and_errors_in_it_are_mended(refiner: Refiner) -> None:
    """Half of the free cells wrong: mended. The same draft with a deaf network changes nothing at all."""
    drafts = [corrupted(p, int((p.grid == 0).sum()) // 2, i) for i, p in enumerate(FRESH[:40])]
    outs = refiner.refine(FRESH[:40], list(drafts), cold=False, steps=8)
    assert np.mean([out.verdict.status is Status.VERIFIED for out in outs]) >= 0.85
    given = refiner.refine(FRESH[:40], [p.answers for p in FRESH[:40]], cold=False, steps=1)
    cold = refiner.refine(FRESH[:40], steps=1)
    solved = [np.mean([o.verdict.status is Status.VERIFIED for o in outs]) for outs in (given, cold)]
    assert solved[0] > solved[1]
    expert = refiner.pool.checkpoint.experts["sudoku"]
    deaf = {**expert.state, "embed.draft": torch.zeros_like(expert.state["embed.draft"])}
    mute = Refiner.from_checkpoint(
        Checkpoint("deaf", {"sudoku": Expert("sudoku", expert.config, deaf)}), "cpu"
    )
    a, b = mute.refine(FRESH[:8], list(drafts[:8]), cold=False, steps=1), mute.refine(FRESH[:8], steps=1)
    assert all(np.array_equal(x.grid, y.grid) for x, y in zip(a, b, strict=True))


def test_it_tells_right_candidates_from_nearly_right_ones(refiner: Refiner) -> None:
    """AUC of `score` on answers against the same with one to four wrong cells."""
    right, wrong = [], []
    for i, puzzle in enumerate(FRESH[:40]):
        scores = refiner.score(puzzle, [puzzle.answers or (), corrupted(puzzle, 1 + i % 4, i)])
        right.append(scores[0])
        wrong.append(scores[1])
    auc = np.mean([r > w for r in right for w in wrong])
    assert auc >= 0.9


def test_the_best_checkpoint_is_the_best_evaluation(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    best = max(line["held_out"]["accuracy"] for line in lines if "held_out" in line)
    assert load(run / "checkpoints" / "best").experts["sudoku"].meta["metrics"]["accuracy"] == best
