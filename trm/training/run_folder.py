"""The folder of a training run: config.json, environment.json, metrics.jsonl and checkpoints/{last,best}."""

from __future__ import annotations

import errno
import json
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeGuard

import torch
from safetensors import SafetensorError

import trm
from trm import jsonl
from trm.checkpoints.format import CheckpointError, Expert, read_tensors, save_folder
from trm.config import ConfigError
from trm.files import only_writer, recover, replacing
from trm.grid import first_line
from trm.training.config import Config

STATE = "training.pt"  # in checkpoints/last: everything else that a resumed run needs
STATE_KEYS = {"config", "step", "seconds", "best", "model", "ema", "optimizer", "pool", "generator"}


class RunFolder:
    """Reads and writes a run folder. Both checkpoints are `save_pretrained` folders with the averaged weights."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics = path / "metrics.jsonl"

    def checkpoint(self, name: str) -> Path:
        return self.path / "checkpoints" / name

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training in this folder. Raises ConfigError where one does."""
        with only_writer(self.path, "trm train"):
            for name in ("last", "best"):
                recover(self.checkpoint(name))
            yield

    def create(self, config: Config, processes: int) -> None:
        """Write what the run is: its configuration, and the environment it runs in."""
        self.path.mkdir(parents=True, exist_ok=True)
        for name, content in (("config", asdict(config)), ("environment", environment(processes))):
            (self.path / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")

    def save(self, name: str, expert: Expert, state: dict[str, Any] | None = None) -> None:
        """Replace checkpoints/NAME. state: what a resumed run needs beside the averaged weights. Raises OSError."""
        try:
            with replacing(self.checkpoint(name)) as temporary:
                save_folder(temporary, expert)
                if state is not None:
                    torch.save(state, temporary / STATE)
        except (RuntimeError, SafetensorError) as error:  # how these libraries say that a disk is full
            reason = f"cannot be written: {first_line(error)}"
            raise OSError(errno.EIO, reason, str(self.checkpoint(name))) from None

    def load_state(self, device: torch.device) -> dict[str, Any]:
        """The training state in checkpoints/last. Raises CheckpointError."""
        path = self.checkpoint("last") / STATE
        if not path.is_file():
            raise CheckpointError(f"{self.path}: no checkpoints/last/{STATE} to resume from")
        state = read_tensors(path, "the state of a training run", device)
        if not isinstance(state, dict) or (missing := STATE_KEYS - set(state)):
            lacking = f": it has no {', '.join(sorted(missing))}" if isinstance(state, dict) else ""
            raise CheckpointError(f"{path}: not the state of a training run{lacking}")
        return state

    def last_metrics(self) -> dict[str, Any]:
        """The last line of metrics.jsonl; empty where there is none."""
        return (read_metrics(self.path) or [{}])[-1] if self.metrics.is_file() else {}

    def drop_metrics_after(self, step: int) -> None:
        """Remove later and incomplete lines of metrics.jsonl: a run that resumes from `step` writes them again."""
        if self.metrics.is_file():
            kept = [line for line in read_metrics(self.metrics) if line["step"] <= step]
            if self.metrics.read_text(errors="replace") != "".join(map(jsonl.dump, kept)):
                jsonl.write(self.metrics, kept)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a run folder's metrics.jsonl, or of such a file. A last line that is incomplete is left out.

    Raises ConfigError.
    """
    path = path / "metrics.jsonl" if path.is_dir() else path
    try:
        lines = jsonl.read(path)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    for line in lines:
        if not _is_metrics(line.value):
            raise ConfigError(f"{path}, line {line.number}: {line.text[:40]!r}, expected metrics of a run")
    return [line.value for line in lines]


def _is_metrics(value: object) -> bool:
    """Whether a line is one of metrics.jsonl: steps and seconds, perhaps a loss and an evaluation."""
    if not (
        isinstance(value, dict) and isinstance(value.get("step"), int) and _is_number(value.get("seconds"))
    ):
        return False
    if (held_out := value.get("held_out")) is not None:
        known = isinstance(held_out, dict) and isinstance(held_out.get("n"), int) and held_out["n"] > 0
        if not (known and _is_number(share := held_out.get("accuracy")) and 0 <= share <= 1):
            return False
    return _is_number(value.get("loss", 0.0))


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def environment(processes: int = 1) -> dict[str, Any]:
    """Versions and devices, for a run folder and a bug report."""
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "trm": trm.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": devices or ["cpu"],
        "threads": torch.get_num_threads(),
        "processes": processes,
    }
