"""Training runs side by side: held-out accuracy and loss over minutes of training, as one picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from trm.config import ConfigError
from trm.evaluation.statistics import wilson
from trm.training.run_folder import read_metrics

Run = tuple[str, Sequence[Mapping[str, Any]]]  # its name, and its metrics.jsonl


class Point(NamedTuple):
    """One evaluation of a run: held-out puzzles that are exactly right, in per cent, with their 95 % interval."""

    step: int
    minutes: float
    percent: float
    low: float
    high: float

    @property
    def interval(self) -> str:
        return f"[{self.low:.1f}, {self.high:.1f}]"


def point_of(line: Mapping[str, Any]) -> Point:
    """The evaluation in a line of metrics.jsonl that has `held_out`."""
    n, share = line["held_out"]["n"], line["held_out"]["accuracy"]
    low, high = wilson(round(share * n), n)
    return Point(line["step"], line["seconds"] / 60, 100 * share, 100 * low, 100 * high)


def points(lines: Sequence[Mapping[str, Any]]) -> list[Point]:
    """The evaluations of a run."""
    return [point_of(line) for line in lines if line.get("held_out")]


def names_of(runs: Sequence[Path]) -> list[str]:
    """What to call run folders (or files in them): their last names, or the whole paths where those are alike."""
    folders = [run.resolve().parent if run.name == "metrics.jsonl" else run.resolve() for run in runs]
    names = [folder.name for folder in folders]
    return names if len(set(names)) == len(names) else list(map(str, runs))


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Runs by name. Raises ConfigError."""
    return list(zip(names_of(paths), map(read_metrics, paths), strict=True))


def format_table(runs: Sequence[Run]) -> list[str]:
    """The evaluations of all runs as lines."""
    return ["run                  step  minutes  held out, % exact"] + [
        f"{name:18} {point.step:6d} {point.minutes:8.1f}  {point.percent:5.1f} {point.interval}"
        for name, lines in runs
        for point in points(lines)
    ]


def draw(runs: Sequence[Run], out: Path) -> None:
    """Draw named runs into a file, whose ending says the kind of picture (.png, .svg, .pdf). Raises ConfigError."""
    if out.is_dir():
        raise ConfigError(f"{out}: is a folder, expected a .png, .svg or .pdf file")
    try:
        from matplotlib.figure import Figure  # an optional dependency
    except ImportError:
        raise ConfigError("no plots without matplotlib: pip install 'hybrid-trm[report]'") from None
    figure = Figure(figsize=(10, 4), layout="constrained")
    held_out, loss = figure.subplots(1, 2)
    for name, lines in runs:
        if not lines:
            raise ConfigError(f"{name}: no line of a run's metrics, expected at least one")
        if evaluations := points(lines):
            _, minutes, percent, low, high = zip(*evaluations, strict=True)
            (drawn,) = held_out.plot(minutes, percent, marker="o", label=name)
            held_out.fill_between(minutes, low, high, alpha=0.15, color=drawn.get_color())
        steps = [line for line in lines if "loss" in line]
        loss.plot([line["seconds"] / 60 for line in steps], [line["loss"] for line in steps], label=name)
    held_out.set(xlabel="minutes of training", ylabel="held out, % exact [95 %]", ylim=(0, 100))
    loss.set(xlabel="minutes of training", ylabel="loss")
    for side in (held_out, loss):
        side.grid(alpha=0.3)
        if side.get_legend_handles_labels()[0]:
            side.legend(frameon=False)
    try:
        figure.savefig(out, dpi=120)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{out}: {getattr(error, 'strerror', None) or error}") from None
