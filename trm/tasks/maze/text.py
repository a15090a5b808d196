"""Mazes as people draw them: other symbols for walls, free cells and ends, matrices, frames, drawn paths.

A notation is read where the symbols leave a single meaning; what is left open is a GridParseError.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from trm.grid import Grid, GridParseError, shape_words
from trm.tasks.base import Ends
from trm.tasks.grid_text import has_words, listed_rows, plain, unfenced
from trm.tasks.maze.rows import GOALS, STARTS, WALLS, Rows, lines_of, rows_of
from trm.tasks.maze.rules import FREE, GOAL, PATH, START, WALL, Field
from trm.tasks.puzzle import place

QUESTION, ANSWER = "# SG", "# SGo"  # the characters of each
SQUARES = "⬛⬜01"  # of which either may be the wall: the outer wall tells
FREES = " ._·◻□⬜0"
MARKS = "oOxX*+•@v^<>"  # of a path that is drawn in
PATHS = MARKS + ".·→←↑↓0123456789░▒"  # of answers, whose walls and free cells the question tells
_LEGEND = re.compile(
    r"['\"`](.)['\"`]\s*(?:=|:|\(|is|for|means)\s*(?:an?\s|the\s)?(wall|passage|path|free|open|start|goal|end)",
    re.I,
)
_ROLES = {
    "wall": "#",
    "passage": " ",
    "path": " ",
    "free": " ",
    "open": " ",
    "start": "S",
    "goal": "G",
    "end": "G",
}


def read(text: str) -> tuple[Grid, tuple[str, ...]]:
    """The question [H, W] in this project's symbols, and what a person should know of how it was read."""
    rows = rows_of(text)
    legend = {symbol: _ROLES[role.lower()] for symbol, role in _LEGEND.findall(text)}
    symbols, notes = _meanings(rows, legend), []
    grid = np.array([[ord(symbols[cell]) for cell in row] for row in rows], dtype=np.uint8)
    if (marked := grid == PATH).any():
        _refuse_stray_marks(grid, rows)
        notes.append(f"a path of {marked.sum()} cells is drawn in: they are taken for free")
        grid[marked] = FREE
    if not ((grid == START) | (grid == GOAL)).any() and (
        ends := _openings(grid, 3 if set(WALLS) & set(symbols) else 5)
    ):
        (grid[ends[0]], grid[ends[1]]) = START, GOAL
        words = " and ".join(place(*cell) for cell in ends)
        notes.append(f"no start and goal: the two openings of the outer wall are taken for them, {words}")
    lost = len({len(line) for line in lines_of(text)}) > 1 and (grid[:, 0] == WALL).all()
    if lost and (opened := np.flatnonzero(grid[:, -1] != WALL)).size and (grid[1:-1, -1] == WALL).any():
        rows_opened = ", ".join(str(row + 1) for row in opened)
        notes.append(f"spaces lost at line ends are put back: they open the right wall in rows {rows_opened}")
    return grid, tuple(notes)


def share(text: str) -> float:
    """The share of a text's visible characters that mazes are drawn with; 0 for prose."""
    if {"wall"} & {role.lower() for _, role in _LEGEND.findall(text)}:
        return 0.99
    drawn = plain(unfenced(text))
    visible = re.sub(r"[\s\[\](),;'\"]", "", drawn)
    if not visible or (has_words(visible) and not _is_walled(drawn)):
        return 0.0
    if all(character in "#SG" for character in visible):
        return 1.0
    if visible.isalpha() and "\n" not in text:
        return 0.0
    digits = "" if set(visible) & set("456789") else "0123"
    symbols = {*WALLS, *SQUARES, *FREES, *STARTS, *GOALS, *MARKS, *"|-"} - {"0", "1"} | set(digits)
    pictures = len(set(visible)) <= 6 and not visible.isascii()
    return 0.99 * (1.0 if pictures else sum(c in symbols for c in visible) / len(visible))


def _is_walled(text: str) -> bool:
    """Whether the first line is a wall and every other begins and ends with one, so that letters are cells."""
    lines = [line.strip() for line in lines_of(text)]
    return len(lines) > 2 and all(line[:1] == line[-1:] == "#" for line in lines) and not lines[0].strip("#")


# -- symbols ----------------------------------------------------------------------------------------------
def _meanings(rows: Rows, legend: dict[str, str]) -> dict[str, str]:
    """What each symbol means, as one of `# SGo`. Raises GridParseError for one whose meaning is not certain."""
    counts = Counter(cell for row in rows for cell in row)
    if set(counts) <= set(QUESTION):
        return {symbol: symbol for symbol in counts}
    meanings = {symbol: legend[symbol] for symbol in counts if symbol in legend}
    rest = [symbol for symbol in counts if symbol not in meanings]
    walls = [symbol for symbol in rest if symbol in WALLS] if "#" not in meanings.values() else []
    if not walls and "#" not in meanings.values():
        walls = _border(rows, counts)
    meanings |= dict.fromkeys(walls, "#")
    for letters, meaning in ((STARTS, "S"), (GOALS, "G")):
        if meaning not in meanings.values():
            known = next(
                (c for c in letters if c in counts and c not in meanings and (c in "SsGg" or counts[c] == 1)),
                "",
            )
            meanings |= {known: meaning} if known else {}
    singles = [c for c in counts if counts[c] == 1 and c not in meanings and c not in FREES]
    missing = [meaning for meaning in "SG" if meaning not in meanings.values()]
    if "#" in meanings.values() and len(singles) == len(missing):
        meanings |= dict(zip(singles, missing, strict=True))
    rest = [symbol for symbol in counts if symbol not in meanings]
    frees = [symbol for symbol in rest if symbol in FREES]
    if " " not in meanings.values():
        frees = frees or rest[:1] if len(rest) == 1 or frees else []
        if len(frees) > 1:
            shown = " and ".join(map(repr, frees))
            raise GridParseError(f"both {shown} could be free cells, expected only one of them")
        meanings |= dict.fromkeys(frees, " ")
    meanings |= {symbol: "o" for symbol in rest if symbol in MARKS and symbol not in meanings}
    for number, row in enumerate(rows, 1):
        for column, symbol in enumerate(row, 1):
            if symbol not in meanings:
                where = f"row {number}, cell {column}"
                raise GridParseError(f"{where}: {symbol!r}, expected one of {QUESTION!r}")
    return meanings


def _border(rows: Rows, counts: Counter[str]) -> list[str]:
    """The symbol of the outer wall of a maze that is drawn without a known one; none where there is no such wall.

    Other puzzles have frames too: blanks are no wall, and the cells inside are more than a start and a goal.
    Zeros are a wall around ones that touch, as no Sudoku has them.
    """
    border = Counter([*rows[0], *rows[-1], *(row[0] for row in rows[1:-1]), *(row[-1] for row in rows[1:-1])])
    symbol, number = border.most_common(1)[0]
    closed = border.total() - number <= 2 and len(rows) > 2
    if closed and symbol == "0":
        lines = ["".join(row) for row in (*rows, *zip(*rows, strict=True))]
        closed = any("11" in line for line in lines)
    if (
        closed
        and (symbol in SQUARES or symbol not in FREES)
        and max((n for c, n in counts.items() if c != symbol), default=0) > 1
    ):
        return [symbol]
    if set(counts) <= set("0123 "):
        raise GridParseError(
            "no closed outer wall shows which of its symbols is a wall, expected # for walls"
        )
    return []


def _openings(grid: Grid, least: int) -> list[tuple[int, int]]:
    """The two open cells, apart, of an outer wall that is closed but for them, in order; else nothing.

    least: rows and columns below which such a grid may be anything.
    """
    edge = np.ones(grid.shape, dtype=bool)
    edge[1:-1, 1:-1] = False
    cells = [(row, column) for row, column in np.argwhere(edge & (grid != WALL)).tolist()]
    if len(cells) != 2 or min(grid.shape) < least:
        return []
    return cells if sum(abs(a - b) for a, b in zip(*cells, strict=True)) > 1 else []


def _refuse_stray_marks(grid: Grid, rows: Rows) -> None:
    """Raise GridParseError for marks that are no path from S to G, or, where they are `o`, from one of the two."""
    marked = (grid == PATH) | (grid == START) | (grid == GOAL)
    ends = [(row, column) for row, column in np.argwhere((grid == START) | (grid == GOAL)).tolist()]
    field = Field.of(marked)
    reached = 0
    for end in ends:
        reached |= field.connected(end)
    whole = len(ends) == 2 and bool(field.connected(ends[0]) & field.bit(ends[1]))
    for row, column in np.argwhere(grid == PATH).tolist():
        symbol = rows[row][column]
        if not (whole or symbol == "o") or not reached & field.bit((row, column)):
            raise GridParseError(
                f"row {row + 1}, cell {column + 1}: {symbol!r}, expected one of {QUESTION!r}"
            )


def with_ends(grid: Grid, ends: Ends) -> Grid:
    """The maze from one free cell to another. Raises GridParseError where a cell is none or the meaning is open."""
    start, goal, base = ends
    readings = map(tuple, _readings((start, goal), base))
    options = {pair for pair in readings if start != goal and all(_is_open(grid, cell) for cell in pair)}
    if len(options) != 1:
        found = f"start {list(start)} and goal {list(goal)}"
        if options:
            ways = " or ".join(f"from {place(*a)} to {place(*b)}" for a, b in sorted(options))
            words = f"can be read in {len(options)} ways, {ways}"
            raise GridParseError(f"{found}: {words}; expected S and G in the maze")
        raise GridParseError(f"{found}: not two free cells of the maze of {shape_words(grid)}")
    result = grid.copy()
    result[(grid == START) | (grid == GOAL)] = FREE
    first_cell, last_cell = options.pop()
    result[first_cell], result[last_cell] = START, GOAL
    return result


def _readings(pairs: Sequence[tuple[int, int]], base: int | None = None) -> Iterator[list[tuple[int, int]]]:
    """The cells, counted from 0, that pairs of numbers may mean: with rows first or columns first, from 0 or from 1.

    base: the number that pairs with rows first are known to count from.
    """
    for swapped in (False, True) if base is None else (False,):
        for first in (0, 1) if base is None else (base,):
            yield [(b - first, a - first) if swapped else (a - first, b - first) for a, b in pairs]


def _is_open(grid: Grid, cell: tuple[int, int]) -> bool:
    row, column = cell
    return 0 <= row < grid.shape[0] and 0 <= column < grid.shape[1] and bool(grid[row, column] != WALL)


# -- answers ----------------------------------------------------------------------------------------------
def translated(rows: Sequence[str], question: Grid) -> list[str]:
    """The rows of an answer in another notation, shaped like the question, in this project's symbols.

    A symbol means what the question has in all of its cells. Of those on free cells a space, else the first of
    FREES, is free, and a known symbol of a path is a path: so is a dot beside spaces. Any other stays as it is.
    """
    if not "".join(rows).strip(ANSWER):
        return list(rows)
    cells = np.array([list(row) for row in rows])
    symbols = set(cells.reshape(-1).tolist())
    kinds = {symbol: set(question[cells == symbol].tolist()) for symbol in symbols}
    meaning = {symbol: symbol for symbol in symbols}
    for code in (WALL, START, GOAL):
        meaning |= {symbol: chr(code) for symbol in symbols if kinds[symbol] == {code}}
    beside = [s for s in symbols - set("#SG") if FREE in kinds[s] and kinds[s] <= {FREE, START, GOAL}]
    frees = [s for s in (*FREES, *SQUARES) if s in beside and (s not in MARKS)][:1]
    for symbol in beside:
        if symbol in frees:
            meaning[symbol] = " "
        elif symbol in PATHS:
            meaning[symbol] = "o"
    text = [[meaning[symbol] for symbol in row] for row in cells.tolist()]
    for row, column in np.argwhere((question == START) | (question == GOAL)).tolist():
        if cells[row, column] not in ANSWER:  # a path drawn over its ends
            text[row][column] = chr(question[row, column])
    return ["".join(row) for row in text]


def marked(text: str, question: Grid) -> Grid | None:
    """The answer that a list of the path's cells is, `[[1, 1], [1, 2], …]`; None if the text is no such list.

    Rows come first and count from 0, or else what leads from S to G. Raises GridParseError where nothing does.
    """
    listed = listed_rows(text)
    if listed is None or any(len(row) != 2 or not all(map(str.isdecimal, row)) for row in listed):
        return None
    cells = [(int(row), int(column)) for row, column in listed]
    start, goal = (tuple(np.argwhere(question == code)[0].tolist()) for code in (START, GOAL))
    for path in _readings(cells):
        inside = all(_is_open(question, cell) for cell in path)
        if inside and path[0] in (start, goal) and path[-1] in (start, goal):
            answer = question.copy()
            for cell in path:
                answer[cell] = PATH if question[cell] == FREE else question[cell]
            return answer
    raise GridParseError(f"a list of {len(cells)} cells, expected those from S to G as [row, column]")
