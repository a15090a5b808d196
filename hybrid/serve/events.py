"""What happens to a puzzle, as the JSON that a stream of events sends."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybrid.answer import Answer, draft_json, step_json
from hybrid.serve.guard import CODES
from trm.grid import Grid, GridKey, Grids, grid_key
from trm.inference.proposals import CheckedDraft
from trm.inference.rollouts import SOURCE_COLD, SOURCE_FROM_DRAFT, Attempt, RolloutStep
from trm.inference.selection import SOURCE_DRAFT
from trm.tasks import Puzzle, Status, get

Json = dict[str, Any]
MOST_CANDIDATES = 12  # of an input that an answer tells of
NOT_VERIFIED = "No attempt was verified."
NO_SOLUTION = f"{NOT_VERIFIED} The clues may have no solution, or the search was too short."


@dataclass(frozen=True)
class Event:
    """name: `started`, `drafting`, `draft`, `adapting`, `step`, `answer` or `error`. The last two end a puzzle.

    status: of an error, the HTTP status that says the same.
    """

    name: str
    data: Json
    status: int = 200

    @property
    def last(self) -> bool:
        return self.name in ("answer", "error")


def error_event(status: int, message: str, code: str | None = None) -> Event:
    return Event("error", {"message": message, "code": code or CODES[status]}, status)


def draft_event(puzzle: Puzzle, draft: CheckedDraft, number: int) -> Event:
    grids = draft.draft.grids
    data = {"draft": number, **draft_json(get(puzzle.task), draft)}
    return Event("draft", data | {"grids": texts(puzzle, grids), "broken": broken(puzzle, grids)})


def step_event(puzzle: Puzzle, step: RolloutStep, attempt: int) -> Event:
    """attempt: the number of the rollout, from 1, in the order in which rollouts began."""
    task = get(puzzle.task)
    known = step_json(task, step)
    for shown, cycle in zip(known["cycles"], step.cycles, strict=True):
        shown["broken"] = violations(puzzle, cycle.grid, step.index)
    return Event(
        "step",
        {
            "attempt": attempt,
            "source": step.request.source,
            "input": step.index + 1,
            "step": step.number,
            "grid": task.text((step.grid,)),
            "broken": violations(puzzle, step.grid, step.index),
            **known,
        },
    )


def answer_event(answer: Answer, with_trace: bool, detailed: bool) -> Event:
    """The contract's record; detailed: also where rules are broken, every attempt, and the votes for candidates."""
    record = record_of(answer, with_trace)
    if not detailed:
        return Event("answer", record)
    puzzle = answer.puzzle
    return Event(
        "answer",
        {
            "record": record,
            "grids": texts(puzzle, answer.grids),
            "broken": broken(puzzle, answer.grids),
            "attempts": [attempt_json(puzzle, attempt) for attempt in answer.attempts],
            "votes": [] if answer.task.has_checker else votes(answer),
        },
    )


def record_of(answer: Answer, with_trace: bool) -> Json:
    """The contract's record without folders; where no attempt was verified, a `note` says so."""
    record = answer.to_json(answers=bool(answer.alternatives), trace=with_trace)
    if answer.grids is not None and answer.verdict.status == Status.UNSOLVED:
        sure = answer.task.has_ends  # that there is a solution: a maze without a way is refused
        record["note"] = NOT_VERIFIED if sure else NO_SOLUTION
    return record | {name: _without_folders(record[name]) for name in ("llm", "refiner")}


def _without_folders(name: str | None) -> str | None:
    """A resolved model's name, which may begin with the path of a file of this machine, without its folders."""
    where, mark, revision = (name or "").partition("@")
    return f"{Path(where).name}{mark}{revision}" if name and Path(where).exists() else name


def attempt_json(puzzle: Puzzle, attempt: Attempt) -> Json:
    return {
        "source": attempt.source,
        "grids": texts(puzzle, attempt.grids),
        "confidence": round(attempt.confidence, 6),
        "status": str(attempt.verdict.status),
        "steps": attempt.steps,
    }


def votes(answer: Answer) -> list[list[Json]]:
    """For every input the distinct grids that were named, the answer's guesses first.

    Where network and proposer were ranked together, with the probability that each is right, the shares of the
    network's attempts and of the proposer's views that name it, and the proposer's score; else with votes.
    """
    count = range(len(answer.puzzle.inputs))
    return [_ranked(answer, index) if answer.pool else _counted(answer, index) for index in count]


def _ranked(answer: Answer, index: int) -> list[Json]:
    return [
        {
            "grid": answer.task.text((each.grid,)),
            "guess": place if place <= len(answer.candidates[index]) else None,
            "probability": round(each.probability, 4),
            "shares": {SOURCE_COLD: each.cold, SOURCE_FROM_DRAFT: each.drafted, SOURCE_DRAFT: each.proposed},
            "score": None if each.score is None else round(each.score, 4),
        }
        for place, each in enumerate(answer.pool[index][:MOST_CANDIDATES], 1)
    ]


def _counted(answer: Answer, index: int) -> list[Json]:
    """votes: of attempts and drafts, sources: of whom. confidence: the highest of the attempts that say so."""
    named: dict[GridKey, list[tuple[str, float | None]]] = {}
    grids: dict[GridKey, Grid] = {}
    ballots: list[tuple[Grid, str, float | None]] = [
        (each.grids[index], each.source, each.confidence) for each in answer.attempts
    ]
    ballots += [
        (d.draft.grids[index], SOURCE_DRAFT, None) for d in answer.drafts if d.draft.grids is not None
    ]
    for grid, source, confidence in ballots:
        named.setdefault(grid_key(grid), []).append((source, confidence))
        grids.setdefault(grid_key(grid), grid)
    guesses = [grid_key(grid) for grid in answer.candidates[index]] if answer.candidates else []
    others = sorted((key for key in grids if key not in guesses), key=lambda key: -len(named[key]))
    return [
        {
            "grid": answer.task.text((grids[key],)),
            "guess": guesses.index(key) + 1 if key in guesses else None,
            "votes": len(named[key]),
            "sources": Counter(source for source, _ in named[key]),
            "confidence": max((c for _, c in named[key] if c is not None), default=None),
        }
        for key in [*guesses, *others][:MOST_CANDIDATES]
    ]


def texts(puzzle: Puzzle, grids: Grids | None) -> list[str]:
    """Each grid of an answer as its task writes it."""
    return [get(puzzle.task).text((grid,)) for grid in grids or ()]


def broken(puzzle: Puzzle, grids: Grids | None) -> list[list[Json]]:
    """For every input the broken rules; nothing where there is no answer of as many grids."""
    if grids is None or len(grids) != len(puzzle.inputs):
        return []
    return [violations(puzzle, grid, index) for index, grid in enumerate(grids)]


def violations(puzzle: Puzzle, grid: Grid, index: int) -> list[Json]:
    """The rules that a grid breaks, in words, and the cells that break them as [row, column] from 0."""
    task, question = get(puzzle.task), puzzle.inputs[index]
    if task.fills and grid.shape != question.shape:
        return [{"words": "the grid has another shape than the question", "cells": []}]
    return [
        {"words": v.words, "cells": [list(cell) for cell in v.cells]} for v in task.violations(question, grid)
    ]
