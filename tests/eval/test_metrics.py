"""From answers to records and results: what counts as solved, what is paired, what is averaged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval import metrics
from eval.run import read_records
from hybrid.answer import Answer, Seconds
from hybrid.submission import attempts
from trm.grid import Grid
from trm.inference.proposals import CheckedDraft, Draft
from trm.inference.rollouts import SOURCE_COLD, SOURCE_FROM_DRAFT, Attempt
from trm.tasks import Puzzle, Status, Verdict

A, B, C = (np.full((2, 2), colour, np.uint8) for colour in (1, 2, 3))
PUZZLE = Puzzle("arc", (A, A), demos=((A, B),), answers=(B, C))
PUZZLE_TEXT = (
    '{"train":[{"input":[[1,1],[1,1]],"output":[[2,2],[2,2]]}],'
    '"test":[{"input":[[1,1],[1,1]]},{"input":[[1,1],[1,1]]}]}'
)


def answer(*candidates: tuple[Grid, ...], status: Status = Status.UNVERIFIED, **changes: Any) -> Answer:
    """An answer to the puzzle with these grids for each input, the best first."""
    grids = tuple(choice[0] for choice in candidates) or None
    made = Answer(PUZZLE, grids, Verdict(status), None, candidates=candidates)
    return replace(made, **changes)


def test_one_of_two_guesses_has_to_be_right_for_every_input() -> None:
    assert metrics.solved(answer((A, B), (C,)))
    assert metrics.solved(answer((B,), (C, A)))
    assert not metrics.solved(answer((A, B), (B, A)))
    assert not metrics.solved(answer((A, C, B), (C,)))  # a third guess does not count
    assert metrics.solved(answer((B,), (C,), candidates=()))
    assert not metrics.solved(answer())
    assert not metrics.solved(answer((B,), (C,), puzzle=replace(PUZZLE, answers=None)))


def test_where_rules_decide_they_decide_alone() -> None:
    assert metrics.solved(answer((A,), (A,), status=Status.VERIFIED))
    assert not metrics.solved(answer((B,), (C,), status=Status.UNSOLVED))


def test_two_attempts_are_handed_in_for_every_input() -> None:
    one, two, three = A.tolist(), B.tolist(), C.tolist()
    assert attempts(answer((A, B), (C,))) == [
        {"attempt_1": one, "attempt_2": two}, {"attempt_1": three, "attempt_2": three},
    ]  # fmt: skip
    assert attempts(answer((A,), (C,), candidates=())) == [
        {"attempt_1": one, "attempt_2": one}, {"attempt_1": three, "attempt_2": three},
    ]  # fmt: skip
    assert attempts(answer()) == [{"attempt_1": [[0]], "attempt_2": [[0]]}] * 2


def record(name: str, arm: str = "trm", solved: bool = True, **more: Any) -> dict[str, Any]:
    return {
        "task": "sudoku", "arm": arm, "id": name, "solved": solved, "exact_match": solved, "steps": 4,
        "restarts": 0, "solved_at": 2 if solved else None, "drafts": 2, "parse_failures": 1, "llm_tokens": 30,
        "seconds": {"llm": 0.5, "refine": 1.0}, "tflop": {"llm": 0.1, "refine": 0.2},
        "difficulty": {"givens": "under 24"},
    } | more  # fmt: skip


def test_an_arm_is_counted_and_averaged() -> None:
    rows = [record("a"), record("b", solved=False, steps=8, exact_match=None), record("c", llm_tokens=60)]
    found = metrics.aggregate(rows)
    assert (found["n"], found["solved"], found["parse_failures"], found["drafts"]) == (3, 2, 3, 6)
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["exact_match"] == 1.0  # of those with a label
    assert (found["llm_tokens"], found["seconds_per_puzzle"]) == pytest.approx((40, 1.5))
    assert (found["steps"], found["tflop"]) == pytest.approx((16 / 3, 0.3))
    assert metrics.aggregate([record("a", exact_match=None)])["exact_match"] is None


def test_every_arm_is_paired_with_the_hybrid_on_the_puzzles_of_both() -> None:
    rows = [record("a", "hybrid"), record("b", "hybrid"), record("c", "hybrid", solved=False)]
    others = [record("a"), record("b", solved=False), record("z")]
    found = metrics.results([*rows, *others], {"python": "3"})
    (paired,) = found["paired"]["sudoku"].items()
    assert paired[0] == "hybrid vs trm"
    assert {k: v for k, v in paired[1].items() if k != "p"} == {
        "n": 2, "both": 1, "only_first": 1, "only_second": 0,
    }  # fmt: skip
    assert found["environment"] == {"python": "3"}
    assert metrics.results(others, {})["paired"] == {"sudoku": {}}


def test_difficulty_and_steps_are_broken_down() -> None:
    rows = [
        record("a"),
        record("b", solved=False, difficulty={"givens": "24 to 27"}),
        record("c", solved_at=3),
        record("d", solved_at=4),
    ]
    found = metrics.results(rows, {})["breakdown"]["sudoku"]["trm"]
    kinds = {bucket: (own["n"], own["solved"]) for bucket, own in found["difficulty"]["givens"].items()}
    assert kinds == {"under 24": (3, 3), "24 to 27": (1, 0)}
    assert found["by_step"] == {"1": 0.0, "2": 0.25, "4": 0.75}
    assert metrics.by_step([*rows, record("e", steps=5)])["5"] == pytest.approx(0.8)
    assert metrics.by_step([record("a", restarts=1)]) == {}
    assert metrics.by_step([record("a", steps=0)]) == {}
    assert metrics.by_step([]) == {}


def test_a_record_says_what_became_of_the_first_rollouts(tmp_path: Path) -> None:
    unsolved, verified = Verdict(Status.UNSOLVED), Verdict(Status.VERIFIED)
    attempts = (
        Attempt(SOURCE_FROM_DRAFT, (A, A), 0.4, unsolved, 3),
        Attempt(SOURCE_COLD, (B, C), 0.9, verified, 5),
        Attempt(SOURCE_COLD, (A, A), 0.1, unsolved, 7),
    )
    drafts = tuple(
        CheckedDraft(Draft(grids, "", None, tokens, seconds), own)
        for grids, tokens, seconds, own in [(None, 7, 1.0, unsolved), ((B, B), 5, 0.5, verified)]
    )
    made = answer((B,), (A,), attempts=attempts, drafts=drafts, steps=15, seconds=Seconds(refine=2.0))
    found = metrics.record(made, "hybrid", None, 2e12)
    assert found["cold"] == {"status": "verified", "confidence": 0.9, "steps": 5}
    assert found["draft"] == {"status": "unsolved", "confidence": 0.4, "steps": 3}
    assert (found["drafts"], found["parse_failures"], found["drafts_verified"]) == (2, 1, 1)
    assert (found["llm_tokens"], found["seconds"]) == (12, {"llm": 1.5, "refine": 2.0})
    assert (found["tflop"], found["solved_at"]) == ({"llm": 0.0, "refine": 30.0}, None)
    assert (found["exact_match"], found["solved"]) == (False, False)
    assert found["status"] == str(made.verdict.status)
    assert found["cold"] is not None
    paid = metrics.record(made, "hybrid", 10**12, 0.0)["tflop"]["llm"]
    assert paid == pytest.approx(2 * 12)  # two operations for each parameter and token
    assert metrics.record(answer((B,), (A,)), "llm", None, 0.0)["cold"] is None
    assert found["answer"] == [[B.tolist()], [A.tolist()]]
    assert metrics.record(answer((B, C), (A,)), "hybrid", None, 0.0)["answer"][0] == [B.tolist(), C.tolist()]
    assert metrics.record(answer((B,), (A,), candidates=()), "trm", None, 0.0)["answer"] == found["answer"]
    assert found["draft_answer"] == "2 2\n2 2\n\n2 2\n2 2"
    (tmp_path / "records.jsonl").write_text(json.dumps(found) + "\n")
    assert list(read_records(tmp_path)) == [found]  # as a report reads it
    assert (found["task"], found["arm"], found["steps"], found["status"]) == (
        "arc",
        "hybrid",
        15,
        "unverified",
    )
    bare = metrics.record(answer(puzzle=replace(PUZZLE, answers=None)), "trm", None, 0.0)
    assert [bare[key] for key in ("cold", "draft", "exact_match", "draft_answer", "answer", "label")] == [
        None
    ] * 6


def test_a_record_has_a_value_for_each_of_its_names() -> None:
    drafts = (CheckedDraft(Draft((B, B), "text", None, 3, 0.5, 2), Verdict(Status.UNSOLVED, ("one", "two"))),)
    verdict = Verdict(Status.UNSOLVED, ("cell", "row"))
    made = answer(
        (B,), (C,), drafts=drafts, steps=3, restarts=5, confidence=0.25, source="llm", verdict=verdict
    )
    assert metrics.record(made, "llm", 10**9, 2e9) == {
        "task": "arc", "id": "", "arm": "llm", "solved": False, "exact_match": True, "status": "unsolved",
        "source": "llm", "confidence": 0.25, "steps": 3, "restarts": 5, "solved_at": None, "cold": None,
        "draft": None,
        "drafts": 1, "parse_failures": 0, "drafts_verified": 0, "llm_tokens": 3,
        "seconds": {"llm": 0.5, "refine": made.seconds.refine},
        "tflop": {"llm": 0.01, "refine": 0.006},
        "difficulty": {"cells": "under 25"}, "question": PUZZLE_TEXT, "draft_answer": "2 2\n2 2\n\n2 2\n2 2",
        "answer": [[B.tolist()], [C.tolist()]], "label": "2 2\n2 2\n\n3 3\n3 3", "candidates": [],
        "violations": ["cell", "row"],
    }  # fmt: skip


def test_which_puzzles_each_arm_solves_alone() -> None:
    rows = [record(name, arm, name in solved) for arm, solved in (("hybrid", "abc"), ("trm", "ab"), ("llm", "c"))
            for name in "abcd"]  # fmt: skip
    found = metrics.overlap(metrics.by_arm([*rows, record("z", "llm")])["sudoku"])
    assert found == {
        "n": 4,
        "sets": [
            {"arms": ["hybrid", "trm"], "puzzles": ["a", "b"]}, {"arms": ["hybrid", "llm"], "puzzles": ["c"]},
            {"arms": [], "puzzles": ["d"]},
        ],
        "only_first": {
            "hybrid": {"trm": 1, "llm": 2}, "trm": {"hybrid": 0, "llm": 2}, "llm": {"hybrid": 0, "trm": 1},
        },
    }  # fmt: skip
    whole = metrics.results(rows, {})
    assert list(whole) == ["tasks", "paired", "overlap", "breakdown", "environment"]
    assert whole["overlap"] == {"sudoku": found}
    assert whole["tasks"]["sudoku"]["trm"]["solved"] == 2
    assert whole["tasks"]["sudoku"]["trm"]["ci95"] == pytest.approx([0.150, 0.850], abs=1e-3)
    many = metrics.by_step([record(str(n), steps=70, solved_at=n) for n in (1, 2, 3, 33, 64, 65)])
    assert {step: round(share * 6) for step, share in many.items()} == {
        "1": 1, "2": 2, "4": 3, "8": 3, "16": 3, "32": 3, "64": 5, "70": 6,
    }  # fmt: skip
