"""The network as it is trained: decoder layers without a mask (padding stands right), loss and counts of a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from hybrid.llm.grid.adapter import LoraShape, read_adapter
from hybrid.llm.grid.base_weights import GridModelError, load_base, weights_hash
from hybrid.llm.grid.episodes import IGNORE
from hybrid.llm.grid.lora import add_adapter, trained_weights
from hybrid.llm.grid.shipped import shipped
from hybrid.llm.grid.vocabulary import WORDS, set_cut_config
from hybrid.llm.store.fetch import pull
from hybrid.llm.tuning.config import ModelConfig
from trm.config import ConfigError


class GridTrainer(nn.Module):
    """A causal language model of the Llama kind, called with tokens and labels."""

    def __init__(self, model: PreTrainedModel, bf16: bool, checkpointing: bool = False) -> None:
        """bf16: compute in bfloat16. checkpointing: keep only the layers' inputs for the backward pass."""
        super().__init__()
        self.model, self.bf16, self.checkpointing = model, bf16, checkpointing
        layer_weight = next(cast(Any, model).model.layers.parameters())
        self.autocast = bf16 and layer_weight.dtype == torch.float32

    def forward(self, tokens: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """tokens, labels: [B, T]. Returns the summed cross-entropy, and which labels [B, T - 1] are the likeliest."""
        device = tokens.device.type
        whole = cast(Any, self.model)
        inner = whole.model
        with torch.autocast(device, torch.bfloat16, enabled=self.autocast):
            hidden = F.embedding(tokens, inner.embed_tokens.weight)
            hidden = hidden.bfloat16() if self.bf16 else hidden
            positions = torch.arange(tokens.shape[1], device=tokens.device)[None]
            rotary = inner.rotary_emb(hidden, positions)
            for layer in inner.layers:
                if self.checkpointing and self.training:
                    hidden = checkpoint(_run, layer, hidden, rotary, use_reentrant=False)
                else:
                    hidden = _run(layer, hidden, rotary)
            hidden = inner.norm(hidden)
        logits = F.linear(hidden[:, :-1].float(), whole.lm_head.weight.float())  # [B, T - 1, V]
        targets = labels[:, 1:]
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORE, reduction="sum")
        return loss, logits.argmax(-1) == targets


def _run(layer: nn.Module, hidden: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    out = layer(hidden, attention_mask=None, position_embeddings=rotary, use_cache=False)
    return cast(Tensor, out[0] if isinstance(out, tuple) else out)


def build(config: ModelConfig, device: torch.device, bf16: bool, seed: int) -> tuple[PreTrainedModel, str]:
    """The model to train and the hash of its base weights. Raises GridModelError, BackendError."""
    dtype = torch.bfloat16 if bf16 and config.method == "lora" else torch.float32
    if config.base == "random":
        model = random_model(config, seed)
        cast(torch.nn.Module, model).to(device)
        for parameter in model.parameters():
            parameter.data = parameter.data.to(dtype)
        digest = weights_hash(model)
    else:
        model, digest = load_base(base_folder(config.base), str(device), dtype)
    if config.method == "lora":
        shape = LoraShape(config.rank, config.alpha)
        add_adapter(model, shape)
        if config.adapter:
            start_from(model, adapter_folder(config.adapter), shape)
    return model, digest


def start_from(model: PreTrainedModel, folder: Path, shape: LoraShape) -> None:
    """Give a model's new adapter, embedding and head the values of an adapter in a folder. Raises GridModelError."""
    found, weights = read_adapter(folder)
    if found != shape:
        raise GridModelError(
            f"{folder}: rank {found.rank} and alpha {found.alpha:g}, "
            f"[model] has rank {shape.rank} and alpha {shape.alpha:g}"
        )
    trained = trained_weights(model)
    unlike = [
        name
        for name in sorted(set(trained) | set(weights))
        if name not in trained or name not in weights or trained[name].shape != weights[name].shape
    ]
    if unlike:
        raise GridModelError(f"{folder}: trained on another model; {unlike[0]} is missing or of another size")
    with torch.no_grad():
        for name, parameter in trained.items():
            parameter.copy_(weights[name])


def adapter_folder(adapter: str) -> Path:
    """The folder of an adapter that is named by it, or that ships under this name. Raises ConfigError."""
    if Path(adapter).is_dir():
        return Path(adapter)
    known = shipped()
    if adapter not in known:
        raise ConfigError(
            f'[model] adapter "{adapter}": no such folder, expected one or {", ".join(known) or "none"}'
        )
    return known[adapter].folder


def random_model(config: ModelConfig, seed: int) -> PreTrainedModel:
    """A small Llama-like model with random weights."""
    shape = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=config.hidden_size,
        intermediate_size=3 * config.hidden_size,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.heads,
        max_position_embeddings=8192,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(shape)
    set_cut_config(model)
    return model


def base_folder(base: str) -> Path:
    """The folder of a base model: `base` itself, or where the model of that name is kept."""
    if Path(base).is_dir():
        return Path(base)
    return pull(base)
