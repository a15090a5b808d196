"""Configuration: strict, frozen, overridable."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from small_networks import CONFIGS, RECIPES

from trm.config import ConfigError, from_dict
from trm.model.config import TRMConfig
from trm.training.config import Config, LossConfig, OptimConfig, TrainConfig, load_config, load_run

MINIMAL = "[model]\nseq_len = 81\nvocab_size = 11\n[data]\ntask = 'sudoku'\n[train]\nsteps = 5\n"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "one.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_every_shipped_recipe_loads(path: Path) -> None:
    config = load_config(path)
    assert from_dict(Config, asdict(config)) == config


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (MINIMAL + "h_cycle = 3", r"one.toml \[train\]: unknown 'h_cycle'"),
        (MINIMAL.replace("vocab_size = 11", "vocab_size = 11\nh_cycle = 2"), "did you mean 'h_cycles'"),
        (MINIMAL.replace("81", "'81'"), "expected int"),
        (MINIMAL.replace("81", "true"), "expected int"),
        (MINIMAL.replace("[data]", "mixer = 'lstm'\n[data]"), "expected one of 'mlp_t', 'attention'"),
        (MINIMAL.replace("[data]", "networks = 3\n[data]"), "expected one of 1, 2"),
        (MINIMAL.replace("[data]", "states = true\n[data]"), "expected one of 1, 2"),
        (MINIMAL.replace("steps = 5", ""), "give steps or seconds"),
        ("[model", "one.toml: "),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_config(written(tmp_path, text))


def test_overrides_reach_their_key_and_are_as_strict(tmp_path: Path) -> None:
    path = written(tmp_path, MINIMAL)
    config = load_config(path, ["train.steps=7", "optim.name=adamw", "data.options.clues=[40, 50]"])
    assert config.train.steps == 7
    assert config.optim.name == "adamw"
    assert config.data.options == {"clues": [40, 50]}
    with pytest.raises(ConfigError, match="did you mean 'steps'"):
        load_config(path, ["train.step=7"])
    with pytest.raises(ConfigError, match=r"section\.key=value"):
        load_config(path, ["steps"])
    with pytest.raises(ConfigError, match=r"'data.task.x=1': task is a value, expected section\.key=value"):
        load_config(path, ["data.task.x=1"])


def test_words_that_no_field_knows_are_refused_in_python_too() -> None:
    with pytest.raises(
        ConfigError, match=r"\[model\]: mixer = 'banana', expected one of 'mlp_t', 'attention'"
    ):
        TRMConfig(81, 11, mixer="banana")  # type: ignore[arg-type]
    for kind, change in (
        (OptimConfig, {"name": "sgd"}), (LossConfig, {"name": "mse"}), (TrainConfig, {"compile": "no"}),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match="expected one of"):
            kind(**change)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("optim.betas=[2,3]", r"\[optim\] betas: \[2.0, 3.0\], expected both at least 0 and less than 1"),
        ("optim.betas=[0.9,1.0]", "betas"),
        ("optim.betas=[0.9,nan]", "betas"),
        ("model.expansion=0", r"\[model\] expansion 0.0"),
        ("model.expansion=-1", "expansion -1.0"),
        ("model.expansion=nan", "expansion nan"),
        ("model.expansion=inf", "expansion inf"),
        ("model.expansion=1e-9", "expansion 1e-09"),
        ("train.seed=-1", r"\[train\] seed: -1, expected 0 to 18446744073709551615"),
        ("train.seed=18446744073709551616", "expected 0 to 18446744073709551615"),
        ("train.seed=1" + 400 * "0", "expected 0 to 18446744073709551615"),
        ("train.seconds=nan", r"\[train\] seconds: nan, expected at least 0"),
        ("train.batch=0", r"\[train\] batch: 0, expected at least 1"),
        ("model.layers=0", r"\[model\] layers: 0, expected 1 to 1000"),
        ("model.layers=1000000000", r"\[model\] layers: 1000000000, expected 1 to 1000"),
        ("model.identities=-3", r"\[model\] identities: -3, expected at least 0"),
        ("data.reveal=1.5", r"\[data\] reveal: 1.5, expected 0 to 1"),
    ],
)
def test_what_cannot_be_meant_is_one_line(override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        load_config(CONFIGS / "tiny.toml", [override])
    assert "\n" not in str(refused.value)
    assert load_config(CONFIGS / "tiny.toml", ["train.seed=18446744073709551615", "optim.betas=[0,0.999]"])


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_config(tmp_path / "none.toml")


def test_whole_numbers_are_fine_where_shares_are_expected() -> None:
    assert from_dict(TRMConfig, {"seq_len": 4, "vocab_size": 3, "expansion": 2}).expansion == 2.0


def test_the_horizon_that_is_asked_for_replaces_the_files(tmp_path: Path) -> None:
    path = written(tmp_path, MINIMAL)  # steps = 5
    timed = load_config(path, ["train.seconds=7"]).train
    assert (timed.steps, timed.seconds) == (0, 7.0)
    timed_file = written(tmp_path, MINIMAL.replace("steps = 5", "seconds = 9.0"))
    stepped = load_config(timed_file, ["train.steps=6", "train.batch=4"]).train
    assert (stepped.steps, stepped.seconds) == (6, 0.0)
    assert load_config(timed_file, ["train.seconds=0", "train.steps=6"]).train.steps == 6
    for both in (["train.seconds=7", "train.steps=6"], ["train.steps=0"]):
        with pytest.raises(ConfigError, match="one of the two"):
            load_config(timed_file, both)


def test_puzzles_of_a_file_replace_the_recipes_generator() -> None:
    for recipe in ("tiny", "maze"):
        data = load_config(CONFIGS / f"{recipe}.toml", ["data.train=mine.csv"]).data
        assert (data.train, data.generate, data.stream, data.options) == ("mine.csv", 0, 0, {})
    near = load_config(
        CONFIGS / "sudoku.toml", ["data.train=mine.csv"]
    ).data  # whose generator goes by the file
    assert near.stream == 65536
    assert near.options
    made = load_config(CONFIGS / "sudoku_quick.toml", ["data.generate=40"]).data
    assert (made.train, made.generate) == ("", 40)
    for change, words in (
        (["data.train=a.csv", "data.generate=3"], "one of the two"),
        (["data.limit=3"], "limit"),
        (["data.train=a.csv", "data.options.clues=[30,40]"], "options"),
        (["data.held_out_size=-1"], "expected at least 0"),
    ):
        with pytest.raises(ConfigError, match=words):
            load_config(CONFIGS / "tiny.toml", change)


def test_the_task_says_the_shape_that_a_recipe_leaves_out(tmp_path: Path) -> None:
    short = written(tmp_path, MINIMAL.replace("seq_len = 81\nvocab_size = 11\n", ""))
    assert load_config(short).model == TRMConfig(81, 11)
    assert load_config(short, ["model.vocab_size=12"]).model.vocab_size == 12  # for the trainer to refuse
    arc = load_config(CONFIGS / "arc.toml").model
    assert (arc.canvas_width, arc.seq_len) == (20, 400)
    with pytest.raises(ConfigError, match="chess"):
        load_config(short, ["data.task=chess"])


def test_old_keys_are_read(tmp_path: Path) -> None:
    old = written(tmp_path, MINIMAL.replace("task = 'sudoku'", "task = 'arc'\nrecolour = 0.2"))
    config = load_config(old)
    assert config.data.color_permutation_prob == 0.2
    assert load_config(old, ["data.recolour=0.3"]).data.color_permutation_prob == 0.3
    raw = asdict(config)
    raw["data"]["recolour"] = raw["data"].pop("color_permutation_prob")
    (tmp_path / "config.json").write_text(json.dumps(raw))
    assert load_run(tmp_path) == config
