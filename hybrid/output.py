"""Where answers go: a terminal, standard output, or a file that an interrupted run continues."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from rich.console import Console

from hybrid import render
from hybrid.answer import Answer
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


@dataclass(frozen=True)
class Earlier:
    """An answer that the output file holds already. question: None where the file does not keep it."""

    id: str
    question: str | None
    status: str

    def answers(self, puzzle: Puzzle) -> bool:
        if self.question is None:
            return self.id == printable(puzzle.id)
        return self.id == puzzle.id and self.question == get(puzzle.task).question_text(puzzle)


@dataclass(frozen=True)
class Output:
    """How answers are written. file: None for standard output. resume: keep what the file holds already."""

    file: Path | None = None
    as_json: bool = False
    resume: bool = False

    @property
    def name(self) -> str:
        return STDOUT if self.file is None else str(self.file)

    def earlier(self) -> list[Earlier]:
        """The answers that an existing file holds, after what a kill may have cut short is taken out of it.

        Raises OutputError for a file that exists and is not to be resumed, or that holds anything else.
        """
        if self.file is None or not self.file.exists() or not stat.S_ISREG(self.file.stat().st_mode):
            return []
        if not self.file.stat().st_size:
            return []
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


def _read_json(file: Path) -> list[Earlier]:
    """The answers of a file of JSON records, which then ends with a whole one."""
    answers = []
    for number, _, record in jsonl.read(file):
        try:
            answers.append(Earlier(str(record["id"]), str(record["question"]), str(record["status"])))
        except (KeyError, TypeError):
            raise OutputError(
                f"{file}, line {number}: no record of an answer, so --resume cannot continue"
            ) from None
    jsonl.repair(file)
    return answers


def _read_plain(file: Path) -> list[Earlier]:
    """The answers of a file of plain text but for the last one, which is removed: it may have been cut short."""
    text = file.read_text(encoding="utf-8", errors="surrogateescape")
    lines = text.split("\n")
    headings = [n for n, line in enumerate(lines) if line.startswith(HEADING)]
    if not headings or headings[0] != 0:
        raise OutputError(f"{file}: holds no answers of this form, so --resume cannot continue it")
    kept = "".join(f"{line}\n" for line in lines[: headings[-1]])
    answers = []
    for n in headings[:-1]:
        name, _, rest = lines[n].removeprefix(HEADING).rpartition(": ")
        while _status(rest) not in set(Status) and ": " in name:  # violations hold colons too
            name, _, more = name.rpartition(": ")
            rest = f"{more}: {rest}"
        answers.append(Earlier(name, None, _status(rest)))
    os.truncate(file, len(kept.encode("utf-8", "surrogateescape")))
    return answers


def _status(summary: str) -> str:
    """The first word of an answer's heading after its id."""
    return summary.split(" ")[0].rstrip(":,")


def remaining(puzzles: Sequence[Puzzle], earlier: Sequence[Earlier]) -> list[Puzzle]:
    """The puzzles that have no earlier answer."""
    by_id: dict[str, list[Earlier]] = {}
    for one in earlier:
        by_id.setdefault(one.id, []).append(one)
    ids = ((p, {p.id, printable(p.id)}) for p in puzzles)
    return [p for p, names in ids if not any(one.answers(p) for name in names for one in by_id.get(name, ()))]
