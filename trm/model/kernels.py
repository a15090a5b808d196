"""Kernels for GPUs, where what lies between products would go to memory and back. Plain twins: `trm.model.network`.

`attend`: attention over few positions, both ways; queries' and keys' norm, what a head sees, softmax. One program
holds all keys of one head of one puzzle, which a grid of up to 128 positions allows. Backward it reads the same
product, and the gradient.

`gated`: the first half of a SwiGLU, with norm or not, without gradient, which most cycles of a step do without: gate
and up in one product, of which half as much is written as by the product alone. The norm is a factor a row and can
wait until after the second product.

`mix`: a whole token mixer, SwiGLU over up to 128 positions with its residual and norm, without gradient. One program
holds all positions of some columns, so that nothing but its input and its output goes to memory.

Written in Triton, which comes with PyTorch for GPUs; `TRITON_INTERPRET=1` runs it on a CPU, slowly.
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
from trm.model.network import NORM_EPS, TRM, Attention, Block, SwiGLU
from trm.model.positions import head_groups

MOST = 128  # positions that one program holds
TALL, WIDE, DEEP = 128, 128, 64  # of a tile of `gated`
COLUMNS, STRIPE = 128, 64  # of a program of `mix`, and of its hidden values at a time


def available() -> bool:
    return importlib.util.find_spec("triton") is not None


if available():
    import triton
    import triton.language as tl

    @triton.jit
    def _load(start, n, stride, first, ROWS: tl.constexpr, WIDTH: tl.constexpr):  # type: ignore[no-untyped-def]
        rows, columns = first + tl.arange(0, ROWS), tl.arange(0, WIDTH)
        at = start + rows[:, None] * stride + columns[None, :]
        return tl.load(at, mask=rows[:, None] < n, other=0.0)

    @triton.jit
    def _store(start, value, n, stride, first, ROWS: tl.constexpr, WIDTH: tl.constexpr):  # type: ignore[no-untyped-def]
        rows, columns = first + tl.arange(0, ROWS), tl.arange(0, WIDTH)
        at = start + rows[:, None] * stride + columns[None, :]
        tl.store(at, value.to(start.dtype.element_ty), mask=rows[:, None] < n)

    @triton.jit
    def _factor(v, eps, NORM: tl.constexpr, WIDTH: tl.constexpr):  # type: ignore[no-untyped-def]
        """What the norm multiplies each row of v [ROWS, WIDTH] (float32) by."""
        squares = tl.sum(v * v, 1) / WIDTH
        return tl.rsqrt(squares + eps) if NORM else squares * 0 + 1

    @triton.jit
    def _turn(v, cos, sin, ROWS: tl.constexpr, WIDTH: tl.constexpr):  # type: ignore[no-untyped-def]
        """Rows of v [ROWS, WIDTH] turned as `trm.model.positions.rotate` does; cos and sin [ROWS, WIDTH / 2]."""
        first, second = tl.split(tl.permute(tl.reshape(v, (ROWS, 2, WIDTH // 2)), (0, 2, 1)))
        turned = tl.join(first * cos - second * sin, second * cos + first * sin)
        return tl.reshape(tl.permute(turned, (0, 2, 1)), (ROWS, WIDTH))

    @triton.jit
    def _weights(q, k, group, n, scale, first, ROWS: tl.constexpr, N: tl.constexpr):  # type: ignore[no-untyped-def]
        """Softmax over what each position from `first` on sees, float32 [ROWS, N]; of rows that are no positions
        anything finite."""
        here, row = tl.arange(0, N), first + tl.arange(0, ROWS)
        mine = tl.load(group + row, mask=row < n, other=-1)
        theirs = tl.load(group + here, mask=here < n, other=-1)
        sees = (mine[:, None] == theirs[None, :]) | (mine[:, None] < 0) | (theirs[None, :] < 0)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
        scores = tl.where(sees & (here[None, :] < n), scores, float("-inf"))
        weights = tl.exp(scores - tl.max(scores, 1)[:, None])
        return weights / tl.sum(weights, 1)[:, None]

    @triton.jit
    def _forward(  # type: ignore[no-untyped-def]
        qkv, group, cos, sin, out, n, heads, scale, eps,
        NORM: tl.constexpr, ROPE: tl.constexpr, ROWS: tl.constexpr, N: tl.constexpr, WIDTH: tl.constexpr,
    ):  # fmt: skip
        """ROWS positions of one head of one puzzle: few, so that several programs share a processor."""
        puzzle, head, first = tl.program_id(0) // heads, tl.program_id(0) % heads, tl.program_id(1) * ROWS
        row = heads * WIDTH
        start = qkv + puzzle.to(tl.int64) * n * 3 * row + head * WIDTH
        dtype = qkv.dtype.element_ty
        q = _load(start, n, 3 * row, first, ROWS, WIDTH).to(tl.float32)
        k = _load(start + row, n, 3 * row, 0, N, WIDTH).to(tl.float32)
        v = _load(start + 2 * row, n, 3 * row, 0, N, WIDTH)
        q *= _factor(q, eps, NORM, WIDTH)[:, None]
        k *= _factor(k, eps, NORM, WIDTH)[:, None]
        if ROPE:
            q = _turn(
                q, _load(cos, n, WIDTH, first, ROWS, WIDTH // 2), _load(sin, n, WIDTH, first, ROWS, WIDTH // 2),
                ROWS, WIDTH,
            )  # fmt: skip
            k = _turn(
                k, _load(cos, n, WIDTH, 0, N, WIDTH // 2), _load(sin, n, WIDTH, 0, N, WIDTH // 2), N, WIDTH
            )
        weights = _weights(q.to(dtype), k.to(dtype), group + head * n, n, scale, first, ROWS, N).to(dtype)
        mixed = tl.dot(weights, v, input_precision="ieee")
        _store(out + puzzle.to(tl.int64) * n * row + head * WIDTH, mixed, n, row, first, ROWS, WIDTH)

    @triton.jit
    def _backward(  # type: ignore[no-untyped-def]
        qkv, group, cos, sin, grad_out, grad_qkv, n, heads, scale, eps,
        NORM: tl.constexpr, ROPE: tl.constexpr, N: tl.constexpr, WIDTH: tl.constexpr,
    ):  # fmt: skip
        puzzle, head = tl.program_id(0) // heads, tl.program_id(0) % heads
        row = heads * WIDTH
        first = puzzle.to(tl.int64) * n * 3 * row + head * WIDTH
        start = qkv + first
        dtype = qkv.dtype.element_ty
        q = _load(start, n, 3 * row, 0, N, WIDTH).to(tl.float32)
        k = _load(start + row, n, 3 * row, 0, N, WIDTH).to(tl.float32)
        v = _load(start + 2 * row, n, 3 * row, 0, N, WIDTH)
        q_factor, k_factor = _factor(q, eps, NORM, WIDTH), _factor(k, eps, NORM, WIDTH)
        q, k = q * q_factor[:, None], k * k_factor[:, None]
        grad = _load(grad_out + puzzle.to(tl.int64) * n * row + head * WIDTH, n, row, 0, N, WIDTH)
        q_turned, k_turned = q, k
        if ROPE:
            cos, sin = _load(cos, n, WIDTH, 0, N, WIDTH // 2), _load(sin, n, WIDTH, 0, N, WIDTH // 2)
            q_turned, k_turned = _turn(q, cos, sin, N, WIDTH), _turn(k, cos, sin, N, WIDTH)
        weights = _weights(q_turned.to(dtype), k_turned.to(dtype), group + head * n, n, scale, 0, N, N)
        grad_v = tl.dot(tl.trans(weights.to(dtype)), grad, input_precision="ieee")
        grad_weights = tl.dot(grad, tl.trans(v), input_precision="ieee")
        grad_scores = weights * (grad_weights - tl.sum(weights * grad_weights, 1)[:, None])
        grad_scores = (grad_scores * scale).to(dtype)
        grad_q = tl.dot(grad_scores, k_turned.to(dtype), input_precision="ieee")
        grad_k = tl.dot(tl.trans(grad_scores), q_turned.to(dtype), input_precision="ieee")
        if ROPE:
            grad_q, grad_k = _turn(grad_q, cos, -sin, N, WIDTH), _turn(grad_k, cos, -sin, N, WIDTH)
        if NORM:
            grad_q = q_factor[:, None] * (grad_q - q * (tl.sum(grad_q * q, 1) / WIDTH)[:, None])
            grad_k = k_factor[:, None] * (grad_k - k * (tl.sum(grad_k * k, 1) / WIDTH)[:, None])
        begin = grad_qkv + first
        _store(begin, grad_q, n, 3 * row, 0, N, WIDTH)
        _store(begin + row, grad_k, n, 3 * row, 0, N, WIDTH)
        _store(begin + 2 * row, grad_v, n, 3 * row, 0, N, WIDTH)

    @triton.jit
    def _gated(  # type: ignore[no-untyped-def]
        h, weight, out, squares, rows, WIDTH: tl.constexpr, HIDDEN: tl.constexpr,
        TALL: tl.constexpr, WIDE: tl.constexpr, DEEP: tl.constexpr,
    ):  # fmt: skip
        """One tile of sigmoid(gate) · gate · up, and each row's sum of (gate · up)² in it."""
        across: tl.constexpr = HIDDEN // WIDE
        # Neighbours in time share rows of h: the weights stay in the cache anyway.
        down, right = tl.program_id(0) // across, tl.program_id(0) % across
        row, column = down * TALL + tl.arange(0, TALL), right * WIDE + tl.arange(0, WIDE)
        inside = row[:, None] < rows
        depth = tl.arange(0, DEEP)
        at = h + row.to(tl.int64)[:, None] * WIDTH + depth[None, :]
        gate_at = weight + column[None, :] * WIDTH + depth[:, None]
        gate, up = tl.zeros((TALL, WIDE), tl.float32), tl.zeros((TALL, WIDE), tl.float32)
        for k in range(0, WIDTH, DEEP):
            left = tl.load(at + k, mask=inside, other=0.0)
            gate = tl.dot(left, tl.load(gate_at + k), gate, input_precision="ieee")
            up = tl.dot(left, tl.load(gate_at + k + HIDDEN * WIDTH), up, input_precision="ieee")
        product = gate * up
        at = out + row.to(tl.int64)[:, None] * HIDDEN + column[None, :]
        tl.store(at, (tl.sigmoid(gate) * product).to(out.dtype.element_ty), mask=inside)
        tl.store(squares + row * across + right, tl.sum(product * product, 1), mask=row < rows)

    @triton.jit
    def _mix(  # type: ignore[no-untyped-def]
        h, gate_up, down, out, n, columns, eps, NORM: tl.constexpr, N: tl.constexpr, HIDDEN: tl.constexpr,
        COLUMNS: tl.constexpr, STRIPE: tl.constexpr,
    ):  # fmt: skip
        """All positions of some columns of h [n, columns]; weights padded to N positions with zeros.

        Turned over, [columns, positions]: what one product makes is then the left side of the next.
        """
        position, stripe = tl.arange(0, N), tl.arange(0, STRIPE)
        column = tl.program_id(0).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
        inside = (position[None, :] < n) & (column[:, None] < columns)
        at = position.to(tl.int64)[None, :] * columns + column[:, None]
        old = tl.load(h + at, mask=inside, other=0.0)
        dtype = old.dtype
        mixed, squares = tl.zeros((COLUMNS, N), tl.float32), tl.zeros((COLUMNS,), tl.float32)
        gate_at = gate_up + stripe[None, :] * N + position[:, None]
        down_at = down + position[None, :] * HIDDEN + stripe[:, None]
        for first in range(0, HIDDEN, STRIPE):
            gate = tl.dot(old, tl.load(gate_at + first * N), input_precision="ieee")
            up = tl.dot(old, tl.load(gate_at + (HIDDEN + first) * N), input_precision="ieee")
            product = gate * up
            if NORM:
                squares += tl.sum(product * product, 1)
            inner = (tl.sigmoid(gate) * product).to(dtype)
            mixed = tl.dot(inner, tl.load(down_at + first), mixed, input_precision="ieee")
        if NORM:
            mixed *= tl.rsqrt(squares / HIDDEN + eps)[:, None]
        new = old.to(tl.float32) + mixed
        new *= tl.rsqrt(tl.sum(new * new, 1) / n + eps)[:, None]
        tl.store(out + at, new.to(dtype), mask=inside)


def use(choice: str, model: TRM) -> None:
    """`fuse` as `train.kernels` says. Raises ConfigError where it was asked for and cannot be done."""
    cuda = model.device.type == "cuda"
    if choice == "fused":
        if not cuda:
            raise ConfigError("[train] kernels 'fused': expected a CUDA device")
        if not fuse(model):
            raise ConfigError(
                "[train] kernels 'fused': no Triton here, or none fits this network (trm/kernels.py)"
            )
    elif choice == "auto" and cuda:
        # Where they were measured (LOG.md): other GPUs have less room on the chip, and float32 is slow.
        hopper = torch.cuda.get_device_capability(model.device)[0] == 9
        if hopper and model.dtype == torch.bfloat16 and _compiler():
            fuse(model)


def _compiler() -> bool:
    """Whether there is what Triton needs to start a kernel: inference, which compiles nothing else, does without."""
    return any(shutil.which(name) for name in (os.environ.get("CC"), "cc", "gcc", "clang") if name)


def fuse(model: TRM) -> bool:
    """Let the network use these kernels, which want CUDA, wherever they fit; whether there is Triton and any does."""
    if not available():
        return False
    for block in _blocks(model):
        fuse_gated(block.mlp)
        if isinstance(block.mix, Attention):
            fuse_attention(block.mix, model.config)
        elif isinstance(block.mix, SwiGLU):
            fuse_mixer(block.mix)
    return fused(model)


def fused(model: TRM) -> bool:
    """Whether the network uses any of them."""
    return any(block.mlp.fused or block.mix.fused for block in _blocks(model))


def _blocks(model: TRM) -> list[Block]:
    return [module for module in model.modules() if isinstance(module, Block)]


def fuse_attention(attention: Attention, config: TRMConfig) -> None:
    if config.length <= MOST and config.hidden_size // config.heads in (32, 64, 128):
        group = head_groups(config) if attention.grouped else torch.zeros(config.heads, config.length)
        attention.register_buffer("group", group.int().to(attention.qkv.weight.device), persistent=False)
        attention.fused = True


def fuse_gated(mlp: SwiGLU) -> None:
    rows, width = mlp.gate_up.weight.shape
    mlp.fused = width % DEEP == 0 and rows // 2 % WIDE == 0


def fuse_mixer(mixer: SwiGLU) -> None:
    rows, positions = mixer.gate_up.weight.shape
    mixer.fused = positions <= MOST and rows // 2 % STRIPE == 0


def _arguments(
    qkv: Tensor, group: Tensor, cos: Tensor | None, sin: Tensor | None, norm: bool
) -> dict[str, Any]:
    n, heads = qkv.shape[1], len(group)
    head_width = qkv.shape[2] // (3 * heads)
    return {
        "qkv": qkv, "group": group, "cos": cos, "sin": sin, "n": n, "heads": heads, "scale": head_width**-0.5,
        "eps": NORM_EPS, "NORM": norm, "ROPE": cos is not None, "N": 1 << max(4, (n - 1).bit_length()),
        "WIDTH": head_width,
    }  # fmt: skip


@torch.library.custom_op("trm::attend", mutates_args=())
def attend(qkv: Tensor, group: Tensor, cos: Tensor | None, sin: Tensor | None, norm: bool) -> Tensor:
    """Attention [B, n, D] of queries, keys and values [B, n, 3D], each position to those of its group.

    group [heads, n] int32: positions see others of the same number; those below 0 see and are seen by all.
    norm: RMS-normalise queries and keys. cos, sin [n, head's width] float32: then turn them, as
    `trm.model.positions.rotate` does.
    """
    qkv = qkv.contiguous()
    out = qkv.new_empty(*qkv.shape[:2], qkv.shape[2] // 3)
    arguments = _arguments(qkv, group, cos, sin, norm)
    rows = min(64, arguments["N"])
    grid = (len(qkv) * len(group), -(-qkv.shape[1] // rows))
    _forward[grid](**arguments, out=out, ROWS=rows, num_warps=4)
    return out


@attend.register_fake
def _(qkv: Tensor, group: Tensor, cos: Tensor | None, sin: Tensor | None, norm: bool) -> Tensor:
    return qkv.new_empty(*qkv.shape[:2], qkv.shape[2] // 3)


@torch.library.custom_op("trm::attend_backward", mutates_args=())
def attend_backward(
    grad: Tensor, qkv: Tensor, group: Tensor, cos: Tensor | None, sin: Tensor | None, norm: bool
) -> Tensor:
    """The gradient [B, n, 3D] of `attend`'s first argument, from that of its result [B, n, D]."""
    qkv, grad = qkv.contiguous(), grad.contiguous()
    grad_qkv = torch.empty_like(qkv)
    arguments = _arguments(qkv, group, cos, sin, norm)
    grid = (len(qkv) * len(group),)
    _backward[grid](**arguments, grad_out=grad, grad_qkv=grad_qkv, num_warps=8 if arguments["N"] > 64 else 4)
    return grad_qkv


@attend_backward.register_fake
def _(grad: Tensor, qkv: Tensor, group: Tensor, cos: Tensor | None, sin: Tensor | None, norm: bool) -> Tensor:
    return torch.empty_like(qkv)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.norm = inputs
    ctx.save_for_backward(*tensors)


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
    return attend_backward(grad, *ctx.saved_tensors, ctx.norm), None, None, None, None


attend.register_autograd(_gradient, setup_context=_keep)


@torch.library.custom_op("trm::gated", mutates_args=())
def gated(h: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """sigmoid(g) · g · v [M, H], with g and v the halves of h · weightᵀ, and the mean of (g · v)² [M] float32.

    h [M, D], weight [2H, D] in the same dtype. No gradient.
    """
    h, weight = h.contiguous(), weight.contiguous()
    rows, hidden = len(h), len(weight) // 2
    out, squares = h.new_empty(rows, hidden), h.new_empty(rows, hidden // WIDE, dtype=torch.float32)
    _gated[(-(-rows // TALL) * (hidden // WIDE),)](
        h, weight, out, squares, rows, h.shape[1], hidden, TALL, WIDE, DEEP, num_warps=8, num_stages=3
    )
    return out, squares.sum(-1) / hidden


@gated.register_fake
def _(h: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    return h.new_empty(len(h), len(weight) // 2), h.new_empty(len(h), dtype=torch.float32)


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
    _mix[(-(-columns // COLUMNS),)](
        h,
        gate_up,
        down,
        out,
        n,
        columns,
        NORM_EPS,
        norm,
        padded,
        hidden,
        COLUMNS,
        STRIPE,
        num_warps=8,
        num_stages=2,
    )
    return out


@mix.register_fake
def _(h: Tensor, gate_up: Tensor, down: Tensor, norm: bool) -> Tensor:
    return torch.empty_like(h)
