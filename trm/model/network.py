"""The Tiny Recursive Model (arXiv:2510.04871): one small network, applied over and over to two states.

It sees tokens only and knows no puzzle. Annotations are evaluated (no `from __future__ import annotations`) because
`PyTorchModelHubMixin` reads the type of `config` to rebuild it from `config.json`.
"""

from typing import NamedTuple

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from trm.model import variants
from trm.model.config import TRMConfig
from trm.model.embedding import TURNS, Embedding
from trm.model.layers import Block, Linear, rms, truncated_normal_
from trm.model.positions import rope2d_tables, rope_tables

__all__ = ["TRM", "TURNS", "Network", "Output", "State"]


class State(NamedTuple):
    """What a puzzle carries from one supervision step to the next; n is `TRMConfig.length`."""

    y: Tensor  # [B, n, D] the answer
    z: Tensor  # [B, n, D] the reasoning; with one state a copy of y, never read


class Output(NamedTuple):
    """What one supervision step says of each puzzle. The network halts where `halt` exceeds `go_on`."""

    logits: Tensor  # [B, L, V] float32
    halt: Tensor  # [B] float32 logit: all cells are right
    go_on: Tensor  # [B] float32 logit: 0, or with q_continue the learned value of another step


class Network(nn.Module):
    """The few layers that are applied over and over.

    With `networks = 2`, `net(h, 1)` applies a second set of layers of the same shape (see `trm.model.variants`).
    """

    def __init__(self, config: TRMConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        if config.networks == 2:
            self.answer_blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.pre = config.norm == "pre"
        self.rope = config.positions in ("rope", "rope2d")
        if self.rope:
            head_dim = config.hidden_size // config.heads
            if config.positions == "rope":
                cos, sin = rope_tables(config.length, head_dim)
            else:
                width = config.canvas_width // config.patch
                cos, sin = rope2d_tables(
                    config.prefix, (config.length - config.prefix) // width, width, head_dim
                )
            self.register_buffer("cos", cos, persistent=False)
            self.register_buffer("sin", sin, persistent=False)

    def forward(self, h: Tensor, which: int = 0) -> Tensor:
        rope = (self.cos, self.sin) if self.rope else None
        for block in self.answer_blocks if which else self.blocks:
            h = block(h, rope)
        return rms(h) if self.pre else h


class TRM(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="hybrid-trm",
    tags=["tiny-recursive-model"],
):
    """Refines an answer y and a reasoning z, one supervision step after the other.

    One `step` is T cycles { n times z ← net(z + y + e); y ← net(y + z) }, the first T−1 without gradient, and then
    logits = W y, halt = q(y at position 0). `dtype` is the arithmetic of the recursion; logits are float32.
    """

    y_init: Tensor  # [D]
    z_init: Tensor

    def __init__(self, config: TRMConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = Embedding(config)
        self.net = Network(config)
        self.head = Linear(config.hidden_size, config.patch**2 * config.vocab_size)
        # Two logits, halt and continue, as the reference implementation saves them; its recipe uses only the first.
        self.halt = nn.Linear(config.hidden_size, 2)
        nn.init.zeros_(self.halt.weight)
        nn.init.constant_(self.halt.bias, -5.0)
        self.register_buffer("y_init", truncated_normal_(torch.empty(config.hidden_size), 1.0))
        self.register_buffer("z_init", truncated_normal_(torch.empty(config.hidden_size), 1.0))
        self.dtype = torch.float32

    def compile_net(self) -> None:
        """Compile `net` in place, once for every shape that it meets; parameters keep their names."""
        import torch._dynamo.config as dynamo  # 0.5 s, which uncompiled networks do without

        # Each canvas, with and without gradient, is a shape of the same code. A fifth canvas would exceed PyTorch's
        # limit of 8, after which it silently runs without compiling.
        dynamo.recompile_limit = max(dynamo.recompile_limit, 64)
        self.net.compile(dynamic=False)

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    def initial_state(self, batch_size: int) -> State:
        """The state of B new puzzles: the same fixed vectors at every position. y, z [B, n, D]."""
        shape = (batch_size, self.config.length, self.config.hidden_size)
        return State(
            self.y_init.to(self.dtype).expand(shape).contiguous(),
            self.z_init.to(self.dtype).expand(shape).contiguous(),
        )

    def cycle(self, y: Tensor, z: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
        """n updates of the reasoning z, then one of the answer y. Literature's variants: `trm.model.variants`."""
        config = self.config
        if config.states == 1 or config.networks == 2 or config.gradient == "step":
            return variants.cycle(self.net, config, y, z, e)
        injected = y + e
        for _ in range(config.l_cycles):
            z = self.net(z + injected)
        return self.net(y + z), z

    def step(
        self, state: State, tokens: Tensor, context: Tensor | None = None, draft: Tensor | None = None
    ) -> tuple[State, Output]:
        """One supervision step.

        Args:
            state: y, z [B, n, D].
            tokens: the questions [B, L] int.
            context: the puzzles' embeddings by number [B] int; with `turns`, 8 · number + symmetry.
            draft: proposed answers [B, L] int; 0 is an unknown cell.

        Returns:
            The next state, detached, and logits [B, L, V], halt [B], go_on [B].
        """
        e = self.embed(tokens, context, draft).to(self.dtype)
        y, z = state
        if positions_first := self.config.mixer == "mlp_t":
            y, z, e = (v.transpose(0, 1).contiguous() for v in (y, z, e))
        with torch.no_grad():
            for _ in range(self.config.h_cycles - 1):
                y, z = self.cycle(y, z, e)
        y, z = self.cycle(y, z, e)  # only the last cycle carries gradient (arXiv:2510.04871)
        if positions_first:
            y, z = y.transpose(0, 1), z.transpose(0, 1)
        logits = self._logits(y[:, self.config.prefix :])
        halt, go_on = self.halt(y[:, 0].float()).unbind(-1)
        if not self.config.q_continue:
            go_on = torch.zeros_like(halt)
        return State(y.detach(), z.detach()), Output(logits, halt, go_on)

    def _logits(self, y: Tensor) -> Tensor:
        """Logits of every cell [B, L, V] float32, from the states of their patches y [B, L / patch², D]."""
        side = self.config.patch
        logits: Tensor = self.head(y).float()
        if side == 1:
            return logits
        across = self.config.canvas_width // side
        split = logits.view(len(y), -1, across, side, side, self.config.vocab_size)
        return split.transpose(2, 3).flatten(1, 4)
