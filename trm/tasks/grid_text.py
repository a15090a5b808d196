"""What the texts of grids have in common: frames, lists, separators."""

from __future__ import annotations

import ast
import re
import unicodedata
from collections.abc import Collection, Sequence

from trm.text import parse_json

LONGEST_LITERAL = 100_000  # characters of a list as Python prints it
LONGEST_CELL = 32  # characters
LONGEST_RULER = 1000

_TABLE = dict.fromkeys(range(0x2500, 0x2580), "+")  # corners and crossings of drawn lines
_TABLE |= {ord(c): "-" for c in "─━┄┅┈┉╌╍═╴╶╸╺╼╾"} | {ord(c): "|" for c in "│┃┆┇┊┋╎╏║╵╷╹╻╽╿¦"}
_TABLE |= {0xFF01 + n: chr(0x21 + n) for n in range(94)}  # of full width
_TABLE |= {0x20E3: "", 0xA0: " ", 0x3000: " ", 0xFE0E: "", 0xFE0F: "", 0x200B: "", 0xFEFF: ""}
_RULER = re.compile(r"\s*[+:|]([-=]+[+:|])+\s*|[\s.,:;'`+|*=#~_-]*[-=_~]{3,}[\s.,:;'`+|*=#~_-]*")


_ARRAY = re.compile(
    r"(?:\w+\s*=\s*)?(?:np\.|numpy\.)?(?:array|asarray|matrix)\((.*?)(?:,\s*dtype=[\w.]+)?\s*,?\s*\)", re.S
)
_MATRIX = re.compile(r"(?:\w+\s*=\s*)?\[([^\[\]]*)\]\s*;?")  # as MATLAB writes it
MISSING = ("none", "null", "nan", "na", "n/a", "<na>")  # what programs write for a cell without a value
_NO_VALUE = {"", "-1", *MISSING}
_WHOLE = re.compile(r"^(\d+)\.0*$")
_WORD = re.compile(r"[^\W\d_]{2,}")
_FENCE = re.compile(r"^ *```[^\n]*\n(.*?)\n *```", re.S | re.M)
_LARGE = frozenset("0123456789abcdefghijklmnop._*-x?")  # cells of a 16x16 Sudoku
_IN_GRIDS = frozenset("begosvx")  # letters, in small, that stand beside each other in some grids


def has_words(text: str) -> bool:
    """Whether a text has a word that is no row of a grid, such as `XXBOOX`, or `1..B.CDE.....F..` of 16x16."""
    found = (line for line in text.splitlines() if _WORD.search(line) and not is_large_row(line))
    return any(not _is_row(word.lower()) for line in found for word in _WORD.findall(line))


def is_large_row(line: str) -> bool:
    """Whether a line is a row of a 16x16 Sudoku with letters in it, or such a grid in a line."""
    cells = re.sub(r"[\s|]+", "", line).lower()
    if set(cells) - _LARGE or len(cells) not in (16, 256):
        return False
    rows = [
        [c for c in cells[at : at + 16] if c.isalnum() and c not in "0x"] for at in range(0, len(cells), 16)
    ]
    return any(rows) and all(len(set(row)) == len(row) for row in rows)


def _is_row(word: str) -> bool:
    return set(word) <= _IN_GRIDS or 2 * (word.count("x") + word.count("o")) >= len(word)


def unfenced(text: str) -> str:
    """What stands in the first fence of a Markdown text; the whole text if there is none."""
    fenced = _FENCE.search(text) if "```" in text else None
    return fenced[1] if fenced else text


def plain(text: str) -> str:
    """The text with `|` and `-` for drawn lines, plain spaces and digits, and without invisible characters."""
    if text.isascii():
        return text
    digits = {ord(c): str(unicodedata.decimal(c)) for c in set(text) if not c.isascii() and c.isdecimal()}
    return text.translate(_TABLE | digits)


def is_ruler(line: str) -> bool:
    """Whether a line is part of a frame: dashes, and nothing that could be a cell beside them."""
    return len(line) < LONGEST_RULER and _RULER.fullmatch(line) is not None


def listed_rows(text: str) -> list[list[str]] | None:
    """The rows of a grid that is written as a list of lists or of strings; None if the text is no such list.

    Cells come as text; None and empty cells as a space. A list of numbers alone is one row.
    """
    text = text.strip()
    if "(" in text[:40] and (array := _ARRAY.fullmatch(text)):
        text = array[1].strip()
    if (matrix := _MATRIX.fullmatch(text)) is not None and ";" in matrix[1]:
        return [re.split(r"[\s,]+", row.strip()) for row in matrix[1].split(";") if row.strip()]
    if re.match(r"\{\s*[{\d]", text):
        text = text.rstrip(";").translate({ord("{"): "[", ord("}"): "]"})
    if not (text.startswith(("[", "(")) and text.endswith(("]", ")"))):
        return None
    try:
        data = parse_json(text)
    except ValueError:
        try:
            literal = re.sub(r"\bnan\b", "None", text)
            data = ast.literal_eval(literal) if len(text) < LONGEST_LITERAL else None
        except (MemoryError, RecursionError, SyntaxError, ValueError):
            # As arrays are printed: brackets without commas.
            lines = (re.findall(r"[^\s\[\](),]+", line) for line in text.splitlines())
            rows = [list(map(cell_text, cells)) for cells in lines if cells]
            if any(len(cell) > LONGEST_CELL for row in rows for cell in row):
                return None
            return rows if text.count("[") != 1 else [[cell for row in rows for cell in row]]
    if not isinstance(data, Sequence) or not data:
        return None
    if not any(isinstance(row, list | tuple | str) and len(row) > 1 for row in data):
        data = [data]
    if not all(isinstance(row, list | tuple | str) for row in data):
        return None
    return [[cell_text(cell) for cell in row] for row in data]


def cell_text(value: object) -> str:
    """A cell of a list or a table as text: a whole number without its point, a space for what is missing."""
    if isinstance(value, bool):
        return str(int(value))
    text = str(value).strip()
    if text.lower() in _NO_VALUE:
        return " "
    return _WHOLE.sub(r"\1", text) if isinstance(value, str | float) and len(text) > 1 else text


def fields(line: str, separators: str = ",;\t", usual: Collection[int] = ()) -> list[str]:
    """The fields of a line, parted by the separator that it has most of, without an empty one behind the last.

    usual: numbers of fields, of which an empty last one may be one.
    """
    separator = max(separators, key=line.count)
    if separator not in line:
        return [line]
    parts = line.split(separator)
    if len(parts) in usual:
        return parts
    if not parts[-1].strip() and len(parts) - 1 in usual:
        return parts[:-1]
    return parts[:-1] if not parts[-1].strip() and len(parts) % 2 == 0 else parts
