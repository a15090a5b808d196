"""Puzzles in text: one a line, or grids over several lines, among titles, comments and counts."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import takewhile

from trm.data.items import Item, Items
from trm.data.variants import OtherRulesError, named_rule
from trm.grid import PuzzleError, shorten
from trm.tasks import Task, detect, get, names
from trm.tasks.base import Ends
from trm.tasks.grid_text import has_words, is_ruler, listed_rows
from trm.tasks.registry import TakenFor

Line = tuple[int, str]  # with its number, from 1
Block = list[Line]  # without empty lines
Piece = tuple[int, str | PuzzleError, str | None]  # the number of its first line, the question, the answer
FLAT_MAY_BE = 33  # cells: a shorter line of a list is a grid's row
_ENDS = re.compile(
    r"\b(?:(start|source|begin)|goal|end|target|finish)\b(?: (?:cell|position))?(?: is)?(?: at)?\s*[:=]?\s*[\[(]?\s*"
    r"(\d{1,3})\s*[,;]\s*(\d{1,3})\b",
    re.I,
)
_ANSWER = re.compile(r"\W*(answers?|solutions?|solved|label)\W*\s*[:=]", re.I)
_MARKED = (  # in this order: a mark of UTF-32 begins as one of UTF-16 does
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# What people write above a grid or before it, such as `4x4:` or `Sudoku 6x6:`.
_SIZE = re.compile(r"[ \t]*(?:[A-Za-z]+[ \t]+){0,5}(\d\d?) ?[x×] ?(\d\d?)[ \t]*(?::[ \t]?|$)")
MOST_BELOW = 100  # lines in which a grid below its size ends
_NUMBERS = re.compile(r"\s*(\d{1,3})(?:\s*[x×,;\s]\s*(\d{1,3}))?\s*")


def read_text(text: str, where: str, stem: str, task_name: str | None, above: int = 0) -> Items:
    """The puzzles of a text. task_name: what all of them are, which may then be a single line each.

    above: how many lines of the same file stand before the text.
    """
    listed = listed_rows(text)
    if listed is not None and any("..." in row for row in listed):
        raise PuzzleError(f"{where}: an array that is printed with '...' for cells, expected all of them")
    if listed is not None and not (1 < len(listed) < 81 and {81} == set(map(len, listed))):
        yield Item(where, f"{stem}:1", "\n".join(",".join(row) for row in listed))
        return
    markup = text.lstrip().startswith("<")
    task = None if task_name is None else get(task_name)
    found = _certain(text, task) or _pieces(text.split("\n"), task, markup)
    if not found:
        expected = get(task_name).noun if task_name else f"one of {', '.join(names())}"
        raise PuzzleError(f"{where}: {shorten(text.strip())}: no puzzle found, expected {expected}")
    single = len(found) == 1 and not above
    ends = _ends(text) if single else None
    for line, question, answer in found:
        number = above + line
        place = where if single and not markup else f"{where}, line {number}"
        if isinstance(question, PuzzleError):
            yield PuzzleError(f"{place}: {question}")
        else:
            own = None if ends is None or re.search("[SG]", question) else ends
            yield Item(place, f"{stem}:{number}", question, answer, ends=own, flat=task_name is not None)


def _ends(text: str) -> Ends | None:
    """The start and the goal that lines beside a maze name, as `start: (1, 1)`; None unless there is one of each."""
    found = [(bool(named), (int(row), int(column))) for named, row, column in _ENDS.findall(text)]
    cells = dict(found)
    return (cells[True], cells[False], None) if len(found) == len(cells) == 2 else None


def _certain(text: str, task: Task | None) -> list[Piece]:
    """The grids of a text of nothing but grids, each certain by itself, and empty lines; else none.

    `_pieces` finds the same, but takes a minute for 100,000 mazes.
    """
    tasks = [task] if task else [get(name) for name in names()]
    found: list[Piece] = []
    number, before = 1, 0
    for block in re.finditer(r"[^\n]+(?:\n[^\n]+)*", text):
        grid, width = block[0], block[0].find("\n")
        rows = grid.count("\n") + 1
        alike = len(grid) == rows * (width + 1) - 1 and grid[width :: width + 1] == "\n" * (rows - 1)
        if not (rows > 1 and alike and width < FLAT_MAY_BE and any(each.is_certain(grid) for each in tasks)):
            return []
        number, before = number + text.count("\n", before, block.start()), block.start()
        found.append((number, grid, None))
    return found


def _pieces(lines: list[str], task: Task | None, markup: bool) -> list[Piece]:
    """Each puzzle with the number of its first line and its answer, in the order of the lines."""
    in_lines = [task] if task else [get(name) for name in names()]
    groups: list[list[Block]] = [[[]]]
    pieces: list[Piece] = []
    listed, variant = False, ""
    titled = task is None or type(task).parts is not Task.parts  # another's rows may be words
    for number, line in enumerate(lines, 1):
        pair: tuple[str | PuzzleError, str | None] | None = None
        for each in in_lines:
            try:
                pair = pair or each.in_line(line)
            except PuzzleError as error:
                pair = TakenFor(each, error), None
        word = named_rule(line) if titled else ""
        if pair is not None and word:
            pair = OtherRulesError(f"the line says {word!r}"), None
        last = pieces[-1] if pieces and not any(groups[-1]) else None
        if pair is not None and pair[1] is None and last and last[2] is None and _ANSWER.match(line):
            pieces[-1] = (last[0], last[1], pair[0] if isinstance(pair[0], str) else None)
        elif pair is not None:
            pieces.append((number, *pair))
            groups.append([[]])
            listed = True
        elif (
            titled
            and not (markup or word)
            and (size := _SIZE.match(line))
            and _is_followed(size, lines[number : number + MOST_BELOW], in_lines)
        ):
            rest = line[size.end() :]
            groups.append([[(number, rest)] if rest.strip() else []])
        elif markup or (titled and _is_title(lines, number - 1)):
            groups.append([[]])
            variant = variant or (word and f"title {shorten(line.strip())} says {word!r}")
        elif _is_empty(lines, number - 1):
            groups[-1].append([])
        else:
            groups[-1][-1].append((number, line))
    for group in groups:
        pieces += _grids([block for block in group if block], task, listed)
    if variant and pieces:
        pieces = [(pieces[0][0], OtherRulesError(variant), None)]
    return sorted(pieces, key=lambda piece: piece[0])


def _is_followed(size: re.Match[str], below: list[str], tasks: list[Task]) -> bool:
    """Whether a grid of the size that begins a line stands behind it, on the next line, or in the lines below."""
    height, width = int(size[1]), int(size[2])
    behind = size.string[size.end() :]
    lines = [behind if behind.strip() else "", *takewhile(lambda line: not _SIZE.match(line), below)]
    text = "\n".join(lines).strip("\n")
    bands = "\n".join([line for line in lines if line][:height])  # empty lines may part them
    for grid in (text.partition("\n")[0], text.partition("\n\n")[0], bands):
        for task in tasks:
            with suppress(PuzzleError):
                if task.parse(grid).grid.shape == (height, width):
                    return True
    return False


def _is_title(lines: list[str], at: int) -> bool:
    """Whether a line is a title, a comment, a fence, a count or a line that parts grids, and no row of one."""
    line = lines[at]
    around = [other for other in lines[max(0, at - 1) : at + 2] if other is not line]
    alike = [other for other in around if other and len(other) == len(line)]
    if line[:1] == line[-1:] == "#" and any(other[0] == other[-1] == "#" for other in alike):
        return False  # a row of a maze, be it with letters
    if (
        has_words(line)
        or line.lstrip().startswith(("```", "//"))
        or re.fullmatch(r"\s*\w+\s*=\s*", line)
        or (line.strip() and ",," not in line and not line.strip(" []{}();,='\""))
    ):
        return True
    if (numbers := _NUMBERS.fullmatch(line)) is not None:
        below = next((row for row in lines[at + 1 : at + 2] if row.strip()), "")
        if numbers[2] is None:
            return len(line.strip()) < 4 and len(below.strip()) > 8 and (at == 0 or not lines[at - 1].strip())
        later = lines[at + 1 : at + 1001]  # counts have at most three digits
        rows = next((n for n, row in enumerate(later) if not row.strip()), len(later))
        return {int(numbers[1]), int(numbers[2])} in ({rows, len(below)}, {rows, len(below.split())})
    return is_ruler(line) and all("#" in other or not other.strip() for other in around)


def _is_empty(lines: list[str], at: int) -> bool:
    """Whether a line is empty. One of spaces is a row where a line beside it is as long."""
    line = lines[at]
    if line.strip() or not line:
        return not line
    beside = [other for other in (lines[at - 1 : at] + lines[at + 1 : at + 2]) if other]
    return "\t" in line or all(len(other) != len(line) for other in beside)


def _grids(blocks: list[Block], task: Task | None, listed: bool) -> Iterator[Piece]:
    """The puzzles in blocks of lines. listed: whether other lines of the file hold a whole puzzle each."""
    run: list[Block] = []
    kind: Task | None = None
    for block in blocks:
        try:
            own = task or get(detect("\n".join(line for _, line in block), flat=False))
        except PuzzleError as error:
            yield block[0][0], error, None
            continue
        lengths = {len(line) for _, line in block}
        if listed and min(lengths) >= FLAT_MAY_BE:
            yield from ((number, line, None) for number, line in block)
            continue
        if run and own is not kind:
            yield from _parts(kind, run)
            run = []
        run.append(block)
        kind = own
    yield from _parts(kind, run)


def _parts(kind: Task | None, run: list[Block]) -> Iterator[tuple[int, str, None]]:
    if kind is not None and run:
        yield from ((number, text, None) for number, text in kind.parts(run))


def with_newlines(text: str) -> str:
    """The text with one kind of line end."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def decode(data: bytes, where: str) -> str:
    """Text in UTF-8, in UTF-16, in UTF-32 with its mark, or in the code page of western Europe.

    An invalid byte becomes U+FFFD, so that only its own puzzle is an error. Raises PuzzleError for binary data.
    """
    encoding = next((name for mark, name in _MARKED if data.startswith(mark)), "utf-8-sig")
    if encoding == "utf-8-sig" and b"\0" in data:
        zeros = [data[start:4000:2].count(0) * 2.2 > len(data[:4000]) for start in (0, 1)]
        if zeros[0] == zeros[1]:
            raise PuzzleError(f"{where}: binary data, expected text")
        encoding = "utf-16-be" if zeros[0] else "utf-16-le"
    if encoding == "utf-8-sig":
        with suppress(UnicodeDecodeError):
            return data.decode(encoding)
        # In the code page of western Europe the bytes above 0x7F that stand in words are letters. Of the others,
        # three may be blanks or part cells: a bullet, a point and a space that does not break.
        words = re.findall(rb"[A-Za-z\x80-\xff]*[\x80-\xff][A-Za-z\x80-\xff]*", data)
        letters = all(
            (len(word) > 2 and not re.search(rb"[\x80-\xbf\xd7\xf7]", word))
            or not word.strip(b"\x95\xa0\xb7")
            for word in words
        )
        encoding = "cp1252" if letters else encoding
    return data.decode(encoding, errors="replace")
