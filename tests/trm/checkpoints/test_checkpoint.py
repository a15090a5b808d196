"""Checkpoints: what goes in comes out, and what is none is refused in one line."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_networks import GOLDEN, SMALL, network

from trm.checkpoints.format import CheckpointError, Expert, load, pack, save, save_folder
from trm.checkpoints.reference import convert
from trm.files import replacing


def expert(**meta: Any) -> Expert:
    made = network()
    return Expert("sudoku", made.config, made.state_dict(), meta)


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


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(CheckpointError, match="not a checkpoint"):
        load(tmp_path / "text.pt")
    torch.save({"weights": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="format 1"):
        load(tmp_path / "other.pt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"config\.json and model\.safetensors"):
        load(tmp_path / "empty")
    with pytest.raises(CheckpointError, match="no such file"):
        load(tmp_path / "none.pt")
    (tmp_path / "cut.pt").touch()
    for read in (load, lambda path: convert(path, "sudoku")):
        with pytest.raises(CheckpointError, match=r"cut\.pt: not a"):
            read(tmp_path / "cut.pt")
    for name, text in (("model.safetensors", "abc"), ("config.json", "x"), ("config.json", "[]")):
        folder = tmp_path / f"{name}-{text}"
        save_folder(folder, expert())
        (folder / name).write_text(text)
        with pytest.raises(CheckpointError, match=r"not a checkpoint|an object each"):
            load(folder)


def test_a_file_never_takes_the_place_of_a_folder(tmp_path: Path) -> None:
    kept = tmp_path / "runs" / "mine.txt"
    kept.parent.mkdir()
    kept.write_text("precious")
    save(tmp_path / "one.pt", {"sudoku": expert()})
    with pytest.raises(IsADirectoryError):
        pack(kept.parent, [str(tmp_path / "one.pt")])
    assert kept.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.pt", "runs"]


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("pickled code ran",))


def test_nothing_pickled_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"format": 1, "experts": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(CheckpointError):
        load(tmp_path / "evil.pt")
    with pytest.raises(CheckpointError):
        convert(tmp_path / "evil.pt", "sudoku")
    assert "ran" not in capsys.readouterr().out


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


def test_convert_reads_the_shape_off_the_weights_and_refuses_what_does_not_fit(tmp_path: Path) -> None:
    overrides = json.loads((GOLDEN / "attention.config.json").read_text())
    one = convert(GOLDEN / "attention.upstream.pt", "arc", overrides)
    assert (one.task, one.config.seq_len, one.config.heads, one.config.l_cycles) == ("arc", 81, 4, 4)
    with pytest.raises(CheckpointError, match="unknown 'H_cycle'"):
        convert(GOLDEN / "attention.upstream.pt", "sudoku", {"H_cycle": 2})
    with pytest.raises(CheckpointError, match="do not fit"):
        convert(GOLDEN / "mlp_t.upstream.pt", "sudoku", {"seq_len": 50, "puzzle_emb_len": 16})
    for key, said in (("L_layers", 3), ("mlp_t", True), ("vocab_size", 11), ("num_puzzle_identifiers", 5)):
        with pytest.raises(CheckpointError, match=f"{key} = {said}, but the weights have"):
            convert(GOLDEN / "attention.upstream.pt", "arc", overrides | {key: said})
    with pytest.raises(CheckpointError, match="No such file"):
        convert(tmp_path / "none", "sudoku")
    torch.save({"a": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="missing"):
        convert(tmp_path / "other.pt", "sudoku")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("num_heads", "x", "config: num_heads = 'x', expected int"),
        ("num_heads", None, "config: num_heads = None, expected int"),
        ("H_cycles", 1.5, "config: H_cycles = 1.5, expected int"),
        ("seq_len", [81], "config: seq_len = [81], expected int"),
        ("seq_len", 10**13, "weights do not fit the config: "),
        ("puzzle_emb_len", True, "config: puzzle_emb_len = True, expected int"),
        ("expansion", "x", "config: expansion = 'x', expected float"),
        ("expansion", 0, "[model] expansion 0.0"),
        ("expansion", math.nan, "[model] expansion nan"),
        ("expansion", 8, "weights do not fit the config: size mismatch for net.blocks"),
        ("pos_encodings", "banana", "config: pos_encodings = 'banana'"),
    ],
)
def test_what_a_reference_config_cannot_mean_is_one_line(key: str, value: object, said: str) -> None:
    overrides = json.loads((GOLDEN / "mlp_t.config.json").read_text()) | {key: value}
    with pytest.raises(CheckpointError) as refused:
        convert(GOLDEN / "mlp_t.upstream.pt", "sudoku", overrides)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    save(tmp_path / "a.pt", {"sudoku": expert()})
    content = bytearray((tmp_path / "a.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.pt: not a checkpoint"):
        load(tmp_path / "a.pt")


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    one = expert()
    one.state["head.weight"][0, 0] = math.nan
    save(tmp_path / "a.pt", {"sudoku": one})
    save_folder(tmp_path / "m", one)
    for source in (tmp_path / "a.pt", tmp_path / "m"):
        with pytest.raises(CheckpointError, match=r"head\.weight"):
            load(source)


@pytest.mark.parametrize(
    "content",
    [
        {"format": 1, "experts": [1]},
        {"format": 1, "experts": {"sudoku": 3}},
        {"format": 1, "experts": {"sudoku": {"config": {}, "state": {}}}},
        {"format": 1, "experts": {"sudoku": {"config": 1, "state": {}}}},
        {
            "format": 1,
            "experts": {"sudoku": {"config": {"seq_len": 81, "vocab_size": 11}, "state": {"a": 1}}},
        },
        [1, 2],
    ],
    ids=str,
)
def test_files_of_another_structure_are_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(CheckpointError) as refused:
        load(tmp_path / "a.pt")
    assert "\n" not in str(refused.value)


ODD_TENSORS = {
    "sparse": torch.zeros(3, 3).to_sparse(),
    "meta": torch.empty(3, device="meta"),
    "complex": torch.zeros(2, dtype=torch.complex64),
    "whole": torch.zeros(2, dtype=torch.int64),
    "short": torch.zeros(2, dtype=torch.float8_e4m3fn),
    "scalar": torch.tensor(1.0),
    "shape": torch.zeros(2, 2, 2),
    "none": None,
    "text": "x",
}


@pytest.mark.parametrize("odd", ODD_TENSORS.values(), ids=ODD_TENSORS.keys())
def test_odd_tensors_are_refused_where_the_file_is_opened(tmp_path: Path, odd: object) -> None:
    made = expert()
    torch.save(
        {
            "format": 1,
            "experts": {
                "sudoku": {"config": asdict(made.config), "state": made.state | {"head.weight": odd}}
            },
        },
        tmp_path / "a.pt",
    )
    with pytest.raises(CheckpointError) as refused:
        load(tmp_path / "a.pt").experts["sudoku"].model()
    assert "\n" not in str(refused.value)
    upstream = torch.load(GOLDEN / "attention.upstream.pt", weights_only=True)
    for name in [next(name for name in upstream if "embed_tokens" in name), 5]:
        torch.save(upstream | {name: odd}, tmp_path / "u.pt")
        with pytest.raises(CheckpointError) as refused:
            convert(tmp_path / "u.pt", "arc", json.loads((GOLDEN / "attention.config.json").read_text()))
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "change",
    [{"hidden_size": 64_000}, {"vocab_size": 10**9}, {"identities": 10**9, "identity_dim": 32},
     {"prefix": 10**9}, {"layers": 1000}, {"expansion": 1e9}, {"seq_len": 10**9, "positions": "rope"}],
    ids=str,
)  # fmt: skip
def test_a_config_of_a_few_bytes_allocates_nothing(tmp_path: Path, change: dict[str, Any]) -> None:
    made = expert()
    config = asdict(made.config) | {"canvas_width": 0, "positions": "none"} | change
    torch.save(
        {"format": 1, "experts": {"sudoku": {"config": config, "state": made.state}}}, tmp_path / "a.pt"
    )
    with pytest.raises(CheckpointError, match="do not fit the config"):
        load(tmp_path / "a.pt").experts["sudoku"].model()


def test_json_that_is_nested_too_deep_is_refused(tmp_path: Path) -> None:
    for name in ("config.json", "trm.json"):
        save_folder(tmp_path / name, expert())
        for text in ("[" * 100_000, '{"a":' * 500 + "1" + "}" * 500, "9" * 5000):
            (tmp_path / name / name).write_text(text)
            with pytest.raises(CheckpointError, match="not a checkpoint"):
                load(tmp_path / name)


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
    broken = replace(made, state={**made.state, "head.weight": torch.full((11, 32), math.nan)})
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
