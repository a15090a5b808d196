"""Rows of a table: variants of one recipe, trained one after the other on the same data, seed and time."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from trm.config import ConfigError, from_dict
from trm.evaluation.curves import read
from trm.evaluation.statistics import wilson
from trm.training.config import Config, load_config


@dataclass(frozen=True)
class Row:
    """One variant: the recipe with its overrides, and the run folder it has or will have."""

    name: str
    overrides: tuple[str, ...]  # the row's own come last: they are what it is named for
    config: Config
    folder: Path


@dataclass(frozen=True)
class Result:
    """What a finished row came to: its last evaluation."""

    name: str
    steps: int  # optimiser steps
    ms_per_step: float
    n: int  # held-out puzzles
    accuracy: float
    low: float  # its 95 % interval
    high: float


def read_rows(recipe: Path, table: Path, overrides: Sequence[str], out: Path) -> list[Row]:
    """The rows that a TOML file names (`row = ["section.key=value", …]`), each a valid recipe. Raises ConfigError."""
    try:
        raw = tomllib.loads(table.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{table}: {getattr(error, 'strerror', None) or error}") from None
    if not raw:
        raise ConfigError(f"{table} names no rows, expected ROW = ['section.key=value', …]")
    rows = []
    for name, own in raw.items():
        if not (isinstance(own, list) and all(isinstance(text, str) for text in own)):
            raise ConfigError(f"{table}: {name} = {own!r}, expected a list of 'section.key=value'")
        if Path(name).name != name:
            raise ConfigError(f"{table}: row {name!r}, expected a name that a folder can have")
        all_of_it = (*overrides, *own)
        try:
            config = load_config(recipe, all_of_it)
        except ConfigError as error:
            raise ConfigError(f"row {name}: {error}") from None
        if not (config.data.held_out_size or config.data.held_out):
            raise ConfigError(f"row {name}: data.held_out_size = 0, expected puzzles to compare the rows by")
        rows.append(Row(name, all_of_it, config, out / name))
    return rows


def select(rows: Sequence[Row], only: str) -> list[Row]:
    """The rows of a comma-separated list; all where it is empty. Raises ConfigError."""
    known: Mapping[str, Row] = {row.name: row for row in rows}
    names = [name.strip() for name in only.split(",")] if only else list(known)
    if strange := [name for name in names if name not in known]:
        raise ConfigError(f"--only {strange[0]!r}: expected one of {', '.join(known)}")
    return [known[name] for name in names]


def result(row: Row) -> Result | None:
    """What a row came to, None where it has not ended. Raises ConfigError where the folder holds another run."""
    if not (row.folder / "metrics.jsonl").is_file():
        return None
    try:
        held = from_dict(Config, json.loads((row.folder / "config.json").read_text()), row.folder.name)
    except (OSError, json.JSONDecodeError) as error:
        raise ConfigError(f"{row.folder}: not the folder of a run: {error}") from None
    if asdict(held) != asdict(row.config):
        raise ConfigError(f"{row.folder} holds a run of other settings: --out names another folder")
    if not (made := read(row.folder)):
        return None
    last, train = made[-1], row.config.train
    behind = last["seconds"] >= round(train.seconds, 2) if train.seconds else last["step"] >= train.steps
    if not behind or "held_out" not in last:
        return None
    n, accuracy = last["held_out"]["n"], last["held_out"]["accuracy"]
    low, high = wilson(round(accuracy * n), n)
    return Result(row.name, last["step"], 1000 * last["seconds"] / last["step"], n, accuracy, low, high)


def run(rows: Sequence[Row], recipe: Path, device: str, say: Callable[[str], None]) -> list[str]:
    """Train what has not ended, one `trm train` after the other; returns the names of the rows that failed.

    Each is a process of its own, which leaves the device as it found it.
    """
    failed = []
    for row in [row for row in rows if result(row) is None]:  # all are looked at before the first is trained
        say(f"{row.name}: {' '.join(row.overrides) or 'the recipe as it is'}")
        command = [sys.executable, "-m", "trm", "train", str(recipe), *row.overrides, "--device", device]
        if (row.folder / "checkpoints" / "last" / "training.pt").is_file():
            command += ["--resume", str(row.folder)]
        else:  # cut off before its first checkpoint: nothing to go on with
            (row.folder / "metrics.jsonl").unlink(missing_ok=True)
            command += ["--out", str(row.folder)]
        with subprocess.Popen(command, stdout=2) as child:  # standard output is for the table
            try:
                code = child.wait()
            except KeyboardInterrupt:  # the child has heard it too, and saves
                child.wait()
                raise
        if code:
            failed.append(row.name)
    return failed


def lines(rows: Sequence[Row]) -> list[str]:
    """The table, row by row in the file's order; those that have not ended are named."""
    width = max(len(row.name) for row in rows)
    made = [f"{'row':{width}}  ms/step   steps  held out, % exact       n"]
    for row in rows:
        if (got := result(row)) is None:
            made.append(f"{row.name:{width}}  not finished")
            continue
        share = f"{100 * got.accuracy:.1f} [{100 * got.low:.1f}, {100 * got.high:.1f}]"
        made.append(f"{row.name:{width}}  {got.ms_per_step:7.1f}  {got.steps:6d}  {share:19}  {got.n:5d}")
    return made
