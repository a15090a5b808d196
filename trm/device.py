"""Which device a network runs on, and the lock between sampling and CUDA graph capture."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from pathlib import Path

# A CUDA graph under capture owns its device's random generator, and nobody may wait for the whole device meanwhile:
# sampling by another thread would fail, or would be recorded into the graph. Whoever captures a graph, samples on an
# accelerator, waits for all of it, or draws from PyTorch's global random numbers while other threads may do so too
# holds this lock meanwhile.
GRAPH_CAPTURE_LOCK = threading.RLock()


_DRIVERS = (
    "/dev/nvidiactl",
    "/dev/nvidia0",
    "/dev/dxg",
    "/dev/kfd",
)  # NVIDIA's, under Windows too, and AMD's


class DeviceError(ValueError):
    """A device that is not there. One line for people."""


def resolve_device(name: str, automatic: Sequence[str] = ("cuda", "cpu")) -> str:
    """The device that `name` stands for: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.

    automatic: what `auto` may choose, best first. Raises DeviceError if the device is unknown or not there.
    """
    import torch  # seconds, which command lines pay only when a network is needed

    present = ["cpu"]
    if torch.cuda.is_available():
        present += ["cuda", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        present.append("mps")
    if name == "auto":
        return next(device for device in (*automatic, "cpu") if device in present)
    if name not in present:
        raise DeviceError(
            f"device {name!r} is not available here, expected auto or one of: {', '.join(present)}"
        )
    return name


def may_have_accelerator() -> bool:
    """Whether there may be an accelerator that PyTorch could use, as far as one sees without loading PyTorch."""
    return sys.platform != "linux" or any(map(Path.exists, map(Path, _DRIVERS)))
