"""What may be refused, and how: one kind of error, on one line."""

from __future__ import annotations

from collections.abc import Callable


def refused(error: type[Exception], read: Callable[[], object]) -> None:
    """Run what may raise this error alone, and on one line."""
    said = ""
    try:
        read()
    except error as found:
        said = str(found)
    assert "\n" not in said, said
