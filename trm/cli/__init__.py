"""`trm`: train, evaluate, calibrate, generate, convert, pack and measure.

Commands import torch, and what needs it, when they run: `trm --help` would otherwise take seconds.
"""

from trm import streams

from trm.cli import train, evaluate, files  # noqa: F401  # isort: skip  # the order of `trm --help`
from trm.cli.common import app

__all__ = ["app", "main"]


def main() -> None:
    """Entry point of the `trm` command."""
    streams.run("trm", app)
