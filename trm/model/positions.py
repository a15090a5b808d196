"""How a network knows where a cell is: rotary tables, and which positions each attention head attends to."""

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
    """cos and sin [prefix + height · width, head_dim]: half of the pairs rotate with the row, half with the column.

    Prefix positions are not rotated: they are equally near to all cells. The base is small because rows and columns
    are few, as in vision transformers.
    """
    frequency = base ** (-torch.arange(0, head_dim, 4, dtype=torch.float32) / head_dim)
    row, col = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    angle = torch.cat([torch.outer(at.flatten().float(), frequency) for at in (row, col)], dim=-1)
    angle = F.pad(angle, (0, 0, prefix, 0))
    return _both_halves(angle)


def _both_halves(angle: Tensor) -> tuple[Tensor, Tensor]:
    """cos and sin [n, head_dim] of the angles [n, head_dim / 2], repeated for the two halves of `rotate`.

    In float64: the first cos of float32 in a process of two threads was 1.5e-4 off in 4 of 6,000 (PyTorch 2.13).
    """
    angle = angle.double()
    cos, sin = angle.cos().float(), angle.sin().float()
    return torch.cat((cos, cos), dim=-1), torch.cat((sin, sin), dim=-1)


def cell_groups(config: TRMConfig) -> tuple[Tensor, Tensor, Tensor]:
    """The row, the column and the box of each cell, each [L], counted from 0."""
    cells = torch.arange(config.seq_len)
    row, col = cells // config.canvas_width, cells % config.canvas_width
    return row, col, row // config.box * -(-config.canvas_width // config.box) + col // config.box


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
