"""`trm ablate`: variants of one recipe side by side, taken up where they were left."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from small_networks import CONFIGS, trainer, weights
from typer.testing import CliRunner, Result

from trm.cli import app
from trm.evaluation.ablate import format_table, read_rows, result
from trm.training.config import load_config

RECIPE, LITERATURE = CONFIGS / "sudoku_quick.toml", CONFIGS / "literature.toml"
SMALL = [
    "data.train=", "data.generate=10", "data.held_out_size=4", "model.hidden_size=32", "model.heads=4",
    "train.seconds=0", "train.steps=2", "train.batch=4", "train.eval_steps=1", "train.max_steps=2",
]  # fmt: skip
ROWS = {row.name: row for row in read_rows(RECIPE, LITERATURE, SMALL, Path())}


@pytest.mark.slow
@pytest.mark.parametrize("name", ROWS)
def test_every_row_of_the_literature_trains(name: str, tmp_path: Path) -> None:
    made = trainer(tmp_path, ROWS[name].config)
    before = weights(made)
    assert made.run()["n"] == 4
    assert not weights(made)["net.blocks.0.mlp.down.weight"].equal(before["net.blocks.0.mlp.down.weight"])


def test_rows_change_what_they_are_named_for_and_nothing_else() -> None:
    base = asdict(load_config(RECIPE, SMALL))
    changed = {
        name: {
            f"{section}.{key}": value
            for section, table in asdict(row.config).items()
            for key, value in table.items()
            if base[section][key] != value
        }
        for name, row in ROWS.items()
    }
    hrm = load_config(CONFIGS / "hrm_sudoku.toml")
    same_as_hrm = (
        "model.networks", "model.layers", "model.h_cycles", "model.l_cycles", "model.gradient", "model.q_continue",
        "train.ema",
    )  # fmt: skip
    assert changed == {
        "base": {},
        "layers-4": {"model.layers": 4},
        "two-networks": {"model.networks": 2},
        "one-state": {"model.states": 1},
        "one-step-gradient": {"model.gradient": "step"},
        "q-learning": {"model.q_continue": True},
        "no-ema": {"train.ema": 0.0},
        "token-mixer": {"model.mixer": "mlp_t", "model.positions": "none", "model.prefix": 7},
        "T6-n9": {"model.h_cycles": 6, "model.l_cycles": 9},
        "position-tables": {"model.positions": "rowcolbox"},
        "normuon": {"optim.name": "normuon", "optim.weight_decay": 0.03},
        "less-decay": {"optim.weight_decay": 0.03},
        "norms-before": {"model.norm": "pre"},
        "norms-before-3": {"model.norm": "pre", "model.layers": 3, "model.states": 1, "model.l_cycles": 3},
        "no-drafts": {"draft.start_rate": 0.0},
        "hrm": {key: asdict(hrm)[key.split(".")[0]][key.split(".")[1]] for key in same_as_hrm},
    }


@pytest.fixture
def ablate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.toml").write_text("a = []\nb = ['model.states=1']\nc = ['train.steps=3']\n")
    recipe = CONFIGS / "tiny.toml"
    words = ["ablate", str(recipe), "rows.toml", *SMALL, "--out", "out", "--device", "cpu"]
    return lambda *more: CliRunner().invoke(app, [*words, *more])


def steps(row: str) -> list[int]:
    lines = [json.loads(line) for line in Path("out", row, "metrics.jsonl").read_text().splitlines()]
    return [line["step"] for line in lines if "held_out" in line]


@pytest.mark.slow
def test_rows_are_trained_listed_and_kept(ablate: Callable[..., Result]) -> None:
    done = ablate("--only", "c,a")
    assert done.exit_code == 0, done.output
    title, c, a = done.stdout.splitlines()
    assert title.split() == ["row", "ms/step", "steps", "held", "out,", "%", "exact", "n"]
    assert [c.split()[i] for i in (0, 2, -1)] == ["c", "3", "4"]
    assert [a.split()[i] for i in (0, 2, 3, -1)] == ["a", "2", "0.0", "4"]
    assert "[0.0, 49.0]" in a  # Wilson's interval of 0 in 4
    assert not Path("out", "b").exists()
    # A row that has ended is kept; one that was cut off goes on; one cut off before its first checkpoint starts anew.
    kept = Path("out", "a", "metrics.jsonl")
    before = kept.read_text()
    metrics = Path("out", "c", "metrics.jsonl")
    metrics.write_text(metrics.read_text().splitlines()[0] + "\n")
    Path("out", "b").mkdir()
    Path("out", "b", "metrics.jsonl").write_text('{"step": 1, "sec')  # in the midst of its first line
    Path("out", "b", "config.json").write_text(
        json.dumps(asdict(load_config(CONFIGS / "tiny.toml", [*SMALL, "model.states=1"])))
    )
    done = ablate()
    assert done.exit_code == 0, done.output
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == ["a", "b", "c"]
    assert kept.read_text() == before
    assert steps("b")[-1] == 2
    assert steps("c") == [3]  # from its checkpoint: nothing was left to train
    assert json.loads(Path("out", "b", "config.json").read_text())["model"]["states"] == 1


def test_a_row_that_fails_does_not_stop_the_others(ablate: Callable[..., Result], tmp_path: Path) -> None:
    Path("rows.toml").write_text("bad = ['data.held_out=none.csv']\ngood = []\n")
    done = ablate()
    assert done.exit_code == 1
    assert done.stderr.strip().splitlines()[-1] == "trm: failed: bad"
    bad, good = done.stdout.splitlines()[1:]
    assert bad.split() == ["bad", "not", "finished"]
    assert good.split()[0] == "good"
    assert steps("good")[-1] == 2


@pytest.mark.parametrize(
    ("text", "more", "said"),
    [
        ("a = 3", [], "a = 3, expected a list"),
        ("a = [3]", [], "a = [3], expected a list"),
        ("a = ['data.held_out_size=0']", [], "row a: data.held_out_size = 0, expected puzzles to compare"),
        ("a = ['model.state=1']", [], "row a: tiny.toml [model]: unknown 'state'; did you mean 'states'"),
        ("'../a' = []", [], "row '../a', expected a name"),
        ("a = [", [], "rows.toml: "),
        ("", [], "names no rows"),
        ("a = []", ["--only", "a,x"], "--only 'x': expected one of a"),
    ],
)
def test_mistakes_are_one_line(ablate: Callable[..., Result], text: str, more: list[str], said: str) -> None:
    Path("rows.toml").write_text(text)
    done = ablate(*more)
    assert done.exit_code == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("horizon", "last", "ended"),
    [
        ("train.steps=2", {"step": 1, "seconds": 0.5}, False),
        ("train.steps=2", {"step": 2, "seconds": 0.5}, True),
        ("train.seconds=9.994", {"step": 2, "seconds": 9.98}, False),
        ("train.seconds=9.994", {"step": 2, "seconds": 9.99}, True),  # written to two decimals
    ],
)
def test_a_row_has_ended_when_its_horizon_is_behind(
    tmp_path: Path, horizon: str, last: dict[str, float], ended: bool
) -> None:
    (tmp_path / "rows.toml").write_text("a = []")
    (row,) = read_rows(CONFIGS / "tiny.toml", tmp_path / "rows.toml", [horizon], tmp_path)
    assert result(row) is None
    row.folder.path.mkdir()
    (row.folder.path / "config.json").write_text(json.dumps(asdict(row.config)))
    line = {**last, "held_out": {"n": 8, "accuracy": 0.5}}
    row.folder.metrics.write_text(json.dumps(line) + "\n")
    assert result(row) == (line if ended else None)
    table = format_table([row])[-1].split()
    pace = f"{500 * last['seconds']:.1f}"
    assert table == (["a", pace, "2", "50.0", "[21.5,", "78.5]", "8"] if ended else ["a", "not", "finished"])


def test_a_folder_of_another_run_is_not_taken_for_this_row(ablate: Callable[..., Result]) -> None:
    Path("rows.toml").write_text("a = []\n")
    Path("out", "a").mkdir(parents=True)
    Path("out", "a", "metrics.jsonl").write_text('{"step": 2, "seconds": 1.0}\n')
    assert "not the folder of a run" in ablate().stderr
    other = load_config(CONFIGS / "tiny.toml", [*SMALL, "train.seed=1"])
    Path("out", "a", "config.json").write_text(json.dumps(asdict(other)))
    done = ablate()
    assert done.exit_code == 2
    assert "a holds a run of other settings" in done.stderr
