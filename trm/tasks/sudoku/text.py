"""Sudokus as people write them: 81 characters, rows, frames, lists, one of many symbols for a blank, candidates."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from trm.grid import Grid, GridParseError, shorten
from trm.tasks.grid_text import fields, is_ruler, listed_rows, plain
from trm.tasks.sudoku.sizes import SIZES

SIDE = 9
OTHER_SIDES = (4, 6, 16)
REFUSED_SIDES = (8, 10, 12, 15, 20, 25)  # of Sudokus that people have, and that are refused by their size
_ALL_SIDES = (*SIZES, *REFUSED_SIDES)
_FLAT_OTHERS = tuple(side * side for side in (*OTHER_SIDES, *REFUSED_SIDES))
LETTERS = "ABCDEFGHIJKLMNOPabcdefghijklmnop"  # above 9 in larger Sudokus
BLANKS = "._0"  # blanks that may stand beside each other
# Each of these is a blank where it is the only symbol that is no digit.
OTHER_BLANKS = "*-xX?,·•□◻☐⬜⬛#~ "
_DIGITS = {**dict.fromkeys(BLANKS, 0), **{str(digit): digit for digit in range(1, 10)}}
_CODES = bytes(_DIGITS.get(chr(code), 0) for code in range(256))  # the digit of each ASCII code
_BLANK_FLAT = re.compile(r"[0-9._]+|[1-9 ]+|[1-9,]+|[1-9-]+|[1-9*]+|[1-9?]+|[1-9xX]+|[1-9·•□◻☐~#]+", re.ASCII)
_FLAT = re.compile(r"[0-9._]{81}|[1-9*]{81}|[1-9xX]{81}|[1-9?]{81}|[1-9-]{81}|[0-9.]{729}", re.ASCII)
_FIELDS = re.compile(r"[\s,;:|\"'`<>=()\[\]{}]+")
_LISTED = re.compile(r"\s*(?:-\s+)?[\[({]+([^\[\](){}]*)[\])}]+[,;]?\s*")  # a row of a list
_COMMENT = re.compile(r"\s*(#|//|%)")

_EXPECTED = "expected 4x4, 6x6, 9x9 or 16x16"
Rows = list[list[str]]  # cells as text: a digit, a blank, or candidates


def _known(side: int) -> str:
    """The symbols of a grid of this side, and its plain blanks."""
    return BLANKS + "123456789"[:side] + (LETTERS if side > SIDE else "")


def read_grid(text: str) -> Grid:
    """A grid [side, side], 0 for a blank, from any form. Raises GridParseError."""
    return read(text)[0]


def read_plain(texts: Sequence[str], side: int = SIDE) -> tuple[NDArray[np.intp], NDArray[np.uint8]]:
    """Which of the texts are side² digits and plain blanks, perhaps in lines [n], and their cells [n, side²]."""
    area, known = side * side, _known(side)
    ends = "\n" * (side - 1)
    texts = [text.replace("\n", "") if text[side :: side + 1] == ends else text for text in texts]
    places = [n for n, text in enumerate(texts) if len(text) == area and not text.strip(known)]
    if side > SIDE:  # letters, and zeros, that have several meanings
        places = []
    cells = bytearray("".join(texts[n] for n in places).encode().translate(_CODES))
    return np.array(places, dtype=np.intp), np.frombuffer(cells, dtype=np.uint8).reshape(-1, area)


def read(text: str) -> tuple[Grid, tuple[str, ...]]:
    """The grid [side, side], and what a person should know of how it was read. Raises GridParseError."""
    side = {16: 4, 36: 6, 81: 9}.get(len(text), 0)
    if side and not text.strip(_known(side)):  # a short cut: files hold millions in this form
        codes = bytearray(text.encode().translate(_CODES))
        return np.frombuffer(codes, dtype=np.uint8).reshape(side, side), ()
    rows = _rows(plain(text))
    _refuse_other_sizes(rows)
    side = len(rows) if len(rows) in OTHER_SIDES and len(rows) in map(len, rows) else SIDE
    blanks = _blanks(rows, LETTERS if side > SIDE else "")
    values = _values(rows, blanks) if side > SIDE else {str(digit): digit for digit in range(1, side + 1)}
    open_cells = 0
    grid = np.zeros((side, side), dtype=np.uint8)
    for row, cells in enumerate(rows, 1):
        for column, cell in enumerate(cells, 1):
            if len(cell) > 1 and side <= SIDE and len(cells) == side and _are_candidates(cell):
                open_cells += 1
            elif cell not in values and cell not in blanks:
                symbols = "1 to 9 and A to G, or 1 to 16" if side > SIDE else f"1 to {side}"
                where = f"row {row}, cell {column}"
                raise GridParseError(f"{where}: {cell!r}, expected {symbols}, or . 0 _ for a blank")
            elif row <= side and column <= side:
                grid[row - 1, column - 1] = values.get(cell, 0)
        if len(cells) != side:
            found = shorten("".join(cells), 24)
            raise GridParseError(f"row {row}: {len(cells)} cells, expected {side}: {found}")
    if len(rows) != side:
        raise GridParseError(f"{len(rows)} rows, expected 9 (or 81 characters)")
    note = f"candidates in {open_cells} cells are passed over: only solved cells are taken as given"
    return grid, (note,) if open_cells else ()


def _values(rows: Rows, blanks: set[str]) -> dict[str, int]:
    """What each symbol of a grid of 16x16 stands for: 1 to 16, 1 to 9 and A to G, 0 to F, or A to P."""
    cells = [cell for row in rows for cell in row]
    symbols = set(cells)
    if any(len(symbol) > 1 for symbol in symbols):
        return {f"{number:0{width}}": number for number in range(1, 17) for width in (1, 2)}
    if symbols & set(LETTERS[7:16] + LETTERS[23:]) and not any(symbol.isdecimal() for symbol in symbols):
        order = LETTERS[:16]  # with H and above, and without digits
    elif "0" in symbols and not symbols & set("gG") and (symbols & blanks - {"0"} or cells.count("0") <= 16):
        order = "0123456789ABCDEF"  # there is another blank, or zeros are too few for one
    else:
        order = "123456789ABCDEFG"
    values = {symbol: value for value, symbol in enumerate(order, 1)}
    return values | {symbol.lower(): value for symbol, value in values.items()}


def _are_candidates(cell: str) -> bool:
    return cell.isascii() and cell.isdecimal() and "0" not in cell and len(set(cell)) == len(cell)


def _blanks(rows: Rows, letters: str = "") -> set[str]:
    """The symbols that stand for a blank in these rows, beside letters in place of digits above 9."""
    cells = {cell for row in rows for cell in row}
    symbols = {cell for cell in cells if len(cell) == 1 and not cell.isdecimal()} - set(letters)
    alone = len({symbol.lower() for symbol in symbols}) == 1 and (letters or "0" not in cells)
    return {*BLANKS, *symbols} if alone and symbols <= set(OTHER_BLANKS) else set(BLANKS)


def _refuse_other_sizes(rows: Rows) -> None:
    """Raise GridParseError for a Sudoku of a size that is not known."""
    sides = {len(cells) for cells in rows}
    lines = isqrt(max(sides, default=0))
    if len(sides) == 1 and lines in REFUSED_SIDES and sides == {lines * lines} and len(rows) not in sides:
        raise GridParseError(f"lines of {lines * lines} cells, as of grids of {lines}x{lines}, {_EXPECTED}")
    if len(sides) == 1 and len(rows) in sides and len(rows) in REFUSED_SIDES:
        raise GridParseError(f"a grid of {len(rows)}x{len(rows)}, {_EXPECTED}")


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
    if len(rows) != len(filled) and _is_square(filled):
        rows = filled  # rows of dashes for blanks
    longest = max(map(len, rows), default=0)
    side = len(rows) if len(rows) in (4, 6) else SIDE
    if longest <= side and " " in text and not re.search(r"[._0*?-]|\d \d \d \d", text):
        return [list(line.ljust(side)) for line in rows]  # a space for a blank, perhaps lost at the end
    return _without_labels([row_cells(line) for line in rows])


def _is_square(lines: Sequence[str]) -> bool:
    """Whether lines may be rows of cells without anything between them; nine lines are always a grid's rows."""
    side = len(lines)
    return side == SIDE or (side in OTHER_SIDES and all(len(line.strip()) == side for line in lines))


def _without_labels(rows: Rows) -> Rows:
    """Rows without the numbers from 0 to 8 that a table of data has above and before them."""
    numbers = [str(number) for number in range(SIDE)]
    if len(rows) != SIDE + 1 or rows[0][-SIDE:] != numbers:
        return rows
    if len(rows[0]) == SIDE:
        return rows[1:]
    labelled = [cells[:1] for cells in rows[1:]] == [[number] for number in numbers]
    return [cells[1:] for cells in rows[1:]] if labelled else rows


def row_cells(line: str) -> list[str]:
    """The cells of a row, whatever parts them: commas, bars, spaces or nothing."""
    line = re.sub(r"\|\s*\.\s*$", "|", plain(line))  # as LaTeX's package of Sudokus ends a row
    if (listed := _LISTED.fullmatch(line)) is not None:
        line = re.sub("[\"']", "", listed[1])
    parts = fields(line, usual=SIZES)
    if len(parts) in _ALL_SIDES:
        return [part.strip() or " " for part in parts]
    if "|" in line:
        parts = line.split("|")
        parts = parts[not parts[0].strip() : len(parts) - (not parts[-1].strip())]
        if len(parts) == SIDE or (len(parts) in _ALL_SIDES and max(len(p.strip()) for p in parts) <= 2):
            return [part.strip() or " " for part in parts]
        boxes = [_box(part) for part in parts]
        if len(parts) == 3 and all(boxes):
            return [cell for box in boxes for cell in box]
    words = [word for word in line.replace("|", " ").split() if not re.fullmatch("[+]+", word)]
    if len(words) == SIDE or (len(words) in _ALL_SIDES and max(map(len, words)) <= 2):
        return [_cell(word) for word in words]
    dashes = "" if len(line.strip()) in SIZES else "-"  # a row of that length may have them for blanks
    return [character for character in line if character not in " \t|+" + dashes]


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
    for parts in (fields(line, ",;\t|", (81, 16, 36, 256)), line.split()):
        if len(parts) in (81, *_FLAT_OTHERS):
            return [part.strip() or " " for part in parts]
    bare = line.strip()
    if len(rows := re.split(r"[\s,;/|]+", bare)) in SIZES and all(len(row) == len(rows) for row in rows):
        return list("".join(rows))
    for exact in (line, bare):
        if len(exact) in (81, 729) and _BLANK_FLAT.fullmatch(exact):
            return list(exact)
    if len(bare) in _FLAT_OTHERS and not re.search(r"[\s|+]", bare):
        return list(bare)
    return list(re.sub(r"[\s|+-]", "", line))


def _flat(cells: Sequence[str], line: str) -> Rows:
    """Rows of the cells in one line. Raises GridParseError."""
    if len(cells) == 729:  # nine places for each cell's candidates
        marks = ["".join(c for c in cells[i : i + 9] if c not in BLANKS) for i in range(0, 729, 9)]
        cells = [mark or "." for mark in marks]
    side = isqrt(len(cells))
    if side * side != len(cells) or side not in SIZES:
        square = f", a grid of {side}x{side}" if len(cells) in _FLAT_OTHERS else ""
        found = f"{len(cells)} cells{square}, expected 81 (or nine lines)"
        raise GridParseError(f"{found}: {shorten(''.join(cells) or line.strip(), 24)}")
    return [list(cells[i : i + side]) for i in range(0, len(cells), side)]


# -- puzzles among other text -----------------------------------------------------------------------------
def in_line(line: str, side: int = SIDE) -> tuple[str, str | None] | None:
    """The question that a line holds beside other things, and the answer where it stands there too.

    side: of the grids. None where no field is a whole Sudoku. Raises GridParseError for several that are no puzzle
    and its answer.
    """
    if side != SIDE:
        return _other_in_line(line, side)
    if len(line) < 81:
        return None
    if _FLAT.fullmatch(line) or (len(line) == 81 and _BLANK_FLAT.fullmatch(line)):
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
    return None


def _other_in_line(line: str, side: int) -> tuple[str, str | None] | None:
    known = _known(side)
    split = (field for field in _FIELDS.split(plain(line)) if len(field) == side * side)
    whole = [field for field in split if not field.strip(known) or len(set(field) - set(known)) == 1]
    return (whole[0], whole[1] if len(whole) == 2 else None) if 0 < len(whole) < 3 else None


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
    """Puzzles in blocks of numbered lines that empty lines part: as many rows as cells, with or without rulers.

    An empty line parts two Sudokus only where the first is complete: it may stand between bands, or rows. Lines of
    16, 36 or 256 cells may be whole grids. Returns each puzzle's text with the number of its first line.
    """
    found: list[tuple[int, str]] = []
    rows: list[tuple[int, str]] = []
    size = side = 0  # rows of the blocks that the open grid consists of: bands are of one size; and its side

    def close() -> None:
        nonlocal size
        if rows:
            found.append((rows[0][0], "\n".join(line for _, line in rows)))
        rows.clear()
        size = 0

    for block in blocks:
        lines = [(number, line) for number, line in block if not _COMMENT.match(line)]
        kept = [(number, line) for number, line in lines if not is_ruler(line)]
        if len(kept) != len(lines) and _is_square([line for _, line in lines]):
            kept = lines  # rows of dashes for blanks
        if not kept:
            continue
        cells = [row_cells(line) for _, line in kept]
        length = len(cells[0])
        if any(len(row) != length for row in cells) or length not in (*SIZES, 36, 256):
            close()
            found.append((kept[0][0], "\n".join(line for _, line in kept)))
            continue
        if length > 16 or (length == 16 and _are_small(cells)):
            close()
            found += kept
            continue
        if rows and (length != side or len(kept) not in (1, SIZES[side].box_height) or len(kept) != size):
            close()
        size, side = len(kept), length
        if size > side and size % side:  # no telling which row is too much
            found.append((kept[0][0], "\n".join(line for _, line in kept)))
            continue
        for start in range(0, len(kept), side):
            rows += kept[start : start + side]
            if len(rows) >= side:
                close()
    close()
    return found


def _are_small(cells: Rows) -> bool:
    """Whether lines of 16 cells are grids of 4x4: rows of 16x16 hold larger symbols."""
    return not {cell for row in cells for cell in row} & {*"56789", *LETTERS, *map(str, range(10, 17))}
