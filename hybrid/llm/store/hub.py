"""Model snapshots from the hub: weights as safetensors, tokenizer and configuration; never code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hybrid.llm.base import BackendError
from hybrid.llm.store.identity import weights
from hybrid.llm.store.quiet import quiet

_WANTED = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]
_UNWANTED = ["*/*"]  # other precisions and runtimes, kept in sub-folders
_PROBE_SECONDS = 3.0  # after that the hub counts as unreachable
# Why a download failed, by the classes of the error. Connection faults are those of the hub's HTTP library, which
# differs between releases.
_REASONS = {
    "GatedRepoError": "access must be granted on its page first",
    "RepositoryNotFoundError": "there is none of this name, or it is private",
    "HFValidationError": "there is none of this name, or it is private",
    "OfflineModeIsEnabled": "not in the cache, and HF_HUB_OFFLINE is set",
    "HfHubHTTPError": "the hub refused it",
    "TransportError": "not in the cache, and the hub is unreachable",
    "RequestException": "not in the cache, and the hub is unreachable",
    "LocalEntryNotFoundError": "not in the cache, and the hub is unreachable",
}


def cached(repository: str) -> Path | None:
    """The newest snapshot in the hub's local cache; None unless it is complete."""
    from huggingface_hub import snapshot_download  # 0.3 s, which commands without a model need not take
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(str(snapshot_download(repository, local_files_only=True)))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return folder if weights(folder) else None


def download(repository: str, progress: bool) -> Path:
    """Fetch a snapshot. progress: draw bars on standard error. Raises BackendError, in one line."""
    folder = _fetched(repository, _WANTED, progress)
    if not weights(folder):
        raise BackendError(f"hub model {repository}: no safetensors weights, expected model.safetensors")
    return folder


def files(repository: str, names: Sequence[str]) -> Path:
    """A snapshot's folder with the files of these names, from the cache where they are there. Raises BackendError."""
    from huggingface_hub import snapshot_download  # 0.3 s, which commands without a model need not take
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(str(snapshot_download(repository, local_files_only=True)))
        if all((folder / name).is_file() for name in names):
            return folder
    except (LocalEntryNotFoundError, HFValidationError):
        pass  # not in the cache
    return _fetched(repository, list(names), progress=False)


def _fetched(repository: str, wanted: list[str], progress: bool) -> Path:
    import huggingface_hub

    try:
        with quiet(bars=progress):
            revision = huggingface_hub.HfApi().model_info(repository, timeout=_PROBE_SECONDS).sha
            folder = huggingface_hub.snapshot_download(
                repository, revision=revision, allow_patterns=wanted, ignore_patterns=_UNWANTED
            )
    except Exception as error:
        names = (kind.__name__ for kind in type(error).__mro__)
        if (reason := next((_REASONS[name] for name in names if name in _REASONS), None)) is None:
            raise
        if status := getattr(getattr(error, "response", None), "status_code", None):
            reason += f" (status {status})"
        raise BackendError(f"hub model {repository}: {reason}") from error
    return Path(str(folder))
