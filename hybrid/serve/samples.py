"""Puzzles to try on the page, from easy to hard."""

from __future__ import annotations

from trm import tasks

SAMPLES = [
    {"task": name, "name": f"sample {number}", "question": tasks.get(name).question_text(puzzle)}
    for name in tasks.names()
    for number, puzzle in enumerate(tasks.get(name).samples(), 1)
]
