"""A network whose weights are known: none are drawn first, since drawing millions takes long."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from trm.model.config import TRMConfig
from trm.model.network import TRM


class _Unfilled(TorchFunctionMode):
    """`torch.empty` allocates nothing: given weights take its place."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return func(*args, **{**(kwargs or {}), **({"device": "meta"} if func is torch.empty else {})})


def filled(config: TRMConfig, state: Mapping[str, Tensor]) -> TRM:
    """A network with copies of weights, in float32. Raises RuntimeError where they do not fit the shape."""
    with _Unfilled():
        model = TRM(config)
    model.load_state_dict({name: _own_float32(weight) for name, weight in state.items()}, assign=True)
    return model


def _own_float32(v: Tensor) -> Tensor:
    return v.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
