"""Conversations as they are sent, and drafts out of the replies to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from hybrid.llm.base import Message, OnReplies, Reply, Request, ignore_replies
from hybrid.llm.chat.prompts import ChatProposer, answer_tokens, conversation, examples, read_draft
from trm import tasks
from trm.inference.proposals import Draft, Feedback
from trm.tasks import Puzzle

SUDOKU = tasks.get("sudoku")
SAMPLE = SUDOKU.samples()[0]
QUESTION = replace(SAMPLE, answers=None)
SOLVED = (SAMPLE.answers or ())[0]
SPACED = "\n".join(" ".join(map(str, row)) for row in SOLVED.tolist())
MAZE_PUZZLE = replace(tasks.get("maze").samples()[0], answers=None)


class ScriptedLLM:
    """An LLM that says these texts in turn, and remembers what it was asked."""

    name = "scripted"
    parameters = None

    def __init__(self, *texts: str) -> None:
        self.texts = list(texts)
        self.requests: list[tuple[Request, int]] = []

    def complete(
        self,
        requests: Sequence[Request],
        *,
        samples: int = 1,
        seed: int = 0,
        concurrency: int = 1,
        on_replies: OnReplies = ignore_replies,
    ) -> list[list[Reply]]:
        replies = []
        for number, request in enumerate(requests):
            self.requests.append((request, seed))
            replies.append([Reply(self.texts.pop(0), 10, 0.5) for _ in range(samples)])
            on_replies(number, replies[-1])
        return replies

    def stop(self) -> None:
        """Nothing here takes long."""


def test_many_puzzles_are_asked_about_together_one_draft_each() -> None:
    pair = tasks.get("arc").samples()[1]  # two inputs, a conversation each
    grid = "```\n1 2\n```"
    llm = ScriptedLLM(SPACED, grid, grid, "no idea")
    drafts = ChatProposer(llm).propose_many([QUESTION, pair, MAZE_PUZZLE], seed=5)
    assert [draft.grids is not None for draft in drafts] == [True, True, False]
    assert drafts[1].grids is not None
    assert len(drafts[1].grids) == 2
    assert [seed for _, seed in llm.requests] == [5] * 4


def test_drafts_of_a_conversation() -> None:
    llm = ScriptedLLM(SPACED, "no idea")
    good, bad = ChatProposer(llm).propose(QUESTION, drafts=2, seed=3)
    assert good.grids is not None
    np.testing.assert_array_equal(good.grids[0], SOLVED)
    assert (good.error, good.tokens, good.seconds, good.text) == (None, 10, 0.5, SPACED)
    assert (bad.grids, bad.error, bad.text) == (None, "no grid in the reply", "no idea")
    request, seed = llm.requests[0]
    assert (request.max_tokens, seed) == (answer_tokens(QUESTION), 3)
    messages: Sequence[Message] = request.messages
    assert messages[0]["role"] == "system"
    assert SUDOKU.rules in messages[-1]["content"]
    assert "$" not in "".join(message["content"] for message in messages)


def test_arc_takes_one_conversation_an_input() -> None:
    one, two = np.ones((2, 2), dtype=np.uint8), np.full((2, 2), 2, dtype=np.uint8)
    puzzle = Puzzle("arc", (one, two), demos=((one, two),))
    llm = ScriptedLLM("1 2\n3 4", "nothing", "5 6\n7 8", "9 9\n9 9")
    both, half = ChatProposer(llm).propose(puzzle, drafts=2)
    assert [grid.tolist() for grid in both.grids or ()] == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    assert both.tokens == 20
    assert (half.grids, half.error) == (None, "no grid in the reply")
    assert len(llm.requests) == 2


def test_a_truncated_reply_is_named_unless_the_grid_is_whole() -> None:
    whole = read_draft(
        QUESTION, [Reply(SPACED + "\nThis holds because", 300, 1.0, "truncated at 300 tokens")]
    )
    assert whole.grids is not None
    assert whole.error is None
    cut = read_draft(QUESTION, [Reply(SPACED[:100], 60, 1.0, "truncated at 60 tokens")])
    assert cut.grids is not None
    assert cut.error is not None
    assert cut.error.startswith("truncated at 60 tokens; ")
    empty = read_draft(QUESTION, [Reply("", 0, 1.0, "empty content")])
    assert (empty.grids, empty.error) == (None, "empty content")


def test_violations_are_named_in_the_next_conversation() -> None:
    feedback = Feedback(Draft((SOLVED,), "raw"), tuple(f"violation {n}" for n in range(20)))
    first, again = conversation(QUESTION), conversation(QUESTION, feedback=feedback)
    assert again[: len(first)] == first
    assert [message["role"] for message in again[len(first) :]] == ["assistant", "user"]
    assert SPACED in again[-2]["content"]
    assert "- violation 7\n" in again[-1]["content"]
    assert "violation 8" not in again[-1]["content"]
    named = replace(feedback, corrections=("row 1, column 3: 7 instead of 5",))
    assert "row 1, column 3: 7 instead of 5" in conversation(QUESTION, feedback=named)[-1]["content"]
    assert "Another solver" not in conversation(QUESTION, feedback=feedback)[-1]["content"]
    unread = conversation(QUESTION, feedback=Feedback(Draft(None, "prose"), ()))
    assert unread[-2]["content"] == "prose"
    assert "cannot be read" in unread[-1]["content"]


@pytest.mark.parametrize("name", ["sudoku", "maze"])
def test_the_example_is_never_the_puzzle_asked(name: str) -> None:
    task = tasks.get(name)
    for sample in task.samples():
        shown = examples(task, sample)
        assert all(not np.array_equal(example.grid, sample.grid) for example in shown)
        asked = conversation(replace(sample, answers=sample.answers))
        assert asked[-1]["role"] == "user"
