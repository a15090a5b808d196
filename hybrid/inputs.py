"""What a command line names: puzzles as arguments, piped, or bundled; an answer as text."""

from __future__ import annotations

import io
import os
import re
import stat
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from trm import tasks
from trm.data.arc_files import solutions_of
from trm.data.files import Source, source
from trm.data.items import Names
from trm.grid import PuzzleError
from trm.progress import lines
from trm.tasks import Puzzle
from trm.tasks.base import Ends

STDIN = "-"


class Named:
    """The puzzles that a command line names, in order, each with an id of its own. They can be gone through many
    times: long files of lines are read anew each time, so that they need not be in memory.

    messages: what to tell of what was read. errors: how many puzzles could not be. tasks: those of the others.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        """Reads all of it once. Raises PuzzleError where a file changes meanwhile."""
        self._sources = sources
        self._count = self.errors = 0
        self.tasks: set[str] = set()
        with lines(lambda: f"hybrid: {self._count} puzzles read"):
            self.messages = messages(self._counted())

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Puzzle]:
        return (item for item in self._items() if isinstance(item, Puzzle))

    def _items(self) -> Iterator[Puzzle | PuzzleError]:
        """Ids are made distinct: two inline puzzles, or two files of one name, would share theirs."""
        names, again = Names(), Counter[str]()
        for read_again in self._sources:
            for item in read_again():
                if isinstance(item, Puzzle) and not names.add(item.id):
                    again[item.id] += 1
                    item = replace(item, id=f"{item.id}#{again[item.id] + 1}")
                yield item

    def _counted(self) -> Iterator[Puzzle | PuzzleError]:
        for item in self._items():
            if isinstance(item, Puzzle):
                self._count += 1
                self.tasks.add(item.task)
            else:
                self.errors += 1
            yield item


def read(specs: Sequence[str], task: str | None, ends: Ends | None = None) -> Named:
    """The puzzles of files, inline text and `-`; of piped standard input if none is named; else samples.

    ends: the start and goal of mazes that show none. Raises PuzzleError where there is no room for a copy of what is
    piped.
    """
    if not specs and not piped():
        kinds = [task] if task else tasks.names()
        samples = [sample for kind in kinds for sample in tasks.get(kind).samples()[:1]]
        return Named([lambda: samples])
    return Named([source(spec, task, ends) for spec in specs or [STDIN]])


def ends_of(start: str | None, goal: str | None) -> Ends | None:
    """The cells that two options name as `ROW,COLUMN`, counted from 1; None without them. Raises PuzzleError."""
    if start is None and goal is None:
        return None
    cells = []
    for option, text in (("--start", start), ("--goal", goal)):
        cell = re.fullmatch(r"\s*(\d{1,3})\s*[,;: ]\s*(\d{1,3})\s*", text or "")
        if cell is None:
            raise PuzzleError(f"{option} {text or 'is missing'}: expected ROW,COLUMN, counted from 1")
        cells.append((int(cell[1]), int(cell[2])))
    return cells[0], cells[1], 1


def messages(loaded: Iterable[Puzzle | PuzzleError]) -> list[str]:
    """What to tell of what was read: notes and errors, one line each; repeated ones in one line with their number."""
    kinds: dict[tuple[str, str], _Repeated] = {}
    for item in loaded:
        if isinstance(item, Puzzle):
            said = [(("", _kind(note)), f"warning: {item.id}: {note}") for note in item.notes]
        else:
            file = re.split(r", (?:line|item|row|task) |: ", str(item), maxsplit=1)[0]
            said = [((file, _kind(str(item))), str(item))]
        for kind, line in said:
            repeated = kinds.setdefault(kind, _Repeated(line, line))
            repeated.last, repeated.count = line, repeated.count + 1
    return [str(repeated) for repeated in kinds.values()]


def _kind(words: str) -> str:
    """A message without what differs between two of its kind: what is quoted, and numbers."""
    return re.sub(r"'.*?'|\d+", "", words)


@dataclass
class _Repeated:
    """Messages of one kind: the first, the last, and how many they are."""

    first: str
    last: str
    count: int = 0

    def __str__(self) -> str:
        if self.count == 1:
            return self.first
        last = self.last.removeprefix("warning: ").split(": ", 1)[0]
        return f"{self.first} (and {self.count - 1} more of the kind, the last: {last})"


def includes(specs: Sequence[str], file: Path) -> bool:
    """Whether what is read for these names is this very file, whatever it is called: writing would destroy it."""
    if not file.is_file():  # what is no file, such as a terminal, keeps nothing
        return False
    for spec in specs:
        with suppress(OSError, ValueError):  # a puzzle itself, perhaps: no name of anything
            names: Iterable[Path | int] = [0]
            if spec != STDIN:
                path = Path(spec)
                names = path.rglob("*") if os.path.isdir(spec) else [path, solutions_of(path)]
            if any(os.path.samestat(os.stat(name), file.stat()) for name in names):
                return True
    return False


def piped() -> bool:
    """Whether someone feeds standard input: a file or a pipe that is not at its end.

    A terminal feeds nothing, nor does /dev/null or the socket of a service; neither does an empty pipe, as
    schedulers leave behind.
    """
    stream = sys.stdin
    if stream is None or stream.closed or stream.isatty():
        return False
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except OSError:  # a stand-in without a descriptor: io.UnsupportedOperation is one
        return bool(stream.readable()) and _at_hand(stream.buffer)
    return (stat.S_ISFIFO(mode) or stat.S_ISREG(mode)) and _at_hand(stream.buffer)


def _at_hand(raw: BinaryIO) -> bool:
    """Waits for the first byte, and leaves it there; False at the end of the stream."""
    if isinstance(raw, io.BufferedReader):
        return bool(raw.peek(1))
    here = raw.tell()
    first = raw.read(1)
    raw.seek(here)
    return bool(first)


def text_of(spec: str) -> str:
    """The text that an argument names: standard input's, a file's, or itself. Raises PuzzleError."""
    if spec == STDIN:
        return sys.stdin.read()
    if "\n" in spec or not os.path.exists(spec):  # False too for what is too long to be a name
        if "\n" not in spec and ("/" in spec or Path(spec).suffix[1:2].isalpha()):  # as in no answer
            raise PuzzleError(f"{spec}: no such file")
        return spec
    try:
        return Path(spec).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise PuzzleError(f"{spec}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise PuzzleError(f"{spec}: byte {error.start} is no UTF-8, expected text") from None
