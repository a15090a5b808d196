"""The score of candidates by an adapted network, which does not see them, and what the score is worth."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

from trm.adaptation.config import AdaptationConfig
from trm.checkpoints.format import Checkpoint, Expert
from trm.data.generate import generate
from trm.evaluation.records import (
    MOST_SCORED,
    Record,
    ScoredCandidate,
    evaluate_adapted,
    first_attempts,
    ranking,
    read_records,
)
from trm.evaluation.statistics import auroc
from trm.grid import Grid, PuzzleError
from trm.inference import verifier
from trm.inference.engine import Engine, Rollout
from trm.inference.refiner import Refiner
from trm.model.config import TRMConfig
from trm.model.network import TRM
from trm.tasks import Puzzle
from trm.tasks.transforms import TaskView, draw_task_view

SHAPE = TRMConfig(
    100, 12, canvas_width=10, hidden_size=32, heads=2, prefix=2, positions="rope2d", h_cycles=1, l_cycles=1,
    gated_norm=True, draft=True, feedback=True, identities=3, identity_dim=32, turns=True,
)  # fmt: skip
TASK = next(generate("arc", 1, 3, rule="recolour", demos=3, size=(3, 5)))
ANSWER = (TASK.answers or ())[0]
STEPS = 2
RECOLOURED = AdaptationConfig().color_permutation_prob


def adapted(steps: int = 2, shape: TRMConfig = SHAPE) -> Refiner:
    """A refiner whose ARC expert is adapted for so many steps, and answers in STEPS."""
    torch.manual_seed(0)
    expert = Expert("arc", shape, TRM(shape).state_dict(), {"recipe": {"train": {"max_steps": STEPS}}})
    config = AdaptationConfig(steps=steps, batch=8, max_steps=1, lr=0.02, adamw_lr=0.02, smallest_canvas=10)
    return Refiner.from_checkpoint(Checkpoint("test", {"arc": expert}), "cpu", adaptation=config)


@pytest.fixture(scope="module")
def refiner() -> Refiner:
    return adapted()


def cells(grid: Grid) -> list[tuple[int, int, int]]:
    """Row, column and token of what states a grid: its colours, and the marks right of it and below."""
    height, width = grid.shape
    colours = [(r, c, int(grid[r, c]) + 2) for r in range(height) for c in range(width)]
    return colours + [(height, c, 1) for c in range(width)] + [(r, width, 1) for r in range(height)]


@torch.inference_mode()
def log_p(network: TRM, question: Grid, turn: int) -> np.ndarray:
    """What the network says after STEPS of one cold rollout [10, 10, V]."""
    tokens = np.zeros((10, 10), dtype=np.int64)
    for row, col, token in cells(question):
        tokens[row, col] = token
    given = torch.from_numpy(tokens.reshape(1, -1))
    state, draft = network.initial_state(1), torch.zeros_like(given)
    for _ in range(STEPS):
        state, out = network.step(state, given, torch.tensor([turn]), draft)
        draft = out.logits.argmax(-1)
    return out.logits.log_softmax(-1).view(10, 10, -1).numpy()


def mean_log_p(network: TRM, question: Grid, candidate: Grid, views: list[TaskView]) -> float:
    means = []
    for view in views:
        said = log_p(network, view.forward(question), view.turn)
        means.append(np.mean([said[at] for at in cells(view.forward(candidate))]))
    return float(np.mean(means))


def test_a_score_is_that_of_the_log_probabilities(refiner: Refiner) -> None:
    network = refiner.pool.network(TASK).engines[0].model
    drawn = [
        draw_task_view(TASK, np.random.default_rng([TASK.checksum, n]), recolour=RECOLOURED)
        for n in range(verifier.VIEWS)
    ]
    views = [TaskView(), *drawn]
    assert len({view.turn for view in views}) > 3
    candidates = [ANSWER, ANSWER[:-1], np.full((4, 7), 3, dtype=np.uint8)]
    scores = refiner.score(TASK, candidates)
    assert (scores.dtype, scores.shape) == (np.float32, (3,))
    for score, candidate in zip(scores, candidates, strict=True):
        expected = np.exp(mean_log_p(network, TASK.grid, candidate, views))
        assert 0 < score < 1
        assert score == pytest.approx(expected, rel=1e-4)


def test_one_rollout_a_view_serves_every_candidate(refiner: Refiner, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[Rollout]] = []
    run = Engine.run
    monkeypatch.setattr(Engine, "run", lambda self, rs, *rest: asked.append(rs) or run(self, rs, *rest))
    rng = np.random.default_rng(0)
    candidates = [rng.integers(0, 10, (2 + n, 5)).astype(np.uint8) for n in range(5)]
    together = refiner.score(TASK, candidates)
    assert [len(rollouts) for rollouts in asked] == [1 + verifier.VIEWS]
    assert all(rollout.draft is None for rollout in asked[0])
    assert np.array_equal(together, [refiner.score(TASK, [one])[0] for one in candidates])
    assert np.array_equal(together[::-1], refiner.score(TASK, candidates[::-1]))
    assert np.array_equal(together, adapted().score(TASK, candidates))
    assert refiner.score(TASK, []).shape == (0,)


def test_what_was_learned_scores_high_and_another_size_or_colour_lower() -> None:
    """Every output is the same grid, whatever the input."""
    rng = np.random.default_rng(1)
    output = np.array([[4, 4, 4], [4, 4, 4]], dtype=np.uint8)
    inputs = [rng.integers(1, 4, (3, 3)).astype(np.uint8) for _ in range(4)]
    puzzle = Puzzle("arc", (inputs[0],), demos=tuple((grid, output) for grid in inputs[1:]))
    other = output.copy()
    other[1, 2] = 7
    lower, wider = np.full((3, 3), 4, dtype=np.uint8), np.full((2, 4), 4, dtype=np.uint8)
    candidates = [output, output[:1], output[:, :2], lower, wider, other]
    right, *wrong = adapted(steps=150).score(puzzle, candidates)
    assert right > 0.6
    assert max(wrong) < 0.95 * right


def test_of_several_grids_the_least_likely_counts(refiner: Refiner) -> None:
    puzzle = replace(TASK, inputs=(TASK.grid, TASK.demos[0][0]), answers=None)
    pair = (ANSWER, TASK.demos[0][1][:1])
    candidates = [[pair[0]], [pair[1]]]
    first, second = refiner.pool.network(puzzle).log_likelihood(puzzle, candidates, STEPS)
    assert first[0] != second[0]
    expected = np.exp(min(first[0], second[0]))
    assert refiner.score(puzzle, [pair])[0] == pytest.approx(expected, rel=1e-6)
    # Each alone, by the network and in the views of the whole puzzle.
    apart = [refiner.score(puzzle, [(grid,)], index=i)[0] for i, grid in enumerate(pair)]
    assert apart == pytest.approx([np.exp(first[0]), np.exp(second[0])], rel=1e-6)


def test_an_input_alone_does_not_have_the_network_adapted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    puzzle = replace(TASK, inputs=(TASK.grid, np.ones((13, 13), dtype=np.uint8)), answers=None)
    refiner = adapted()
    refiner.refine(puzzle)
    monkeypatch.setattr("trm.adaptation.test_time.TestTimeTrainer.adapt", None)  # called, it would fail
    assert refiner.score(puzzle, [(ANSWER,)], index=0).shape == (1,)


def test_an_evaluation_says_what_the_score_is_worth(tmp_path: Path) -> None:
    refiner = adapted(steps=20)  # so little that views differ
    said = refiner.refine(TASK, restarts=20)
    named = [attempt.grids[0] for attempt in said.attempts]
    right = replace(TASK, answers=(named[-1],))  # what some view says is declared right
    records = tmp_path / "records.jsonl"
    result = evaluate_adapted(refiner, [right, TASK], 16, restarts=20, records=records)
    (mine,), (other,) = (one["candidates"] for one in read_records(records))
    assert json.loads(json.dumps(mine)) == mine
    assert 1 < len(mine) <= MOST_SCORED
    assert [one["right"] for one in mine].count(True) == 1
    assert [(one["votes"], one["score"]) for one in mine] == [(one["votes"], one["score"]) for one in other]
    assert [one["votes"] for one in mine] == sorted((one["votes"] for one in mine), reverse=True)
    scores = {float(s) for s in refiner.score(TASK, named)}
    assert {np.float32(one["score"]) for one in mine} <= scores
    hit = next(one for one in mine if one["right"])
    mine_said = [one for one in said.attempts if np.array_equal(one.grids[0], named[-1])]
    assert (hit["votes"], hit["confidence"]) == (len(mine_said), max(one.confidence for one in mine_said))
    assert result["auroc"] == auroc([hit["score"]], [o["score"] for o in (*mine, *other) if o is not hit])


def judged(*rows: tuple[int, float, bool], sure: Sequence[float] = ()) -> list[ScoredCandidate]:
    said = sure or [0.5] * len(rows)
    return [
        ScoredCandidate(votes=votes, votes_of=[votes], score=score, confidence=one, right=right)
        for (votes, score, right), one in zip(rows, said, strict=True)
    ]


def test_candidates_are_ranked_by_score_and_by_votes() -> None:
    scored = judged((5, 0.1, False), (4, 0.2, False), (1, 0.9, True))  # the score finds it alone
    voted = judged((5, 0.1, True), (4, 0.2, False), (1, 0.9, False), (1, 0.8, False))  # the votes alone
    even = judged((5, 0.1, False), (1, 0.2, False), (1, 0.3, True), (0, 0.9, False), (0, 0.8, False))
    missed = judged((9, 0.9, False))
    found = ranking([scored, voted, even, missed])
    assert (found["pass_2_score"], found["pass_2_votes_score"]) == (0.25, 0.5)
    assert found["auroc"] == auroc([0.9, 0.1, 0.3], [0.1, 0.2, 0.2, 0.9, 0.8, 0.1, 0.2, 0.9, 0.8, 0.9])
    assert ranking([missed]) == {"pass_2_score": 0.0, "pass_2_confidence": 0.0, "pass_2_votes_score": 0.0}
    assert "auroc" not in ranking([judged((1, 0.5, True))])
    believed = judged(
        (5, 0.9, False), (4, 0.8, False), (1, 0.1, True), (1, 0.2, False), sure=[0.1, 0.2, 0.6, 0.7]
    )
    found = ranking([believed])
    assert (found["pass_2_confidence"], found["pass_2_score"], found["pass_2_votes_score"]) == (1.0, 0.0, 0.0)
    assert found["auroc_confidence"] == auroc([0.6], [0.1, 0.2, 0.7])


def test_the_confidence_of_a_first_attempt_is_its_vote_share_times_halting() -> None:
    def one(*mine: list[ScoredCandidate]) -> Record:
        return cast(Record, {"settings": {"restarts": 14}, "adaptation_steps": 1, "candidates": list(mine)})

    first = judged((7, 0.5, True), sure=[0.5]), judged((1, 0.5, False), sure=[0.9])
    # Of 15 views, by the rule of succession.
    beliefs, right = first_attempts([one(*first), one(judged((6, 0.5, False), sure=[0.6]))])
    assert beliefs == pytest.approx([0.5 * 8 / 17, 0.9 * 2 / 17, 0.6 * 7 / 17])
    assert right == [True, False, False]
    # Of equals the more confident is the first attempt, as in `refine`.
    even = judged((7, 0.5, True), (7, 0.5, False), sure=[0.1, 0.6])
    assert first_attempts([one(even)]) == ([pytest.approx(0.6 * 8 / 17)], [False])


def test_the_area_counts_pairs() -> None:
    rng = np.random.default_rng(0)
    right, wrong = rng.integers(2, 7, 9).tolist(), rng.integers(0, 6, 14).tolist()
    pairs = [(a > b) + 0.5 * (a == b) for a in right for b in wrong]
    assert auroc(right, wrong) == pytest.approx(np.mean(pairs))
    assert auroc([1.0], [1.0]) == 0.5


def test_no_draft_is_needed_and_no_other_canvas_taken(refiner: Refiner) -> None:
    blind = adapted(shape=replace(SHAPE, draft=False, feedback=False))
    assert 0 < blind.score(TASK, [ANSWER])[0] < 1
    alone, beside = refiner.score(TASK, [ANSWER]), refiner.score(TASK, [np.ones((3, 11), np.uint8), ANSWER])
    assert beside.tolist() == [0.0, alone[0]]  # the network cannot answer so on this canvas
    for shape in ((31, 3), (0, 0)):
        with pytest.raises(PuzzleError, match=f"{shape[0]}x{shape[1]}, expected at most 30x30"):
            refiner.score(TASK, [ANSWER, np.zeros(shape, dtype=np.uint8)])
