"""What a task is: rules, text forms, exact check, tokens and symmetries. One file a task exposes `TASK`."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from trm.grid import Grid, Grids, PuzzleError, shape_words
from trm.tasks.puzzle import Puzzle, Status, Verdict, describe
from trm.tasks.transforms import Symmetry, SymmetryGroup

__all__ = ["IGNORE", "PAD", "Puzzle", "Status", "Symmetry", "SymmetryGroup", "Task", "Verdict", "describe"]

PAD = 0  # token that stands for "no cell" in inputs and for "unknown" in drafts
IGNORE = -100  # label of a cell that is not scored


class Task(ABC):
    """A kind of puzzle. Stateless: one instance serves everybody.

    Tokens: a canvas of `height` x `width` cells, flattened row by row, grids at its top left. Token 0 is PAD;
    `symbols[i]` has token i + 1 + `reserved`.
    """

    name: ClassVar[str]
    rules: ClassVar[str]  # in words, for prompts: what is asked, which symbols, how the answer is written
    height: int  # of the canvas
    width: int
    symbols: ClassVar[tuple[int, ...]]  # in token order
    reserved: ClassVar[int] = 0  # tokens between PAD and the first symbol (ARC's end marker)
    # The question's symbols that an answer may change, and to what; everything else is given. Empty: nothing is
    # given, the answer's shape is free.
    fills: ClassVar[Mapping[int, tuple[int, ...]]] = {}
    has_checker: ClassVar[bool]  # whether exact rules can verify an answer
    # Whether symmetries map labels to labels too. Where a puzzle has many right answers and the label is one of
    # them by convention, a turned puzzle's label is another, and training on both teaches neither.
    labels_equivariant: ClassVar[bool] = True
    restart_noise: ClassVar[float] = 0.3  # σ of the noise on y in restarts, the best in PTRM's experiments
    has_demonstrations: ClassVar[bool] = (
        False  # by demonstrations, of which every puzzle has its own: there are no other rules
    )

    # -- text ------------------------------------------------------------------------------------------
    @abstractmethod
    def parse(self, text: str) -> Puzzle:
        """One puzzle as a person writes it. Raises GridParseError (row and cell named) or PuzzleError."""

    def read(self, question: Any) -> Puzzle:
        """`parse`, also of what JSON says in the text's place."""
        return self.parse(question if isinstance(question, str) else json.dumps(question))

    @abstractmethod
    def parse_answer(self, puzzle: Puzzle, text: str) -> Grids:
        """An answer written strictly as `text` writes it, white space aside (`hybrid check`, CSV files).

        Raises GridParseError. Prose around a grid is the business of `hybrid.llm.chat.prompts`.
        """

    @abstractmethod
    def question_text(self, puzzle: Puzzle) -> str:
        """The question as `parse` reads it and as JSON and CSV files hold it."""

    def prompt_text(self, puzzle: Puzzle) -> str:
        """The question as a prompt shows it; `parse` reads it too. Rows on lines where the task has them."""
        return self.question_text(puzzle)

    @abstractmethod
    def text(self, grids: Grids) -> str:
        """The answer as the commands print it: 81 digits, maze rows joined by newlines, ARC JSON rows."""

    @abstractmethod
    def render(self, puzzle: Puzzle, grids: Grids | None = None, colour: bool = False) -> str:
        """The puzzle, or an answer to it, drawn for a terminal; ANSI colours if `colour`.

        With an answer, cells that were given, that were filled in and that break a rule look different.
        """

    # -- rules -----------------------------------------------------------------------------------------
    @abstractmethod
    def validate(self, puzzle: Puzzle) -> None:
        """Raise PuzzleError if the puzzle breaks the rules before anyone moved (CONTRACT: "Refused")."""

    @abstractmethod
    def check(self, puzzle: Puzzle, answer: Grid | Grids) -> Verdict:
        """Judge by the exact rules alone. Never raises on a wrong answer, whatever its shape or symbols."""

    def differences(self, said: Grids, other: Grids) -> tuple[str, ...]:
        """The cells in which another answer differs, in words: `row 3, column 4: 7 instead of 5`."""
        return tuple(
            f"row {row + 1}, column {column + 1}: {_shown(b[row, column])} instead of {_shown(a[row, column])}"
            for a, b in zip(said, other, strict=True)
            if a.shape == b.shape
            for row, column in np.argwhere(a != b).tolist()
        )

    def choices(self, puzzle: Puzzle, index: int = 0) -> tuple[tuple[tuple[int, ...], ...], ...] | None:
        """For every cell of an answer the symbols it may hold, givens their own; None where its shape is free."""
        if not self.fills:
            return None
        rows = puzzle.inputs[index].tolist()
        return tuple(tuple(self.fills.get(cell, (cell,)) for cell in row) for row in rows)

    def exclude_solutions(
        self, puzzle: Puzzle, known: Sequence[Grids], rng: np.random.Generator
    ) -> Puzzle | None:
        """What to ask for another right answer than the known ones: a question with more givens, whose right
        answers are right here too; None: no other was found to exist. Here the puzzle itself, which another try
        may answer otherwise."""
        return puzzle

    def tokens(self, symbols: Iterable[int]) -> list[int]:
        """Their tokens, in order."""
        return [self.symbols.index(symbol) + 1 + self.reserved for symbol in symbols]

    # -- symmetries and samples ------------------------------------------------------------------------
    def symmetries(self, shape: tuple[int, int]) -> SymmetryGroup:
        """The symmetries of puzzles of this shape that map right answers to right answers; here none.

        Those that hold for a puzzle with its demonstrations, whatever its grids' shapes, are `trm.adaptation.test_time.Turned`.
        """
        return SymmetryGroup(np.arange(shape[0])[None], np.arange(shape[1])[None], transpose=False)

    @abstractmethod
    def samples(self) -> list[Puzzle]:
        """Bundled puzzles with answers, easiest first. Written or generated by this project."""

    # -- tokens ----------------------------------------------------------------------------------------
    def on(self, side: int) -> Task:
        """The task with tokens on a square canvas of another side. Raises PuzzleError where there is but one."""
        if (side, side) != (self.height, self.width):
            raise PuzzleError(
                f"{self.name}: a canvas of {side}x{side}, expected {self.height}x{self.width}, the only one"
            )
        return self

    def at(self, top: int, left: int) -> Task:
        """The task with its grids elsewhere on the canvas. Raises PuzzleError where they have one place alone."""
        if (top, left) != (0, 0):
            raise PuzzleError(f"{self.name}: grids at row {top}, column {left} of the canvas, expected 0, 0")
        return self

    @property
    def seq_len(self) -> int:
        return self.height * self.width

    @property
    def vocab_size(self) -> int:
        return len(self.symbols) + 1 + self.reserved

    def encode(self, grid: Grid) -> NDArray[np.int64]:
        """Grid [h, w] of the task's symbols to tokens [L], padded."""
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

    def encode_question(self, puzzle: Puzzle, index: int = 0) -> NDArray[np.int64]:
        """Tokens [L] of the puzzle's input number `index`."""
        return self.encode(puzzle.inputs[index])

    def encode_label(self, puzzle: Puzzle, index: int = 0) -> NDArray[np.int64]:
        """Labels [L] of the answer: IGNORE outside the grid."""
        if puzzle.answers is None:
            raise PuzzleError(f"{puzzle.id or self.name}: no answer, expected one to learn from")
        tokens = self.encode(puzzle.answers[index])
        return np.where(tokens == PAD, IGNORE, tokens)

    def encode_draft(self, puzzle: Puzzle, draft: Grid, index: int = 0) -> NDArray[np.int64]:
        """Draft tokens [L], 0 where the draft says nothing. Raises PuzzleError if the shape is not right."""
        expected = puzzle.inputs[index]
        if draft.shape != expected.shape:
            raise PuzzleError(f"draft of {shape_words(draft)}, expected {shape_words(expected)}")
        return self.encode(draft)

    def decode(self, puzzle: Puzzle, tokens: NDArray[np.int64], index: int = 0) -> Grid:
        """The network's tokens [L] to a grid shaped like the input; a token without symbol becomes 0."""
        h, w = puzzle.inputs[index].shape
        table = np.zeros(self.vocab_size, dtype=np.uint8)
        table[1 + self.reserved :] = self.symbols
        return table[tokens.reshape(self.height, self.width)[:h, :w]]


def _shown(symbol: int) -> str:
    return str(symbol) if symbol < 10 else repr(chr(symbol))
