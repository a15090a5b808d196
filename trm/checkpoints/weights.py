"""Weights as a file holds them, arrays or tensors, and what becomes of them. PyTorch is loaded only for tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    Weight = NDArray[Any] | Tensor

# NumPy has no such numbers. They are the upper halves of float32, and are kept so.
BFLOAT16 = np.dtype([("bfloat16", np.uint16)])
VANISHED = 1e-9  # weights are about 1e-2


def to_float32(weight: Weight) -> NDArray[np.float32]:
    """The same numbers as an array in float32."""
    if not isinstance(weight, np.ndarray):
        return weight.detach().float().cpu().numpy()
    if weight.dtype == BFLOAT16:
        return np.asarray(weight["bfloat16"].astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):  # to infinity, which is refused
        return weight.astype(np.float32, copy=False)


def to_tensor(weight: Weight) -> Tensor:
    """The same numbers as a tensor, of the dtype that they have."""
    import torch  # seconds, which arrays do not need

    if not isinstance(weight, np.ndarray):
        return weight
    if weight.dtype == BFLOAT16:
        return torch.from_numpy(weight["bfloat16"].view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(weight)


def is_dense(weight: object) -> bool:
    """Whether it is an array or a tensor of floating-point numbers, one for each place."""
    if isinstance(weight, np.ndarray):
        return weight.dtype == BFLOAT16 or weight.dtype in (np.float16, np.float32, np.float64)
    import torch

    if not isinstance(weight, torch.Tensor) or weight.layout != torch.strided or weight.is_meta:
        return False
    return weight.dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def is_finite(weight: Weight) -> bool:
    if not isinstance(weight, np.ndarray):
        return bool(weight.isfinite().all())
    if weight.dtype == BFLOAT16:  # not all bits of the exponent are set
        return bool(((weight["bfloat16"] & 0x7F80) != 0x7F80).all())
    return bool(np.isfinite(to_float32(weight)).all())


def without_vanished(weight: Weight) -> Weight:
    """The same, but 0 where weight decay has left so little that a CPU multiplies it twenty times as slowly."""
    if not isinstance(weight, np.ndarray):
        return weight * (weight.abs() > VANISHED)
    if weight.dtype != BFLOAT16:
        return np.asarray(weight * (np.abs(weight) > VANISHED))
    bits = weight["bfloat16"]
    least = np.float32(VANISHED).view(np.uint32) >> 16
    return np.where((bits & 0x7FFF) > least, bits, np.uint16(0)).view(BFLOAT16)
