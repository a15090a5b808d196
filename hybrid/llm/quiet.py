"""Keeps the libraries' own warnings and progress bars off the terminal, and puts everything back."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def quiet() -> Iterator[None]:
    """transformers and huggingface_hub log errors only, and draw nothing, inside this block.

    What they have to say here (unauthenticated requests, packed GGUF kernels, generation flags) is about
    choices made on purpose; what goes wrong is raised.
    """
    import huggingface_hub.utils.logging
    import transformers.utils.logging

    log: Any = transformers.utils.logging  # the module is untyped
    hub_log: Any = huggingface_hub.utils.logging
    level, hub_level, bars = log.get_verbosity(), hub_log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity_error()
    hub_log.set_verbosity_error()
    log.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # Raised inside these libraries, not by calls of ours.
            for module in ("transformers", "huggingface_hub", "gguf", "torch"):
                warnings.filterwarnings("ignore", module=rf"{module}(\.|$)")
            yield
    finally:
        log.set_verbosity(level)
        hub_log.set_verbosity(hub_level)
        if bars:
            log.enable_progress_bar()
