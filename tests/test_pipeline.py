"""The pipeline against scripted proposers and refiners: who is asked what, and what the record says."""

from __future__ import annotations

import json
from collections.abc import Sequence

import doubles
import pytest
from doubles import FakeRefiner, Scripted, grids, maze, right, sudoku, wrong

from hybrid.answer import Answer, JudgedDraft, same
from hybrid.llm.base import BackendError
from hybrid.null import Passthrough
from hybrid.pipeline import Options, Pipeline, Watcher
from hybrid.proposers import Blank, Draft
from trm import tasks
from trm.grid import Grids
from trm.tasks import Puzzle, Status

KEYS = [
    "id", "task", "question", "answer", "status", "violations", "confidence", "source", "steps", "restarts", "drafts",
    "seconds", "llm", "refiner", "seed",
]  # fmt: skip


class Ears(Watcher):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def warned(self, message: str) -> None:
        self.heard.append(message)


def solve(proposer: object, refiner: object, *puzzles: Puzzle, **options: object) -> list[Answer]:
    pipeline = Pipeline(proposer, refiner)  # type: ignore[arg-type]
    return list(pipeline.solve(puzzles or [sudoku()], Options(**options)))  # type: ignore[arg-type]


def one(proposer: object, refiner: object, *puzzles: Puzzle, **options: object) -> Answer:
    (answer,) = solve(proposer, refiner, *puzzles, **options)
    return answer


# -- sources -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("reply", "policy", "source"),
    [
        (right, doubles.cold_solves, "refiner"),  # both verify: the draft added nothing
        (wrong, doubles.cold_solves, "refiner"),
        (wrong, doubles.solves_from_a_draft, "refiner+draft"),
        (right, doubles.never_solves, "llm"),
        (right, doubles.solves_from_a_draft, "llm"),
    ],
)
def test_source(reply: object, policy: doubles.Policy, source: str) -> None:
    answer = one(Scripted([reply(sudoku())]), FakeRefiner(policy))  # type: ignore[operator]
    assert answer.verdict.status is Status.VERIFIED
    assert answer.source == source
    assert answer.to_json()["answer"] == doubles.SOLUTION


def test_llm_alone() -> None:
    answer = one(Scripted([right(sudoku())]), Passthrough())
    assert (answer.source, answer.verdict.status) == ("llm", Status.VERIFIED)
    assert answer.confidence is None
    assert answer.refiner is None


def test_network_alone() -> None:
    answer = one(Blank(), FakeRefiner(doubles.cold_solves))
    assert (answer.source, answer.llm, answer.drafts) == ("refiner", None, ())
    assert answer.confidence == 0.75


def test_a_wrong_answer_is_unsolved_and_says_why() -> None:
    answer = one(Scripted([wrong(sudoku())]), FakeRefiner(doubles.never_solves))
    assert answer.verdict.status is Status.UNSOLVED
    assert answer.verdict.violations
    assert answer.grids is not None


def test_nobody_takes_a_refiners_word_for_it() -> None:
    liar = FakeRefiner(doubles.never_solves, claims=Status.VERIFIED)
    answer = one(Blank(), liar)
    assert answer.verdict.status is Status.UNSOLVED
    assert answer.to_json()["status"] == "unsolved"


def test_an_unreadable_reply_is_a_counted_value() -> None:
    answer = one(Scripted([None]), Passthrough())
    record = answer.to_json()
    assert (record["status"], record["answer"], record["source"]) == ("unsolved", None, "llm")
    assert record["violations"] == ["reply held 7 rows, expected 9"]
    draft = {
        "answer": None,
        "valid": False,
        "error": "reply held 7 rows, expected 9",
        "tokens": 9,
        "seconds": 0.5,
    }
    assert record["drafts"] == [draft]


# -- what is asked -----------------------------------------------------------------------------------------
def test_one_draft_is_always_made_and_refined_beside_a_cold_start() -> None:
    proposer, refiner = Scripted([right(sudoku())]), FakeRefiner(doubles.cold_solves)
    one(proposer, refiner, steps=5)
    (call,) = refiner.calls
    assert len(proposer.asked) == 1
    assert call["cold"] is True
    assert call["draft"] == [right_of(proposer)]
    assert call["steps"] == 5
    assert call["restarts"] == 0  # the draft had verified


def right_of(proposer: Scripted) -> object:
    return proposer.replies[0]


def test_a_verified_answer_stops_what_comes_after() -> None:
    proposer, refiner = Scripted([wrong(sudoku())]), FakeRefiner(doubles.solves_from_a_draft)
    answer = one(proposer, refiner, drafts=3, rounds=2)
    assert len(proposer.asked) == len(refiner.calls) == 1
    assert answer.restarts == 0


def test_an_unverified_one_gets_drafts_then_rounds_then_restarts() -> None:
    blank = sudoku().inputs
    proposer = Scripted([wrong(sudoku()), None, blank, right(sudoku())])
    refiner = FakeRefiner(doubles.never_solves)
    answer = one(proposer, refiner, drafts=2, rounds=3, restarts=4, seed=7)
    assert answer.source == "llm"
    # The second draft comes of a batch of two, whose first, greedy, is known.
    assert [(ask["drafts"], ask["seed"]) for ask in proposer.asked] == [(1, 7), (2, 7), (1, 8), (1, 9)]
    feedback = [ask["feedback"] for ask in proposer.asked]
    assert feedback[:2] == [None, None]
    assert feedback[2].violations == ("reply held 7 rows, expected 9",)
    assert feedback[3].violations == answer.drafts[2].verdict.violations  # type: ignore[union-attr]
    assert len(answer.drafts) == 4
    # Refined: the first draft beside a cold start, the third; then one verified, and no restarts were due.
    assert [(call["cold"], call["restarts"]) for call in refiner.calls] == [(True, 0), (False, 0)]


def test_restarts_come_last() -> None:
    proposer, refiner = Scripted([wrong(sudoku())]), FakeRefiner(doubles.solves_with_restarts)
    answer = one(proposer, refiner, rounds=1, restarts=4)
    # The round repeats the draft: nothing to refine anew.
    assert [call["restarts"] for call in refiner.calls] == [0, 4]
    assert (answer.verdict.status, answer.restarts, answer.steps) == (Status.VERIFIED, 4, 32)


def test_restarts_begin_at_every_draft_that_was_refined() -> None:
    blank = sudoku().inputs
    proposer, refiner = Scripted([wrong(sudoku()), None, blank]), FakeRefiner(doubles.never_solves)
    one(proposer, refiner, rounds=2, restarts=6)
    *_, last = refiner.calls
    assert last["restarts"] == 6
    (starts,) = last["starts"]
    assert starts[0] is None
    assert all(any(same(start, grids) for start in starts[1:]) for grids in (wrong(sudoku()), blank))
    assert len(starts) == 3


def test_nothing_is_restarted_where_no_rule_decides() -> None:
    refiner = FakeRefiner(doubles.echoes)
    puzzle = tasks.get("arc").samples()[0]
    assert (
        one(Scripted([right(puzzle)]), refiner, puzzle, drafts=2, restarts=4).verdict.status == "unverified"
    )
    assert all("starts" not in call for call in refiner.calls)
    assert refiner.calls[0]["restarts"] == 4  # further views, whose votes count


def test_a_re_ask_names_the_cells_that_the_network_has_otherwise() -> None:
    proposer = Scripted([wrong(sudoku())])
    one(proposer, FakeRefiner(lambda p, d, o: (p.inputs, "refiner")), rounds=1, restarts=0)
    (_, again) = proposer.asked
    assert again["feedback"].corrections[0] == "row 1, column 3: 0 instead of 4"
    proposer = Scripted([wrong(sudoku())])
    one(proposer, Passthrough(), rounds=1)
    assert proposer.asked[1]["feedback"].corrections == ()


class Together(Scripted):
    """Drafts for many puzzles in one call."""

    def propose_many(self, puzzles: list[Puzzle], seed: int = 0) -> list[Draft]:
        return [self.propose(puzzle, seed=seed)[0] for puzzle in puzzles]


def test_first_drafts_of_a_group_are_asked_for_together_further_ones_for_what_is_open() -> None:
    proposer = Together([right(sudoku()), wrong(sudoku()), None, wrong(sudoku())])
    refiner = FakeRefiner(lambda p, d, o: (p.inputs, "refiner"))
    heard: list[tuple[str, bool | None]] = []

    class Listening(Watcher):
        def drafted(self, puzzle: Puzzle, draft: JudgedDraft) -> None:
            heard.append((puzzle.id, draft.valid))

    pipeline = Pipeline(proposer, refiner, watcher=Listening(), drafted_at_once=3)
    answers = list(pipeline.solve([sudoku(i) for i in "abc"], Options(rounds=1, restarts=0)))
    assert [answer.verdict.status for answer in answers] == ["verified", "unsolved", "unsolved"]
    assert [len(answer.drafts) for answer in answers] == [1, 2, 2]
    assert heard[:3] == [("a", True), ("b", False), ("c", False)]
    assert [call["feedback"] is not None for call in proposer.asked] == [False] * 3 + [True] * 2


def test_a_model_that_fails_for_a_group_is_one_warning() -> None:
    class Failing(Together):
        def propose_many(self, puzzles: list[Puzzle], seed: int = 0) -> list[Draft]:
            raise BackendError("localhost: connection refused")

    heard: list[str] = []

    class Listening(Watcher):
        def warned(self, message: str) -> None:
            heard.append(message)

    for refiner, missing in ((FakeRefiner(doubles.cold_solves), False), (Passthrough(), True)):
        heard.clear()
        pipeline = Pipeline(Failing([None]), refiner, watcher=Listening(), drafted_at_once=2)
        answers = list(pipeline.solve([sudoku("a"), sudoku("b")]))
        assert heard == ["localhost: connection refused"]
        assert [answer.missing for answer in answers] == [missing, missing]
        assert answers[1].drafts[0].draft.error == "localhost: connection refused"


def test_puzzles_of_a_group_are_refined_in_step() -> None:
    proposer, refiner = Scripted([wrong(sudoku()), sudoku().inputs]), FakeRefiner(doubles.never_solves)
    group = Pipeline(proposer, refiner, at_once=3)
    answers = list(group.solve([sudoku(i) for i in "abc"], Options(drafts=2, restarts=2)))
    assert [answer.restarts for answer in answers] == [2, 2, 2]
    # Cold beside the first drafts, the second drafts that are new, and the restarts: each for all at once.
    assert [(call["n"], call["restarts"]) for call in refiner.calls] == [(3, 0), (1, 0), (3, 2)]


def test_a_right_draft_gets_no_restarts_for_the_sake_of_another_puzzle() -> None:
    """What comes of a puzzle does not depend on its group."""
    refiner = FakeRefiner(doubles.never_solves)
    group = Pipeline(Scripted([wrong(sudoku()), right(sudoku())]), refiner, at_once=3)
    answers = list(group.solve([sudoku(i) for i in "abc"], Options(restarts=2)))
    assert [answer.puzzle.id for answer in answers] == ["a", "b", "c"]
    assert [answer.restarts for answer in answers] == [2, 0, 0]


def test_a_blank_is_asked_once() -> None:
    refiner = FakeRefiner(doubles.solves_with_restarts)
    one(Blank(), refiner, drafts=3, rounds=3, restarts=2)
    assert [call["restarts"] for call in refiner.calls] == [2]


def test_no_seconds_left_stops_further_tries() -> None:
    proposer, refiner = Scripted([wrong(sudoku())]), FakeRefiner(doubles.never_solves)
    one(proposer, refiner, drafts=3, budget=0.0)
    assert len(proposer.asked) == 1
    assert [call["budget"] for call in refiner.calls] == [0.0]


def test_several_answers() -> None:
    paths = [grids(maze(), text) for text in doubles.PATHS[1:]]

    def finds(puzzle: Puzzle, draft: Grids | None, options: dict[str, object]) -> tuple[Grids, str]:
        return paths[0], "refiner"

    refiner = FakeRefiner(finds, alternatives=(paths[1][0], paths[0][0]))
    answer = one(Blank(), refiner, maze(), answers=3)
    assert answer.to_json(answers=True)["answers"] == list(doubles.PATHS[1:])
    assert len(one(Blank(), refiner, maze()).answers) == 1
    assert "answers" not in answer.to_json()


# -- what is missing ---------------------------------------------------------------------------------------
def warnings_of(
    proposer: object, refiner: object, puzzles: Sequence[Puzzle]
) -> tuple[list[Answer], list[str]]:
    ears = Ears()
    pipeline = Pipeline(proposer, refiner, watcher=ears)  # type: ignore[arg-type]
    return list(pipeline.solve(puzzles)), ears.heard


def test_a_missing_expert_is_one_warning_and_the_draft_is_judged_alone() -> None:
    proposer, refiner = Scripted([right(sudoku())]), FakeRefiner(doubles.cold_solves, tasks=("maze",))
    answers, heard = warnings_of(proposer, refiner, [sudoku("a"), sudoku("b")])
    assert [answer.source for answer in answers] == ["llm", "llm"]
    assert answers[0].confidence is None
    assert len(heard) == 1
    assert "no expert for sudoku" in heard[0]


def test_a_missing_expert_and_no_llm_leave_nobody() -> None:
    answers, heard = warnings_of(Blank(), FakeRefiner(doubles.cold_solves, tasks=("maze",)), [sudoku()])
    assert answers[0].missing
    assert answers[0].to_json()["source"] is None
    assert len(heard) == 1


def test_an_expert_without_drafts_starts_cold() -> None:
    proposer, refiner = Scripted([wrong(sudoku())]), FakeRefiner(doubles.cold_solves, drafts=False)
    answers, heard = warnings_of(proposer, refiner, [sudoku("a"), sudoku("b")])
    assert [call["draft"] for call in refiner.calls] == [[None], [None]]
    assert [answer.source for answer in answers] == ["refiner", "refiner"]
    assert len(heard) == 1


def test_without_drafts_further_ones_are_judged_and_no_more() -> None:
    refiner = FakeRefiner(doubles.never_solves, drafts=False)
    proposer = Scripted([wrong(sudoku()), right(sudoku())])
    assert one(proposer, refiner, rounds=2, restarts=0).source == "llm"
    proposer = Scripted([wrong(sudoku()), sudoku().inputs])
    one(proposer, refiner, rounds=2, restarts=0)
    assert len(refiner.calls) == 2  # the cold start of each puzzle


def test_a_draft_that_no_rule_faults_is_not_asked_for_again() -> None:
    puzzle = tasks.get("arc").samples()[0]
    proposer = Scripted([right(puzzle)])
    answer = one(proposer, Passthrough(), puzzle, rounds=3)
    assert len(proposer.asked) == 1
    assert (answer.verdict.status, answer.source) == (Status.UNVERIFIED, "llm")
    assert answer.to_json()["answer"] == [[grid.tolist()] for grid in right(puzzle)]


def test_a_server_that_fails_is_a_warning_while_the_network_answers() -> None:
    proposer = Scripted([BackendError("localhost: connection refused")])
    answers, heard = warnings_of(proposer, FakeRefiner(doubles.cold_solves), [sudoku("a"), sudoku("b")])
    assert [answer.missing for answer in answers] == [False, False]
    assert heard == ["localhost: connection refused"]
    assert answers[0].drafts[0].draft.error == "localhost: connection refused"


def test_a_server_that_fails_alone_leaves_nobody() -> None:
    answers, _ = warnings_of(Scripted([BackendError("connection refused")]), Passthrough(), [sudoku()])
    assert answers[0].missing


def test_a_puzzle_too_large_for_the_expert_is_a_warning() -> None:
    answers, heard = warnings_of(Scripted([right(sudoku())]), FakeRefiner(doubles.refuses), [sudoku()])
    assert answers[0].source == "llm"
    assert "expected at most 30x30" in heard[0]


# -- the record --------------------------------------------------------------------------------------------
def test_the_records_keys_are_the_contracts() -> None:
    record = one(Scripted([wrong(sudoku())]), FakeRefiner(doubles.cold_solves), seed=3).to_json()
    assert list(record) == KEYS
    assert list(record["drafts"][0]) == ["answer", "valid", "error", "tokens", "seconds"]
    assert list(record["seconds"]) == ["llm", "refine", "total"]
    assert record["seed"] == 3
    assert (record["llm"], record["refiner"]) == ("scripted", "fake.pt sha256:0")
    assert record["question"] == doubles.SUDOKU
    assert json.loads(json.dumps(record)) == record


def test_batches_are_runs_of_one_task() -> None:
    refiner = FakeRefiner(doubles.cold_solves)
    pipeline = Pipeline(Blank(), refiner, at_once=2)
    names = ["a", "b", "c", "d", "e"]
    answers = list(pipeline.solve([sudoku(name) for name in names]))
    assert [answer.puzzle.id for answer in answers] == names
    assert [call["n"] for call in refiner.calls] == [2, 2, 1]


def test_answers_come_as_soon_as_they_are_there() -> None:
    def endless():
        yield sudoku("a")
        raise AssertionError("the second puzzle was asked for before the first answer")

    pipeline = Pipeline(Blank(), FakeRefiner(doubles.cold_solves))
    assert next(pipeline.solve(endless())).puzzle.id == "a"


# -- with a network ----------------------------------------------------------------------------------------
def untrained() -> object:
    """A real refiner, too small and too young to solve anything."""
    from trm.checkpoints.format import Checkpoint, Expert
    from trm.inference.refiner import Refiner
    from trm.model.config import TRMConfig
    from trm.model.network import TRM

    shape = {"hidden_size": 16, "layers": 1, "heads": 2, "prefix": 1, "h_cycles": 1, "l_cycles": 1}
    config = TRMConfig(81, 11, draft=True, feedback=True, **shape)  # type: ignore[arg-type]
    return Refiner(
        Checkpoint("untrained", {"sudoku": Expert("sudoku", config, TRM(config).state_dict())}), "cpu"
    )


def test_a_real_refiner_fits_the_pipeline() -> None:
    proposer = Scripted([wrong(sudoku())])
    answer = one(proposer, untrained(), steps=2, restarts=3, drafts=2, rounds=1, trace=True)
    assert answer.verdict.status is Status.UNSOLVED
    assert answer.restarts == 3
    # Cold and draft; nothing for drafts that repeat it; then the restarts.
    assert answer.steps == 2 * (2 + 3)
    assert len(answer.trace) == 2
    assert answer.confidence is not None
    assert 0 <= answer.confidence <= 1
    proposer = Scripted([right(sudoku())])
    answer = one(proposer, untrained(), steps=2)
    assert (answer.source, answer.verdict.status, answer.restarts) == ("llm", Status.VERIFIED, 0)
