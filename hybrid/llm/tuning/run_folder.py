"""A run's folder: config.json, environment.json, metrics.jsonl, checkpoints/last (to resume) and checkpoints/best."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from hybrid.llm.grid.adapter import LoraShape, save_adapter
from hybrid.llm.grid.lora import stored_name
from hybrid.llm.grid.shipped import WEIGHTS_FILE
from hybrid.llm.store.identity import sha256
from hybrid.llm.tuning.config import MODEL_FILE, TuneConfig
from hybrid.llm.tuning.model import adapter_folder
from trm import __version__
from trm.checkpoints.format import CheckpointError, read_tensors
from trm.config import ConfigError
from trm.files import recover, replacing
from trm.grid import first_line

STATE_FILE = "state.pt"


@dataclass
class Progress:
    """How far a run is. tokens: padding included, over all processes. group, place: where the next batch stands."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    group: int = 0
    place: int = 0
    best: float = float("-inf")


class RunFolder:
    """Everything that a run writes. Only the main process writes."""

    def __init__(self, path: Path, config: TuneConfig, base_hash: str, main: bool) -> None:
        self.path, self.config, self.base_hash = path, config, base_hash
        self.data_hashes = {file: data_hash(Path(file)) for file in data_files(config)} if main else {}
        if main:
            path.mkdir(parents=True, exist_ok=True)
            write_json(path / "config.json", asdict(config))
            write_json(path / "environment.json", environment())

    def log(self, progress: Progress, figures: Mapping[str, float]) -> None:
        """One line of metrics.jsonl."""
        head = {"step": progress.step, "tokens": progress.tokens, "seconds": round(progress.seconds, 2)}
        with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(head | dict(figures)) + "\n")

    def save(
        self,
        name: str,
        model: PreTrainedModel,
        trained: Mapping[str, Tensor],
        optimizer: torch.optim.Optimizer | None,
        progress: Progress,
        scores: Mapping[str, float],
    ) -> None:
        """Write checkpoints/NAME, complete or not at all; with an optimizer, what a resumed run needs is in it."""
        settings = self.config.model
        info = {
            "base_sha256": self.base_hash,
            **asdict(progress),
            "scores": dict(scores),
            # Folders say where it was trained, and nothing about what.
            "config": without_folders(asdict(self.config)),
            "data": without_folders(self.data_hashes),
            "command": without_folders(sys.argv),
            "code": code_version(),
            "environment": environment(),
        }
        base = settings.name or settings.base
        with replacing(self.path / "checkpoints" / name) as new:
            new.mkdir()
            if settings.method == "lora":
                plain = {stored_name(key): w for key, w in trained.items()}
                save_adapter(new, plain, LoraShape(settings.rank, settings.alpha), base, info)
            else:
                save_file(
                    {key: w.detach().half().cpu().contiguous() for key, w in trained.items()},
                    new / MODEL_FILE,
                )
                model.config.to_json_file(new / "config.json")
                write_json(new / "grid.json", {"base": base, **info})
            if optimizer is not None:
                weights = {key: weight.detach() for key, weight in trained.items()}
                state = {
                    "weights": weights,
                    "optimizer": optimizer.state_dict(),
                    "progress": asdict(progress),
                }
                torch.save(state, new / STATE_FILE)

    def restore(
        self, trained: Mapping[str, Tensor], optimizer: torch.optim.Optimizer, device: torch.device
    ) -> Progress:
        """Put the weights and the optimiser back as checkpoints/last has them. Raises ConfigError."""
        file = self.path / "checkpoints" / "last" / STATE_FILE
        recover(file.parent)
        try:
            state = read_tensors(file, "the state of a tuning run", device)
            with torch.no_grad():
                for name, weight in trained.items():
                    weight.copy_(state["weights"][name])
            optimizer.load_state_dict(state["optimizer"])
            return Progress(**state["progress"])
        except CheckpointError as error:
            raise ConfigError(str(error)) from None
        except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ConfigError(f"{file}: does not fit the run: {first_line(error)}") from None


def without_folders(content: object) -> object:
    """The same with absolute paths replaced by the names of their files, in `key=value` and `a+b` too."""
    if isinstance(content, Mapping):
        return {without_folders(key): without_folders(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [without_folders(item) for item in content]
    if not isinstance(content, str):
        return content
    key, equals, value = content.rpartition("=")
    return key + equals + "+".join(Path(p).name if Path(p).is_absolute() else p for p in value.split("+"))


def data_files(config: TuneConfig) -> list[str]:
    """The files that a run reads: data, and the weights of the adapter that it starts from."""
    data = config.data
    files = [
        file
        for spec in (data.tasks, data.held_out, data.sudoku, data.maze)
        if spec
        for file in spec.split("+")
    ]
    start = config.model.adapter
    return [*files, str(adapter_folder(start) / WEIGHTS_FILE)] if start else files


def data_hash(file: Path) -> str:
    """The file's SHA-256. Raises ConfigError where it cannot be read."""
    try:
        return sha256(file)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror or error}") from None


def write_json(file: Path, content: object) -> None:
    file.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def code_version() -> str:
    """`CODE_VERSION` from the environment, where code runs without its repository; else the package's version."""
    return os.environ.get("CODE_VERSION", __version__)


def environment() -> dict[str, object]:
    """Versions and machine, for whoever reads the run later."""
    import accelerate
    import peft

    cuda = torch.cuda.is_available()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "accelerate": accelerate.__version__,
        "device": torch.cuda.get_device_name() if cuda else platform.machine(),
        "devices": torch.cuda.device_count() if cuda else 0,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
