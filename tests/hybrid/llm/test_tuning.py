"""Tuning: data, schedule, a small run that learns, and its resumption."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from typer.testing import CliRunner

from hybrid.cli import app
from hybrid.llm.grid.adapter import load_grid_model, read_adapter, read_info
from hybrid.llm.grid.episodes import turn_grid
from hybrid.llm.grid.quantization import simulate_four_bits
from hybrid.llm.grid.vocabulary import WORDS
from hybrid.llm.tuning.config import DataConfig, TrainConfig, load_config
from hybrid.llm.tuning.data import ArcTask, read_tasks
from hybrid.llm.tuning.drawing import EpisodeSource, pad, stream, to_batches
from hybrid.llm.tuning.prepare import merged, pair_key, without, write_tasks
from hybrid.llm.tuning.trainer import Tuner, schedule
from tests.hybrid.llm.tiny import write_tiny
from trm.config import ConfigError


def copying_task(name: str, seed: int, pairs: int = 12) -> ArcTask:
    """Outputs are the inputs."""
    rng = np.random.default_rng(seed)
    grids = [rng.integers(0, 10, (2, 2)).astype(np.uint8) for _ in range(pairs)]
    return ArcTask(name, [(grid, grid) for grid in grids[2:]], [(grid, grid) for grid in grids[:1]])


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Overrides that name a file of tasks and one that is held out."""
    write_tasks([copying_task(f"learned{n}", n) for n in range(8)], tmp_path / "tasks.json.gz")
    write_tasks([copying_task("unseen", 99, 4)], tmp_path / "unseen.json.gz")
    data = [f"data.tasks={tmp_path / 'tasks.json.gz'}", f"data.held_out={tmp_path / 'unseen.json.gz'}"]
    rates = [f"data.{name}=0" for name in ("turned_apart", "recolored_apart", "scaled", "framed", "enlarged")]
    return [*data, *rates, "train.device=cpu", "train.report_seconds=0"]


def tuner(files: list[str], out: Path, *overrides: str, resume: bool = False) -> Tuner:
    settings = [*files, f"train.out={out}", "model.hidden_size=64", "model.layers=2", *overrides]
    return Tuner(load_config(Path("configs/tune_tiny.toml"), settings), resume=resume)


def test_a_small_model_learns_what_it_is_shown(files: list[str], tmp_path: Path) -> None:
    run = tuner(files, tmp_path / "run", "train.steps=60", "data.group=16", "train.evaluate_every=0.5")
    before = run.evaluate()
    after = run.run()
    assert after.decisive > before.decisive + 0.5
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 60
    assert (tmp_path / "run" / "checkpoints" / "best" / "model.safetensors").is_file()


def hybrid_tune(*arguments: str) -> tuple[int, str]:
    """The command's exit code and what it says."""
    result = CliRunner().invoke(app, ["tune", *arguments])
    return result.exit_code, result.output


def test_the_command_trains_and_merges(files: list[str], tmp_path: Path) -> None:
    """A run that trains all weights, as a plain model that scores as it did."""
    small = ["model.hidden_size=64", "model.layers=2", "train.steps=4", "data.group=8"]
    out, plain = tmp_path / "run", tmp_path / "plain"
    given = ["configs/tune_tiny.toml", *files, *small, f"train.out={out}"]
    code, said = hybrid_tune(*given, "--merge", str(plain))
    assert code == 0, said
    model = AutoModelForCausalLM.from_pretrained(plain)
    words = PreTrainedTokenizerFast.from_pretrained(plain)
    tokens = words("I12\n3?\nO", return_tensors="pt", add_special_tokens=False).input_ids
    assert tokens.tolist() == [[11, 1, 2, 10, 3, 15, 10, 12]]
    assert model(input_ids=tokens).logits.shape == (1, 8, 16)
    info = json.loads((plain / "grid.json").read_text())
    assert set(info["data"]) == {"tasks.json.gz", "unseen.json.gz"}
    assert str(tmp_path) not in json.dumps(info)
    code, said = hybrid_tune(*given)
    assert code == 2
    assert "--resume" in said
    assert hybrid_tune(str(out), "--merge", str(plain))[0] == 2  # there is one already


def test_an_adapter_is_merged_into_its_base(tmp_path: Path) -> None:
    base, adapter = write_tiny(tmp_path)
    code, said = hybrid_tune(str(adapter), f"model.base={base}", "--merge", str(tmp_path / "plain"))
    assert code == 0, said
    tokens = torch.arange(16)[None]
    with torch.inference_mode():
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "plain", dtype=torch.float32)(tokens).logits
        expected = load_grid_model(base, adapter, dtype=torch.float32)(tokens).logits
    torch.testing.assert_close(merged, expected, atol=0.2, rtol=0.05)  # bfloat16


@pytest.mark.parametrize(
    "arguments",
    [[], ["no.toml"], ["configs"], ["configs/tune_tiny.toml", "train.stepz=1"], ["--resume", "no/run"]],
)
def test_what_cannot_be_tuned_is_one_line(arguments: list[str], tmp_path: Path) -> None:
    code, said = hybrid_tune(*arguments)
    assert code == 2
    assert said.count("\n") == 1


def test_a_resumed_run_is_the_run(files: list[str], tmp_path: Path) -> None:
    lora = [
        "model.method=lora",
        "model.rank=4",
        "model.alpha=4",
        "data.group=8",
        "train.tokens=512",
        "train.log_every=1",
    ]
    whole = tuner(files, tmp_path / "whole", *lora, "train.steps=6", "train.decay=0")
    whole.run()
    tuner(files, tmp_path / "parts", *lora, "train.steps=3", "train.decay=0").run()
    second = tuner(files, tmp_path / "parts", *lora, "train.steps=6", "train.decay=0", resume=True)
    second.run()
    assert second.progress.step == 6
    assert all(torch.equal(weight, second.trained[name]) for name, weight in whole.trained.items())
    shape, weights = read_adapter(tmp_path / "parts" / "checkpoints" / "last")
    assert shape.rank == 4
    assert weights


def test_a_run_starts_from_an_adapter(files: list[str], tmp_path: Path) -> None:
    """The weights at the start are the adapter's, and count as its four bits keep them."""
    lora = ["model.method=lora", "model.rank=4", "model.alpha=4", "data.group=8", "train.tokens=512"]
    first = tuner(files, tmp_path / "first", *lora, "train.steps=3")
    first.run()
    adapter = tmp_path / "first" / "checkpoints" / "last"
    second = tuner(files, tmp_path / "second", *lora, "train.steps=3", f"model.adapter={adapter}")
    _, weights = read_adapter(adapter)
    again = {name.replace(".default.", "."): weight for name, weight in second.trained.items()}
    assert all(torch.equal(weight, again[name]) for name, weight in weights.items())
    for name in weights:
        if ".lora_" in name:
            torch.testing.assert_close(simulate_four_bits(weights[name]), weights[name])
    assert second.evaluate().decisive == pytest.approx(first.evaluate().decisive, abs=2e-3)
    second.run()
    assert read_info(tmp_path / "second" / "checkpoints" / "last")["data"]["adapter_model.safetensors"]  # type: ignore[index]
    code, said = hybrid_tune(
        "configs/tune_tiny.toml", *files, *lora, "model.rank=8", f"model.adapter={adapter}"
    )
    assert (code, said.count("\n")) == (2, 1), said


def big_task(side: int) -> ArcTask:
    grids = [np.full((side, side), n, dtype=np.uint8) for n in range(9)]
    return ArcTask("big", [(grid, grid) for grid in grids], [])


def drawn_sides(task: ArcTask, **rates: float) -> list[set[int]]:
    """The rows of the inputs, and of the outputs, in many episodes of one task."""
    settings = dict.fromkeys(("turned_apart", "recolored_apart", "scaled", "framed", "enlarged"), 0.0) | rates
    source = EpisodeSource(DataConfig(tasks="-", most_tokens=8192, **settings), [task], [])  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    sides: list[set[int]] = [set(), set()]
    for _ in range(30):
        drawn = source.draw_task(rng)
        assert drawn is not None
        assert len(drawn) <= 8192
        for pair in "".join(WORDS[token] for token in drawn.tokens).split("E")[:-1]:
            for kind, rows in enumerate(pair[1:].split("O")):
                sides[kind].add(rows.count("\n"))
    return sides


@pytest.mark.parametrize(
    ("changes", "inputs", "outputs"),
    [
        ({}, {10}, {10}),
        ({"enlarged": 1}, {20, 30}, {20, 30}),
        ({"scaled": 1}, {10}, {20, 30}),
        ({"framed": 1}, {10}, {12}),
        ({"scaled": 1, "framed": 1}, {10}, {22, 30}),
    ],
)
def test_composed_tasks_have_larger_grids(
    changes: dict[str, float], inputs: set[int], outputs: set[int]
) -> None:
    assert drawn_sides(big_task(10), **changes) == [inputs, outputs]


def test_grids_stay_as_they_are_where_a_change_does_not_fit() -> None:
    assert drawn_sides(big_task(29), enlarged=1, scaled=1, framed=1) == [{29}, {29}]


def test_some_episodes_are_of_small_pairs_only() -> None:
    mixed = replace(big_task(21), test=big_task(10).train)
    assert drawn_sides(mixed, small=1) == [{10}, {10}]
    assert drawn_sides(mixed, small=0) == [{10, 21}, {10, 21}]
    assert drawn_sides(big_task(21), small=1) == [{21}, {21}]


def test_tasks_are_read_as_they_are_packed(tmp_path: Path) -> None:
    task = copying_task("a", 1)
    for suffix in ("gz", "xz"):
        file = tmp_path / f"tasks.json.{suffix}"
        write_tasks([task], file)
        assert len(read_tasks(file)[0].train) == len(task.train)
        file.write_bytes(file.read_bytes()[:-9])
        with pytest.raises(ConfigError, match=suffix):
            read_tasks(file)


def test_larger_tasks_are_held_out_with_the_others_and_scored_apart(files: list[str], tmp_path: Path) -> None:
    task = big_task(21)
    write_tasks(
        [copying_task("unseen", 99, 4), replace(task, test=task.train[:1])], tmp_path / "unseen.json.gz"
    )
    sets = tuner(files, tmp_path / "run").held_out.sets
    assert [len(sets[name]) for name in ("arc", "arc_large")] == [2, 1]
    assert len(sets["arc_large"][0]) > 4096  # whatever data.most_tokens is


def test_batches_do_not_depend_on_the_number_of_workers_and_go_on_where_they_stood() -> None:
    source = EpisodeSource(DataConfig(tasks="-", group=8), [copying_task("a", 1), copying_task("b", 2)], [])
    plain = list(itertools.islice(stream(source, 256, 0, 0, 0, (0, 0)), 9))
    worked = itertools.islice(stream(source, 256, 0, 0, 2, (0, 0)), 9)
    assert all(np.array_equal(a[1].tokens, b[1].tokens) for a, b in zip(plain, worked, strict=True))
    resumed = next(stream(source, 256, 0, 0, 0, plain[4][0]))
    assert np.array_equal(resumed[1].tokens, plain[5][1].tokens)
    other = next(stream(source, 256, 0, 1, 0, (0, 0)))
    assert not np.array_equal(other[1].tokens, plain[0][1].tokens)


def test_batches_hold_every_episode_and_keep_to_their_size() -> None:
    source = EpisodeSource(DataConfig(tasks="-", group=40), [copying_task("a", 1)], [])
    episodes = source.draw_group(np.random.default_rng(0))
    batches = to_batches(episodes, 1024)
    assert sum(batch.real for batch in batches) == sum(map(len, episodes))
    assert all(batch.tokens.size <= 1024 and batch.tokens.shape[1] % 64 == 0 for batch in batches)
    assert pad(episodes[:1]).tokens.shape[0] == 2


def test_the_rate_rises_stays_and_falls() -> None:
    train = TrainConfig(out="-", steps=100, warmup_steps=10, decay=0.7)
    assert schedule(train, 0, 0.0) == pytest.approx(0.1)
    assert schedule(train, 20, 0.2) == 1.0
    assert schedule(train, 90, 0.65) == pytest.approx(0.5)
    assert schedule(train, 99, 1.0) == 0.0


def test_doubles_up_to_turn_and_colors_are_left_out() -> None:
    rng = np.random.default_rng(5)
    task = ArcTask("a", [tuple(rng.integers(0, 10, (3, 4)).astype(np.uint8) for _ in range(2))], [])  # type: ignore[list-item]
    colors = rng.permutation(10).astype(np.uint8)
    double = ArcTask("b", [tuple(colors[turn_grid(grid, 5)] for grid in task.train[0])], [])  # type: ignore[list-item]
    other = ArcTask("c", [(task.train[0][1], task.train[0][0])], [])
    assert pair_key(double.train[0]) == pair_key(task.train[0])
    assert [kept.name for kept in without([double, other], [task])[0]] == ["c"]
    assert without([replace(other, name="a")], [task]) == ([], ["a"])


def test_pairs_of_one_task_are_put_together_without_repetition() -> None:
    task = copying_task("a", 1)
    together = merged([task, task, copying_task("b", 2)])
    assert [(item.name, len(item.train)) for item in together] == [("a", 11), ("b", 11)]


@pytest.mark.parametrize(
    "override",
    [
        "train.stepz=3",
        "train.seconds=1e9x",
        "data.puzzle_rate=2",
        "model.method=half",
        "train.steps=-1",
        "model.adapter=qwen",
    ],
)
def test_what_a_run_cannot_mean_is_refused(override: str) -> None:
    with pytest.raises(ConfigError):
        load_config(Path("configs/tune_tiny.toml"), ["data.tasks=-", override])


def test_shipped_configurations_are_valid() -> None:
    for name in ("tune.toml", "tune_tiny.toml"):
        assert load_config(Path("configs") / name, ["data.tasks=-"]).train.seconds > 0
