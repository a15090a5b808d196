"""Forward passes over a preallocated key-value store, for decoding and scoring grids with a `transformers` model.

Prompts are padded on the right: then causal attention needs no mask in the prompt, and every row of a batch writes
its new token at its own position. The three classes are what a `transformers` model takes as `past_key_values`:
it calls `update` in every layer and attends to what that returns. The mask comes from the caller, four-dimensional,
which every version of `transformers` passes on as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, PretrainedConfig, PreTrainedModel

ATTENTION = "grid"  # the name under which `grid_attention` is registered
FEW = (
    32  # queries in a row up to which their scores are computed as a matrix, over keys that are not repeated
)


@dataclass
class Store:
    """Keys and values of every layer: keys[layer] and values[layer] are [rows, kv_heads, window, head_dim]."""

    keys: list[Tensor]
    values: list[Tensor]

    @property
    def window(self) -> int:
        return self.keys[0].shape[2]


class Memory:
    """Memory of stores: those that are in use at different times share it, whatever their shapes are."""

    def __init__(self, config: PretrainedConfig, dtype: torch.dtype, device: torch.device) -> None:
        heads = config.num_attention_heads
        self.layers: int = config.num_hidden_layers
        self.kv_heads: int = getattr(config, "num_key_value_heads", None) or heads
        self.head_dim: int = getattr(config, "head_dim", None) or config.hidden_size // heads
        self.dtype, self.device = dtype, device
        self._flat: list[Tensor] = []
        self.generation = 0  # rises when the memory is allocated anew: older stores must not be used any more

    def store(self, rows: int, window: int) -> Store:
        size = rows * window * self.kv_heads * self.head_dim
        if not self._flat or self._flat[0].numel() < size:
            self._flat = []
            # Zeros, since a masked position has weight 0, and 0 times an uninitialised NaN is NaN.
            self._flat = [
                torch.zeros(size, dtype=self.dtype, device=self.device) for _ in range(2 * self.layers)
            ]
            self.generation += 1
        shape = (rows, self.kv_heads, window, self.head_dim)
        views = [flat[:size].view(shape) for flat in self._flat]
        return Store(views[: self.layers], views[self.layers :])


class PromptCache:
    """Stores the prompts of rows first to last - 1 from position 0 on; they attend to themselves alone."""

    def __init__(self, store: Store, first: int, last: int) -> None:
        self.store, self.rows = store, slice(first, last)

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        self.store.keys[layer][self.rows, :, : keys.shape[2]] = keys
        self.store.values[layer][self.rows, :, : values.shape[2]] = values
        return keys, values


class StepCache:
    """Stores tokens of every row at places of their own (places: [rows, T]); they attend to the whole store."""

    def __init__(self, store: Store, places: Tensor) -> None:
        self.store, self.places = store, places
        self.rows = torch.arange(len(places), device=places.device)[:, None]

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        stored_keys, stored_values = self.store.keys[layer], self.store.values[layer]
        stored_keys[self.rows, :, self.places] = keys.transpose(1, 2).to(stored_keys.dtype)
        stored_values[self.rows, :, self.places] = values.transpose(1, 2).to(stored_values.dtype)
        return stored_keys, stored_values


class ContinuationCache:
    """Stores nothing: several continuations, in a row of their own, attend to a stored prompt and to themselves."""

    def __init__(self, store: Store, row: int, length: int) -> None:
        self.store, self.row, self.length = store, row, length

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        prompt_keys = self.store.keys[layer][self.row : self.row + 1, :, : self.length]
        prompt_values = self.store.values[layer][self.row : self.row + 1, :, : self.length]
        joined_keys = torch.cat([prompt_keys, keys.to(prompt_keys.dtype)], dim=2)
        return joined_keys, torch.cat([prompt_values, values.to(prompt_values.dtype)], dim=2)


def grid_attention(
    module: nn.Module,
    query: Tensor,  # [B, heads, Q, head_dim]
    key: Tensor,  # [B, kv_heads, K, head_dim]
    value: Tensor,
    attention_mask: Tensor | None,  # bool, broadcast to [B, heads, Q, K]; None: causal, Q == K
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention as `transformers` calls it; returns [B, Q, heads, head_dim]."""
    query, key = query.to(value.dtype), key.to(value.dtype)
    scale = scaling or query.shape[-1] ** -0.5
    groups = query.shape[1] // key.shape[1]
    if query.shape[2] <= FEW and attention_mask is not None:
        return _attend_few(query, key, value, attention_mask, scale), None
    if attention_mask is not None and query.is_cuda and groups > 1:
        # With a mask, CUDA's fast kernels know no grouped heads.
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    out = F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=attention_mask,
        is_causal=attention_mask is None,
        scale=scale,
        enable_gqa=key.shape[1] != query.shape[1],
    )
    return out.transpose(1, 2), None


def _attend_few(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scale: float) -> Tensor:
    """For few queries in each row: they and the heads that share keys are the rows of one matrix product."""
    rows, heads, queries, head_dim = query.shape
    kv_heads, length = key.shape[1], key.shape[2]
    groups = heads // kv_heads
    grouped = query.reshape(rows * kv_heads, groups * queries, head_dim)
    turned = key.reshape(rows * kv_heads, length, head_dim).transpose(1, 2)
    if grouped.dtype != torch.float32 and _float32_product(query.device, grouped.dtype):
        scores = torch.bmm(grouped, turned, out_dtype=torch.float32)
    else:
        scores = torch.bmm(grouped, turned).float()
    scores = scores.view(rows, kv_heads, groups, queries, length) * scale
    weights = scores.masked_fill(~mask[:, :, None], float("-inf")).softmax(-1).to(value.dtype)
    out = weights.view(rows, kv_heads, groups * queries, length) @ value
    return out.view(rows, heads, queries, head_dim).transpose(1, 2)


@cache
def _float32_product(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether a product of half-precision matrices can be had in float32: scores lose digits otherwise."""
    try:
        matrix = torch.ones(1, 2, 2, dtype=dtype, device=device)
        return torch.bmm(matrix, matrix, out_dtype=torch.float32).dtype == torch.float32
    except (RuntimeError, NotImplementedError, TypeError):
        return False


def compute_dtype(model: PreTrainedModel) -> torch.dtype:
    """The precision of a model's layers; embedding and head may be kept in a higher one."""
    layers = cast(nn.ModuleList, model.base_model.layers)
    return next(layers.parameters()).dtype


def hidden_states(
    model: PreTrainedModel,
    tokens: Tensor,
    positions: Tensor | None = None,
    mask: Tensor | None = None,
    cache: PromptCache | StepCache | ContinuationCache | None = None,
) -> Tensor:
    """A forward pass without the head, as in training: tokens and positions [B, T], hidden states [B, T, D]."""
    table = cast(nn.Embedding, model.get_input_embeddings()).weight
    out = model.base_model(
        inputs_embeds=F.embedding(tokens, table).to(compute_dtype(model)),
        position_ids=positions,
        attention_mask=mask,
        past_key_values=cache,
        use_cache=cache is not None,
    )
    return cast(Tensor, out.last_hidden_state)


def token_logits(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """[..., D] to [..., V]: the head is so small that it runs in float32, and nothing is rounded."""
    head = cast(nn.Linear, cast(Any, model).get_output_embeddings())
    return F.linear(hidden.float(), head.weight.float())


def use_grid_attention(model: PreTrainedModel) -> None:
    """Let the model attend by `grid_attention`, which needs no mask in training and none repeated in decoding."""
    AttentionInterface.register(ATTENTION, grid_attention)
    model.config._attn_implementation = ATTENTION
