"""Test-time training: the adapter of a language model is trained further on the demonstrations of a single task.

The sequences show the demonstrations in all orders, turns and colours, and the outputs from the second pair on are
learned. The adapter's parameters are not quantised here: the result is used for this task and thrown away.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from peft.tuners.lora import Linear as PeftLinear
from torch import Tensor
from transformers import PreTrainedModel

from hybrid.llm.grid.adapter import read_adapter
from hybrid.llm.grid.attention import hidden_states, token_logits, use_grid_attention
from hybrid.llm.grid.base_weights import GridModelError
from hybrid.llm.grid.episodes import IGNORE, Episode, Pair, choose_pairs, draw_view, episode
from hybrid.llm.grid.lora import ADAPTER, add_adapter, compile_layers, low_rank, trained_weights
from hybrid.llm.grid.vocabulary import PADDING

GRAIN = 64  # sequence lengths are padded to multiples of this
FittedWeights = dict[str, Tensor]  # an adapter's parameters by name
SYNCHRONISED_EVERY = 8  # steps, so that the clock that limits the seconds measures work that is done


@dataclass(frozen=True)
class FittingConfig:
    """How a task is learned.

    steps: of the optimiser. learning_rate: of the low-rank matrices, table_learning_rate: of embedding and head; both
    rise over `warmup_steps` and fall linearly to zero. tokens: in a step, at most, of at most `sequences` sequences.
    longest: tokens in a sequence; demonstrations that do not fit are left out of it. seconds: limit, None for none.
    """

    steps: int = 48
    learning_rate: float = 5e-4
    table_learning_rate: float = 1e-4
    warmup_steps: int = 5
    tokens: int = 12_000
    sequences: int = 32
    longest: int = 10_000
    weight_decay: float = 0.01
    seconds: float | None = None


@dataclass(frozen=True)
class FittingReport:
    """loss and accuracy: of the last step, on tokens that are learned. left_out: demonstrations that never fit.

    tokens: of all steps, padding left out.
    """

    steps: int
    loss: float
    accuracy: float
    seconds: float
    left_out: int
    tokens: int


class PlainLinear(PeftLinear):
    """peft's linear layer with an adapter, in the precision of its input."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        down, up = (weight.to(x.dtype) for weight in low_rank(self))
        added = F.linear(F.linear(x, down), up) * self.scaling[ADAPTER]
        return cast(Tensor, self.base_layer(x) + added)


class Fitter:
    """A model with an adapter that is trained on one task after the other, each time from the same start.

    Args:
        model: the base model without the adapter; it is changed in place.
        adapter: folder of the adapter that training starts from.

    Raises:
        GridModelError: where the adapter does not belong to such a model.
    """

    def __init__(self, model: PreTrainedModel, adapter: Path) -> None:
        shape, weights = read_adapter(adapter)
        self.model = add_adapter(model, shape)
        self.layers = {
            name: module for name, module in model.named_modules() if isinstance(module, PeftLinear)
        }
        for module in self.layers.values():
            module.__class__ = PlainLinear
        use_grid_attention(model)
        self.device = next(model.parameters()).device
        self.parameters = trained_weights(model)
        if unknown := sorted(set(self.parameters) ^ set(weights)):
            raise GridModelError(
                f"{adapter}: {len(unknown)} weights are missing or unknown, {unknown[0]} first"
            )
        self.start = {name: weights[name].to(self.device) for name in self.parameters}
        self.least_rows = 1  # of a batch
        self.reset()

    def compile(self) -> None:
        """Compile the layers, which takes a minute or two at the first fit and shortens all of them."""
        compile_layers(self.model)
        self.least_rows = 2  # compiled code would treat a lone row apart

    @torch.no_grad()
    def reset(self, fitted: FittedWeights | None = None) -> None:
        """Forget the task: back to the adapter as it was read, or as it was fitted to an earlier task."""
        for name, parameter in self.parameters.items():
            parameter.copy_((fitted or self.start)[name])

    def weights(self) -> FittedWeights:
        """A copy of the adapter as it is now."""
        return {name: parameter.detach().clone() for name, parameter in self.parameters.items()}

    @torch.no_grad()
    def merge_into(self, target: PreTrainedModel) -> None:
        """Write the weights, with what was learned added, into a plain model of the same shape, in place."""
        weights = dict(target.named_parameters())
        for name, layer in self.layers.items():
            down, up = low_rank(layer)
            base = cast(Tensor, layer.get_base_layer().weight)
            weights[name + ".weight"].copy_(base.float() + up @ down * layer.scaling[ADAPTER])
        for name, parameter in self.parameters.items():
            if ".lora_" not in name:
                weights[name].copy_(parameter)

    def fit(
        self,
        pairs: Sequence[Pair],
        rng: np.random.Generator,
        config: FittingConfig | None = None,
        on_step: Callable[[int, int], None] = lambda done, total: None,
    ) -> FittingReport:
        """Train on a task's demonstrations, from whatever state the adapter is in; a single one is shown twice.

        on_step: called after every step with the number of steps taken and of all.
        """
        config = config or FittingConfig()
        begun = time.perf_counter()
        matrices = [p for name, p in self.parameters.items() if ".lora_" in name]
        tables = [p for name, p in self.parameters.items() if ".lora_" not in name]
        optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": config.weight_decay, "peak": config.learning_rate},
                {"params": tables, "weight_decay": 0.0, "peak": config.table_learning_rate},
            ],
            lr=config.learning_rate,
            betas=(0.9, 0.95),
            fused=self.device.type == "cuda",
        )
        self.model.train()
        result, step, trained = torch.full((2,), float("nan")), 0, 0
        while step < config.steps:
            progress = step / config.steps
            if config.seconds is not None:
                if step % SYNCHRONISED_EVERY == 0 and self.device.type == "cuda":
                    torch.cuda.synchronize()
                progress = max(progress, (time.perf_counter() - begun) / config.seconds)
                if progress >= 1:
                    break
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * min(1.0, (step + 1) / config.warmup_steps) * (1 - progress)
            episodes = draw_episodes(pairs, rng, config)
            trained += sum(map(len, episodes))
            tokens, labels = _batch(episodes, self.least_rows)
            loss, accuracy = self._loss(tokens.to(self.device), labels.to(self.device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(matrices + tables, 1.0)
            optimizer.step()
            result, step = torch.stack([loss.detach(), accuracy]), step + 1
            on_step(step, config.steps)
        self.model.train(False)
        optimizer.zero_grad(set_to_none=True)
        last_loss, last_accuracy = result.tolist()
        left_out = len(pairs) - len(choose_pairs(pairs, range(len(pairs)), config.longest))
        seconds = time.perf_counter() - begun
        return FittingReport(step, last_loss, last_accuracy, seconds, left_out, trained)

    def _loss(self, tokens: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy and accuracy over the labelled tokens of a batch [B, T]."""
        hidden = hidden_states(self.model, tokens)
        logits = token_logits(self.model, hidden[:, :-1]).flatten(0, 1)
        labels = labels[:, 1:].flatten()
        loss = F.cross_entropy(logits, labels, ignore_index=IGNORE)
        learned = labels != IGNORE
        return loss, ((logits.argmax(-1) == labels) & learned).sum() / learned.sum()


def draw_episodes(pairs: Sequence[Pair], rng: np.random.Generator, config: FittingConfig) -> list[Episode]:
    """Sequences for one step: all demonstrations, in an order and a view drawn anew for each sequence."""
    shown = list(pairs) * 2 if len(pairs) == 1 else list(pairs)
    episodes: list[Episode] = []
    used = 0
    while len(episodes) < config.sequences:
        chosen = choose_pairs(shown, rng.permutation(len(shown)), config.longest)
        if len(chosen) < 2:  # all others are too long to stand beside the first
            chosen = chosen or [min(shown, key=lambda pair: pair[0].size + pair[1].size)]
        drawn = episode(chosen, draw_view(rng), learn="later" if len(chosen) > 1 else "all")
        if episodes and used + len(drawn) > config.tokens:
            break
        episodes.append(drawn)
        used += len(drawn)
    return episodes


def _batch(episodes: Sequence[Episode], least_rows: int = 1) -> tuple[Tensor, Tensor]:
    """Tokens and labels [B, T], padded on the right, and with rows in which nothing is learned."""
    shape = (max(len(episodes), least_rows), -(-max(map(len, episodes)) // GRAIN) * GRAIN)
    tokens = np.full(shape, PADDING, np.int64)
    labels = np.full(shape, IGNORE, np.int64)
    for row, drawn in enumerate(episodes):
        tokens[row, : len(drawn)] = drawn.tokens
        labels[row, : len(drawn)] = drawn.labels
    return torch.from_numpy(tokens), torch.from_numpy(labels)
