"""The shape and arithmetic of a network."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trm.config import ConfigError, check_choices, check_range

TURNS = 8  # symmetries of a square: transposed or not, rows and columns mirrored or not


@dataclass(frozen=True)
class TRMConfig:
    """Shape and arithmetic of a `TRM`. Defaults are those of the reference implementation (arXiv:2510.04871)."""

    seq_len: int  # cells L
    vocab_size: int  # V
    canvas_width: int = 0  # cells in a row, for positions by row and column; 0: the sequence has no rows
    patch: int = 1  # side of the square of cells that is one position (arXiv:2010.11929)
    hidden_size: int = 512  # D
    layers: int = 2
    heads: int = 8
    expansion: float = 4.0  # SwiGLU's hidden width is expansion · D · 2/3, rounded up to a multiple of 256
    mixer: Literal["mlp_t", "attention"] = "attention"
    # groups: no position table; each head attends to a cell's row, column or box, or to everything (`head_groups`)
    positions: Literal["none", "rope", "rope2d", "rowcol", "rowcolbox", "groups"] = "rope"
    box: int = 3  # rows of a box, for rowcolbox and groups
    box_width: int = 0  # columns of a box; 0: as many as rows
    prefix: int = 16  # P positions before the cells
    h_cycles: int = 3  # T
    l_cycles: int = 6  # n
    networks: Literal[1, 2] = 1  # see `TRM.cycle`, also for states and gradient
    states: Literal[1, 2] = 2
    gradient: Literal["cycle", "step"] = (
        "cycle"  # through the last cycle, or only its last updates of z and y
    )
    q_continue: bool = (
        False  # halt where the halting logit exceeds a learned value of another step (HRM), not 0
    )
    norm: Literal["post", "pre"] = "post"  # pre: normalise the input of a layer's parts (arXiv:2002.04745)
    qk_norm: bool = False  # RMS-normalise queries and keys, without weights
    gated_norm: bool = False  # σ(g) ⊙ rms(g ⊙ v) in place of silu(g) ⊙ v: needed by Muon
    draft: bool = False  # the network takes drafts
    feedback: bool = False  # each step's decoded grid is the draft of the next
    identities: int = 0  # embeddings of puzzles or ARC tasks; 0: one learned prefix for all
    identity_dim: int = 0
    turns: bool = (
        False  # the last prefix position says which of 8 symmetries a task is seen under (`trm.data.pairs`)
    )

    def __post_init__(self) -> None:
        check_choices(self, "[model]")
        check_range(
            self, "[model]", ("seq_len", "vocab_size", "patch", "hidden_size", "heads", "box"), least=1
        )
        # More would be refused by nothing: neither memory errors nor an end of the step could be waited for.
        check_range(self, "[model]", ("layers", "h_cycles", "l_cycles"), 1000, least=1)
        check_range(self, "[model]", ("canvas_width", "box_width", "prefix", "identities", "identity_dim"))
        head, room = self.hidden_size // self.heads, (self.prefix - 1) * self.hidden_size
        rows = self.canvas_width > 0 and self.seq_len % self.canvas_width == 0
        attention, positions = self.mixer == "attention", f"positions '{self.positions}'"
        patches = rows and not (
            self.canvas_width % self.patch or self.seq_len // self.canvas_width % self.patch
        )
        mistakes = {
            f"hidden_size {self.hidden_size} does not split into {self.heads} even-sized heads": (
                self.hidden_size % self.heads or head % 2
            ),
            f"{positions} need a canvas_width that divides seq_len": (
                not rows and self.positions in ("rope2d", "rowcol", "rowcolbox", "groups")
            ),
            f"patch {self.patch}: expected a divisor of the canvas' sides": self.patch != 1 and not patches,
            f"{positions} are for single cells, expected 'none', 'rope' or 'rope2d' with patch {self.patch}": (
                self.patch > 1 and self.positions not in ("none", "rope", "rope2d")
            ),
            f"{positions} need mixer 'attention'; expected none, rowcol or rowcolbox": (
                not attention and self.positions in ("rope", "rope2d", "groups")
            ),
            "norm 'pre' needs mixer 'attention'": not attention and self.norm == "pre",
            f"{positions} need heads of a width divisible by 4": self.positions == "rope2d" and head % 4,
            f"{positions} need a multiple of 4 heads (row, column, box, all), not {self.heads}": (
                self.positions == "groups" and self.heads % 4
            ),
            "feedback needs draft = true": self.feedback and not self.draft,
            "identity_dim is larger than prefix · hidden_size": (
                self.identities and self.identity_dim > self.prefix * self.hidden_size
            ),
            "turns need identities, and one prefix position more than identity_dim fills": (
                self.turns and (not self.identities or self.identity_dim > room)
            ),
            "networks = 2 needs states = 2: one network for each": self.networks == 2 and self.states == 1,
            f"expansion {self.expansion}, too small or too large for a hidden width": not (
                1 <= self.expansion * min(self.hidden_size, self.length) < math.inf
            ),
        }
        for mistake, wrong in mistakes.items():
            if wrong:
                raise ConfigError(f"[model] {mistake}")

    @property
    def length(self) -> int:
        """Positions n of a state: P of the prefix, and one for every patch of cells."""
        return self.prefix + self.seq_len // self.patch**2

    def cell_groups(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """The row, the column and the box of each cell, each [L], counted from 0."""
        cells = np.arange(self.seq_len)
        row, col = cells // self.canvas_width, cells % self.canvas_width
        width = self.box_width or self.box
        return row, col, row // self.box * -(-self.canvas_width // width) + col // width

    def on(self, side: int) -> TRMConfig:
        """The same network on a square canvas of another side: with rope2d no weight depends on it."""
        return replace(self, seq_len=side * side, canvas_width=side)
