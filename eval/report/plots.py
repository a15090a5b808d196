"""The plots of a comparison's page, as SVG in the page's own colours, so that they follow light and dark."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from eval.metrics import Record
from eval.report.tables import in_order, set_words

Arms = dict[str, list[Record]]  # an arm's records on one task
WIDTH, HEIGHT = 4.8, 3.1  # inches; the page scales a plot to its column
ROW = 0.2  # inches, of an arm's name
MOST_SETS = 10  # of arms, in a plot
# Colours that stand for the page's own until the plot is text. Arms of a kind share one.
KINDS = {"hybrid": "#010101", "llm": "#020202", "trm": "#030303", "draft": "#040404"}
TEXT, SOFT, EDGE, OTHER = "#050505", "#060606", "#070707", "#080808"
CSS = {colour: kind for kind, colour in KINDS.items()}
CSS |= {TEXT: "text", SOFT: "soft", EDGE: "edge", OTHER: "other"}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    **dict.fromkeys(("axes.facecolor", "figure.facecolor"), "none"),
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), TEXT),
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), SOFT),
}
MARKERS = "osD^vP*Xd<>"


def plots(task: str, results: Record, arms: Arms) -> list[tuple[str, str]]:
    """A description and the SVG of each plot for which there is data; none where matplotlib is missing."""
    try:
        from matplotlib import rc_context  # of the `report` extra, without which there are still tables
        from matplotlib.figure import Figure
    except ImportError:
        return []
    found = {part: results[part][task] for part in ("tasks", "breakdown", "overlap")}
    ordered = {arm: arms[arm] for arm in in_order(arms)}
    drawn = []
    for draw in PLOTS:
        with rc_context({**STYLE, "svg.hashsalt": f"{task} {draw.__name__}"}):
            figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
            if (words := draw(figure, found, ordered)) is not None:
                file = io.StringIO()
                figure.savefig(file, format="svg", metadata={"Date": None})
                drawn.append((f"{task}: {words}", _for_page(file.getvalue())))
    return drawn


def _for_page(svg: str) -> str:
    """The drawing alone, in the page's colours, without names that another one has too."""
    svg = re.sub(
        r' id="[A-Za-z0-9.]+_\d+"| (width|height)="[\d.]+pt"|<metadata>.*?</metadata>', "", svg, flags=re.S
    )
    svg = re.sub("|".join(CSS), lambda found: f"var(--{CSS[found[0]]})", svg)
    return svg[svg.index("<svg") :].replace("<svg ", '<svg aria-hidden="true" ', 1)


def _colour(arm: str) -> str:
    return KINDS.get(re.split("[:+-]", arm.replace("beside", "draft"))[0], OTHER)


def _percent(found: Record) -> tuple[float, list[list[float]]]:
    """The share solved in percent, and its interval as lengths of error bars."""
    value, low, high = (100 * end for end in (found["accuracy"], *found["ci95"]))
    return value, [[max(0.0, value - low)], [max(0.0, high - value)]]


def _log_axis(axes: Any, label: str) -> None:
    """A logarithmic x axis with plain numbers."""
    from matplotlib.ticker import LogLocator

    axes.set(xscale="log", xlabel=label)
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()


def _accuracy(figure: Any, found: Record, arms: Arms) -> str:
    figure.set_figheight(0.9 + ROW * len(arms))
    axes = figure.subplots()
    for row, arm in enumerate(arms):
        value, error = _percent(found["tasks"][arm])
        axes.barh(row, value, height=0.62, color=_colour(arm))
        axes.errorbar(value, row, xerr=error, color=TEXT, capsize=2.5, linewidth=1)
    axes.set(yticks=range(len(arms)), yticklabels=list(arms), ylim=(len(arms) - 0.4, -0.6), xlim=(0, 101))
    axes.set(xlabel="solved, % (95 % interval)", title="Solved by arm")
    return "share of puzzles that each arm solves, with 95 % intervals; the table of arms has the figures"


def _seconds(figure: Any, found: Record, arms: Arms) -> str | None:
    """Names stand to the right, in the order of the points' heights, so that they do not cover each other."""
    spent = {arm: [sum(r["seconds"].values()) for r in rows] for arm, rows in arms.items()}
    timed = [arm for arm, seconds in spent.items() if sum(seconds) > 0]
    if not timed:
        return None
    figure.set_figheight(max(HEIGHT, 0.8 + 0.85 * ROW * len(timed)))
    axes = figure.subplots()
    place = {arm: (float(np.mean(spent[arm])), 100 * found["tasks"][arm]["accuracy"]) for arm in timed}

    def height(arm: str) -> tuple[float, float]:
        x, y = place[arm]
        return -y, x if y < 50 else -x  # so that lines to the names do not cross

    for number, arm in enumerate(sorted(timed, key=height)):
        (x, y), (low, high) = place[arm], np.quantile(spent[arm], [0.25, 0.75])
        axes.plot([low, high], [y, y], color=_colour(arm), alpha=0.5, linewidth=4, solid_capstyle="round")
        axes.errorbar(x, y, yerr=_percent(found["tasks"][arm])[1], color=_colour(arm), fmt="o", capsize=2.5)
        axes.annotate(
            arm,
            (x, y),
            (1.05, 1 - (number + 0.5) / len(timed)),
            textcoords="axes fraction",
            va="center",
            color=_colour(arm),
            arrowprops={
                "arrowstyle": "-",
                "color": _colour(arm),
                "alpha": 0.4,
                "linewidth": 0.8,
                "shrinkB": 3,
                "relpos": (0, 0.5),
            },
        )
    axes.set(ylim=(-4, 104), ylabel="solved, %", title="Solved against seconds")
    _log_axis(axes, "seconds a puzzle (mean; band: middle half of the puzzles)")
    words = [f"{arm} {place[arm][1]:.0f} % in {place[arm][0]:.2g} s" for arm in timed]
    return f"share solved against mean seconds a puzzle: {', '.join(words)}"


def _overlap(figure: Any, found: Record, arms: Arms) -> str | None:
    """For each set of arms a bar of the puzzles that these alone solve, above dots that name the arms."""
    sets = found["overlap"]["sets"][:MOST_SETS]
    if len(arms) < 2 or not sets:
        return None
    figure.set_figheight(1.7 + ROW * len(arms))
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[1.3, 0.3 + ROW * len(arms)])
    names = list(arms)
    for column, one in enumerate(sets):
        bar = above.bar(column, len(one["puzzles"]), width=0.55, color=SOFT)
        above.bar_label(bar, padding=1)
        members = [names.index(arm) for arm in one["arms"]]
        below.plot([column] * len(names), range(len(names)), "o", color=EDGE, markersize=4.5)
        if members:
            below.plot([column] * 2, [min(members), max(members)], color=SOFT, linewidth=1.2, zorder=1)
        for row in members:
            below.plot(column, row, "o", color=_colour(names[row]), markersize=6.5)
    above.set(ylabel="puzzles", title="Who solves the same puzzles")
    above.margins(y=0.18)
    above.tick_params(bottom=False)
    below.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.4, -0.6))
    below.set(xticks=[], xlim=(-0.6, max(len(sets), 4) - 0.4))
    below.spines[:].set_visible(False)
    below.tick_params(left=False)
    words = [f"{len(one['puzzles'])} by {set_words(one['arms'], names)}" for one in sets]
    return f"puzzles by the set of arms that solve them: {'; '.join(words)}"


def _compute(figure: Any, found: Record, arms: Arms) -> str | None:
    """The share solved by puzzles that took at most so much arithmetic."""
    axes, drawn = figure.subplots(), False
    for name, style in (("trm", "-"), ("trm+restarts", "--"), ("hybrid", "-")):
        records = arms.get(name, [])
        spent = sorted(sum(r["tflop"].values()) for r in records if r["solved"])
        if len(spent) > 1 and spent[-1] > 0:
            share = [100 * (i + 1) / len(records) for i in range(len(spent))]
            axes.step([spent[0], *spent], [0, *share], style, where="post", label=name, color=_colour(name))
            drawn = True
    if not drawn:
        return None
    axes.set(ylim=(0, 104), ylabel="solved, %", title="Solved within a compute budget")
    _log_axis(axes, "TFLOP a puzzle, network and language model")
    axes.legend()
    return "share solved within a budget of arithmetic"


def _steps(figure: Any, found: Record, arms: Arms) -> str | None:
    curves = {arm: found["breakdown"][arm]["by_step"] for arm in arms}
    curves = {arm: curve for arm, curve in curves.items() if len(curve) > 1 and any(curve.values())}
    if not curves:
        return None
    axes = figure.subplots()
    for number, (arm, curve) in enumerate(curves.items()):
        steps, share = [int(step) for step in curve], [100 * value for value in curve.values()]
        axes.plot(
            steps, share, marker=MARKERS[number % len(MARKERS)], label=arm, color=_colour(arm), alpha=0.8
        )
    axes.set(ylim=(-4, 104), xlabel="supervision steps", ylabel="solved, %", title="Solved by step")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return "share solved within so many supervision steps, for arms without restarts"


def _calibration(figure: Any, found: Record, arms: Arms) -> str | None:
    records = [r for r in arms.get("trm", []) if r["confidence"] is not None]
    if not records:
        return None
    axes = figure.subplots()
    confidence, solved = [r["confidence"] for r in records], [r["solved"] for r in records]
    draw_calibration(axes, confidence, solved, KINDS["trm"], EDGE)
    axes.set_title("Calibration of a cold start")
    words = [f"{n} at {mean:.2f}: {share:.0%}" for n, mean, share in by_tenths(confidence, solved)]
    return f"puzzles at a mean confidence of the network, and the share of them solved: {', '.join(words)}"


def by_tenths(confidence: Sequence[float], solved: Sequence[bool]) -> list[tuple[int, float, float]]:
    """For each tenth of confidence that occurs: how many answers, their mean confidence, the share solved."""
    tenths: dict[int, list[tuple[float, bool]]] = {}
    for pair in zip(confidence, solved, strict=True):
        tenths.setdefault(min(9, int(10 * pair[0])), []).append(pair)
    return [
        (len(pairs), sum(c for c, _ in pairs) / len(pairs), sum(hit for _, hit in pairs) / len(pairs))
        for _, pairs in sorted(tenths.items())
    ]


def draw_calibration(
    axes: Any,
    confidence: Sequence[float],
    solved: Sequence[bool],
    colour: str = "#c2607a",
    line: str = "#bbbbbb",
) -> None:
    """The share of answers that are right against their confidence."""
    axes.plot([0, 1], [0, 100], color=line, linestyle="--")
    for n, mean, share in by_tenths(confidence, solved):
        axes.scatter(
            [mean], [100 * share], s=20 + 200 * n / len(confidence), color=colour, clip_on=False, zorder=3
        )
    axes.set(xlim=(-0.02, 1.02), ylim=(-2, 102), xlabel="confidence of the network (area: puzzles)")
    axes.set_ylabel("solved, %")


PLOTS: tuple[Callable[[Any, Record, Arms], str | None], ...] = (
    _accuracy,
    _seconds,
    _overlap,
    _compute,
    _steps,
    _calibration,
)
