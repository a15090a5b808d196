"""A tiny causal language model with random weights on the grid vocabulary, and a task."""

from pathlib import Path

import numpy as np
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from hybrid.llm.grid.adapter import LoraShape, save_adapter
from hybrid.llm.grid.base_weights import save_parts, weights_hash
from hybrid.llm.grid.lora import ADAPTER, add_adapter
from hybrid.llm.grid.vocabulary import WORDS

PAIRS = [
    (np.array([[1, 2], [3, 4]], np.uint8), np.array([[4, 3], [2, 1]], np.uint8)),
    (np.array([[5, 6, 7]], np.uint8), np.array([[7, 6, 5]], np.uint8)),
    (np.array([[1], [0]], np.uint8), np.array([[0], [1]], np.uint8)),
]
QUESTION = np.array([[8, 0, 8], [1, 1, 2]], np.uint8)


def tiny_config() -> Qwen2Config:
    return Qwen2Config(
        vocab_size=len(WORDS),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
        pad_token_id=None,
        bos_token_id=None,
        eos_token_id=None,
        initializer_range=0.3,
    )


def tiny_model(seed: int = 0) -> Qwen2ForCausalLM:
    torch.manual_seed(seed)
    return Qwen2ForCausalLM(tiny_config()).eval()


def write_tiny(folder: Path, seed: int = 0) -> tuple[Path, Path]:
    """A tiny base model in parts and a random adapter for it: the two folders."""
    base, adapter = folder / "base", folder / "adapter"
    model = tiny_model(seed)
    digest = weights_hash(model)
    save_parts(model, digest, "tiny", base, most_bytes=50_000)
    shape = LoraShape(4, 4)
    trained = add_adapter(model, shape)
    generator = torch.Generator().manual_seed(seed)
    weights = {
        name.replace(f".{ADAPTER}.", "."): 0.1 * torch.randn(weight.shape, generator=generator)
        for name, weight in trained.named_parameters()
        if weight.requires_grad
    }
    save_adapter(adapter, weights, shape, "tiny", {"base_sha256": digest})
    return base, adapter
