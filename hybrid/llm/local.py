"""The backend of models that run here: names, hub ids, folders and GGUF files to a folder of weights."""

from __future__ import annotations

import re
from pathlib import Path

from hybrid.llm.base import LLM, Backend, BackendError
from hybrid.llm.store import fetch

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def accepts(spec: str) -> bool:
    """Whether the name is in configs/llms.toml, a folder, a `.gguf` file, or looks like a hub id."""
    here = bool(spec) and (_is_gguf(spec) or _path(spec).is_dir())
    return here or spec in fetch.catalogue() or bool(_HUB_ID.fullmatch(spec))


def connect(spec: str, device: str) -> LLM:
    """The model in memory, its weights fetched or converted first if need be. Raises BackendError."""
    folder = folder_of(spec)
    from hybrid.llm.causal import CausalLM  # torch and transformers: seconds, paid once the weights are here

    return CausalLM(folder, device)


def folder_of(spec: str) -> Path:
    """The folder of the model's weights, fetched or converted first if need be. Raises BackendError."""
    if spec in fetch.catalogue():
        return fetch.pull(spec)
    if _path(spec).is_dir():
        return _path(spec)
    if not _is_gguf(spec):
        return fetch.pull(spec)
    if not _path(spec).is_file():
        raise BackendError(f"{spec}: no such file, expected a GGUF model")
    return fetch.from_gguf(_path(spec))


def _path(spec: str) -> Path:
    return Path(spec).expanduser()


def _is_gguf(spec: str) -> bool:
    return spec.lower().endswith(".gguf")


BACKEND = Backend("a hub id, a local folder, a .gguf file", accepts, connect)
