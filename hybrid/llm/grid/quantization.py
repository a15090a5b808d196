"""Weights in few bits: 4 for adapters, simulated while they are trained, and 8 for base models that must travel."""

from __future__ import annotations

import torch
from torch import Tensor

GROUP = 64  # weights that share a scale
FOUR_BITS = 7  # the largest magnitude of a symmetric 4-bit weight; 8 is added to store it
EIGHT_BITS = 127


def _grouped(weight: Tensor) -> Tensor:
    """A weight's elements in float32 as [groups, GROUP], the last group filled up with zeros."""
    flat = weight.float().reshape(-1)
    return torch.nn.functional.pad(flat, (0, -len(flat) % GROUP)).view(-1, GROUP)


def _scaled(weight: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Whole numbers from -most to most [groups, GROUP] as float32, and each group's float16 scale [groups, 1]."""
    groups = _grouped(weight)
    scale = (groups.abs().amax(1, keepdim=True) / most).half()
    safe = scale.float().clamp_min(torch.finfo(torch.float16).smallest_normal / 2**10)  # a group of zeros
    return (groups / safe).round().clamp(-most, most), scale


def simulate_four_bits(weight: Tensor) -> Tensor:
    """The weight as 4 bits keep it, in float32; the gradient passes through to `weight` unchanged."""
    with torch.no_grad():
        numbers, scale = _scaled(weight, FOUR_BITS)
        kept = (numbers * scale.float()).reshape(-1)[: weight.numel()].view_as(weight)
        change = kept - weight.float()
    return weight.float() + change


def pack_four_bits(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Two weights a byte, uint8 [rows, columns / 2] (or flat where columns are odd), and float16 scales [groups]."""
    numbers, scale = _scaled(weight, FOUR_BITS)
    halves = (numbers + FOUR_BITS + 1).to(torch.uint8).view(-1, 2)
    return halves[:, 0] | halves[:, 1] << 4, scale.squeeze(1)


def unpack_four_bits(packed: Tensor, scale: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The float32 weight of a shape from `pack_four_bits`."""
    halves = torch.stack([packed & 15, packed >> 4], 1).view(-1, GROUP)
    values = (halves.float() - (FOUR_BITS + 1)) * scale.float()[:, None]
    return values.reshape(-1)[: torch.Size(shape).numel()].view(shape)


def pack_eight_bits(weight: Tensor) -> tuple[Tensor, Tensor]:
    """int8 weights, of the same shape, and float16 scales [groups] of the flattened weight."""
    numbers, scale = _scaled(weight, EIGHT_BITS)
    return numbers.to(torch.int8).reshape(-1)[: weight.numel()].view_as(weight), scale.squeeze(1)


def unpack_eight_bits(numbers: Tensor, scale: Tensor) -> Tensor:
    """The float32 weight from `pack_eight_bits`."""
    groups = _grouped(numbers) * scale.float()[:, None]
    return groups.reshape(-1)[: numbers.numel()].view(numbers.shape)
