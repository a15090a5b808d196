"""Runs that go on, or have nothing left to do."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from small_networks import CONFIGS, settings, trainer
from typer.testing import CliRunner, Result

from trm.checkpoints.format import CheckpointError, load
from trm.cli import app
from trm.training.run_folder import RunFolder, read_metrics
from trm.training.step import Learner
from trm.training.trainer import Trainer

TINY = str(CONFIGS / "tiny.toml")
QUICK = ["train.steps=3", "train.batch=4", "data.generate=10", "model.hidden_size=16", "model.heads=2"]


def train(*words: object) -> Result:
    return CliRunner().invoke(app, ["train", TINY, *map(str, words), "--device", "cpu"])


@pytest.mark.parametrize("held_out", [4, 0])
def test_a_run_that_has_ended_is_left_as_it_is(tmp_path: Path, held_out: int) -> None:
    run = tmp_path / "run"
    whole = train(*QUICK, f"data.held_out_size={held_out}", "--out", run)
    assert whole.exit_code == 0, whole.output
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in run.rglob("*") if path.is_file()}
    again = train("train.batch=8", "--resume", run)
    assert again.exit_code == 0, again.output
    assert again.stdout == whole.stdout
    assert again.stderr.splitlines()[-1] == f"trm: {run} had ended at step 3; nothing was left to do"
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before} == before
    assert {path for path in run.rglob("*") if path.is_file()} == set(before)
    assert train("train.steps=5", "--resume", run).exit_code == 0
    assert load(run / "checkpoints" / "last").experts["sudoku"].meta["step"] == 5


def test_an_evaluation_that_is_missing_at_the_end_is_made_up_for(tmp_path: Path) -> None:
    whole = trainer(tmp_path, settings())
    result = whole.run()
    metrics = tmp_path / "metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True)
    metrics.write_text("".join(lines[:-1]))
    again = trainer(tmp_path, settings())
    again.resume()
    assert again.ended() is None
    assert again.run()["accuracy"] == result["accuracy"]
    assert len(read_metrics(tmp_path)) == len(lines)
    assert again.ended() == read_metrics(tmp_path)[-1]["held_out"]


@pytest.mark.parametrize("held_out", [4, 0])
def test_a_best_that_ctrl_c_left_unwritten_at_the_end_is_made_up_for(
    tmp_path: Path, held_out: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, save = tmp_path / "run", Trainer.save

    def interrupted(self: Trainer, name: str, *more: Any) -> None:
        if name == "best" and self.done_steps == 3:
            raise KeyboardInterrupt
        save(self, name, *more)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save", interrupted)
        assert train(*QUICK, f"data.held_out_size={held_out}", "--out", run).exit_code == 130
    again = train("--resume", run)
    assert again.exit_code == 0, again.output
    assert load(run / "checkpoints" / "best").experts["sudoku"].meta["step"] == 3
    evaluated = [line["step"] for line in read_metrics(run) if "held_out" in line]
    assert evaluated[-1:] == ([3] if held_out else [])


def test_ctrl_c_while_a_run_is_read_leaves_what_it_had_learned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    train(*QUICK, "--out", run)

    def interrupted(self: Learner, state: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Learner, "load_state_dict", interrupted)
    cut_off = train("train.steps=5", "--resume", run)
    assert (cut_off.exit_code, cut_off.stderr) == (130, "trm: interrupted before the first step\n")
    assert load(run / "checkpoints" / "last").experts["sudoku"].meta["step"] == 3


def test_with_nothing_held_out_the_best_is_the_last(tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = train(*QUICK, "data.held_out_size=0", "--out", run)
    assert done.stdout == f"nothing held out to judge by; {run}/checkpoints/best is the last\n"
    last, best = (load(run / "checkpoints" / name).experts["sudoku"] for name in ("last", "best"))
    assert last.meta == best.meta
    assert all(tensor.equal(best.state[name]) for name, tensor in last.state.items())


def test_a_line_that_a_kill_cut_off_spoils_none_after_it(tmp_path: Path) -> None:
    trainer(tmp_path, settings()).run()
    before = read_metrics(tmp_path)
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes() + b'{"step": 7, "sec')
    longer = trainer(tmp_path, settings(train__steps=8))
    longer.resume()
    longer.run()
    after = read_metrics(tmp_path)
    assert after[: len(before)] == before
    assert [line["step"] for line in after[len(before) :] if "held_out" in line] == [8]


def test_what_was_written_behind_the_checkpoint_is_not_there_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Trainer.save

    def killed(self: Trainer, name: str, *more: Any) -> None:
        if name == "last" and self.done_steps == 5:
            raise SystemExit  # and nothing that was learned since step 3 is kept
        if name != "last" or self.done_steps <= 3:
            save(self, name, *more)

    def steps() -> list[tuple[int, bool]]:
        return [(line["step"], "held_out" in line) for line in read_metrics(tmp_path)]

    monkeypatch.setattr("trm.training.trainer.REPORT_EVERY", -1.0)
    often = settings(train__evaluate_every=1 / 3, train__save_every_seconds=0.0)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save", killed)
        with pytest.raises(SystemExit):
            trainer(tmp_path, often).run()
    before = [(1, False), (2, False), (3, False), (3, True), (4, False), (5, False), (5, True)]
    assert steps() == before
    os.link(tmp_path / "metrics.jsonl", tmp_path / "another")
    kept = (tmp_path / "another").read_bytes()

    def cut_off(*names: Any) -> None:
        raise KeyboardInterrupt

    again = trainer(tmp_path, often)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", cut_off)
        with pytest.raises(KeyboardInterrupt):
            again.resume()
    assert steps() == before  # killed while they are dropped: all are there
    again.resume()
    assert steps() == before[:4]
    assert (tmp_path / "another").read_bytes() == kept  # a copy by links is another run's
    again.run()
    assert steps() == [*before, (6, False), (6, True)]
    assert not list(tmp_path.glob(".metrics*"))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has"),
            " (2.00 GiB at once)",
        ),
        (MemoryError(), ""),
    ],
)
def test_a_run_that_memory_ends_says_so_and_can_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    run, advance = tmp_path / "run", Trainer.advance

    def full(self: Trainer, progress: float, start: float) -> None:
        if self.done_steps == 2:
            raise error
        advance(self, progress, start)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "advance", full)
        ended = train(*QUICK, "train.save_every_seconds=0", "--out", run)
    assert ended.exit_code == 2
    line = f"trm: not enough memory{said}, expected a smaller [model], or less of train.batch, train.pool"
    assert ended.stderr.splitlines()[-1] == line
    assert train("train.batch=2", "--resume", run).exit_code == 0


def test_other_errors_of_a_run_are_left_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(self: Trainer, progress: float, start: float) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    made = trainer(tmp_path, settings())
    monkeypatch.setattr(Trainer, "advance", wrong)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        made.run()


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(*QUICK, "--out", run)
    with RunFolder(run).locked():
        refused = train("train.steps=5", "--resume", run)
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert str(run) in refused.stderr
    assert load(run / "checkpoints" / "last").experts["sudoku"].meta["step"] == 3
    assert train("train.steps=5", "--resume", run).exit_code == 0


def test_a_run_killed_while_it_replaced_its_last_checkpoint_can_go_on(tmp_path: Path) -> None:
    """The state between the two renames, as a kill leaves it."""
    trainer(tmp_path, settings()).run()
    last = tmp_path / "checkpoints" / "last"
    scratch = last.with_name(".last.abcdefgh")
    shutil.copytree(last, scratch / "new" / "last")
    last.rename(scratch / "previous")
    with RunFolder(tmp_path).locked():
        again = trainer(tmp_path, settings(train__steps=8))
        again.resume()
        again.run()
    assert load(last).experts["sudoku"].meta["step"] == 8
    assert sorted(path.name for path in last.parent.iterdir()) == ["best", "last"]


@pytest.mark.parametrize("broken", ["flip", "other", "missing"])
def test_a_damaged_training_state_is_one_line(tmp_path: Path, broken: str) -> None:
    trainer(tmp_path, settings()).run()
    path = tmp_path / "checkpoints" / "last" / "training.pt"
    state = torch.load(path, weights_only=True)
    if broken == "flip":
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif broken == "other":
        torch.save([1, 2], path)
    else:
        torch.save({**state, "ema": 3, "optimizer": {}}, path)
    with pytest.raises(CheckpointError) as refused:
        trainer(tmp_path, settings(train__steps=8)).resume()
    assert "\n" not in str(refused.value)
