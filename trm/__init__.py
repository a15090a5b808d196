"""Tiny Recursive Model: train, load and use small recursive reasoners.

    from trm import Refiner, TRM, TRMConfig

Importing this package costs no torch: names are loaded when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from trm import threads

if TYPE_CHECKING:
    from trm.inference.refiner import Refinement, Refiner
    from trm.model.config import TRMConfig
    from trm.model.network import TRM
    from trm.tasks import Puzzle

threads.settle()

__all__ = ["TRM", "Puzzle", "Refinement", "Refiner", "TRMConfig", "__version__"]
__version__ = "0.1.0"

_HOME = {
    "Refiner": "trm.inference.refiner",
    "Refinement": "trm.inference.refiner",
    "TRM": "trm.model.network",
    "TRMConfig": "trm.model.config",
    "Puzzle": "trm.tasks",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'trm' has no attribute {name!r}")
