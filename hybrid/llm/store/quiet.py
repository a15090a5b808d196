"""Keeps the libraries' own warnings and progress bars off the terminal, and puts everything back."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quiet(bars: bool = False) -> Iterator[None]:
    """transformers and huggingface_hub log errors only, and draw bars only if told to, inside this block.

    Their warnings here (unauthenticated requests, packed GGUF kernels, generation flags) are about choices made on
    purpose; what goes wrong is raised.
    """
    import huggingface_hub.utils.logging
    import transformers.utils.logging  # seconds, which `hybrid pull` of a model that is there need not take

    log: Any = transformers.utils.logging  # the module is untyped
    hub_log: Any = huggingface_hub.utils.logging
    level, hub_level, bars_before = (
        log.get_verbosity(),
        hub_log.get_verbosity(),
        log.is_progress_bar_enabled(),
    )
    log.set_verbosity_error()
    hub_log.set_verbosity_error()
    if not bars:
        log.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # Raised inside these libraries, not by calls from here.
            for module in ("transformers", "huggingface_hub", "gguf", "torch"):
                warnings.filterwarnings("ignore", module=rf"{module}(\.|$)")
            yield
    finally:
        log.set_verbosity(level)
        hub_log.set_verbosity(hub_level)
        if bars_before:
            log.enable_progress_bar()
