"""What a task is: rules, texts, drawings, tokens and symmetries. A task's folder holds `task.py` with a `TASK`."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from bisect import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from trm.grid import Grid, Grids, PuzzleError, as_grids, character, shape_words
from trm.tasks.puzzle import Puzzle, Status, Verdict, Violation, place
from trm.tasks.transforms import SymmetryGroup

PAD = 0  # the token for "no cell" in questions and for "unknown" in drafts
IGNORE = -100  # the label of a cell that is not scored

Tokens: TypeAlias = NDArray[np.int64]
# A start and a goal as (row, column), and from which number they count: None where a source does not say.
Ends = tuple[tuple[int, int], tuple[int, int], int | None]
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


class Task(ABC):
    """A kind of puzzle. It has no state: a single instance serves all callers.

    A task with a checker implements `violations`; `check` and drawings follow from it. Grids become tokens at the top
    left of a canvas of `height` x `width` cells, flattened row by row to length L. Token 0 is PAD; `symbols[i]` has
    token i + 1 + `reserved`.
    """

    name: str
    noun: str = "a puzzle"  # what a message calls it: "taken for a Sudoku: …"
    height: int  # of the canvas, in cells
    width: int
    symbols: tuple[int, ...]  # in token order
    reserved: ClassVar[int] = 0  # tokens between PAD and the first symbol (ARC's end marker)
    # The symbols of a question that an answer may change, and to what. Every other cell is given. Empty: nothing is
    # given, and the answer's shape is free.
    fills: Mapping[int, tuple[int, ...]] = {}
    rules: str  # in words, for prompts: what is asked, which symbols, how the answer is written
    characters: ClassVar[str] = ""  # the visible characters of a question's text, by which `detect` knows it
    has_checker: ClassVar[bool]  # whether exact rules can verify an answer
    has_demonstrations: ClassVar[bool] = False  # each puzzle has demonstrations of its own in place of rules
    has_ends: ClassVar[bool] = False  # whether a question goes from a start to a goal
    flat_is_certain: ClassVar[bool] = True  # whether a question in one line tells the grid's shape
    # False if labels follow a tie-break that symmetries do not preserve: then puzzles are not augmented.
    labels_equivariant: ClassVar[bool] = True
    restart_noise: ClassVar[float] = 0.3  # σ of the noise on y in restarts, the best in PTRM's experiments
    # Modules, loaded only when puzzles are generated or solved exactly: `generate(rng, **options)`, an iterator of
    # puzzles with answers, and `solve(puzzle)`, the answer or None.
    generator: ClassVar[str | None] = None
    solver: ClassVar[str | None] = None
    recipe: str = ""  # the configuration that trains an expert, where none may have been trained
    generator_arguments: tuple[int, ...] = ()  # before rng, of a module that several tasks share
    comparison_options: Mapping[str, object] = {}  # of the generator, for a small model

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

    def parse_candidates(self, puzzle: Puzzle, text: str) -> Candidates:
        """`parse_answer`, also of two guesses for an input where no rule decides."""
        return tuple((grid,) for grid in self.parse_answer(puzzle, text))

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

    def is_certain(self, text: str) -> bool:
        """Whether a question's text can be nothing else, told quickly: files hold millions of them."""
        return False

    def parse_plain(self, texts: Sequence[str], answers: Sequence[str]) -> list[Puzzle | None]:
        """Those of many texts that are certainly valid puzzles of this task, read together; None for any other.

        answers: the answer's text beside each. One that is certain too is in its puzzle, any other is left to
        `parse_answer`.
        """
        return [None] * len(texts)

    def in_line(self, line: str) -> tuple[str, str | None] | None:
        """The question, and the answer if known, that a file's line holds among other fields; None if it has none."""
        return None

    def parts(self, blocks: Sequence[Sequence[tuple[int, str]]]) -> list[tuple[int, str]]:
        """The puzzles in blocks of numbered lines that empty lines part: each with its first line's number."""
        return [(block[0][0], "\n".join(line for _, line in block)) for block in blocks]

    def with_ends(self, puzzle: Puzzle, ends: Ends) -> Puzzle:
        """The puzzle from one cell to another, for tasks that have a start and a goal. Raises PuzzleError."""
        raise PuzzleError(f"{self.name}: start and goal are given, expected none: only mazes have them")

    def name_for(self, grid: Grid) -> str:
        """The name of the task that has questions of this shape: other sizes may be tasks of their own."""
        return self.name

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
        """What is wrong with an answer to a question, both [H, W] and of one shape unless the shape is free."""
        return []

    def check(self, puzzle: Puzzle, answer: Grid | Grids) -> Verdict:
        """Judge by the exact rules alone. Never raises on a wrong answer, whatever its shape or symbols."""
        grids = as_grids(answer)
        if len(grids) != len(puzzle.inputs):
            return Verdict(Status.UNSOLVED, (f"{len(grids)} grids, expected {len(puzzle.inputs)}",))
        found = []
        for number, (question, grid) in enumerate(zip(puzzle.inputs, grids, strict=True), 1):
            if grid.dtype.kind not in "iu":
                words = [f"cells of type {grid.dtype}, expected whole numbers"]
            elif self.fills and grid.shape != question.shape:
                words = [f"grid of {shape_words(grid)}, expected {shape_words(question)}"]
            else:
                words = [violation.words for violation in self.violations(question, grid)]
            found += [f"output {number}: {each}" if len(grids) > 1 else each for each in words]
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

    # -- tokens ----------------------------------------------------------------------------------------
    def fits(self, grid: Grid) -> bool:
        """Whether a grid has its place on the canvas."""
        return grid.ndim == 2 and grid.shape[0] <= self.height and grid.shape[1] <= self.width

    @property
    def seq_len(self) -> int:
        return self.height * self.width

    @property
    def vocab_size(self) -> int:
        return len(self.symbols) + 1 + self.reserved

    def on(self, side: int) -> Self:
        """The task on a square canvas of another side. Raises PuzzleError where there is only one canvas."""
        if (side, side) != (self.height, self.width):
            only = f"{self.height}x{self.width}, the only one"
            raise PuzzleError(f"{self.name}: a canvas of {side}x{side}, expected {only}")
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
        if not grid.size or not self.fits(grid):
            most = f"{self.height}x{self.width}"
            raise PuzzleError(f"{self.name}: grid of {shape_words(grid)}, expected at most {most}")
        table = np.full(256, -1, dtype=np.int64)
        table[list(self.symbols)] = self.tokens(self.symbols)
        tokens = table[grid]
        if (tokens < 0).any():
            row, col = np.argwhere(tokens < 0)[0]
            where = f"{self.name}: row {row + 1}, cell {col + 1}"
            raise PuzzleError(f"{where}: symbol {grid[row, col]} is unknown")
        below, right = self.height - grid.shape[0], self.width - grid.shape[1]
        return np.pad(tokens, ((0, below), (0, right)), constant_values=PAD).reshape(-1)

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
        if not isinstance(rating := puzzle.meta.get("rating"), int | float):
            return {}
        return {"rating": bucket(int(rating), (1, 10, 30, 60, 100))}

    @abstractmethod
    def samples(self) -> list[Puzzle]:
        """Bundled puzzles with answers, easiest first, written or generated by this project."""


def bucket(value: int, edges: Sequence[int]) -> str:
    """The range between two edges that a value lies in, in words: `under 10`, `10 to 19`, `130 or more`."""
    above = bisect(edges, value)  # the place of the first edge that is larger
    if above in (0, len(edges)):
        return f"{edges[-1]} or more" if above else f"under {edges[0]}"
    return f"{edges[above - 1]} to {edges[above] - 1}"


def _symbol(symbol: int) -> str:
    return character(symbol) if symbol < 32 else repr(chr(symbol))
