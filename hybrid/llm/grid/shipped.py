"""Which adapter a language model drafts with: the one that ships for it, a folder, a hub id, or none.

Nothing here imports torch: what cannot be used is said before anything loads.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from hybrid.llm.base import BackendError
from hybrid.llm.registry import hide_password
from hybrid.llm.store import fetch, hub
from hybrid.llm.store.identity import DIGITS, Source, sha256
from trm.text import parse_json

AUTO, NO_ADAPTER = "auto", "none"
CONFIG_FILE, WEIGHTS_FILE, INFO_FILE = "adapter_config.json", "adapter_model.safetensors", "grid.json"
FILES = (CONFIG_FILE, WEIGHTS_FILE, INFO_FILE)
_QUANTISATION = re.compile(
    r"[-._](i?q\d\w*|bf16|f16|fp16|f32)$", re.IGNORECASE
)  # at the end of a GGUF file's stem


class AdapterError(ValueError):
    """An adapter that cannot be used as it was asked for. One line for people."""


@dataclass(frozen=True)
class Adapter:
    """An adapter's folder. base: the hub id of the model that it was trained on."""

    folder: Path
    base: str
    base_sha256: str

    @property
    def name(self) -> str:
        """`qwen@sha256:1d9614638d18`, for records."""
        return f"{self.folder.resolve().name}@sha256:{sha256(self.folder / WEIGHTS_FILE)[:DIGITS]}"

    @classmethod
    def read(cls, folder: Path) -> Adapter:
        """Raises AdapterError where the folder is no adapter."""
        if lacking := [name for name in FILES if not (folder / name).is_file()]:
            raise AdapterError(
                f"adapter {folder}: no {lacking[0]}, expected a folder that `hybrid tune` wrote"
            )
        try:
            info = parse_json((folder / INFO_FILE).read_text(encoding="utf-8"))
            return cls(folder, str(info["base"]), str(info["base_sha256"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise AdapterError(
                f"adapter {folder}: {INFO_FILE} cannot be read ({error!r}), expected base and base_sha256"
            ) from None


def shipped() -> dict[str, Adapter]:
    """The adapters that ship, by name: in the current folder, else in the checkout, else in the installed package."""
    root = Path(__file__).parents[3]
    found: dict[str, Adapter] = {}
    for place in (Path(), root, root / "trm"):
        for info in sorted(place.glob(f"ckpt/*/{INFO_FILE}")):
            if info.parent.name not in found:
                found[info.parent.name] = Adapter.read(info.parent)
    return found


def adapter_for(llm: str, wanted: str = AUTO, rounds: int = 0) -> Adapter | None:
    """The adapter that a language model of that name drafts with; None for the model as it came.

    llm: as `--llm` takes it. wanted: `auto` for what ships for the model, `none`, a folder, or a hub id.
    rounds: of repair, which a model with an adapter cannot do. Raises AdapterError.
    """
    adapter = _adapter_for(llm, wanted)
    if adapter is not None and rounds:
        raise AdapterError(
            f"--rounds {rounds}: a model with an adapter cannot be told what was wrong, "
            "expected --rounds 0 or --adapter none"
        )
    return adapter


def _adapter_for(llm: str, wanted: str) -> Adapter | None:
    if wanted == NO_ADAPTER:
        return None
    if wanted == AUTO:
        model = model_id(llm)
        same = [adapter for adapter in shipped().values() if model is not None and _same(model, adapter.base)]
        return same[0] if same else None
    if model_id(llm) is None:
        raise AdapterError(
            f"--adapter {wanted}: --llm {hide_password(llm)} is no model that runs here, "
            "expected --adapter none or another --llm"
        )
    if Path(wanted).expanduser().is_dir():
        return Adapter.read(Path(wanted).expanduser())
    if wanted in (known := shipped()):
        return known[wanted]
    if wanted.count("/") != 1 or wanted.startswith((".", "/", "~")):
        raise AdapterError(f"--adapter {wanted}: no such folder, expected auto, none, a folder or a hub id")
    try:
        return Adapter.read(hub.files(wanted, FILES))
    except BackendError as error:
        raise AdapterError(f"--adapter {wanted}: no such folder, and {error}") from None


def model_id(llm: str) -> str | None:
    """The model that a name stands for, as far as the name, or a folder's own description, tells.

    None for what does not run here: servers, other packages' backends, `none`.
    """
    path = Path(llm).expanduser()
    if llm in fetch.catalogue():
        return fetch.catalogue()[llm].hub
    if llm.lower().endswith(".gguf"):
        return path.stem
    if llm and path.is_dir():
        resolved = path.resolve()
        if resolved.parent.name == "snapshots" and resolved.parent.parent.name.startswith("models--"):
            return resolved.parent.parent.name.removeprefix("models--").replace("--", "/")
        source = Source.read(resolved)
        return source.model if source is not None else resolved.name
    return llm if re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", llm) else None


def _same(model: str, base: str) -> bool:
    """Whether two ids name one model; of a folder or a file only the last part is known."""

    def last(name: str) -> str:
        return _QUANTISATION.sub("", name.rpartition("/")[2]).lower()

    both = "/" in model and "/" in base
    return model.lower() == base.lower() if both else last(model) == last(base)
