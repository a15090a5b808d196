"""The network's supervision step in NumPy and float32, for processes that would wait longer for PyTorch than for it.

The same arithmetic as `trm.model.network` and `trm.model.layers`, whose names it uses; a test compares the two for
every kind of network. It knows no gradient, and no patches of several cells.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trm.model.config import TURNS, TRMConfig

Array = NDArray[np.float32]
Tokens = NDArray[np.int64]
NORM_EPS = np.float32(1e-5)


class NumpyState(NamedTuple):
    """y, z [B, n, D], as `trm.model.network.State`."""

    y: Array
    z: Array


class NumpyOutput(NamedTuple):
    """logits [B, L, V], halt, go_on [B], and the state after each cycle, as `trm.model.network.Output`."""

    logits: Array
    halt: Array
    go_on: Array
    cycles: tuple[NumpyState, ...] = ()


def rms(v: Array, axis: int = -1) -> Array:
    """Root-mean-square norm over one axis, without weight."""
    if axis in (-1, v.ndim - 1):
        mean = np.einsum("...i,...i->...", v, v)[..., None] / np.float32(v.shape[-1])
    else:
        mean = np.square(v).mean(axis, keepdims=True)
    normed: Array = v / np.sqrt(mean + NORM_EPS)
    return normed


def sigmoid(v: Array) -> Array:
    """The logistic function; far from 0 it ends at 0 and 1."""
    result: Array = np.float32(1) / (np.float32(1) + np.exp(np.minimum(-v, np.float32(80))))
    return result


def can_run(config: TRMConfig) -> bool:
    """Whether a `NumpyNetwork` has the parts of such a network, and noise can be drawn for its state."""
    return config.patch == 1 and config.length * config.hidden_size % 16 == 0


def weight_shapes(config: TRMConfig) -> dict[str, tuple[int, ...]]:
    """The shapes of the weights of a network without patches, by the names that they have in `TRM.state_dict()`."""
    width, embed = config.hidden_size, {"tokens": (config.vocab_size, config.hidden_size)}
    if config.identities:
        embed["identities"] = (config.identities, config.identity_dim)
        embed |= {"turns": (TURNS, width)} if config.turns else {}
    elif config.prefix:
        embed["prefix"] = (config.prefix, width)
    if config.positions in ("rowcol", "rowcolbox"):
        row, col, box = (int(group.max()) + 1 for group in config.cell_groups())
        embed |= {"rows": (row, width), "cols": (col, width)}
        embed |= {"boxes": (box, width)} if config.positions == "rowcolbox" else {}
    embed |= {"draft": (config.vocab_size, width)} if config.draft else {}

    def swiglu(name: str, size: int) -> dict[str, tuple[int, ...]]:
        hidden = -(-round(config.expansion * size * 2 / 3) // 256) * 256
        return {f"{name}.gate_up.weight": (2 * hidden, size), f"{name}.down.weight": (size, hidden)}

    shapes: dict[str, tuple[int, ...]] = {f"embed.{name}": shape for name, shape in embed.items()}
    for blocks in ("blocks", "answer_blocks")[: config.networks]:
        for layer in range(config.layers):
            name = f"net.{blocks}.{layer}"
            shapes |= (
                swiglu(f"{name}.mix", config.length)
                if config.mixer == "mlp_t"
                else {f"{name}.mix.qkv.weight": (3 * width, width), f"{name}.mix.out.weight": (width, width)}
            )
            shapes |= swiglu(f"{name}.mlp", width)
    ends = {"head.weight": (config.vocab_size, width), "halt.weight": (2, width), "halt.bias": (2,)}
    return {**shapes, **ends, "y_init": (width,), "z_init": (width,)}


class NumpyNetwork:
    """A network in evaluation mode. weights: float32 arrays by the names that they have in `TRM.state_dict()`."""

    def __init__(self, config: TRMConfig, weights: Mapping[str, Array]) -> None:
        self.config = config
        # Matrices are used transposed, and lie in memory so.
        self.weights = {
            name: np.ascontiguousarray(value.T) if name.startswith("net.") or name == "head.weight" else value
            for name, value in weights.items()
        }
        self.mixes_positions = config.mixer == "mlp_t"
        self.rope = self._rope() if config.positions in ("rope", "rope2d") else None
        self.sees = self._sees() if config.positions == "groups" else None

    def initial_state(self, batch_size: int) -> NumpyState:
        shape = batch_size, self.config.length, self.config.hidden_size
        return NumpyState(
            *(np.broadcast_to(self.weights[name], shape).copy() for name in ("y_init", "z_init"))
        )

    def step(
        self,
        state: NumpyState,
        tokens: Tokens,
        context: Tokens | None = None,
        draft: Tokens | None = None,
        cycles: bool = False,
    ) -> tuple[NumpyState, NumpyOutput]:
        """One supervision step, as `TRM.step`. tokens, draft [B, L]; context [B]. Weights too large give NaN."""
        with np.errstate(over="ignore", invalid="ignore"):
            return self._step(state, tokens, context, draft, cycles)

    def _step(
        self, state: NumpyState, tokens: Tokens, context: Tokens | None, draft: Tokens | None, cycles: bool
    ) -> tuple[NumpyState, NumpyOutput]:
        config = self.config
        e, (y, z) = self.embed(tokens, context, draft), state
        if self.mixes_positions:
            y, z, e = (np.ascontiguousarray(v.swapaxes(0, 1)) for v in (y, z, e))
        passed = []
        for _ in range(config.h_cycles):
            y, z = self._cycle(y, z, e)
            passed.append(NumpyState(*((v.swapaxes(0, 1) if self.mixes_positions else v) for v in (y, z))))
        after = passed[-1]
        says = after.y[:, 0] @ self.weights["halt.weight"].T + self.weights["halt.bias"]
        go_on = says[:, 1] if config.q_continue else np.zeros_like(says[:, 0])
        output = NumpyOutput(self.logits(after.y), says[:, 0], go_on, tuple(passed) if cycles else ())
        return after, output

    def logits(self, y: Array) -> Array:
        """Logits of every cell [B, L, V], from an answer y [B, n, D]."""
        result: Array = y[:, self.config.prefix :] @ self.weights["head.weight"]
        return result

    def embed(self, tokens: Tokens, context: Tokens | None, draft: Tokens | None) -> Array:
        """Tokens, positions, draft and prefix, added up [B, n, D]."""
        config, weights = self.config, self.weights
        e = weights["embed.tokens"][tokens]
        if config.positions in ("rowcol", "rowcolbox"):
            row, col, box = config.cell_groups()
            e = e + weights["embed.rows"][row] + weights["embed.cols"][col]
            if config.positions == "rowcolbox":
                e = e + weights["embed.boxes"][box]
        if draft is not None:
            e = e + weights["embed.draft"][draft] * (draft != 0)[..., None].astype(np.float32)
        if config.prefix:
            e = np.concatenate((self._prefix(len(tokens), context), e), axis=1)
        result: Array = np.float32(math.sqrt(config.hidden_size)) * e
        return result

    def _prefix(self, batch: int, context: Tokens | None) -> Array:
        config, weights = self.config, self.weights
        rows = np.zeros((batch, config.prefix, config.hidden_size), np.float32)
        if not config.identities:
            rows[:] = weights["embed.prefix"]
            return rows
        context = np.zeros(batch, np.int64) if context is None else context
        identity = weights["embed.identities"][context // TURNS if config.turns else context]
        rows.reshape(batch, -1)[:, : config.identity_dim] = identity
        if config.turns:
            rows[:, -1] = weights["embed.turns"][context % TURNS]
        return rows

    def _cycle(self, y: Array, z: Array, e: Array) -> tuple[Array, Array]:
        config, single = self.config, self.config.states == 1
        z, injected = (y, e) if single else (z, y + e)
        for _ in range(config.l_cycles):
            z = self._net(z + injected)
        y = (
            self._net(z + e)
            if single
            else self._net(y + z, "answer_blocks" if config.networks == 2 else "blocks")
        )
        return (y, y) if single else (y, z)

    def _net(self, h: Array, blocks: str = "blocks") -> Array:
        pre = self.config.norm == "pre"
        for layer in range(self.config.layers):
            name = f"net.{blocks}.{layer}."
            if pre:
                h = h + self._attention(rms(h), name)
                h = h + self._swiglu(rms(h), name + "mlp.")
                continue
            h = self._mix_positions(h, name) if self.mixes_positions else rms(h + self._attention(h, name))
            h = rms(h + self._swiglu(h, name + "mlp."))
        return rms(h) if pre else h

    def _swiglu(self, h: Array, name: str) -> Array:
        down: Array = self.weights[name + "down.weight"]
        flat = h.reshape(-1, h.shape[-1]) @ self.weights[name + "gate_up.weight"]
        result: Array = (self._gated(flat, -1) @ down).reshape(h.shape)
        return result

    def _mix_positions(self, h: Array, name: str) -> Array:
        """SwiGLU over the positions of h [n, B, D], with residual and norm."""
        gate_up, down = (self.weights[f"{name}mix.{part}.weight"].T for part in ("gate_up", "down"))
        mixed = (down @ self._gated(gate_up @ h.reshape(len(h), -1), 0)).reshape(h.shape)
        return rms(h + mixed, 0)

    def _gated(self, both: Array, axis: int) -> Array:
        gate, up = np.split(both, 2, axis=axis)
        if self.config.gated_norm:
            return sigmoid(gate) * rms(gate * up, axis)
        return gate * sigmoid(gate) * up

    def _attention(self, h: Array, name: str) -> Array:
        batch, n, width = h.shape
        heads = self.config.heads
        qkv = h.reshape(-1, width) @ self.weights[name + "mix.qkv.weight"]
        q, k, v = qkv.reshape(batch, n, 3, heads, width // heads).transpose(2, 0, 3, 1, 4)
        if self.config.qk_norm:
            q, k = rms(q), rms(k)
        if self.rope is not None:
            q, k = (self._rotate(part) for part in (q, k))
        scores = q @ k.swapaxes(-1, -2) * np.float32((width // heads) ** -0.5)
        if self.sees is not None:
            scores = scores + self.sees
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (scores / scores.sum(-1, keepdims=True)) @ v
        result: Array = mixed.transpose(0, 2, 1, 3).reshape(-1, width) @ self.weights[name + "mix.out.weight"]
        return result.reshape(h.shape)

    def _rotate(self, v: Array) -> Array:
        assert self.rope is not None
        cos, sin = self.rope
        first, second = np.split(v, 2, axis=-1)
        result: Array = v * cos + np.concatenate((-second, first), axis=-1) * sin
        return result

    def _rope(self) -> tuple[Array, Array]:
        """cos and sin [n, head_dim], as `trm.model.layers.rope_tables` and `rope2d_tables`."""
        config = self.config
        head_dim = config.hidden_size // config.heads
        if config.positions == "rope":
            frequency = np.float32(10_000.0) ** (-np.arange(0, head_dim, 2, dtype=np.float32) / head_dim)
            angle = np.outer(np.arange(config.length, dtype=np.float32), frequency)
        else:
            frequency = np.float32(100.0) ** (-np.arange(0, head_dim, 4, dtype=np.float32) / head_dim)
            row, col, _ = config.cell_groups()
            angle = np.concatenate([np.outer(at.astype(np.float32), frequency) for at in (row, col)], axis=-1)
            angle = np.pad(angle, ((config.prefix, 0), (0, 0)))
        both = np.concatenate((angle, angle), axis=-1).astype(np.float64)
        return np.cos(both).astype(np.float32), np.sin(both).astype(np.float32)

    def _sees(self) -> Array:
        """[heads, n, n]: 0 where a head attends, −inf elsewhere, as `trm.model.layers.group_bias`."""
        row, col, box = self.config.cell_groups()
        kinds = np.stack((row, col, box, np.zeros_like(row)))
        group = np.pad(kinds, ((0, 0), (self.config.prefix, 0)), constant_values=-1)
        group = group[np.arange(self.config.heads) % len(group)]
        same = (group[:, :, None] == group[:, None, :]) | (group < 0)[:, :, None] | (group < 0)[:, None, :]
        return np.where(same, np.float32(0), np.float32(-np.inf))
