"""What every language-model backend shares: messages, requests, replies and the `LLM` protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from hybrid.llm.chat.constrained import Form

Message = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": …}


class BackendError(RuntimeError):
    """Something an LLM needs is missing: model, file, network, server. One line for people."""


@dataclass(frozen=True)
class Request:
    """One conversation to be answered. form: what the reply has to look like."""

    messages: Sequence[Message]
    max_tokens: int = 512
    form: Form | None = None


@dataclass(frozen=True)
class Reply:
    """One completion. A failed one is a value, counted: `error` says what was wrong with it."""

    text: str
    tokens: int  # generated
    seconds: float  # its share of what the call took, so that the replies of one call add up to that
    error: str | None = None  # "truncated at 512 tokens", "empty content", …
    prompt_tokens: int = 0  # read; 0 where a server does not say


Heard = Callable[[int, list[Reply]], None]


def unheard(number: int, replies: list[Reply]) -> None:
    """For who waits for all replies."""


class LLM(Protocol):
    """A chat model. `name` is the resolved id with revision or SHA-256 and quantisation, for records;
    `parameters` how many it has, None where nobody says: two operations each a token (`eval`)."""

    name: str
    parameters: int | None

    def chat(
        self,
        messages: Sequence[Message],
        *,
        samples: int = 1,
        greedy_first: bool = True,
        seed: int = 0,
        max_tokens: int = 512,
        form: Form | None = None,
    ) -> list[Reply]:
        """`samples` replies to one conversation; the first greedy if `greedy_first`, the others sampled.

        form: what a reply has to look like. A backend that cannot see to it replies freely.

        Raises BackendError when no reply can be had at all.
        """
        ...

    def chat_many(
        self,
        requests: Sequence[Request],
        *,
        samples: int = 1,
        greedy_first: bool = True,
        seed: int = 0,
        concurrency: int = 1,
        done: Heard = unheard,
    ) -> list[list[Reply]]:
        """The same for many conversations at once, in order.

        done: called in this thread with the number of each conversation and its replies, as soon as it has them.

        concurrency: conversations that a server is asked at a time.
        """
        ...
