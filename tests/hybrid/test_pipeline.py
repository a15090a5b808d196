"""The pipeline against scripted proposers and networks: who is asked what, and what the record says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence

import doubles
import numpy as np
import pytest
from doubles import Scripted, ScriptedBatch, maze, refiner, right, sudoku, wrong

from hybrid.answer import Answer
from hybrid.pipeline import Pipeline
from trm import tasks
from trm.grid import Grids
from trm.inference.config import SearchConfig
from trm.inference.proposals import Blank, CheckedDraft, Draft, Feedback, Proposer, ProposerError
from trm.inference.refiner import Refiner
from trm.inference.search import Callbacks
from trm.tasks import Puzzle, Status

KEYS = [
    "id", "task", "question", "answer", "status", "violations", "confidence", "source", "steps", "restarts", "drafts",
    "seconds", "llm", "refiner", "seed",
]  # fmt: skip


class Listener(Callbacks):
    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.drafts: list[tuple[str, bool]] = []

    def warned(self, message: str) -> None:
        self.warnings.append(message)

    def drafted(self, puzzle: Puzzle, draft: CheckedDraft) -> None:
        self.drafts.append((puzzle.id, draft.valid))


def solve(
    proposer: Proposer, network: Refiner | None, *puzzles: Puzzle, config: SearchConfig | None = None
) -> Answer:
    (answer,) = Pipeline(proposer, network).solve(puzzles or [sudoku()], config or SearchConfig())
    return answer


def feedback_of(request: dict[str, object]) -> Feedback:
    assert isinstance(request["feedback"], Feedback)
    return request["feedback"]


# -- sources -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("reply", "play", "source"),
    [
        (right, doubles.cold_solves, "refiner"),  # both verify: the draft added nothing
        (wrong, doubles.cold_solves, "refiner"),
        (wrong, doubles.solves_from_a_draft, "refiner+draft"),
        (right, doubles.never_solves, "llm"),
        (right, doubles.solves_from_a_draft, "llm"),
    ],
)
def test_source(reply: Callable[[Puzzle], Grids], play: doubles.Play, source: str) -> None:
    answer = solve(Scripted([reply(sudoku())]), refiner(play))
    assert answer.verdict.status is Status.VERIFIED
    assert answer.source == source
    assert answer.to_json()["answer"] == doubles.SOLUTION


def test_llm_alone() -> None:
    answer = solve(Scripted([right(sudoku())]), None)
    assert (answer.source, answer.verdict.status) == ("llm", Status.VERIFIED)
    assert answer.confidence is None
    assert answer.refiner is None


def test_network_alone() -> None:
    answer = solve(Blank(), refiner(doubles.cold_solves))
    assert (answer.source, answer.llm, answer.drafts) == ("refiner", None, ())
    assert answer.confidence == pytest.approx(0.75, abs=1e-4)


def test_a_wrong_answer_is_unsolved_and_says_why() -> None:
    answer = solve(Scripted([wrong(sudoku())]), refiner(doubles.never_solves))
    assert answer.verdict.status is Status.UNSOLVED
    assert answer.verdict.violations
    assert answer.grids is not None


def test_an_unreadable_reply_is_a_counted_value() -> None:
    record = solve(Scripted([None]), None).to_json()
    assert (record["status"], record["answer"], record["source"]) == ("unsolved", None, "llm")
    error = "reply held 7 rows, expected 9"
    assert record["violations"] == [error]
    assert record["drafts"] == [{"answer": None, "valid": False, "error": error, "tokens": 9, "seconds": 0.5}]


# -- what is asked -----------------------------------------------------------------------------------------
def test_one_draft_is_always_made_and_refined_beside_a_cold_start() -> None:
    proposer, network = Scripted([right(sudoku())]), refiner(doubles.never_solves)
    solve(proposer, network, config=SearchConfig(restarts=4))
    assert len(proposer.requests) == 1
    cold, drafted = doubles.seen(network)  # no restarts: the draft had verified
    assert cold.draft is None
    assert drafted.draft is not None
    assert drafted.draft.tolist() == right(sudoku())[0].tolist()


def test_no_cold_start_where_there_is_to_be_none() -> None:
    network = refiner(doubles.cold_solves)
    for draft, source, rollouts in ((None, "llm", 0), (wrong(sudoku()), "refiner+draft", 1)):
        pipeline = Pipeline(Scripted([draft]), network, cold=False)
        (answer,) = pipeline.solve([sudoku()], SearchConfig(restarts=3))
        assert (answer.source, len(doubles.seen(network))) == (source, rollouts)


def test_a_verified_answer_stops_what_comes_after() -> None:
    proposer, network = Scripted([wrong(sudoku())]), refiner(doubles.solves_from_a_draft)
    answer = solve(proposer, network, config=SearchConfig(drafts=3, rounds=2, restarts=2))
    assert (len(proposer.requests), len(doubles.seen(network)), answer.restarts) == (1, 2, 0)


def test_an_unverified_one_gets_drafts_then_rounds_then_restarts() -> None:
    proposer = Scripted([wrong(sudoku()), None, sudoku().inputs, right(sudoku())])
    network = refiner(doubles.never_solves)
    config = SearchConfig(drafts=2, rounds=3, restarts=4, seed=7)
    answer = solve(proposer, network, config=config)
    assert answer.source == "llm"
    # The second draft comes of a batch of two, whose first, greedy, is known.
    assert [(r["drafts"], r["seed"]) for r in proposer.requests] == [(1, 7), (2, 7), (1, 8), (1, 9)]
    assert [r["feedback"] is None for r in proposer.requests] == [True, True, False, False]
    assert feedback_of(proposer.requests[2]).violations == ("reply held 7 rows, expected 9",)
    assert answer.drafts[2].verdict is not None
    assert feedback_of(proposer.requests[3]).violations == answer.drafts[2].verdict.violations
    assert len(answer.drafts) == 4
    # Refined: a cold start, the first draft, the third; then one verified, and no restarts were due.
    assert [asked.restart for asked in doubles.seen(network)] == [False] * 3


def test_restarts_come_last_and_begin_cold_and_at_every_draft_by_turns() -> None:
    proposer, network = Scripted([wrong(sudoku()), None, sudoku().inputs]), refiner(doubles.never_solves)
    answer = solve(proposer, network, config=SearchConfig(rounds=2, restarts=8))
    restarts = [asked for asked in doubles.seen(network) if asked.restart]
    assert doubles.seen(network)[-8:] == restarts
    assert [asked.draft is None for asked in restarts] == [True, False] * 4
    filled = [int((asked.draft > 0).sum()) for asked in restarts if asked.draft is not None]
    assert filled == [81, 30, 81, 30]
    assert (answer.restarts, answer.steps) == (8, 3 + 8)


def test_a_repeated_draft_is_not_refined_anew() -> None:
    network = refiner(doubles.solves_with_restarts)
    answer = solve(Scripted([wrong(sudoku())]), network, config=SearchConfig(rounds=1, restarts=4))
    assert [asked.restart for asked in doubles.seen(network)] == [False, False, True]
    assert (answer.verdict.status, answer.restarts) == (Status.VERIFIED, 1)


def test_nothing_is_restarted_where_no_rule_decides_and_nobody_votes() -> None:
    network, puzzle = refiner(doubles.echoes), tasks.get("arc").samples()[0]
    answer = solve(Scripted([right(puzzle)]), network, puzzle, config=SearchConfig(drafts=2, restarts=4))
    assert answer.verdict.status is Status.UNVERIFIED
    assert not any(asked.restart for asked in doubles.seen(network, "arc"))


def test_a_repair_request_names_the_cells_that_the_network_has_otherwise() -> None:
    for network, corrections in ((refiner(doubles.echoes), True), (None, False)):
        proposer = Scripted([wrong(sudoku())])
        solve(proposer, network, config=SearchConfig(rounds=1))
        named = feedback_of(proposer.requests[1]).corrections
        assert bool(named) is corrections
        assert all("row" in cell and "instead of" in cell for cell in named)


def test_first_drafts_of_a_group_are_asked_for_together_further_ones_for_what_is_open() -> None:
    proposer = ScriptedBatch([right(sudoku()), wrong(sudoku()), None, wrong(sudoku())])
    listener = Listener()
    pipeline = Pipeline(proposer, refiner(doubles.echoes), callbacks=listener, drafted_at_once=3)
    answers = list(pipeline.solve([sudoku(i) for i in "abc"], SearchConfig(rounds=1)))
    assert [answer.verdict.status for answer in answers] == ["verified", "unsolved", "unsolved"]
    assert [len(answer.drafts) for answer in answers] == [1, 2, 2]
    assert listener.drafts[:3] == [("a", True), ("b", False), ("c", False)]
    assert [r["feedback"] is not None for r in proposer.requests] == [False] * 3 + [True] * 2


def test_a_model_that_fails_for_a_group_is_one_warning() -> None:
    class Failing(ScriptedBatch):
        def propose_many(self, puzzles: Sequence[Puzzle], seed: int = 0) -> list[Draft]:
            raise ProposerError("localhost: connection refused")

    for network, missing in ((refiner(doubles.cold_solves), False), (None, True)):
        listener = Listener()
        pipeline = Pipeline(Failing([None]), network, callbacks=listener, drafted_at_once=2)
        answers = list(pipeline.solve([sudoku("a"), sudoku("b")]))
        assert listener.warnings == ["localhost: connection refused"]
        assert [answer.missing for answer in answers] == [missing, missing]
        assert answers[1].drafts[0].draft.error == "localhost: connection refused"


def test_puzzles_of_a_group_share_batches_and_what_comes_of_each_does_not_depend_on_them() -> None:
    proposer, network = Scripted([wrong(sudoku()), right(sudoku())]), refiner(doubles.never_solves)
    answers = list(
        Pipeline(proposer, network, at_once=3).solve([sudoku(i) for i in "abc"], SearchConfig(restarts=2))
    )
    assert [answer.puzzle.id for answer in answers] == ["a", "b", "c"]
    assert [answer.restarts for answer in answers] == [2, 0, 0]
    assert doubles.batches(network) == [6, 1, 1]


def test_a_blank_is_asked_once() -> None:
    network = refiner(doubles.solves_with_restarts)
    solve(Blank(), network, config=SearchConfig(drafts=3, rounds=3, restarts=2))
    assert [asked.restart for asked in doubles.seen(network)] == [False, True]


def test_no_seconds_left_stops_further_tries() -> None:
    proposer, network = Scripted([wrong(sudoku())]), refiner(doubles.never_solves)
    answer = solve(proposer, network, config=SearchConfig(drafts=3, restarts=5, budget_seconds=0.0))
    assert (len(proposer.requests), answer.restarts) == (1, 0)


def test_a_budget_ends_the_first_rollout() -> None:
    network = refiner(lambda asked: [(asked.question, -1.0)] * 9)
    assert solve(Blank(), network, config=SearchConfig(budget_seconds=0.0)).steps == 1
    assert solve(Blank(), network, config=SearchConfig(budget_seconds=60.0)).steps == 9


def test_several_answers() -> None:
    for wanted in (2, 1):
        config = SearchConfig(answers=wanted, restarts=8)
        answer = solve(Blank(), refiner(doubles.walks), maze(), config=config)
        found = answer.to_json(answers=True)["answers"]
        assert len(found) == wanted
        assert set(found) <= set(doubles.PATHS[1:])
        assert "answers" not in answer.to_json()


# -- what is missing ---------------------------------------------------------------------------------------
def warnings_of(
    proposer: Proposer, network: Refiner | None, puzzles: Sequence[Puzzle]
) -> tuple[list[Answer], list[str]]:
    listener = Listener()
    return list(Pipeline(proposer, network, callbacks=listener).solve(puzzles)), listener.warnings


def test_a_missing_expert_is_one_warning_and_the_draft_is_judged_alone() -> None:
    network = refiner(doubles.cold_solves, ["maze"])
    answers, warnings = warnings_of(Scripted([right(sudoku())]), network, [sudoku("a"), sudoku("b")])
    assert [answer.source for answer in answers] == ["llm", "llm"]
    assert answers[0].confidence is None
    assert len(warnings) == 1
    assert "no expert for sudoku" in warnings[0]


def test_a_missing_expert_and_no_llm_leave_nobody() -> None:
    answers, warnings = warnings_of(Blank(), refiner(doubles.cold_solves, ["maze"]), [sudoku()])
    assert answers[0].missing
    assert answers[0].to_json()["source"] is None
    assert len(warnings) == 1


def test_an_expert_without_drafts_starts_cold() -> None:
    network = refiner(doubles.cold_solves, drafts=False)
    answers, warnings = warnings_of(Scripted([wrong(sudoku())]), network, [sudoku("a"), sudoku("b")])
    assert [asked.draft for asked in doubles.seen(network)] == [None, None]
    assert [answer.source for answer in answers] == ["refiner", "refiner"]
    assert len(warnings) == 1


def test_where_the_network_takes_no_drafts_further_ones_are_judged() -> None:
    network = refiner(doubles.never_solves, drafts=False)
    proposer = Scripted([wrong(sudoku()), right(sudoku())])
    assert solve(proposer, network, config=SearchConfig(rounds=2)).source == "llm"
    assert len(doubles.seen(network)) == 1


def test_a_draft_that_no_rule_faults_is_not_asked_for_again() -> None:
    puzzle = tasks.get("arc").samples()[0]
    proposer = Scripted([right(puzzle)])
    answer = solve(proposer, None, puzzle, config=SearchConfig(rounds=3))
    assert len(proposer.requests) == 1
    assert (answer.verdict.status, answer.source) == (Status.UNVERIFIED, "llm")
    assert answer.to_json()["answer"] == [[grid.tolist()] for grid in right(puzzle)]


def test_a_server_that_fails_is_a_warning_while_the_network_answers() -> None:
    failing = Scripted([ProposerError("localhost: connection refused")])
    answers, warnings = warnings_of(failing, refiner(doubles.cold_solves), [sudoku("a"), sudoku("b")])
    assert [answer.missing for answer in answers] == [False, False]
    assert warnings == ["localhost: connection refused"]
    assert answers[0].drafts[0].draft.error == "localhost: connection refused"
    answers, _ = warnings_of(failing, None, [sudoku()])
    assert answers[0].missing


def test_a_puzzle_too_large_for_the_expert_is_a_warning() -> None:
    grid = np.full((31, 31), ord(" "), dtype=np.uint8)
    grid[0, 0], grid[0, 1] = ord("S"), ord("G")
    puzzle = Puzzle("maze", (grid,), id="large")
    answers, warnings = warnings_of(Scripted([puzzle.inputs]), refiner(doubles.echoes), [puzzle])
    assert answers[0].source == "llm"
    assert "expected at most 30x30" in warnings[0]


# -- the record --------------------------------------------------------------------------------------------
def test_the_records_keys_are_the_contracts() -> None:
    answer = solve(Scripted([wrong(sudoku())]), refiner(doubles.cold_solves), config=SearchConfig(seed=3))
    record = answer.to_json()
    assert list(record) == KEYS
    assert list(record["drafts"][0]) == ["answer", "valid", "error", "tokens", "seconds"]
    assert list(record["seconds"]) == ["llm", "refine", "total"]
    assert record["seed"] == 3
    assert (record["llm"], record["refiner"]) == ("scripted", "fake.pt sha256:0")
    assert record["question"] == doubles.SUDOKU
    assert json.loads(json.dumps(record)) == record


def test_batches_are_runs_of_one_task() -> None:
    network, names = refiner(doubles.solves_sudokus), ["a", "b", "c", "d", "e"]
    puzzles = [*map(sudoku, names[:3]), maze("d"), sudoku("e")]
    answers = list(Pipeline(Blank(), network, at_once=2).solve(puzzles))
    assert [answer.puzzle.id for answer in answers] == names
    assert doubles.batches(network) == [2, 1, 1]


def test_answers_come_as_soon_as_they_are_there() -> None:
    def stream() -> Iterator[Puzzle]:
        yield sudoku("a")
        raise AssertionError("the second puzzle was asked for before the first answer")

    pipeline = Pipeline(Blank(), refiner(doubles.cold_solves))
    assert next(pipeline.solve(stream())).puzzle.id == "a"
