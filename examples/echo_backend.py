"""A language-model backend in one file: it hands every question back. docs/how-to/add-a-language-model.md explains.

python examples/echo_backend.py
"""

from __future__ import annotations

from collections.abc import Sequence

from hybrid.llm.base import Backend, OnReplies, Reply, Request, ignore_replies
from hybrid.llm.chat.prompts import ChatProposer
from trm.tasks import get


class Echo:
    """A chat model: `LLM` in hybrid/llm/base.py is its protocol."""

    name = "echo"
    parameters: int | None = 0

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
            words = request.messages[-1]["content"]
            replies.append([Reply(words, tokens=len(words.split()), seconds=0.0)] * samples)
            on_replies(number, replies[-1])
        return replies

    def stop(self) -> None:
        """Nothing runs for long here."""


BACKEND = Backend(expects="echo", accepts=lambda name: name == "echo", connect=lambda name, device: Echo())

if __name__ == "__main__":
    (draft,) = ChatProposer(BACKEND.connect("echo", "cpu")).propose(get("maze").samples()[0])
    print(draft.error or "a grid")
    print(draft.text.splitlines()[0])
