"""What every LLM backend promises: one contract, run over all of them."""

from __future__ import annotations

import httpx
import pytest

from hybrid.llm.base import LLM, Message
from hybrid.llm.chat.prompts import LLMProposer
from hybrid.llm.local import LocalLLM
from hybrid.llm.server import HTTPLLM
from hybrid.llm.store import fetch
from trm import tasks

ASK: list[Message] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say yes."}]


def _local() -> LLM:
    return LocalLLM(fetch.pull("smollm2", progress=False), "cpu")


def _http() -> LLM:
    def serve(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json={"data": [{"id": "mock"}]})
        choice = {"message": {"content": "yes"}, "finish_reason": "stop"}
        return httpx.Response(200, json={"choices": [choice], "usage": {"completion_tokens": 1}})

    return HTTPLLM("http://localhost/v1", transport=httpx.MockTransport(serve))


@pytest.fixture(scope="module", params=[_local, _http], ids=["local", "http"])
def llm(request: pytest.FixtureRequest) -> LLM:
    made: LLM = request.param()
    return made


def test_a_backend_names_what_answers(llm: LLM) -> None:
    assert llm.name
    assert "\n" not in llm.name


@pytest.mark.parametrize("samples", [1, 3])
def test_as_many_replies_as_asked(llm: LLM, samples: int) -> None:
    replies = llm.chat(ASK, samples=samples, max_tokens=6, seed=5)
    assert len(replies) == samples
    for reply in replies:
        assert 0 < reply.tokens <= 6
        assert reply.seconds >= 0
        assert reply.text.strip() or reply.error


def test_the_conversation_is_left_as_it_was(llm: LLM) -> None:
    messages = [dict(message) for message in ASK]
    llm.chat(messages, max_tokens=2)
    assert messages == ASK


def test_a_greedy_reply_repeats_itself(llm: LLM) -> None:
    first, again = (llm.chat(ASK, max_tokens=6, seed=seed)[0].text for seed in (1, 2))
    assert first == again


def test_drafts_are_values_whatever_the_reply(llm: LLM) -> None:
    puzzle = tasks.get("sudoku").parse("." * 81)
    for draft in LLMProposer(llm, max_tokens=6).propose(puzzle, drafts=2):
        assert draft.grids is None
        assert draft.error
        assert draft.tokens > 0
