"""Running out of memory as an error of the configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from trm.config import ConfigError

# Each device and each size has an error of its own in PyTorch.
_TOO_LARGE = re.compile(
    "allocate memory|out of memory|size calculation overflowed|overflow when unpacking", re.IGNORECASE
)


@contextmanager
def within_memory() -> Iterator[None]:
    """Turn running out of memory within the block into a ConfigError."""
    try:
        yield
    except (MemoryError, RuntimeError, TypeError) as error:
        if not isinstance(error, MemoryError) and not _TOO_LARGE.search(str(error)):
            raise
        size = re.search(r"tried to allocate ([\d.]+ \w+)", str(error), re.IGNORECASE)
        raise ConfigError(
            f"not enough memory{f' ({size[1]} at once)' if size else ''}, expected a smaller [model], or less of "
            "train.batch, train.pool"
        ) from None
