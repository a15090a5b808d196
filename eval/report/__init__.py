"""What people read of a comparison: a table, Markdown, and one HTML page that needs no other file."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader
from rich.markup import escape
from rich.table import Table

from eval.metrics import Record, by_arm
from eval.report.plots import plots
from trm.grid import Grid, PuzzleError
from trm.tasks import Cell, Task, get

EXAMPLES = 2  # of solved and of failed puzzles for each task
NOTES = """solved: the exact rules hold (ARC: one of two guesses equals the label), with Wilson's interval.
exact: % that equals the label. steps, TFLOP (network and LLM, by count), LLM tokens and seconds: means over puzzles.
unread: drafts that held no grid. p: exact McNemar test against the hybrid on the same puzzles. trm+restarts has the
hybrid's arithmetic, its LLM's included, as further restarts; trm+seconds and llm+views have its seconds. The
adaptation of an ARC expert to a task is not counted: all arms of the network share it."""

# The columns of a task's table: a heading, and the cell for an arm's results `r` and its test `p` against the hybrid.
COLUMNS: dict[str, Callable[[Record, Record | None], str]] = {
    "solved": lambda r, p: f"{r['solved']}/{r['n']}",
    "% [95 %]": lambda r, p: "{:.1f} [{:.1f}, {:.1f}]".format(
        *(100 * v for v in (r["accuracy"], *r["ci95"]))
    ),
    "exact": lambda r, p: "–" if r["exact_match"] is None else f"{100 * r['exact_match']:.1f}",
    "steps": lambda r, p: f"{r['steps']:.1f}",
    "TFLOP": lambda r, p: f"{r['tflop']:.2f}",
    "tokens": lambda r, p: f"{r['llm_tokens']:.0f}",
    "s": lambda r, p: f"{r['seconds_per_puzzle']:.1f}",
    "unread": lambda r, p: f"{r['parse_failures']}/{r['drafts']}",
    "p": lambda r, p: "" if p is None else f"{p['p']:.3g}",
}
HEADINGS = ("arm", *COLUMNS)


def rows(results: Record, task: str) -> list[tuple[str, ...]]:
    """A task's table as text, under `HEADINGS`."""
    paired = results["paired"][task]
    return [
        (arm, *(column(found, paired.get(f"hybrid vs {arm}")) for column in COLUMNS.values()))
        for arm, found in results["tasks"][task].items()
    ]


def table(results: Record) -> Table:
    """All tasks in one table for a terminal."""
    drawn = Table(box=None, pad_edge=False)
    for name in ("task", *HEADINGS):
        drawn.add_column(name, no_wrap=True, justify="left" if name in ("task", "arm") else "right")
    for task in results["tasks"]:
        for number, row in enumerate(rows(results, task)):
            drawn.add_row("" if number else task, *map(escape, row))
    return drawn


def markdown(results: Record) -> str:
    lines = ["# Comparison", "", _setting(results), ""]
    for task in results["tasks"]:
        lines += [f"## {task}", "", "| " + " | ".join(HEADINGS) + " |", "|---" * len(HEADINGS) + "|"]
        lines += ["| " + " | ".join(row) + " |" for row in rows(results, task)]
        lines += [""]
        for arm, found in results["breakdown"][task].items():
            if found["by_step"]:
                steps = ", ".join(f"{s}: {v:.1%}" for s, v in found["by_step"].items())
                lines += [f"By step, {arm}: {steps}", ""]
    return "\n".join([*lines, NOTES.replace("\n", " "), ""])


def _setting(results: Record) -> str:
    about = results["environment"]
    options, llm = about["options"], about["llm"]
    if llm is not None and about["llm_parameters"] is None:
        llm += " (of unknown size: its arithmetic counts as none)"
    return (
        f"LLM {llm}, refiner {about['refiner']}, seed {about['seed']}, {options['drafts']} drafts, "
        f"{options['rounds']} rounds, {options['steps']} steps, {options['restarts']} restarts; "
        f"{', '.join(about['devices'])}, torch {about['torch']}, commit {about['commit']}"
    )


# -- the page ------------------------------------------------------------------------------------------------
def html(results: Record, records: Sequence[Record]) -> str:
    """The page: tables, plots, and examples from draft to answer."""
    template = Environment(
        loader=PackageLoader("eval.report", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    ).get_template("page.html.jinja")
    sections = [
        {
            "task": task,
            "rows": rows(results, task),
            "plots": plots(task, results, arms),
            "breakdown": _by_difficulty(results["breakdown"][task]),
            "examples": _examples(arms),
        }
        for task, arms in by_arm(records).items()
    ]
    about = json.dumps(results["environment"], indent=1)
    return template.render(
        setting=_setting(results), notes=NOTES, headings=HEADINGS, sections=sections, environment=about
    )


def _by_difficulty(breakdown: Record) -> list[Record]:
    """A table for each measure of difficulty: buckets as rows, arms as columns, puzzles solved in the cells."""
    found = {arm: own["difficulty"] for arm, own in breakdown.items()}
    tables = []
    for measure in sorted({measure for own in found.values() for measure in own}):
        buckets = {bucket for own in found.values() for bucket in own.get(measure, {})}
        counts = {
            bucket: [own.get(measure, {}).get(bucket) for own in found.values()]
            for bucket in sorted(buckets, key=_first_number)
        }
        tables.append({"measure": measure, "arms": list(found), "counts": counts})
    return tables


def _first_number(bucket: str) -> tuple[int, bool]:
    number = next(int(word) for word in bucket.split() if word.isdecimal())
    return number, not bucket.startswith("under")


# -- examples ------------------------------------------------------------------------------------------------
def _examples(arms: dict[str, list[Record]]) -> list[Record]:
    """Some solved and some failed puzzles of the hybrid, else of the first arm."""
    records = arms.get("hybrid") or next(iter(arms.values()))
    chosen = [r for r in records if r["solved"]][:EXAMPLES] + [r for r in records if not r["solved"]][
        :EXAMPLES
    ]
    return [{**record, "drawings": drawings(record)} for record in chosen]


def drawings(record: Record) -> dict[str, list[list[Record]]]:
    """The cells of a record's question, draft and answer, those changed in the draft marked; of the first input."""
    task: Task = get(record["task"])
    puzzle = task.read(record["question"])
    draft, answer = (_first_grid(task, puzzle, record[key]) for key in ("draft_answer", "answer"))

    def drawn(
        grid: Grid | None, question: Grid | None = None, before: Grid | None = None
    ) -> list[list[Record]]:
        if grid is None:
            return []
        cells: list[list[Cell]] = task.cells(grid, question)
        changed = (
            np.zeros(grid.shape, dtype=bool)
            if before is None or before.shape != grid.shape
            else grid != before
        )
        return [
            [{**vars(cell), "changed": bool(mark)} for cell, mark in zip(*pair, strict=True)]
            for pair in zip(cells, changed, strict=True)
        ]

    question = puzzle.grid
    return {
        "question": drawn(question),
        "draft": drawn(draft, question),
        "answer": drawn(answer, question, draft),
    }


def _first_grid(task: Task, puzzle: Any, text: Any) -> Grid | None:
    """The grid that a record holds as the task writes it, or as lists of candidates; None where there is none."""
    if text is None:
        return None
    if not isinstance(text, str):
        return np.array(text[0][0], dtype=np.uint8)
    try:
        return task.parse_answer(puzzle, text)[0]
    except PuzzleError:  # a draft of another shape
        return None
