"""Standard streams of a command line: closed, full, without a reader, or of an encoding that lacks a character."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress

from trm.text import message_line

CANNOT_WRITE = 2  # exit code
INTERRUPTED = 130  # as shells count it: 128 + SIGINT


def run(command: str, app: Callable[[], object]) -> None:
    """Run a command line whose errors are its own. A stream or file that cannot be written ends it with one line.

    Ctrl-C where no command guards against it ends it without a word. Raises SystemExit.
    """
    _stand_in_for_closed()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files may be no text
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # what fails here would be a traceback of the interpreter's end
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except OSError as error:
        _discard()
        if not isinstance(error, BrokenPipeError):  # else a reader has what it wanted
            where = f"{error.filename}: " if error.filename else ""
            print(f"{command}: {message_line(f'{where}{error.strerror or error}')}", file=sys.stderr)
        raise SystemExit(CANNOT_WRITE) from None


def _stand_in_for_closed() -> None:
    """Give a program that was started with `>&-` a standard output that says so, and with `2>&-` one for errors."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  # as long as the program
    if sys.stdout is None:
        sys.stdout = _Closed(io.BytesIO())


class _Closed(io.TextIOWrapper):
    """A standard output that nobody gave."""

    def write(self, text: str) -> int:
        raise OSError("standard output is closed, expected one that can be written")


def _discard() -> None:
    """Let what standard output still holds go nowhere, else the interpreter would try to write it at its end."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
