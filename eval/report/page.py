"""The page of a comparison: one HTML file that needs no other, in light and dark, on a phone too."""

from __future__ import annotations

import json
from collections.abc import Sequence

from jinja2 import Environment, PackageLoader

from eval.arms import MAIN
from eval.metrics import Record, by_arm
from eval.report.gallery import gallery
from eval.report.plots import plots
from eval.report.tables import (
    HEADINGS,
    NOTES,
    about,
    facts,
    in_order,
    overlap_rows,
    rows,
    set_words,
)
from trm.tasks import get

MOST_SETS = 12  # of arms, in a table


def html(results: Record, records: Sequence[Record]) -> str:
    """Tables, plots, and a gallery of puzzles."""
    template = Environment(
        loader=PackageLoader("eval.report", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    ).get_template("page.html.jinja")
    arms = in_order({arm for found in results["tasks"].values() for arm in found})
    return template.render(
        facts=facts(results),
        notes=NOTES,
        headings=HEADINGS,
        arms={arm: about(arm) for arm in arms},
        main=MAIN,
        sections=[_section(task, results, arms) for task, arms in by_arm(records).items()],
        environment=json.dumps(results["environment"], indent=1),
    )


def _section(task: str, results: Record, arms: dict[str, list[Record]]) -> Record:
    overlap, title = results["overlap"][task], get(task).noun.partition(" ")[2]
    return {
        "task": task,
        "title": title[:1].upper() + title[1:],
        "headline": {arm: results["tasks"][task][arm] for arm in in_order(arms) if arm in MAIN},
        "rows": rows(results, task),
        "plots": plots(task, results, arms),
        "pairs": overlap_rows(results, task),
        "answered": overlap["n"],
        "sets": [
            (set_words(found["arms"], list(arms)), found["puzzles"]) for found in overlap["sets"][:MOST_SETS]
        ],
        "further_sets": len(overlap["sets"]) - MOST_SETS,
        "breakdown": _by_difficulty(results["breakdown"][task]),
        "examples": gallery(arms, overlap["sets"]),
    }


def _by_difficulty(breakdown: Record) -> list[Record]:
    """A table for each measure of difficulty: buckets as columns, arms as rows, puzzles solved in the cells."""
    found = {arm: breakdown[arm]["difficulty"] for arm in in_order(breakdown)}
    tables = []
    for measure in sorted({measure for own in found.values() for measure in own}):
        buckets = sorted(
            {bucket for own in found.values() for bucket in own.get(measure, {})}, key=_first_number
        )
        counts = {arm: [own.get(measure, {}).get(bucket) for bucket in buckets] for arm, own in found.items()}
        tables.append({"measure": measure, "buckets": buckets, "counts": counts})
    return tables


def _first_number(bucket: str) -> tuple[int, bool]:
    number = next(int(word) for word in bucket.split() if word.isdecimal())
    return number, not bucket.startswith("under")
