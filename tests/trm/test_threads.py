"""NumPy gets as many threads as cores are free; what a user has set stays."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trm import threads


@pytest.mark.parametrize(
    ("load", "free"),
    [
        ("0.00 1.00 1.00 1/90 7", 8),
        ("1.40 1.00 1.00 1/90 7", 8),
        ("3.60 0.00 0.00 1/90 7", 5),
        ("0.10 0.00 0.00 4/90 7", 5),
        ("30.0 0.00 0.00 9/90 7", 1),
        ("odd", 1),
    ],
)
def test_cores_are_free_that_nobody_uses(
    load: str, free: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loadavg").write_text(load)
    monkeypatch.setattr(threads, "LOAD", tmp_path / "loadavg")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    assert threads.free_cores() == free
    monkeypatch.setattr(threads, "LOAD", tmp_path / "missing")
    assert threads.free_cores() == 1


@pytest.mark.parametrize(
    ("given", "settled"),
    [
        ({}, {"OMP_WAIT_POLICY": "PASSIVE", "OPENBLAS_NUM_THREADS": "3"}),
        ({"OMP_NUM_THREADS": "2"}, {"OMP_WAIT_POLICY": "PASSIVE"}),
        ({"GOMP_SPINCOUNT": "0", "OPENBLAS_NUM_THREADS": "7"}, {}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OPENBLAS_NUM_THREADS": "3"}),
    ],
)
def test_what_a_user_has_set_stays(
    given: dict[str, str], settled: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "free_cores", lambda: 3)
    monkeypatch.setattr(os, "environ", dict(given))
    threads.settle()
    assert os.environ == given | settled
