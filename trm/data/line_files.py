"""Long files of lines, read a part at a time: tables, JSON lines, and lists of Sudokus, in UTF-8.

What a part says must not depend on later lines. So the whole file is looked through once, and anything else, such as
grids of several lines or another encoding, is left to `trm.data.files`, which reads a file whole.
"""

from __future__ import annotations

import atexit
import os
import re
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from shutil import copyfileobj
from typing import IO, NamedTuple

from trm.data import tables
from trm.data.items import Items, parse_json
from trm.data.markup import ENTITY, unescaped, without_cell_names
from trm.data.text import read_text, with_newlines
from trm.grid import PuzzleError
from trm.tasks import get

LONG = 1 << 20  # bytes; a shorter file is read whole
PART = 1 << 18  # bytes of a part, and what is left of its last line
SUFFIXES = ("", "txt", "csv", "tsv", "jsonl")
_BINARY = "PK\x03\x04"  # how a file of arrays begins
_SUDOKU = re.compile(r"[0-9._]{81}", re.ASCII)


class Reader(NamedTuple):
    read: Callable[[Iterator[str]], Items]  # of the parts of a file, each of whole lines
    is_known: Callable[[str], bool]  # whether a part says by itself what it says in the whole file


def spooled(start: bytes, stream: IO[bytes]) -> Path:
    """What came through a stream and still comes, as a file that is removed when the program ends.

    Raises PuzzleError where there is no room for it.
    """
    try:
        descriptor, name = tempfile.mkstemp(prefix="puzzles")
        atexit.register(Path(name).unlink, missing_ok=True)
        with open(descriptor, "wb") as file:
            file.write(start)
            copyfileobj(stream, file)
    except OSError as error:
        raise PuzzleError(f"standard input: {error.strerror}, expected room for a temporary file") from None
    return Path(name)


def in_parts(
    path: str | Path, where: str, stem: str, suffix: str, task: str | None
) -> Callable[[], Items] | None:
    """A call that reads a file's records from the start, each time anew; None where it has to be read whole.

    where, stem: its name for messages and for ids. task: of all its puzzles, if that is known. Reading raises
    PuzzleError where the file was changed since this call.
    """
    exact = suffix == "jsonl"  # its lines are kept as they are
    try:
        if task is not None:
            get(task)  # of an unknown one the whole file is an error
        about = os.stat(path)
        packed = str(path).lower().endswith(".gz")
        if packed or not stat.S_ISREG(about.st_mode) or about.st_size < LONG or suffix not in SUFFIXES:
            return None
        reader = _reader(next(_parts(path, where, exact), ""), where, stem, suffix, task)
        if reader is None or not all(map(reader.is_known, _parts(path, where, exact))):
            return None
    except (OSError, ValueError, PuzzleError):  # no file, or none in UTF-8
        return None
    return lambda: reader.read(_parts(path, where, exact, _stamp(about)))


def _parts(path: str | Path, where: str, exact: bool, stamp: tuple[int, ...] | None = None) -> Iterator[str]:
    """The text in parts of whole lines, with one kind of line end unless `exact`. stamp: of the file as it was."""
    try:
        with open(path, "rb") as file:
            encoding = "utf-8-sig"
            while lines := file.read(PART) + file.readline():
                if stamp is not None and stamp != _stamp(os.fstat(file.fileno())):
                    raise PuzzleError(
                        f"{where}: was changed while it was read, expected a file that stays as it is"
                    )
                text = lines.decode(encoding)
                yield text if exact else with_newlines(text)
                encoding = "utf-8"
    except OSError as error:
        raise PuzzleError(f"{where}: {error.strerror or error}") from None


def _stamp(about: os.stat_result) -> tuple[int, ...]:
    return about.st_ino, about.st_mtime_ns, about.st_size


def _reader(head: str, where: str, stem: str, suffix: str, task: str | None) -> Reader | None:
    """What reads a file that begins so, as `trm.data.files` would the whole of it; None where that is not certain."""
    filled = [line for line in head.split("\n") if line.strip()]
    if len(filled) < 3 or head.startswith(("\ufeff", _BINARY)):
        return None
    first = filled[0]
    of_records = Reader(lambda parts: tables.read_jsonl(_lines(parts), where, stem), _is_text)
    if suffix == "jsonl":
        return of_records
    if unescaped(head) != head or without_cell_names(head) != head:
        return None
    if first.lstrip().startswith("{") and isinstance(parse_json(first), dict):
        return of_records
    if not first.lstrip().startswith(("[", "{")) and tables.has_header(head):
        if '"' in first and not tables.is_strict([first]):  # names over several lines, or a quote without end
            return None
        return Reader(lambda parts: tables.read_csv(parts, where, stem), _is_plain_text)
    if _SUDOKU.fullmatch(first) and _SUDOKU.fullmatch(filled[1]) and task in (None, "sudoku"):
        return Reader(lambda parts: _read_list(parts, where, stem, task), _all_sudokus)
    return None


def _lines(parts: Iterable[str]) -> Iterator[str]:
    return (line for part in parts for line in part.removesuffix("\n").split("\n"))


def _is_text(part: str) -> bool:
    return "\0" not in part


def _is_plain_text(part: str) -> bool:
    """Whether it is text, without entities of HTML: one of them changes how the whole file is read."""
    return _is_text(part) and not ("&" in part and ENTITY.search(part))


def _all_sudokus(part: str) -> bool:
    """Whether every line that is not empty is a Sudoku and nothing else."""
    return all(not line or _SUDOKU.fullmatch(line) for line in part.split("\n"))


def _read_list(parts: Iterable[str], where: str, stem: str, task: str | None) -> Items:
    above = 0
    for part in parts:
        if part.strip("\n"):
            yield from read_text(part.removesuffix("\n"), where, stem, task, above)
        above += part.count("\n")
