"""The refiner: what wins, what a draft does, restarts, scores, and that company changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import doubles
import numpy as np
import pytest
import torch
from doubles import Asked
from small_networks import SMALL, network

from trm.checkpoints.format import Checkpoint, Expert
from trm.grid import Grid, PuzzleError
from trm.inference.refiner import Refiner, as_puzzle
from trm.inference.search import Callbacks
from trm.tasks import Puzzle, Status, Verdict, get
from trm.tasks.sudoku.solver import solve_sudoku

TASK = get("sudoku")
PUZZLE = doubles.sudoku()
RIGHT, WRONG = doubles.right(PUZZLE)[0], doubles.wrong(PUZZLE)[0]


def real_refiner(draft: bool = True) -> Refiner:
    """Random weights behind a real refiner."""
    model = network(replace(SMALL, draft=draft, feedback=draft))
    return Refiner.from_checkpoint(
        Checkpoint("test", {"sudoku": Expert("sudoku", model.config, model.state_dict())}), "cpu"
    )


def sigmoid(logit: float) -> float:
    return float(1 / (1 + np.exp(-logit)))


# -- what wins -----------------------------------------------------------------------------------------------
def test_a_cold_start_runs_beside_the_draft_and_what_verifies_wins() -> None:
    refiner = doubles.refiner(lambda asked: [(WRONG if asked.draft is None else RIGHT, 0.0)])
    out = refiner.refine(PUZZLE, WRONG)
    assert [asked.draft is None for asked in doubles.seen(refiner)] == [True, False]
    assert (out.source, out.verdict.status, out.text) == ("refiner+draft", Status.VERIFIED, doubles.SOLUTION)


def test_when_both_verify_the_draft_added_nothing() -> None:
    refiner = doubles.refiner(lambda asked: [(RIGHT, 0.0 if asked.draft is None else 1.0)])
    assert refiner.refine(PUZZLE, WRONG).source == "refiner"


def test_when_nothing_verifies_the_more_confident_answer_is_given() -> None:
    other = WRONG.copy()
    other[1, :2] = other[1, 1::-1]
    refiner = doubles.refiner(lambda asked: [(WRONG, -1.0) if asked.draft is None else (other, 2.0)])
    out = refiner.refine(PUZZLE, WRONG)
    assert (out.source, out.verdict.status) == ("refiner+draft", Status.UNSOLVED)
    assert np.array_equal(out.grid, other)
    assert out.confidence == pytest.approx(sigmoid(2.0))


def test_cold_false_refines_the_draft_alone() -> None:
    refiner = doubles.refiner(doubles.never_solves)
    refiner.refine(PUZZLE, WRONG, cold=False, restarts=2)
    assert [asked.draft is None for asked in doubles.seen(refiner)] == [False] * 3


def test_the_first_grid_that_verifies_is_the_answer() -> None:
    refiner = doubles.refiner(lambda asked: [(WRONG, -9.0), (RIGHT, -9.0), (WRONG, -9.0)])
    out = refiner.refine(PUZZLE, steps=3, trace=True)
    assert (out.steps, out.verdict.status) == (3, Status.VERIFIED)
    assert [grid.tolist() for grid in out.trace] == [WRONG.tolist(), RIGHT.tolist()]


@pytest.mark.parametrize(
    ("halts", "steps"),
    [((-9.0, 2.0, 5.0, 5.0), 2), ((3.0, 2.0, 5.0, 5.0), 2), ((-9.0, -2.0, -5.0, 5.0), 4)],
)
def test_a_rollout_ends_when_network_and_rules_agree(halts: tuple[float, ...], steps: int) -> None:
    """Solved at the second step; the confidence is the first halt's, with rules as without them."""
    refiner = doubles.refiner(lambda asked: list(zip((WRONG, RIGHT, RIGHT, RIGHT), halts, strict=True)))
    out = refiner.refine(PUZZLE)
    assert (out.steps, out.verdict.status) == (steps, Status.VERIFIED)
    assert out.confidence == pytest.approx(sigmoid(next(halt for halt in halts if halt > 0)))


def test_confidence_is_the_same_where_no_rule_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules accept the first grid, long before the network halts."""
    refiner = doubles.refiner(lambda asked: [(RIGHT, -4.0), (RIGHT, -1.0), (WRONG, 1.0), (RIGHT, 6.0)])
    cold, drafted = refiner.refine(PUZZLE), refiner.refine(PUZZLE, RIGHT)
    single = np.log(np.array([sigmoid(1.0)]))  # the vote of one or two views is smoothed
    monkeypatch.setattr(type(TASK), "has_checker", False)
    monkeypatch.setattr(type(TASK), "check", lambda *_: Verdict(Status.UNVERIFIED, ()))
    assert cold.confidence == drafted.confidence == pytest.approx(float(np.exp(single[0])))
    assert refiner.refine(PUZZLE).attempts[0].confidence == cold.confidence


# -- restarts ------------------------------------------------------------------------------------------------
def test_restarts_see_the_puzzle_under_a_symmetry_with_noise_and_come_back() -> None:
    """Cold it fails; each restart is solved as the network saw it, and the answer fits the question asked."""
    refiner = doubles.refiner(doubles.solves_with_restarts)
    out = refiner.refine(PUZZLE, restarts=5, noise=0.7, seed=3)
    assert (out.restarts, out.verdict.status, out.text) == (1, Status.VERIFIED, doubles.SOLUTION)
    cold, restart = doubles.seen(refiner)
    assert restart.rollout.noise == 0.7
    assert not np.array_equal(restart.question, cold.question)


def test_restarts_start_cold_and_from_the_draft_by_turns_and_end() -> None:
    seeds = []
    for _ in range(2):
        refiner = doubles.refiner(doubles.never_solves)
        out = refiner.refine(PUZZLE, WRONG, restarts=4, seed=1)
        asked = doubles.seen(refiner)
        assert [one.draft is None for one in asked] == [True, False] * 3
        assert (out.restarts, out.verdict.status) == (4, Status.UNSOLVED)
        seeds.append([one.rollout.seed for one in asked[2:]])
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0])) == 4


def test_a_spent_budget_begins_no_restart_and_ends_the_first_rollout() -> None:
    refiner = doubles.refiner(lambda asked: [(WRONG, -1.0)] * 16)
    out = refiner.refine(PUZZLE, restarts=4, budget=0.0)
    assert (out.restarts, out.steps) == (0, 1)


def test_several_answers_are_distinct_and_verified() -> None:
    blank = np.zeros((9, 9), dtype=np.uint8)

    def play(asked: Asked) -> list[tuple[Grid, float]]:
        rng = np.random.default_rng(asked.number)
        return [(solve_sudoku(asked.question, most=1, rng=rng).solutions[0], 0.0)]

    out = doubles.refiner(play).refine(blank, restarts=6, answers=3)
    grids = [out.grid, *out.alternatives]
    assert len(grids) == len({grid.tobytes() for grid in grids}) == 3
    assert all(TASK.check(as_puzzle(blank), grid).status is Status.VERIFIED for grid in grids)


@pytest.mark.parametrize(("wanted", "found"), [(2, 2), (5, 5), (6, 6), (9, 6)])
def test_further_paths_of_a_maze_are_asked_for_with_the_known_ones_walled_up(wanted: int, found: int) -> None:
    """An open 3x3 maze has six shortest paths from corner to corner; a search finds the same one every time."""
    question = "S  \n   \n  G"
    out = doubles.refiner(doubles.walks).refine(question, restarts=30, answers=wanted)
    paths = [out.grid, *out.alternatives]
    assert len(paths) == len({path.tobytes() for path in paths}) == found
    assert all(get("maze").check(as_puzzle(question), path).status is Status.VERIFIED for path in paths)
    assert out.restarts == found - 1  # none is spent where no further path exists


# -- batches -------------------------------------------------------------------------------------------------
class Watching(Callbacks):
    def __init__(self) -> None:
        self.progress: list[tuple[int, int]] = []
        self.grids: list[Grid | None] = []

    def refining(self, puzzle: Puzzle, done: int, total: int, grid: Grid | None = None) -> None:
        self.progress.append((done, total))
        self.grids.append(grid)


def test_the_grid_that_is_shown_meanwhile_is_the_first_puzzles() -> None:
    other = as_puzzle(PUZZLE.grid[::-1].copy(), "sudoku")
    refiner, watching = doubles.refiner(doubles.cold_solves), Watching()
    refiner.refine([PUZZLE, other], callbacks=watching)
    assert watching.progress == [(1, 2), (2, 2)]
    assert all(grid is not None and np.array_equal(grid, RIGHT) for grid in watching.grids)


def test_results_do_not_depend_on_what_shares_the_batch() -> None:
    refiner = real_refiner()
    rng = np.random.default_rng(0)
    shuffled = [TASK.symmetries((9, 9)).draw(rng).forward(PUZZLE.grid) for _ in range(5)]
    drafts = [WRONG if i == 2 else None for i in range(5)]
    alone = [refiner.refine(q, draft, steps=3, restarts=2) for q, draft in zip(shuffled, drafts, strict=True)]
    batch = refiner.refine(shuffled, drafts, steps=3, restarts=2)
    for a, b in zip(alone, batch, strict=True):
        assert np.array_equal(a.grid, b.grid)
        assert (a.steps, a.restarts, a.source) == (b.steps, b.restarts, b.source)
        assert a.confidence == pytest.approx(b.confidence, abs=1e-6)


# -- drafts and scores ---------------------------------------------------------------------------------------
def test_a_draft_changes_what_the_network_does() -> None:
    refiner = real_refiner()
    cold, drafted = refiner.refine(PUZZLE, steps=1), refiner.refine(PUZZLE, RIGHT, cold=False, steps=1)
    assert not np.array_equal(cold.grid, drafted.grid)


@pytest.mark.parametrize(
    ("draft", "parts"),
    [
        (np.ones((3, 4), dtype=np.uint8), ["3x4", "9x9"]),
        (np.full((9, 9), 12, dtype=np.uint8), ["12"]),
        ((RIGHT, RIGHT), ["2", "expected 1"]),
    ],
)
def test_bad_drafts_are_refused(draft: Any, parts: list[str]) -> None:
    with pytest.raises(PuzzleError) as error:
        real_refiner().refine(PUZZLE, draft)
    assert all(part in str(error.value) for part in parts)


def test_an_expert_without_drafts_refuses_one_and_cannot_score() -> None:
    refiner = real_refiner(draft=False)
    assert not refiner.accepts_drafts("sudoku")
    for call in (lambda: refiner.refine(PUZZLE, RIGHT), lambda: refiner.score(PUZZLE, [RIGHT])):
        with pytest.raises(PuzzleError, match="not trained on drafts"):
            call()


def test_score_and_confidence_know_no_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    refiner = real_refiner()
    before = refiner.score(PUZZLE, [RIGHT, WRONG])
    confidence = refiner.refine(PUZZLE, steps=2).confidence
    assert (before.dtype, before.shape) == (np.float32, (2,))
    assert before[0] != before[1]
    unsolved = TASK.check(PUZZLE, WRONG)
    monkeypatch.setattr(type(TASK), "check", lambda *_: unsolved)
    assert np.array_equal(refiner.score(PUZZLE, [RIGHT, WRONG]), before)
    assert refiner.refine(PUZZLE, steps=2).confidence == confidence


def test_a_score_is_the_probability_of_the_least_likely_free_cell_of_the_draft() -> None:
    refiner = real_refiner()
    model = refiner.pool.engine("sudoku").model
    tokens = torch.from_numpy(TASK.encode_question(PUZZLE))[None]
    for candidate in (RIGHT, WRONG):
        draft = torch.from_numpy(TASK.encode_draft(PUZZLE, candidate))[None]
        with torch.inference_mode():
            _, out = model.step(model.initial_state(1), tokens, None, draft)
        likely = out.logits.softmax(-1)[0].numpy()
        expected = min(likely[i, draft[0, i]] for i in np.flatnonzero(PUZZLE.grid == 0))
        assert refiner.score(PUZZLE, [candidate])[0] == pytest.approx(expected, rel=1e-4)
    assert refiner.score(PUZZLE, []).shape == (0,)
    open_cell, changed_given = RIGHT.copy(), RIGHT.copy()
    open_cell[tuple(np.argwhere(PUZZLE.grid == 0)[5])] = 0
    given = tuple(np.argwhere(PUZZLE.grid)[3])
    changed_given[given] = RIGHT[given] % 9 + 1
    assert refiner.score(PUZZLE, [open_cell, changed_given, PUZZLE.grid]).tolist() == [0, 0, 0]


# -- questions -----------------------------------------------------------------------------------------------
def test_questions_come_as_text_arrays_or_puzzles() -> None:
    refiner = doubles.refiner(doubles.cold_solves)
    for question in (doubles.SUDOKU, PUZZLE.grid, PUZZLE.grid.astype(int), PUZZLE):
        assert refiner.refine(question).text == doubles.SOLUTION


@pytest.mark.parametrize(
    ("question", "options", "part"),
    [
        ("55" + doubles.SUDOKU[2:], {}, "row 1"),
        (doubles.maze(), {}, "no expert for maze"),
        ([PUZZLE, PUZZLE], {"draft": [None]}, "as many drafts"),
        (PUZZLE, {"steps": 0}, "at least 1"),
        (PUZZLE, {"seed": -1}, "at least 0"),
        (PUZZLE, {"noise": -0.1}, "at least 0"),
        (PUZZLE, {"noise": float("nan")}, "at least 0"),
    ],
)
def test_what_cannot_be_refined_is_one_line(question: Any, options: dict[str, Any], part: str) -> None:
    with pytest.raises(PuzzleError, match=part):
        doubles.refiner(doubles.cold_solves, ["sudoku"]).refine(question, **options)


def test_a_task_without_an_expert_cannot_be_scored() -> None:
    with pytest.raises(PuzzleError, match="no expert for maze"):
        doubles.refiner(doubles.cold_solves, ["sudoku"]).score(doubles.maze(), [doubles.maze().grid])


def test_weights_of_another_shape_than_the_tasks_are_refused() -> None:
    model = network(replace(SMALL, vocab_size=12))
    other = Checkpoint("x", {"sudoku": Expert("sudoku", model.config, model.state_dict())})
    with pytest.raises(PuzzleError, match=r"\(81, 12\), expected \(81, 11\) for sudoku"):
        Refiner.from_checkpoint(other, "cpu").refine(PUZZLE)


@pytest.mark.parametrize(
    ("trained", "capabilities", "expected"),
    [
        ("bfloat16", {"avx512_bf16": True, "cpu_name": "AMD EPYC 9R14"}, torch.bfloat16),
        ("bfloat16", {"avx512_bf16": True, "cpu_name": "Intel Xeon"}, torch.float32),
        ("bfloat16", {"avx512_bf16": True, "cpu_name": "Intel Xeon", "amx_bf16": True}, torch.bfloat16),
        ("bfloat16", {"avx512_bf16": True}, torch.bfloat16),
        ("bfloat16", {}, torch.float32),
        ("float32", {"avx512_bf16": True, "amx_bf16": True}, torch.float32),
    ],
)
def test_experts_trained_in_bfloat16_run_in_it_only_where_that_is_faster(
    monkeypatch: pytest.MonkeyPatch, trained: str, capabilities: dict[str, object], expected: torch.dtype
) -> None:
    model = network()
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    expert = Expert("sudoku", model.config, model.state_dict(), {"dtype": trained})
    refiner = Refiner.from_checkpoint(Checkpoint("x", {"sudoku": expert}), "cpu")
    assert refiner.pool.engine("sudoku").model.dtype is expected


def test_attempts_are_kept_in_order() -> None:
    refiner = doubles.refiner(doubles.never_solves)
    out = refiner.refine(PUZZLE, WRONG, restarts=2)
    sources: Sequence[str] = [attempt.source for attempt in out.attempts]
    assert sources == ["refiner", "refiner+draft"] * 2
