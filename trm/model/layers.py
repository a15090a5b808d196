"""The layers of a network: norm, matrix, SwiGLU, attention with its positions, and the block that is made of them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trm.model.config import TRMConfig

NORM_EPS = 1e-5


def rms(v: Tensor, dim: int = -1) -> Tensor:
    """Root-mean-square norm over one axis, in float32, without weight."""
    if v.dtype == torch.bfloat16 and v.device.type == "cpu" and not torch.is_grad_enabled():
        # Only the mean needs float32: a CPU would spend most of its time on large float32 copies.
        mean = (v * v).mean(dim, keepdim=True, dtype=torch.float32)
        return v * torch.rsqrt(mean + NORM_EPS).to(v.dtype)
    v32 = v.float()
    return (v32 * torch.rsqrt(v32.square().mean(dim, keepdim=True) + NORM_EPS)).to(v.dtype)


def truncated_normal_(tensor: Tensor, std: float) -> Tensor:
    """Fill with a normal distribution cut at two standard deviations, scaled so that the result's is `std`."""
    lower = 2.0
    pdf = math.exp(-0.5 * lower**2) / math.sqrt(2 * math.pi)
    mass = math.erf(lower / math.sqrt(2))
    kept = math.sqrt(1 - 2 * lower * pdf / mass)
    return nn.init.trunc_normal_(tensor, std=1.0, a=-lower, b=lower).mul_(std / kept)


class Linear(nn.Module):
    """A matrix without bias, used in its input's dtype."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(truncated_normal_(torch.empty(fan_out, fan_in), fan_in**-0.5))

    def forward(self, h: Tensor) -> Tensor:
        return F.linear(h, self.weight.to(h.dtype))


class SwiGLU(nn.Module):
    """down(silu(g) ⊙ v) with g, v = gate_up(h); with `gated_norm`, down(σ(g) ⊙ rms(g ⊙ v))."""

    def __init__(self, width: int, expansion: float, gated_norm: bool) -> None:
        super().__init__()
        hidden = -(-round(expansion * width * 2 / 3) // 256) * 256
        self.gate_up = Linear(width, 2 * hidden)
        self.down = Linear(hidden, width)
        self.gated_norm = gated_norm
        self.fused = False  # set by `trm.model.kernels.fuse`

    def forward(self, h: Tensor) -> Tensor:
        if self.fused and not torch.is_grad_enabled():
            inner, square = torch.ops.trm.gated(h.flatten(0, -2), self.gate_up.weight.to(h.dtype))
            flat: Tensor = self.down(inner)
            if self.gated_norm:
                flat = (flat * torch.rsqrt(square + NORM_EPS)[:, None]).to(h.dtype)
            return flat.view_as(h)
        gate, up = self.gate_up(h).chunk(2, dim=-1)
        inner = torch.sigmoid(gate) * rms(gate * up) if self.gated_norm else F.silu(gate) * up
        result: Tensor = self.down(inner)
        return result

    def first_axis(self, h: Tensor) -> Tensor:
        """The same over the positions of h [n, B, D], with residual and norm: matrix products without transposing."""
        gate_up, down, flat = self.gate_up.weight.to(h.dtype), self.down.weight.to(h.dtype), h.flatten(1)
        if self.fused and not torch.is_grad_enabled():
            mixed: Tensor = torch.ops.trm.mix(flat, gate_up, down, self.gated_norm)
            return mixed.view_as(h)
        gate, up = (gate_up @ flat).chunk(2)
        inner = torch.sigmoid(gate) * rms(gate * up, 0) if self.gated_norm else F.silu(gate) * up
        return rms(h + (down @ inner).view_as(h), 0)


def rope_tables(n: int, head_dim: int, base: float = 10_000.0) -> tuple[Tensor, Tensor]:
    """cos and sin [n, head_dim] of rotary positions 0 … n−1."""
    frequency = base ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    return _both_halves(torch.outer(torch.arange(n, dtype=torch.float32), frequency))


def rope2d_tables(
    prefix: int, height: int, width: int, head_dim: int, base: float = 100.0
) -> tuple[Tensor, Tensor]:
    """cos and sin [prefix + height · width, head_dim]: half of the pairs rotate with the row, half with the column.

    Prefix positions are not rotated: they are equally near to all cells. The base is small because rows and columns
    are few, as in vision transformers.
    """
    frequency = base ** (-torch.arange(0, head_dim, 4, dtype=torch.float32) / head_dim)
    row, col = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    angle = torch.cat([torch.outer(at.flatten().float(), frequency) for at in (row, col)], dim=-1)
    return _both_halves(F.pad(angle, (0, 0, prefix, 0)))


def _both_halves(angle: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin [n, head_dim] of the angles [n, head_dim / 2], repeated for the two halves of `rotate`.

    In float64: the first cos of float32 in a process of two threads was 1.5e-4 off in 4 of 6,000 (PyTorch 2.13).
    """
    angle = angle.double()
    cos, sin = angle.cos().float(), angle.sin().float()
    return torch.cat((cos, cos), dim=-1), torch.cat((sin, sin), dim=-1)


def cell_groups(config: TRMConfig) -> tuple[Tensor, Tensor, Tensor]:
    """The row, the column and the box of each cell, each [L], counted from 0."""
    row, col, box = map(torch.from_numpy, config.cell_groups())
    return row, col, box


def head_groups(config: TRMConfig) -> Tensor:
    """The group [heads, n] of each position in each head, which attends within groups; the prefix has group −1.

    Of every four heads the first attends to the cell's row, the second to its column, the third to its box, the
    fourth to everything. All attend to the prefix, and it to all. As only groups tell positions apart, the network is
    equivariant to exchanging rows within a band, bands, and columns likewise.
    """
    row, col, box = cell_groups(config)
    group = torch.stack((row, col, box, torch.zeros_like(row)))
    group = F.pad(group, (config.prefix, 0), value=-1)
    return group[torch.arange(config.heads) % len(group)]


def group_bias(config: TRMConfig) -> Tensor:
    """The attention mask [heads, n, n rounded up to 8]: 0 where a head attends, −inf elsewhere.

    The last axis is padded because PyTorch's kernels want it aligned.
    """
    group = head_groups(config)
    same = (group[:, :, None] == group[:, None, :]) | (group < 0)[:, :, None] | (group < 0)[:, None, :]
    bias = torch.zeros(same.shape).masked_fill(~same, -torch.inf)
    return F.pad(bias, (0, -group.shape[1] % 8))


def rotate(v: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the pairs of v [B, heads, n, head_dim], in the rotate-half form."""
    first, second = v.float().chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return (v.float() * cos + turned * sin).to(v.dtype)


class Attention(nn.Module):
    """Multi-head self-attention h [B, n, D] to [B, n, D], rotated by `rope` where positions are rotary."""

    sees: Tensor  # [heads, n, n rounded up]: 0 or −inf
    group: Tensor  # [heads, n] int32, the same for `trm.model.kernels`

    def __init__(self, config: TRMConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qk_norm = config.qk_norm
        self.grouped = config.positions == "groups"
        if self.grouped:
            self.register_buffer("sees", group_bias(config), persistent=False)
        self.fused = False  # set by `trm.model.kernels.fuse`
        self.qkv = Linear(config.hidden_size, 3 * config.hidden_size)
        self.out = Linear(config.hidden_size, config.hidden_size)

    def forward(self, h: Tensor, rope: tuple[Tensor, Tensor] | None) -> Tensor:
        batch, n, width = h.shape
        qkv = self.qkv(h)
        if self.fused:
            cos, sin = rope if rope is not None else (None, None)
            attended: Tensor = self.out(torch.ops.trm.attend(qkv, self.group, cos, sin, self.qk_norm))
            return attended
        q, k, v = qkv.view(batch, n, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        if self.qk_norm:
            q, k = rms(q), rms(k)
        if rope is not None:
            q, k = rotate(q, *rope), rotate(k, *rope)
        sees = self.sees.to(q.dtype)[..., :n] if self.grouped else None
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=sees)
        result: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, n, width))
        return result


class Block(nn.Module):
    """Mix positions, then channels, each with a residual and a norm: after the sum, or before with `norm = "pre"`.

    With attention h is [B, n, D], with the token mixer [n, B, D] (see `TRM.step`).
    """

    def __init__(self, config: TRMConfig) -> None:
        super().__init__()
        over_positions = config.mixer == "mlp_t"
        self.mix: nn.Module = (
            SwiGLU(config.length, config.expansion, config.gated_norm)
            if over_positions
            else Attention(config)
        )
        self.mlp = SwiGLU(config.hidden_size, config.expansion, config.gated_norm)
        self.pre = config.norm == "pre"

    def forward(self, h: Tensor, rope: tuple[Tensor, Tensor] | None) -> Tensor:
        mix = self.mix
        if self.pre:
            h = h + mix(rms(h), rope)
            summed: Tensor = h + self.mlp(rms(h))
            return summed
        h = mix.first_axis(h) if isinstance(mix, SwiGLU) else rms(h + mix(h, rope))
        return rms(h + self.mlp(h))
