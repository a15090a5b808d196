"""The Tiny Recursive Model (arXiv:2510.04871): one small network, applied over and over to two states.

It sees tokens only and knows no puzzle. Annotations are evaluated (no `from __future__ import annotations`) because
`PyTorchModelHubMixin` reads the type of `config` to rebuild it from `config.json`.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from trm.model.config import TURNS as TURNS
from trm.model.config import TRMConfig
from trm.model.layers import (
    Block,
    Linear,
    cell_groups,
    rms,
    rope2d_tables,
    rope_tables,
    truncated_normal_,
)


class State(NamedTuple):
    """What a puzzle carries from one supervision step to the next; n is `TRMConfig.length`."""

    y: Tensor  # [B, n, D] the answer
    z: Tensor  # [B, n, D] the reasoning; with one state a copy of y, never read


class Output(NamedTuple):
    """What one supervision step says of each puzzle. The network halts where `halt` exceeds `go_on`.

    cycles: where `step` was asked for them, the state after each of its T cycles, for `TRM.logits`.
    """

    logits: Tensor  # [B, L, V] float32
    halt: Tensor  # [B] float32 logit: all cells are right
    go_on: Tensor  # [B] float32 logit: 0, or with q_continue the learned value of another step
    cycles: tuple[State, ...] = ()


class Embedding(nn.Module):
    """Tokens, positions, draft and prefix, added up to e [B, n, D].

    A patch of several cells is the sum of their embeddings, with a table for each place in the patch.
    """

    row_of: Tensor  # [L] the row, column and box of each cell
    col_of: Tensor
    box_of: Tensor
    place_of: Tensor  # [L] the place of each cell in its patch, times the vocabulary

    def __init__(self, config: TRMConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size

        def table(rows: int) -> nn.Parameter:
            return nn.Parameter(truncated_normal_(torch.empty(rows, width), width**-0.5))

        places, side = config.patch**2, config.patch
        self.tokens = table(places * config.vocab_size)
        if places > 1:
            row, col, _ = cell_groups(config)
            place = row % side * side + col % side
            self.register_buffer("place_of", config.vocab_size * place, persistent=False)
        if config.identities:
            self.identities = nn.Parameter(torch.zeros(config.identities, config.identity_dim))
            if config.turns:
                self.turns = table(TURNS)
        elif config.prefix:
            self.prefix = table(config.prefix)
        if config.positions in ("rowcol", "rowcolbox"):
            groups = cell_groups(config)
            self.rows, self.cols = table(config.seq_len // config.canvas_width), table(config.canvas_width)
            if config.positions == "rowcolbox":
                self.boxes = table(int(groups[2].max()) + 1)
            for name, group in zip(("row_of", "col_of", "box_of"), groups, strict=True):
                self.register_buffer(name, group, persistent=False)
        if config.draft:
            # Zero, so that drafts have no effect until they are trained on. Row 0 ("unknown") is never used.
            self.draft = nn.Parameter(torch.zeros(places * config.vocab_size, width))

    def forward(self, tokens: Tensor, context: Tensor | None, draft: Tensor | None) -> Tensor:
        config = self.config
        e = self._cells(tokens, self.tokens)
        if config.positions in ("rowcol", "rowcolbox"):
            e = e + self.rows[self.row_of] + self.cols[self.col_of]
        if config.positions == "rowcolbox":
            e = e + self.boxes[self.box_of]
        if draft is not None:
            if not config.draft:
                raise ValueError("this network was not trained on drafts, expected draft=None")
            e = e + self._cells(draft, self.draft, draft != 0)
        if config.prefix:
            e = torch.cat((self._prefix(tokens, context).to(e.dtype), e), dim=1)
        return math.sqrt(config.hidden_size) * e

    def _cells(self, tokens: Tensor, table: Tensor, counted: Tensor | None = None) -> Tensor:
        """Embeddings of tokens [B, L], summed over patches: [B, L / patch², D]. Only `counted` cells add to it."""
        side = self.config.patch
        rows = F.embedding(tokens if side == 1 else tokens + self.place_of, table)
        if counted is not None:
            rows = rows * counted.unsqueeze(-1)
        if side == 1:
            return rows
        across = self.config.canvas_width // side
        split = rows.view(len(rows), -1, side, across, side, rows.shape[-1])
        return split.sum((2, 4)).flatten(1, 2) / side  # of the same size as a single cell's

    def _prefix(self, tokens: Tensor, context: Tensor | None) -> Tensor:
        config, batch = self.config, tokens.shape[0]
        if not config.identities:
            return self.prefix.expand(batch, -1, -1)
        if context is None:
            context = tokens.new_zeros(batch)
        vector = F.embedding(context // TURNS if config.turns else context, self.identities)
        vector = F.pad(vector, (0, config.prefix * config.hidden_size - config.identity_dim))
        rows = vector.view(batch, config.prefix, config.hidden_size)
        if not config.turns:
            return rows
        return torch.cat((rows[:, :-1], F.embedding(context % TURNS, self.turns).unsqueeze(1)), dim=1)


class Network(nn.Module):
    """The few layers that are applied over and over; with `networks = 2` there is a second set, `net(h, 1)`."""

    def __init__(self, config: TRMConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        if config.networks == 2:
            self.answer_blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.pre = config.norm == "pre"
        self.rope = config.positions in ("rope", "rope2d")
        if self.rope:
            head_dim, prefix = config.hidden_size // config.heads, config.prefix
            tables = rope_tables(config.length, head_dim)
            if config.positions == "rope2d":
                width = config.canvas_width // config.patch
                tables = rope2d_tables(prefix, (config.length - prefix) // width, width, head_dim)
            for name, table in zip(("cos", "sin"), tables, strict=True):
                self.register_buffer(name, table, persistent=False)

    def forward(self, h: Tensor, which: int = 0) -> Tensor:
        rope = (self.cos, self.sin) if self.rope else None
        for block in self.answer_blocks if which else self.blocks:
            h = block(h, rope)
        return rms(h) if self.pre else h


class TRM(nn.Module, PyTorchModelHubMixin, library_name="hybrid-trm", tags=["tiny-recursive-model"]):
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
        for name in ("y_init", "z_init"):
            self.register_buffer(name, truncated_normal_(torch.empty(config.hidden_size), 1.0))
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
        return State(*(v.to(self.dtype).expand(shape).contiguous() for v in (self.y_init, self.z_init)))

    def cycle(self, y: Tensor, z: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
        """n updates of the reasoning z, then one of the answer y. Keys of TRMConfig have literature's variants:

        - `states = 1` (ablation in arXiv:2510.04871): no separate reasoning; a cycle is n+1 updates y ← net(y + e).
        - `networks = 2` (HRM, arXiv:2506.21734): a second network updates the answer.
        - `gradient = "step"` (HRM): only the last update of z and the last of y carry gradient.

        HRM's fourth difference, halting by Q-learning, is `q_continue` and `trm.training.losses.continue_target`.
        """
        config, single = self.config, self.config.states == 1
        z, injected = (y, e) if single else (z, y + e)
        with_gradient = 1 if config.gradient == "step" else config.l_cycles
        for left in range(config.l_cycles, 0, -1):
            with torch.set_grad_enabled(torch.is_grad_enabled() and left <= with_gradient):
                z = self.net(z + injected)
        y = self.net(z + e) if single else self.net(y + z, config.networks - 1)
        return (y, y) if single else (y, z)

    def step(
        self,
        state: State,
        tokens: Tensor,
        context: Tensor | None = None,
        draft: Tensor | None = None,
        cycles: bool = False,
    ) -> tuple[State, Output]:
        """One supervision step.

        Args:
            state: y, z [B, n, D].
            tokens: the questions [B, L] int.
            context: the puzzles' embeddings by number [B] int; with `turns`, 8 · number + symmetry.
            draft: proposed answers [B, L] int; 0 is an unknown cell.
            cycles: whether the output holds the state after every cycle.

        Returns:
            The next state, detached, and logits [B, L, V], halt [B], go_on [B].
        """
        e = self.embed(tokens, context, draft).to(self.dtype)
        y, z = state
        if positions_first := self.config.mixer == "mlp_t":
            y, z, e = (v.transpose(0, 1).contiguous() for v in (y, z, e))
        passed: list[State] = []
        with torch.no_grad():
            for _ in range(self.config.h_cycles - 1):
                y, z = self.cycle(y, z, e)
                if cycles:
                    passed.append(
                        State(y.transpose(0, 1), z.transpose(0, 1)) if positions_first else State(y, z)
                    )
        y, z = self.cycle(y, z, e)  # only the last cycle carries gradient (arXiv:2510.04871)
        if positions_first:
            y, z = y.transpose(0, 1), z.transpose(0, 1)
        logits = self.logits(y)
        halt, go_on = self.halt(y[:, 0].float()).unbind(-1)
        if not self.config.q_continue:
            go_on = torch.zeros_like(halt)
        after = State(y.detach(), z.detach())
        return after, Output(logits, halt, go_on, (*passed, after) if cycles else ())

    def logits(self, y: Tensor) -> Tensor:
        """Logits of every cell [B, L, V] float32, from an answer y [B, n, D]."""
        side = self.config.patch
        logits: Tensor = self.head(y[:, self.config.prefix :]).float()
        if side == 1:
            return logits
        across = self.config.canvas_width // side
        split = logits.view(len(y), -1, across, side, side, self.config.vocab_size)
        return split.transpose(2, 3).flatten(1, 4)
