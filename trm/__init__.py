"""Tiny Recursive Model: train, load and use small recursive reasoners.

    from trm import Refiner, TRM, TRMConfig

Importing this package costs no torch: names are loaded when first used.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trm.inference.refiner import Refinement, Refiner
    from trm.model.config import TRMConfig
    from trm.model.network import TRM
    from trm.tasks import Puzzle

# PyTorch's threads spin while they wait for each other, which on a machine that others use costs many times the work
# (docs/how-to/speed.md). OpenMP reads this when PyTorch is loaded; what the user has set stays.
if "GOMP_SPINCOUNT" not in os.environ:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# NumPy's threads (OpenBLAS) spin as well: two on one free core take ten times as long as one. So there are as many as
# cores are free. What the user has set stays.
if not os.environ.keys() & {"OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"} and hasattr(os, "sched_getaffinity"):
    os.environ["OPENBLAS_NUM_THREADS"] = str(max(1, round(len(os.sched_getaffinity(0)) - os.getloadavg()[0])))

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
