"""The figures of a comparison as tables: for a terminal, as Markdown, and as rows for the page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from rich.markup import escape
from rich.table import Table

from eval.metrics import Record

# What each arm is, in the order in which arms are shown.
ARMS = {
    "hybrid": "drafts of the language model refined beside a cold start, with restarts",
    "llm": "the language model alone: one draft, in ARC its two best candidates",
    "trm": "the network alone, one cold start",
    "hybrid:pool": "candidates of both ranked together, nothing refined from a draft",
    "llm:tuned": "the tuned language model, not fitted to the puzzle",
    "llm:plain": "the language model as it came",
    "llm+views": "the language model with the hybrid's seconds, spent on further views",
    "llm-best-of-k:vote": "several replies of the language model, picked by majority",
    "llm-best-of-k:score": "the same replies, picked by the network's score",
    "llm-best-of-k:rules": "the same replies, picked by the rules",
    "trm+restarts": "the network with the hybrid's arithmetic, the language model's included, as restarts",
    "trm+seconds": "the network with the hybrid's seconds, as restarts",
    "draft:llm": "an attempt from the language model's draft, without a cold start",
    "draft:blank": "an attempt from a blank draft",
    "draft:random": "an attempt from random symbols",
    "draft:oracle": "an attempt from the label",
    "exact": "a classical solver",
}
SWEEPS = {
    "draft:oracle": "an attempt from the label with {} % of its free cells wrong at random",
    "draft:consistent": "an attempt from the label with {} % of its free cells wrong in the same way",
    "beside:oracle": "a draft as of draft:oracle@{} beside a cold start",
    "beside:consistent": "a draft as of draft:consistent@{} beside a cold start",
}
NOTES = {
    "solved": "The exact rules hold; in ARC, one of two guesses equals the label.",
    "% [95 %]": "The share solved, with Wilson's interval.",
    "exact": "The share of answers that equal the label.",
    "steps, TFLOP, tokens, s": (
        "Supervision steps, arithmetic of network and language model (by count), the language model's tokens, and "
        "seconds: means over puzzles. Drafts from a file have the seconds of the machine that made them. The "
        "adaptation of an ARC expert to a puzzle is not counted, because all arms of the network share it."
    ),
    "unread": "Drafts that held no grid.",
    "p": "The exact McNemar test against the hybrid on the same puzzles.",
}

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


def about(arm: str) -> str:
    """What an arm is, in words."""
    name, at, percent = arm.partition("@")
    return SWEEPS[name].format(percent) if at else ARMS[arm]


def in_order(arms: Iterable[str]) -> list[str]:
    """Arms as they are shown: the main ones, then controls beside those that they are controls of."""
    order = list(dict.fromkeys([*ARMS, *SWEEPS]))
    return sorted(arms, key=lambda arm: (arm == "exact", order.index(arm.partition("@")[0]), arm))


def rows(results: Record, task: str) -> list[tuple[str, ...]]:
    """A task's table as text, under `HEADINGS`."""
    found, paired = results["tasks"][task], results["paired"][task]
    return [
        (arm, *(column(found[arm], paired.get(f"hybrid vs {arm}")) for column in COLUMNS.values()))
        for arm in in_order(found)
    ]


def overlap_rows(results: Record, task: str) -> list[tuple[str, ...]]:
    """Arms as rows and columns: how many puzzles the row's arm solves and the column's does not."""
    counts = results["overlap"][task]["only_first"]
    names = in_order(counts)
    return [(arm, *("" if arm == other else str(counts[arm][other]) for other in names)) for arm in names]


def set_words(arms: Sequence[str], every: Sequence[str]) -> str:
    """A set of arms in words: `every arm`, `all but llm`, `hybrid, trm`, `no arm`."""
    missing = in_order([arm for arm in every if arm not in arms])
    if not missing or not arms:
        return "no arm" if missing else "every arm"
    return f"all but {', '.join(missing)}" if len(missing) < len(arms) else ", ".join(in_order(arms))


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
    lines = ["# Comparison", "", setting(results), ""]
    for task in results["tasks"]:
        lines += [f"## {task}", "", *_markdown_table(HEADINGS, rows(results, task))]
        for arm, found in results["breakdown"][task].items():
            if found["by_step"]:
                steps = ", ".join(f"{s}: {v:.1%}" for s, v in found["by_step"].items())
                lines += [f"By step, {arm}: {steps}", ""]
        pairs = overlap_rows(results, task)
        if len(pairs) > 1:
            lines += ["Puzzles that the row's arm solves and the column's does not:", ""]
            lines += _markdown_table(("", *(row[0] for row in pairs)), pairs)
    lines += [f"- {name}: {words}" for name, words in NOTES.items()]
    return "\n".join([*lines, ""])


def _markdown_table(headings: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(headings) + " |", "|---" * len(headings) + "|"]
    return [*lines, *("| " + " | ".join(row) + " |" for row in body), ""]


def facts(results: Record) -> dict[str, str]:
    """What the whole comparison was run with."""
    environment = results["environment"]
    options, llm = environment["options"], environment["llm"]
    if llm is not None and environment["llm_parameters"] is None:
        llm += " (of unknown size: its arithmetic counts as none)"
    counts = ", ".join(f"{options[name]} {name}" for name in ("drafts", "rounds", "steps", "restarts"))
    return {
        "LLM": str(llm),
        "refiner": str(environment["refiner"]),
        "search": f"{counts}, seed {environment['seed']}",
        "machine": f"{', '.join(environment['devices'])}, torch {environment['torch']}",
        "commit": str(environment["commit"]),
    }


def setting(results: Record) -> str:
    return "; ".join(f"{name} {value}" for name, value in facts(results).items())
