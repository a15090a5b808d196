"""Sudokus as people write them: 81 characters, rows, frames, lists, one of many symbols for a blank, candidates."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from trm.grid import Grid, GridParseError, shorten
from trm.tasks.grid_text import fields, is_ruler, listed_rows, plain

SIDE = 9
OTHER_SIDES = (
    4,
    6,
    8,
    10,
    12,
    15,
    16,
    20,
    25,
)  # of Sudokus that people have, and that are refused by their size
LETTERS = "ABCDEFGHIJKLMNOPabcdefghijklmnop"  # above 9 in larger Sudokus
BLANKS = "._0"  # blanks that may stand beside each other
# Each of these is a blank where it is the only symbol that is no digit.
OTHER_BLANKS = "*-xX?,·•□◻☐⬜⬛#~ "
_PLAIN = "0123456789" + BLANKS
_DIGITS = {**dict.fromkeys(BLANKS, 0), **{str(digit): digit for digit in range(1, 10)}}
_CODES = bytes(_DIGITS.get(chr(code), 0) for code in range(256))  # the digit of each ASCII code
_FLAT = re.compile(r"[0-9._]{81}|[1-9*]{81}|[1-9xX]{81}|[1-9?]{81}|[1-9-]{81}|[0-9.]{729}", re.ASCII)
_FIELDS = re.compile(r"[\s,;:|\"'`<>=()\[\]{}]+")
_LISTED = re.compile(r"\s*[\[({]+([^\[\](){}]*)[\])}]+[,;]?\s*")  # a row of a list
_COMMENT = re.compile(r"\s*(#|//|%)")

Rows = list[list[str]]  # cells as text: a digit, a blank, or candidates


def read_grid(text: str) -> Grid:
    """A grid [9, 9], 0 for a blank, from any form. Raises GridParseError."""
    return read(text)[0]


def read_plain(texts: Sequence[str]) -> tuple[NDArray[np.intp], NDArray[np.uint8]]:
    """Which of the texts are 81 digits and plain blanks [n], and their cells [n, 81]."""
    places = [n for n, text in enumerate(texts) if len(text) == 81 and not text.strip(_PLAIN)]
    cells = bytearray("".join(texts[n] for n in places).encode().translate(_CODES))
    return np.array(places, dtype=np.intp), np.frombuffer(cells, dtype=np.uint8).reshape(-1, 81)


def read(text: str) -> tuple[Grid, tuple[str, ...]]:
    """The grid [9, 9], and what a person should know of how it was read. Raises GridParseError."""
    if len(text) == 81 and not text.strip(_PLAIN):  # a short cut: files hold millions in this form
        return np.frombuffer(bytearray(text.encode().translate(_CODES)), dtype=np.uint8).reshape(9, 9), ()
    rows = _rows(plain(text))
    _refuse_other_sizes(rows)
    blanks = _blanks(rows)
    open_cells = 0
    grid = np.zeros((SIDE, SIDE), dtype=np.uint8)
    for row, cells in enumerate(rows, 1):
        for column, cell in enumerate(cells, 1):
            if len(cell) > 1 and len(cells) == SIDE and _are_candidates(cell):
                open_cells += 1
            elif cell not in blanks and cell not in _DIGITS:
                where = f"row {row}, cell {column}"
                raise GridParseError(f"{where}: {cell!r}, expected 1 to 9, or . 0 _ for a blank")
            elif row <= SIDE and column <= SIDE:
                grid[row - 1, column - 1] = _DIGITS.get(cell, 0)
        if len(cells) != SIDE:
            found = shorten("".join(cells), 24)
            raise GridParseError(f"row {row}: {len(cells)} cells, expected 9: {found}")
    if len(rows) != SIDE:
        raise GridParseError(f"{len(rows)} rows, expected 9 (or 81 characters)")
    note = f"candidates in {open_cells} cells are passed over: only solved cells are taken as given"
    return grid, (note,) if open_cells else ()


def _are_candidates(cell: str) -> bool:
    return cell.isascii() and cell.isdecimal() and "0" not in cell and len(set(cell)) == len(cell)


def _blanks(rows: Rows) -> str:
    """The symbols that stand for a blank in these rows."""
    symbols = {cell for cells in rows for cell in cells if len(cell) == 1 and not cell.isdecimal()}
    digits = {cell for cells in rows for cell in cells}
    others = {symbol.lower() for symbol in symbols if symbol not in BLANKS}
    if len(others) == 1 and not symbols & set(BLANKS) and "0" not in digits and others <= set(OTHER_BLANKS):
        return BLANKS + "".join(symbols)
    return BLANKS


def _refuse_other_sizes(rows: Rows) -> None:
    """Raise GridParseError for a Sudoku of another size than 9x9."""
    sides = {len(cells) for cells in rows}
    lines = isqrt(max(sides, default=0))
    if len(sides) == 1 and lines in OTHER_SIDES and sides == {lines * lines} and len(rows) not in sides:
        raise GridParseError(f"lines of {lines * lines} cells, as of grids of {lines}x{lines}, expected 9x9")
    if len(sides) == 1 and len(rows) in sides and len(rows) in OTHER_SIDES:
        raise GridParseError(f"a grid of {len(rows)}x{len(rows)}, expected 9x9, the only size that is known")


# -- rows of cells ----------------------------------------------------------------------------------------
def _rows(text: str) -> Rows:
    if (listed := listed_rows(text)) is not None:
        if len(listed) == 1:
            return _flat(listed[0], text)
        return [list(row[0]) if len(row) == 1 else row for row in listed]
    lines = [line.rstrip("\r") for line in text.strip("\n").split("\n")]
    filled = [line for line in lines if line.strip()]
    if len(filled) == 1:
        return _flat(_flat_cells(filled[0]), filled[0])
    for exact in (lines, filled):
        if len(exact) == SIDE and all(len(line) == SIDE and "|" not in line for line in exact):
            return [list(line) for line in exact]
    rows = [line for line in filled if not is_ruler(line)]
    if len(rows) != SIDE == len(filled):
        rows = filled  # rows of dashes for blanks
    longest = max(map(len, rows), default=0)
    if longest <= SIDE and " " in text and not re.search(r"[._0*?-]|\d \d \d \d", text):
        return [list(line.ljust(SIDE)) for line in rows]  # a space for a blank, perhaps lost at the end
    return _without_labels([row_cells(line) for line in rows])


def _without_labels(rows: Rows) -> Rows:
    """Rows without the numbers from 0 to 8 that a table of data has above and before them."""
    numbers = [str(number) for number in range(SIDE)]
    if len(rows) == SIDE + 1 and rows[0][-SIDE:] == numbers:
        before = [cells[0] for cells in rows[1:]]
        rows = (
            rows[1:]
            if len(rows[0]) == SIDE
            else [cells[1:] for cells in rows[1:]]
            if before == numbers
            else rows
        )
    return rows


def row_cells(line: str) -> list[str]:
    """The cells of a row, whatever parts them: commas, bars, spaces or nothing."""
    line = plain(line)
    if (listed := _LISTED.fullmatch(line)) is not None:
        line = listed[1]
    parts = fields(line)
    if len(parts) in (SIDE, *OTHER_SIDES):
        return [part.strip() or " " for part in parts]
    if "|" in line:
        parts = line.split("|")
        parts = parts[not parts[0].strip() : len(parts) - (not parts[-1].strip())]
        if len(parts) == SIDE or (len(parts) in OTHER_SIDES and max(len(p.strip()) for p in parts) <= 2):
            return [part.strip() or " " for part in parts]
        boxes = [_box(part) for part in parts]
        if len(parts) == 3 and all(boxes):
            return [cell for box in boxes for cell in box]
    words = [word for word in line.replace("|", " ").split() if not re.fullmatch("[+]+", word)]
    if len(words) == SIDE or (len(words) in OTHER_SIDES and max(map(len, words)) <= 2):
        return [_cell(word) for word in words]
    return list(re.sub(r"[ \t|+]" if "-" in line and len(line.strip()) == SIDE else r"[ \t|+-]", "", line))


def _cell(word: str) -> str:
    """A cell without the brackets that mark it as given or solved."""
    return word[1:-1] if len(word) > 2 and word[0] in "({[" else word


def _box(part: str) -> list[str]:
    """Three cells between bars, spaces for blanks where there is nothing else; empty if it is not clear."""
    words = part.split()
    if len(words) == 3:
        return [_cell(word) for word in words]
    if len(words) == 1 and len(words[0]) == 3:
        return list(words[0])
    taken = {3: part, 5: part[::2], 6: part[::2], 7: part[1::2]}.get(len(part), "")
    return list(taken) if len("".join(taken.split())) == len("".join(words)) else []


def _flat_cells(line: str) -> list[str]:
    """The cells of a whole grid in one line."""
    for parts in (fields(line, ",;\t|"), line.split()):
        if len(parts) in (81, *(side * side for side in OTHER_SIDES)):
            return [part.strip() or " " for part in parts]
    bare = line.strip()
    if len(rows := re.split(r"[\s,;/|]+", bare)) == SIDE and all(len(row) == SIDE for row in rows):
        return list("".join(rows))
    for exact in (line, bare):
        if len(exact) in (81, 729) and _BLANK_FLAT.fullmatch(exact):
            return list(exact)
    return list(re.sub(r"[\s|+-]", "", line))


_BLANK_FLAT = re.compile(r"[0-9._]+|[1-9 ]+|[1-9,]+|[1-9-]+|[1-9*]+|[1-9?]+|[1-9xX]+|[1-9·•□◻☐~#]+", re.ASCII)


def _flat(cells: Sequence[str], line: str) -> Rows:
    """Rows of the cells in one line. Raises GridParseError."""
    if len(cells) == 729:  # nine places for each cell's candidates
        marks = ["".join(c for c in cells[i : i + 9] if c not in BLANKS) for i in range(0, 729, 9)]
        cells = [mark or "." for mark in marks]
    if len(cells) != 81:
        side = isqrt(len(cells))
        square = f", a grid of {side}x{side}" if side * side == len(cells) and side in OTHER_SIDES else ""
        found = f"{len(cells)} cells{square}, expected 81 (or nine lines)"
        raise GridParseError(f"{found}: {shorten(''.join(cells) or line.strip(), 24)}")
    return [list(cells[i : i + SIDE]) for i in range(0, 81, SIDE)]


# -- puzzles among other text -----------------------------------------------------------------------------
def in_line(line: str) -> tuple[str, str | None] | None:
    """The question that a line holds beside other things, and the answer where it stands there too.

    None where no field is a whole Sudoku. Raises GridParseError for several that are no puzzle and its answer.
    """
    if len(line) < 81:
        return None
    if _FLAT.fullmatch(line):
        return line, None
    split = _FIELDS.split(plain(line).replace("+", ""))
    # A point that ends a sentence is no cell.
    split = [field[:-1] if len(field) == 82 and field[:-1].isdecimal() else field for field in split]
    whole = [field for field in split if len(field) in (81, 729)]
    found = [field for field in whole if _FLAT.fullmatch(field)]
    if len(found) == 1 == len(whole):
        return found[0], None
    if len(found) == 2 == len(whole) and (pair := _question_and_answer(found)):
        return pair
    if found:  # such as a map of other regions beside a puzzle
        raise GridParseError(
            f"{len(whole)} fields of {len(found[0])} symbols, expected a puzzle and its answer"
        )
    if not found and len(line) == 81 and _BLANK_FLAT.fullmatch(line):
        return line, None
    return None


def _question_and_answer(found: Sequence[str]) -> tuple[str, str] | None:
    """Of two grids the one with blanks, then the complete one that it is a part of."""
    whole = [field.isdecimal() and "0" not in field for field in found]
    if whole[0] == whole[1]:
        return None
    question, answer = (found[1], found[0]) if whole[0] else (found[0], found[1])
    if len(question) != len(answer):
        return None
    agree = all(a == b for a, b in zip(question, answer, strict=True) if a in "123456789")
    return (question, answer) if agree else None


def parts(blocks: Iterable[Sequence[tuple[int, str]]]) -> list[tuple[int, str]]:
    """Puzzles in blocks of numbered lines that empty lines part: nine rows each, with or without rulers.

    An empty line parts two Sudokus only where the first is complete: it may stand between bands, or rows.
    Returns each puzzle's text with the number of its first line.
    """
    found: list[tuple[int, str]] = []
    rows: list[tuple[int, str]] = []
    size = 0  # rows of the blocks that the open grid consists of: bands are of one size

    def close() -> None:
        nonlocal size
        if rows:
            found.append((rows[0][0], "\n".join(line for _, line in rows)))
        rows.clear()
        size = 0

    for block in blocks:
        lines = [(number, line) for number, line in block if not _COMMENT.match(line)]
        kept = [(number, line) for number, line in lines if not is_ruler(line)]
        if len(kept) != SIDE == len(lines):
            kept = lines  # rows of dashes for blanks
        if not kept:
            continue
        if any(len(row_cells(line)) != SIDE for _, line in kept):
            close()
            found.append((kept[0][0], "\n".join(line for _, line in kept)))
            continue
        if rows and (len(kept) not in (1, 3) or len(kept) != size):
            close()
        size = len(kept)
        if size > SIDE and size % SIDE:  # no telling which row is too much
            found.append((kept[0][0], "\n".join(line for _, line in kept)))
            continue
        for start in range(0, len(kept), SIDE):
            rows += kept[start : start + SIDE]
            if len(rows) >= SIDE:
                close()
    close()
    return found
