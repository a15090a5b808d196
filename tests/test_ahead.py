"""Drafts that are written while the network refines others: the same answers, in the same order."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import doubles
import pytest
from doubles import FakeRefiner, sudoku
from rich.console import Console
from rich.progress import Progress
from typer.testing import CliRunner

from eval.arms import Setting
from eval.compare import app
from eval.metrics import Record
from eval.recorded import Recorded
from eval.run import Run, read_records
from hybrid.ahead import ahead, in_turn
from hybrid.answer import Answer
from hybrid.llm.base import BackendError, Message, Reply
from hybrid.llm.chat.prompts import LLMProposer
from hybrid.pipeline import Options, Pipeline, Watcher
from hybrid.proposers import Blank, Draft, Feedback
from hybrid.render import Notes
from hybrid.solving import Setup, build, elsewhere
from trm import tasks
from trm.grid import Grids
from trm.tasks import Puzzle

SECONDS = 20.0  # for what has to happen; a test that waits so long has failed
PUZZLES = [sudoku(name) for name in "abcde"]


# -- one step ahead ------------------------------------------------------------------------------------------
def test_the_next_is_made_while_this_one_is_used_and_no_further() -> None:
    begun = [threading.Event() for _ in range(4)]

    def make(number: int) -> int:
        begun[number].set()
        return 10 * number

    made = []
    for number, take in ahead(range(4), make):
        made.append(take())
        if number < 3:
            assert begun[number + 1].wait(SECONDS)
        assert not any(event.is_set() for event in begun[number + 2 :])
    assert made == [take() for _, take in in_turn(range(4), make)] == [0, 10, 20, 30]
    assert list(ahead([], make)) == []


def test_an_error_is_raised_where_its_result_is_taken() -> None:
    def make(number: int) -> int:
        if number == 1:
            raise ValueError("one")
        return number

    said: list[object] = []
    for _, take in ahead(range(3), make):
        try:
            said.append(take())
        except ValueError as error:
            said.append(str(error))
    assert said == [0, "one", 2]


def test_closing_interrupts_what_is_under_way() -> None:
    begun, ended = threading.Event(), []

    def make(number: int) -> int:
        if number == 1:
            try:
                begun.set()
                until = time.monotonic() + SECONDS
                while time.monotonic() < until:
                    time.sleep(0.01)
            except BaseException as error:
                ended.append(type(error))
                raise
        return number

    drafting = ahead(range(3), make)
    assert next(drafting)[1]() == 0
    assert begun.wait(SECONDS)
    drafting.close()
    assert ended == [KeyboardInterrupt]


# -- the pipeline --------------------------------------------------------------------------------------------
class Together:
    """A proposer for many at once: its drafts depend on the puzzle, the seed and the feedback. Notes the order."""

    name: str | None = "together"

    def __init__(self, fails_at: str = "") -> None:
        self.fails_at, self.asked = fails_at, [threading.Event() for _ in range(len(PUZZLES))]
        self.groups: list[str] = []

    def propose(
        self, puzzle: Puzzle, drafts: int = 1, feedback: Feedback | None = None, seed: int = 0
    ) -> list[Draft]:
        return [self._draft(puzzle, seed + number) for number in range(drafts)]

    def propose_many(self, puzzles: Sequence[Puzzle], seed: int = 0) -> list[Draft]:
        ids = "".join(puzzle.id for puzzle in puzzles)
        self.groups.append(ids)
        self.asked[len(self.groups) - 1].set()
        if self.fails_at and self.fails_at in ids:
            raise BackendError("localhost: connection refused")
        return [self._draft(puzzle, seed) for puzzle in puzzles]

    def _draft(self, puzzle: Puzzle, seed: int) -> Draft:
        number = ord(puzzle.id) + seed
        if number % 4 == 0:
            return Draft(None, "raw", "reply held 7 rows, expected 9", tokens=number)
        grid = doubles.wrong(puzzle)[0].copy()
        grid[8, 0] = number % 9 + 1
        return Draft((grid,), f"raw {number}", tokens=number)


class Ears(Watcher):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def started(self, puzzles: Sequence[Puzzle]) -> None:
        self.heard.append("started " + "".join(puzzle.id for puzzle in puzzles))

    def drafted(self, puzzle: Puzzle, draft: Any) -> None:
        self.heard.append(f"drafted {puzzle.id} {draft.draft.tokens}")

    def warned(self, message: str) -> None:
        self.heard.append(message)


def solves_some(puzzle: Puzzle, draft: Grids | None, options: dict[str, Any]) -> tuple[Grids, str]:
    solved = draft is not None and int(draft[0][8, 0]) % 2 == 0
    return (doubles.right(puzzle), "refiner+draft") if solved else (doubles.wrong(puzzle), "refiner")


def pipeline(proposer: Any, early: bool, watcher: Watcher | None = None, refiner: Any = None) -> Pipeline:
    refiner = refiner or FakeRefiner(solves_some)
    return Pipeline(proposer, refiner, watcher=watcher, drafted_at_once=2, ahead=early)


def told(answers: Sequence[Answer]) -> list[dict[str, Any]]:
    """Their records, without what a clock says."""
    records = [answer.to_json() for answer in answers]
    for record in records:
        del record["seconds"]
        for draft in record["drafts"]:
            del draft["seconds"]
    return records


@pytest.mark.parametrize("fails_at", ["", "c"])
def test_answers_records_and_what_is_said_are_those_without_it(fails_at: str) -> None:
    options = Options(drafts=2, rounds=2, restarts=1, seed=3)
    runs = []
    for early in (False, True):
        proposer, ears = Together(fails_at), Ears()
        answers = list(pipeline(proposer, early, ears).solve(PUZZLES, options))
        runs.append((told(answers), ears.heard, proposer.groups))
    assert runs[0] == runs[1]
    records, heard, groups = runs[1]
    assert [record["id"] for record in records] == list("abcde")
    assert len({record["status"] for record in records}) == 2
    assert groups == ["ab", "cd"]  # the last one is alone, and asked by itself
    assert ("localhost: connection refused" in heard) == bool(fails_at)


class Waiting(FakeRefiner):
    """Refines the first puzzle only when the second group's drafts have been asked for."""

    def __init__(self, asked: threading.Event) -> None:
        super().__init__(solves_some)
        self.waited: list[bool] = []
        self.event = asked

    def each(self, puzzles: list[Puzzle], draft: list[Grids | None], **options: Any) -> Any:
        self.waited.append(self.event.wait(SECONDS if not self.waited else 0))
        return super().each(puzzles, draft, **options)


def test_drafts_are_written_while_the_network_refines() -> None:
    proposer = Together()
    refiner = Waiting(proposer.asked[1])
    next(pipeline(proposer, True, refiner=refiner).solve(PUZZLES))
    assert refiner.waited == [True]


def test_a_stream_and_a_budget_have_nothing_asked_ahead() -> None:
    pulled: list[str] = []

    def stream() -> Iterator[Puzzle]:
        for puzzle in PUZZLES:
            pulled.append(puzzle.id)
            yield puzzle

    next(pipeline(Together(), True).solve(stream()))
    assert pulled == ["a", "b"]
    asked: list[str] = []

    class Alone(Together):
        def propose(self, puzzle: Puzzle, *args: Any, **more: Any) -> list[Draft]:
            asked.append(puzzle.id)
            return super().propose(puzzle, *args, **more)

    refiner = FakeRefiner(solves_some)
    next(pipeline(Alone(), True, refiner=refiner).solve(PUZZLES, Options(budget=60)))
    assert asked == ["a"]
    assert 0 < refiner.calls[0]["budget"] <= 60


def test_ctrl_c_ends_the_draft_under_way() -> None:
    stopped: list[type[BaseException]] = []

    class Slow(Together):
        def propose_many(self, puzzles: Sequence[Puzzle], seed: int = 0) -> list[Draft]:
            made = super().propose_many(puzzles, seed)
            if puzzles[0].id == "c":
                try:
                    until = time.monotonic() + SECONDS
                    while time.monotonic() < until:
                        time.sleep(0.01)
                except BaseException as error:
                    stopped.append(type(error))
                    raise
            return made

    proposer = Slow()

    def interrupted(*_: object) -> tuple[Grids, str]:
        assert proposer.asked[1].wait(SECONDS)
        time.sleep(0.05)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(pipeline(proposer, True, refiner=FakeRefiner(interrupted)).solve(PUZZLES))
    assert stopped == [KeyboardInterrupt]


class Placed(doubles.OneByOne):
    """An LLM somewhere, whose replies depend on the puzzle. device: as local models have it; None on a server."""

    name = "placed"
    parameters: int | None = 1_000

    def __init__(self, device: str | None = None, dead_after: int = 1_000) -> None:
        self.asked, self.dead_after = 0, dead_after
        if device is not None:
            self.device = device

    def chat(self, messages: Sequence[Message], *, samples: int = 1, **_: object) -> list[Reply]:
        self.asked += 1
        if self.asked > self.dead_after:
            raise BackendError("localhost: connection refused")
        digit = len(messages[-1]["content"]) % 9 + 1
        return [Reply(doubles.SOLUTION[:-1] + str(digit), 9, 0.0)] * samples


def test_only_what_leaves_the_cores_alone_is_asked_ahead() -> None:
    assert elsewhere(LLMProposer(Placed()))
    assert elsewhere(LLMProposer(Placed("cuda:0")))
    assert not elsewhere(LLMProposer(Placed("cpu")))
    assert not elsewhere(Blank())
    assert not elsewhere(None)


@pytest.mark.parametrize(("device", "early"), [(None, True), ("cuda:0", True), ("cpu", False)])
def test_the_commands_ask_ahead_where_it_pays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str | None, early: bool
) -> None:
    monkeypatch.setattr("hybrid.llm.registry.connect", lambda spec, device_: Placed(device))
    assert build(Setup("placed", "none"), Notes(Console(file=io.StringIO()))).ahead is early
    settings: list[Setting] = []
    monkeypatch.setattr("eval.compare.Setting", lambda *a: settings.append(Setting(*a)) or settings[0])
    asked = ("--tasks", "sudoku", "--n", "1", "--llm", "placed", "--refiner", "none", "--arms", "llm")
    assert CliRunner().invoke(app, [*asked, "--out", str(tmp_path / "out")]).exit_code == 0
    assert [made.ahead for made in settings] == [early]


# -- the comparison ------------------------------------------------------------------------------------------
def compared(folder: Path, early: bool, llm: Placed, at_once: int = 2, concurrency: int = 1) -> list[Record]:
    folder.mkdir()
    proposer = Recorded(folder / "drafts.jsonl", LLMProposer(llm))
    refiner: Any = FakeRefiner(doubles.never_solves)
    setting = Setting(proposer, refiner, Options(rounds=1, restarts=0), at_once, early)
    names = ["hybrid", "llm", "trm", "draft:random"]
    with Progress(disable=True) as progress:
        try:
            assert Run(folder, names, setting, concurrency).go(different(), float("inf"), progress)
        except BackendError:
            assert llm.dead_after < 1_000
    records = list(read_records(folder))
    for record in records:
        del record["seconds"]
    return records


def different() -> list[Puzzle]:
    """Sudokus that differ in their givens."""
    task = tasks.get("sudoku")
    made = []
    for number in range(5):
        text = doubles.SUDOKU[:2] + doubles.SOLUTION[2 : 2 + number] + doubles.SUDOKU[2 + number :]
        made.append(Puzzle("sudoku", task.parse(text).inputs, id=f"s{number}", answers=sudoku().answers))
    return made


@pytest.fixture
def step_flops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eval.arms.step_flops", lambda refiner, puzzle: 1.0)


@pytest.mark.usefixtures("step_flops")
def test_a_comparison_has_the_same_records(tmp_path: Path) -> None:
    plain, early = (compared(tmp_path / str(e), e, Placed()) for e in (False, True))
    assert plain == early
    assert [(r["arm"], r["id"]) for r in early[:4]] == [
        ("hybrid", "s0"), ("hybrid", "s1"), ("llm", "s0"), ("llm", "s1"),
    ]  # fmt: skip
    kept = [sorted((tmp_path / str(e) / "drafts.jsonl").read_text().splitlines()) for e in (False, True)]
    assert len(kept[0]) == len(kept[1]) > len(different())  # re-asks too


@pytest.mark.usefixtures("step_flops")
def test_a_comparison_asks_for_the_next_drafts_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [threading.Event() for _ in range(3)]
    waited: list[bool] = []

    class Telling(Placed):
        def chat_many(self, requests: Any, **asks: Any) -> Any:
            next(event for event in asked if not event.is_set()).set()
            return super().chat_many(requests, **asks)

    def waits(puzzle: Puzzle, *_: object) -> tuple[Grids, str]:
        waited.append(asked[1].wait(SECONDS))
        return doubles.right(puzzle), "refiner"

    monkeypatch.setattr(doubles, "never_solves", waits)
    compared(tmp_path / "out", True, Telling())
    assert waited[0]


@pytest.mark.usefixtures("step_flops")
def test_a_server_that_dies_ends_a_comparison_where_it_is_needed(tmp_path: Path) -> None:
    """The first two puzzles and their two re-asks; dead at the next ones. What came before is on file."""
    for early in (False, True):
        records = compared(tmp_path / str(early), early, Placed(dead_after=2), at_once=2)
        assert {r["id"] for r in records} == {"s0", "s1"}


@pytest.mark.usefixtures("step_flops")
def test_a_server_has_as_many_questions_as_it_was_promised(tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []

    class Counting(Placed):
        def chat_many(self, requests: Any, *, concurrency: int = 1, **asks: Any) -> Any:
            heard.append((len(requests), concurrency))
            return super().chat_many(requests, concurrency=concurrency, **asks)

    compared(tmp_path / "out", True, Counting(), at_once=2, concurrency=4)
    assert [(n, c) for n, c in heard if c > 1] == [(4, 4), (1, 4)]
