"""Tables of puzzles: CSV with any delimiter, JSON lines, lists of records, columns of many names."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from trm.data import arc_files
from trm.data.items import Item, Items, parse_json
from trm.grid import PuzzleError, shorten

# The names of a column in small letters, the first that a record has counts.
QUESTIONS = (
    "question", "questions", "puzzle", "puzzles", "quiz", "quizzes", "sudoku", "sudokus", "maze", "mazes",
    "initial_board", "board", "grid", "input", "inputs", "problem", "unsolved",
)  # fmt: skip
ANSWERS = ("answer", "answers", "solution", "solutions", "solved", "output", "label", "labels")
STARTS, GOALS = ("start", "start_pos", "source"), ("goal", "end", "target", "finish", "end_pos")
KEYS = {"id", "task", *QUESTIONS, *ANSWERS}  # of a record; its other fields become the puzzle's meta
NUMBER = re.compile(r"-?\d{1,15}(\.\d{1,15})?")
DELIMITERS = ",;\t|"

# What records say of a puzzle's rules. Only the plain game is known: other rules would change the answer.
RULES = ("rules", "rule", "constraints", "visual_elements", "variant", "variants", "type", "kind")
_PLAIN = re.compile(
    r"(the |a )?((normal|standard|classic(al)?|regular|usual|plain|vanilla|basic)\b ?)?"
    r"(sudoku|maze)?s? ?(rules?)?( apply)?\.?",
    re.I,
)
_VARIANT = re.compile(
    r"diagonal|killer|cage|thermo|arrow|kropki|jigsaw|irregular|hyper|windoku|knight|king|sandwich|samurai|"
    r"consecutive|palindrome|whisper|renban|asterisk|greater|sudoku[- ]?x|x[- ]?sudoku|chess|skyscraper|disjoint|"
    r"anti|quadruple|parity|even|odd|colou?r|toroid|torus|portal|key|weight|hexagon",
    re.I,
)


def read_any(text: str, where: str, stem: str) -> Items | None:
    """The records of a text that is a table or JSON; None if it is neither."""
    start = text.lstrip()[:1]
    if start in ("{", "["):
        parsed = _parsed(text)
        several = len(text.strip().splitlines()) > 1 and isinstance(parsed, str)
        if several and start == "[" and not text.lstrip().startswith(("[{", '["')):
            return None  # a grid as another language prints it
        return (read_jsonl if several else read_json)(text, where, stem)
    if has_header(text):
        return read_csv(text, where, stem)
    return None


def has_header(text: str) -> bool:
    """Whether the first line names a column of questions, and is not one word of a title."""
    first = text.lstrip("\n").split("\n", 1)[0]
    names = _columns(first)
    return any(name in QUESTIONS for name in names) and (
        len(names) > 1 or first.strip(' "').lower() in QUESTIONS
    )


def _delimiter(line: str) -> str:
    """What parts a header's names: that by which it has most of the known ones."""
    known = {*QUESTIONS, *ANSWERS}
    return max(DELIMITERS, key=lambda d: (sum(name in known for name in _split(line, d)), line.count(d)))


def _split(line: str, delimiter: str) -> list[str]:
    return [name.strip(' "\r\ufeff').lower() for name in line.split(delimiter)]


def _columns(line: str) -> list[str]:
    return _split(line, _delimiter(line))


def read_csv(text: str, where: str, stem: str) -> Items:
    """Columns of a question and, where known, of its answer. Fields are taken as they are: a maze may end in spaces.

    A quote that is not closed makes its own row an error, not the rows behind it.
    """
    lines = io.StringIO(text, newline="").readlines()
    header: list[str] = []
    records: list[tuple[int, Any]] = []
    delimiter = ","
    end = 0
    while end < len(lines):
        start, row, wrong = end, [], ""
        if '"' not in lines[start]:
            row, end = lines[start].rstrip("\n").split(delimiter), start + 1
        else:
            reader = csv.reader((lines[i] for i in range(start, len(lines))), delimiter=delimiter)
            try:
                row = next(reader)  # takes the lines of a single row
            except csv.Error as error:
                wrong = str(error)
            end += reader.line_num
            if end > start + 1 and not _is_strict(lines[start:end], delimiter):
                end, wrong = start + 1, "a quote that is not closed"
        if wrong:
            records.append((start + 1, wrong))
        elif header and any(row):
            surplus = row[len(header) :]
            wrong = f"{len(row)} fields, expected {len(header)}" if any(surplus) else ""
            records.append((start + 1, wrong or dict(zip(header, row, strict=False))))
        elif "".join(row).strip():
            delimiter = _delimiter(lines[start])
            header = _columns(lines[start].strip("\n"))
            if not any(name in QUESTIONS for name in header):
                raise PuzzleError(f"{where}: columns {', '.join(header)}; expected one called question")
    return read_records(records, where, stem, "line")


def _is_strict(lines: list[str], delimiter: str) -> bool:
    """Whether these lines are a strict row of CSV: each quote is closed, and followed by a comma or the end."""
    try:
        return bool(next(csv.reader(lines, strict=True, delimiter=delimiter)))
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
    """ARC tasks, a record with a question, a list of records, or a grid as a list of lists.

    solutions: the outputs by id, from the file beside a Kaggle challenges file.
    """
    data = parse_json(text, where)
    if isinstance(data, dict) and _value(_lowered(data), QUESTIONS) is not None and "train" not in data:
        return read_records([(1, data)], where, stem, "item")
    if arc_files.holds_tasks(data):
        return arc_files.read(data, where, stem, solutions)
    if isinstance(data, list) and data and all(isinstance(row, list | str) for row in data):
        grids = data if _depth(data) > 2 else [data]
        numbered = ((n, {"question": grid}) for n, grid in enumerate(grids, 1))
        return read_records(numbered, where, stem, "item")
    if isinstance(data, list):
        return read_records(enumerate(data, 1), where, stem, "item")
    raise PuzzleError(f"{where}: {shorten(text.strip())}, expected an ARC task or a dictionary of them")


def _depth(data: object) -> int:
    return 1 + _depth(data[0]) if isinstance(data, list) and data else 0


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
        fields = _lowered(arc_files.as_record(record)) if isinstance(record, dict) else {}
        own = fields.get("id")
        name = str(own) if _scalar(own) and str(own) not in ids else f"{stem}:{row}"
        ids.add(name)
        question = _value(fields, QUESTIONS)
        if not isinstance(question, str | dict | list) or question in ("", []):
            yield PuzzleError(f"{place}: no question, expected text under that name")
            continue
        if other := other_rules(fields):
            yield PuzzleError(f"{place}: {other}, expected the plain game: other rules are not known")
            continue
        answer = _text(_value(fields, ANSWERS))
        if isinstance(question, str) and question.isdecimal() and len(question) < 81:
            question = _with_leading_zeros(question, answer)
        meta = {key: _number(value) for key, value in fields.items() if key not in KEYS and _scalar(value)}
        task = fields.get("task")
        yield Item(
            place, name, question, answer, task if isinstance(task, str) else None, meta, _ends(fields)
        )


def _lowered(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """A record with its keys in small letters."""
    return (
        record
        if all(map(str.islower, record))
        else {str(key).lower(): value for key, value in record.items()}
    )


def _value(fields: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """What stands under the first of these names that a record has; None if it has none."""
    return next((fields[name] for name in names if name in fields), None)


def other_rules(fields: Mapping[str, Any]) -> str:
    """What a record says of rules beyond the plain game, in words; empty if nothing."""
    for key, value in fields.items():
        if key in KEYS or value in ("", None, [], {}, False):
            continue
        if key in RULES:
            text = value if isinstance(value, str) else json.dumps(value)
            left = [part for part in re.split(r"(?<=\.)\s+|\n+", text.strip()) if not _PLAIN.fullmatch(part)]
            if left and (key not in ("type", "kind") or _VARIANT.search(text)):
                return f"{key} {shorten(text)}"
        elif _VARIANT.fullmatch(key.rstrip("s")) and not isinstance(value, int | float | str):
            return f"{key} {shorten(json.dumps(value))}"
    return ""


def _with_leading_zeros(question: str, answer: str | None) -> str:
    """The digits of a Sudoku with the zeros before them that a spreadsheet took away, if its answer confirms it."""
    whole = question.zfill(81)
    if (
        answer is not None
        and len(answer) == 81
        and all(a in ("0", b) for a, b in zip(whole, answer, strict=True))
    ):
        return whole
    return question


def _ends(fields: Mapping[str, Any]) -> tuple[tuple[int, int], tuple[int, int], None] | None:
    """The start and the goal that a record names as pairs of numbers."""
    start, goal = (_pair(_value(fields, names)) for names in (STARTS, GOALS))
    return (start, goal, None) if start and goal else None


def _pair(value: object) -> tuple[int, int] | None:
    if isinstance(value, dict):
        value = [value.get("row", value.get("y")), value.get("col", value.get("column", value.get("x")))]
    if isinstance(value, list | tuple) and len(value) == 2 and all(type(number) is int for number in value):
        return value[0], value[1]
    return None


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
