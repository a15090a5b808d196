"""What a checkpoint may hold, checked once where a file is opened: plain data, and dense weights by name."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trm.checkpoints import CheckpointError
from trm.checkpoints.weights import is_dense, is_finite
from trm.model.config import TRMConfig
from trm.text import parse_json

if TYPE_CHECKING:
    from trm.checkpoints.weights import Weight

MOST_CELLS = 1 << 16  # a table of positions has as many rows


def plain_table(value: object, where: str) -> dict[str, Any]:
    """A table of numbers, texts, lists and tables, as JSON has them. Raises CheckpointError, begun with `where`."""
    try:
        copy = parse_json(json.dumps(value))
    except (TypeError, ValueError, RecursionError):
        copy = None
    if not isinstance(copy, dict):
        raise CheckpointError(f"{where}: expected a table of plain data")
    return copy


def weights_by_name(value: object, where: str) -> dict[str, Weight]:
    """Dense and finite weights by name, arrays or tensors. Raises CheckpointError, begun with `where`."""
    if not isinstance(value, dict) or not value:
        raise CheckpointError(f"{where}: expected weights by name")
    for name, weight in value.items():
        if not isinstance(name, str) or not hasattr(weight, "shape"):
            raise CheckpointError(f"{where}: {name!r} is no weight, expected tensors by name")
        if not is_dense(weight):
            found = f"{weight.dtype}, {getattr(weight, 'layout', 'an array')}"
            raise CheckpointError(f"{where}: {name!r} is {found}; expected dense numbers")
        if not is_finite(weight):
            raise CheckpointError(
                f"{where}: {name!r} has weights that are no finite numbers: the file is damaged"
            )
    return value


def check_size(config: TRMConfig, state: Mapping[str, Weight], where: str) -> None:
    """Raise CheckpointError where a network of this shape has more weights than there are: before it is allocated."""
    width, positions = config.hidden_size, config.length
    side = positions if config.mixer == "mlp_t" else 0
    least = max(
        config.vocab_size * width,
        config.identities * max(config.identity_dim, 1),
        config.prefix,
        int(config.layers * config.expansion * max(width, side) ** 2 / 2),
    )
    there = sum(math.prod(weight.shape) for weight in state.values())
    if least > there or config.seq_len > MOST_CELLS:
        shape = f"{config.seq_len} cells, {config.layers} layers of width {width}"
        raise CheckpointError(
            f"{where}: weights do not fit the config: {there} numbers, expected those of {shape}"
        )
