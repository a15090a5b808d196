"""examples/: every script runs and prints what it promises."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trm.data.files import load, strict
from trm.data.own_grids import describe_own_grid

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


def run(*words: str, **environment: str) -> str:
    """What `python WORDS` prints, in the checkout."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_tested() -> None:
    here = Path(__file__).read_text(encoding="utf-8")
    assert all(path.name in here for path in EXAMPLES.glob("*.py"))


def test_a_sudoku_is_refined() -> None:
    assert "verified" in run("examples/refine_sudoku.py")


def test_candidates_are_judged() -> None:
    right, wrong = run("examples/judge_candidates.py").splitlines()
    assert right.endswith("verified")
    assert wrong.endswith("unsolved")
    assert float(right.split()[2].strip(",")) > float(wrong.split()[2].strip(","))


def test_several_paths_differ() -> None:
    paths = run("examples/several_paths.py").split("path ")[1:]
    assert len({path.split("\n", 1)[1] for path in paths}) == 3


def test_an_own_proposer_drafts() -> None:
    printed = run("examples/own_proposer.py")
    assert printed.count("-- draft 1: unsolved") == 2
    assert printed.count(": verified") == 2


def test_rooms_are_filled_with_the_letter_that_they_hold(tmp_path: Path) -> None:
    run("examples/rooms.py", str(tmp_path / "rooms.csv"), "5", "0")
    plans = strict(load(tmp_path / "rooms.csv", describe_own_grid("grid", str(tmp_path / "rooms.csv"))))
    assert len(plans) == 5
    for plan in plans:
        (answer,) = plan.answers or ()
        kept = plan.grid != ord(".")
        assert (answer[kept] == plan.grid[kept]).all()


def test_an_own_backend_replies() -> None:
    assert run("examples/echo_backend.py").strip()


@pytest.mark.slow
def test_an_arc_task_is_answered_within_a_budget() -> None:
    assert "unverified" in run("examples/arc_within_budget.py", "10")


@pytest.mark.slow
def test_a_tiny_network_is_trained(tmp_path: Path) -> None:
    short = ("train.steps=30", "train.evaluate_every=1.0", "data.generate=200", "data.held_out_size=16")
    assert "held out" in run("examples/train_tiny.py", str(tmp_path / "run"), *short)


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """An environment in which the package of examples/latin_square is installed."""
    (tmp_path / "latin_square.py").write_bytes((EXAMPLES / "latin_square" / "latin_square.py").read_bytes())
    about = tmp_path / "latin_square-0.1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: latin-square\nVersion: 0.1.0\n")
    (about / "entry_points.txt").write_text("[trm.tasks]\nlatin_square = latin_square:TASK\n")
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}


@pytest.mark.slow
def test_a_puzzle_of_another_package(tmp_path: Path, installed: dict[str, str]) -> None:
    """The commands of docs/how-to/add-a-puzzle.md, with fewer puzzles and steps."""
    data, folder = str(tmp_path / "latin.csv"), tmp_path / "run"
    best = str(folder / "checkpoints" / "best")
    run("-m", "trm", "data", "latin_square", "--n", "32", "--seed", "1", "--out", data, **installed)
    tiny = ("examples/latin_square/tiny.toml", "train.steps=60", "data.generate=300", "--out", str(folder))
    assert "held out" in run("-m", "trm", "train", *tiny, **installed)
    measured = run(
        "-m", "trm", "eval", best, "--task", "latin_square", "--data", data, "--steps", "4", **installed
    )
    assert "32" in measured
    checked = run(
        "-m", "hybrid", "check", "--task", "latin_square", "1.3..4.2.1..4..1", "1234341221434321", **installed
    )
    assert checked.strip() == "verified"
