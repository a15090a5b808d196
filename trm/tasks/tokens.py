"""How grids become the tokens that a network reads and writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from trm.grid import Grid, PuzzleError, shape_words
from trm.tasks.puzzle import Puzzle

PAD = 0  # the token for "no cell" in questions and for "unknown" in drafts
IGNORE = -100  # the label of a cell that is not scored

Tokens = NDArray[np.int64]


class TokenCodec:
    """Grids as tokens on a canvas of `height` x `width` cells, flattened row by row to length L.

    A grid lies at the top left of the canvas. Token 0 is PAD; `symbols[i]` has token i + 1 + `reserved`.
    """

    name: ClassVar[str]
    height: int  # of the canvas, in cells
    width: int
    symbols: ClassVar[tuple[int, ...]]  # in token order
    reserved: ClassVar[int] = 0  # tokens between PAD and the first symbol (ARC's end marker)
    # The symbols of a question that an answer may change, and to what. Every other cell is given. Empty: nothing is
    # given, and the answer's shape is free.
    fills: ClassVar[Mapping[int, tuple[int, ...]]] = {}

    @property
    def seq_len(self) -> int:
        return self.height * self.width

    @property
    def vocab_size(self) -> int:
        return len(self.symbols) + 1 + self.reserved

    def on(self, side: int) -> Self:
        """The task on a square canvas of another side. Raises PuzzleError where there is only one canvas."""
        if (side, side) != (self.height, self.width):
            raise PuzzleError(
                f"{self.name}: a canvas of {side}x{side}, expected {self.height}x{self.width}, the only one"
            )
        return self

    def at(self, top: int, left: int) -> Self:
        """The task with its grids elsewhere on the canvas. Raises PuzzleError where they have only one place."""
        if (top, left) != (0, 0):
            raise PuzzleError(f"{self.name}: grids at row {top}, column {left} of the canvas, expected 0, 0")
        return self

    def tokens(self, symbols: Iterable[int]) -> list[int]:
        """The symbols' tokens, in the symbols' order."""
        return [self.symbols.index(symbol) + 1 + self.reserved for symbol in symbols]

    def encode(self, grid: Grid) -> Tokens:
        """Grid [h, w] of the task's symbols to tokens [L], padded. Raises PuzzleError if it does not fit."""
        if grid.ndim != 2 or not grid.size or grid.shape[0] > self.height or grid.shape[1] > self.width:
            raise PuzzleError(
                f"{self.name}: grid of {shape_words(grid)}, expected at most {self.height}x{self.width}"
            )
        table = np.full(256, -1, dtype=np.int64)
        table[list(self.symbols)] = np.arange(len(self.symbols)) + 1 + self.reserved
        canvas = np.full((self.height, self.width), PAD, dtype=np.int64)
        canvas[: grid.shape[0], : grid.shape[1]] = table[grid]
        if (canvas < 0).any():
            row, col = np.argwhere(canvas < 0)[0]
            raise PuzzleError(
                f"{self.name}: row {row + 1}, cell {col + 1}: symbol {grid[row, col]} is unknown"
            )
        return canvas.reshape(-1)

    def encode_question(self, puzzle: Puzzle, index: int = 0) -> Tokens:
        """Tokens [L] of the puzzle's input number `index`."""
        return self.encode(puzzle.inputs[index])

    def encode_label(self, puzzle: Puzzle, index: int = 0) -> Tokens:
        """Labels [L] of the answer number `index`: IGNORE outside the grid."""
        if puzzle.answers is None:
            raise PuzzleError(f"{puzzle.id or self.name}: no answer, expected one to learn from")
        tokens = self.encode(puzzle.answers[index])
        return np.where(tokens == PAD, IGNORE, tokens)

    def encode_draft(self, puzzle: Puzzle, draft: Grid, index: int = 0) -> Tokens:
        """Tokens [L] of a draft, 0 where it is blank. Raises PuzzleError if its shape is not the input's."""
        expected = puzzle.inputs[index]
        if draft.shape != expected.shape:
            raise PuzzleError(f"draft of {shape_words(draft)}, expected {shape_words(expected)}")
        tokens = self.encode(draft)
        blanks = [symbol for symbol, choices in self.fills.items() if symbol not in choices]
        return np.where(np.isin(tokens, self.tokens(blanks)), PAD, tokens)

    def decode(self, puzzle: Puzzle, tokens: Tokens, index: int = 0) -> Grid:
        """The network's tokens [L] to a grid shaped like the input; a token without a symbol becomes 0."""
        h, w = puzzle.inputs[index].shape
        table = np.zeros(self.vocab_size, dtype=np.uint8)
        table[1 + self.reserved :] = self.symbols
        return table[tokens.reshape(self.height, self.width)[:h, :w]]
