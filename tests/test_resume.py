"""Runs that go on, or have nothing left to do."""

from __future__ import annotations

from pathlib import Path

from test_train import config, trainer

from trm.curves import read


def test_a_line_that_a_kill_cut_off_spoils_none_after_it(tmp_path: Path) -> None:
    trainer(tmp_path, config()).run()
    before = read(tmp_path)
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes() + b'{"step": 7, "sec')
    longer = trainer(tmp_path, config(train__steps=8))
    longer.resume()
    longer.run()
    after = read(tmp_path)
    assert after[: len(before)] == before
    assert [line["step"] for line in after[len(before) :] if "held_out" in line] == [8]
