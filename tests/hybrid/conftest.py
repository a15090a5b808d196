"""Scripted models for the tests of the `hybrid` command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import doubles
import pytest
from doubles import Scripted, sudoku, wrong
from scripted_command import Parts

import hybrid.llm.grid.shipped
import hybrid.solving


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Parts:
    given = Parts()
    given.llm = Scripted([wrong(sudoku())])
    given.refiner = doubles.refiner(doubles.solves_sudokus)

    def make(kind: str) -> Any:
        given.loaded.append(kind)
        part = getattr(given, kind)
        if isinstance(part, Exception):
            raise part
        return part

    for module in (hybrid.solving, hybrid.llm.grid.shipped):
        monkeypatch.setattr(module, "adapter_for", lambda llm, wanted, rounds: None)
    monkeypatch.setattr(hybrid.solving, "connect", lambda spec, device: make("llm"))
    monkeypatch.setattr(hybrid.solving, "ChatProposer", lambda llm: llm)
    monkeypatch.setattr(
        hybrid.solving.Refiner, "from_pretrained", lambda source, device, tasks, numpy: make("refiner")
    )
    monkeypatch.chdir(tmp_path)
    return given
