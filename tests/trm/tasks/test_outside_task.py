"""A puzzle of another package, with an entry point, takes the whole way from the generator to the report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "examples" / "latin_square"


class Project:
    """Commands in a folder of their own, in which the package is installed beside the project."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # What pip writes for the package, without a build: its modules are found where they are.
        metadata = folder / "site" / "latin_square-0.1.0.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: latin-square\nVersion: 0.1.0\n")
        (metadata / "entry_points.txt").write_text("[trm.tasks]\nlatin_square = latin_square:TASK\n")
        paths = (metadata.parent, PACKAGE, ROOT)
        self.environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "OMP_NUM_THREADS": "1",
        }

    def run(self, *command: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("outside"))


def test_the_registry_finds_it_and_detects_its_questions(project: Project) -> None:
    code = (
        "import numpy as np; from trm import tasks; "
        "print(tasks.names(), tasks.detect('12.. 3412 2143 43.1'), tasks.detect('5' * 81), "
        "tasks.detect_grid(np.zeros((4, 4), dtype=np.uint8)), tasks.get('latin_square').difficulty("
        "tasks.get('latin_square').samples()[0]))"
    )
    printed = (
        "['arc', 'latin_square', 'maze', 'sudoku'] latin_square sudoku latin_square {'givens': '12 or more'}"
    )
    assert project.run("-c", code).strip() == printed


def test_a_package_that_cannot_be_loaded_is_a_puzzle_error(project: Project, tmp_path: Path) -> None:
    broken = tmp_path / "broken-1.0.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (broken / "entry_points.txt").write_text("[trm.tasks]\nbroken = no_such_module:TASK\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from trm import tasks\n"
        "tasks.get('sudoku')\n"
        "try: tasks.get('broken')\n"
        "except tasks.registry.PuzzleError as error: print(error)"
    )
    assert "no_such_module" in project.run("-c", code)


@pytest.mark.slow
def test_it_is_generated_learned_solved_compared_and_reported(project: Project) -> None:
    project.run(
        "-m", "trm", "data", "latin_square", "--n", "6", "--seed", "7", "--out", "new.csv", "clues=[10,12]"
    )
    project.run("-m", "trm", "train", str(PACKAGE / "tiny.toml"), "--out", "run", "--device", "cpu")
    refiner = ("--refiner", "run/checkpoints/best", "--device", "cpu")
    lines = project.run("-m", "hybrid", "solve", "new.csv", "--llm", "none", *refiner, "--json").splitlines()
    answers = [json.loads(line) for line in lines]
    assert [answer["task"] for answer in answers] == ["latin_square"] * 6
    assert all(answer["status"] == "verified" for answer in answers)

    compare = str(ROOT / "eval" / "compare.py")
    arms = "trm,exact,draft:blank"
    project.run(
        compare,
        "--tasks",
        "latin_square",
        "--n",
        "4",
        "--arms",
        arms,
        "--llm",
        "none",
        *refiner,
        "--out",
        "out",
    )
    results = json.loads((project.folder / "out" / "results.json").read_text())["tasks"]["latin_square"]
    assert results["exact"]["solved"] == 4
    assert results["trm"]["solved"] >= 3
    assert "latin_square" in (project.folder / "out" / "report.html").read_text()
