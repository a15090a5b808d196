"""What a task is: rules, texts, drawings, tokens and symmetries. A task's folder holds `task.py` with a `TASK`."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from trm.grid import Grid, Grids, as_grids, shape_words
from trm.tasks.puzzle import Puzzle, Status, Verdict, Violation, describe, place
from trm.tasks.tokens import IGNORE, PAD, TokenCodec
from trm.tasks.transforms import Symmetry, SymmetryGroup

__all__ = [
    "IGNORE",
    "PAD",
    "Cell",
    "Puzzle",
    "Status",
    "Symmetry",
    "SymmetryGroup",
    "Task",
    "Verdict",
    "Violation",
    "describe",
]

Candidates = Sequence[Sequence[Grid]]  # for every input one or two grids, the best first


@dataclass(frozen=True)
class Cell:
    """A cell as a drawing shows it.

    text: its character, or nothing. kind: `given`, `filled`, `blank`, `wall`, `free`, `path`, `start`, `goal` or
    `colour`. colour: of its background, `#rrggbb`, where the cell is a colour.
    """

    text: str
    kind: str
    colour: str | None = None


class Task(TokenCodec, ABC):
    """A kind of puzzle. It has no state: a single instance serves all callers.

    A task with a checker implements `violations`; `check` and drawings follow from it.
    """

    rules: ClassVar[str]  # in words, for prompts: what is asked, which symbols, how the answer is written
    characters: ClassVar[str] = ""  # the visible characters of a question's text, by which `detect` knows it
    has_checker: ClassVar[bool]  # whether exact rules can verify an answer
    has_demonstrations: ClassVar[bool] = False  # each puzzle has demonstrations of its own in place of rules
    # False if labels follow a tie-break that symmetries do not preserve: then puzzles are not augmented.
    labels_equivariant: ClassVar[bool] = True
    restart_noise: ClassVar[float] = 0.3  # σ of the noise on y in restarts, the best in PTRM's experiments
    # Modules, loaded only when puzzles are generated or solved exactly: `generate(rng, **options)`, an iterator of
    # puzzles with answers, and `solve(puzzle)`, the answer or None.
    generator: ClassVar[str | None] = None
    solver: ClassVar[str | None] = None
    comparison_options: ClassVar[
        Mapping[str, object]
    ] = {}  # of the generator: puzzles a small model can solve

    # -- text ------------------------------------------------------------------------------------------
    @abstractmethod
    def parse(self, text: str) -> Puzzle:
        """One puzzle as a person writes it. Raises GridParseError (row and cell named) or PuzzleError."""

    def read(self, question: object) -> Puzzle:
        """`parse`, also of a question that a JSON file holds as lists and objects instead of text."""
        return self.parse(question if isinstance(question, str) else json.dumps(question))

    @abstractmethod
    def parse_answer(self, puzzle: Puzzle, text: str) -> Grids:
        """An answer exactly as `text` writes it, white space aside (`hybrid check`, CSV files).

        Raises GridParseError. `hybrid.llm.chat.parsing` finds grids in a model's prose.
        """

    @abstractmethod
    def text(self, grids: Grids) -> str:
        """The answer as the commands print it: 81 digits, maze rows joined by newlines, ARC rows of colours."""

    def question_text(self, puzzle: Puzzle) -> str:
        """The question as `parse` reads it and as JSON and CSV files hold it."""
        return self.text(puzzle.inputs)

    def prompt_text(self, puzzle: Puzzle) -> str:
        """The question as a prompt shows it, each row on a line of its own; `parse` reads it too."""
        return self.question_text(puzzle)

    def answer_json(self, grids: Grids, candidates: Candidates) -> str | list[list[list[list[int]]]]:
        """The answer's text; where no rule can decide, for every input the list of its candidates' rows."""
        if self.has_checker:
            return self.text(grids)
        return [[grid.tolist() for grid in choice] for choice in candidates]

    def detect(self, text: str) -> float:
        """The share of the text's visible characters that are this task's; 0 if it is no question of this task."""
        visible = "".join(text.split())
        return sum(map(visible.count, self.characters)) / max(1, len(visible))

    def accepts_grid(self, grid: Grid) -> bool:
        """Whether an array alone, without a task's name, is a question of this task."""
        return False

    # -- drawing ---------------------------------------------------------------------------------------
    @abstractmethod
    def render(self, puzzle: Puzzle, grids: Grids | None = None, colour: bool = False) -> str:
        """The puzzle, or an answer to it, drawn for a terminal; ANSI colours if `colour`.

        With an answer, cells that were given, that were filled in and that break a rule look different.
        """

    @abstractmethod
    def cells(self, grid: Grid, question: Grid | None = None) -> list[list[Cell]]:
        """The cells of a question, or of an answer to `question`, for other drawings such as HTML."""

    # -- rules -----------------------------------------------------------------------------------------
    @abstractmethod
    def validate(self, puzzle: Puzzle) -> None:
        """Raise PuzzleError if the puzzle itself breaks the rules (docs/CONTRACT.md: "Refused")."""

    def violations(self, question: Grid, answer: Grid) -> list[Violation]:
        """Everything that is wrong with an answer to a question, both [H, W]; none where no rule can decide."""
        return []

    def check(self, puzzle: Puzzle, answer: Grid | Grids) -> Verdict:
        """Judge by the exact rules alone. Never raises on a wrong answer, whatever its shape or symbols."""
        grids = as_grids(answer)
        if len(grids) != len(puzzle.inputs):
            return Verdict(Status.UNSOLVED, (f"{len(grids)} grids, expected {len(puzzle.inputs)}",))
        for question, grid in zip(puzzle.inputs, grids, strict=True):
            if grid.shape != question.shape:
                words = f"grid of {shape_words(grid)}, expected {shape_words(question)}"
                return Verdict(Status.UNSOLVED, (words,))
        found = [v.words for pair in zip(puzzle.inputs, grids, strict=True) for v in self.violations(*pair)]
        correct = Status.VERIFIED if self.has_checker else Status.UNVERIFIED
        return Verdict(Status.UNSOLVED if found else correct, tuple(found))

    def differences(self, answer: Grids, other: Grids) -> tuple[str, ...]:
        """The cells in which another answer differs, in words: `row 3, column 4: 7 instead of 5`."""
        return tuple(
            f"{place(row, column)}: {_symbol(b[row, column])} instead of {_symbol(a[row, column])}"
            for a, b in zip(answer, other, strict=True)
            if a.shape == b.shape
            for row, column in np.argwhere(a != b).tolist()
        )

    def choices(self, puzzle: Puzzle, index: int = 0) -> tuple[tuple[tuple[int, ...], ...], ...] | None:
        """For every cell of an answer the symbols it may hold, a given its own; None where the shape is free."""
        if not self.fills:
            return None
        rows = puzzle.inputs[index].tolist()
        return tuple(tuple(self.fills.get(cell, (cell,)) for cell in row) for row in rows)

    def exclude_solutions(
        self, puzzle: Puzzle, known: Sequence[Grids], rng: np.random.Generator
    ) -> Puzzle | None:
        """A puzzle that excludes the known solutions: a question with more givens, whose right answers are right
        here too. None if no other solution was found to exist. Here the puzzle itself: another attempt at it may
        find another solution."""
        return puzzle

    # -- drafts, symmetries and samples ----------------------------------------------------------------
    def blank_draft(self, puzzle: Puzzle) -> Grids:
        """A draft that adds nothing to the question."""
        return puzzle.inputs

    def free_cells(self, question: Grid, label: Grid) -> NDArray[np.bool_]:
        """Which cells of an answer shaped like `label` are not given [H, W]."""
        if not self.fills:
            return np.ones(label.shape, dtype=np.bool_)
        return np.isin(question, list(self.fills))

    def symmetries(self, shape: tuple[int, int]) -> SymmetryGroup:
        """The symmetries of puzzles of this shape that map right answers to right answers; here none.

        Those of a puzzle together with its demonstrations, whatever its shapes, are `transforms.TaskView`s.
        """
        return SymmetryGroup(np.arange(shape[0])[None], np.arange(shape[1])[None], transpose=False)

    def difficulty(self, puzzle: Puzzle) -> dict[str, str]:
        """The buckets that a puzzle falls into, by what is known of it: its rating, and what a task measures."""
        rating = puzzle.meta.get("rating")
        return (
            {"rating": bucket(int(rating), (1, 10, 30, 60, 100))} if isinstance(rating, int | float) else {}
        )

    @abstractmethod
    def samples(self) -> list[Puzzle]:
        """Bundled puzzles with answers, easiest first, written or generated by this project."""


def bucket(value: int, edges: Sequence[int]) -> str:
    """The range between two edges that a value lies in, in words: `under 10`, `10 to 19`, `130 or more`."""
    below = [edge for edge in edges if edge <= value]
    above = [edge for edge in edges if edge > value]
    if not below:
        return f"under {above[0]}"
    return f"{below[-1]} or more" if not above else f"{below[-1]} to {above[0] - 1}"


def _symbol(symbol: int) -> str:
    return str(symbol) if symbol < 10 else repr(chr(symbol))
