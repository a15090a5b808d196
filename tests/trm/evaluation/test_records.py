"""`trm eval` where a network is fitted to every task: its records, gone on with and put together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_adapt import SHAPE
from typer.testing import CliRunner, Result

from trm.adaptation.test_time import Fitter
from trm.checkpoints.format import Expert, save
from trm.cli import app
from trm.data.datasets import write
from trm.data.generate import generate
from trm.evaluation.records import Record, read_records
from trm.grid import PuzzleError
from trm.model.network import TRM
from trm.tasks import Puzzle
from trm.training.step import Learner


@pytest.fixture
def measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`trm eval` on five tasks with options of its own."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    save("arc.pt", {"arc": Expert("arc", SHAPE, TRM(SHAPE).state_dict())}, torch.float32)
    write(Path("five.json"), "arc", list(generate("arc", 5, 5, rule="recolour", demos=2, size=(3, 4))))
    words = ["eval", "arc.pt", "--task", "arc", "--data", "five.json", "--steps", "1", "--restarts", "2"]
    words += ["--fit", "steps=1", "--fit", "batch=2", "--fit", "smallest=10", "--device", "cpu"]
    return lambda *more: CliRunner().invoke(app, [*words, *map(str, more)])


def figures(result: Result) -> dict[str, Any]:
    """What is printed, but for the clock."""
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    del found["seconds"]
    return found


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tasks that are fitted to, one after the other."""
    names: list[str] = []
    whole = Fitter.begin

    def begin(self: Fitter, puzzle: Puzzle, seed: int) -> Learner:
        names.append(puzzle.id)
        return whole(self, puzzle, seed)

    monkeypatch.setattr(Fitter, "begin", begin)
    return names


def test_what_is_on_record_is_not_done_again(measure: Callable[..., Result], fitted: list[str]) -> None:
    at_once = figures(measure("--json"))
    tasks = fitted.copy()
    assert (len(tasks), at_once["n"], at_once["n_tasks"]) == (5, 5, 5)
    fitted.clear()
    figures(measure("--json", "--limit", 2, "--records", "r.jsonl"))
    with Path("r.jsonl").open("a") as file:
        file.write('{"id": "cut sh')  # a kill
    assert figures(measure("--json", "--records", "r.jsonl")) == at_once
    assert fitted == tasks
    assert [one["id"] for one in read_records(Path("r.jsonl"))] == tasks
    assert figures(measure("--json", "--records", "r.jsonl")) == at_once
    assert fitted == tasks
    said = measure("--records", "r.jsonl").stdout
    assert "test inputs in two attempts" in said
    assert "verified" not in said


def test_the_records_of_several_machines_are_one_evaluation(
    measure: Callable[..., Result], fitted: list[str]
) -> None:
    at_once = figures(measure("--json"))
    for share in ("1/2", "2/2"):
        figures(measure("--json", "--share", share, "--records", f"{share[0]}.jsonl"))
    assert [len(read_records(Path(f"{share}.jsonl"))) for share in (1, 2)] == [3, 2]
    Path("all.jsonl").write_text(Path("2.jsonl").read_text() + Path("1.jsonl").read_text())
    fitted.clear()
    assert figures(measure("--json", "--records", "all.jsonl")) == at_once
    assert not fitted


def test_tasks_fitted_side_by_side_come_to_the_same(
    measure: Callable[..., Result], fitted: list[str]
) -> None:
    alone = figures(measure("--json", "--records", "alone.jsonl"))
    in_turn = fitted.copy()
    fitted.clear()
    assert figures(measure("--json", "--fit", "together=2", "--records", "beside.jsonl")) == alone
    assert fitted == in_turn
    alone_records, beside_records = (
        [
            {k: v for k, v in one.items() if k not in ("how", "fit_seconds", "seconds")}
            for one in read_records(Path(name))
        ]
        for name in ("alone.jsonl", "beside.jsonl")
    )
    assert alone_records == beside_records


def test_a_sample_is_the_seeds(measure: Callable[..., Result], fitted: list[str]) -> None:
    drawn = []
    for seed in (0, 0, 1, 2):
        fitted.clear()
        assert figures(measure("--json", "--limit", 2, "--sample", seed))["n"] == 2
        drawn.append(tuple(fitted))
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1


def test_an_interrupted_evaluation_goes_on(
    measure: Callable[..., Result], fitted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Fitter.begin

    def begin(self: Fitter, puzzle: Puzzle, seed: int) -> Learner:
        if len(fitted) == 3:
            raise KeyboardInterrupt
        return whole(self, puzzle, seed)

    with monkeypatch.context() as cut:
        cut.setattr(Fitter, "begin", begin)
        result = measure("--records", "r.jsonl")
    assert result.exit_code == 130
    assert result.stderr.strip() == "trm: interrupted; the same command goes on where it stopped"
    assert figures(measure("--json", "--records", "r.jsonl"))["n_tasks"] == 5
    assert len(fitted) == 5


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--records", "r.jsonl", "--restarts", 1], "has restarts 2, expected 1: another file"),
        (["--records", "r.jsonl", "--fit", "steps=2"], "has fit.steps 1, expected 2: another file"),
        (["--records", "five.json"], "five.json, line 1: "),
        (["--share", "3/2"], "share '3/2': expected K/N, K from 1 to N"),
        (["--share", "7/9"], "share 7/9: none of the 5 puzzles"),
        (["--sample", 0], "--sample: how many is for --limit to say"),
    ],
)
def test_mistakes_are_one_line(measure: Callable[..., Result], more: list[object], said: str) -> None:
    figures(measure("--json", "--limit", 1, "--records", "r.jsonl"))
    before = Path("r.jsonl").read_text()
    result = measure(*more)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert said in result.stderr
    assert Path("r.jsonl").read_text() == before
    assert json.loads(Path("five.json").read_text())  # what is no file of records stays as it was


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    assert read_records(path) == []
    path.write_text('{"id": "a", "qu\n{"id": "a"}\n')
    with pytest.raises(PuzzleError, match=r"r\.jsonl, line 2: .*expected a record of trm eval"):
        read_records(path)
    older = dict.fromkeys(Record.__annotations__) | {
        "candidates": [[{"votes": 1, "score": 0.5, "right": True}]]
    }
    path.write_text(json.dumps(older) + "\n")
    with pytest.raises(PuzzleError, match=r"r\.jsonl, line 1: .*expected a record of trm eval"):
        read_records(path)
