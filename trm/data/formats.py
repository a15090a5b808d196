"""The forms of puzzle files: grids, CSV, JSON lines and ARC's JSON, each read into `Item`s.

A reader knows no task: it says which text is a question, which is its answer, and where both are. An item that it
cannot read is a `PuzzleError` in the item's place.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable
from itertools import groupby
from typing import Any

from trm.data import arc_files
from trm.data.items import Item, Items, parse_json
from trm.grid import PuzzleError, shorten

LONGEST_ROW = 30  # cells: a longer line is a whole puzzle
NUMBER = re.compile(r"-?\d{1,15}(\.\d{1,15})?")
KEYS = ("id", "task", "question", "answer")  # of a record; its other fields become the puzzle's meta


def read_any(text: str, where: str, stem: str) -> Items:
    """Text of unknown form: JSON, JSON lines, CSV with a header, or grids."""
    if text.lstrip()[:1] in ("{", "["):
        several = len(text.strip().splitlines()) > 1 and isinstance(_parsed(text), str)
        return (read_jsonl if several else read_json)(text, where, stem)
    header = text.lstrip().split("\n", 1)[0].lower().split(",")
    is_csv = "question" in (column.strip(' "\r') for column in header)
    return (read_csv if is_csv else read_grids)(text, where, stem)


def read_grids(text: str, where: str, stem: str) -> Items:
    """Grids parted by empty lines; a block with a line too long for a row has a puzzle on every line."""
    lines = enumerate(text.replace("\r\n", "\n").split("\n"), 1)
    blocks = [list(block) for filled, block in groupby(lines, lambda line: bool(line[1])) if filled]
    blocks = [block for block in blocks if any(line.strip() for _, line in block)]
    for block in blocks:
        longest = max(sum(c not in " \t|+-" for c in line) for _, line in block)
        parts = [[line] for line in block] if longest > LONGEST_ROW else [block]
        for part in parts:
            number = part[0][0]
            place = where if len(blocks) == len(parts) == 1 else f"{where}, line {number}"
            yield Item(place, f"{stem}:{number}", "\n".join(line for _, line in part))


def read_csv(text: str, where: str, stem: str) -> Items:
    """Columns question and, where known, answer. Fields are taken as they are: a maze may end in spaces.

    A quote that is not closed makes its own row an error, not the rows behind it.
    """
    lines = io.StringIO(text, newline="").readlines()
    header: list[str] = []
    records: list[tuple[int, Any]] = []
    end = 0
    while end < len(lines):
        start, row, wrong = end, [], ""
        reader = csv.reader(lines[i] for i in range(start, len(lines)))  # takes the lines of a single row
        try:
            row = next(reader)
        except csv.Error as error:
            wrong = str(error)
        end += reader.line_num
        if end > start + 1 and not _is_strict(lines[start:end]):
            end, wrong = start + 1, "a quote that is not closed"
        if wrong:
            records.append((start + 1, wrong))
        elif header and "".join(row).strip():
            wrong = f"{len(row)} fields, expected {len(header)}" if len(row) > len(header) else ""
            records.append((start + 1, wrong or dict(zip(header, row, strict=False))))
        elif "".join(row).strip():
            header = [name.strip().lower() for name in row]
            if "question" not in header:
                raise PuzzleError(f"{where}: columns {', '.join(header)}; expected one called question")
    return read_records(records, where, stem, "line")


def _is_strict(lines: list[str]) -> bool:
    """Whether these lines are a strict row of CSV: each quote is closed, and followed by a comma or the end."""
    try:
        return bool(next(csv.reader(lines, strict=True)))
    except csv.Error:
        return False


def read_jsonl(text: str, where: str, stem: str) -> Items:
    """A record or an ARC task on every line."""
    lines = enumerate(text.split("\n"), 1)
    return read_records([(n, _parsed(line)) for n, line in lines if line.strip()], where, stem, "line")


def _parsed(text: str) -> Any:
    """What the JSON holds; what is wrong with it, in words, if it is none."""
    try:
        return parse_json(text)
    except PuzzleError as error:
        return str(error)


def read_json(text: str, where: str, stem: str, solutions: Any = None) -> Items:
    """One ARC task, a dictionary of them by id, a record with a question, or a list of records or tasks.

    solutions: the outputs by id, from the file beside a Kaggle challenges file.
    """
    data = parse_json(text, where)
    if isinstance(data, list) and not arc_files.holds_tasks(data):
        return read_records(enumerate(data, 1), where, stem, "item")
    if isinstance(data, dict) and "question" in data:
        return read_records([(1, data)], where, stem, "item")
    if not arc_files.holds_tasks(data):
        raise PuzzleError(f"{where}: {shorten(text.strip())}, expected an ARC task or a dictionary of them")
    return arc_files.read(data, where, stem, solutions)


def read_records(numbered: Iterable[tuple[int, Any]], where: str, stem: str, unit: str) -> Items:
    """Records with a question and perhaps an answer; a string in a record's place is its error.

    A puzzle is named by its id, or by its place where it has none or an earlier record has the same. So its name does
    not change when another record is corrected.
    """
    ids: set[str] = set()
    for row, (number, record) in enumerate(numbered, 1):
        place = f"{where}, {unit} {number}"
        if isinstance(record, str):
            yield PuzzleError(f"{place}: {record}")
            continue
        fields = arc_files.as_record(record) if isinstance(record, dict) else {}
        own = fields.get("id")
        name = str(own) if _scalar(own) and str(own) not in ids else f"{stem}:{row}"
        ids.add(name)
        question = fields.get("question")
        if not isinstance(question, str | dict | list) or question == "":
            yield PuzzleError(f"{place}: no question, expected text under that name")
            continue
        meta = {key: _number(value) for key, value in fields.items() if key not in KEYS and _scalar(value)}
        yield Item(place, name, question, _text(fields.get("answer")), fields.get("task"), meta)


def _scalar(value: Any) -> bool:
    return isinstance(value, (str, int, float)) and value != ""


def _number(value: str | int | float) -> str | int | float:
    """The number in a CSV field, if it is one, else the field."""
    if isinstance(value, str) and (match := NUMBER.fullmatch(value)):
        return float(value) if match[1] else int(value)
    return value


def _text(value: Any) -> str | None:
    """An answer as text: that of an ARC task may be JSON in the record."""
    if isinstance(value, str):
        return value or None
    return json.dumps(value) if isinstance(value, (dict, list)) else None
