"""What a run starts from: the task's canvas, the network with its first weights, the puzzles on the device; and
what is said where they do not fit into memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch

from trm.checkpoints.format import TASK_EMBEDDINGS, Expert, load
from trm.config import ConfigError
from trm.data.device import DeviceDataset
from trm.data.pairs import PairDataset
from trm.model.network import TRM, TURNS
from trm.tasks import Puzzle, Task, get
from trm.training.config import Config


def canvas_task(config: Config) -> Task:
    """The task on the canvas that [model] says. Raises ConfigError where the network has another shape."""
    task, model = get(config.data.task), config.model
    if task.has_demonstrations and model.canvas_width:
        task = task.on(model.canvas_width)
    if (model.seq_len, model.vocab_size) != (task.seq_len, task.vocab_size):
        expected = f"expected {task.seq_len} and {task.vocab_size} for {task.name}"
        raise ConfigError(f"[model] seq_len {model.seq_len} and vocab_size {model.vocab_size}, {expected}")
    return task


def first_network(config: Config, task: Task, device: torch.device) -> TRM:
    """The network with its first weights, on the device, with kernels and compiled as [train] says."""
    train = config.train
    torch.manual_seed(train.seed)
    model = TRM(config.model)
    if train.init:
        model.load_state_dict(initial_expert(config, task).state)
    model = model.to(device)
    model.dtype = torch.bfloat16 if train.computes_in_bf16(device.type) else torch.float32
    if device.type == "cuda" or train.kernels == "fused":
        from trm.model.kernels import use  # Triton, which takes a second to import, is of no use on a CPU

        use(train.kernels, model)
    if is_compiled(config, device):
        model.compile_net()
    return model


def is_compiled(config: Config, device: torch.device) -> bool:
    compiling = config.train.compile
    return compiling == "on" or (compiling == "auto" and device.type == "cuda")


def initial_expert(config: Config, task: Task) -> Expert:
    """The expert of the checkpoint `train.init`. Raises CheckpointError, or ConfigError where its shape differs."""
    source = config.train.init
    expert = load(source).experts.get(task.name)
    if expert is None:
        raise ConfigError(f"[train] init: {source} has no expert for {task.name}")
    saved = expert.config
    # No weight depends on the number of cycles or on the gradient, nor, with rope2d, on the canvas.
    shape = replace(config.model, h_cycles=saved.h_cycles, l_cycles=saved.l_cycles, gradient=saved.gradient)
    if shape.positions == "rope2d":
        shape = replace(shape, seq_len=saved.seq_len, canvas_width=saved.canvas_width)
    if shape.turns and 0 < saved.identities < shape.identities:
        # The tasks that it has embeddings for come first in the data. The others start from the mean embedding, which
        # is also all that `trm pack` keeps.
        rows = expert.state[TASK_EMBEDDINGS]
        others = rows.mean(0, keepdim=True).expand(shape.identities - len(rows), -1)
        expert = replace(expert, weights={**expert.state, TASK_EMBEDDINGS: torch.cat([rows, others])})
        shape = replace(shape, identities=saved.identities)
    if saved != shape:
        raise ConfigError(f"[train] init: {source} has another shape than [model] says")
    return expert


def training_bank(
    config: Config, task: Task, puzzles: Sequence[Puzzle], device: torch.device
) -> DeviceDataset:
    """The training puzzles on the device. Raises ConfigError where the network has too few embeddings for them."""
    data, model = config.data, config.model
    if not task.has_demonstrations:
        return DeviceDataset(task, puzzles, data.augment, device, data.stream, data.reveal)
    if data.stream or data.reveal:
        raise ConfigError(f"[data] stream, reveal: not for {task.name}, whose tasks are learned by number")
    if model.identities < len(puzzles) or not model.turns:
        expected = f"expected at least {len(puzzles)}, one for each task, and turns = true"
        raise ConfigError(f"[model] identities {model.identities}, turns {model.turns}: {expected}")
    colors = data.color_permutation_prob
    return PairDataset(task, puzzles, data.augment, device, recolour=colors, balance=data.balance)


def embedding_numbers(task: Task, puzzles: Sequence[Puzzle]) -> dict[str, int]:
    """The context under which the network sees each training puzzle as it is, by id; empty without demonstrations."""
    return {p.id: TURNS * number for number, p in enumerate(puzzles)} if task.has_demonstrations else {}


# Each device and each size has an error of its own in PyTorch.
_TOO_LARGE = re.compile(
    "(?i)allocate memory|out of memory|size calculation overflowed|overflow when unpacking"
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
        wanted = f" ({size[1]} at once)" if size else ""
        expected = "expected a smaller [model], or less of train.batch, train.pool"
        raise ConfigError(f"not enough memory{wanted}, {expected}") from None
