"""Short versions of the scripts in this folder, which run for long by hand."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import kill_runs
import soak_server
import verdicts


def test_a_server_that_misbehaves_costs_no_other_puzzle(tmp_path: Path) -> None:
    counts = soak_server.soak(40, 1, tmp_path / "answers.jsonl", reply_seconds=0.5)
    assert counts["statuses"].keys() == {"verified", "unsolved"}
    assert len(counts["met"]) > 5


def test_verdicts_agree_with_an_independent_checker() -> None:
    counts = verdicts.compare(2000, 1)
    assert counts.total() == 2000
    assert all(counts[f"{task} {kind}"] > 50 for task in ("sudoku", "maze") for kind in ("right", "wrong"))


@pytest.mark.skipif(not hasattr(kill_runs.os, "fork"), reason="programs are forked")
@pytest.mark.parametrize(
    "program", [kill_runs.train, kill_runs.solve, kill_runs.compare], ids=lambda p: p.__name__
)
def test_killed_programs_lose_nothing(tmp_path: Path, program: object) -> None:
    size = {"train": 10, "solve": 60, "compare": 4}[program.__name__]  # type: ignore[attr-defined]
    killed, runs = kill_runs.kill(program(tmp_path, size), 2, random.Random(0))  # type: ignore[operator]
    assert killed >= 2
    assert runs >= 1
