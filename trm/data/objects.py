"""Puzzles in objects: JSON, and what Python prints."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from trm.data import arc_files
from trm.data.items import Items, parse_json
from trm.data.tables import (
    columns_of,
    has_header,
    has_question,
    inside,
    read_csv,
    read_jsonl,
    read_records,
)
from trm.grid import PuzzleError, shorten
from trm.tasks.grid_text import LONGEST_LITERAL

LEAST_CELLS = 16  # of a grid in one list


def read_any(text: str, where: str, stem: str) -> Items | None:
    """The records of a text that is a table or JSON; None if it is neither."""
    if re.match(r"\s*\{\s*[{\d]", text):  # a grid as other languages write it
        return None
    if text.lstrip()[:1] in ("{", "["):
        try:
            data = parse_json(text, where)
        except PuzzleError as error:
            if (printed := _literal(text)) is not None:
                return read_data(printed, where, stem)
            if re.match(r"\s*\[\s*[\[(\d][^{]*\]\s*$", text):
                return None  # a grid as another language prints it
            if len(text.strip().splitlines()) > 1 and not str(error).endswith("expected each key once"):
                return read_jsonl(text.split("\n"), where, stem)
            raise
        return read_data(data, where, stem)
    if has_header(text):
        return read_csv([text], where, stem)
    return None


def _literal(text: str) -> Any:
    """The object, or the list of text, that Python has printed; None where the text is no such thing."""
    if len(text) > LONGEST_LITERAL or not re.match(r"\s*[\[{]+\s*'", text):
        return None
    with suppress(MemoryError, RecursionError, SyntaxError, ValueError):
        return ast.literal_eval(text.strip())
    return None


def read_data(data: Any, where: str, stem: str, solutions: Any = None) -> Items:
    """What JSON holds: ARC tasks, a record with a question, a list of records, or a grid as a list of lists.

    solutions: the outputs by id, from the file beside a Kaggle challenges file.
    """
    data = arc_files.renamed(arc_files.as_pairs(data))
    if isinstance(data, dict) and "train" not in data and (records := _records_in(data)):
        return read_records(enumerate(records, 1), where, stem, "item")
    if arc_files.holds_tasks(data):
        return arc_files.read(data, where, stem, solutions)
    if isinstance(data, list) and data and all(isinstance(row, list | str) for row in data):
        lines = all((_is_flat(row) or _is_row_of_81(row)) and len(row) != len(data) for row in data)
        grids = data if lines or _depth(data) > 2 else [data]
        numbered = ((n, {"question": grid}) for n, grid in enumerate(grids, 1))
        return read_records(numbered, where, stem, "item")
    if isinstance(data, list):
        numbers = len(data) >= LEAST_CELLS and {*map(type, data)} <= {int, float, type(None)}
        data = [{"question": data}] if numbers or _is_row_of_81(data) else data
        return read_records(enumerate(data, 1), where, stem, "item")
    raise PuzzleError(f"{where}: {shorten(json.dumps(data))}, expected an ARC task or a dictionary of them")


def _records_in(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The records of an object: itself, or those that its columns hold, or puzzles by name; none for other things."""
    data = inside(data)
    columns = columns_of(tuple(data))
    if not columns.question:
        if listed := _listed_in(data):
            return listed
        named = data and all(isinstance(value, str) for value in data.values())
        return [{"id": name, "question": value} for name, value in data.items()] if named else []
    lists = {
        key: list(value.values()) if isinstance(value, dict) else value
        for key, value in data.items()
        if isinstance(value, dict | list)
    }
    questions = lists.get(columns.question, [])
    whole = [q for q in questions if _depth(q) == 2 or _is_flat(q) or (isinstance(q, str) and "\n" in q)]
    if not questions or len(whole) != len(questions):
        return [dict(data)]
    alike = {key: values for key, values in lists.items() if len(values) == len(questions)}
    return [{key: values[n] for key, values in alike.items()} for n in range(len(questions))]


def _listed_in(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The records in the first list of records that an object, or an object in it, holds; else an empty list.

    Each record also gets the fields that stand beside the list. Pairs of ARC's grids are no records.
    """
    for key, value in data.items():
        found: list[dict[str, Any]] = []
        if arc_files.is_task(value):
            continue
        if isinstance(value, dict):
            found = _listed_in(value)
        elif isinstance(value, list):
            records = [record for record in value if isinstance(record, dict) and has_question(record)]
            found = records if len(records) == len(value) else []
        if found:
            beside = {name: other for name, other in data.items() if name != key}
            return [{**beside, **record} for record in found]
    return []


def _is_flat(text: object) -> bool:
    """Whether a text may be a whole grid: as long as a Sudoku of 4x4 or 6x6, or one of 9x9 at least."""
    return isinstance(text, str) and (len(text) in (16, 36) or len(text) >= 81)


def _is_row_of_81(data: object) -> bool:
    """Whether a list holds the cells of a Sudoku one after the other."""
    return (
        isinstance(data, list) and len(data) == 81 and not any(isinstance(cell, dict | list) for cell in data)
    )


def _depth(data: object) -> int:
    return 1 + _depth(data[0]) if isinstance(data, list) and data else 0
