"""What people read of a comparison: a table, Markdown, and one HTML page that needs nothing beside it."""

from __future__ import annotations

import base64
import html as escape
import io
import json
from collections.abc import Callable, Sequence
from typing import Any

from rich.markup import escape as escape_markup
from rich.table import Table

from eval.metrics import Record, by_arm

COLUMNS = ("arm", "solved", "% [95 %]", "exact", "steps", "TFLOP", "tokens", "s", "unread", "p")
# ARC's own colours, 0 to 9.
ARC = ("#000", "#0074d9", "#ff4136", "#2ecc40", "#ffdc00", "#aaa", "#f012be", "#ff851b", "#7fdbff", "#870c25")
EXAMPLES = 2  # of solved and of failed puzzles a task
NOTES = """solved: the exact rules hold (ARC: one of two attempts equals the label), with Wilson's interval.
exact: % that equals the label. steps, TFLOP (network and LLM, by count), LLM tokens and seconds: means a
puzzle. unread: drafts that held no grid. p: exact McNemar test against the hybrid on the same puzzles.
trm+restarts has the hybrid's arithmetic, its LLM's included, as further restarts. What fits an ARC expert to a
task is not counted: all arms of the network share it."""


def rows(results: Record, task: str) -> list[tuple[str, ...]]:
    """A task's table, as text."""
    made: list[tuple[str, ...]] = []
    for arm, f in results["tasks"][task].items():
        paired = results["paired"][task].get(f"hybrid vs {arm}")
        low, high = f["ci95"]
        made.append(
            (
                arm,
                f"{f['solved']}/{f['n']}",
                f"{100 * f['accuracy']:.1f} [{100 * low:.1f}, {100 * high:.1f}]",
                "–" if f["exact_match"] is None else f"{100 * f['exact_match']:.1f}",
                f"{f['steps']:.1f}",
                f"{f['tflop']:.2f}",
                f"{f['llm_tokens']:.0f}",
                f"{f['seconds_per_puzzle']:.1f}",
                f"{f['parse_failures']}/{f['drafts']}",
                "" if paired is None else f"{paired['p']:.3g}",
            )
        )
    return made


def table(results: Record) -> Table:
    """All tasks in one table for a terminal."""
    made = Table(box=None, pad_edge=False)
    for name in ("task", *COLUMNS):
        made.add_column(name, no_wrap=True, justify="left" if name in ("task", "arm") else "right")
    for task in results["tasks"]:
        for number, row in enumerate(rows(results, task)):
            made.add_row("" if number else task, *(escape_markup(cell) for cell in row))
    return made


def _setting(results: Record) -> str:
    about = results["environment"]
    options = about["options"]
    sized = about["llm"] is None or about["llm_parameters"] is not None
    llm = about["llm"] if sized else f"{about['llm']} (of unknown size: its arithmetic counts as none)"
    return (
        f"LLM {llm}, refiner {about['refiner']}, seed {about['seed']}, {options['drafts']} drafts, "
        f"{options['rounds']} rounds, {options['steps']} steps, {options['restarts']} restarts; "
        f"{', '.join(about['devices'])}, torch {about['torch']}, commit {about['commit']}"
    )


def markdown(results: Record) -> str:
    lines = ["# Comparison", "", _setting(results), ""]
    for task in results["tasks"]:
        lines += [f"## {task}", "", "| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
        lines += ["| " + " | ".join(row) + " |" for row in rows(results, task)]
        lines += [""]
        for arm, found in results["breakdown"][task].items():
            if found["by_step"]:
                steps = ", ".join(f"{s}: {v:.1%}" for s, v in found["by_step"].items())
                lines += [f"By step, {arm}: {steps}", ""]
    return "\n".join([*lines, NOTES.replace("\n", " "), ""])


# -- the page ------------------------------------------------------------------------------------------------
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto }
th, td { padding: .25rem .6rem; text-align: right }
th:first-child, td:first-child { text-align: left } tr:nth-child(even) td { background: #f5f5f5 }
th { border-bottom: 2px solid #888 } img { max-width: 100%; margin: .5rem 0 } .note { color: #555 }
.case { display: flex; gap: 1.5rem; flex-wrap: wrap; margin: .6rem 0 1.4rem }
.case figure { margin: 0 } figcaption { font-size: 13px; color: #555; margin-bottom: .2rem }
.grid { border-collapse: collapse; margin: 0; display: table } .grid td { width: 1.15em; height: 1.15em; padding: 0;
text-align: center; font: 12px/1 ui-monospace, monospace; border: 1px solid #ccc; background: #fff !important }
.grid td.given { background: #e8e8e8 !important; font-weight: 600 }
.grid td.changed { background: #cfe8ff !important }
.grid td.wall { background: #333 !important } .grid td.path { background: #ffe08a !important }
.ok { color: #17692b } .bad { color: #a11 }
"""


def html(results: Record, records: Sequence[Record]) -> str:
    """The page: tables, plots, and examples from draft to answer."""
    sections = []
    for task, arms in by_arm(records).items():
        head = "".join(f"<th>{name}</th>" for name in COLUMNS)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in rows(results, task)
        )
        plots = "".join(_image(draw, task, results, arms) for draw in PLOTS)
        sections.append(
            f"<h2>{task}</h2><table><tr>{head}</tr>{body}</table>{plots}{_breakdown(results, task)}{_gallery(arms)}"
        )
    about = escape.escape(json.dumps(results["environment"], indent=1))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Comparison</title><style>{STYLE}</style>'
        f"<h1>Comparison</h1><p>{escape.escape(_setting(results))}</p><p class=note>{NOTES}</p>"
        f"{''.join(sections)}<h2>Setting</h2><pre>{about}</pre></html>\n"
    )


def _breakdown(results: Record, task: str) -> str:
    """Solved by difficulty, arms as columns."""
    found = {arm: one["difficulty"] for arm, one in results["breakdown"][task].items()}
    kinds = sorted({kind for one in found.values() for kind in one})
    made = ""
    for kind in kinds:
        buckets = sorted({b for one in found.values() for b in one.get(kind, {})}, key=_first_number)
        head = "".join(f"<th>{arm}</th>" for arm in found)
        made += f"<h3>By {kind}</h3><table><tr><th>{kind}</th>{head}</tr>"
        for bucket in buckets:
            cells = (one.get(kind, {}).get(bucket) for one in found.values())
            made += f"<tr><td>{bucket}</td>" + "".join(
                f"<td>{c['solved']}/{c['n']}</td>" if c else "<td></td>" for c in cells
            )
            made += "</tr>"
        made += "</table>"
    return made


def _first_number(bucket: str) -> tuple[int, bool]:
    number = next(int(word) for word in bucket.split() if word.isdecimal())
    return number, not bucket.startswith("under")


# -- plots ---------------------------------------------------------------------------------------------------
Draw = Callable[[Any, str, Record, dict[str, list[Record]]], bool]


def _image(draw: Draw, task: str, results: Record, arms: dict[str, list[Record]]) -> str:
    """A plot as an image inside the page; nothing where there is nothing to show."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return "<p class=note>No plots: matplotlib is not installed (pip install 'hybrid-trm[report]').</p>"
    figure = Figure(figsize=(8, 3.6), dpi=110, layout="constrained")
    axes = figure.subplots()
    if not draw(axes, task, results, arms):
        return ""
    axes.spines[["top", "right"]].set_visible(False)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="{escape.escape(axes.get_title())}" src="data:image/png;base64,{data}"><br>'


def _bars(axes: Any, task: str, results: Record, arms: dict[str, list[Record]]) -> bool:
    found = results["tasks"][task]
    names = list(found)[::-1]
    values = [100 * found[name]["accuracy"] for name in names]
    errors = [
        [max(0.0, v - 100 * found[n]["ci95"][0]) for n, v in zip(names, values, strict=True)],
        [max(0.0, 100 * found[n]["ci95"][1] - v) for n, v in zip(names, values, strict=True)],
    ]
    axes.barh(names, values, xerr=errors, color="#7aa6c2", ecolor="#333", capsize=2)
    axes.set(xlim=(0, 100), xlabel="solved, % (95 % interval)", title=f"{task}: solved by arm")
    return True


def _compute(axes: Any, task: str, results: Record, arms: dict[str, list[Record]]) -> bool:
    """Share solved by puzzles that took at most so much arithmetic."""
    drawn = False
    for name in ("trm", "trm+restarts", "hybrid"):
        rows_ = arms.get(name, [])
        spent = sorted(sum(r["tflop"].values()) for r in rows_ if r["solved"])
        if not spent or not any(spent):
            continue
        share = [100 * (i + 1) / len(rows_) for i in range(len(spent))]
        axes.step([spent[0], *spent], [0, *share], where="post", label=name)
        drawn = True
    if drawn:
        axes.set(ylim=(0, 100), xlabel="TFLOP a puzzle, network and LLM", ylabel="solved, %")
        axes.set(xscale="log", title=f"{task}: solved within a compute budget")
        axes.legend()
    return drawn


def _steps(axes: Any, task: str, results: Record, arms: dict[str, list[Record]]) -> bool:
    drawn = False
    for name, found in results["breakdown"][task].items():
        curve = found["by_step"]
        if len(curve) > 1:
            axes.plot([int(s) for s in curve], [100 * v for v in curve.values()], marker="o", label=name)
            drawn = True
    if drawn:
        axes.set(
            ylim=(0, 100), xlabel="supervision steps", ylabel="solved, %", title=f"{task}: solved by step"
        )
        axes.legend()
    return drawn


def _calibration(axes: Any, task: str, results: Record, arms: dict[str, list[Record]]) -> bool:
    rows_ = [r for r in arms.get("trm", []) if r["confidence"] is not None]
    if not rows_:
        return False
    bins = [[r for r in rows_ if i <= min(9, int(10 * r["confidence"])) < i + 1] for i in range(10)]
    used = [b for b in bins if b]
    said = [sum(r["confidence"] for r in b) / len(b) for b in used]
    true = [100 * sum(r["solved"] for r in b) / len(b) for b in used]
    axes.plot([0, 1], [0, 100], color="#bbb", linestyle="--")
    axes.scatter(said, true, s=[20 + 200 * len(b) / len(rows_) for b in used], color="#c2607a")
    axes.set(xlim=(-0.02, 1.02), ylim=(-2, 102), xlabel="confidence of the network (area: puzzles)")
    axes.set(ylabel="solved, %", title=f"{task}: calibration of a cold pass")
    return True


PLOTS: tuple[Draw, ...] = (_bars, _compute, _steps, _calibration)


# -- examples ------------------------------------------------------------------------------------------------
def _gallery(arms: dict[str, list[Record]]) -> str:
    """Question, draft and answer of some solved and some failed puzzles of the hybrid, else of the first arm."""
    rows_ = arms.get("hybrid") or next(iter(arms.values()))
    shown = [r for r in rows_ if r["solved"]][:EXAMPLES] + [r for r in rows_ if not r["solved"]][:EXAMPLES]
    made = f"<h3>From draft to answer ({rows_[0]['arm']})</h3>"
    for r in shown:
        question, answer = cells(r["task"], r["question"]), cells(r["task"], r["answer"])
        draft = cells(r["task"], r["draft_answer"])
        said = f"{r['status']} by {r['source']}, {r['steps']} steps, {r['restarts']} restarts"
        if r["violations"]:
            said += f": {'; '.join(r['violations'][:2])}"
        state = "ok" if r["solved"] else "bad"
        name = escape.escape(r["id"])
        made += f'<p><b>{name}</b> <span class="{state}">{escape.escape(said)}</span></p><div class=case>'
        for name, grid, before in (
            ("question", question, None),
            ("draft", draft, None),
            ("answer", answer, draft),
        ):
            drawn = (
                _grid(grid, question, before, r["task"])
                if grid
                else "<p class=note>none that could be read</p>"
            )
            made += f"<figure><figcaption>{name}</figcaption>{drawn}</figure>"
        made += "</div>"
    return made


def cells(task: str, text: Any) -> list[list[str]]:
    """The rows of a record's grid, one symbol a cell; [] where there is none. Of ARC the first input's."""
    if text is None:
        return []
    if task == "sudoku":
        return [list(text[at : at + 9]) for at in range(0, 81, 9)]
    if task == "maze":
        return [list(line) for line in text.split("\n")]
    if isinstance(text, str) and not text.startswith(("{", "[")):  # a draft, as the task writes grids
        return [line.split() for line in text.partition("\n\n")[0].split("\n")]
    found = json.loads(text) if isinstance(text, str) else text
    while isinstance(found, dict):
        found = found["test"][0]["input"]
    while found and isinstance(found[0][0], list):
        found = found[0]
    return [[str(cell) for cell in row] for row in found]


def _grid(grid: list[list[str]], question: list[list[str]], before: list[list[str]] | None, task: str) -> str:
    made = ""
    for y, row in enumerate(grid):
        made += "<tr>"
        for x, cell in enumerate(row):
            style = f' style="background:{ARC[int(cell)]} !important"' if task == "arc" else ""
            kind = _kind(cell, _at(question, y, x), _at(before or [], y, x), task)
            shown = "" if task == "arc" or cell in ".0# " else escape.escape(cell)
            made += f'<td class="{kind}"{style}>{shown}</td>'
        made += "</tr>"
    return f'<table class="grid">{made}</table>'


def _at(grid: list[list[str]], y: int, x: int) -> str:
    return grid[y][x] if y < len(grid) and x < len(grid[y]) else ""


def _kind(cell: str, asked: str, drafted: str, task: str) -> str:
    if task == "maze":
        return {"#": "wall", "o": "path"}.get(cell, "")
    if task == "sudoku" and asked not in ".0":
        return "given"
    return "changed" if drafted and drafted != cell else ""
