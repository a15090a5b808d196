"""The Tiny Recursive Model (arXiv:2510.04871): one small network, applied over and over to two states.

Tokens only: nothing here knows a puzzle. Annotations are evaluated (no `from __future__ import annotations`)
because `PyTorchModelHubMixin` reads the type of `config` to rebuild it from `config.json`.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from trm.model.config import TRMConfig
from trm.model.positions import cell_groups, group_bias, rope2d_tables, rope_tables, rotate

NORM_EPS = 1e-5
TURNS = 8  # of a grid: turned or not, mirrored or not


class State(NamedTuple):
    """What a puzzle carries from one supervision step to the next."""

    y: Tensor  # [B, n, D] the answer; with one state that one (n: `TRMConfig.length`, P+L where a patch is one cell)
    z: Tensor  # [B, n, D] the reasoning; with one state its copy, never read


class Output(NamedTuple):
    logits: Tensor  # [B, L, V] float32
    halt: Tensor  # [B] float32 logit: all cells right
    go_on: Tensor  # [B] float32 logit that `halt` must exceed to halt: 0, or with q_continue a learned one


def rms(v: Tensor, dim: int = -1) -> Tensor:
    """Root-mean-square norm over one axis, in float32, without weight."""
    if v.dtype == torch.bfloat16 and v.device.type == "cpu" and not torch.is_grad_enabled():
        # Large float32 copies are what a CPU spends its time on; only the mean needs float32.
        mean = (v * v).mean(dim, keepdim=True, dtype=torch.float32)
        return v * torch.rsqrt(mean + NORM_EPS).to(v.dtype)
    v32 = v.float()
    return (v32 * torch.rsqrt(v32.square().mean(dim, keepdim=True) + NORM_EPS)).to(v.dtype)


def truncated_normal_(tensor: Tensor, std: float) -> Tensor:
    """Normal cut at two standard deviations, rescaled so that `std` is the result's own."""
    lower = 2.0
    pdf = math.exp(-0.5 * lower**2) / math.sqrt(2 * math.pi)
    mass = math.erf(lower / math.sqrt(2))
    kept = math.sqrt(1 - 2 * lower * pdf / mass)
    return nn.init.trunc_normal_(tensor, std=1.0, a=-lower, b=lower).mul_(std / kept)


class Linear(nn.Module):
    """Matrix without bias, cast to its input's dtype."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(truncated_normal_(torch.empty(fan_out, fan_in), fan_in**-0.5))

    def forward(self, h: Tensor) -> Tensor:
        return F.linear(h, self.weight.to(h.dtype))


class SwiGLU(nn.Module):
    def __init__(self, width: int, expansion: float, gated_norm: bool) -> None:
        super().__init__()
        hidden = -(-round(expansion * width * 2 / 3) // 256) * 256
        self.gate_up = Linear(width, 2 * hidden)
        self.down = Linear(hidden, width)
        self.gated_norm = gated_norm
        self.fused = False  # by `trm.model.kernels.fuse`

    def forward(self, h: Tensor) -> Tensor:
        if self.fused and not torch.is_grad_enabled():
            inner, square = torch.ops.trm.gated(h.flatten(0, -2), self.gate_up.weight.to(h.dtype))
            flat: Tensor = self.down(inner)
            if self.gated_norm:
                flat = (flat * torch.rsqrt(square + NORM_EPS)[:, None]).to(h.dtype)
            return flat.view_as(h)
        gate, up = self.gate_up(h).chunk(2, dim=-1)
        inner = torch.sigmoid(gate) * rms(gate * up) if self.gated_norm else F.silu(gate) * up
        result: Tensor = self.down(inner)
        return result

    def first_axis(self, h: Tensor) -> Tensor:
        """The same over the first axis of h [n, B, D], with residual and norm: plain matrix products from the left,
        nothing transposed."""
        gate_up, down, flat = self.gate_up.weight.to(h.dtype), self.down.weight.to(h.dtype), h.flatten(1)
        if self.fused and not torch.is_grad_enabled():
            mixed: Tensor = torch.ops.trm.mix(flat, gate_up, down, self.gated_norm)
            return mixed.view_as(h)
        gate, up = (gate_up @ flat).chunk(2)
        inner = torch.sigmoid(gate) * rms(gate * up, 0) if self.gated_norm else F.silu(gate) * up
        return rms(h + (down @ inner).view_as(h), 0)


class Attention(nn.Module):
    sees: Tensor  # [heads, n, n rounded up]: 0 or −inf
    group: Tensor  # [heads, n] int32, what `trm.model.kernels` takes instead

    def __init__(self, config: TRMConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.qk_norm = config.qk_norm
        self.grouped = config.positions == "groups"
        if self.grouped:
            self.register_buffer("sees", group_bias(config), persistent=False)
        self.fused = False  # by `trm.model.kernels.fuse`
        self.qkv = Linear(config.hidden_size, 3 * config.hidden_size)
        self.out = Linear(config.hidden_size, config.hidden_size)

    def forward(self, h: Tensor, rope: tuple[Tensor, Tensor] | None) -> Tensor:
        batch, n, width = h.shape
        qkv = self.qkv(h)
        if self.fused:
            cos, sin = rope if rope is not None else (None, None)
            attended: Tensor = self.out(torch.ops.trm.attend(qkv, self.group, cos, sin, self.qk_norm))
            return attended
        q, k, v = qkv.view(batch, n, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        if self.qk_norm:
            q, k = rms(q), rms(k)
        if rope is not None:
            q, k = rotate(q, *rope), rotate(k, *rope)
        sees = self.sees.to(q.dtype)[..., :n] if self.grouped else None
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=sees)
        result: Tensor = self.out(mixed.transpose(1, 2).reshape(batch, n, width))
        return result


class Block(nn.Module):
    """Mix positions, then channels; each with a residual, and a norm after the sum or (`norm = "pre"`) before.

    The attention block takes h [B, n, D]; the token mixer h [n, B, D], as all of its recursion (see `TRM.step`).
    """

    def __init__(self, config: TRMConfig) -> None:
        super().__init__()
        self.mix: nn.Module
        if config.mixer == "mlp_t":
            self.mix = SwiGLU(config.length, config.expansion, config.gated_norm)
        else:
            self.mix = Attention(config)
        self.mlp = SwiGLU(config.hidden_size, config.expansion, config.gated_norm)
        self.pre = config.norm == "pre"

    def forward(self, h: Tensor, rope: tuple[Tensor, Tensor] | None) -> Tensor:
        mix = self.mix
        if self.pre:
            h = h + mix(rms(h), rope)
            summed: Tensor = h + self.mlp(rms(h))
            return summed
        h = mix.first_axis(h) if isinstance(mix, SwiGLU) else rms(h + mix(h, rope))
        return rms(h + self.mlp(h))


class Network(nn.Module):
    """`net(h)`: the few layers that everything is made of. Where there are two networks, `net(h, 1)` is the second:
    layers of the same shape for the answer alone (arXiv:2506.21734's high-level module)."""

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


class Embedding(nn.Module):
    """Tokens, positions, draft and prefix to e [B, n, D].

    A patch is the sum of its cells, each place in it with a table of its own.
    """

    row_of: Tensor  # [L] which row, column and box each cell is in
    col_of: Tensor
    box_of: Tensor
    place_of: Tensor  # [L] where in its patch each cell is, times the vocabulary

    def __init__(self, config: TRMConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size

        def table(rows: int) -> nn.Parameter:
            return nn.Parameter(truncated_normal_(torch.empty(rows, width), width**-0.5))

        places = config.patch**2
        self.tokens = table(places * config.vocab_size)
        if places > 1:
            cells, side = torch.arange(config.seq_len), config.patch
            row, col = cells // config.canvas_width % side, cells % config.canvas_width % side
            self.register_buffer("place_of", config.vocab_size * (row * side + col), persistent=False)
        if config.identities:
            self.identities = nn.Parameter(torch.zeros(config.identities, config.identity_dim))
            if config.turns:
                self.turns = table(TURNS)
        elif config.prefix:
            self.prefix = table(config.prefix)
        if config.positions in ("rowcol", "rowcolbox"):
            height = config.seq_len // config.canvas_width
            row, col, box = cell_groups(config)
            self.rows, self.cols = table(height), table(config.canvas_width)
            self.register_buffer("row_of", row, persistent=False)
            self.register_buffer("col_of", col, persistent=False)
            if config.positions == "rowcolbox":
                self.boxes = table(int(box.max()) + 1)
                self.register_buffer("box_of", box, persistent=False)
        if config.draft:
            # Zero at first: an untrained draft channel says nothing. Row 0 ("unknown") is never used.
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
        """The table's rows of tokens [B, L], those of a patch added up: [B, L / patch², D]; 0 where not `counted`."""
        side = self.config.patch
        rows = F.embedding(tokens if side == 1 else tokens + self.place_of, table)
        if counted is not None:
            rows = rows * counted.unsqueeze(-1)
        if side == 1:
            return rows
        across = self.config.canvas_width // side
        split = rows.view(len(rows), -1, side, across, side, rows.shape[-1])
        return split.sum((2, 4)).flatten(1, 2) / side  # as large as one cell's row is

    def _prefix(self, tokens: Tensor, context: Tensor | None) -> Tensor:
        config, batch = self.config, tokens.shape[0]
        if not config.identities:
            return self.prefix.expand(batch, -1, -1)
        if context is None:
            context = tokens.new_zeros(batch)
        turn = context % TURNS
        identity = context // TURNS if config.turns else context
        vector = F.embedding(identity, self.identities)
        vector = F.pad(vector, (0, config.prefix * config.hidden_size - config.identity_dim))
        rows = vector.view(batch, config.prefix, config.hidden_size)
        if config.turns:
            rows = torch.cat((rows[:, :-1], F.embedding(turn, self.turns).unsqueeze(1)), dim=1)
        return rows


class TRM(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="hybrid-trm",
    tags=["tiny-recursive-model"],
):
    """Refines an answer y and a reasoning z for at most a few supervision steps.

    One `step`: T times { n times z ← net(z + y + e); y ← net(y + z) }, the first T−1 without gradient; then
    logits = W y, halt = q(y at position 0). `dtype` sets the arithmetic of the recursion; heads and losses
    are float32 outside. The literature's variants of it (one state, two networks, one-step gradient, a learned
    logit of going on) are keys of the config.
    """

    y_init: Tensor  # [D]
    z_init: Tensor

    def __init__(self, config: TRMConfig) -> None:
        super().__init__()
        self.config = config
        self.embed = Embedding(config)
        self.net = Network(config)
        self.head = Linear(config.hidden_size, config.patch**2 * config.vocab_size)
        # Two logits, halt and continue, as the reference saves them; its recipe uses the first alone.
        self.halt = nn.Linear(config.hidden_size, 2)
        nn.init.zeros_(self.halt.weight)
        nn.init.constant_(self.halt.bias, -5.0)
        self.register_buffer("y_init", truncated_normal_(torch.empty(config.hidden_size), 1.0))
        self.register_buffer("z_init", truncated_normal_(torch.empty(config.hidden_size), 1.0))
        self.dtype = torch.float32

    def compile_net(self) -> None:
        """Compile `net` in place, once for every shape that it meets; parameters keep their names."""
        import torch._dynamo.config as dynamo

        # Canvases, and with and without gradient, are shapes of one piece of code, whatever model has it. A fifth
        # canvas would pass PyTorch's limit of 8, after which it runs op by op and does not say so.
        dynamo.recompile_limit = max(dynamo.recompile_limit, 64)
        self.net.compile(dynamic=False)

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    def initial_state(self, batch_size: int) -> State:
        """A fresh state: the same fixed vectors at every position. y, z [B, n, D]."""
        shape = (batch_size, self.config.length, self.config.hidden_size)
        return State(
            self.y_init.to(self.dtype).expand(shape).contiguous(),
            self.z_init.to(self.dtype).expand(shape).contiguous(),
        )

    def cycle(self, y: Tensor, z: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
        """n updates of the reasoning, one of the answer; with one state n+1 of that: y ← net(y + e).

        With `gradient = "step"` the last update of each alone carries gradient (arXiv:2506.21734).
        """
        config = self.config
        single = config.states == 1
        blind = config.l_cycles - 1 if config.gradient == "step" else 0
        z, injected = (y, e) if single else (z, y + e)
        with torch.no_grad():
            for _ in range(blind):
                z = self.net(z + injected, 0)
        for _ in range(config.l_cycles - blind):
            z = self.net(z + injected, 0)
        if single:
            y = self.net(z + e, 0)
            return y, y
        return self.net(y + z, config.networks - 1), z

    def step(
        self, state: State, tokens: Tensor, context: Tensor | None = None, draft: Tensor | None = None
    ) -> tuple[State, Output]:
        """One supervision step.

        tokens, draft [B, L] int (draft 0 = unknown); context [B] int, the puzzle's identity (with
        `turns`: eight times that, plus the turn). Returns the detached next state and logits [B, L, V], halt and
        go_on [B] (float32).
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
        """Of every cell [B, L, V] float32, from the positions of their patches [B, L / patch², D]."""
        side = self.config.patch
        logits: Tensor = self.head(y).float()
        if side == 1:
            return logits
        across = self.config.canvas_width // side
        split = logits.view(len(y), -1, across, side, side, self.config.vocab_size)
        return split.transpose(2, 3).flatten(1, 4)
