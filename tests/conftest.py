"""How pytest-xdist's workers share a machine."""

from __future__ import annotations

import os

import pytest

# With as many threads in each worker as there are cores they wait for one another. Read when torch is imported,
# and by the processes that tests start.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, minutes of training, so that the others go on beside it."""
    items.sort(key=lambda item: item.path.name != "test_tiny.py")
