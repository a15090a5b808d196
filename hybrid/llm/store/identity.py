"""Which weights a model folder holds, as records and bug reports name them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from hybrid.llm.base import BackendError
from trm.text import parse_json

SOURCE_FILE = "source.json"
DIGITS = 12  # of a SHA-256 or revision in names: enough to be unique, short enough to read


@dataclass(frozen=True)
class Source:
    """Where a converted folder came from. sha256: of the whole GGUF file."""

    model: str
    origin: str
    sha256: str
    quantisation: str

    def write(self, folder: Path) -> None:
        (folder / SOURCE_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Source | None:
        """What was written into the folder; None if nothing was. Raises BackendError for anything else."""
        file = folder / SOURCE_FILE
        if not file.is_file():
            return None
        try:
            source = cls(**parse_json(file.read_bytes()))
        except (ValueError, TypeError):
            source = None
        if source is None or not all(isinstance(value, str) for value in asdict(source).values()):
            raise BackendError(f"{file}: damaged, expected where the weights came from")
        return source


def sha256(file: Path) -> str:
    """Hex digest of a file of any size."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def weights(folder: Path) -> list[Path]:
    """The safetensors files of a complete model folder, sorted; empty if the folder is not complete."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = set(parse_json(index.read_bytes())["weight_map"].values())
            files = sorted(folder / Path(name).name for name in names)  # an index names no place elsewhere
        except (ValueError, KeyError, TypeError, AttributeError):
            return []
    else:
        files = sorted(folder.glob("*.safetensors"))
    complete = (folder / "config.json").is_file() and all(file.is_file() for file in files)
    return files if complete else []


def resolved_name(folder: Path, dtype: str) -> str:
    """`Qwen2.5-Coder-0.5B-Instruct@sha256:1d9614638d18 (Q4_K_M, as bf16)`: model, weights, arithmetic.

    The weights are named by the hub's revision, by the GGUF file's digest, or else by their own.
    """
    source = Source.read(folder)
    if source is not None:
        return f"{source.model}@sha256:{source.sha256[:DIGITS]} ({source.quantisation}, as {dtype})"
    if folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--"):
        # The hub's cache: models--ORGANISATION--NAME/snapshots/REVISION.
        model = folder.parent.parent.name.removeprefix("models--").replace("--", "/")
        return f"{model}@{folder.name[:DIGITS]} ({dtype})"
    digest = hashlib.sha256("".join(sha256(file) for file in weights(folder)).encode()).hexdigest()
    return f"{folder.resolve().name}@sha256:{digest[:DIGITS]} ({dtype})"
