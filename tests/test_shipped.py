"""Regression of what ships: ckpt/trm.pt answers stored puzzles as it did when the expected outputs were written.

After a change that is meant to change outputs: `python tests/test_shipped.py` writes them anew.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trm.adaptation.config import default_adaptation
from trm.adaptation.test_time import TestTimeTrainer
from trm.data.files import load, strict
from trm.inference.refiner import Refiner
from trm.tasks import get

DATA = Path(__file__).parent / "data"
EXPECTED = DATA / "expected.json"
CHECKPOINT = Path(__file__).parents[1] / "ckpt" / "trm.pt"
TOLERANCE = 1e-3
MOST_STEPS = {"sudoku": 16, "maze": 2}  # a step costs five times as much on a maze
ADAPTATION_STEPS = 10

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads share products out differently, and half precision rounds differently then."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def answers(task: str) -> list[dict[str, Any]]:
    """Status, steps and confidence of each stored puzzle, from a cold start."""
    refiner = Refiner.from_pretrained(CHECKPOINT, "cpu")
    puzzles = strict(load(DATA / f"{task}.csv", task))
    return [
        {"status": str(out.verdict.status), "steps": out.steps, "confidence": out.confidence}
        for out in refiner.refine(puzzles, steps=MOST_STEPS[task])
    ]


def arc_pass() -> dict[str, Any]:
    """One supervision step of the ARC expert on a bundled sample, before and after a short adaptation."""
    puzzle = get("arc").samples()[0]
    config = replace(default_adaptation("cpu"), steps=ADAPTATION_STEPS, batch=2)
    refiner = Refiner.from_pretrained(CHECKPOINT, "cpu", adaptation=replace(config, steps=0, seconds=0.0))
    trainer = TestTimeTrainer(refiner.pool.expert("arc"), config, refiner.pool.canvas(puzzle).width)
    adapted = trainer.adapt(puzzle)
    total = sum(float(p.double().abs().sum()) for p in adapted.network.parameters())
    out = refiner.refine(puzzle, steps=1)
    return {
        "confidence": out.confidence,
        "answer": [grid.tolist() for grid in out.grids],
        "adapted_steps": adapted.steps,
        "adapted_weights": total,
    }


def expected() -> dict[str, Any]:
    stored: dict[str, Any] = json.loads(EXPECTED.read_text())
    return stored


@pytest.mark.parametrize("task", ["sudoku", "maze"])
def test_stored_puzzles_are_answered_as_before(task: str) -> None:
    for number, (now, before) in enumerate(zip(answers(task), expected()[task], strict=True), 1):
        assert (number, now["status"], now["steps"]) == (number, before["status"], before["steps"])
        assert now["confidence"] == pytest.approx(before["confidence"], abs=TOLERANCE)


@pytest.mark.parametrize("task", ["sudoku4", "sudoku6"])
def test_samples_of_other_sizes_are_solved_in_one_pass(task: str) -> None:
    outs = Refiner.from_pretrained(CHECKPOINT, "cpu").refine(get(task).samples())
    assert [str(out.verdict.status) for out in outs] == ["verified"] * len(outs)


def test_the_arc_expert_computes_and_learns_as_before() -> None:
    now, before = arc_pass(), expected()["arc"]
    assert now["adapted_steps"] == ADAPTATION_STEPS
    assert now["confidence"] == pytest.approx(before["confidence"], abs=TOLERANCE)
    assert np.array_equal(now["answer"][0], before["answer"][0])
    assert now["adapted_weights"] == pytest.approx(before["adapted_weights"], rel=TOLERANCE)


if __name__ == "__main__":
    torch.set_num_threads(1)
    written = {task: answers(task) for task in MOST_STEPS} | {"arc": arc_pass()}
    EXPECTED.write_text(json.dumps(written, indent=1) + "\n")
