"""`trm eval` where a network is adapted to every task: its records, resumed and merged."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from arc_expert import arc_expert, count_adaptations
from typer.testing import CliRunner, Result

from trm.adaptation.test_time import TestTimeTrainer
from trm.checkpoints.format import save
from trm.cli import app
from trm.data.datasets import write
from trm.data.generate import generate
from trm.evaluation.records import Record, read_records
from trm.grid import PuzzleError


@pytest.fixture
def measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`trm eval` on five tasks with options of its own."""
    monkeypatch.chdir(tmp_path)
    save("arc.pt", {"arc": arc_expert()}, torch.float32)
    write(Path("five.json"), "arc", list(generate("arc", 5, 5, rule="recolour", demos=2, size=(3, 4))))
    words = ["eval", "arc.pt", "--task", "arc", "--data", "five.json", "--steps", "1", "--restarts", "2"]
    words += ["--adapt", "steps=1", "--adapt", "batch=2", "--adapt", "smallest_canvas=10", "--device", "cpu"]
    return lambda *more: CliRunner().invoke(app, [*words, *map(str, more)])


def figures(result: Result) -> dict[str, Any]:
    """What is printed, but for the clock."""
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    assert 0 <= found.pop("seconds") < 600
    return found


@pytest.fixture
def adapted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float, int]]:
    """The adaptations so far, each with the name of its task first."""
    return count_adaptations(monkeypatch.setattr)


Adaptations = list[tuple[str, float, int]]


def test_what_is_on_record_is_not_done_again(measure: Callable[..., Result], adapted: Adaptations) -> None:
    at_once = figures(measure("--json"))
    tasks = adapted.copy()
    assert (len(tasks), at_once["n"], at_once["n_tasks"]) == (5, 5, 5)
    adapted.clear()
    figures(measure("--json", "--limit", 2, "--records", "r.jsonl"))
    with Path("r.jsonl").open("a") as file:
        file.write('{"id": "cut sh')  # a kill
    assert figures(measure("--json", "--records", "r.jsonl")) == at_once
    assert adapted == tasks
    assert [one["id"] for one in read_records(Path("r.jsonl"))] == [name for name, *_ in tasks]
    assert figures(measure("--json", "--records", "r.jsonl")) == at_once
    assert adapted == tasks
    said = measure("--records", "r.jsonl").stdout
    assert "test inputs in two guesses" in said
    assert "verified" not in said


def test_the_records_of_several_machines_are_one_evaluation(
    measure: Callable[..., Result], adapted: Adaptations
) -> None:
    at_once = figures(measure("--json"))
    for share in ("1/2", "2/2"):
        figures(measure("--json", "--share", share, "--records", f"{share[0]}.jsonl"))
    assert [len(read_records(Path(f"{share}.jsonl"))) for share in (1, 2)] == [3, 2]
    Path("all.jsonl").write_text(Path("2.jsonl").read_text() + Path("1.jsonl").read_text())
    adapted.clear()
    assert figures(measure("--json", "--records", "all.jsonl")) == at_once
    assert not adapted


def test_a_sample_is_the_seeds(measure: Callable[..., Result], adapted: Adaptations) -> None:
    drawn = []
    for seed in (0, 0, 1, 2):
        adapted.clear()
        assert figures(measure("--json", "--limit", 2, "--sample", seed))["n"] == 2
        drawn.append(tuple(adapted))
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) > 1


def test_an_interrupted_evaluation_goes_on(
    measure: Callable[..., Result], adapted: Adaptations, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapt = TestTimeTrainer.adapt

    def interrupted(self: TestTimeTrainer, *rest: Any) -> Any:
        if len(adapted) == 3:
            raise KeyboardInterrupt
        return adapt(self, *rest)

    with monkeypatch.context() as cut:
        cut.setattr(TestTimeTrainer, "adapt", interrupted)
        result = measure("--records", "r.jsonl")
    assert result.exit_code == 130
    assert "interrupted" in result.stderr
    assert figures(measure("--json", "--records", "r.jsonl"))["n_tasks"] == 5
    assert len(adapted) == 5


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--records", "r.jsonl", "--restarts", 1], "restarts 2, expected 1"),
        (["--records", "r.jsonl", "--adapt", "steps=2"], "adaptation.steps 1, expected 2"),
        (["--records", "five.json"], "five.json, line 1: "),
        (["--share", "3/2"], "3/2"),
        (["--share", "7/9"], "7/9"),
        (["--sample", 0], "--limit"),
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
    with pytest.raises(PuzzleError, match=r"r\.jsonl, line 2: .*expected a record"):
        read_records(path)
    older = dict.fromkeys(Record.__annotations__) | {
        "candidates": [[{"votes": 1, "score": 0.5, "right": True}]]
    }
    path.write_text(json.dumps(older) + "\n")
    with pytest.raises(PuzzleError, match=r"r\.jsonl, line 1: .*expected a record"):
        read_records(path)


def test_records_keep_the_grids_and_older_ones_lack_them(measure: Callable[..., Result]) -> None:
    measure("--records", "r.jsonl", "--limit", 1)
    (record,) = read_records(Path("r.jsonl"))
    own = record["candidates"][0]
    assert all(set("".join(one["grid"])) <= set("0123456789") for one in own)
    puzzle = next(generate("arc", 1, 5, rule="recolour", demos=2, size=(3, 4)))
    rows = ["".join(map(str, row)) for row in (puzzle.answers or ())[0].tolist()]
    assert [one["right"] for one in own] == [one["grid"] == rows for one in own]
    raw = json.loads(Path("r.jsonl").read_text())
    for one in raw["candidates"][0]:
        del one["grid"]
    Path("old.jsonl").write_text(json.dumps(raw) + "\n")
    assert read_records(Path("old.jsonl"))[0]["pass_2"] == record["pass_2"]
