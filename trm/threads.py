"""How the threads of numerical libraries share the cores with others. Decided before those libraries are loaded."""

from __future__ import annotations

import os
from pathlib import Path

LOAD = Path("/proc/loadavg")  # of Linux: load of the last minute, …, processes that run now of all


def settle() -> None:
    """Set what OpenMP and OpenBLAS read from the environment; what the user has set stays.

    PyTorch's threads spin while they wait for each other, which on a machine that others use costs many times the
    work, unless they are told to wait passively (docs/how-to/speed.md). NumPy's always spin: two on one free core
    take ten times as long as one, so there are as many as cores are free.
    """
    if "GOMP_SPINCOUNT" not in os.environ:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if "OMP_NUM_THREADS" not in os.environ:
        os.environ.setdefault("OPENBLAS_NUM_THREADS", str(free_cores()))


def free_cores() -> int:
    """Cores that nobody else uses, now and in the last minute; 1 where there is none, or nobody knows.

    One core in the last minute may have been this user's: commands are given one after the other.
    """
    try:
        minute, *_, processes, _ = LOAD.read_text().split()
        running = int(processes.partition("/")[0]) - 1  # this one runs too
        return max(1, round(len(os.sched_getaffinity(0)) - max(float(minute) - 1, running)))
    except (OSError, ValueError, AttributeError):  # not Linux
        return 1
