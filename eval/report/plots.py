"""The plots of a comparison's page, as PNG images in base64."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from typing import Any

from eval.metrics import Record

Arms = dict[str, list[Record]]  # an arm's records on one task


def plots(task: str, results: Record, arms: Arms) -> list[tuple[str, str]]:
    """Title and image of each plot for which there is data; none where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure  # of the `report` extra, without which there are still tables
    except ImportError:
        return []
    images = []
    for draw in PLOTS:
        figure = Figure(figsize=(8, 3.6), dpi=110, layout="constrained")
        axes = figure.subplots()
        if not draw(axes, task, results, arms):
            continue
        axes.spines[["top", "right"]].set_visible(False)
        file = io.BytesIO()
        figure.savefig(file, format="png")
        images.append((axes.get_title(), base64.b64encode(file.getvalue()).decode()))
    return images


def _accuracy(axes: Any, task: str, results: Record, arms: Arms) -> bool:
    found = results["tasks"][task]
    names = list(found)[::-1]
    values = [100 * found[name]["accuracy"] for name in names]
    intervals = [[100 * end for end in found[name]["ci95"]] for name in names]
    errors = [
        [max(0.0, value - low) for value, (low, _) in zip(values, intervals, strict=True)],
        [max(0.0, high - value) for value, (_, high) in zip(values, intervals, strict=True)],
    ]
    axes.barh(names, values, xerr=errors, color="#7aa6c2", ecolor="#333", capsize=2)
    axes.set(xlim=(0, 100), xlabel="solved, % (95 % interval)", title=f"{task}: solved by arm")
    return True


def _compute(axes: Any, task: str, results: Record, arms: Arms) -> bool:
    """The share solved by puzzles that took at most so much arithmetic."""
    drawn = False
    for name in ("trm", "trm+restarts", "hybrid"):
        records = arms.get(name, [])
        spent = sorted(sum(r["tflop"].values()) for r in records if r["solved"])
        if any(spent):
            share = [100 * (i + 1) / len(records) for i in range(len(spent))]
            axes.step([spent[0], *spent], [0, *share], where="post", label=name)
            drawn = True
    if drawn:
        axes.set(ylim=(0, 100), xlabel="TFLOP a puzzle, network and LLM", ylabel="solved, %")
        axes.set(xscale="log", title=f"{task}: solved within a compute budget")
        axes.legend()
    return drawn


def _steps(axes: Any, task: str, results: Record, arms: Arms) -> bool:
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


def _calibration(axes: Any, task: str, results: Record, arms: Arms) -> bool:
    records = [r for r in arms.get("trm", []) if r["confidence"] is not None]
    if not records:
        return False
    draw_calibration(axes, [r["confidence"] for r in records], [r["solved"] for r in records])
    axes.set_title(f"{task}: calibration of a cold pass")
    return True


def by_tenths(confidence: Sequence[float], solved: Sequence[bool]) -> list[tuple[int, float, float]]:
    """For each tenth of confidence that occurs: how many answers, their mean confidence, the share solved."""
    tenths: dict[int, list[tuple[float, bool]]] = {}
    for pair in zip(confidence, solved, strict=True):
        tenths.setdefault(min(9, int(10 * pair[0])), []).append(pair)
    return [
        (len(pairs), sum(c for c, _ in pairs) / len(pairs), sum(hit for _, hit in pairs) / len(pairs))
        for _, pairs in sorted(tenths.items())
    ]


def draw_calibration(axes: Any, confidence: Sequence[float], solved: Sequence[bool]) -> None:
    """The share of answers that are right against their confidence."""
    axes.plot([0, 1], [0, 100], color="#bbb", linestyle="--")
    for n, mean, share in by_tenths(confidence, solved):
        axes.scatter([mean], [100 * share], s=20 + 200 * n / len(confidence), color="#c2607a")
    axes.set(xlim=(-0.02, 1.02), ylim=(-2, 102), xlabel="confidence of the network (area: puzzles)")
    axes.set_ylabel("solved, %")


PLOTS: tuple[Callable[[Any, str, Record, Arms], bool], ...] = (_accuracy, _compute, _steps, _calibration)
