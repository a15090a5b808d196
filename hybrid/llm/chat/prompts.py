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
from hybrid.llm.chat.constrained import Cells, Form, Rows
from hybrid.llm.chat.parsing import Reading, read_grid
from hybrid.proposers import Draft, Feedback
from trm import tasks
from trm.grid import Grid
from trm.tasks import Puzzle, Task

MOST_VIOLATIONS = 8  # named in a re-ask: small models lose the thread of long lists
LONGEST_ECHO = 4000  # characters of an unreadable reply that are shown to the model again


class LLMProposer:
    """A proposer that prompts an `LLM`. max_tokens: of a reply; by default enough for the task's answer.

    constrained: replies are held to the form of an answer where the backend can: givens kept, symbols legal.
    """

    def __init__(self, llm: LLM, max_tokens: int | None = None, constrained: bool = True) -> None:
        self.llm = llm
        self.constrained = constrained
        self.name: str | None = llm.name
        self._max_tokens = max_tokens

    def propose(
        self, puzzle: Puzzle, drafts: int = 1, feedback: Feedback | None = None, seed: int = 0
    ) -> list[Draft]:
        """`drafts` drafts, the first of them greedy. Raises BackendError if the model cannot be asked.

        A puzzle with several inputs (ARC) takes one conversation for each.
        """
        return [read_draft(puzzle, one) for one in self.replies(puzzle, drafts, feedback, seed)]

    def propose_many(self, puzzles: Sequence[Puzzle], seed: int = 0) -> list[Draft]:
        """One greedy draft for each puzzle, all asked for together. Raises BackendError as `propose`."""
        made = self.replies_to(puzzles, seed=seed, concurrency=len(puzzles))
        return [read_draft(puzzle, replies[0]) for puzzle, replies in zip(puzzles, made, strict=True)]

    def replies(
        self, puzzle: Puzzle, drafts: int = 1, feedback: Feedback | None = None, seed: int = 0
    ) -> list[tuple[Reply, ...]]:
        """The raw replies behind `propose`: for every draft one for each input."""
        return self.replies_to([puzzle], drafts, feedback, seed)[0]

    def replies_to(
        self,
        puzzles: Sequence[Puzzle],
        drafts: int = 1,
        feedback: Feedback | None = None,
        seed: int = 0,
        concurrency: int = 1,
        done: Callable[[Puzzle, list[tuple[Reply, ...]]], None] = lambda puzzle, replies: None,
    ) -> list[list[tuple[Reply, ...]]]:
        """The raw replies about many puzzles, asked for together: [puzzle][draft][input].

        done: called with each puzzle and its replies as soon as it has them all.
        """
        asked = [(number, index) for number, p in enumerate(puzzles) for index in range(len(p.inputs))]
        heard: list[dict[int, list[Reply]]] = [{} for _ in puzzles]  # of each puzzle, by input
        whole: list[list[tuple[Reply, ...]]] = [[] for _ in puzzles]

        def keep(request: int, replies: list[Reply]) -> None:
            number, index = asked[request]
            heard[number][index] = replies
            if len(heard[number]) == len(puzzles[number].inputs):
                by_input = [heard[number][i] for i in range(len(heard[number]))]
                whole[number] = list(zip(*by_input, strict=True))
                done(puzzles[number], whole[number])

        requests = [self._request(puzzles[number], index, feedback) for number, index in asked]
        self.llm.chat_many(requests, samples=drafts, seed=seed, concurrency=concurrency, done=keep)
        return whole

    def _request(self, puzzle: Puzzle, index: int, feedback: Feedback | None) -> Request:
        return Request(
            conversation(puzzle, index, feedback),
            self._max_tokens or answer_tokens(puzzle, index),
            form_of(puzzle, index) if self.constrained else None,
        )


def conversation(puzzle: Puzzle, index: int = 0, feedback: Feedback | None = None) -> list[Message]:
    """The messages that ask for the answer to the puzzle's input number `index`.

    An example of the same task goes before, question and answer as the model is to write it. With feedback,
    the judged answer and what was wrong with it follow.
    """
    task = tasks.get(puzzle.task)
    asked = replace(puzzle, inputs=(puzzle.inputs[index],), answers=None)
    parts = template("draft")
    closing = parts["blanks" if _has_blanks(task) else "other"].template
    messages: list[Message] = [{"role": "system", "content": parts["system"].template}]
    for question in (*examples(task, puzzle), asked):
        shown = _spread(task.prompt_text(question), task)
        content = parts["user"].substitute(rules=task.rules, question=shown, closing=closing)
        messages.append({"role": "user", "content": content})
        if question.answers:
            messages.append({"role": "assistant", "content": _fenced(question.answers[0], task)})
    if feedback:
        grids = feedback.draft.grids
        said = _fenced(grids[index], task) if grids else feedback.draft.text[:LONGEST_ECHO]
        listed = "\n".join(f"- {violation}" for violation in feedback.violations[:MOST_VIOLATIONS])
        parts = template("repair")
        again = parts["user"].substitute(violations=listed or "- it cannot be read as a grid")
        if feedback.corrections:
            named = "\n".join(f"- {cell}" for cell in feedback.corrections[:MOST_VIOLATIONS])
            again += "\n\n" + parts["corrections"].substitute(corrections=named)
        again += "\n\n" + parts["closing"].template
        messages += [{"role": "assistant", "content": said}, {"role": "user", "content": again}]
    return messages


def examples(task: Task, puzzle: Puzzle) -> list[Puzzle]:
    """One solved sample of the task, never the puzzle itself; none where the puzzle brings its own."""
    if puzzle.demos:
        return []
    others = [s for s in task.samples() if s.answers and not np.array_equal(s.grid, puzzle.grid)]
    return others[:1]


def form_of(puzzle: Puzzle, index: int = 0) -> Form:
    """What a reply to the puzzle's input number `index` has to look like (`_fenced` writes the same)."""
    task = tasks.get(puzzle.task)
    choices = task.choices(puzzle, index)
    if choices is None:
        return Rows(max(task.height, task.width))
    rows = tuple(tuple("".join(map(_character, cell)) for cell in row) for row in choices)
    return Cells(rows, spread=_has_blanks(task))


def _character(symbol: int) -> str:
    return str(symbol) if symbol < 10 else chr(symbol)


def answer_tokens(puzzle: Puzzle, index: int = 0) -> int:
    """Tokens that an answer may take: two a cell (digit and separator), line ends, a sentence around it."""
    grids = [puzzle.inputs[index], *(output for _, output in puzzle.demos)]
    return max(2 * grid.size + 4 * len(grid) for grid in grids) + 64


def read_draft(puzzle: Puzzle, replies: Sequence[Reply]) -> Draft:
    """One reply for each input, read leniently. Grids only if every input has one."""
    task = tasks.get(puzzle.task)
    readings = [
        _reading(task, question, reply, free=bool(puzzle.demos))
        for question, reply in zip(puzzle.inputs, replies, strict=True)
    ]
    grids = tuple(reading.grid for reading in readings if reading.grid is not None)
    errors = [reading.error for reading in readings if reading.error]
    return Draft(
        grids if len(grids) == len(readings) else None,
        "\n\n".join(reply.text for reply in replies),
        "; ".join(errors) or None,
        sum(reply.tokens for reply in replies),
        sum(reply.seconds for reply in replies),
        sum(reply.prompt_tokens for reply in replies),
    )


def _reading(task: Task, question: Grid, reply: Reply, free: bool) -> Reading:
    """The reply's grid. A reply that was cut off or empty is named, unless the grid is whole all the same."""
    if not reply.text.strip():
        return Reading(None, reply.error or "empty reply")
    reading = read_grid(reply.text, task, question, free)
    cut = reply.error and (reading.error or free)  # where any shape goes, a grid cut short looks whole
    return Reading(reading.grid, "; ".join(filter(None, (reply.error, reading.error)))) if cut else reading


@cache
def template(purpose: str) -> dict[str, Template]:
    """The parts of prompts/PURPOSE.md by role: `# system`, `# user`."""
    parts = re.split(r"^# (\w+)\n", resources.text("hybrid.prompts", f"{purpose}.md"), flags=re.M)
    return {role: Template(text.strip("\n")) for role, text in zip(parts[1::2], parts[2::2], strict=True)}


def _has_blanks(task: Task) -> bool:
    return task.decidable and 0 in task.symbols  # in ARC, 0 is a colour


def _spread(text: str, task: Task) -> str:
    """Digits apart and blanks as `_`, in tasks that have blanks: each cell is then a token of its own.

    Written close together, or with dots for blanks, Qwen2.5-Coder-0.5B copies the question (LOG.md).
    """
    if not _has_blanks(task):
        return text
    return "\n".join(" ".join(line) for line in text.replace(".", "_").split("\n"))


def _fenced(grid: Grid, task: Task) -> str:
    """A grid as the prompt asks for it: rows on lines in a code block."""
    blank = "_" if _has_blanks(task) else "0"
    characters = {0: blank} | {digit: str(digit) for digit in range(1, 10)}
    rows = ("".join(characters.get(cell, chr(cell)) for cell in row) for row in grid.tolist())
    return "```\n" + _spread("\n".join(rows), task) + "\n```"
