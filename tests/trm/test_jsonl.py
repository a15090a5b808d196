"""Files of JSON lines after a kill."""

from __future__ import annotations

from pathlib import Path

import pytest

from trm import jsonl

ROWS = [{"id": "a", "text": "line\u2028end"}, {"id": "b"}]


@pytest.mark.parametrize("cut", range(12))
def test_what_a_kill_cut_short_is_left_out_and_repaired(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "rows.jsonl"
    jsonl.append(path, ROWS)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - cut])
    left = ROWS if cut < 2 else ROWS[:1]  # without its line end a row is whole
    assert [line.value for line in jsonl.read(path)] == left
    jsonl.repair(path)
    jsonl.append(path, [{"id": "c"}])
    assert [line.value for line in jsonl.read(path)] == [*left, {"id": "c"}]
    assert path.read_bytes().endswith(b"\n")


def test_damaged_lines_have_no_value_and_blank_ones_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n\nnonsense\n[2]\n')
    assert [(line.number, line.value) for line in jsonl.read(path)] == [(1, {"a": 1}), (3, None), (4, [2])]


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    jsonl.write(path, ROWS)
    jsonl.write(path, ROWS[1:])
    assert [line.value for line in jsonl.read(path)] == ROWS[1:]
    jsonl.repair(tmp_path / "absent.jsonl")
    assert [file.name for file in tmp_path.iterdir()] == ["rows.jsonl"]
