"""The trainer: what a step does, exact resume, and a real little training."""

from __future__ import annotations

import json
import math
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from small_networks import same, settings, trainer, weights

from trm.checkpoints.format import CheckpointError, load
from trm.config import ConfigError
from trm.data.stream import training_puzzles
from trm.device import DeviceError
from trm.training.step import Learner
from trm.training.trainer import Trainer


def test_a_run_leaves_what_it_should(tmp_path: Path) -> None:
    made = trainer(tmp_path, settings(train__evaluate_every=1 / 6))
    result = made.run()
    assert result["n"] == 8
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    evaluated = [line["step"] for line in lines if "held_out" in line]
    assert evaluated[-1] == 6
    assert len(set(evaluated)) == len(evaluated)  # the last grids are not judged twice
    assert {"loss", "lr", "ms_per_step", "pool_accuracy"} <= set(lines[0])
    assert json.loads((tmp_path / "config.json").read_text())["train"]["steps"] == 6
    assert json.loads((tmp_path / "environment.json").read_text())["torch"] == torch.__version__
    for name in ("last", "best"):
        expert = load(tmp_path / "checkpoints" / name).experts["sudoku"]
        assert expert.config == made.config.model
        assert expert.meta["step"] == 6
        assert expert.meta["training_puzzles"] == 40
    assert made.learner.optimizer.schedule(1.0) == pytest.approx(0)


def test_a_folder_that_is_removed_meanwhile_is_made_anew(tmp_path: Path) -> None:
    made = trainer(tmp_path / "run", settings())
    lines: list[str] = []
    made.say = lines.append
    shutil.rmtree(tmp_path / "run")
    made.run()
    assert load(tmp_path / "run" / "checkpoints" / "last").experts["sudoku"].meta["step"] == 6
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "config.json", "environment.json", "metrics.jsonl", "checkpoints"
    }  # fmt: skip
    assert sum("is gone" in line for line in lines) == 1


def test_a_horizon_in_seconds_ends_by_the_clock_with_the_learning_rate_at_zero(tmp_path: Path) -> None:
    made = trainer(tmp_path, settings(train__steps=0, train__seconds=0.5))
    made.run()
    assert made.seconds >= 0.5
    assert made.progress() == 1.0
    made.learner.set_step(made.done_steps, made.progress())
    assert [float(lr) for _, lr in made.learner.optimizer.lrs] == pytest.approx([0.0, 0.0], abs=1e-9)


def test_the_checkpoint_holds_the_averaged_weights(tmp_path: Path) -> None:
    made = trainer(tmp_path, settings(train__ema=0.9))
    made.run()
    saved = load(tmp_path / "checkpoints" / "last").experts["sudoku"].state
    live = weights(made)
    assert not same(live, saved)
    with made.averaged():
        assert same(weights(made), saved)
    off = trainer(tmp_path / "off", settings(train__ema=0.0))
    off.run()
    plain = load(tmp_path / "off" / "checkpoints" / "last").experts["sudoku"].state
    for name, tensor in weights(off).items():
        torch.testing.assert_close(tensor, plain[name])


def test_resume_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole", settings())
    whole.run()
    first = trainer(tmp_path / "parts", settings())
    for _ in range(3):
        first.advance(first.progress())
    first.save("last")
    second = trainer(tmp_path / "parts", settings())
    second.resume()
    assert second.done_steps == 3
    second.run()
    assert same(weights(whole), weights(second))
    assert all(a.equal(b) for a, b in zip(whole.learner.ema.mean, second.learner.ema.mean, strict=True))
    assert same(whole.learner.pool.state_dict(), second.learner.pool.state_dict())


def test_resume_without_a_checkpoint_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no checkpoints/last"):
        trainer(tmp_path, settings()).resume()


def test_resume_refuses_another_network_and_refills_another_pool(tmp_path: Path) -> None:
    trainer(tmp_path, settings()).run()
    with pytest.raises(CheckpointError, match="another shape"):
        trainer(tmp_path, settings(model__hidden_size=64)).resume()
    wider = trainer(tmp_path, settings(train__batch=4, train__steps=8))
    wider.resume()
    wider.run()
    assert wider.done_steps == 8


def test_runs_are_their_seeds(tmp_path: Path) -> None:
    runs = [trainer(tmp_path / str(i), settings(train__seed=s)) for i, s in enumerate((0, 0, 1))]
    for one in runs:
        one.run()
    assert same(weights(runs[0]), weights(runs[1]))
    assert not same(weights(runs[0]), weights(runs[2]))


def test_slots_turn_over_when_puzzles_halt(tmp_path: Path) -> None:
    """Halting on: a sure network lets puzzles go at once. Off: they stay for max_steps."""
    ages = {}
    for halting in (True, False):
        made = trainer(tmp_path / str(halting), settings(train__halting=halting, train__exploration=0.0))
        with torch.no_grad():
            made.learner.model.halt.bias.fill_(50.0)
        for _ in range(12):
            made.learner.set_step(0, 0.0)  # learning rate 0
            made.learner.step()
        ages[halting] = int(made.learner.pool.steps.max())
    assert ages == {True: 1, False: 3}


def test_exploration_keeps_some_puzzles_longer(tmp_path: Path) -> None:
    """A network that halts at once: explored puzzles stay for 2 or 3 steps, the others for one."""
    for share, expected in ((0.0, {1}), (1.0, {1, 2, 3})):
        made = trainer(tmp_path / str(share), settings(train__exploration=share))
        with torch.no_grad():
            made.learner.model.halt.bias.fill_(50.0)
        ages = set()
        for turn in range(16):
            made.learner.set_step(0, 0.0)  # learning rate 0
            made.learner.step()
            if turn >= 8:
                ages |= set(made.learner.pool.steps.tolist())
        assert ages == expected


def test_drafts_reach_the_network(tmp_path: Path) -> None:
    """The draft embedding learns only if drafts come in; its first row, "unknown", never does."""
    made = trainer(tmp_path, settings(model__feedback=False))
    made.run()
    moved = made.learner.model.embed.draft.detach().abs().sum(1)
    assert moved[2:].min() > 0
    without = trainer(tmp_path / "without", settings(model__feedback=False, draft__start_rate=0.0))
    without.run()
    assert without.learner.model.embed.draft.abs().max() == 0


def test_a_run_can_start_from_the_weights_of_another(tmp_path: Path) -> None:
    first = trainer(tmp_path / "first", settings())
    first.run()
    best = str(tmp_path / "first" / "checkpoints" / "best")
    second = trainer(tmp_path / "second", settings(train__init=best))
    with first.averaged():
        assert same(weights(first), weights(second))
        deeper = trainer(
            tmp_path / "deeper", settings(train__init=best, model__h_cycles=3, model__l_cycles=2)
        )
        assert same(weights(first), weights(deeper))
        assert deeper.learner.model.config.h_cycles == 3
    with pytest.raises(ConfigError, match="another shape"):
        trainer(tmp_path / "third", settings(train__init=best, model__hidden_size=64))


def test_bad_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected 81 and 11 for sudoku"):
        trainer(tmp_path, settings(model__vocab_size=12))
    with pytest.raises(ConfigError, match="expected less than the 5"):
        training_puzzles(
            settings(
                data__train=str(_few(tmp_path)), data__generate=0, data__options={}, data__held_out_size=99
            ).data,
            0,
        )
    with pytest.raises(ConfigError, match="give train"):
        training_puzzles(settings(data__generate=0).data, 0)
    with pytest.raises(ConfigError, match="start_rate needs"):
        settings(model__draft=False, model__feedback=False)
    for change in (
        {"batch": 0}, {"pool": 0}, {"max_steps": 0}, {"eval_steps": 0}, {"steps": -1}, {"seed": -1}, {"ema": 2.0},
        {"evaluate_every": 0.0}, {"save_every_seconds": math.nan}, {"exploration": 1.5},
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=rf"\[train\] .*{next(iter(change))}"):
            settings(**{f"train__{key}": value for key, value in change.items()})
    with pytest.raises(ConfigError, match="at least 1"):
        settings(model__heads=0)
    with pytest.raises(DeviceError, match="banana"):
        Trainer(settings(), tmp_path, [], [], "banana")


def _few(tmp_path: Path) -> Path:
    from trm.data.datasets import write
    from trm.data.generate import generate

    path = tmp_path / "few.csv"
    write(path, "sudoku", list(generate("sudoku", 5, 1, clues=(60, 70))))
    return path


def test_what_is_held_out_is_never_trained_on(tmp_path: Path) -> None:
    path = str(_few(tmp_path))
    train, held_out = training_puzzles(
        settings(data__train=path, data__generate=0, data__options={}, data__held_out_size=2).data, 0
    )
    questions = {p.grid.tobytes() for p in train} & {p.grid.tobytes() for p in held_out}
    assert (len(train), len(held_out), questions) == (3, 2, set())
    with pytest.raises(ConfigError, match="trained on as well"):
        training_puzzles(
            settings(data__train=path, data__generate=0, data__options={}, data__held_out=path).data, 0
        )


def evaluated(folder: Path) -> list[int]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["step"] for line in lines if "held_out" in line]


@pytest.mark.parametrize("step", [5, 6])  # 6: the evaluation that step 7 brings is already due
def test_ctrl_c_ends_between_steps_and_the_schedule_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """What is saved is whole: the run goes on as if nothing had happened, and evaluations come when they were due."""
    config = settings(train__steps=12, train__evaluate_every=0.5, train__pool=1)
    whole = trainer(tmp_path / "whole", config)
    whole.run()
    cut = trainer(tmp_path / "cut", config)
    learn = Learner.step

    def interrupted(self: Learner) -> None:
        if cut.done_steps == step - 1:
            signal.raise_signal(signal.SIGINT)  # in the midst of a step
        learn(self)

    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        patch.setattr(Learner, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cut.run()
    assert cut.done_steps == step
    assert signal.getsignal(signal.SIGINT) is before
    cut.save("last")
    again = trainer(tmp_path / "cut", config)
    again.resume()
    again.run()
    assert same(weights(whole), weights(again))
    assert evaluated(tmp_path / "cut") == evaluated(tmp_path / "whole") == [7, 12]


@pytest.mark.parametrize(
    "change",
    [
        {"optim__lr": math.nan}, {"optim__lr": -1.0}, {"optim__lr": math.inf}, {"optim__momentum": 5.0},
        {"optim__warmup": 2.0}, {"loss__label_smoothing": 2.0}, {"loss__halt_weight": -1.0},
        {"draft__noise_cells": -1.0}, {"draft__start_rate": 5.0}, {"optim__betas": ["a", "b"]},
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(change: dict[str, Any]) -> None:
    section, _, key = next(iter(change)).partition("__")
    with pytest.raises(ConfigError, match=rf"{section}.*{key}"):
        settings(**change)
