"""ARC: a rule to find in demonstrations and to apply. Grids [H, W] up to 30x30 of colours 0 to 9."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from trm.grid import Grid, GridParseError, Grids, PuzzleError, as_grids, shape_words
from trm.tasks.arc import drawing
from trm.tasks.arc.text import MOST, problem, read_answer, read_task, write_answer, write_task
from trm.tasks.base import PAD, Cell, Puzzle, Status, Task, Verdict, bucket
from trm.tasks.tokens import Tokens

END = 1  # token of the cells just below and just right of a grid: how the network says where an output ends


class Arc(Task):
    name = "arc"
    rules = (
        "Each demonstration is a pair of an input grid and an output grid, whose cells are colours 0 to 9. "
        "One rule turns every input into its output. Find it and apply it to each test input. The answer is "
        "each output grid, one row a line, the colours of a row parted by spaces; an empty line parts grids."
    )
    symbols = tuple(range(10))
    reserved = 1
    has_checker = False
    has_demonstrations = True
    generator = "trm.tasks.arc.generator"
    comparison_options = {"size": (3, 5)}  # noqa: RUF012

    def __init__(self, side: int = MOST, top: int = 0, left: int = 0) -> None:
        """A square canvas of `side` cells, and where on it the first cell of a grid is."""
        self.height = self.width = side
        self.top, self.left = top, left

    def on(self, side: int) -> Arc:
        return Arc(side)

    def at(self, top: int, left: int) -> Arc:
        return Arc(self.width, top, left)

    def parse(self, text: str) -> Puzzle:
        try:
            data = json.loads(text)
        except (RecursionError, ValueError) as error:
            raise GridParseError(f"no ARC task: {error}") from None
        return read_task(data)

    def read(self, question: object) -> Puzzle:
        return self.parse(question) if isinstance(question, str) else read_task(question)

    def parse_answer(self, puzzle: Puzzle, text: str) -> Grids:
        return read_answer(text, len(puzzle.inputs))

    def question_text(self, puzzle: Puzzle) -> str:
        return write_task(puzzle)

    def text(self, grids: Grids) -> str:
        return write_answer(grids)

    def detect(self, text: str) -> float:
        return float(text.lstrip()[:1] in ("{", "["))

    def render(self, puzzle: Puzzle, grids: Grids | None = None, colour: bool = False) -> str:
        return drawing.render(puzzle, grids, colour)

    def cells(self, grid: Grid, question: Grid | None = None) -> list[list[Cell]]:
        return drawing.cells(grid)

    def validate(self, puzzle: Puzzle) -> None:
        if not puzzle.demos or not puzzle.inputs:
            found = f"{len(puzzle.demos)} demonstrations and {len(puzzle.inputs)} tests"
            raise PuzzleError(f"arc: {found}, expected one at least of each")
        grids = [(f"test pair {n}, input", grid) for n, grid in enumerate(puzzle.inputs, 1)]
        for n, (before, after) in enumerate(puzzle.demos, 1):
            grids += [(f"train pair {n}, input", before), (f"train pair {n}, output", after)]
        for where, grid in grids:
            if words := problem(grid):
                raise PuzzleError(f"arc: {where}: {words}")

    def check(self, puzzle: Puzzle, answer: Grid | Grids) -> Verdict:
        """No rule decides: a well-formed answer is unverified, anything else unsolved."""
        grids = as_grids(answer)
        if len(grids) != len(puzzle.inputs):
            return Verdict(Status.UNSOLVED, (f"{len(grids)} grids, expected {len(puzzle.inputs)}",))
        problems = [(n, words) for n, grid in enumerate(grids, 1) if (words := problem(grid))]
        found = tuple(f"output {n}: {words}" if len(grids) > 1 else words for n, words in problems)
        return Verdict(Status.UNSOLVED if found else Status.UNVERIFIED, found)

    def difficulty(self, puzzle: Puzzle) -> dict[str, str]:
        """By the number of cells of the largest test input."""
        cells = bucket(max(grid.size for grid in puzzle.inputs), (25, 100, 225, 400))
        return {"cells": cells, **super().difficulty(puzzle)}

    def samples(self) -> list[Puzzle]:
        tasks = enumerate((_MIRROR, _CROP), 1)
        return [replace(read_task(task), id=f"arc-sample-{n}") for n, task in tasks]

    # An output may have another shape than its input: end markers bound it, in drafts and questions as well.
    def encode(self, grid: Grid) -> Tokens:
        drawn = super().encode(grid).reshape(self.height, self.width)
        h, w = grid.shape
        if h + self.top > self.height or w + self.left > self.width:
            raise PuzzleError(
                f"arc: grid of {shape_words(grid)} at row {self.top + 1}, column {self.left + 1}, expected it "
                f"within {self.height}x{self.width}"
            )
        drawn[h : h + 1, :w] = END
        drawn[:h, w : w + 1] = END
        canvas = np.full_like(drawn, PAD)
        canvas[self.top :, self.left :] = drawn[: self.height - self.top, : self.width - self.left]
        return canvas.reshape(-1)

    def encode_draft(self, puzzle: Puzzle, draft: Grid, index: int = 0) -> Tokens:
        return self.encode(draft)

    def decode(self, puzzle: Puzzle, tokens: Tokens, index: int = 0) -> Grid:
        """The largest rectangle of colours that begins at the grid's first cell; a single 0 where there is none."""
        colours = tokens.reshape(self.height, self.width)[self.top :, self.left :] - 1 - self.reserved
        inside = np.logical_and.accumulate(colours >= 0, axis=1).sum(axis=1)  # [H] colours before the end
        widths = np.minimum.accumulate(inside)
        areas = widths * np.arange(1, len(widths) + 1)
        h = int(areas.argmax()) + 1
        rectangle = colours[:h, : widths[h - 1]]
        return rectangle.astype(np.uint8) if rectangle.size else np.zeros((1, 1), dtype=np.uint8)


# Written by hand: mirror left to right; cut out what is not background.
_MIRROR: dict[str, object] = {
    "train": [
        {"input": [[1, 0, 0], [1, 2, 0]], "output": [[0, 0, 1], [0, 2, 1]]},
        {
            "input": [[3, 3, 0, 0], [0, 4, 0, 0], [5, 0, 0, 6]],
            "output": [[0, 0, 3, 3], [0, 0, 4, 0], [6, 0, 0, 5]],
        },
        {"input": [[7, 8], [0, 7], [8, 0]], "output": [[8, 7], [7, 0], [0, 8]]},
    ],
    "test": [
        {
            "input": [[2, 0, 0, 9], [2, 2, 0, 0], [0, 1, 1, 0]],
            "output": [[9, 0, 0, 2], [0, 0, 2, 2], [0, 1, 1, 0]],
        }
    ],
}
_CROP: dict[str, object] = {
    "train": [
        {"input": [[0, 0, 0, 0], [0, 4, 4, 0], [0, 0, 4, 0], [0, 0, 0, 0]], "output": [[4, 4], [0, 4]]},
        {"input": [[0, 0, 0, 0, 0], [2, 2, 2, 0, 0], [0, 2, 0, 0, 0]], "output": [[2, 2, 2], [0, 2, 0]]},
        {
            "input": [[0, 0, 0], [0, 0, 6], [0, 0, 6], [0, 6, 6], [0, 0, 0]],
            "output": [[0, 6], [0, 6], [6, 6]],
        },
    ],
    "test": [
        {"input": [[0, 3, 0, 3, 0], [0, 3, 3, 3, 0], [0, 0, 0, 0, 0]], "output": [[3, 0, 3], [3, 3, 3]]},
        {"input": [[0, 0, 0], [8, 0, 0], [8, 8, 0], [0, 8, 0]], "output": [[8, 0], [8, 8], [0, 8]]},
    ],
}

TASK = Arc()
