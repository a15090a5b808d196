"""Who answers, and with which library."""

from __future__ import annotations

import pytest

from hybrid.solving import Setup, needs_no_torch


@pytest.mark.parametrize(
    ("llm", "device", "task", "count", "numpy"),
    [
        ("none", "cpu", "sudoku", 4, True),
        ("http://localhost/v1", "cpu", "sudoku4", 1, True),
        ("none", "cpu", "maze", 1, False),  # large: a step of NumPy takes too long
        ("none", "cpu", "sudoku", 5, False),  # many: PyTorch is faster once it is loaded
        ("none", "cuda", "sudoku", 1, False),
        ("qwen", "cpu", "sudoku", 1, False),  # PyTorch is loaded for the language model anyway
        ("none", "cpu", "arc", 1, False),  # so it is for an adaptation
    ],
)
def test_a_few_puzzles_on_a_cpu_need_no_pytorch(
    llm: str, device: str, task: str, count: int, numpy: bool
) -> None:
    assert needs_no_torch(Setup(llm, "ckpt/trm.pt", device), {task}, count) is numpy
    assert not needs_no_torch(Setup(llm, "ckpt/trm.pt", device), None, None)
