"""The comparison: its files, and the command as it is called."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import doubles
import numpy as np
import pytest
from small_networks import network
from typer.testing import CliRunner

from eval.compare import app
from eval.plan import puzzles_for
from hybrid.llm.base import BackendError, Reply, Request
from trm.checkpoints.format import Expert, save
from trm.data.files import load
from trm.tasks import Puzzle, get

ROOT = Path(__file__).parents[2]
PUZZLE = doubles.sudoku()
WRONG = get("sudoku").text(doubles.wrong(PUZZLE))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "small.pt"
    model = network()
    save(path, {"sudoku": Expert("sudoku", model.config, model.state_dict())})
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "puzzles.csv"
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(5):
        symmetry = get("sudoku").symmetries((9, 9)).draw(rng)
        pair = (symmetry.forward(PUZZLE.grid), symmetry.forward(doubles.right(PUZZLE)[0]))
        rows.append(",".join("".join(map(str, grid.reshape(-1))) for grid in pair))
    path.write_text("\n".join(["question,answer", *rows]) + "\n")
    return path


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def call(*args: object) -> Any:
    return CliRunner().invoke(app, [str(a) for a in args])


def test_the_command_writes_all_its_files_and_goes_on_after_a_kill(
    tmp_path: Path, checkpoint: Path, data: Path
) -> None:
    drafts, out = tmp_path / "replies.jsonl", tmp_path / "out"
    recorder = doubles.recorded(WRONG, path=drafts, drafts=1)
    for puzzle in load(data, "sudoku"):
        assert isinstance(puzzle, Puzzle)
        recorder.propose(puzzle)
    asked = (
        "--tasks", "sudoku", "--n", 4, "--data", f"sudoku={data}", "--refiner", checkpoint, "--device", "cpu",
        "--drafts-from", drafts, "--drafts", 1, "--steps", 2, "--restarts", 1, "--out", out,
        "--arms", "llm,trm,hybrid,trm+restarts,draft:llm,draft:random,exact",
    )  # fmt: skip
    done = call(*asked)
    assert done.exit_code == 0, done.output
    results = json.loads((out / "results.json").read_text())
    found = results["tasks"]["sudoku"]
    assert set(found) == {"llm", "trm", "hybrid", "trm+restarts", "draft:llm", "draft:random", "exact"}
    assert found["exact"]["solved"] == found["exact"]["n"] == 4
    assert set(found["exact"]) >= {
        "n", "solved", "accuracy", "ci95", "exact_match", "seconds_per_puzzle", "llm_tokens", "parse_failures",
        "steps",
    }  # fmt: skip
    assert results["paired"]["sudoku"]["hybrid vs exact"]["n"] == 4
    hybrid = [r for r in lines_of(out / "records.jsonl") if r["arm"] == "hybrid"]
    assert {r["cold"]["status"] for r in hybrid} == {r["draft"]["status"] for r in hybrid} == {"unsolved"}
    assert sum(len(one["puzzles"]) for one in results["overlap"]["sudoku"]["sets"]) == 4
    assert results["overlap"]["sudoku"]["only_first"]["exact"]["llm"] == 4
    page = (out / "report.html").read_text()
    assert page.count("<figure role=") >= 3
    assert not re.search(r'(src|href)="(?!#)', page)  # nothing from elsewhere
    assert "| hybrid |" in (out / "report.md").read_text()

    assert call(*asked).exit_code == 2  # not empty
    lines = (out / "records.jsonl").read_text().splitlines(keepends=True)
    (out / "records.jsonl").write_text("".join(lines[:9]) + lines[9][:40])
    resumed = call(*asked, "--resume")
    assert resumed.exit_code == 0, resumed.output
    again = json.loads((out / "results.json").read_text())
    for one in (found, again["tasks"]["sudoku"]):
        for figures in one.values():
            figures.pop("seconds_per_puzzle")
    assert again["tasks"]["sudoku"] == found
    other = call(*asked[:-2], "--arms", "exact", "--seed", 1, "--resume")
    assert other.exit_code == 2
    assert "seed" in other.output


def test_fits_are_compiled_only_where_a_model_is_fitted(tmp_path: Path) -> None:
    refused = call("--tasks", "arc", "--llm", "none", "--compile-fits", "--out", tmp_path / "out")
    assert refused.exit_code == 2
    assert "--compile-fits: nothing is fitted here" in refused.output


def test_arms_without_an_expert_are_left_out_and_named(tmp_path: Path, checkpoint: Path) -> None:
    asked = ("--tasks", "sudoku,maze", "--n", 1, "--llm", "none", "--refiner", checkpoint, "--device", "cpu")
    asked += ("--steps", 1, "--arms", "trm,exact", "--out", tmp_path / "out")
    done = call(*asked)
    assert done.exit_code == 0, done.output
    (line,) = [line for line in done.output.splitlines() if "no expert" in line]
    assert line.endswith("has no expert for maze (it has: sudoku); left out: trm")
    tasks = json.loads((tmp_path / "out" / "results.json").read_text())["tasks"]
    assert {task: set(found) for task, found in tasks.items()} == {
        "sudoku": {"trm", "exact"}, "maze": {"exact"},
    }  # fmt: skip


def test_arms_that_need_labels_are_left_out_where_there_are_none(tmp_path: Path, checkpoint: Path) -> None:
    data, out = tmp_path / "unlabelled.txt", tmp_path / "out"
    data.write_text(doubles.SUDOKU)
    asked = ("--tasks", "sudoku", "--n", 1, "--data", f"sudoku={data}", "--llm", "none", "--out", out)
    arms = "exact,draft:blank,draft:random,draft:oracle,beside:consistent@9"
    done = call(*asked, "--refiner", checkpoint, "--device", "cpu", "--steps", 1, "--arms", arms)
    assert done.exit_code == 0, done.output
    said = (
        "sudoku: not every puzzle has its answer; left out: draft:random, draft:oracle, beside:consistent@9"
    )
    assert said in done.output
    found = json.loads((out / "results.json").read_text())["tasks"]["sudoku"]
    assert {arm: figures["exact_match"] for arm, figures in found.items()} == {
        "exact": None,
        "draft:blank": None,
    }
    assert found["exact"]["solved"] == 1  # rules need no label


@pytest.mark.parametrize("size", [None, 1_000_000])
def test_an_llm_that_does_not_say_its_size_is_named(tmp_path: Path, data: Path, size: int | None) -> None:
    drafts, out, parrot = tmp_path / "replies.jsonl", tmp_path / "out", doubles.Parrot(WRONG)
    parrot.parameters = size  # type: ignore[assignment]
    doubles.recorded(path=drafts, llm=parrot, drafts=1).propose(puzzles_for("sudoku", 1, 0, str(data))[0])
    asked = ("--tasks", "sudoku", "--n", 1, "--data", f"sudoku={data}", "--arms", "llm", "--refiner", "none")
    done = call(*asked, "--drafts-from", drafts, "--drafts", 1, "--out", out)
    assert done.exit_code == 0, done.output
    assert ("parrot does not say its size: its arithmetic counts as none" in done.output) == (size is None)
    report = (out / "report.md").read_text()
    assert ("parrot (of unknown size: its arithmetic counts as none)" in report) == (size is None)


def test_time_that_runs_out_is_said_and_what_is_done_is_kept(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "out"
    nobody = ("--llm", "none", "--refiner", "none", "--arms", "exact")
    asked = ("--tasks", "sudoku,maze", "--n", 2, *nobody, "--out", out)
    short = call(*asked, "--limit-seconds", 1e-9)
    assert short.exit_code == 1
    assert "--resume continues" in short.output
    assert list(json.loads((out / "results.json").read_text())["tasks"]) == ["sudoku"]
    assert call(*asked, "--resume").exit_code == 0
    assert list(json.loads((out / "results.json").read_text())["tasks"]) == ["sudoku", "maze"]


@pytest.mark.parametrize(
    ("asked", "code", "words"),
    [
        (("--arms", "hybird"), 2, "unknown arm 'hybird'"),
        (("--tasks", "chess"), 2, "chess"),
        (("--data", "sudoku"), 2, "expected TASK=FILE"),
        (("--data", "sudoku={data}", "--data", "sudoku=other"), 2, "a second source for sudoku"),
        (("--data", "maze=m.csv", "--tasks", "sudoku"), 2, "--data maze=…: not one of --tasks sudoku"),
        (("--arms", ""), 2, "--arms: names none"),
        (
            ("--llm", "none", "--arms", "llm", "--refiner", "none"),
            2,
            "no language model: nothing is left of --arms llm",
        ),
        (
            ("--data", "sudoku={data}", "--tasks", "sudoku", "--n", "99"),
            2,
            "5 puzzles, expected at least --n 99",
        ),
        (("--refiner", "nowhere.pt", "--llm", "none"), 3, "nowhere.pt"),
        (
            ("--refiner", "none", "--llm", "none", "--adapt", "seconds=3"),
            2,
            "--adapt: no expert here is adapted",
        ),
        (("--llm", "qwenn", "--refiner", "none"), 3, "unknown LLM 'qwenn'"),
        (
            ("--tasks", "arc", "--arms", "exact", "--llm", "none", "--refiner", "none", "--n", "1"),
            2,
            "no classical solver for arc: nothing is left of --arms exact",
        ),
        (
            ("--tasks", "arc", "--data", "arc={unlabelled}", "--n", "1", "--arms", "trm"),
            2,
            "tasks.json: a: no answer, expected one, for no rule decides",
        ),
        (
            (
                *("--tasks", "sudoku", "--n", "1", "--arms", "exact", "--llm", "none", "--refiner", "none"),
                *("--out", "{data}/x"),
            ),
            2,
            "puzzles.csv/x: Not a directory, expected a folder to write to",
        ),
    ],
)
def test_bad_usage_is_one_line(
    tmp_path: Path, data: Path, asked: tuple[str, ...], code: int, words: str
) -> None:
    unlabelled = tmp_path / "tasks.json"
    unlabelled.write_text(
        json.dumps({"a": {"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[3]]}]}})
    )
    done = call("--out", tmp_path / "out", *(a.format(data=data, unlabelled=unlabelled) for a in asked))
    assert done.exit_code == code
    assert words in done.output
    assert len(done.output.strip().splitlines()) == 1


def test_drafts_of_other_puzzles_are_no_result(tmp_path: Path, data: Path) -> None:
    drafts, out = tmp_path / "replies.jsonl", tmp_path / "out"
    asked = ("--tasks", "sudoku", "--n", 4, "--data", f"sudoku={data}", "--arms", "llm,trm")
    asked += ("--refiner", "none", "--drafts-from", drafts, "--drafts", 1, "--out", out)
    recorder = doubles.recorded(WRONG, path=drafts, drafts=1)
    recorder.propose(puzzles_for("sudoku", 1, 5, None)[0])
    done = call(*asked)
    assert done.exit_code == 2
    assert "no drafts of these puzzles" in done.output
    recorder.propose(puzzles_for("sudoku", 4, 0, str(data))[1])
    done = call(*asked)
    assert done.exit_code == 0, done.output
    assert "3 of 4 puzzles have fewer than 1 drafts on file" in done.output
    assert "no network; left out: trm" in done.output
    assert (out / "drafts.jsonl").read_text() == drafts.read_text()
    refused = call(*asked[:-2], "--arms", "trm", "--out", tmp_path / "b")
    assert refused.exit_code == 2
    assert "no network: nothing is left" in refused.output


def test_the_same_puzzles_for_a_seed(data: Path) -> None:
    ids = [[p.id for p in puzzles_for("sudoku", 3, seed, str(data))] for seed in (0, 0, 1, 2, 3)]
    assert ids[0] == ids[1]
    assert len({tuple(i) for i in ids}) > 1
    assert all(len(set(i)) == 3 for i in ids)


def test_it_runs_as_a_script() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "eval" / "compare.py", "--help"], capture_output=True, text=True, check=True
    )
    assert "--drafts-from" in done.stdout


class Server(doubles.ScriptedLLM):
    """A server that fails about one puzzle as long as it is told to."""

    failing: str | None = None
    raises = True

    def reply(self, request: Request, samples: int) -> list[Reply]:
        if self.failing is not None and self.failing in request.messages[-1]["content"]:
            if not self.raises:
                return [Reply("", 0, 0.1, "localhost: 500, connection refused", unanswered=True)] * samples
            raise BackendError("localhost: connection refused")
        return [Reply(WRONG, 10, 0.1, None, 5)] * samples


@pytest.mark.parametrize("raises", [True, False])
def test_a_server_that_fails_about_a_puzzle_costs_that_one_alone(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, raises: bool
) -> None:
    server, out = Server(), tmp_path / "out"
    server.raises = raises
    monkeypatch.setattr("eval.prepare.connect", lambda name, device: server)
    puzzles = puzzles_for("sudoku", 4, 0, None)
    second_row = puzzles[2].grid[1].tolist()
    Server.failing = " ".join("_" if cell == 0 else str(cell) for cell in second_row)
    asked = ("--tasks", "sudoku", "--n", 4, "--llm", "scripted", "--refiner", checkpoint, "--device", "cpu")
    asked += ("--drafts", 1, "--steps", 1, "--restarts", 0, "--arms", "llm,trm,hybrid,trm+restarts,exact")
    done = call(*asked, "--out", out)
    assert done.exit_code == 1, done.output
    assert "connection refused" in done.output
    assert "1 puzzle lacks drafts" in done.output
    assert "--resume" in done.output

    def counts() -> dict[str, int]:
        found = json.loads((out / "results.json").read_text())["tasks"]["sudoku"]
        return {arm: figures["n"] for arm, figures in found.items()}

    assert counts() == {"llm": 3, "trm": 4, "hybrid": 3, "trm+restarts": 3, "exact": 4}
    Server.failing, calls = None, server.calls
    done = call(*asked, "--out", out, "--resume")
    assert done.exit_code == 0, done.output
    assert server.calls == calls + 1
    assert set(counts().values()) == {4}
    keys = [(r["id"], r["arm"]) for r in lines_of(out / "records.jsonl")]
    assert len(keys) == len(set(keys)) == 20
