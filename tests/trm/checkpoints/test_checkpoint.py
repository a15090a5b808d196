"""Checkpoints: what goes in comes out."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from small_networks import SMALL, expert

from trm.checkpoints.format import CheckpointError, load, pack, save, save_folder
from trm.files import replacing


def test_a_file_keeps_weights_and_origin(tmp_path: Path) -> None:
    save(tmp_path / "a.pt", {"sudoku": expert(step=7)})
    again = load(tmp_path / "a.pt")
    assert again.name.startswith(str(tmp_path / "a.pt") + "@sha256:")
    one = again.experts["sudoku"]
    assert one.config == SMALL
    assert one.meta["step"] == 7
    assert one.meta["code_version"]
    for name, tensor in expert().state.items():
        expected = tensor.to(torch.bfloat16) if tensor.ndim > 1 else tensor
        assert one.state[name].equal(expected)


def test_what_decay_has_taken_is_nothing(tmp_path: Path) -> None:
    made = expert()
    name = next(name for name, tensor in made.state.items() if tensor.ndim > 1)
    made.state[name][0] *= 1e-24
    save(tmp_path / "a.pt", {"sudoku": made})
    save_folder(tmp_path / "m", made)
    for source in (tmp_path / "a.pt", tmp_path / "m"):
        read = load(source).experts["sudoku"].state[name]
        assert not read[0].any()
        assert read[1:].equal(made.state[name][1:].to(read.dtype))


def test_a_folder_is_as_good_as_a_file(tmp_path: Path) -> None:
    save_folder(tmp_path / "m", expert(step=3))
    experts = load(tmp_path / "m").experts
    assert list(experts) == ["sudoku"]
    assert experts["sudoku"].meta["step"] == 3
    (tmp_path / "m" / "trm.json").unlink()  # what push_to_hub alone would leave: the shape tells the task
    assert load(tmp_path / "m").experts["sudoku"].config == SMALL


def test_a_file_is_smaller_than_its_weights_and_keeps_every_bit(tmp_path: Path) -> None:
    one = expert()
    save(tmp_path / "x.pt", {"sudoku": one})
    kept = load(tmp_path / "x.pt").experts["sudoku"].state
    stored = {name: v.to(torch.bfloat16) if v.ndim > 1 else v for name, v in one.state.items()}
    assert all(kept[name].equal(v) for name, v in stored.items())
    assert (tmp_path / "x.pt").stat().st_size < 0.9 * sum(v.nbytes for v in stored.values())


def test_the_same_weights_are_the_same_file_whatever_its_name_and_the_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = expert()
    save(tmp_path / "x.pt", {"sudoku": one})
    monkeypatch.setattr("time.time", lambda: 2e9)
    save(tmp_path / "plain", {"sudoku": one})
    assert (tmp_path / "x.pt").read_bytes() == (tmp_path / "plain").read_bytes()


def test_pack_gathers_and_the_later_counts(tmp_path: Path) -> None:
    save(tmp_path / "a.pt", {"sudoku": expert(step=1)})
    save(tmp_path / "b.pt", {"sudoku": expert(step=2), "maze": expert(step=3)})
    pack(tmp_path / "all.pt", [str(tmp_path / "a.pt"), str(tmp_path / "b.pt")])
    experts = load(tmp_path / "all.pt").experts
    assert {task: one.meta["step"] for task, one in experts.items()} == {"sudoku": 2, "maze": 3}
    assert experts["maze"].config == SMALL
    # What is in the file already stays, unless it is of the same task; what is no checkpoint is not replaced.
    pack(tmp_path / "all.pt", [str(tmp_path / "a.pt")], cycles=4)
    experts = load(tmp_path / "all.pt").experts
    assert {task: one.meta["step"] for task, one in experts.items()} == {"sudoku": 1, "maze": 3}
    assert [experts[task].config.h_cycles for task in ("sudoku", "maze")] == [4, SMALL.h_cycles]
    pack(tmp_path / "all.pt", [str(tmp_path / "all.pt")], cycles=6)  # unless it is named itself
    assert {one.config.h_cycles for one in load(tmp_path / "all.pt").experts.values()} == {6}
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        pack(tmp_path / "notes.txt", [str(tmp_path / "a.pt")])
    assert (tmp_path / "notes.txt").read_text() == "hello"
    pack(tmp_path / "deep.pt", [str(tmp_path / "b.pt")], cycles=5)
    assert load(tmp_path / "deep.pt").experts["maze"].config == replace(SMALL, h_cycles=5)


def test_a_file_never_takes_the_place_of_a_folder(tmp_path: Path) -> None:
    kept = tmp_path / "runs" / "mine.txt"
    kept.parent.mkdir()
    kept.write_text("precious")
    save(tmp_path / "one.pt", {"sudoku": expert()})
    with pytest.raises(IsADirectoryError):
        pack(kept.parent, [str(tmp_path / "one.pt")])
    assert kept.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.pt", "runs"]


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def interrupted() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_checkpoint_whose_writer_was_killed_between_two_renames_is_found(tmp_path: Path) -> None:
    save_folder(tmp_path / ".m.abcdefgh" / "new" / "m", expert(step=2))
    save_folder(tmp_path / ".m.abcdefgh" / "previous", expert(step=1))
    assert load(tmp_path / "m").experts["sudoku"].meta["step"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_leftovers_of_killed_writers_go_and_those_at_work_are_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    (tmp_path / ".a.txt.killed00" / "new").mkdir(parents=True)
    (tmp_path / ".a.txt.killed00" / "new" / "a.txt").write_text("half")
    (tmp_path / ".a.txt.b.killed00" / "new").mkdir(parents=True)  # of another file
    (tmp_path / ".a.txt.begun000").mkdir()  # its writer was killed before it had taken the lock
    (tmp_path / ".a.txt.begun001").mkdir()
    (tmp_path / ".a.txt.begun001" / "lock").touch()
    (tmp_path / ".a.txt.mine0000").mkdir()  # of somebody else
    (tmp_path / ".a.txt.mine0000" / "notes").touch()
    with replacing(path) as temporary:
        temporary.write_text("slow")
        with replacing(path) as other:
            other.write_text("quick")
        assert path.read_text() == "quick"
        assert temporary.exists()
    assert path.read_text() == "slow"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        ".a.txt.b.killed00", ".a.txt.mine0000", "a.txt",
    ]  # fmt: skip


def test_only_the_experts_that_are_asked_are_read(tmp_path: Path) -> None:
    made = expert()
    broken = replace(made, weights={**made.state, "head.weight": torch.full((11, 32), math.nan)})
    save(tmp_path / "a.pt", {"sudoku": made, "maze": broken})
    read = load(tmp_path / "a.pt", ["sudoku"])
    assert list(read.experts) == ["sudoku"]
    assert read.name.startswith(f"{tmp_path / 'a.pt'}@sha256:")
    for tasks in (["maze"], None, ["sudoku", "arc"]):  # without an expert for arc all are looked at
        with pytest.raises(CheckpointError, match=r"maze.*head\.weight"):
            load(tmp_path / "a.pt", tasks)


def test_a_network_shares_no_weights_with_its_expert() -> None:
    one = expert()
    before = {name: weight.clone() for name, weight in one.state.items()}
    for weight in one.model().parameters():
        weight.data.zero_()
    assert all(torch.equal(one.state[name], weight) for name, weight in before.items())


def test_tensors_that_share_numbers_or_have_none_are_read_as_they_were(tmp_path: Path) -> None:
    made, matrix = expert(), torch.randn(6, 4)
    odd = {"column": matrix[:, 1], "turned": matrix.T, "none": torch.empty(0, 3), "half": matrix.half()}
    torch.save(
        {"format": 1, "experts": {"sudoku": {"config": asdict(made.config), "state": odd}}}, tmp_path / "b.pt"
    )
    read = load(tmp_path / "b.pt").experts["sudoku"].state
    assert all(torch.equal(read[name], tensor) for name, tensor in odd.items())
