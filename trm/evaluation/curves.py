"""Training runs side by side: held-out accuracy and loss against minutes of training, as one picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trm.config import ConfigError
from trm.evaluation.statistics import wilson


def read(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run folder's metrics.jsonl (or of such a file), but for a last one that a kill cut off.

    Raises ConfigError.
    """
    path = folder / "metrics.jsonl" if folder.is_dir() else folder
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    made = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            one = json.loads(line)
        except ValueError:
            if not line.endswith("\n"):
                break
            one = None
        if not isinstance(one, dict) or "seconds" not in one:
            raise ConfigError(f"{path}, line {number}: {line[:40]!r}, expected metrics of a run")
        made.append(one)
    return made


def drop_behind(folder: Path, step: int) -> None:
    """Leave in a run folder's metrics.jsonl the whole lines up to a step: what goes on from there writes the others
    again, and what a kill cut off would spoil the line that comes after it.
    """
    from trm.files import replacing

    def stays(line: bytes) -> bool:
        try:
            return line.endswith(b"\n") and bool(json.loads(line)["step"] <= step)
        except (ValueError, KeyError, TypeError):  # no line of a run: for `read` to say
            return True

    path = folder / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
    kept = [line for line in lines if stays(line)]
    if kept != lines:
        with replacing(path) as temporary:
            temporary.write_bytes(b"".join(kept))


def names_of(runs: Sequence[Path]) -> list[str]:
    """What to call run folders (or files in them): by their last names, or as given where those are alike."""
    folders = [run.resolve().parent if run.name == "metrics.jsonl" else run.resolve() for run in runs]
    names = [folder.name for folder in folders]
    return names if len(set(names)) == len(names) else list(map(str, runs))


def table(
    runs: Sequence[tuple[str, list[dict[str, Any]]]],
) -> list[tuple[str, int, float, float, float, float]]:
    """Of every evaluation (run, step, minutes, held-out % exact, its 95 % interval)."""
    made = []
    for name, lines in runs:
        for line in lines:
            if held_out := line.get("held_out"):
                n, share = held_out["n"], held_out["accuracy"]
                low, high = wilson(round(share * n), n)
                made.append((name, line["step"], line["seconds"] / 60, 100 * share, 100 * low, 100 * high))
    return made


def draw(runs: Sequence[tuple[str, list[dict[str, Any]]]], out: Path) -> None:
    """Write the picture; the kind is the name's ending (.png, .svg, .pdf). Raises ConfigError."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("no plots without matplotlib: pip install 'hybrid-trm[report]'") from None
    figure = Figure(figsize=(10, 4), layout="constrained")
    held_out, loss = figure.subplots(1, 2)
    for name, lines in runs:
        if not lines:
            raise ConfigError(f"{name}: no line of a run's metrics, expected one at least")
        if mine := [point[2:] for point in table([(name, lines)])]:
            minutes, share, low, high = zip(*mine, strict=True)
            (drawn,) = held_out.plot(minutes, share, marker="o", label=name)
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
