"""The tables of drafts and of judging, from small networks."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from doubles import SMALL
from doubles import network as model

from eval import quality
from trm.checkpoints.format import Checkpoint, Expert
from trm.data.generate import generate
from trm.inference.refiner import Refiner
from trm.tasks import Puzzle, get

ASK = ["quality", "x.pt", "--task", "sudoku", "--data", "x.csv", "--steps", "1"]
PUZZLES = list(generate("sudoku", 6, 0, clues=(50, 60)))


@pytest.fixture
def refiner() -> Refiner:
    return Refiner(Checkpoint("mine", {"sudoku": Expert("sudoku", SMALL, model(SMALL).state_dict())}), "cpu")


def test_beside_is_either_and_the_embedding_is_given_back(
    refiner: Refiner, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedding = refiner.engine("sudoku").model.embed.draft
    embedding.normal_()
    before = embedding.clone()
    cold = np.array([True, True, False, False, False, False])
    asked: list[tuple[bool, bool]] = []

    def solved(refiner: Refiner, puzzles: list[Puzzle], drafts: object, steps: int) -> np.ndarray:
        asked.append((drafts is None, bool(embedding.any())))
        return cold if drafts is None else ~cold if embedding.any() else np.zeros(6, dtype=bool)

    monkeypatch.setattr(quality, "solved", solved)
    none, *rows = quality.draft_table(refiner, PUZZLES, 2, 0)
    assert none["cold"] == 2
    assert [(row["alone"], row["beside"], row["unread"]) for row in rows] == [(4, 6, 0)] * 13
    assert asked[:3] == [(True, True), (False, True), (False, False)]
    assert embedding.equal(before)


def test_solved_counts_what_the_rules_accept(refiner: Refiner) -> None:
    # A network that repeats its draft: whatever it is asked, the label given as a draft comes back.
    network = refiner.engine("sudoku").model
    step = network.step

    def repeat(state: object, tokens: object, context: object = None, draft: object = None) -> object:
        state, out = step(state, tokens, context, draft)
        said = np.eye(11, dtype=np.float32)[draft.numpy()]
        return state, out._replace(logits=out.logits.new_tensor(said))

    network.step = repeat
    labels = [p.answers for p in PUZZLES]
    wrong = [tuple(np.roll(grid, 1, 0) for grid in answer or ()) for answer in labels]
    assert quality.solved(refiner, PUZZLES, labels, 1).all()
    assert not quality.solved(refiner, PUZZLES, wrong, 1).any()
    assert not quality.solved(refiner, PUZZLES, None, 1).any()


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


def test_the_command_writes_tables_and_a_picture(
    refiner: Refiner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Refiner, "from_pretrained", classmethod(lambda cls, *rest: refiner))
    monkeypatch.setattr(quality, "labelled", lambda *rest: PUZZLES)
    monkeypatch.setattr(quality, "SHARES", (0, 50))
    out = tmp_path / "q"
    monkeypatch.setattr(sys, "argv", [*ASK, "--n", "3", "--out", str(out)])
    assert quality.main() == 0
    result = json.loads((out / "quality.json").read_text())
    assert [(row["kind"], row["share"]) for row in result["drafts"][1:]] == [
        ("random", 0), ("random", 50), ("consistent", 50),
    ]  # fmt: skip
    assert result["judging"]["n"] == 3
    assert "| 50 | consistent | 0.0 [0.0, 56.1]" in capsys.readouterr().out
    assert (out / "quality.png").read_bytes().startswith(b"\x89PNG")
    maze = Refiner(Checkpoint("mine", {}), "cpu")
    monkeypatch.setattr(Refiner, "from_pretrained", classmethod(lambda cls, *rest: maze))
    assert quality.main() == 2
    assert "no expert for sudoku" in capsys.readouterr().err


def test_without_matplotlib_the_tables_are_there_and_a_line_says_what_is_not(
    refiner: Refiner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Refiner, "from_pretrained", classmethod(lambda cls, *rest: refiner))
    monkeypatch.setattr(quality, "labelled", lambda *rest: PUZZLES)
    monkeypatch.setattr(quality, "SHARES", (0,))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setattr(sys, "argv", [*ASK, "--n", "2", "--out", str(tmp_path)])
    assert quality.main() == 0
    said = capsys.readouterr()
    assert said.err == "quality: no quality.png without matplotlib: pip install 'hybrid-trm[report]'\n"
    assert said.out.strip() == (tmp_path / "quality.md").read_text().strip()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["quality.json", "quality.md"]


SOLVED = replace(PUZZLES[0], inputs=PUZZLES[0].answers or ())
MAZE = get("maze").parse("S##\n  G")
ON_THE_PATH = replace(MAZE, answers=get("maze").parse_answer(MAZE, "S##\nooG"))  # every free cell


@pytest.mark.parametrize(
    ("more", "puzzles", "said"),
    [
        (["--n", "0"], PUZZLES, "--n 0, expected at least 1"),
        (["--steps", "0"], PUZZLES, "--steps 0, expected at least 1"),
        (["--seed", "-1"], PUZZLES, "--seed -1, expected at least 0"),
        (["--out", __file__], PUZZLES, f"{__file__}: File exists"),
        ([], [SOLVED], "no two symbols in its free cells"),
        ([], [ON_THE_PATH], "no two symbols in its free cells"),
    ],
    ids=["n", "steps", "seed", "out", "nothing free", "one symbol"],
)
def test_what_cannot_be_measured_is_one_line(
    refiner: Refiner,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    puzzles: list[Puzzle],
    said: str,
) -> None:
    monkeypatch.setattr(Refiner, "from_pretrained", classmethod(lambda cls, *rest: refiner))
    monkeypatch.setattr(quality, "labelled", lambda *rest: puzzles)
    monkeypatch.setattr(sys, "argv", [*ASK, "--out", str(tmp_path / "q"), *more])
    assert quality.main() == 2
    line = capsys.readouterr().err
    assert line.startswith("quality: ")
    assert said in line
    assert line.count("\n") == 1
    assert not (tmp_path / "q").exists()


def test_interrupted_is_one_line(
    refiner: Refiner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def solved(*rest: object) -> np.ndarray:
        raise KeyboardInterrupt

    monkeypatch.setattr(Refiner, "from_pretrained", classmethod(lambda cls, *rest: refiner))
    monkeypatch.setattr(quality, "labelled", lambda *rest: PUZZLES)
    monkeypatch.setattr(quality, "solved", solved)
    monkeypatch.setattr(sys, "argv", [*ASK, "--out", str(tmp_path / "q")])
    assert quality.main() == 130
    assert capsys.readouterr().err == "quality: interrupted\n"
