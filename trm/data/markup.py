"""What other programs write around the cells of grids: HTML, LaTeX, Markdown, R's matrices, quotes, names of cells.

Each function gives the text without it, on as many lines, so that messages name the lines of the file.
"""

from __future__ import annotations

import csv
import html
import io
import re

from trm.tasks.grid_text import MISSING, cell_text

LONG = 1 << 20  # characters; a longer text is a table or a list, and nothing else is looked for
ENTITY = re.compile(r"&(?:[a-z]{2,6}|#\d{2,4});")
_CELLS = re.compile(r"</t[dh]\s*>\s*<t[dh][^<>]*>", re.I)
_INPUT = re.compile(r"<input\b(?:[^<>]{0,200}?\bvalue=[\"']?([^\"'<>]{0,9}))?[^<>]*>", re.I)
_TAG = re.compile(
    r"</?(?:table|thead|tbody|tr|td|th|pre|code|br|p|div|span|b|strong|html|body)\b[^<>]*>", re.I
)
_LATEX = re.compile(
    r"\\\\(?:\[[^\]]{0,20}\])?|\\(?:hline|toprule|midrule|bottomrule)|\\(?:cline|begin|end)\{.*$", re.M
)
_R_LABELS = re.compile(r"^ *(?:\[,\d+\] *)+$|^ *\[\d+,\]", re.M)
_MISSING = re.compile(rf"(?<![^\s,;|\[(])(?:{'|'.join(MISSING)})(?![^\s,;|\])])", re.I)
_RULER = re.compile(r"^(?: *+\|)?+(?: *+:?-{3,}+:? *+\|)++(?: *+:?-{3,}+:? *+)?+$", re.M)
_SEPARATOR = re.compile(r"[,;\t|]")
# What tables call their nine columns, or the 81 cells of a grid.
_COLUMN = re.compile("[a-i]|c(ol(umn)?)?[ _]?[0-9]")
_CELL = re.compile(
    r"r[0-9][ _]?c[0-9]|[a-i][1-9]|(c(ell)?|q(uiz)?|p(uzzle)?|s(olution)?|a(nswer)?)?[ _]?[0-9]{1,2}"
)
_LABELS = ("", "index", "unnamed: 0")  # of rows
_OF_ANSWERS = ("s", "solution", "a", "answer")


def unescaped(text: str) -> str:
    """A table or other text without HTML's entities, the line that tells a spreadsheet its separator, and R's labels.

    The ruler below a header of Markdown becomes an empty line, and so does a header without names.
    """
    if text.lstrip().startswith("[,1]"):
        return _R_LABELS.sub("", text)
    if text.lstrip()[:1] in ("{", "["):
        return text
    if "&" in text and ENTITY.search(text):
        text = html.unescape(text)
    if text[:4].lower() == "sep=" and text[5:6] == "\n":
        text = text[5:]
    end = text.find("\n")
    ruled = text.find("\n", end + 1)
    head, ruler = text[: max(end, 0)], text[end + 1 : ruled if ruled >= 0 else None]
    if "|" in head and len(ruler) < LONG and _RULER.fullmatch(ruler) and head.count("|") == ruler.count("|"):
        below = text[ruled + 1 :] if ruled >= 0 else ""
        numbers = re.fullmatch(r"[\s|.\d]*\d[\s|.\d]*", head)  # the first row of a grid
        if not _RULER.search(below):
            text = f"{head}\n{below}" if numbers else f"{head if head.strip(' |') else ''}\n\n{below}"
    return text


def bare(text: str) -> str:
    """A text of grids without markup. Cells of tables are parted by commas, and `.` stands for a missing value."""
    if len(text) > LONG:
        return text
    lines = [line for line in text.split("\n") if line.strip()]
    if "<" in text and re.search(r"<(?:table|tr|td|pre)\b", text, re.I):
        text = _INPUT.sub(r"\1", re.sub(r"</tr\s*>\s*", "\n", _CELLS.sub(",", text), flags=re.I))
        text = _TAG.sub("", text)
    if "&" in text and "\\\\" in text:
        text = "\n".join(
            ",".join(map(str.strip, line.split("&"))) for line in _LATEX.sub("", text).split("\n")
        )
    if all(line.startswith(">") for line in lines):  # as mail and Markdown quote
        text = re.sub("^> ?", "", text, flags=re.M)
    if len(lines) > 1 and all(re.fullmatch(r"\s*([\"'])[^\"']+\1,?\s*", line) for line in lines):
        text = re.sub("^[ \\t]*[\"']|[\"'],?[ \\t]*$", "", text, flags=re.M)
    filled = ((_MISSING.sub(".", line), line) for line in text.split("\n"))
    return "\n".join(line if re.search("[A-Za-z]", cells) else cells for cells, line in filled)


def without_cell_names(text: str) -> str:
    """The text without a first line that names nine columns, such as `A,B,…`.

    Where it names the 81 cells of a grid, or of a question and its answer, they become the columns question and
    answer of a table that has its other columns too.
    """
    start = len(text) - len(text.lstrip("\n"))
    end = max(text.find("\n", start), 0)
    first = text[start:end]
    delimiter = max(",;\t|", key=first.count)
    names = [name.strip(' "').lower() for name in first.strip(" |").split(delimiter)]
    if len(names) < 9 or len(set(names)) != len(names) or not (below := text[end + 1 :]).strip():
        return text
    if len(names) == 9 and all(map(_COLUMN.fullmatch, names)):
        return below
    cells = [place for place, name in enumerate(names) if _CELL.fullmatch(name)]
    grids = _grids({names[place]: place for place in cells}) if len(cells) in (81, 162) else []
    if not grids:
        return text
    others = [place for place in range(len(names)) if place not in cells]
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    labels = ["id" if names[place] in _LABELS else names[place] for place in others]
    writer.writerow([*("question", "answer")[: len(grids)], *labels])
    try:
        for row in csv.reader(below.split("\n"), delimiter=delimiter):
            if len(row) == len(names):
                writer.writerow([*(_joined(row, grid) for grid in grids), *(row[n].strip() for n in others)])
            else:
                writer.writerow([",".join(row)] if row else [])
    except csv.Error:  # such as a field without end
        return text
    return table.getvalue()


def _joined(row: list[str], grid: list[int]) -> str:
    """The cells of a grid in one text, if each is a single symbol."""
    cells = "".join([row[place] or "." for place in grid])
    if len(cells) == len(grid) and " " not in cells:  # as most are, of millions
        return cells
    return "".join(cell_text(row[place].strip(' "')).replace(" ", ".") for place in grid)


def _grids(columns: dict[str, int]) -> list[list[int]]:
    """The columns of the cells of the question, row by row, and of the answer; nothing where the order is not known.

    columns: by name, as `r1c1`, `c0`, `A1`, or `q0` and `s0` for the two.
    """
    parts = {name: re.fullmatch(r"([a-z]*)[ _]?(\d+)(?:[ _]?c(\d+))?", name) for name in columns}
    keys = [(found[1], int(found[2]), int(found[3] or 0), name) for name, found in parts.items() if found]
    prefixes = sorted({key[0] for key in keys})
    if len(prefixes) == 9:  # of rows or of columns: only their usual orders are the same for both
        natural = [sorted(keys), sorted(keys, key=lambda key: (key[1], key[0]))]
        return [[columns[key[3]] for key in keys]] if keys in natural else []
    grids = [[columns[key[3]] for key in sorted(keys) if key[0] == prefix] for prefix in prefixes]
    if len(prefixes) == 2:
        answers = [prefix in _OF_ANSWERS for prefix in prefixes]
        if sum(answers) != 1:
            return []
        grids = grids[::-1] if answers[0] else grids
    return grids if all(len(grid) == 81 for grid in grids) else []
