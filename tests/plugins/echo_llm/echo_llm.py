"""A language-model backend in a package of its own: `--llm echo:TEXT` names a model that always replies TEXT."""

from __future__ import annotations

from collections.abc import Sequence

from hybrid.llm.base import Backend, OnReplies, Reply, Request, ignore_replies


class EchoLLM:
    parameters = None

    def __init__(self, text: str) -> None:
        self.name, self.text = "echo", text

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
            words = self.text.split()
            error = "truncated" if len(words) > request.max_tokens else None
            replies.append([Reply(self.text, min(len(words), request.max_tokens), 0.0, error)] * samples)
            on_replies(number, replies[-1])
        return replies

    def stop(self) -> None:
        """Nothing here takes long."""


BACKEND = Backend(
    "echo:TEXT",
    lambda spec: spec.startswith("echo:"),
    lambda spec, device: EchoLLM(spec.removeprefix("echo:")),
)
