"""Language models behind one call: `connect`. A further kind of backend is one new file here."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

from hybrid.llm.base import LLM, BackendError

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_EXPECTED = "a hub id, a local folder, a .gguf file, or http(s)://host[:port]/v1[#model]"


def connect(spec: str, device: str = "auto") -> LLM:
    """The language model that `spec` names, loaded or reached, ready to chat.

    spec: a name in configs/llms.toml (`qwen`, `smollm2`), a hub id, a local folder, a `.gguf` file, or the
    base URL of an OpenAI-compatible server. device: `auto`, `cpu`, `cuda` or `mps`, for models that run here.
    Raises BackendError, in one line, for what is unknown or missing.
    """
    if spec.startswith(("http://", "https://")):
        from hybrid.llm.server import HTTPLLM

        return HTTPLLM(spec)
    folder = _folder(spec)
    from hybrid.llm.local import LocalLLM

    return LocalLLM(folder, device)


def _folder(spec: str) -> Path:
    """The folder of weights for whatever runs here, fetched or converted if need be."""
    from hybrid.llm.store import fetch

    if spec in fetch.catalogue():
        return fetch.pull(spec)
    path = Path(spec).expanduser()
    if path.suffix.lower() == ".gguf":
        if not path.is_file():
            raise BackendError(f"{spec}: no such file, expected a GGUF model")
        return fetch.from_gguf(path)
    if path.is_dir():
        return path
    if _HUB_ID.fullmatch(spec) and not spec.startswith("."):
        return fetch.pull(spec)
    names = list(fetch.catalogue())
    close = difflib.get_close_matches(spec, names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise BackendError(f"unknown LLM {spec!r}; {hint}expected {', '.join(names)}, {_EXPECTED}")
