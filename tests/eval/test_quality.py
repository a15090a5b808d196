"""The tables of drafts and of judging, from small networks."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import doubles
import numpy as np
import pytest
from small_networks import SMALL
from small_networks import network as model
from typer.testing import CliRunner, Result

from eval import quality
from trm.checkpoints.format import Checkpoint, Expert
from trm.data.generate import generate
from trm.inference.refiner import Refiner
from trm.tasks import Puzzle, get

ASK = ["x.pt", "--task", "sudoku", "--data", "x.csv", "--steps", "1"]
PUZZLES = list(generate("sudoku", 6, 0, clues=(50, 60)))


@pytest.fixture
def refiner() -> Refiner:
    checkpoint = Checkpoint("test", {"sudoku": Expert("sudoku", SMALL, model(SMALL).state_dict())})
    return Refiner.from_checkpoint(checkpoint, "cpu")


def test_beside_is_either_and_the_embedding_is_given_back(
    refiner: Refiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedding = refiner.pool.engine("sudoku").model.embed.draft
    embedding.normal_()
    before = embedding.clone()
    cold = np.array([True, True, False, False, False, False])

    def solved(refiner: Refiner, puzzles: list[Puzzle], drafts: object, steps: int) -> np.ndarray:
        return ~cold if embedding.any() else np.zeros(6, dtype=bool)

    monkeypatch.setattr(quality, "solved_from", solved)
    rows = quality.draft_table(refiner, PUZZLES, cold, 2, 0)
    assert [(row["alone"], row["beside"], row["unread"]) for row in rows] == [(4, 6, 0)] * 13
    assert embedding.equal(before)


def test_solved_are_those_that_the_rules_accept() -> None:
    echoing = doubles.refiner(lambda asked: [(asked.question if asked.draft is None else asked.draft, 1.0)])
    labels = [doubles.right(puzzle) for puzzle in PUZZLES]
    wrong = [tuple(np.roll(grid, 1, 0) for grid in answer) for answer in labels]
    assert quality.solved_from(echoing, PUZZLES, labels, 1).all()
    assert not quality.solved_from(echoing, PUZZLES, wrong, 1).any()


def test_nearly_right_grids_have_one_to_four_wrong_free_cells() -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(30):
        puzzle = PUZZLES[0]
        assert puzzle.answers is not None
        differs = quality.nearly_right(puzzle, rng) != puzzle.answers[0]
        assert not differs[puzzle.grid != 0].any()
        seen.add(int(differs.sum()))
    assert seen == {1, 2, 3, 4}


def test_the_area_is_that_of_the_scores(refiner: Refiner, monkeypatch: pytest.MonkeyPatch) -> None:
    for right, wrong, area in ((0.9, 0.1, 1.0), (0.1, 0.9, 0.0), (0.5, 0.5, 0.5)):
        monkeypatch.setattr(Refiner, "score", lambda self, p, c, pair=(right, wrong): np.array(pair))
        judged = quality.judging(refiner, PUZZLES, 0)
        assert (judged["n"], judged["auc"], judged["ci95"]) == (6, area, [area, area])


def call(*more: object) -> Result:
    return CliRunner().invoke(quality.app, [*ASK, *map(str, more)])


@pytest.fixture
def given(refiner: Refiner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refiner and the puzzles that the command loads."""
    monkeypatch.setattr(Refiner, "from_pretrained", classmethod(lambda cls, *rest: refiner))
    monkeypatch.setattr(quality, "labelled", lambda *rest: PUZZLES)
    monkeypatch.setattr(quality, "SHARES", (0, 50))


@pytest.mark.usefixtures("given")
def test_the_command_writes_tables_and_a_picture(tmp_path: Path) -> None:
    done = call("--n", 3, "--out", tmp_path / "q")
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "q" / "quality.json").read_text())
    expected = [("random", 0), ("random", 50), ("consistent", 50)]
    assert [(row["kind"], row["share"]) for row in result["drafts"]] == expected
    assert result["judging"]["n"] == result["n"] == 3
    assert "| 50 | consistent | 0.0 [0.0, 56.1]" in done.output
    assert (tmp_path / "q" / "quality.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("given")
def test_without_matplotlib_there_are_the_tables_and_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = call("--n", 2, "--out", tmp_path)
    assert done.exit_code == 0
    assert "matplotlib" in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["quality.json", "quality.md"]


SOLVED = replace(PUZZLES[0], inputs=PUZZLES[0].answers or ())
MAZE = get("maze").parse("S##\n  G")
ON_THE_PATH = replace(MAZE, answers=get("maze").parse_answer(MAZE, "S##\nooG"))  # every free cell


@pytest.mark.usefixtures("given")
@pytest.mark.parametrize(
    ("more", "puzzles", "part"),
    [
        (["--n", "0"], PUZZLES, "--n"),
        (["--out", __file__], PUZZLES, __file__),
        ([], [SOLVED], "two symbols"),
        ([], [ON_THE_PATH], "two symbols"),
    ],
    ids=["n", "out", "nothing free", "one symbol"],
)
def test_what_cannot_be_measured_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str], puzzles: list[Puzzle], part: str
) -> None:
    monkeypatch.setattr(quality, "labelled", lambda *rest: puzzles)
    done = call("--out", tmp_path / "q", *more)
    assert done.exit_code == 2
    assert part in done.stderr
    assert not (tmp_path / "q").exists()


@pytest.mark.usefixtures("given")
def test_interrupted_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*rest: object) -> np.ndarray:
        raise KeyboardInterrupt

    monkeypatch.setattr(quality, "solved_from", interrupted)
    done = call("--out", tmp_path / "q")
    assert (done.exit_code, done.stderr) == (130, "quality: interrupted\n")
