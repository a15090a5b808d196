"""`/v1/chat/completions`: a puzzle in the user's message is answered as a chat model would answer it."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hybrid.serve.schemas import ChatRequest
from trm import tasks
from trm.grid import PuzzleError
from trm.tasks import Puzzle, Status

NO_PUZZLE = (
    "I solve puzzles, and found none that can be solved in your last message: {reason}. Send a Sudoku as 81 "
    "characters or nine lines (. for a blank), a maze of # S G and spaces, or an ARC task as JSON, best in a code "
    "block."
)
Json = dict[str, Any]


class UnsupportedError(ValueError):
    """A parameter that cannot be left out of account without a wrong answer. param: its name."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


def refuse_unsupported(request: ChatRequest) -> None:
    """Raises UnsupportedError. What only shapes a model's style is ignored, as other servers do."""
    if request.n not in (None, 1):
        raise UnsupportedError("n", f"n {request.n}: expected 1, a puzzle has one verified answer")
    if request.logprobs:
        raise UnsupportedError("logprobs", "logprobs: an answer has none, expected false")
    if request.tool_choice not in (None, "none", "auto"):
        raise UnsupportedError("tool_choice", "tool_choice: no tool is ever called, expected none or auto")
    if request.response_format is not None and request.response_format.type == "json_schema":
        form = "json_schema: the record has a form of its own, expected json_object or text"
        raise UnsupportedError("response_format", form)
    if request.seed is not None and not 0 <= request.seed < 2**32:
        raise UnsupportedError("seed", f"seed {request.seed}: expected 0 to 4294967295")


def question_of(request: ChatRequest) -> str:
    """The last message of the user; empty where there is none."""
    return next((m.text for m in reversed(request.messages) if m.role == "user"), "")


def no_puzzle_text(request: ChatRequest, error: PuzzleError) -> str:
    """What is said where there is no puzzle; an object where the client wants JSON."""
    text = NO_PUZZLE.format(reason=error)
    return json.dumps({"error": text}, ensure_ascii=False) if wants_json(request) else text


def wants_json(request: ChatRequest) -> bool:
    return request.response_format is not None and request.response_format.type != "text"


def reply_text(request: ChatRequest, puzzle: Puzzle, record: Json) -> str:
    """The answer in words, its grid in a code block; the record itself where the client wants JSON."""
    if wants_json(request):
        return json.dumps(record, ensure_ascii=False)
    status, name = record["status"], record["task"]
    if record["answer"] is None:
        return f"I have no answer to this {name}: {'; '.join(record['violations'][:3])}."
    grid = f"```\n{_drawn(puzzle, record['answer'])}\n```"
    if status == Status.VERIFIED:
        return f"{grid}\nVerified: the exact rules hold."
    if status == Status.UNVERIFIED:
        sure = record["confidence"]
        words = "" if sure is None else f" The confidence is {sure:.2f}."
        return f"{grid}\nUnverified: no rule can decide whether it is right.{words}"
    head = f"I could not solve this {name}. {record['note']} The best attempt breaks rules:"
    return "\n".join([head, grid, *(f"- {words}" for words in record["violations"][:8])])


def _drawn(puzzle: Puzzle, answer: str | list[Any]) -> str:
    """The answer, each row on a line of its own; where there are several guesses, the first."""
    if isinstance(answer, str):
        task = tasks.get(puzzle.task)
        return task.prompt_text(replace(puzzle, inputs=task.parse_answer(puzzle, answer)))
    return "\n\n".join("\n".join(" ".join(map(str, row)) for row in choice[0]) for choice in answer)


def usage(record: Json | None) -> Json:
    """The tokens that a language model wrote; what it read is not in the record."""
    written = sum(draft["tokens"] for draft in record["drafts"]) if record is not None else 0
    return {"prompt_tokens": 0, "completion_tokens": written, "total_tokens": written}


class Completion:
    """The envelope of one reply, whole or in chunks."""

    def __init__(self, model: str) -> None:
        self._head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}

    def whole(self, text: str, record: Json | None) -> Json:
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        return {**self._head, "object": "chat.completion", "choices": [choice], "usage": usage(record)}

    def first_chunk(self) -> str:
        return self._chunk({"role": "assistant", "content": ""})

    def last_chunks(self, text: str, record: Json | None, with_usage: bool) -> Iterator[str]:
        """The text line by line, and the end."""
        for line in text.splitlines(keepends=True):
            yield self._chunk({"content": line})
        yield self._chunk({}, "stop")
        if with_usage:
            yield _data(
                {**self._head, "object": "chat.completion.chunk", "choices": [], "usage": usage(record)}
            )
        yield "data: [DONE]\n\n"

    def _chunk(self, delta: Json, finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _data({**self._head, "object": "chat.completion.chunk", "choices": [choice]})


def _data(value: Json) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"
