"""Puzzles to try on the page, from trivial to hard.

`samples.json` holds three test puzzles of Sudoku-Extreme ("Extreme", with its rating of how hard they are), a maze of
this project's generator, and three evaluation tasks of ARC-AGI-1 (both collections: Apache-2.0).
"""

from __future__ import annotations

import json
from pathlib import Path

from trm import tasks
from trm.tasks.registry import SIZES

# What the samples that each task brings are called; those of other packages have numbers.
NAMES = {
    "sudoku": ("Trivial", "Easy", "Needs a search"),
    "sudoku4": ("8 clues", "6 clues", "4 clues"),
    "sudoku6": ("16 clues", "12 clues", "9 clues"),
    "maze": ("Small", "Wide"),
    "arc": ("Mirror", "Crop"),
}

Sample = dict[str, str]


def samples() -> list[Sample]:
    """Each with the keys task, name and question."""
    found = []
    for task in [*tasks.names(), *SIZES]:
        kind, names = tasks.get(task), NAMES.get(task, ())
        for number, puzzle in enumerate(kind.samples()):
            name = names[number] if number < len(names) else f"Sample {number + 1}"
            found.append({"task": task, "name": name, "question": kind.question_text(puzzle)})
    more: list[Sample] = json.loads((Path(__file__).parent / "samples.json").read_text(encoding="utf-8"))
    return found + more
