"""The cells of a drawn maze: from lines, lists, matrices, frames and doubled cells to rows of one symbol a cell."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from trm.grid import GridParseError
from trm.tasks.grid_text import fields, listed_rows, plain, unfenced

Rows = list[list[str]]

WALLS = "#█▓■◼🧱🟫"
STARTS, GOALS = "SsAB@qI", "GgEeFfTX"
ROW_MARKS = "|/,;"  # which part the rows of a maze in one line
MOST_READ = 32  # rows and columns


def rows_of(text: str) -> Rows:
    """Rows of one length, each cell a symbol. Raises GridParseError."""
    rows = _rows(text)
    if not all(rows) or not rows:
        number = next((n for n, row in enumerate(rows, 1) if not row), 1)
        width = len(rows[0]) if rows else 0
        raise GridParseError(f"row {number}: 0 cells, expected {width or 'some'}")
    return _same_length(_halved(_unboxed(rows)))


def parts(blocks: Sequence[Sequence[tuple[int, str]]]) -> list[tuple[int, str]]:
    """The mazes in blocks of numbered lines that empty lines part: each block is one, but where one block has the
    start and the next one the goal: there a row of spaces was lost, and the maze is incomplete."""
    found: list[tuple[int, str]] = []
    for block in blocks:
        text = "\n".join(line for _, line in block)
        if found and "S" in found[-1][1] and "G" in text and not ("G" in found[-1][1] or "S" in text):
            found[-1] = (found[-1][0], f"{found[-1][1]}\n\n{text}")
        else:
            found.append((block[0][0], text))
    return found


def lines_of(text: str) -> list[str]:
    """The lines of a grid without the empty lines around it. Spaces are cells, never stripped."""
    return text.replace("\r\n", "\n").strip("\n").split("\n")


def grouped(texts: Sequence[str]) -> dict[tuple[int, int], list[int]]:
    """The places of texts by the height and width that a maze of their length has: that of lines, or of a square."""
    places: dict[tuple[int, int], list[int]] = {}
    for number, text in enumerate(texts):
        width = text.find("\n")
        height, rest = divmod(len(text) + 1, width + 1) if width > 0 else (isqrt(len(text)), 0)
        if not rest and (width > 0 or height * height == len(text)):
            places.setdefault((height, width if width > 0 else height), []).append(number)
    return places


def read_alike(
    texts: Sequence[str], height: int, width: int, allowed: str
) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
    """Which texts are grids of this size, in lines or flat, of the allowed characters [N], and their cells [N, H, W].

    The cells of the others are zeros.
    """
    known = np.zeros(len(texts), dtype=np.bool_)
    grids = np.zeros((len(texts), height, width), dtype=np.uint8)
    codes = np.isin(np.arange(256), np.frombuffer(allowed.encode(), dtype=np.uint8))
    for columns in (width, width + 1):  # without and with line ends
        length = height * columns - (columns > width)
        places = [n for n, text in enumerate(texts) if len(text) == length]
        if not places:
            continue
        end = "\n" * (columns - width)
        ended = (end.join([texts[n] for n in places]) + end).encode("ascii", "replace")
        cells = np.frombuffer(ended, dtype=np.uint8).reshape(-1, height, columns)
        sound = (cells[:, :, width:] == ord("\n")).all(axis=(1, 2))
        others = len(ended.translate(None, allowed.encode()))
        if others > len(places) * height * len(end) or not sound.all():  # some are no such grids
            sound &= codes[cells[:, :, :width]].all(axis=(1, 2))
        known[places], grids[places] = sound, cells[:, :, :width]
    return known, grids


def _rows(text: str) -> Rows:
    if (listed := listed_rows(text)) is not None:
        strings = all(len(row) == 1 for row in listed)
        return [list(row[0]) for row in listed] if strings else listed
    if "\n" not in text:
        text = text.replace("\\n", "\n")
        joined = (text.split(mark) for mark in ROW_MARKS if mark in text)
        text = next(
            ("\n".join(rows) for rows in joined if len({len(row) for row in rows}) == 1 < len(rows[0])), text
        )
    lines = _unindented(lines_of(plain(unfenced(text))))
    separated = [fields(line) for line in lines]
    if len({len(row) for row in separated}) == 1 < len(separated[0]):
        return [[cell.strip() or " " for cell in row] for row in separated]
    spaced = all(set(line[1::2]) <= {" "} and " " not in line[::2] and len(line) > 1 for line in lines)
    if spaced and any(c not in WALLS + "SG" for line in lines for c in line[::2]):
        return [list(line[::2]) for line in lines]
    return [list(line) for line in lines]


def _unindented(lines: Sequence[str]) -> list[str]:
    """Lines without tabs before them, and without spaces that stand before all but the first line."""
    lines = [line.lstrip("\t") for line in lines]
    behind = [len(line) - len(line.lstrip(" ")) for line in lines[1:]]
    indent = min(behind, default=0)
    if indent and {len(line) for line in lines[1:]} == {len(lines[0]) + indent}:
        lines[1:] = [line[indent:] for line in lines[1:]]
    return lines


def _unboxed(rows: Rows) -> Rows:
    """A maze of `+--+` and `|` with a character for each post, wall and cell; other rows as they are."""
    top = "".join(rows[0])
    if not re.fullmatch(r"\+([- ]+\+)+", top) or "|" not in {cell for row in rows for cell in row}:
        return rows
    step = top.index("+", 1)
    width = len(top)
    drawn = ["".join(row).ljust(width) for row in rows]
    if (width - 1) % step or any(len(row) != width for row in drawn) or not len(rows) % 2:
        return rows
    if any(row[0::step].strip("+") for row in drawn[0::2]):
        return rows
    result: Rows = []
    for number, row in enumerate(drawn):
        cells = []
        for column in range(0, width, step):
            inside = row[column + 1 : column + step].strip()
            post = row[column]
            if len(inside) > 1 and set(inside) != {"-"}:
                return rows
            cells += ["#" if post in "+|-" else post]
            cells += (
                ["#" if inside[:1] == "-" and number % 2 == 0 else inside or " "]
                if column + step < width
                else []
            )
        result.append(cells)
    return result


def _halved(rows: Rows) -> Rows:
    """Rows in which every cell stands twice, with a single cell for each; other rows as they are.

    So are read mazes whose S and G stand twice, and those that are too wide, if an outer wall stands twice too.
    """
    if any(len(row) % 2 for row in rows) or len({len(row) for row in rows}) != 1:
        return rows
    pairs = [list(zip(row[::2], row[1::2], strict=True)) for row in rows]
    unlike = [pair for row in pairs for pair in row if pair[0] != pair[1]]
    twice = sum(a == b and a in STARTS + GOALS for row in pairs for a, b in row) == 2 and not unlike
    closed = all(a == b != " " for row in pairs for a, b in (row[0], row[-1]))
    if not twice and not (len(rows[0]) > MOST_READ and closed and len(unlike) <= 2):
        return rows
    return [["".join(pair).strip()[:1] or " " for pair in row] for row in pairs]


def _same_length(rows: Rows) -> Rows:
    """Rows of one length. Spaces that an editor took from the ends of lines are put back where that is certain."""
    width = max(map(len, rows))
    short = [number for number, row in enumerate(rows, 1) if len(row) != width]
    if not short:
        return rows
    stripped = not any(row[-1:] == [" "] or set(row) & set("._0·") for row in rows)
    stripped &= len(short) > 1 or len(rows[short[0] - 1]) < width - 1  # else a cell is missing, anywhere
    closed = any(len(row) == width and len(set(row)) == 1 and row[0] != " " for row in (rows[0], rows[-1]))
    # A right wall that would have a single opening where the other three have none has rather lost a cell.
    walled = all(set(row) == {rows[0][0]} for row in (rows[0], rows[-1], [row[0] for row in rows]))
    walled &= len(short) == 1 and any(row[-1] == rows[0][0] for row in rows[1:-1] if len(row) == width)
    if stripped and closed and not walled:
        return [row + [" "] * (width - len(row)) for row in rows]
    number, row = next((n, row) for n, row in enumerate(rows, 1) if len(row) != len(rows[0]))
    raise GridParseError(
        f"row {number}: {len(row)} cells, expected {len(rows[0])} as in row 1: {''.join(row)!r}"
    )
