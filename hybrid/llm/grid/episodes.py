"""Tasks as token sequences: views (turns and colour permutations) of their grids, prompts, and training sequences.

A sequence is `I rows O rows E` for each pair of a task, one pair after the other. A puzzle with rules (Sudoku, maze)
has one pair and starts with `S`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hybrid.llm.grid.vocabulary import BLANK, END, INPUT, OUTPUT, PUZZLE, Tokens, grid_to_tokens
from trm.grid import Grid

Pair = tuple[Grid, Grid]  # input, output
Colors = NDArray[np.uint8]  # [10]: what each colour becomes

TURNS = 8
COLORS = 10
IGNORE = -100  # the label of a token that is not learned
MAZE_SYMBOLS = " #SGo"  # the characters of a maze, in the order of their tokens from 0
_MAZE_CODES = np.frombuffer(MAZE_SYMBOLS.encode(), dtype=np.uint8)


def turn_grid(grid: Grid, turn: int) -> Grid:
    """One of the 8 turns of a grid: rows mirrored (1) + columns mirrored (2) + then transposed (4)."""
    if turn & 1:
        grid = grid[::-1]
    if turn & 2:
        grid = grid[:, ::-1]
    return grid.T if turn & 4 else grid


def unturn_grid(grid: Grid, turn: int) -> Grid:
    """The inverse of `turn_grid`."""
    if turn & 4:
        grid = grid.T
    if turn & 2:
        grid = grid[:, ::-1]
    return grid[::-1] if turn & 1 else grid


def draw_colors(rng: np.random.Generator) -> Colors:
    """A random colour permutation: 40 % keep 0, 40 % are free, 20 % change nothing."""
    colors = np.arange(COLORS, dtype=np.uint8)
    draw = rng.random()
    if draw < 0.4:
        colors[1:] = rng.permutation(colors[1:])
    elif draw < 0.8:
        colors = rng.permutation(colors)
    return colors


@dataclass(frozen=True)
class View:
    """How a task's grids are seen: a turn and a colour permutation, which `invert` undoes."""

    turn: int = 0
    colors: Colors = field(default_factory=lambda: np.arange(COLORS, dtype=np.uint8))

    def apply(self, grid: Grid) -> Grid:
        return self.colors[turn_grid(grid, self.turn)]

    def invert(self, grid: Grid) -> Grid:
        return unturn_grid(np.argsort(self.colors).astype(np.uint8)[grid], self.turn)


IDENTITY = View()


def draw_view(rng: np.random.Generator) -> View:
    """A random turn and a random colour permutation."""
    return View(int(rng.integers(TURNS)), draw_colors(rng))


@dataclass(frozen=True)
class Episode:
    """A sequence to learn from or to score. tokens, labels: [T]; a label is the token itself, or IGNORE."""

    tokens: Tokens
    labels: Tokens

    def __len__(self) -> int:
        return len(self.tokens)


def input_length(grid: Grid) -> int:
    """Tokens of `I rows O` for an input."""
    return int(grid.size + max(grid.shape) + 2)


def pair_length(pair: Pair) -> int:
    """Tokens of `I rows O rows E`, under the turn that needs the most."""
    return int(input_length(pair[0]) + pair[1].size + max(pair[1].shape) + 1)


def input_tokens(cells: NDArray[np.integer]) -> Tokens:
    """`I rows O`: after it the model writes the output."""
    return np.concatenate([[INPUT], grid_to_tokens(cells), [OUTPUT]])


def output_tokens(cells: NDArray[np.integer]) -> Tokens:
    """`rows E`: an output as the model writes it."""
    return np.concatenate([grid_to_tokens(cells), [END]])


def choose_pairs(pairs: Sequence[Pair], order: Sequence[int] | NDArray[np.integer], room: int) -> list[Pair]:
    """The pairs in the given order, without those that no longer fit into `room` tokens."""
    chosen = []
    for number in order:
        length = pair_length(pairs[number])
        if length <= room:
            chosen.append(pairs[number])
            room -= length
    return chosen


def prompt(pairs: Sequence[Pair], question: Grid, view: View = IDENTITY) -> Tokens:
    """A task's demonstrations and a test input under a view, up to where the model goes on with the output."""
    parts = [part for pair in pairs for part in _pair_tokens(pair, view, view)]
    return np.concatenate([*parts, input_tokens(view.apply(question))])


def episode(
    pairs: Sequence[Pair],
    view: View = IDENTITY,
    output_view: View | None = None,
    learn: Literal["all", "later", "last"] = "later",
    inputs: bool = False,
) -> Episode:
    """A task's pairs under a view, with labels.

    Args:
        output_view: the view of the outputs, where it differs from that of the inputs (another task comes of it).
        learn: which outputs have labels: of all pairs, of all but the first, or only of the last.
        inputs: whether the inputs of all but the first pair have labels too.
    """
    tokens: list[Tokens] = []
    labels: list[Tokens] = []
    for number, pair in enumerate(pairs):
        before, after = _pair_tokens(pair, view, output_view or view)
        last = number == len(pairs) - 1
        learned = learn == "all" or (learn == "later" and number > 0) or (learn == "last" and last)
        tokens += [before, after]
        labels += [_labels(before, inputs and number > 0), _labels(after, learned)]
    return Episode(np.concatenate(tokens), np.concatenate(labels))


def _pair_tokens(pair: Pair, view: View, output_view: View) -> tuple[Tokens, Tokens]:
    return input_tokens(view.apply(pair[0])), output_tokens(output_view.apply(pair[1]))


def _labels(tokens: Tokens, learned: bool) -> Tokens:
    return tokens if learned else np.full_like(tokens, IGNORE)


def puzzle_prompt(cells: NDArray[np.integer]) -> Tokens:
    """A puzzle with rules, as cell tokens [H, W] (`sudoku_cells`, `maze_cells`), up to where the answer begins."""
    return np.concatenate([[PUZZLE], input_tokens(cells)])


def puzzle_episode(question: NDArray[np.integer], answer: NDArray[np.integer]) -> Episode:
    """A puzzle with rules and its answer, both as cell tokens [H, W]; the answer has labels."""
    before, after = puzzle_prompt(question), output_tokens(answer)
    return Episode(np.concatenate([before, after]), np.concatenate([_labels(before, False), after]))


def sudoku_cells(grid: Grid) -> Tokens:
    """A Sudoku (0 is a blank cell) as cell tokens: digits, and `?` for a blank."""
    return np.where(grid == 0, BLANK, grid).astype(np.int64)


def maze_cells(grid: Grid) -> Tokens:
    """A maze of character codes as cell tokens: 0 free, 1 wall, 2 start, 3 goal, 4 path. Raises ValueError."""
    matches = grid[..., None] == _MAZE_CODES
    if not matches.any(-1).all():
        raise ValueError(
            f"a maze has a character code {grid[~matches.any(-1)][0]}, expected {MAZE_SYMBOLS!r}"
        )
    cells: Tokens = matches.argmax(-1).astype(np.int64)
    return cells


def maze_grid(cells: NDArray[np.integer]) -> Grid | None:
    """The inverse of `maze_cells`; None where a cell is none of a maze's."""
    return None if (cells >= len(MAZE_SYMBOLS)).any() else _MAZE_CODES[cells]
