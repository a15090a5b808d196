"""Decoding that cannot go astray: forms, the mask that keeps to them, and a model that wears it."""

from __future__ import annotations

import json
import re
from typing import Any

import doubles
import httpx
import numpy as np
import pytest
import torch

from hybrid.llm.base import BackendError
from hybrid.llm.chat.constrained import CLOSE, OPEN, Form, Rows
from hybrid.llm.chat.masking import Mask, Spelling
from hybrid.llm.chat.prompts import LLMProposer, _fenced, form_of
from hybrid.llm.local import LocalLLM
from hybrid.llm.server import HTTPLLM, size_from
from hybrid.llm.store import fetch
from trm import tasks
from trm.tasks import Puzzle


def accepts(form: Form, text: str) -> bool:
    """Whether a text keeps to the form from its first character to its end."""
    return all(c in form.next(text[:i]) for i, c in enumerate(text)) and form.next(text) == ""


@pytest.mark.parametrize("name", tasks.names())
def test_a_right_answer_as_the_prompt_shows_it_keeps_to_the_form(name: str) -> None:
    task = tasks.get(name)
    for sample in task.samples():
        assert sample.answers is not None
        assert accepts(form_of(sample), _fenced(sample.answers[0], task))


def test_givens_are_kept_and_every_blank_filled() -> None:
    puzzle, task = doubles.sudoku(), tasks.get("sudoku")
    form = form_of(puzzle)
    grid = doubles.right(puzzle)[0].copy()
    grid[0, 0] = 9  # a given
    assert not accepts(form, _fenced(grid, task))
    grid[0, 0], grid[0, 2] = 5, 0  # a blank left blank
    assert not accepts(form, _fenced(grid, task))
    assert not accepts(form, _fenced(doubles.right(puzzle)[0], task)[:-1])


def test_a_maze_keeps_its_walls() -> None:
    puzzle, task = doubles.maze(), tasks.get("maze")
    for answer in doubles.PATHS[1:]:  # the first leads through the wall
        assert accepts(form_of(puzzle), _fenced(doubles.grids(puzzle, answer)[0], task))
    assert not accepts(form_of(puzzle), _fenced(doubles.grids(puzzle, doubles.PATHS[0])[0], task))


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("12\n34\n", True),
        ("7\n", True),
        ("12\n3\n", False),
        ("123456\n", False),
        ("1\n" * 6, False),
        ("", False),
    ],
)
def test_free_grids_are_rectangles(text: str, right: bool) -> None:
    assert accepts(Rows(5), OPEN + text + CLOSE) is right


def test_schemas_say_the_same() -> None:
    puzzle = doubles.sudoku()
    strings = form_of(puzzle).schema()["properties"]["rows"]["prefixItems"]
    rows = ["".join(map(str, row)) for row in doubles.right(puzzle)[0].tolist()]
    assert all(re.match(s["pattern"], row) for s, row in zip(strings, rows, strict=True))
    assert not re.match(strings[0]["pattern"], "9" + rows[0][1:])
    assert re.match(Rows(30).schema()["properties"]["rows"]["items"]["pattern"], "0123")


class Vocabulary:
    """A tokenizer that is nothing but its table."""

    all_special_ids = (0,)

    def __init__(self, *pieces: str) -> None:
        self.table = {piece: i for i, piece in enumerate(("<end>", *pieces))}

    def get_vocab(self) -> dict[str, int]:
        return self.table


def test_a_mask_allows_tokens_of_several_characters_and_the_end_only_at_the_end() -> None:
    spelling = Spelling(Vocabulary("```", "Ċ", "1", "12", "21", "Ċ```", "x"))
    form = Rows(2, "12")
    mask = Mask(spelling, [form], 1, [0])

    def allowed(*tokens: int) -> set[int]:
        kept = mask(torch.tensor([[99, *tokens]]), torch.zeros(1, 8))[0]
        return set(torch.isfinite(kept).nonzero().flatten().tolist())

    assert allowed() == {1}
    assert allowed(1, 2) == {3, 4, 5}  # 1, 12, 21
    assert allowed(1, 2, 3) == {2, 3, 6}  # a digit more, or the line's end; 12 would be too long
    assert allowed(1, 2, 4) == {2, 6}
    assert allowed(1, 2, 4, 6) == allowed(1, 2, 4, 6, 0) == {0}


def test_a_tokenizer_that_cannot_spell_is_named() -> None:
    mask = Mask(Spelling(Vocabulary("1")), [Rows(2)], 0, [0])
    with pytest.raises(BackendError, match="cannot spell"):
        mask(torch.zeros(1, 0, dtype=torch.int64), torch.zeros(1, 2))


def test_a_real_model_fills_a_sudoku_in() -> None:
    """SmolLM2 knows no Sudoku; held to the form, what it says is one all the same."""
    rng = np.random.default_rng(0)
    llm = LocalLLM(fetch.pull("smollm2", progress=False), "cpu")
    puzzle = doubles.sudoku()
    question = doubles.right(puzzle)[0] * (rng.random((9, 9)) < 0.9).astype(np.uint8)
    asked = Puzzle("sudoku", (question,))
    first, second = LLMProposer(llm).propose(asked, 2)
    for draft in (first, second):
        assert draft.error is None
        assert draft.grids is not None
        assert (draft.grids[0][question > 0] == question[question > 0]).all()
        assert (draft.grids[0] > 0).all()
    assert first.prompt_tokens > 200


# -- servers -------------------------------------------------------------------------------------------------
def served(answer: Any) -> HTTPLLM:
    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/models"):
            return httpx.Response(200, json={"data": [{"id": "Tiny-1.5B"}]})
        response: httpx.Response = answer(json.loads(request.content))
        return response

    return HTTPLLM("http://localhost:1/v1", transport=httpx.MockTransport(handle), sleep=lambda _: None)


def test_a_server_gets_the_form_as_json_schema_and_its_rows_are_read() -> None:
    puzzle = doubles.sudoku()
    rows = ["".join(map(str, row)) for row in doubles.right(puzzle)[0].tolist()]
    bodies: list[Any] = []

    def answer(body: Any) -> httpx.Response:
        bodies.append(body)
        message = {"content": json.dumps({"rows": rows})}
        usage = {"completion_tokens": 90, "prompt_tokens": 300}
        return httpx.Response(
            200, json={"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}
        )

    llm = served(answer)
    (draft,) = LLMProposer(llm).propose(puzzle)
    assert bodies[0]["response_format"]["json_schema"]["schema"]["properties"]["rows"]["minItems"] == 9
    assert (draft.tokens, draft.prompt_tokens, draft.error) == (90, 300, None)
    assert np.array_equal(draft.grids, doubles.right(puzzle))
    assert llm.parameters == 1_500_000_000


def test_a_server_that_knows_no_schemas_is_asked_freely() -> None:
    asked: list[bool] = []

    def answer(body: Any) -> httpx.Response:
        asked.append("response_format" in body)
        if asked[-1]:
            return httpx.Response(400, json={"error": {"message": "response_format is not supported"}})
        return httpx.Response(
            200, json={"choices": [{"message": {"content": "no idea"}, "finish_reason": "stop"}]}
        )

    proposer = LLMProposer(served(answer))
    assert proposer.propose(doubles.sudoku())[0].grids is None
    proposer.propose(doubles.sudoku())
    assert asked == [True, True, False, False]


def test_a_server_that_ignores_one_dialect_is_asked_in_the_other() -> None:
    puzzle = doubles.sudoku()
    rows = ["".join(map(str, row)) for row in doubles.right(puzzle)[0].tolist()]
    kinds: list[str] = []

    def answer(body: Any) -> httpx.Response:
        kinds.append(body["response_format"]["type"])
        text = json.dumps({"rows": rows}) if kinds[-1] == "json_object" else "As you wish: 1 2 3"
        return httpx.Response(
            200, json={"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
        )

    proposer = LLMProposer(served(answer))
    for _ in range(2):
        assert np.array_equal(proposer.propose(puzzle)[0].grids, doubles.right(puzzle))
    assert kinds == ["json_schema", "json_object", "json_object"]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("Qwen2.5-Coder-0.5B-Instruct", 500_000_000),
        ("SmolLM2-135M", 135_000_000),
        ("gpt-4o", None),
        ("a7bc", None),
    ],
)
def test_a_models_size_is_what_its_name_says(name: str, size: int | None) -> None:
    assert size_from(name) == size
