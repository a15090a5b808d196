"""Fused kernels for GPUs, which spare the memory traffic between products. Plain twins: `trm.model.layers`.

- `attend`: attention over at most 128 positions, forward and backward, with the norm and rotation of queries and keys
  and the mask. One program holds all keys of one head of one puzzle.
- `gated`: the first half of a SwiGLU, without gradient. Gate and up are one product, of which only half is written.
  The norm is a factor of each row, so it is applied after the second product.
- `mix`: a whole token mixer (SwiGLU over at most 128 positions, residual and norm), without gradient. One program
  holds all positions of some columns, so that only its input and its output are in memory.

The programs are in Triton, which comes with PyTorch for GPUs; `TRITON_INTERPRET=1` runs them on a CPU, slowly.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from trm.config import ConfigError
from trm.model.config import TRMConfig
from trm.model.layers import NORM_EPS, Attention, Block, SwiGLU, head_groups
from trm.model.network import TRM

MAX_POSITIONS = 128  # of one program
TALL, WIDE, DEEP = 128, 128, 64  # rows, columns and depth of a tile of `gated`
COLUMNS, STRIPE = 128, 64  # of a program of `mix`: its columns, and its hidden values at a time


def available() -> bool:
    """Whether Triton is installed, which some platforms have no build of."""
    return importlib.util.find_spec("triton") is not None


if available():
    from trm.model import triton_kernels


def use(choice: str, model: TRM) -> None:
    """Fuse the model's layers as `train.kernels` (auto, plain, fused) says. Raises ConfigError if it cannot."""
    cuda = model.device.type == "cuda"
    if choice == "fused":
        if not cuda:
            raise ConfigError("[train] kernels 'fused': expected a CUDA device")
        if not fuse(model):
            raise ConfigError("[train] kernels 'fused': no Triton, or no kernel fits this network")
    elif choice == "auto" and cuda:
        # Only where they were measured (LOG.md): other GPUs have less shared memory, and float32 is slow.
        hopper = torch.cuda.get_device_capability(model.device)[0] == 9
        # Without a C compiler Triton cannot launch a kernel.
        compilers = [name for name in (os.environ.get("CC"), "cc", "gcc", "clang") if name]
        if hopper and model.dtype == torch.bfloat16 and any(map(shutil.which, compilers)):
            fuse(model)


def fuse(model: TRM) -> bool:
    """Let the network's layers use the kernels, on CUDA, wherever they fit. Returns whether any does."""
    if not available():
        return False
    for block in (module for module in model.modules() if isinstance(module, Block)):
        fuse_gated(block.mlp)
        if isinstance(block.mix, Attention):
            fuse_attention(block.mix, model.config)
        elif isinstance(block.mix, SwiGLU):
            fuse_mixer(block.mix)
    return fused(model)


def fused(model: TRM) -> bool:
    """Whether any layer of the network uses a kernel."""
    return any(getattr(layer, "fused", False) for layer in model.modules())


def fuse_attention(attention: Attention, config: TRMConfig) -> None:
    if config.length <= MAX_POSITIONS and config.hidden_size // config.heads in (32, 64, 128):
        group = head_groups(config) if attention.grouped else torch.zeros(config.heads, config.length)
        attention.register_buffer("group", group.int().to(attention.qkv.weight.device), persistent=False)
        attention.fused = True


def fuse_gated(mlp: SwiGLU) -> None:
    rows, width = mlp.gate_up.weight.shape
    mlp.fused = width % DEEP == 0 and rows // 2 % WIDE == 0


def fuse_mixer(mixer: SwiGLU) -> None:
    rows, positions = mixer.gate_up.weight.shape
    mixer.fused = positions <= MAX_POSITIONS and rows // 2 % STRIPE == 0


def _arguments(
    qkv: Tensor, group: Tensor, cos: Tensor | None, sin: Tensor | None, norm: bool
) -> dict[str, Any]:
    n, heads, head_width = qkv.shape[1], len(group), qkv.shape[2] // (3 * len(group))
    return {
        "qkv": qkv, "group": group, "cos": cos, "sin": sin, "n": n, "heads": heads, "scale": head_width**-0.5,
        "eps": NORM_EPS, "NORM": norm, "ROPE": cos is not None, "N": 1 << max(4, (n - 1).bit_length()),
        "WIDTH": head_width,
    }  # fmt: skip


@torch.library.custom_op("trm::attend", mutates_args=())
def attend(qkv: Tensor, group: Tensor, cos: Tensor | None, sin: Tensor | None, norm: bool) -> Tensor:
    """Attention [B, n, D] of queries, keys and values [B, n, 3D], each position to those of its group.

    Args:
        group: [heads, n] int32; positions attend to those of the same number. Negative: to all, and all to them.
        cos, sin: [n, head width] float32, to rotate queries and keys as `trm.model.layers.rotate` does.
        norm: RMS-normalise queries and keys first.
    """
    qkv = qkv.contiguous()
    out, arguments = qkv.new_empty(*qkv.shape[:2], qkv.shape[2] // 3), _arguments(qkv, group, cos, sin, norm)
    rows = min(64, arguments["N"])
    grid = (len(qkv) * len(group), -(-qkv.shape[1] // rows))
    triton_kernels.attend_forward[grid](**arguments, out=out, ROWS=rows, num_warps=4)
    return out


@attend.register_fake
def _(qkv: Tensor, group: Tensor, cos: Tensor | None, sin: Tensor | None, norm: bool) -> Tensor:
    return qkv.new_empty(*qkv.shape[:2], qkv.shape[2] // 3)


@torch.library.custom_op("trm::attend_backward", mutates_args=())
def attend_backward(
    grad: Tensor, qkv: Tensor, group: Tensor, cos: Tensor | None, sin: Tensor | None, norm: bool
) -> Tensor:
    """The gradient [B, n, 3D] of `attend`'s first argument, given that of its result [B, n, D]."""
    qkv, grad = qkv.contiguous(), grad.contiguous()
    grad_qkv, arguments = torch.empty_like(qkv), _arguments(qkv, group, cos, sin, norm)
    warps, grid = 8 if arguments["N"] > 64 else 4, (len(qkv) * len(group),)
    triton_kernels.attend_backward[grid](**arguments, grad_out=grad, grad_qkv=grad_qkv, num_warps=warps)
    return grad_qkv


@attend_backward.register_fake
def _(grad: Tensor, qkv: Tensor, group: Tensor, cos: Tensor | None, sin: Tensor | None, norm: bool) -> Tensor:
    return torch.empty_like(qkv)


def _save_inputs(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.norm = inputs
    ctx.save_for_backward(*tensors)


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
    return attend_backward(grad, *ctx.saved_tensors, ctx.norm), None, None, None, None


attend.register_autograd(_gradient, setup_context=_save_inputs)


@torch.library.custom_op("trm::gated", mutates_args=())
def gated(h: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """sigmoid(g) · g · v [M, H], with g and v the halves of h · weightᵀ, and the mean of (g · v)² [M] float32.

    h [M, D], weight [2H, D] in the same dtype. No gradient.
    """
    h, weight = h.contiguous(), weight.contiguous()
    rows, hidden = len(h), len(weight) // 2
    out, squares = h.new_empty(rows, hidden), h.new_empty(rows, hidden // WIDE, dtype=torch.float32)
    triton_kernels.gated[(-(-rows // TALL) * (hidden // WIDE),)](
        h, weight, out, squares, rows, h.shape[1], hidden, TALL, WIDE, DEEP, num_warps=8, num_stages=3
    )
    return out, squares.sum(-1) / hidden


@gated.register_fake
def _(h: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    rows = h.shape[0]  # `len` would make it a number, of which every other one is compiled for again
    return h.new_empty(rows, weight.shape[0] // 2), h.new_empty(rows, dtype=torch.float32)


@torch.library.custom_op("trm::mix", mutates_args=())
def mix(h: Tensor, gate_up: Tensor, down: Tensor, norm: bool) -> Tensor:
    """A token mixer with its residual and norm, rms(h + down · inner): [n, M], as h.

    inner: silu(g) · v of the halves of gate_up · h; norm: sigmoid(g) · rms(g · v). h [n, M], gate_up [2H, n], down
    [n, H] in the same dtype. No gradient.
    """
    h, (n, hidden) = h.contiguous(), down.shape
    padded = 1 << max(4, (n - 1).bit_length())
    gate_up, down = F.pad(gate_up, (0, padded - n)), F.pad(down, (0, 0, 0, padded - n))
    out, columns = torch.empty_like(h), h.shape[1]
    triton_kernels.mix[(-(-columns // COLUMNS),)](
        h, gate_up, down, out, n, columns, NORM_EPS, norm, padded, hidden, COLUMNS, STRIPE,
        num_warps=8, num_stages=2,
    )  # fmt: skip
    return out


@mix.register_fake
def _(h: Tensor, gate_up: Tensor, down: Tensor, norm: bool) -> Tensor:
    return torch.empty_like(h)
