"""What records and titles say of a puzzle's rules. Only the plain game is known: other rules change the answer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from trm.grid import shorten

SURE_RULES = ("rules", "rule", "constraints", "visual_elements", "variant", "variants")
RULES = (*SURE_RULES, "type", "kind", "category", "title", "name")  # these, where they name a variant
_PLAIN = re.compile(
    r"(the |a )?((normal|standard|classic(al)?|regular|usual|plain|vanilla|basic)\b ?)?"
    r"(sudoku|maze)?s? ?(rules?)?( apply)?\.?",
    re.I,
)
VARIANT = re.compile(
    r"\b(diagonal|killer|cage|thermo|arrow|kropki|jigsaw|irregular|region|hyper|windoku|anti|knight|king|sandwich|"
    r"samurai|(non)?[- ]?consecutive|palindrome|whisper|renban|asterisk|greater|sudoku[- ]?x|x[- ]?sudoku|chess|"
    r"skyscraper|disjoint|quadruple|parity|torus|toroidal|portal|clone|line|dot)s?\b",
    re.I,
)


def names_other_rules(title: str) -> bool:
    """Whether a title says that the puzzles below it are of a variant: `Killer Sudoku 12`."""
    return re.search(rf"({VARIANT.pattern})\W+sudoku|sudoku[ -]x\b", title, re.I) is not None


def other_rules(fields: Mapping[str, Any]) -> str:
    """What a record says of rules beyond the plain game, in words; empty if nothing."""
    for key, value in fields.items():
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        name = key.strip().lower()
        if value in ("", None, [], {}, False, 0):
            continue
        if name in RULES:
            left = [part for part in re.split(r"(?<=\.)\s+|\n+", text.strip()) if not _PLAIN.fullmatch(part)]
            if left and (name in SURE_RULES or VARIANT.search(text)):
                return f"{key} {shorten(text)}"
        elif not isinstance(value, int | float | str) or text.lower() in ("true", "yes"):
            return f"{key} {shorten(text)}"
    return ""


def is_rule(name: str) -> bool:
    """Whether a column of this name, in small letters, may say something of the rules."""
    return name in RULES or VARIANT.fullmatch(name) is not None
