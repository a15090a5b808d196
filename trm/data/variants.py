"""What records and texts say of a puzzle's rules. Only the plain game is known: other rules change the answer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from trm.grid import PuzzleError, shorten
from trm.tasks.grid_text import is_large_row

SURE_RULES = ("rules", "rule", "constraints", "visual_elements", "variant", "variants")
RULES = (*SURE_RULES, "type", "kind", "category", "title", "name")  # these, where they name a variant
# Fields that say where a puzzle is from, or how hard it is: a variant's word there is a name.
NAMES = (
    "author", "authors", "by", "creator", "setter", "user", "publisher", "source", "url", "link", "file", "filename",
    "file_name", "path", "license", "copyright", "difficulty", "level", "rating", "dataset", "split",
)  # fmt: skip
_PLAIN = re.compile(
    r"(the |a )?((normal|standard|classic(al)?|regular|usual|plain|vanilla|basic)\b ?)?"
    r"(sudoku|maze)?s? ?(rules?)?( apply)?\.?",
    re.I,
)
# Names of columns.
VARIANT = re.compile(
    r"\b(diagonal|killer|cage|thermo|arrow|kropki|jigsaw|irregular|region|hyper|windoku|anti|knight|king|sandwich|"
    r"samurai|(non)?[- ]?consecutive|palindrome|whisper|renban|asterisk|greater|sudoku[- ]?x|x[- ]?sudoku|chess|"
    r"skyscraper|disjoint|quadruple|parity|torus|toroidal|portal|clone|line|dot)s?\b",
    re.I,
)
# In prose, where "each row, column and region" and "nine lines" are the plain game.
_IN_PROSE = re.compile(
    r"\b(diagonal(s|ly)?|killer|cages?|thermo\w*|arrows?|kropki|jigsaw|irregular(ly)?|hyper([- ]?sudoku)?|windoku|"
    r"anti[- ]?(knight|king|queen|chess|diagonal|windoku)s?|(knight|king|queen)'?s?[- ]moves?|chess|sandwich(es)?|"
    r"samurai|gattai|(non[- ]?)?consecutive|palindromes?|whispers?|renban|nabner|asterisk|girandola|skyscrapers?|"
    r"greater[- ]than(?! (\d|zero|or))|sudoku[- ]?x|x[- ]?sudoku|xv[- ](sudoku|rules?|clues?|pairs?|marks?)|"
    r"(sudoku|with) xv|(even|odd)[/ -]+(odd|even|cells?|digits?)|odd and even|even and odd|parity|quadruples?|"
    r"(extra|additional) regions?|disjoint|torus|toroidal|wrap(s|ped|ping)?[- ]?around|wraps?|portals?|teleport\w*|"
    r"clones?|keys(?! *[:=])|one-way|(8|eight) (directions|neighbou?rs))\b",
    re.I,
)
# How every match of `_IN_PROSE` has a word begin: files hold millions of lines, and this is told quickly.
_STARTS = {
    "diag", "kill", "cage", "ther", "arro", "krop", "jigs", "irre", "hype", "wind", "anti", "knig", "king",
    "quee", "ches", "sand", "samu", "gatt", "cons", "nonc", "pali", "whis", "renb", "nabn", "aste", "gira",
    "skys", "grea", "sudo", "xsud", "xv", "odd", "even", "pari", "quad", "regi", "disj", "toru", "toro",
    "wrap", "port", "tele", "clon", "keys", "way", "dire", "neig",
}  # fmt: skip
_DENIED = re.compile(
    r"\b(not|never|cannot|without|n't|can.t|don.t)( (an?|any|be|go|move|moving|step|walk|use))* "
    r"(diagonal(ly)?( (moves?|movements?|steps?))?|wrap\w*( ?around)?|killer|jigsaw|samurai|windoku)\b|"
    r"\bno (diagonals?( (moves?|movements?|steps?)| (is|are) allowed|(?=\s*([.,;!)]|$)))|wrap\w*([- ]?around)?)|"
    r"\bdiagonal( (moves?|movements?|steps?))? (is|are) (not|never|forbidden|disallowed|illegal|prohibited)\b",
    re.I,
)
_ADDRESS = re.compile(r"\S+://\S+|www\.\S+|\S+@\S+")


class OtherRulesError(PuzzleError):
    """A puzzle of other rules than the plain game's."""

    def __init__(self, where: str) -> None:
        super().__init__(
            f"{where}, expected the plain game: other rules are not known (the grid alone is read as the plain game)"
        )


def named_rule(text: str) -> str:
    """The word or words by which prose names other rules than those of the plain game; empty if it does not."""
    if _STARTS.isdisjoint([word[:4] for word in re.findall("[a-z]{2,}", text.lower())]):
        return ""
    for line in text.replace("_", " ").split("\n"):
        if not _IN_PROSE.search(line) or is_large_row(line):
            continue
        if found := _IN_PROSE.search(_DENIED.sub(" ", _ADDRESS.sub(" ", line))):
            return found[0]
    return ""


def refuse_other_rules(text: str) -> None:
    """Raise OtherRulesError if a text with a puzzle in it, which is no JSON, names rules beyond the plain game."""
    if word := "" if text.lstrip().startswith("{") else named_rule(text):
        raise OtherRulesError(f"the text says {word!r}")


def other_rules(fields: Mapping[str, Any]) -> str:
    """What a record says of rules beyond the plain game, in words; empty if nothing."""
    for key, value in fields.items():
        name = key.strip().lower() if isinstance(key, str) else ""
        if value in ("", None, [], {}, False, 0) or not is_rule(name):
            continue
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        if name in RULES:
            left = [part for part in re.split(r"(?<=\.)\s+|\n+", text.strip()) if not _PLAIN.fullmatch(part)]
            if left and (name in SURE_RULES or VARIANT.search(text)):
                return f"{key} {shorten(text)}"
        elif VARIANT.fullmatch(name):
            if not isinstance(value, int | float | str) or text.lower() in ("true", "yes"):
                return f"{key} {shorten(text)}"
        elif isinstance(value, dict):
            if inside := other_rules(value):
                return f"{key}: {inside}"
        elif (
            isinstance(value, str) or (isinstance(value, list) and all(isinstance(v, str) for v in value))
        ) and (word := named_rule(text)):
            return f"{key} says {word!r}"
    return ""


def is_rule(name: str) -> bool:
    """Whether a column of this name, in small letters, may say something of the rules."""
    return name not in NAMES
