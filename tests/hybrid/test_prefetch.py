"""Drafts that are made while the network refines others: the same answers, in the same order."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import doubles
import pytest
from doubles import Asked, ScriptedLLM, sudoku
from rich.console import Console

from hybrid import solving
from hybrid.answer import Answer
from hybrid.llm.chat.prompts import ChatProposer
from hybrid.pipeline import Pipeline
from hybrid.prefetch import in_turn, prefetch
from hybrid.render import Notes
from trm.grid import Grid
from trm.inference.config import SearchConfig
from trm.inference.proposals import Blank, CheckedDraft, Draft, Feedback, ProposerError
from trm.inference.refiner import Refiner
from trm.inference.search import Callbacks
from trm.tasks import Puzzle

SECONDS = 20.0  # for what has to happen; a test that waits so long has failed
PUZZLES = [sudoku(name) for name in "abcde"]


# -- the helper ----------------------------------------------------------------------------------------------
def test_the_next_is_made_while_this_one_is_used_and_no_further() -> None:
    begun = [threading.Event() for _ in range(4)]

    def make(number: int) -> int:
        begun[number].set()
        return 10 * number

    results = []
    for number, take in prefetch(range(4), make):
        results.append(take())
        if number < 3:
            assert begun[number + 1].wait(SECONDS)
        assert not any(event.is_set() for event in begun[number + 2 :])
    assert results == [take() for _, take in in_turn(range(4), make)] == [0, 10, 20, 30]
    assert list(prefetch([], make)) == []


def test_an_error_is_raised_where_its_result_is_taken() -> None:
    def make(number: int) -> int:
        if number == 1:
            raise ValueError("failed")
        return number

    results: list[object] = []
    for _, take in prefetch(range(3), make):
        try:
            results.append(take())
        except ValueError as error:
            results.append(str(error))
    assert results == [0, "failed", 2]


def test_closing_stops_what_is_under_way() -> None:
    begun, stopped, ended = threading.Event(), threading.Event(), threading.Event()

    def make(number: int) -> int:
        if number == 1:
            begun.set()
            assert stopped.wait(SECONDS)
            ended.set()
        return number

    drafting = prefetch(range(3), make, stopped.set)
    assert next(drafting)[1]() == 0
    assert begun.wait(SECONDS)
    drafting.close()
    assert ended.is_set()


# -- the pipeline --------------------------------------------------------------------------------------------
class Batches:
    """A proposer for many at once, whose drafts depend on the puzzle and the seed."""

    name: str | None = "batches"

    def __init__(self, fails_at: str = "") -> None:
        self.fails_at, self.begun = fails_at, [threading.Event() for _ in PUZZLES]
        self.groups: list[str] = []
        self.single: list[str] = []
        self.stopped = threading.Event()

    def propose(
        self, puzzle: Puzzle, drafts: int = 1, feedback: Feedback | None = None, seed: int = 0
    ) -> list[Draft]:
        self.single.append(puzzle.id)
        return [self._draft(puzzle, seed + number) for number in range(drafts)]

    def propose_many(self, puzzles: Sequence[Puzzle], seed: int = 0) -> list[Draft]:
        ids = "".join(puzzle.id for puzzle in puzzles)
        self.groups.append(ids)
        self.begun[len(self.groups) - 1].set()
        if self.fails_at and self.fails_at in ids:
            raise ProposerError("localhost: connection refused")
        return [self._draft(puzzle, seed) for puzzle in puzzles]

    def stop(self) -> None:
        self.stopped.set()

    def _draft(self, puzzle: Puzzle, seed: int) -> Draft:
        number = ord(puzzle.id) + seed
        if number % 4 == 0:
            return Draft(None, "raw", "reply held 7 rows, expected 9", tokens=number)
        grid = doubles.wrong(puzzle)[0].copy()
        grid[8, 0] = number % 9 + 1
        return Draft((grid,), f"raw {number}", tokens=number)


class Listener(Callbacks):
    def __init__(self) -> None:
        self.events: list[str] = []

    def started(self, puzzles: Sequence[Puzzle]) -> None:
        self.events.append("started " + "".join(puzzle.id for puzzle in puzzles))

    def drafted(self, puzzle: Puzzle, draft: CheckedDraft) -> None:
        self.events.append(f"drafted {puzzle.id} {draft.draft.tokens}")

    def warned(self, message: str) -> None:
        self.events.append(message)


def solves_some(asked: Asked) -> list[tuple[Grid, float]]:
    solves = asked.draft is not None and int(asked.draft[8, 0]) % 2 == 0
    return doubles.cold_solves(asked) if solves else doubles.never_solves(asked)


def pipeline(
    proposer: Batches, prefetched: bool, callbacks: Callbacks | None = None, refiner: Refiner | None = None
) -> Pipeline:
    network = refiner or doubles.refiner(solves_some)
    return Pipeline(proposer, network, callbacks=callbacks, drafted_at_once=2, prefetched=prefetched)


def timeless(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """Their records, without what a clock says."""
    records = [answer.to_json() for answer in answers]
    for record in records:
        del record["seconds"]
        for draft in record["drafts"]:
            del draft["seconds"]
    return records


@pytest.mark.parametrize("fails_at", ["", "c"])
def test_answers_records_and_events_are_those_without_it(fails_at: str) -> None:
    config = SearchConfig(drafts=2, rounds=2, restarts=1, seed=3)
    runs = []
    for prefetched in (False, True):
        proposer, listener = Batches(fails_at), Listener()
        answers = list(pipeline(proposer, prefetched, listener).solve(PUZZLES, config))
        runs.append((timeless(answers), listener.events, proposer.groups))
    assert runs[0] == runs[1]
    records, events, groups = runs[1]
    assert [record["id"] for record in records] == list("abcde")
    assert len({record["status"] for record in records}) == 2
    assert groups == ["ab", "cd"]  # the last one is alone, and asked by itself
    assert ("localhost: connection refused" in events) == bool(fails_at)


def test_drafts_are_made_while_the_network_refines() -> None:
    proposer = Batches()

    def waits(asked: Asked) -> list[tuple[Grid, float]]:
        assert proposer.begun[1].wait(SECONDS if not asked.number else 0)
        return solves_some(asked)

    next(pipeline(proposer, True, refiner=doubles.refiner(waits)).solve(PUZZLES))


def test_a_stream_and_a_budget_have_nothing_prefetched() -> None:
    pulled: list[str] = []

    def stream() -> Iterator[Puzzle]:
        for puzzle in PUZZLES:
            pulled.append(puzzle.id)
            yield puzzle

    next(pipeline(Batches(), True).solve(stream()))
    assert pulled == ["a", "b"]
    proposer = Batches()
    next(pipeline(proposer, True).solve(PUZZLES, SearchConfig(budget_seconds=60)))
    assert (proposer.single, proposer.groups) == (["a"], [])


def test_ctrl_c_stops_the_draft_under_way() -> None:
    class Slow(Batches):
        def propose_many(self, puzzles: Sequence[Puzzle], seed: int = 0) -> list[Draft]:
            drafts = super().propose_many(puzzles, seed)
            if puzzles[0].id == "c":
                assert self.stopped.wait(SECONDS)
            return drafts

    proposer = Slow()

    def interrupted(asked: Asked) -> list[tuple[Grid, float]]:
        assert proposer.begun[1].wait(SECONDS)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(pipeline(proposer, True, refiner=doubles.refiner(interrupted)).solve(PUZZLES))
    assert proposer.stopped.is_set()


# -- where it pays -------------------------------------------------------------------------------------------
class Placed(ScriptedLLM):
    """An LLM somewhere. device: as local models have it; None on a server."""

    def __init__(self, device: str | None = None) -> None:
        super().__init__("placed")
        if device is not None:
            self.device = device


@pytest.mark.parametrize(("device", "overlaps"), [(None, True), ("cuda:0", True), ("cpu", False)])
def test_only_what_leaves_the_cores_alone_is_prefetched(
    monkeypatch: pytest.MonkeyPatch, device: str | None, overlaps: bool
) -> None:
    assert solving.can_overlap(ChatProposer(Placed(device))) is overlaps
    monkeypatch.setattr(solving, "connect", lambda spec, wanted: Placed(device))
    built = solving.build(solving.Setup("placed", "none"), Notes(Console(file=io.StringIO())))
    assert built.prefetched is overlaps


def test_nobody_is_not_prefetched() -> None:
    assert not solving.can_overlap(Blank())
    assert not solving.can_overlap(None)
