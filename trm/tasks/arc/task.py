"""ARC: a rule to find in demonstrations and to apply. Grids [H, W] up to 30x30 of colours 0 to 9."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trm.grid import Grid, GridParseError, Grids, PuzzleError, as_grids, shape_words
from trm.tasks.base import PAD, Puzzle, Status, Task, Verdict

END = 1  # token of the cells just below and just right of a grid: how the network says where an output ends
MOST = 30
PALETTE = ("000000", "0074d9", "ff4136", "2ecc40", "ffdc00", "aaaaaa", "f012be", "ff851b", "7fdbff", "870c25")


def read_grid(rows: Any) -> Grid:
    """A list of lists of colours to a grid."""
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) and row for row in rows):
        raise GridParseError(f"{json.dumps(rows)[:40]}, expected a list of rows of colours")
    width = len(rows[0])
    for number, row in enumerate(rows, 1):
        for column, colour in enumerate(row, 1):
            if type(colour) is not int or not 0 <= colour <= 9:
                raise GridParseError(f"row {number}, cell {column}: {colour!r}, expected a colour 0 to 9")
        if len(row) != width:
            raise GridParseError(f"row {number}: {len(row)} cells, expected {width} as in row 1")
    if len(rows) > MOST or width > MOST:
        raise GridParseError(f"grid of {len(rows)}x{width}, expected at most {MOST}x{MOST}")
    return np.array(rows, dtype=np.uint8)


def _read(pair: Any, key: str, where: str) -> Grid:
    if not isinstance(pair, dict) or key not in pair:
        raise GridParseError(f"{where}: no {key!r}, expected a grid under that name")
    try:
        return read_grid(pair[key])
    except GridParseError as error:
        raise GridParseError(f"{where}, {key}: {error}") from None


def _depth(value: Any) -> int:
    depth = 0
    while isinstance(value, list) and value:
        value, depth = value[0], depth + 1
    return depth


def _grids(data: Any) -> list[Any]:
    """What stands for each test input in JSON: a grid, grids, or lists of tries (the first counts)."""
    depth = _depth(data)
    if depth <= 2:
        return [data]
    return (
        data if depth == 3 else [tries[0] if isinstance(tries, list) and tries else tries for tries in data]
    )


def _fault(grid: Grid) -> str | None:
    """What keeps an array from being an ARC grid."""
    if grid.ndim != 2 or not all(1 <= side <= MOST for side in grid.shape):
        return f"a grid of {shape_words(grid)}, expected 1x1 to {MOST}x{MOST}"
    if ((grid < 0) | (grid > 9)).any():
        row, column = np.argwhere((grid < 0) | (grid > 9))[0].tolist()
        return f"row {row + 1}, column {column + 1} holds {grid[row, column]}, expected a colour 0 to 9"
    return None


def _drawn(grid: Grid, colour: bool) -> list[str]:
    """Lines of 2 * W columns: digits, or coloured cells."""
    if not colour or _fault(grid):
        return [" ".join(map(str, row)) + " " for row in grid.tolist()]
    cells = [f"\x1b[48;2;{';'.join(str(b) for b in bytes.fromhex(code))}m  " for code in PALETTE]
    return ["".join(cells[c] for c in row) + "\x1b[0m" for row in grid.tolist()]


def _beside(left: Grid, right: Grid, colour: bool) -> str:
    """Two grids with an arrow between them, on the first line."""
    sides = [_drawn(left, colour), _drawn(right, colour)]
    blank = [" " * 2 * left.shape[1], ""]
    lines = []
    for i in range(max(map(len, sides))):
        before, after = (side[i] if i < len(side) else blank[n] for n, side in enumerate(sides))
        lines.append(f"{before}{' →  ' if i == 0 else '    '}{after}".rstrip(" "))
    return "\n".join(lines)


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

    def __init__(self, side: int = MOST, top: int = 0, left: int = 0) -> None:
        self.height = self.width = side
        self.top, self.left = top, left  # where on the canvas a grid's first cell is

    def on(self, side: int) -> Arc:
        return Arc(side)

    def at(self, top: int, left: int) -> Arc:
        return Arc(self.width, top, left)

    def parse(self, text: str) -> Puzzle:
        try:
            data = json.loads(text)
        except (RecursionError, ValueError) as error:
            raise GridParseError(f"no ARC task: {error}") from None
        return self._task(data)

    def read(self, question: Any) -> Puzzle:
        return self.parse(question) if isinstance(question, str) else self._task(question)

    def _task(self, data: Any) -> Puzzle:
        if not isinstance(data, dict) or not all(
            isinstance(data.get(key), list) for key in ("train", "test")
        ):
            raise GridParseError("no ARC task: expected an object with the lists 'train' and 'test'")
        demos = tuple(
            (_read(pair, "input", f"train pair {n}"), _read(pair, "output", f"train pair {n}"))
            for n, pair in enumerate(data["train"], 1)
        )
        inputs = tuple(_read(pair, "input", f"test pair {n}") for n, pair in enumerate(data["test"], 1))
        known = all(pair.get("output") is not None for pair in data["test"])
        outputs = (_read(pair, "output", f"test pair {n}") for n, pair in enumerate(data["test"], 1))
        return Puzzle(self.name, inputs, answers=tuple(outputs) if known else None, demos=demos)

    def parse_answer(self, puzzle: Puzzle, text: str) -> Grids:
        """Rows of digits as `text` writes them, or JSON: a grid, or a list with for each test input a grid or
        a list of one or two, of which the first is taken."""
        if text.lstrip().startswith("["):
            try:
                grids = _grids(json.loads(text))
            except (RecursionError, ValueError) as error:
                raise GridParseError(f"no JSON grid: {error}") from None
        else:
            lines = [line.replace(",", " ").split() for line in text.strip().splitlines()]
            blocks: list[list[list[Any]]] = [[]]
            for line in lines:
                if not line:
                    blocks.append([])
                    continue
                symbols = list(line[0]) if len(line) == 1 else line
                blocks[-1].append([int(s) if s in "0123456789" else s for s in symbols])
            grids = [block for block in blocks if block]
        if len(grids) != len(puzzle.inputs):
            raise GridParseError(f"{len(grids)} grids, expected {len(puzzle.inputs)}")
        return tuple(read_grid(grid) for grid in grids)

    def question_text(self, puzzle: Puzzle) -> str:
        train = [{"input": before.tolist(), "output": after.tolist()} for before, after in puzzle.demos]
        test = [{"input": grid.tolist()} for grid in puzzle.inputs]
        return json.dumps({"train": train, "test": test}, separators=(",", ":"))

    def text(self, grids: Grids) -> str:
        return "\n\n".join("\n".join(" ".join(map(str, row)) for row in grid.tolist()) for grid in grids)

    def render(self, puzzle: Puzzle, grids: Grids | None = None, colour: bool = False) -> str:
        """Demonstrations and test inputs; with an answer, the test inputs beside it."""
        if grids:
            return "\n\n".join(_beside(*pair, colour) for pair in zip(puzzle.inputs, grids, strict=False))
        parts = [f"demonstration {n}\n{_beside(*pair, colour)}" for n, pair in enumerate(puzzle.demos, 1)]
        for n, grid in enumerate(puzzle.inputs, 1):
            parts.append("\n".join([f"test {n}", *(line.rstrip(" ") for line in _drawn(grid, colour))]))
        return "\n\n".join(parts)

    def validate(self, puzzle: Puzzle) -> None:
        if not puzzle.demos or not puzzle.inputs:
            found = f"{len(puzzle.demos)} demonstrations and {len(puzzle.inputs)} tests"
            raise PuzzleError(f"arc: {found}, expected one at least of each")
        named = [(f"test pair {n}, input", grid) for n, grid in enumerate(puzzle.inputs, 1)]
        for n, (before, after) in enumerate(puzzle.demos, 1):
            named += [(f"train pair {n}, input", before), (f"train pair {n}, output", after)]
        for where, grid in named:
            if fault := _fault(grid):
                raise PuzzleError(f"arc: {where}: {fault}")

    def check(self, puzzle: Puzzle, answer: Grid | Grids) -> Verdict:
        """No rule decides: a well-formed answer is unverified, anything else unsolved."""
        grids = as_grids(answer)
        if len(grids) != len(puzzle.inputs):
            return Verdict(Status.UNSOLVED, (f"{len(grids)} grids, expected {len(puzzle.inputs)}",))
        faults = [(n, fault) for n, grid in enumerate(grids, 1) if (fault := _fault(grid))]
        words = tuple(f"output {n}: {fault}" if len(grids) > 1 else fault for n, fault in faults)
        return Verdict(Status.UNSOLVED if words else Status.UNVERIFIED, words)

    def samples(self) -> list[Puzzle]:
        parsed = [self.parse(json.dumps(task)) for task in (_MIRROR, _CROP)]
        return [
            Puzzle(self.name, p.inputs, id=f"arc-sample-{n}", answers=p.answers, demos=p.demos)
            for n, p in enumerate(parsed, 1)
        ]

    # An output may have another shape than its input: end markers bound it, in drafts and questions as well.
    def encode(self, grid: Grid) -> NDArray[np.int64]:
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

    def encode_draft(self, puzzle: Puzzle, draft: Grid, index: int = 0) -> NDArray[np.int64]:
        return self.encode(draft)

    def decode(self, puzzle: Puzzle, tokens: NDArray[np.int64], index: int = 0) -> Grid:
        """The largest rectangle from the first cell that holds colours alone; a single 0 where there is none."""
        colours = tokens.reshape(self.height, self.width)[self.top :, self.left :] - 1 - self.reserved
        inside = np.logical_and.accumulate(colours >= 0, axis=1).sum(axis=1)  # [H] colours before the end
        widths = np.minimum.accumulate(inside)
        areas = widths * np.arange(1, len(widths) + 1)
        h = int(areas.argmax()) + 1
        found = colours[:h, : widths[h - 1]]
        return found.astype(np.uint8) if found.size else np.zeros((1, 1), dtype=np.uint8)


# Written by hand: mirror left to right; cut out what is not background.
_MIRROR: dict[str, Any] = {
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
_CROP: dict[str, Any] = {
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
