"""The puzzle in a chat message: a grid among words, which may stand on its lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from hybrid.serve.reading import read_puzzles
from trm.data.variants import named_rule
from trm.grid import PuzzleError, grid_key
from trm.tasks import Puzzle
from trm.tasks.grid_text import has_words
from trm.tasks.registry import demonstrated
from trm.tasks.sudoku.sizes import SIZES

MOST_WORDY = 20_000  # characters of a text whose words are looked past: each way to read it takes its time
_SIDES = re.compile(r"\b(4|6|9|16) ?[x×] ?\1\b[ \t]*:?")
# Words with the marks behind them and a number's colon, as in `Row 1:`; and numbers of a list's lines.
_WORDS = re.compile(
    r"(?:[^\W\d_]{2,}|\b[aAI]\b)(?:['’-][^\W\d_]+)*(?: ?\d{1,2}:|[:;,!?]+|\.+(?!\S))?|^[ \t]*\d{1,2}[.):][ \t]+",
    re.MULTILINE,
)
_POINT = re.compile(r"(?<!\S)([0-9._]{81})\.(?!\S)")  # that ends a sentence, and is no cell


def find_puzzle(text: str, name: str) -> Puzzle:
    """The first puzzle of a message; or else the only one that is left without its words.

    Raises PuzzleError if there is none, or if the text can be read in several ways.
    """
    text = "\n".join(text.splitlines())
    failures: list[PuzzleError] = []
    ways: dict[str, str | None] = {_rows_alone(text): None, text: None}
    if inside := _between(text, "{}"):  # JSON among words
        ways[inside] = demonstrated()
    for part, task in ways.items():
        for found in read_puzzles(part, task, name):
            if isinstance(found, Puzzle):
                return replace(found, id=name)
            failures.append(found)
    different = {(each.task, grid_key(each.grid)): each for each in _among_words(text, name)}
    if len(different) == 1:
        return replace(next(iter(different.values())), id=name)
    raise PuzzleError(str(failures[0]).removeprefix(f"{name}: "))


def _between(text: str, brackets: str) -> str:
    """From the first opening bracket to the last closing one; empty where there are none."""
    start, end = text.find(brackets[0]), text.rfind(brackets[1])
    return text[start : end + 1] if 0 <= start < end else ""


def _rows_alone(text: str) -> str:
    """The text in which a grid's first row behind words, and its last row before words, are lines of their own.

    A line of words is taken for a title: a maze would lose a row.
    """
    lines = text.split("\n")
    grid = [bool(line.strip()) and not has_words(line) for line in lines]
    found: list[str] = []
    for at, line in enumerate(lines):
        cut = 0
        if not grid[at] and at + 1 < len(lines) and grid[at + 1]:
            start = len(line) - len(lines[at + 1])
            cut = start if start > 0 and line[start - 1] in " \t:" and not has_words(line[start:]) else 0
        if not grid[at] and at > 0 and grid[at - 1] and not cut:
            end = len(lines[at - 1])
            cut = end if line[end : end + 1].isspace() and not has_words(line[:end]) else 0
        found += [line[:cut], line[cut:]] if cut else [line]
    return "\n".join(found)


def _among_words(text: str, name: str) -> Iterator[Puzzle]:
    """The puzzles of a text without its words, in every way that it may be read.

    A size that the text names is a Sudoku's; of a Sudoku without a size any may be meant.
    """
    if len(text) > MOST_WORDY or named_rule(text):  # a word about the rules is not passed over
        return
    sides = {int(match[1]) for match in _SIDES.finditer(text)} or (SIZES if "sudoku" in text.lower() else ())
    bare = _WORDS.sub(" ", _SIDES.sub(" ", text))
    bare = _POINT.sub(r"\1", bare) if bare != text else bare
    ways = [(bare, None), (_between(text, "[]"), None), *((bare, SIZES[side].task) for side in sides)]
    for part, task in ways:
        found = read_puzzles(part, task, name) if part.strip() else ()
        yield from (each for each in found if isinstance(each, Puzzle))
