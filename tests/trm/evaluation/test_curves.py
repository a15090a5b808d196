from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trm.cli import app
from trm.evaluation.curves import names_of
from trm.training.run_folder import read_metrics


def run_folder(path: Path, shares: list[float]) -> Path:
    path.mkdir()
    lines: list[dict[str, object]] = [{"step": 1, "seconds": 6.0, "loss": 2.0}]
    for number, share in enumerate(shares, 1):
        lines.append(
            {"step": 10 * number, "seconds": 60.0 * number, "held_out": {"n": 10, "accuracy": share}}
        )
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_runs_are_drawn_side_by_side_and_listed(tmp_path: Path) -> None:
    one, other = run_folder(tmp_path / "one", [0.2, 0.8]), run_folder(tmp_path / "other", [])
    out = tmp_path / "curves.png"
    result = CliRunner().invoke(app, ["curves", str(one), str(other / "metrics.jsonl"), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert out.read_bytes().startswith(b"\x89PNG")
    assert len(out.read_bytes()) > 5000
    assert result.stdout.splitlines()[1:] == [
        "one                    10      1.0   20.0 [5.7, 51.0]",
        "one                    20      2.0   80.0 [49.0, 94.3]",
    ]


@pytest.mark.parametrize(
    ("content", "out", "message"),
    [
        (None, "a.png", "metrics.jsonl: No such file"),
        ("", "a.png", "no line of a run's metrics"),
        ('{"secon', "a.png", "no line of a run's metrics"),
        ("[1]\n", "a.png", "line 1: '[1]'"),
        ('{"step": 1, "seconds": 1}\n{"sec\n', "a.png", "metrics.jsonl, line 2: "),
        ('{"step": 1, "seconds": 1}\n{"sec{"seconds": 3}\n', "a.png", "metrics.jsonl, line 2: "),
        ('{"step": 1, "seconds": 1}', "a.doc", "doc"),
        ('{"step": 1, "seconds": 1}', "none/a.png", "No such file"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(
    tmp_path: Path, content: str | None, out: str, message: str
) -> None:
    if content is not None:
        (tmp_path / "metrics.jsonl").write_text(content)
    result = CliRunner().invoke(app, ["curves", str(tmp_path), "--out", str(tmp_path / out)])
    assert result.exit_code == 2
    assert result.stderr.startswith("trm: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_line_that_a_kill_cut_off_is_left_out(tmp_path: Path) -> None:
    path = run_folder(tmp_path / "run", [0.2, 0.8]) / "metrics.jsonl"
    whole = path.read_bytes()
    for kept, count in ((len(whole), 3), (len(whole) - 1, 3), (len(whole) - 2, 2), (len(whole) - 30, 2)):
        path.write_bytes(whole[:kept])
        assert len(read_metrics(path)) == count


def test_runs_are_called_by_what_tells_them_apart(tmp_path: Path) -> None:
    assert names_of([tmp_path / "lr0.02", tmp_path / "lr0.05" / "metrics.jsonl"]) == ["lr0.02", "lr0.05"]
    alike = [tmp_path / "a" / "x", tmp_path / "b" / "x"]
    assert names_of(alike) == list(map(str, alike))
