"""The layers of a network: norm, matrix, SwiGLU, attention, and the block that is made of them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trm.model.config import TRMConfig
from trm.model.positions import group_bias, rotate

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
        self.mix: nn.Module
        if config.mixer == "mlp_t":
            self.mix = SwiGLU(config.length, config.expansion, config.gated_norm)
        else:
            self.mix = Attention(config)
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
