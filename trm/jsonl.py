"""Files of JSON lines that a killed program may have left with a last line cut short."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from trm.files import replacing
from trm.text import parse_json


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
    rows = path.read_text(encoding="utf-8", errors="replace").split("\n")  # texts hold other line ends
    lines = [Line(number, text, _value(text)) for number, text in enumerate(rows, 1) if text.strip()]
    if lines and lines[-1].number == len(rows) and lines[-1].value is None:
        lines.pop()
    return lines


def repair(path: Path) -> None:
    """Make a file, if there is one, end with a whole line: what is appended would run into an unfinished one.

    A last line that was cut short is removed, one that lacks only its line end gets it. Raises OSError.
    """
    if not path.is_file():
        return
    content = path.read_bytes()
    last = content[content.rfind(b"\n") + 1 :]
    if last and _value(last.decode(errors="replace")) is None:
        os.truncate(path, len(content) - len(last))
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
