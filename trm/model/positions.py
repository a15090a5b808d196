"""How a network knows where a cell is: rotary tables, and what each attention head sees."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from trm.model.config import TRMConfig


def rope_tables(n: int, head_dim: int, base: float = 10_000.0) -> tuple[Tensor, Tensor]:
    """cos and sin [n, head_dim] of rotary positions 0 … n−1."""
    frequency = base ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    angle = torch.outer(torch.arange(n, dtype=torch.float32), frequency)
    return _both_halves(angle)


def rope2d_tables(
    prefix: int, height: int, width: int, head_dim: int, base: float = 100.0
) -> tuple[Tensor, Tensor]:
    """cos and sin [prefix + height · width, head_dim]: half of the pairs turn with the row, half with the column.

    Prefix positions do not turn: they are as near to one cell as to any other. The base is small because rows
    and columns are few (as vision transformers do it).
    """
    frequency = base ** (-torch.arange(0, head_dim, 4, dtype=torch.float32) / head_dim)
    row, col = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    angle = torch.cat([torch.outer(at.flatten().float(), frequency) for at in (row, col)], dim=-1)
    angle = F.pad(angle, (0, 0, prefix, 0))
    return _both_halves(angle)


def _both_halves(angle: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin [n, head_dim] of the angles [n, head_dim / 2], once for each half that `rotate` turns.

    In float64: the first cos of float32 in a process of two threads was 1.5e-4 off in 4 of 6,000 (PyTorch 2.13).
    """
    angle = angle.double()
    cos, sin = angle.cos().float(), angle.sin().float()
    return torch.cat((cos, cos), dim=-1), torch.cat((sin, sin), dim=-1)


def cell_groups(config: TRMConfig) -> tuple[Tensor, Tensor, Tensor]:
    """Which row, column and box each cell is in, each [L], counted from 0."""
    cells = torch.arange(config.seq_len)
    row, col = cells // config.canvas_width, cells % config.canvas_width
    return row, col, row // config.box * -(-config.canvas_width // config.box) + col // config.box


def head_groups(config: TRMConfig) -> Tensor:
    """The group [heads, n] of each position to each head, which sees from it those of the same; the prefix has −1.

    Of every four heads the first sees the cell's row, the second its column, the third its box, the fourth
    everything; all see the prefix, and it sees all. So the network knows where a cell is by its groups alone, and
    moving rows within a band, bands, and columns likewise, moves its answer in the same way.
    """
    row, col, box = cell_groups(config)
    group = torch.stack((row, col, box, torch.zeros_like(row)))
    group = F.pad(group, (config.prefix, 0), value=-1)
    return group[torch.arange(config.heads) % len(group)]


def group_bias(config: TRMConfig) -> Tensor:
    """What to add to attention scores [heads, n, n rounded up to 8]: 0 where a head sees, −inf elsewhere.

    The last axis is padded for the kernels' alignment; its end is never read.
    """
    group = head_groups(config)
    same = (group[:, :, None] == group[:, None, :]) | (group < 0)[:, :, None] | (group < 0)[:, None, :]
    bias = torch.zeros(same.shape).masked_fill(~same, -torch.inf)
    return F.pad(bias, (0, -group.shape[1] % 8))


def rotate(v: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate pairs of `v` [B, heads, n, head_dim], in the rotate-half form."""
    first, second = v.float().chunk(2, dim=-1)
    turned = torch.cat((-second, first), dim=-1)
    return (v.float() * cos + turned * sin).to(v.dtype)
