"""Asks a language model for drafts: prompts from `prompts/`, rules from the task, grids out of replies."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from string import Template

import numpy as np

from hybrid import resources
from hybrid.llm.base import LLM, Message, Reply, Request
from hybrid.llm.chat.grid_text import has_blanks, read_cells, reply_format, spread, write_grid
from hybrid.llm.chat.parsing import Reading, read_grid
from trm import tasks
from trm.grid import Grid, character
from trm.inference.proposals import Draft, Feedback, ProposedGrid
from trm.tasks import Puzzle, Task

MOST_VIOLATIONS = 8  # named when asking again: small models lose the thread of long lists
LONGEST_REPEATED = 4000  # characters of an unreadable reply that are shown to the model again

Replies = tuple[Reply, ...]  # behind one draft: one for each input of the puzzle


class ChatProposer:
    """A proposer that prompts an `LLM`.

    max_tokens: of a reply; by default enough for the task's answer.
    constrained: whether replies are kept to the format of an answer, givens included, where the backend can.
    """

    def __init__(self, llm: LLM, max_tokens: int | None = None, constrained: bool = True) -> None:
        self.llm = llm
        self.constrained = constrained
        self.name: str | None = llm.name
        self._max_tokens = max_tokens

    @property
    def parameters(self) -> int | None:
        """How many weights the model has; None if unknown."""
        return self.llm.parameters

    def propose(
        self, puzzle: Puzzle, drafts: int = 1, feedback: Feedback | None = None, seed: int = 0
    ) -> list[Draft]:
        """`drafts` drafts, the first of them greedy. Raises BackendError if the model cannot be asked.

        A puzzle with several inputs (ARC) takes one conversation for each.
        """
        return [read_draft(puzzle, replies) for replies in self.replies(puzzle, drafts, feedback, seed)]

    def propose_many(self, puzzles: Sequence[Puzzle], seed: int = 0) -> list[Draft]:
        """One greedy draft for each puzzle, asked for together. Raises BackendError as `propose`."""
        drafts = self.replies_to(puzzles, seed=seed, concurrency=len(puzzles))
        return [read_draft(puzzle, replies) for puzzle, (replies,) in zip(puzzles, drafts, strict=True)]

    def stop(self) -> None:
        """Make a `propose` that runs in another thread raise BackendError soon."""
        self.llm.stop()

    def replies(
        self, puzzle: Puzzle, drafts: int = 1, feedback: Feedback | None = None, seed: int = 0
    ) -> list[Replies]:
        """The raw replies behind `propose`, for every draft."""
        return self.replies_to([puzzle], drafts, feedback, seed)[0]

    def replies_to(
        self,
        puzzles: Sequence[Puzzle],
        drafts: int = 1,
        feedback: Feedback | None = None,
        seed: int = 0,
        concurrency: int = 1,
        done: Callable[[Puzzle, list[Replies]], None] = lambda puzzle, replies: None,
    ) -> list[list[Replies]]:
        """The raw replies about many puzzles, asked for together: for every puzzle, for every draft.

        done: called with each puzzle and its replies as soon as all of them are there.
        """
        asked = [(number, index) for number, p in enumerate(puzzles) for index in range(len(p.inputs))]
        by_input: list[dict[int, list[Reply]]] = [{} for _ in puzzles]
        complete: list[list[Replies]] = [[] for _ in puzzles]

        def keep(request: int, replies: list[Reply]) -> None:
            number, index = asked[request]
            by_input[number][index] = replies
            if len(by_input[number]) == len(puzzles[number].inputs):
                complete[number] = list(
                    zip(*(by_input[number][i] for i in sorted(by_input[number])), strict=True)
                )
                done(puzzles[number], complete[number])

        requests = [self._request(puzzles[number], index, feedback) for number, index in asked]
        self.llm.complete(requests, samples=drafts, seed=seed, concurrency=concurrency, on_replies=keep)
        return complete

    def _request(self, puzzle: Puzzle, index: int, feedback: Feedback | None) -> Request:
        return Request(
            conversation(puzzle, index, feedback),
            self._max_tokens or answer_tokens(puzzle, index),
            reply_format(puzzle, index) if self.constrained else None,
        )


def conversation(puzzle: Puzzle, index: int = 0, feedback: Feedback | None = None) -> list[Message]:
    """The messages that ask for the answer to the puzzle's input number `index`.

    An example of the same task goes before, question and answer as the model is to write it. With feedback,
    the judged answer and what was wrong with it follow.
    """
    task = tasks.get(puzzle.task)
    question = replace(puzzle, inputs=(puzzle.inputs[index],), answers=None)
    parts = template("draft")
    closing = parts["other"].template
    if has_blanks(task):
        closing = parts["blanks"].substitute(symbols=_symbols(task))
    messages: list[Message] = [{"role": "system", "content": parts["system"].template}]
    for shown in (*examples(task, puzzle), question):
        text = spread(task.prompt_text(shown), task)
        content = parts["user"].substitute(rules=task.rules, question=text, closing=closing)
        messages.append({"role": "user", "content": content})
        if shown.answers:
            messages.append({"role": "assistant", "content": write_grid(shown.answers[0], task)})
    if feedback:
        grids = feedback.draft.grids
        draft = write_grid(grids[index], task) if grids else feedback.draft.text[:LONGEST_REPEATED]
        parts = template("repair")
        violations = _list(feedback.violations) or "- it cannot be read as a grid"
        paragraphs = [parts["user"].substitute(violations=violations)]
        if feedback.corrections:
            paragraphs.append(parts["corrections"].substitute(corrections=_list(feedback.corrections)))
        paragraphs.append(parts["closing"].template)
        messages.append({"role": "assistant", "content": draft})
        messages.append({"role": "user", "content": "\n\n".join(paragraphs)})
    return messages


def _symbols(task: Task) -> str:
    """What a blank may become, in words: `a digit from 1 to 9`."""
    digits = sorted(task.fills[0])
    if digits[-1] > 9:
        return f"a digit from {digits[0]} to 9 or a letter from A to {character(digits[-1])}"
    return f"a digit from {digits[0]} to {digits[-1]}"


def _list(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences[:MOST_VIOLATIONS])


def examples(task: Task, puzzle: Puzzle) -> list[Puzzle]:
    """One solved sample of the task, never the puzzle itself; none where the puzzle brings its own."""
    if puzzle.demos:
        return []
    others = [s for s in task.samples() if s.answers and not np.array_equal(s.grid, puzzle.grid)]
    return others[:1]


def answer_tokens(puzzle: Puzzle, index: int = 0) -> int:
    """Tokens that an answer may take: two a cell (digit and separator), line ends, a sentence around it."""
    grids = [puzzle.inputs[index], *(output for _, output in puzzle.demos)]
    return max(2 * grid.size + 4 * len(grid) for grid in grids) + 64


def read_draft(puzzle: Puzzle, replies: Sequence[Reply]) -> Draft:
    """One reply for each input, read leniently. Grids only if every input has one."""
    task = tasks.get(puzzle.task)
    readings = [_reading(task, *pair) for pair in zip(puzzle.inputs, replies, strict=True)]
    grids = tuple(reading.grid for reading in readings if reading.grid is not None)
    errors = [reading.error for reading in readings if reading.error]
    return Draft(
        grids if len(grids) == len(readings) else None,
        "\n\n".join(reply.text for reply in replies),
        "; ".join(errors) or None,
        sum(reply.tokens for reply in replies),
        sum(reply.seconds for reply in replies),
        sum(reply.prompt_tokens for reply in replies),
        tuple(
            tuple(ProposedGrid(read_cells(text), share, score) for text, share, score in reply.candidates)
            for reply in replies
        )
        if all(reply.candidates for reply in replies)
        else (),
    )


def _reading(task: Task, question: Grid, reply: Reply) -> Reading:
    """The reply's grid. A reply that was cut off or empty is named, unless the grid is whole all the same."""
    if not reply.text.strip():
        return Reading(None, reply.error or "empty reply")
    reading = read_grid(reply.text, task, question)
    if reply.error and (reading.error or not task.fills):  # of any shape, a grid cut short looks whole
        return Reading(reading.grid, "; ".join(filter(None, (reply.error, reading.error))))
    return reading


@cache
def template(purpose: str) -> dict[str, Template]:
    """The parts of prompts/PURPOSE.md by the names of its headings: `# system`, `# user`."""
    parts = re.split(r"^# (\w+)\n", resources.text("hybrid.prompts", f"{purpose}.md"), flags=re.M)
    return {name: Template(text.strip("\n")) for name, text in zip(parts[1::2], parts[2::2], strict=True)}
