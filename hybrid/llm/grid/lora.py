"""Low-rank adapters (LoRA, by peft) that are trained as 4 bits keep them."""

from __future__ import annotations

from typing import Any, cast

import torch.nn.functional as F
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import Linear as PeftLinear
from torch import Tensor
from torch.nn import Parameter
from transformers import PreTrainedModel

from hybrid.llm.grid.adapter import TARGETS, LoraShape
from hybrid.llm.grid.quantization import simulate_four_bits
from hybrid.llm.grid.vocabulary import table_weights

ADAPTER = "default"  # peft's name for the only adapter


class FourBitLinear(PeftLinear):
    """peft's linear layer with an adapter; the adapter's two matrices count as 4 bits keep them.

    The arithmetic is in the base weight's precision, whatever that of the adapter's parameters.
    """

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        down, up = (simulate_four_bits(weight).to(x.dtype) for weight in low_rank(self))
        added: Tensor = F.linear(F.linear(x, down), up) * self.scaling[ADAPTER]
        return cast(Tensor, self.base_layer(x)) + added


def low_rank(layer: PeftLinear) -> tuple[Tensor, Tensor]:
    """The two matrices of a layer's adapter: down [rank, in], up [out, rank]."""
    return cast(Tensor, layer.lora_A[ADAPTER].weight), cast(Tensor, layer.lora_B[ADAPTER].weight)


def stored_name(name: str) -> str:
    """The name under which an adapter's file keeps a parameter of a model that has the adapter."""
    return name.replace(f".{ADAPTER}.", ".").replace(".base_layer.", ".")


def trained_weights(model: PreTrainedModel) -> dict[str, Parameter]:
    """The parameters that train, by their names in an adapter's file."""
    return {stored_name(name): p for name, p in model.named_parameters() if p.requires_grad}


def add_adapter(model: PreTrainedModel, shape: LoraShape) -> PreTrainedModel:
    """Freeze a model and put a new adapter (which changes nothing yet) on all its linear layers, in place.

    The adapter, the embedding and the head are left to train, in float32.
    """
    alpha = cast(int, shape.alpha)  # peft only divides it by the rank
    config = LoraConfig(r=shape.rank, lora_alpha=alpha, target_modules=list(TARGETS), lora_dropout=0.0)
    inject_adapter_in_model(config, model)
    for module in model.modules():
        if isinstance(module, PeftLinear):
            module.__class__ = FourBitLinear
    tables = table_weights(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".lora_" in name or any(parameter is table for table in tables))
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model


def compile_layers(model: PreTrainedModel) -> None:
    """Compile the decoder layers (all share one compiled function) for any length and two or more sequences."""
    for layer in cast(Any, model).model.layers:
        layer.compile(dynamic=True)
