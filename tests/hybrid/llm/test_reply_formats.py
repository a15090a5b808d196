"""Constrained decoding: the formats of replies, the mask that keeps to them, and a model under it."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from hybrid.llm.base import BackendError, ReplyFormat
from hybrid.llm.chat.grid_text import FENCE, reply_format, write_grid
from hybrid.llm.chat.prompts import ChatProposer
from hybrid.llm.masking import FormatMask, grammar_vocabulary
from hybrid.llm.registry import connect
from trm import tasks
from trm.grid import Grid
from trm.tasks import Puzzle

SUDOKU = tasks.get("sudoku").samples()[0]
ARC = tasks.get("arc").samples()[0]


def accepts(puzzle: Puzzle, text: str) -> bool:
    return re.fullmatch(reply_format(puzzle).regex, text) is not None


def answer(puzzle: Puzzle) -> Grid:
    assert puzzle.answers is not None
    return puzzle.answers[0]


@pytest.mark.parametrize("name", tasks.names())
def test_a_right_answer_as_the_prompt_shows_it_keeps_to_the_format(name: str) -> None:
    task = tasks.get(name)
    for sample in task.samples():
        assert accepts(sample, write_grid(answer(sample), task))
        assert not accepts(sample, write_grid(answer(sample), task)[:-1])


@pytest.mark.parametrize("name", ["sudoku", "maze"])
def test_givens_are_kept_and_blanks_are_filled(name: str) -> None:
    task = tasks.get(name)
    for sample in task.samples():
        question, grid = sample.grid, answer(sample)
        for row, column in np.argwhere(~np.isin(question, list(task.fills))).tolist():
            changed = grid.copy()
            changed[row, column] = next(s for s in task.symbols if s != grid[row, column])
            assert not accepts(sample, write_grid(changed, task))
    if 0 in task.symbols:
        assert not accepts(sample, write_grid(question, task))


@pytest.mark.parametrize(
    ("rows", "right"),
    [
        ("12\n34\n", True),
        ("7\n", True),
        ("12\n3\n", False),
        ("1" * 31 + "\n", False),
        ("1\n" * 31, False),
        ("", False),
    ],
)
def test_free_grids_are_rectangles(rows: str, right: bool) -> None:
    assert accepts(ARC, f"{FENCE}\n{rows}{FENCE}") is right


def test_schemas_say_the_same() -> None:
    schema: dict[str, dict[str, dict[str, list[dict[str, str]]]]] = reply_format(SUDOKU).json_schema  # type: ignore[assignment]
    patterns = [string["pattern"] for string in schema["properties"]["rows"]["prefixItems"]]
    rows = ["".join(map(str, row)) for row in answer(SUDOKU).tolist()]
    assert all(re.fullmatch(pattern, row) for pattern, row in zip(patterns, rows, strict=True))
    given = next(zip(*np.nonzero(SUDOKU.grid), strict=True))
    changed = answer(SUDOKU).copy()
    changed[given] = changed[given] % 9 + 1
    assert not re.fullmatch(patterns[given[0]], "".join(map(str, changed[given[0]])))


def test_schemas_name_every_row() -> None:
    maze = reply_format(tasks.get("maze").parse("S#\n G")).json_schema
    first, second = ({"type": "string", "pattern": pattern} for pattern in ("^[S][\\#]$", "^[\\ o][G]$"))
    rows = {"type": "array", "prefixItems": [first, second], "items": False, "minItems": 2, "maxItems": 2}
    expected = {"type": "object", "properties": {"rows": rows}, "required": ["rows"]}
    assert maze == expected | {"additionalProperties": False}
    row = {"type": "string", "pattern": "^[0123456789]{1,30}$"}
    rows = {"type": "array", "items": row, "minItems": 1, "maxItems": 30}
    assert reply_format(ARC).json_schema == maze | {"properties": {"rows": rows}}


class Tokenizer:
    """A tokenizer that is nothing but its table."""

    all_special_ids = (0,)

    def __init__(self, *pieces: str) -> None:
        self.table = {piece: i for i, piece in enumerate(("<end>", *pieces))}

    def get_vocab(self) -> dict[str, int]:
        return self.table


TWO_WIDE = ReplyFormat("```\n(([12]\n){1,2}|([12]{2}\n){1,2})```", {})


def test_a_mask_allows_tokens_of_several_characters_and_the_end_only_at_the_end() -> None:
    vocabulary = grammar_vocabulary(Tokenizer("```", "Ċ", "1", "12", "21", "Ċ```", "x", "<0x0A>"), 0)

    def allowed(*tokens: int) -> set[int]:
        mask, kept = FormatMask(vocabulary, [TWO_WIDE, None], [0]), torch.zeros(2, 10)
        for length in range(len(tokens) + 1):  # as generation calls it: once a token
            row = [99, *tokens[:length]]
            kept = mask(torch.tensor([row, row]), torch.zeros(2, 10))
        assert torch.isfinite(kept[1]).all()
        return set(torch.isfinite(kept[0]).nonzero().flatten().tolist())

    assert allowed() == {1}
    assert allowed(1, 2) == {3, 4, 5}  # 1, 12, 21
    assert allowed(1, 2, 3) == {2, 3, 6, 8}  # a digit more, or the line's end; 12 would be too long
    assert allowed(1, 2, 4) == {2, 6, 8}
    assert allowed(1, 2, 4, 6) == allowed(1, 2, 4, 6, 0) == {0}


def test_a_tokenizer_that_cannot_write_the_format_is_named() -> None:
    mask = FormatMask(grammar_vocabulary(Tokenizer("1"), 0), [TWO_WIDE], [0])
    with pytest.raises(BackendError, match="tokenizer"):
        mask(torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 2))


@pytest.mark.network
def test_a_real_model_answers_in_the_format() -> None:
    """SmolLM2 solves no maze; kept to the format, what it writes is one all the same."""
    task = tasks.get("maze")
    question = task.parse("S  \n # \n  G")
    for draft in ChatProposer(connect("smollm2", "cpu")).propose(question, 2):
        assert draft.grids is not None
        kept = ~np.isin(question.grid, list(task.fills))
        assert (draft.grids[0][kept] == question.grid[kept]).all()
        assert draft.prompt_tokens > 100
        assert draft.error in (None, "the reply repeats the question")
