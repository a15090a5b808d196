"""The engine's table: every section gives figures, also on a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from small_networks import network

from trm.checkpoints.format import Checkpoint, Expert
from trm.evaluation.bench_engine import SECTIONS, EngineBench, format_figures
from trm.grid import PuzzleError
from trm.tasks import get


def test_every_section_gives_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trm.evaluation.bench_engine.INFERENCE_STEPS", 3)
    monkeypatch.setattr("trm.evaluation.bench_engine.peak_tflops", lambda *_: 1.0)
    made = network()
    checkpoint = Checkpoint("n.pt", {"sudoku": Expert("sudoku", made.config, made.state_dict())})
    puzzle = get("sudoku").samples()[0]
    heard: dict[str, list[Mapping[str, float]]] = {}
    bench = EngineBench(
        checkpoint, [puzzle] * 5, "cpu", compiled=False, seconds=0.01, slots=4, singles=1, restarts=1, exact=2,
        say=lambda section, figures: heard.setdefault(section, []).append(figures),
    )  # fmt: skip
    bench.run(batches=(1, 4))
    assert set(heard) == {"machine", *SECTIONS}
    assert [figures["batch"] for figures in heard["table"]] == [1, 4]
    for figures in heard["table"]:
        assert 0 < figures["latency_p50_ms"] <= figures["latency_p95_ms"]
        assert 0 < figures["filled"] <= 1
        assert figures["steps_used"] == 3  # it solves nothing
    assert [figures["accuracy"] for figures in heard["file"]] == [0, 0]
    assert heard["fixed"][0]["accuracy"] == 0
    assert heard["company"][0]["mixed_confidence"] == pytest.approx(0, abs=1e-5)
    assert heard["exact"][0]["float32_same"] == 1
    assert "accuracy 0" in format_figures("file", heard["file"][0])
    with pytest.raises(PuzzleError, match="answers"):
        EngineBench(checkpoint, [replace(puzzle, answers=None)], "cpu")
