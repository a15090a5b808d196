"""An ablation: variants of one recipe, trained one after the other with the same data, seed and time, as a table."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trm.config import ConfigError, read_toml
from trm.evaluation.curves import point_of
from trm.text import parse_json
from trm.training.config import Config, config_from, load_config
from trm.training.run_folder import STATE, RunFolder


@dataclass(frozen=True)
class Row:
    """One variant: the recipe with its overrides, and its run folder, which may not exist yet."""

    name: str
    overrides: tuple[str, ...]  # the row's own are the last, so that they count
    config: Config
    folder: RunFolder


def read_rows(recipe: Path, table: Path, overrides: Sequence[str], out: Path, only: str = "") -> list[Row]:
    """The rows in a TOML file (`row = ["section.key=value", …]`), each a valid recipe. Raises ConfigError.

    only: the names of those to return, with commas between; all where it is empty.
    """
    raw = read_toml(table)
    if not raw:
        raise ConfigError(f"{table} names no rows, expected ROW = ['section.key=value', …]")
    rows = {}
    for name, own in raw.items():
        if not (isinstance(own, list) and all(isinstance(text, str) for text in own)):
            raise ConfigError(f"{table}: {name} = {own!r}, expected a list of 'section.key=value'")
        if Path(name).name != name or name == ".." or not name.isprintable():
            raise ConfigError(f"{table}: row {name!r}, expected a name that a folder can have")
        try:
            config = load_config(recipe, (*overrides, *own))
        except ConfigError as error:
            raise ConfigError(f"row {name}: {error}") from None
        if not (config.data.held_out_size or config.data.held_out):
            raise ConfigError(f"row {name}: data.held_out_size = 0, expected puzzles to compare the rows by")
        rows[name] = Row(name, (*overrides, *own), config, RunFolder(out / name))
    names = [name.strip() for name in only.split(",")] if only else list(rows)
    if unknown := [name for name in names if name not in rows]:
        raise ConfigError(f"--only {unknown[0]!r}: expected one of {', '.join(rows)}")
    return [rows[name] for name in names]


def result(row: Row) -> dict[str, Any] | None:
    """The last evaluation of a row, a line of metrics.jsonl; None if it has not ended.

    Raises ConfigError where the folder holds another run.
    """
    path = row.folder.path
    if not row.folder.metrics.is_file():
        return None
    try:
        saved = config_from(parse_json((path / "config.json").read_text()), path.name)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: not the folder of a run: {error}") from None
    if saved != row.config:
        raise ConfigError(f"{path} holds a run of other settings: --out names another folder")
    last, train = row.folder.last_metrics(), row.config.train
    if "held_out" not in last:
        return None
    # Seconds are written down with two decimals.
    ended = last["seconds"] >= round(train.seconds, 2) if train.seconds else last["step"] >= train.steps
    return last if ended else None


def train_rows(rows: Sequence[Row], recipe: Path, device: str) -> list[str]:
    """Train the rows that have not ended, one after the other; returns the names of those that failed.

    Each is a `trm train` process of its own, so that none finds the device as another has left it.
    """
    failed = []
    due = [row for row in rows if result(row) is None]  # mistakes in any row show before the first is trained
    for row in due:
        print(f"{row.name}: {' '.join(row.overrides) or 'the recipe as it is'}", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "trm", "train", str(recipe), *row.overrides, "--device", device]
        if (row.folder.checkpoint("last") / STATE).is_file():
            command += ["--resume", str(row.folder.path)]
        else:  # interrupted before its first checkpoint
            row.folder.metrics.unlink(missing_ok=True)
            command += ["--out", str(row.folder.path)]
        with subprocess.Popen(command, stdout=2) as child:  # standard output is for the table
            try:
                code = child.wait()
            except KeyboardInterrupt:  # the child got it too, and saves
                child.wait()
                raise
        if code:
            failed.append(row.name)
    return failed


def format_table(rows: Sequence[Row]) -> list[str]:
    """The results as lines, in the file's order; rows that have not ended are named."""
    width = max(len(row.name) for row in rows)
    lines = [f"{'row':{width}}  ms/step   steps  held out, % exact       n"]
    for row in rows:
        if (last := result(row)) is None:
            lines.append(f"{row.name:{width}}  not finished")
            continue
        point = point_of(last)
        pace, share = 1000 * last["seconds"] / point.step, f"{point.percent:.1f} {point.interval}"
        n = last["held_out"]["n"]
        lines.append(f"{row.name:{width}}  {pace:7.1f}  {point.step:6d}  {share:19}  {n:5d}")
    return lines
