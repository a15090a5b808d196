"""The refiner: what wins, what a draft does, restarts, scores, and that company changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import doubles
import numpy as np
import pytest
import torch
from doubles import SMALL, network

from trm.checkpoints.format import Checkpoint, CheckpointError, Expert
from trm.grid import Grid, PuzzleError
from trm.inference.engine import Rollout, Stop, Trajectory
from trm.inference.question import as_puzzle
from trm.inference.refiner import Refiner
from trm.tasks import Puzzle, Status, Verdict, get
from trm.tasks.maze.solver import shortest_path
from trm.tasks.sudoku.solver import solve_sudoku

TASK = get("sudoku")
PUZZLE = doubles.sudoku()
RIGHT, WRONG = doubles.right(PUZZLE)[0], doubles.wrong(PUZZLE)[0]


@dataclass
class ScriptedEngine:
    """Plays grids instead of running a network: `play(rollout)` gives each step's (grid, halt logit)."""

    play: Callable[[Rollout], Sequence[tuple[Grid, float]]]
    seen: list[Rollout] = field(default_factory=list)

    def each(
        self, rollouts: Sequence[Rollout], steps: int = 16, stop: Stop | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Iterator[tuple[int, Trajectory]]:  # fmt: skip
        for index, rollout in enumerate(rollouts):
            self.seen.append(rollout)
            run = Trajectory()
            for grid, halt in self.play(rollout)[:steps]:
                run.grids.append(TASK.encode(grid))
                run.halts.append(halt)
                if stop is not None and stop(index, run):
                    break
            if progress is not None:
                progress(index + 1)
            yield index, run


def refiner(draft: bool = True) -> Refiner:
    """Random weights behind a real refiner."""
    made = network(replace(SMALL, draft=draft, feedback=draft))
    return Refiner(Checkpoint("test", {"sudoku": Expert("sudoku", made.config, made.state_dict())}), "cpu")


def scripted(play: Callable[[Rollout], Sequence[tuple[Grid, float]]]) -> tuple[Refiner, ScriptedEngine]:
    made, engine = refiner(), ScriptedEngine(play)
    made.experts._engines["sudoku"] = engine  # type: ignore[assignment]
    return made, engine


def test_a_cold_start_runs_beside_the_draft_and_what_verifies_wins() -> None:
    made, engine = scripted(lambda r: [(RIGHT if r.draft is not None else WRONG, 0.0)])
    out = made.refine(PUZZLE, WRONG)
    assert [r.draft is None for r in engine.seen] == [True, False]
    assert (out.source, out.verdict.status, out.text) == ("refiner+draft", Status.VERIFIED, doubles.SOLUTION)


def test_when_both_verify_the_draft_added_nothing() -> None:
    made, _ = scripted(lambda r: [(RIGHT, 1.0 if r.draft is not None else 0.0)])
    assert made.refine(PUZZLE, WRONG).source == "refiner"


def test_when_nothing_verifies_the_more_confident_answer_is_given() -> None:
    other = WRONG.copy()
    other[1, :2] = other[1, 1::-1]
    made, _ = scripted(lambda r: [(WRONG, -1.0) if r.draft is None else (other, 2.0)])
    out = made.refine(PUZZLE, WRONG)
    assert (out.source, out.verdict.status) == ("refiner+draft", Status.UNSOLVED)
    assert np.array_equal(out.grid, other)
    assert out.confidence == pytest.approx(1 / (1 + np.exp(-2.0)))


def test_cold_false_refines_the_draft_alone() -> None:
    made, engine = scripted(lambda r: [(WRONG, 0.0)])
    made.refine(PUZZLE, WRONG, cold=False)
    assert [r.draft is None for r in engine.seen] == [False]


def test_the_first_grid_that_verifies_is_the_answer() -> None:
    made, _ = scripted(lambda r: [(WRONG, -9.0), (RIGHT, -9.0), (WRONG, -9.0)])
    out = made.refine(PUZZLE, steps=3, trace=True)
    assert (out.steps, out.verdict.status) == (3, Status.VERIFIED)
    assert [np.array_equal(g, e) for g, e in zip(out.trace, (WRONG, RIGHT), strict=True)] == [True, True]


@pytest.mark.parametrize(
    ("halts", "steps"),
    [((-9.0, 2.0, 5.0, 5.0), 2), ((3.0, 2.0, 5.0, 5.0), 2), ((-9.0, -2.0, -5.0, 5.0), 4)],
)
def test_a_rollout_ends_when_network_and_rules_agree(halts: tuple[float, ...], steps: int) -> None:
    """Solved at the second step; the confidence is the first halt's, with rules as without them."""
    grids = (WRONG, RIGHT, RIGHT, RIGHT)
    made, _ = scripted(lambda r: list(zip(grids, halts, strict=True)))
    out = made.refine(PUZZLE)
    assert (out.steps, out.verdict.status) == (steps, Status.VERIFIED)
    first = next(h for h in halts if h > 0)
    assert out.confidence == pytest.approx(1 / (1 + np.exp(-first)))


def test_confidence_is_the_same_where_no_rule_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules accept the first grid, long before the network halts."""
    made, _ = scripted(lambda r: [(RIGHT, -4.0), (RIGHT, -1.0), (WRONG, 1.0), (RIGHT, 6.0)])
    ruled, beside = made.refine(PUZZLE), made.refine(PUZZLE, RIGHT)
    monkeypatch.setattr(type(TASK), "has_checker", False)
    monkeypatch.setattr(type(TASK), "check", lambda *_: Verdict(Status.UNVERIFIED, ()))
    assert made.refine(PUZZLE).confidence == ruled.confidence
    assert made.refine(PUZZLE, RIGHT).confidence == beside.confidence


def test_restarts_see_the_puzzle_under_a_symmetry_with_noise_and_come_back() -> None:
    """Cold it fails; each restart is solved as the network saw it, and the answer fits the question asked."""

    def play(rollout: Rollout) -> list[tuple[Grid, float]]:
        if not rollout.noise:
            return [(WRONG, 0.0)]
        question = TASK.decode(PUZZLE, rollout.tokens)
        return [(solve_sudoku(question, most=1).solutions[0], 0.0)]

    made, engine = scripted(play)
    out = made.refine(PUZZLE, restarts=5, noise=0.7, seed=3)
    assert (out.restarts, out.verdict.status, out.text) == (1, Status.VERIFIED, doubles.SOLUTION)
    assert engine.seen[1].noise == 0.7
    assert not np.array_equal(engine.seen[1].tokens, engine.seen[0].tokens)


def test_restarts_take_turns_and_end() -> None:
    made, engine = scripted(lambda r: [(WRONG, 0.0)])
    out = made.refine(PUZZLE, WRONG, restarts=4, seed=1)
    assert [r.draft is None for r in engine.seen] == [True, False, True, False, True, False]
    assert (out.restarts, out.verdict.status) == (4, Status.UNSOLVED)
    seeds = [r.seed for r in engine.seen[2:]]
    again, second = scripted(lambda r: [(WRONG, 0.0)])
    again.refine(PUZZLE, WRONG, restarts=4, seed=1)
    assert [r.seed for r in second.seen[2:]] == seeds
    assert len(set(seeds)) == 4


def test_restarts_alone_begin_at_each_start_in_turn() -> None:
    made, engine = scripted(lambda r: [(WRONG, 0.0)])
    ((_, out),) = made.restart([PUZZLE], [[None, WRONG, RIGHT]], restarts=5)
    assert (out.restarts, out.steps, out.verdict.status) == (5, 5, Status.UNSOLVED)
    starts = [None if r.draft is None else int((r.draft != 0).sum()) for r in engine.seen]
    assert starts == [None, 81, 81, None, 81]
    assert all(r.noise > 0 for r in engine.seen)
    solving, _ = scripted(lambda r: [(solve_sudoku(TASK.decode(PUZZLE, r.tokens), most=1).solutions[0], 1.0)])
    ((_, out),) = solving.restart([PUZZLE], [[WRONG]], restarts=5)
    assert (out.restarts, out.source, out.text) == (1, "refiner+draft", doubles.SOLUTION)
    with pytest.raises(PuzzleError, match="no rule decides"):
        list(made.restart(get("arc").samples()[:1], [[None]]))


def test_a_spent_budget_begins_no_restart() -> None:
    made, _ = scripted(lambda r: [(WRONG, 0.0)])
    assert made.refine(PUZZLE, restarts=4, budget=0.0).restarts == 0


def test_several_answers_are_distinct_and_verified() -> None:
    blank = np.zeros((9, 9), dtype=np.uint8)
    band = {b"": 0}

    def play(rollout: Rollout) -> list[tuple[Grid, float]]:
        band[b""] += 1
        return [(solve_sudoku(blank, most=1, rng=np.random.default_rng(band[b""])).solutions[0], 0.0)]

    made, _ = scripted(play)
    out = made.refine(blank, restarts=6, answers=3)
    grids = [out.grid, *out.alternatives]
    assert len(grids) == len({g.tobytes() for g in grids}) == 3
    assert all(TASK.check(as_puzzle(blank), g).status is Status.VERIFIED for g in grids)


class Searching:
    """Stands in for a network that finds one shortest path of the maze it is shown, and for its engine."""

    def each(
        self, rollouts: Sequence[Rollout], steps: int, stop: Stop, progress: object
    ) -> Iterator[tuple[int, Trajectory]]:
        maze = get("maze")
        for index, rollout in enumerate(rollouts):
            canvas = Puzzle("maze", (np.zeros((3, 3), dtype=np.uint8),))
            path = shortest_path(maze.decode(canvas, rollout.tokens))
            assert path is not None
            run = Trajectory()
            run.grids.append(maze.encode(path))
            run.halts.append(1.0)
            stop(index, run)
            yield index, run


@pytest.mark.parametrize(("asked", "found"), [(2, 2), (5, 5), (6, 6), (9, 6)])
def test_further_paths_of_a_maze_are_asked_for_with_the_known_ones_walled_up(asked: int, found: int) -> None:
    """An open 3x3 maze has six shortest paths from corner to corner; a search finds the same one every time."""
    shape = replace(SMALL, seq_len=900, vocab_size=6, canvas_width=30, positions="rope2d")
    made = Refiner(Checkpoint("test", {"maze": Expert("maze", shape, network(shape).state_dict())}), "cpu")
    made.experts._engines["maze"] = Searching()  # type: ignore[assignment]
    out = made.refine("S  \n   \n  G", restarts=30, answers=asked)
    paths = [out.grid, *out.alternatives]
    assert len(paths) == len({p.tobytes() for p in paths}) == found
    assert all(get("maze").check(as_puzzle("S  \n   \n  G"), p).status is Status.VERIFIED for p in paths)
    assert out.restarts == found - 1  # none is spent where no further path exists


def test_what_is_settled_does_not_wait_for_the_restarts_of_others() -> None:
    hard = Puzzle("sudoku", (TASK.symmetries((9, 9)).draw(np.random.default_rng(0)).forward(PUZZLE.grid),))

    def play(rollout: Rollout) -> list[tuple[Grid, float]]:
        return [(RIGHT if np.array_equal(rollout.tokens, TASK.encode_question(PUZZLE)) else WRONG, 5.0)]

    made, engine = scripted(play)
    came = [(index, len(engine.seen)) for index, _ in made.each([hard, PUZZLE], [None, None], restarts=3)]
    assert came == [(1, 2), (0, 5)]


def test_what_is_shown_meanwhile_is_the_first_puzzles() -> None:
    other = as_puzzle(PUZZLE.grid[::-1].copy(), "sudoku")
    first = TASK.encode_question(PUZZLE)
    made, _ = scripted(lambda r: [(RIGHT if np.array_equal(r.tokens, first) else WRONG, 1.0)])
    heard: list[tuple[int, int, Grid | None]] = []
    made.refine([PUZZLE, other], restarts=2, progress=lambda *told: heard.append(told))
    assert [(done, total) for done, total, _ in heard] == [(1, 2), (2, 2), (1, 1), (1, 1)]
    assert [grid is None for _, _, grid in heard] == [False, False, True, True]
    assert all(np.array_equal(grid, RIGHT) for _, _, grid in heard if grid is not None)


def test_results_do_not_depend_on_company() -> None:
    made = refiner()
    rng = np.random.default_rng(0)
    shuffled = [TASK.symmetries((9, 9)).draw(rng).forward(PUZZLE.grid) for _ in range(5)]
    alone = [made.refine(q, WRONG if i == 2 else None, steps=3, restarts=2) for i, q in enumerate(shuffled)]
    together = made.refine(shuffled, [WRONG if i == 2 else None for i in range(5)], steps=3, restarts=2)
    for a, b in zip(alone, together, strict=True):
        assert np.array_equal(a.grid, b.grid)
        assert (a.steps, a.restarts, a.source) == (b.steps, b.restarts, b.source)
        assert a.confidence == pytest.approx(b.confidence, abs=1e-6)


def test_a_draft_changes_what_the_network_does() -> None:
    made = refiner()
    cold, drafted = made.refine(PUZZLE, steps=1), made.refine(PUZZLE, RIGHT, cold=False, steps=1)
    assert not np.array_equal(cold.grid, drafted.grid)


@pytest.mark.parametrize(
    ("draft", "words"),
    [
        (np.ones((3, 4), dtype=np.uint8), "draft of 3x4, expected 9x9"),
        (np.full((9, 9), 12, dtype=np.uint8), "12 is unknown"),
        ((RIGHT, RIGHT), "draft of 2 grids, expected 1"),
    ],
)
def test_bad_drafts_are_refused(draft: Any, words: str) -> None:
    with pytest.raises(PuzzleError, match=words):
        refiner().refine(PUZZLE, draft)


def test_an_expert_without_drafts_refuses_one_and_cannot_score() -> None:
    made = refiner(draft=False)
    assert not made.accepts_drafts("sudoku")
    with pytest.raises(PuzzleError, match="not trained on drafts"):
        made.refine(PUZZLE, RIGHT)
    with pytest.raises(PuzzleError, match="cannot score"):
        made.score(PUZZLE, [RIGHT])


def test_score_and_confidence_know_no_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    made = refiner()
    before = made.score(PUZZLE, [RIGHT, WRONG])
    confidence = made.refine(PUZZLE, steps=2).confidence
    assert before.dtype == np.float32
    assert before.shape == (2,)
    assert before[0] != before[1]
    unsolved = TASK.check(PUZZLE, WRONG)
    monkeypatch.setattr(type(TASK), "check", lambda *_: unsolved)
    assert np.array_equal(made.score(PUZZLE, [RIGHT, WRONG]), before)
    assert made.refine(PUZZLE, steps=2).confidence == confidence


def test_a_score_is_the_probability_of_the_least_likely_free_cell_of_the_draft() -> None:
    made = refiner()
    network, tokens = made.engine("sudoku").model, torch.from_numpy(TASK.encode_question(PUZZLE))[None]
    for candidate in (RIGHT, WRONG):
        draft = torch.from_numpy(TASK.encode_draft(PUZZLE, candidate))[None]
        with torch.inference_mode():
            _, out = network.step(network.initial_state(1), tokens, None, draft)
        told = out.logits.softmax(-1)[0].numpy()
        free = np.flatnonzero(PUZZLE.grid == 0)
        expected = min(told[i, draft[0, i]] for i in free)
        assert made.score(PUZZLE, [candidate])[0] == pytest.approx(expected, rel=1e-4)
    assert made.score(PUZZLE, []).shape == (0,)
    open_, other = RIGHT.copy(), RIGHT.copy()
    open_[tuple(np.argwhere(PUZZLE.grid == 0)[5])] = 0
    given = tuple(np.argwhere(PUZZLE.grid)[3])
    other[given] = RIGHT[given] % 9 + 1
    assert made.score(PUZZLE, [open_, other, PUZZLE.grid]).tolist() == [0, 0, 0]  # no answers to the question


def test_questions_come_as_text_arrays_or_puzzles() -> None:
    made, _ = scripted(lambda r: [(RIGHT, 0.0)])
    for question in (doubles.SUDOKU, PUZZLE.grid, PUZZLE.grid.astype(int), PUZZLE):
        assert made.refine(question).text == doubles.SOLUTION
    with pytest.raises(PuzzleError):
        made.refine("55" + doubles.SUDOKU[2:])
    with pytest.raises(PuzzleError, match="no expert for maze"):
        made.refine(doubles.maze())
    with pytest.raises(PuzzleError, match="list of as many drafts"):
        made.refine([PUZZLE, PUZZLE], [None])
    for odd in ({"steps": 0}, {"seed": -1}, {"noise": -0.1}, {"noise": float("nan")}):
        with pytest.raises(PuzzleError, match="at least 1"):
            made.refine(PUZZLE, **odd)
    with pytest.raises(PuzzleError, match="no expert for maze"):
        made.score(doubles.maze(), [doubles.maze().grid])


def test_weights_of_another_shape_than_the_tasks_are_refused() -> None:
    made = network(replace(SMALL, vocab_size=12))
    other = Refiner(Checkpoint("x", {"sudoku": Expert("sudoku", made.config, made.state_dict())}), "cpu")
    with pytest.raises(PuzzleError, match=r"\(81, 12\), expected \(81, 11\) for sudoku"):
        other.refine(PUZZLE)


def test_devices_that_are_not_there_are_one_line() -> None:
    with pytest.raises(CheckpointError, match="expected auto"):
        Refiner(Checkpoint("x", {}), "tpu")
    if not torch.cuda.is_available():
        with pytest.raises(CheckpointError, match="there is none here"):
            Refiner(Checkpoint("x", {}), "cuda")


def test_experts_trained_in_bfloat16_run_in_it_only_where_that_is_faster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = network()
    bf16: dict[str, Any] = {"avx512_bf16": True}
    for trained, able, expected in (
        ("bfloat16", {**bf16, "cpu_name": "AMD EPYC 9R14"}, torch.bfloat16),
        ("bfloat16", {**bf16, "cpu_name": "Intel Xeon"}, torch.float32),
        ("bfloat16", {**bf16, "cpu_name": "Intel Xeon", "amx_bf16": True}, torch.bfloat16),
        ("bfloat16", bf16, torch.bfloat16),
        ("bfloat16", {}, torch.float32),
        ("float32", {**bf16, "amx_bf16": True}, torch.float32),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: able, raising=False)
        expert = Expert("sudoku", made.config, made.state_dict(), {"dtype": trained})
        assert Refiner(Checkpoint("x", {"sudoku": expert}), "cpu").engine("sudoku").model.dtype is expected
