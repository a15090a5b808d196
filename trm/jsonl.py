"""Files of JSON lines that a killed program may have left with a last line cut short."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from trm.files import replacing
from trm.text import parse_json

BLOCK = 1 << 16  # bytes that are read at once to find the last line


class Line(NamedTuple):
    """A line of a file. number: from 1. value: what its JSON says; None where it is no JSON."""

    number: int
    text: str
    value: Any


def dump(value: object) -> str:
    """A value as a line, with its line end. What is not printable is escaped: a terminal may show it."""
    text = json.dumps(value, ensure_ascii=False)
    return (text if text.isprintable() else json.dumps(value)) + "\n"


def read(path: Path) -> list[Line]:
    """The lines of a file but for blank ones, and for a last one without a line end that is no JSON: a kill cut it.

    Raises OSError.
    """
    return list(each(path))


def each(path: Path) -> Iterator[Line]:
    """As `read`, one line after the other."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, row in enumerate(file, 1):
            text = row.removesuffix("\n")  # texts hold other line ends
            if text.strip() and ((value := _value(text)) is not None or text != row):
                yield Line(number, text, value)


def repair(path: Path) -> None:
    """Make a file, if there is one, end with a whole line: what is appended would run into an unfinished one.

    A last line that was cut short is removed, one that lacks only its line end gets it. Raises OSError.
    """
    if not path.is_file():
        return
    with path.open("rb") as file:
        size = start = file.seek(0, os.SEEK_END)
        last = b""
        while start and b"\n" not in last:
            start = file.seek(max(0, start - BLOCK))
            last = file.read(min(BLOCK, size - len(last) - start)) + last
    last = last[last.rfind(b"\n") + 1 :]
    if last and _value(last.decode(errors="replace")) is None:
        os.truncate(path, size - len(last))
    elif last:
        with path.open("ab") as file:
            file.write(b"\n")


def append(path: Path, values: Iterable[object]) -> None:
    """Add lines to a file, all in one write. Raises OSError, which names the file."""
    lines = "".join(map(dump, values))
    try:
        with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(lines)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def write(path: Path, values: Iterable[object]) -> None:
    """Replace a file in one go: a kill leaves the old file or the new one. Raises OSError."""
    with replacing(path) as temporary:
        temporary.write_text("".join(map(dump, values)), encoding="utf-8", errors="backslashreplace")


def _value(text: str) -> Any:
    try:
        return parse_json(text)
    except ValueError:
        return None
