"""What every language-model backend shares: messages, requests, replies, and the protocol of a chat model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from trm.inference.proposals import ProposerError

Message = dict[str, str]  # {"role": "system" | "user" | "assistant", "content": …}


class BackendError(ProposerError):
    """Something that a language model needs is missing: model, file, network, server. One line for people."""


@dataclass(frozen=True)
class ReplyFormat:
    """What a reply has to look like: `regex` for models that run here, `json_schema` for servers."""

    regex: str  # of the whole reply
    json_schema: dict[str, object]


@dataclass(frozen=True)
class Request:
    """A conversation that the model is to continue with one reply of at most `max_tokens`."""

    messages: Sequence[Message]
    max_tokens: int = 512
    format: ReplyFormat | None = None  # a backend that cannot constrain replies ignores it


@dataclass(frozen=True)
class Reply:
    """One completion. A failed one is a value too, so that it is counted: `error` says what was wrong.

    unanswered: no model wrote it, for its server failed on this request; asked again, it may answer.
    """

    text: str
    tokens: int  # generated
    seconds: float  # its share of the call, so that the replies of a call add up to what was waited
    error: str | None = None  # "truncated at 512 tokens", "empty content", …
    prompt_tokens: int = 0  # read; 0 where a server does not say
    # Grids as text with their shares of views and scores, of a model that names several (`ProposedGrid`).
    candidates: Sequence[tuple[str, float, float | None]] = ()
    unanswered: bool = False


OnReplies = Callable[[int, list[Reply]], None]  # takes a request's number and its replies


def ignore_replies(number: int, replies: list[Reply]) -> None:
    """The callback of a caller that waits for all replies."""


class LLM(Protocol):
    """A chat model.

    name: the resolved id with revision or SHA-256 and quantisation, for records.
    parameters: how many weights it has, None if unknown. `eval` counts two operations a weight and token.
    """

    name: str
    parameters: int | None

    def complete(
        self,
        requests: Sequence[Request],
        *,
        samples: int = 1,
        seed: int = 0,
        concurrency: int = 1,
        on_replies: OnReplies = ignore_replies,
    ) -> list[list[Reply]]:
        """`samples` replies to each request, in order; the first reply is greedy, the others are sampled.

        concurrency: how many requests a server works on at a time.
        on_replies: called in this thread as soon as all replies to a request are there.
        Raises BackendError if the model cannot be asked at all. What concerns one request is an error in its replies.
        """
        ...

    def stop(self) -> None:
        """Make `complete`, running in another thread, raise BackendError soon."""
        ...


@dataclass(frozen=True)
class Backend:
    """A kind of language model. `hybrid.llm.registry` finds those of this project and of other packages.

    expects: the names that it accepts, in words, for the message about an unknown name.
    accepts: whether a name is this backend's. connect: the model of that name on that device; raises BackendError.
    """

    expects: str
    accepts: Callable[[str], bool]
    connect: Callable[[str, str], LLM]
