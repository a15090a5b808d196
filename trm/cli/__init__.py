"""`trm`: train, evaluate, calibrate, generate, convert, pack and measure.

Commands import torch, and what needs it, when they run: `trm --help` would otherwise take seconds.
"""

from __future__ import annotations

# Each module registers its commands, in the order in which `trm --help` lists them.
from trm.cli import train, evaluate, data, checkpoints, measure, compare_runs  # noqa: F401  # isort: skip
from trm.cli.common import app

__all__ = ["app", "main"]


def main() -> None:
    app()
