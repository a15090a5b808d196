"""What a bug report needs: versions, devices, cached language models, the checkpoint's experts."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from importlib import metadata

from hybrid.llm.base import BackendError
from trm import __version__

PACKAGES = (
    "torch",
    "transformers",
    "accelerate",
    "peft",
    "datasets",
    "numpy",
    "huggingface_hub",
    "safetensors",
    "gguf",
)


def describe(refiner: str) -> Iterator[str]:
    """One line a fact. What fails is a line too, and never raised: that is when a bug report is written."""
    yield f"hybrid-trm      {__version__}"
    yield f"python          {platform.python_version()} on {platform.platform()}"
    for package in PACKAGES:
        yield f"{package:<15} {version(package)}"
    yield from _devices()
    yield from _llms()
    yield from _adapters()
    yield from _experts(refiner)


def version(package: str) -> str:
    """The version of an installed package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _devices() -> Iterator[str]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield f"cpu             {cores} cores, {platform.machine()}"
    try:
        import torch
    except ImportError as error:
        yield f"torch           cannot be imported: {error}"
        return
    yield f"threads         {torch.get_num_threads()}"
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        gib = device.total_memory / 2**30
        yield f"cuda:{index}          {device.name}, {gib:.0f} GiB, CUDA {torch.version.cuda}"
    if not torch.cuda.is_available():
        yield "cuda            none"
    yield f"mps             {'available' if torch.backends.mps.is_available() else 'none'}"


def _llms() -> Iterator[str]:
    from hybrid.llm.store import fetch

    for name in fetch.catalogue():
        try:
            folder = fetch.cached(name)
        except (BackendError, OSError) as error:
            yield f"llm {name:<11} {error}"
        else:
            yield f"llm {name:<11} {folder or 'not here yet: hybrid pull ' + name}"


def _adapters() -> Iterator[str]:
    from hybrid.llm.grid.shipped import AdapterError, shipped

    try:
        for name, adapter in shipped().items():
            yield f"adapter {name:<7} {adapter.name}, of {adapter.base}"
    except AdapterError as error:
        yield f"adapter         {error}"


def _experts(spec: str) -> Iterator[str]:
    from hybrid.solving import refiner_path
    from trm.checkpoints.format import CheckpointError, load

    try:
        checkpoint = load(refiner_path(spec))
    except CheckpointError as error:
        yield f"refiner         {error}"
        return
    yield f"refiner         {checkpoint.name}"
    for task, expert in checkpoint.experts.items():
        yield f"expert          {task}: {expert.config}"
