"""Where answers go: a terminal, standard output, or a file that an interrupted run continues."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from rich.console import Console

from hybrid import render
from hybrid.answer import Answer
from hybrid.pipeline import Puzzles
from trm import jsonl
from trm.inference.config import SearchConfig
from trm.tasks import Puzzle, Status, get
from trm.text import printable

try:
    import fcntl
except ImportError:  # not on Windows: two commands that write one file are then not noticed
    fcntl = None  # type: ignore[assignment]

STDOUT = "standard output"
HEADING = "== "  # how a plain answer begins, followed by the puzzle's id, a colon and the status


class OutputError(RuntimeError):
    """A file that cannot be written, or must not be. One line for people."""


class Earlier:
    """The answers that an output file holds already. Only their hashes are kept, however long the questions are."""

    def __init__(self, keeps_questions: bool) -> None:
        """keeps_questions: whether the file does; else a puzzle is known by its id as it is printed."""
        self._keeps_questions = keeps_questions
        self._known: set[int] = set()
        self._unsolved: set[int] = set()

    def __len__(self) -> int:
        return len(self._known)

    def add(self, name: str, question: str | None, status: str) -> None:
        key = hash((name, question))
        self._known.add(key)
        if status == Status.UNSOLVED:
            self._unsolved.add(key)

    def answer(self, puzzle: Puzzle) -> Status | None:
        """How the puzzle's answer there ended, `UNSOLVED` or else `VERIFIED`; None if there is none."""
        if self._keeps_questions:
            key = hash((puzzle.id, get(puzzle.task).question_text(puzzle)))
        else:
            key = hash((printable(puzzle.id), None))
        if key not in self._known:
            return None
        return Status.UNSOLVED if key in self._unsolved else Status.VERIFIED


class Remaining:
    """The puzzles that have no earlier answer, which can be gone through many times as those that they are among.

    tasks: theirs. statuses: of the earlier answers to the others.
    """

    def __init__(self, puzzles: Puzzles, earlier: Earlier) -> None:
        self._puzzles, self._earlier, self._count = puzzles, earlier, 0
        self.tasks: set[str] = set()
        self.statuses: set[Status] = set()
        for puzzle in puzzles:
            if (status := earlier.answer(puzzle)) is None:
                self._count += 1
                self.tasks.add(puzzle.task)
            else:
                self.statuses.add(status)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Puzzle]:
        return (puzzle for puzzle in self._puzzles if self._earlier.answer(puzzle) is None)


@dataclass(frozen=True)
class Output:
    """How answers are written. file: None for standard output. resume: keep what the file holds already."""

    file: Path | None = None
    as_json: bool = False
    resume: bool = False

    @property
    def name(self) -> str:
        return STDOUT if self.file is None else str(self.file)

    def earlier(self) -> Earlier:
        """The answers that an existing file holds, after what a kill may have cut short is taken out of it.

        Raises OutputError for a file that exists and is not to be resumed, or that holds anything else.
        """
        if self.file is None or not self.file.is_file() or not self.file.stat().st_size:
            return Earlier(keeps_questions=self.as_json)
        if not self.resume:
            raise OutputError(
                f"{self.file} exists: --resume continues it, -o with another name leaves it as it is"
            )
        try:
            return _read_json(self.file) if self.as_json else _read_plain(self.file)
        except OSError as error:
            raise OutputError(f"{self.file}: {error.strerror}, expected a file that can be read") from None

    @contextmanager
    def open(self, config: SearchConfig) -> Iterator[Callable[[Answer], None]]:
        """A call that writes one answer and flushes it. Raises OutputError where it cannot be written."""
        if self.file is None and not self.as_json and sys.stdout.isatty():
            screen = Console()
            colour = render.has_colours(screen)
            yield lambda answer: screen.print(render.drawing(answer, colour, config.trace))
            return
        if self.file is None:
            yield lambda answer: self._write(self._text(answer, config), sys.stdout)
            return
        try:
            file = self.file.open("a", encoding="utf-8", errors="backslashreplace")  # ids may be no text
        except OSError as error:
            raise OutputError(f"{self.file}: {error.strerror}, expected a file that can be written") from None
        try:
            self._lock(file)
            yield lambda answer: self._write(self._text(answer, config), file)
        finally:
            with suppress(OSError):  # each answer was flushed: what fails here was said there
                file.close()

    def _text(self, answer: Answer, config: SearchConfig) -> str:
        if not self.as_json:
            return render.plain(answer, config.trace)
        record = answer.to_json(answers=config.answers > 1, trace=config.trace)
        return jsonl.dump(record).rstrip("\n")

    def _write(self, text: str, file: TextIO) -> None:
        try:
            print(text, file=file, flush=True)
        except BrokenPipeError:  # a reader who went away
            raise
        except OSError as error:
            raise OutputError(
                f"{self.name}: {error.strerror or error}, expected a file that can be written"
            ) from None

    def _lock(self, file: TextIO) -> None:
        if fcntl is None or not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OutputError(f"{self.file}: another command is writing it, expected another -o") from None
        except OSError:  # a file system without locks
            return


def _read_json(file: Path) -> Earlier:
    """The answers of a file of JSON records, which then ends with a whole one."""
    earlier = Earlier(keeps_questions=True)
    for number, _, record in jsonl.each(file):
        try:
            earlier.add(str(record["id"]), str(record["question"]), str(record["status"]))
        except (KeyError, TypeError):
            raise OutputError(
                f"{file}, line {number}: no record of an answer, so --resume cannot continue"
            ) from None
    jsonl.repair(file)
    return earlier


def _read_plain(file: Path) -> Earlier:
    """The answers of a file of plain text but for the last one, which is removed: it may have been cut short."""
    earlier = Earlier(keeps_questions=False)
    heading, begun, place = "", 0, 0
    with file.open("rb") as lines:
        for line in lines:
            if line.startswith(HEADING.encode()):
                if heading:
                    earlier.add(*_told_by(heading))
                heading, begun = line.decode("utf-8", "surrogateescape").rstrip("\r\n"), place
            elif not heading:
                break
            place += len(line)
    if not heading:
        raise OutputError(f"{file}: holds no answers of this form, so --resume cannot continue it")
    os.truncate(file, begun)
    return earlier


def _told_by(heading: str) -> tuple[str, None, str]:
    """What a plain answer's first line says: its id, no question, and its status."""
    name, _, rest = heading.removeprefix(HEADING).rpartition(": ")
    while _status(rest) not in set(Status) and ": " in name:  # violations hold colons too
        name, _, more = name.rpartition(": ")
        rest = f"{more}: {rest}"
    return name, None, _status(rest)


def _status(summary: str) -> str:
    """The first word of an answer's heading after its id."""
    return summary.split(" ")[0].rstrip(":,")
