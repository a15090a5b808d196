"""Tables of puzzles: CSV with any delimiter, JSON lines, and records whose columns have one of many names."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

from trm.data import arc_files
from trm.data.items import Item, Items, Names, parse_json
from trm.data.variants import OtherRulesError, is_rule, other_rules
from trm.grid import PuzzleError, shorten
from trm.tasks.base import Ends

LONG_TEXT = 1 << 18  # characters: its first lines tell whether there is a header
LONGEST_RECORD = 200  # lines: what is never closed is looked for no further
LONGEST_FIELD = csv.field_size_limit()  # characters
# The names of a column in small letters, the first that a record has counts.
QUESTIONS = (
    "question", "questions", "puzzle", "puzzles", "quiz", "quizzes", "sudoku", "sudokus", "maze", "mazes",
    "initial_board", "board", "grid", "input", "inputs", "problem", "unsolved", "prompt",
)  # fmt: skip
ANSWERS = ("answer", "answers", "solution", "solutions", "solved", "output", "label", "labels", "completion")
STARTS, GOALS = ("start", "start_pos", "source"), ("goal", "end", "target", "finish", "end_pos")
IDS = ("id", "puzzle_id", "task_id")
KEYS = {*IDS, "task", *QUESTIONS, *ANSWERS}  # of a record; its other fields become the puzzle's meta
NUMBER = re.compile(r"-?\d{1,15}(\.\d{1,15})?")
_MARKS = "'=\""  # of text in spreadsheets
_ROUNDED = re.compile(r"\d([.,]\d{1,15})?E\+?\d{1,3}", re.I)
DELIMITERS = ",;\t|"
LEAST_NUMBER = 10**40  # a smaller one is no Sudoku that lost its zeros
LONGEST_ROW = 32  # cells: a longer line below a header is a whole puzzle


def has_header(text: str) -> bool:
    """Whether the first line names a column of questions, and is no title of a grid below it."""
    longest = LONG_TEXT + len(text) - len(text.lstrip())
    end = text.rfind("\n", 0, longest)
    head = text if len(text) < longest or text.count("\n", 0, end) < 99 else text[:end]
    lines = (line for line in head.split("\n") if line.strip())
    first, below = next(lines, ""), next(lines, "")
    delimiter, third = _delimiter(first), next(lines, "")
    names = _split(first, delimiter)
    if not any(name in QUESTIONS for name in names):
        return False
    if delimiter in below or below.startswith('"') or len(below) > LONGEST_ROW or not third:
        return True
    return len(names) == 1 and any(len(line) != len(below) for line in (third, *lines))


def _delimiter(line: str) -> str:
    """What parts a header's names: that by which it has most of the known ones."""
    known = {*QUESTIONS, *ANSWERS}
    return max(DELIMITERS, key=lambda d: (sum(name in known for name in _split(line, d)), line.count(d)))


def _split(line: str, delimiter: str) -> list[str]:
    return [name.strip(' "\r\n\ufeff').lower() for name in line.split(delimiter)]


def read_csv(parts: Iterable[str], where: str, stem: str) -> Items:
    """Columns of a question and, where known, of its answer. Fields are taken as they are: a maze may end in spaces.

    parts: of the table, each of whole lines. A quote that is not closed makes its own row an error, not the rows
    behind it. Raises PuzzleError, when the first line is read, if it names no column of questions.
    """
    return read_records(_rows(iter(parts), where), where, stem, "line")


def _rows(parts: Iterator[str], where: str) -> Iterator[tuple[int, Any]]:
    """Each row below the header with its line's number: a dictionary, or in words what is wrong with it."""
    header: list[str] = []
    delimiter, number, text, at = ",", 1, "", 0
    usual = re.compile("(?!)")  # no row, until there is a header
    while at < len(text) or (part := next(parts, "")):
        if at == len(text):
            text, at = part, 0
        found = usual.match(text, at)
        if found and (used := found[0].count("\n")) <= LONGEST_RECORD and len(found[0]) < LONGEST_FIELD:
            end, wrong = found.end(), ""
            row = [f[1:-1].replace('""', '"') if f[:1] == '"' else f for f in found.groups() if f is not None]
        else:
            first = next(_lines(text, at))
            ahead = list(islice(_lines(text, at), LONGEST_RECORD)) if '"' in first else [first]
            if '"' in first and len(ahead) < LONGEST_RECORD and (part := next(parts, "")):
                text, at = text[at:] + part, 0
                continue
            row, used, wrong = _first_row(ahead, delimiter)
            end = at + sum(map(len, ahead[:used]))
        if wrong or (header and any(row)):
            yield number, wrong or _fields(header, row)
        elif "".join(row).strip():
            delimiter = _delimiter(first)
            header = _split(first, delimiter)
            if not any(name in QUESTIONS for name in header):
                names = ", ".join(name.strip(' "') for name in first.strip("\n\ufeff").split(delimiter))
                raise PuzzleError(f"{where}: columns {names}; expected one called {', '.join(QUESTIONS)}")
            usual = _row_of(len(header), delimiter)
        number, at = number + used, end


def _lines(text: str, at: int) -> Iterator[str]:
    """The lines of a text from a place on, with their ends."""
    while at < len(text):
        end = text.find("\n", at) + 1 or len(text)
        yield text[at:end]
        at = end


def _row_of(fields: int, delimiter: str) -> re.Pattern[str]:
    """A strict row of at most so many fields: in this form a hundred thousand are read in a third of the time."""
    mark = re.escape(delimiter)
    field = rf'("[^"]*+(?:""[^"]*+)*+"|[^"{mark}\n]*+)'
    return re.compile(field + rf"(?:{mark}{field})?+" * (fields - 1) + r"(?:\n|\Z)")


def _fields(header: list[str], row: list[str]) -> dict[str, str] | str:
    """The fields of a row by name; in words what is wrong where it has too many."""
    if len(row) > len(header) and any(row[len(header) :]):
        return f"{len(row)} fields, expected {len(header)}"
    return dict(zip(header, row, strict=False))


def _first_row(lines: list[str], delimiter: str) -> tuple[list[str], int, str]:
    """The fields of the first row, the number of its lines, and in words what is wrong with it, or nothing."""
    if '"' not in lines[0]:
        return lines[0].rstrip("\n").split(delimiter), 1, ""
    reader = csv.reader(lines, delimiter=delimiter)
    row, wrong = [], ""
    try:
        row = next(reader)  # takes the lines of a single row
    except csv.Error as error:
        wrong = str(error)
    if reader.line_num > 1 and not is_strict(lines[: reader.line_num], delimiter):
        return [], 1, "a quote that is not closed"
    return row, reader.line_num, wrong


def is_strict(lines: list[str], delimiter: str = ",") -> bool:
    """Whether these lines are a strict row of CSV: each quote is closed, and followed by a comma or the end."""
    try:
        return bool(next(csv.reader(lines, strict=True, delimiter=delimiter)))
    except csv.Error:
        return False


def read_jsonl(lines: Iterable[str], where: str, stem: str) -> Items:
    """A record or an ARC task on every line. lines: without their line ends."""
    numbered = ((n, line) for n, line in enumerate(lines, 1) if line.strip())
    records = ((n, record) for n, line in numbered for record in _split_up(_parsed(line)))
    return read_records(records, where, stem, "line")


def _split_up(record: Any) -> list[Any]:
    """What `arc_files.split` gives, told quickly where the question is text."""
    columns = columns_of(tuple(record)) if isinstance(record, dict) else None
    return [record] if columns and isinstance(record.get(columns.question), str) else arc_files.split(record)


def _parsed(text: str) -> Any:
    """What the JSON holds; what is wrong with it, in words, if it is none."""
    try:
        return parse_json(text)
    except PuzzleError as error:
        return str(error)


def has_question(record: Mapping[str, Any]) -> bool:
    """Whether a record has a column of questions, or a grid as a list under `value`, as one Sudoku service has it."""
    return bool(columns_of(tuple(record)).question) or isinstance(record.get("value"), list)


def inside(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """A record with the fields of the only object in it, or in one of its objects, if that has a question."""
    inner, fields = record, dict(record)
    while not has_question(inner):
        objects = [key for key, value in inner.items() if isinstance(value, dict)]
        if len(objects) != 1 or arc_files.is_task(inner):
            return record
        inner = fields.pop(objects[0])
        fields |= inner
    return fields


def read_records(numbered: Iterable[tuple[int, Any]], where: str, stem: str, unit: str) -> Items:
    """Records with a question and perhaps an answer; a string in a record's place is its error.

    A puzzle is named by its id, or by its place where it has none or an earlier record has the same. So its name does
    not change when another record is corrected.
    """
    ids = Names()
    for row, (number, record) in enumerate(numbered, 1):
        place = f"{where}, {unit} {number}"
        if isinstance(record, str):
            yield PuzzleError(f"{place}: {record}")
            continue
        fields: Mapping[str, Any] = record if isinstance(record, dict) else {}
        columns = columns_of(tuple(fields))
        question = fields.get(columns.question)
        if not isinstance(question, str) and fields:
            fields = arc_files.as_record(fields if columns.question else inside(fields))
            if isinstance(fields.get("value"), list):
                fields = {"question": fields["value"], **fields}
            columns = columns_of(tuple(fields))
            question = fields.get(columns.question)
        if isinstance(question, int) and question > LEAST_NUMBER:
            question = str(question)
        own = fields.get(columns.id)
        if not (_scalar(own) and ids.add(name := str(own))):
            ids.add(name := f"{stem}:{row}")
        if not isinstance(question, (str, dict, list)) or question in ("", []):
            found = "" if columns.question or not fields else f" among {shorten(', '.join(map(str, fields)))}"
            yield PuzzleError(f"{place}: no question{found}, expected text under that name")
            continue
        if isinstance(question, str) and _ROUNDED.fullmatch(question):
            yield PuzzleError(
                f"{place}: {question}, a number that was rounded, expected the column saved as text"
            )
            continue
        rules = {} if isinstance(question, dict) else {key: fields[key] for key in columns.rules}
        if rules and (other := other_rules(rules)):
            yield OtherRulesError(f"{place}: {other}")
            continue
        answer = _text(fields.get(columns.answer))
        if isinstance(question, str) and question[0] in _MARKS:
            question = question.strip(_MARKS)
        if answer and answer[0] in _MARKS:
            answer = answer.strip(_MARKS)
        if isinstance(question, str) and len(question) < 81 and question.isdecimal():
            question = _with_leading_zeros(question, answer)
        meta = {key.lower(): _number(fields[key]) for key in columns.others if _scalar(fields[key])}
        task, start, goal = fields.get(columns.task), fields.get(columns.start), fields.get(columns.goal)
        ends = None if start is None or goal is None else _ends(start, goal)
        yield Item(place, name, question, answer, task if isinstance(task, str) else None, meta, ends)


@dataclass(frozen=True)
class Columns:
    """The names under which a record has what a puzzle is made of, each as the record writes it; empty if it has not.

    rules: names that may say more of the rules. others: what becomes the puzzle's meta.
    """

    question: str
    answer: str
    id: str
    task: str
    start: str
    goal: str
    rules: tuple[str, ...]
    others: tuple[str, ...]


@lru_cache(maxsize=256)
def columns_of(names: tuple[Any, ...]) -> Columns:
    """What the keys of a record stand for, in large or small letters."""
    known: dict[str, str] = {}
    for name in names:
        if isinstance(name, str):
            known.setdefault(name.strip().lower(), name)

    def first(wanted: tuple[str, ...]) -> str:
        return next((known[name] for name in wanted if name in known), "")

    rules = tuple(own for name, own in known.items() if name not in KEYS and is_rule(name))
    others = tuple(own for name, own in known.items() if name not in KEYS)
    return Columns(
        first(QUESTIONS),
        first(ANSWERS),
        first(IDS),
        first(("task",)),
        first(STARTS),
        first(GOALS),
        rules,
        others,
    )


def _with_leading_zeros(question: str, answer: str | None) -> str:
    """The digits of a Sudoku with the zeros before them that a spreadsheet took away, if its answer confirms it."""
    whole = question.zfill(len(answer or ""))
    if (
        answer is not None
        and len(answer) in (16, 36, 81)
        and all(a in ("0", b) for a, b in zip(whole, answer, strict=True))
    ):
        return whole
    return question


def _ends(start: object, goal: object) -> Ends | None:
    """The start and the goal that a record names as pairs of numbers; None where they are none."""
    cells = _pair(start), _pair(goal)
    return (cells[0], cells[1], None) if cells[0] and cells[1] else None


def _pair(value: object) -> tuple[int, int] | None:
    if isinstance(value, dict):
        value = [value.get("row", value.get("y")), value.get("col", value.get("column", value.get("x")))]
    if isinstance(value, str) and (numbers := re.fullmatch(r"[\[(\s]*(\d+)[,;\s]+(\d+)[\])\s]*", value)):
        value = [int(numbers[1]), int(numbers[2])]
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
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        return str(value) or None
    return json.dumps(value) if isinstance(value, (dict, list)) else None
