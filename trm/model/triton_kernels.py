"""The Triton programs behind `trm.model.kernels`. Importing this module needs Triton."""

# mypy: disallow-untyped-decorators=False
from __future__ import annotations

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
    """The factor that RMS-normalises each row of v [ROWS, WIDTH] (float32); 1 without NORM."""
    squares = tl.sum(v * v, 1) / WIDTH
    return tl.rsqrt(squares + eps) if NORM else squares * 0 + 1


@triton.jit
def _rotate(v, cos, sin, ROWS: tl.constexpr, WIDTH: tl.constexpr):  # type: ignore[no-untyped-def]
    """Rotate rows of v [ROWS, WIDTH] as `trm.model.layers.rotate` does; cos and sin [ROWS, WIDTH / 2]."""
    first, second = tl.split(tl.permute(tl.reshape(v, (ROWS, 2, WIDTH // 2)), (0, 2, 1)))
    rotated = tl.join(first * cos - second * sin, second * cos + first * sin)
    return tl.reshape(tl.permute(rotated, (0, 2, 1)), (ROWS, WIDTH))


@triton.jit
def _weights(q, k, group, n, scale, first, ROWS: tl.constexpr, N: tl.constexpr):  # type: ignore[no-untyped-def]
    """Attention weights of the positions from `first` on, float32 [ROWS, N]; finite also in rows beyond the last."""
    here, row = tl.arange(0, N), first + tl.arange(0, ROWS)
    own = tl.load(group + row, mask=row < n, other=-1)
    others = tl.load(group + here, mask=here < n, other=-1)
    sees = (own[:, None] == others[None, :]) | (own[:, None] < 0) | (others[None, :] < 0)
    scores = tl.dot(q, tl.trans(k), input_precision="ieee") * scale
    scores = tl.where(sees & (here[None, :] < n), scores, float("-inf"))
    weights = tl.exp(scores - tl.max(scores, 1)[:, None])
    return weights / tl.sum(weights, 1)[:, None]


@triton.jit
def attend_forward(  # type: ignore[no-untyped-def]
    qkv, group, cos, sin, out, n, heads, scale, eps,
    NORM: tl.constexpr, ROPE: tl.constexpr, ROWS: tl.constexpr, N: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """ROWS positions of one head of one puzzle: few, so that several programs fit on a multiprocessor."""
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
        q = _rotate(
            q, _load(cos, n, WIDTH, first, ROWS, WIDTH // 2), _load(sin, n, WIDTH, first, ROWS, WIDTH // 2),
            ROWS, WIDTH,
        )  # fmt: skip
        k = _rotate(
            k, _load(cos, n, WIDTH, 0, N, WIDTH // 2), _load(sin, n, WIDTH, 0, N, WIDTH // 2), N, WIDTH
        )
    weights = _weights(q.to(dtype), k.to(dtype), group + head * n, n, scale, first, ROWS, N).to(dtype)
    mixed = tl.dot(weights, v, input_precision="ieee")
    _store(out + puzzle.to(tl.int64) * n * row + head * WIDTH, mixed, n, row, first, ROWS, WIDTH)


@triton.jit
def attend_backward(  # type: ignore[no-untyped-def]
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
    q_rotated, k_rotated = q, k
    if ROPE:
        cos, sin = _load(cos, n, WIDTH, 0, N, WIDTH // 2), _load(sin, n, WIDTH, 0, N, WIDTH // 2)
        q_rotated, k_rotated = _rotate(q, cos, sin, N, WIDTH), _rotate(k, cos, sin, N, WIDTH)
    weights = _weights(q_rotated.to(dtype), k_rotated.to(dtype), group + head * n, n, scale, 0, N, N)
    grad_v = tl.dot(tl.trans(weights.to(dtype)), grad, input_precision="ieee")
    grad_weights = tl.dot(grad, tl.trans(v), input_precision="ieee")
    grad_scores = weights * (grad_weights - tl.sum(weights * grad_weights, 1)[:, None])
    grad_scores = (grad_scores * scale).to(dtype)
    grad_q = tl.dot(grad_scores, k_rotated.to(dtype), input_precision="ieee")
    grad_k = tl.dot(tl.trans(grad_scores), q_rotated.to(dtype), input_precision="ieee")
    if ROPE:
        grad_q, grad_k = _rotate(grad_q, cos, -sin, N, WIDTH), _rotate(grad_k, cos, -sin, N, WIDTH)
    if NORM:
        grad_q = q_factor[:, None] * (grad_q - q * (tl.sum(grad_q * q, 1) / WIDTH)[:, None])
        grad_k = k_factor[:, None] * (grad_k - k * (tl.sum(grad_k * k, 1) / WIDTH)[:, None])
    begin = grad_qkv + first
    _store(begin, grad_q, n, 3 * row, 0, N, WIDTH)
    _store(begin + row, grad_k, n, 3 * row, 0, N, WIDTH)
    _store(begin + 2 * row, grad_v, n, 3 * row, 0, N, WIDTH)


@triton.jit
def gated(  # type: ignore[no-untyped-def]
    h, weight, out, squares, rows, WIDTH: tl.constexpr, HIDDEN: tl.constexpr,
    TALL: tl.constexpr, WIDE: tl.constexpr, DEEP: tl.constexpr,
):  # fmt: skip
    """One tile of sigmoid(gate) · gate · up, and each row's sum of (gate · up)² in it."""
    across: tl.constexpr = HIDDEN // WIDE
    # Programs that run together share rows of h; the weights stay in the cache anyway.
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
def mix(  # type: ignore[no-untyped-def]
    h, gate_up, down, out, n, columns, eps, NORM: tl.constexpr, N: tl.constexpr, HIDDEN: tl.constexpr,
    COLUMNS: tl.constexpr, STRIPE: tl.constexpr,
):  # fmt: skip
    """All positions of some columns of h [n, columns]; weights padded to N positions with zeros.

    Transposed, [columns, positions]: the result of one product is then the left side of the next.
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
