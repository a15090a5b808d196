"""Model snapshots from the hub: weights as safetensors, tokenizer and configuration; never code."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hybrid.llm.base import BackendError
from hybrid.llm.store.identity import weights

_WANTED = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]
_UNWANTED = ["*/*"]  # other precisions and runtimes, kept in sub-folders
_PROBE_SECONDS = 3.0  # an unreachable hub must not cost more


def cached(repository: str) -> Path | None:
    """The newest complete snapshot in the hub's local cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(str(snapshot_download(repository, local_files_only=True)))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return folder if weights(folder) else None


def download(repository: str, progress: bool) -> Path:
    """Fetch a snapshot. Raises BackendError, in one line, if it cannot be had."""
    import huggingface_hub
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    try:
        with _calm(progress):
            revision = huggingface_hub.HfApi().model_info(repository, timeout=_PROBE_SECONDS).sha
            folder = huggingface_hub.snapshot_download(
                repository, revision=revision, allow_patterns=_WANTED, ignore_patterns=_UNWANTED
            )
    except GatedRepoError as error:
        raise BackendError(f"hub model {repository}: access must be granted on its page first") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise BackendError(f"hub model {repository}: there is none of this name, or it is private") from error
    except HfHubHTTPError as error:
        raise BackendError(
            f"hub model {repository}: the hub answered {error.response.status_code}"
        ) from error
    except OfflineModeIsEnabled as error:
        raise BackendError(f"hub model {repository}: not in the cache, and HF_HUB_OFFLINE is set") from error
    except Exception as error:
        # Connection faults come as classes of the hub's own HTTP library, which differs between releases.
        if not _is_network(error):
            raise
        raise BackendError(f"hub model {repository}: not in the cache, and the hub is unreachable") from error
    if not weights(Path(str(folder))):
        raise BackendError(f"hub model {repository}: no safetensors weights, expected model.safetensors")
    return Path(str(folder))


def _is_network(error: Exception) -> bool:
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"TransportError", "RequestException", "LocalEntryNotFoundError"})


@contextmanager
def _calm(progress: bool) -> Iterator[None]:
    """No log lines below errors, and bars only if asked for, inside this block."""
    import huggingface_hub.utils

    bars: Any = huggingface_hub.utils  # exports these functions without saying so
    logger = logging.getLogger("huggingface_hub")
    level, silent = logger.level, bars.are_progress_bars_disabled()
    logger.setLevel(logging.ERROR)
    if not progress:
        bars.disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(level)
        if not silent and not progress:
            bars.enable_progress_bars()
