"""Finds the backend of a language model by its name, among this project's backends and other packages'.

A package adds a backend by an entry point in the group `hybrid.llms` that names a `hybrid.llm.base.Backend`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import entry_points

from hybrid.llm.base import LLM, Backend, BackendError
from hybrid.llm.store.fetch import catalogue

ENTRY_POINTS = "hybrid.llms"
_BUILT_IN = ("hybrid.llm.client", "hybrid.llm.local")  # each defines BACKEND


def connect(spec: str, device: str = "auto") -> LLM:
    """The language model that `spec` names, loaded or reached, ready to be asked.

    spec: a name in configs/llms.toml (`qwen`, `smollm2`), a hub id, a local folder, a `.gguf` file, the base
    URL of an OpenAI-compatible server, or what another package's backend accepts.
    device: `auto`, `cpu`, `cuda` or `mps`, for models that run here.
    Raises BackendError, in one line, if the name is unknown or something is missing.
    """
    known = []
    for backend in backends():
        if backend.accepts(spec):
            return backend.connect(spec, device)
        known.append(backend.expects)
    close = difflib.get_close_matches(spec, catalogue(), n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    expected = ", ".join([*catalogue(), *known])
    raise BackendError(f"unknown LLM {hide_password(spec)!r}; {hint}expected {expected}")


def backends() -> Iterator[Backend]:
    """This project's backends, then those of other packages, each imported only when it is its turn."""
    for module in _BUILT_IN:
        yield import_module(module).BACKEND
    for entry in entry_points(group=ENTRY_POINTS):
        try:
            backend = entry.load()
        except Exception as error:  # another package's code may raise anything
            raise BackendError(f"LLM backend {entry.value!r} cannot be imported: {error!r}") from error
        if not isinstance(backend, Backend):
            raise BackendError(f"LLM backend {entry.value!r} is no hybrid.llm.base.Backend, but {backend!r}")
        yield backend


def hide_password(spec: str) -> str:
    """The name without the credentials that a URL may hold, for messages."""
    return re.sub(r"//[^/]*@", "//", spec)
