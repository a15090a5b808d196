"""What is no checkpoint, or a damaged one, is refused in one line, and nothing in it is run."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from small_networks import GOLDEN, expert

from trm.checkpoints.format import CheckpointError, load, save, save_folder
from trm.checkpoints.reference import convert


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
    [{"hidden_size": 64_000}, {"vocab_size": 10**9}, {"identities": 10**9, "identity_dim": 32}, {"identities": 2**63},
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
