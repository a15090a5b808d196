"""What a comparison is made of: arms, computed drafts, results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import doubles
import numpy as np
import pytest
from doubles import Scripted, ScriptedLLM

from eval import arms, metrics, synthetic
from eval.arms import ArmError, Setting
from eval.recorded import RecordedProposer
from hybrid.answer import Answer
from hybrid.llm.base import Reply, Request
from hybrid.pipeline import Pipeline
from trm.data.generate import generate
from trm.evaluation.statistics import mcnemar, wilson
from trm.inference.config import SearchConfig
from trm.tasks import Puzzle, Status, get
from trm.tasks.maze.rules import FREE, PATH, START, Field, find

PUZZLE = doubles.sudoku()
WRONG = get("sudoku").text(doubles.wrong(PUZZLE))


def setting(proposer: RecordedProposer | None = None, play: doubles.Play = doubles.cold_solves) -> Setting:
    return Setting(proposer, doubles.refiner(play), SearchConfig(drafts=3, restarts=4))


def answer_of(name: str, shared: Setting, puzzle: Puzzle = PUZZLE, spent: Sequence[float] = ()) -> Answer:
    (answer,) = arms.run(name, [puzzle], shared, spent)
    return answer


# -- arms ----------------------------------------------------------------------------------------------------
def test_unknown_arms_are_refused() -> None:
    assert arms.check("draft:oracle@30") == "draft:oracle@30"
    assert arms.check("beside:consistent@100") == "beside:consistent@100"
    for name in ("hybird", "draft:oracle@101", "draft:oracle@x", "beside:oracle", "draft:llm@3"):
        with pytest.raises(ArmError, match="unknown arm"):
            arms.check(name)


def test_each_arm_asks_whom_it_names() -> None:
    """With a network that needs a draft, and an LLM whose draft is wrong."""
    shared = setting(doubles.recorded(WRONG), doubles.solves_from_a_draft)
    names = (*arms.MAIN, "trm+restarts", "draft:llm", "draft:oracle", "exact")
    solved = {
        name for name in names if answer_of(name, shared, spent=[16.0]).verdict.status is Status.VERIFIED
    }
    assert solved == {"hybrid", "draft:llm", "draft:oracle", "exact"}


@pytest.mark.parametrize(
    ("arm", "starts"), [("draft:oracle@50", [False]), ("beside:oracle@50", [True, False])]
)
def test_drafts_are_refined_alone_or_beside_a_cold_start(arm: str, starts: list[bool]) -> None:
    shared = setting(play=doubles.never_solves)
    answer_of(arm, shared)
    assert shared.refiner is not None
    assert [asked.draft is None for asked in doubles.seen(shared.refiner)] == starts


def test_the_control_has_the_hybrids_arithmetic() -> None:
    shared = setting(play=doubles.never_solves)
    for spent, restarts in ((2.0, 0), (16.0, 0), (16.5, 1), (33.0, 2), (160.0, 9)):
        assert answer_of("trm+restarts", shared, spent=[spent]).restarts == restarts
    answers = list(arms.run("trm+restarts", [doubles.sudoku(i) for i in "abc"], shared, [33.0, 2.0, 33.0]))
    assert {answer.puzzle.id: answer.restarts for answer in answers} == {"a": 2, "b": 0, "c": 2}


def test_an_llms_arithmetic_is_two_operations_a_parameter_and_token() -> None:
    answer = answer_of("llm", setting(doubles.recorded(WRONG)))
    assert arms.llm_flops(answer, 1_000_000) == 2e6 * 500
    assert arms.llm_flops(answer, None) == 0


def test_best_of_k_picks_by_vote_and_by_rules_and_pays_for_all() -> None:
    other = "1" + WRONG[1:]
    shared = setting(doubles.recorded(other, doubles.SOLUTION, other))
    vote, rules = (answer_of(f"llm-best-of-k:{how}", shared) for how in ("vote", "rules"))
    assert vote.verdict.status is Status.UNSOLVED
    assert rules.verdict.status is Status.VERIFIED
    assert len(vote.drafts) == 1  # with two, the rules would pick the right one
    assert vote.drafts[0].draft.tokens == rules.drafts[0].draft.tokens == 300


def test_best_of_k_by_score_asks_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = setting(doubles.recorded(WRONG, doubles.SOLUTION, WRONG))
    monkeypatch.setattr(shared.refiner, "score", lambda puzzle, candidates: np.array([0.1, 0.9, 0.2]))
    assert answer_of("llm-best-of-k:score", shared).verdict.status is Status.VERIFIED


ARC = get("arc").parse(
    json.dumps({"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[3]]}, {"input": [[4]]}]})
)
REPLIES = ((5, 1), (6, 2), (6, 3), (7, 3))


class Naming(ScriptedLLM):
    """Names a colour for each of the two inputs."""

    def __init__(self, replies: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.replies = replies

    def reply(self, request: Request, samples: int) -> list[Reply]:
        index = 0 if "3" in request.messages[-1]["content"].split("```")[-2] else 1
        return [Reply(f"```\n{self.replies[n][index]}\n```", 10, 1.0, None, 5) for n in range(samples)]


def best_of(how: str, replies: Sequence[tuple[int, int]]) -> tuple[Answer, list[list[int]]]:
    """What the arm answers, and the colours of its candidates."""
    shared = Setting(
        doubles.recorded(llm=Naming(replies), drafts=len(replies)),
        doubles.refiner(doubles.echoes),
        SearchConfig(),
    )
    if shared.refiner is not None:  # the higher the colour, the likelier
        shared.refiner.score = lambda puzzle, grids, index: np.array([float(g[0][0, 0]) for g in grids])  # type: ignore[method-assign,assignment,misc]
    answer = answer_of(f"llm-best-of-k:{how}", shared, ARC)
    return answer, [[int(grid[0, 0]) for grid in choice] for choice in answer.candidates]


@pytest.mark.parametrize(
    ("how", "replies", "expected"),
    [
        ("vote", REPLIES, [[6, 5], [3, 1]]),  # the majority, then what came first, for each input by itself
        ("rules", REPLIES, [[5, 6], [1, 2]]),  # no rule to ask: the first two that differ
        ("score", REPLIES, [[7, 6], [3, 2]]),  # whatever their votes
        ("vote", ((5, 1), (5, 1)), [[5], [1]]),
        ("vote", ((5, 1), (5, 2)), [[5], [1, 2]]),
    ],
)
def test_best_of_k_hands_in_two_attempts_for_every_input_where_no_rule_decides(
    how: str, replies: Sequence[tuple[int, int]], expected: list[list[int]]
) -> None:
    answer, candidates = best_of(how, replies)
    assert candidates == expected
    assert sum(d.draft.tokens for d in answer.drafts) == len(replies) * 2 * 10


@pytest.mark.parametrize(
    ("labels", "expected"), [((5, 3), True), ((6, 1), True), ((6, 2), False), ((7, 3), False)]
)
def test_a_vote_is_right_if_for_every_input_one_of_its_attempts_is(
    labels: tuple[int, int], expected: bool
) -> None:
    answer, _ = best_of("vote", REPLIES)
    known = replace(answer.puzzle, answers=tuple(np.array([[label]], dtype=np.uint8) for label in labels))
    assert metrics.solved(replace(answer, puzzle=known)) is expected


# -- computed drafts -----------------------------------------------------------------------------------------
def test_moves_are_those_of_the_shortest_paths() -> None:
    open_cells = np.array([[1, 1, 1, 0], [0, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 1]], dtype=np.bool_)
    expected = [[0, 1, 2, -1], [-1, -1, 3, -1], [6, 5, 4, -1], [-1, -1, -1, -1]]
    assert synthetic.moves_from(open_cells, (0, 0)).tolist() == expected


@pytest.mark.parametrize("share", [0, 30, 100])
@pytest.mark.parametrize("kind", ["oracle", "consistent"])
def test_a_draft_has_that_share_of_wrong_cells_and_keeps_the_givens(kind: str, share: int) -> None:
    draft = synthetic.draft_maker(f"{kind}@{share}", 0)(PUZZLE)
    assert draft is not None
    free, label = PUZZLE.grid == 0, doubles.right(PUZZLE)[0]
    wrong = draft[0] != label
    assert wrong[free].sum() == round(share / 100 * free.sum())
    assert not wrong[~free].any()
    if kind == "consistent":  # the same mistake all along
        for digit in range(1, 10):
            assert len(set(draft[0][wrong & (label == digit)].tolist())) <= 1


@pytest.mark.parametrize("share", [0, 30, 100])
def test_a_path_goes_astray_at_the_share_wanted(share: int) -> None:
    (maze,) = generate("maze", 1, 0)
    assert maze.answers is not None
    draft = synthetic.draft_maker(f"consistent@{share}", 0)(maze)
    assert draft is not None
    assert (draft[0] == maze.grid)[maze.grid != FREE].all()
    on_path = maze.answers[0] == PATH
    assert (on_path & (draft[0] != PATH)).sum() <= round(share / 100 * on_path.sum())
    assert (((draft[0] == PATH) & ~on_path).sum() > 5) == (share > 0)
    expected = Status.UNSOLVED if share else Status.VERIFIED
    assert get("maze").check(maze, draft[0]).status is expected
    # A single way from S on, whose cells are connected.
    field = Field.of(np.isin(draft[0], (PATH, START)))
    assert field.connected(find(maze.grid, START)).bit_count() == (draft[0] == PATH).sum() + 1


def test_a_random_grid_says_nothing_of_the_label() -> None:
    for puzzle in generate("arc", 3, 0):
        assert puzzle.answers is not None
        other = replace(puzzle, answers=tuple(np.full((2, 7), 9, dtype=np.uint8) for _ in puzzle.inputs))
        first, second = (synthetic.draft_maker("random", 0)(one) for one in (puzzle, other))
        assert first is not None
        assert second is not None
        assert [grid.tolist() for grid in first] == [grid.tolist() for grid in second]
        assert [grid.shape for grid in first] == [grid.shape for grid in puzzle.inputs]


def test_a_draft_that_needs_an_unknown_label_is_none() -> None:
    assert synthetic.draft_maker("oracle@10", 0)(replace(PUZZLE, answers=None)) is None


# -- results -------------------------------------------------------------------------------------------------
def test_wilson_and_mcnemar_are_the_textbooks() -> None:
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 5)[0] == 0
    first = [True] * 8 + [False] * 4
    second = [True] * 2 + [False] * 6 + [True] + [False] * 3
    # 6 against 1: 2 · (1 + 7) / 2^7
    assert mcnemar(first, second) == {
        "n": 12, "both": 2, "only_first": 6, "only_second": 1, "p": 0.125,
    }  # fmt: skip
    assert mcnemar([True, False], [True, False])["p"] == 1.0


@pytest.mark.parametrize("right", [True, False])
def test_an_undecidable_answer_is_solved_if_an_attempt_equals_the_label(right: bool) -> None:
    sample = get("arc").samples()[0]
    label, wrong = doubles.right(sample), tuple(9 - grid for grid in doubles.right(sample))
    drafts = Scripted([wrong, label if right else tuple(1 - grid for grid in wrong)])
    (answer,) = Pipeline(drafts, None).solve([sample], SearchConfig(drafts=2))
    assert metrics.solved(answer) is right


def test_accuracy_by_step_counts_when_the_answer_was_there() -> None:
    rows = [
        {"solved": True, "solved_at": 3, "steps": 16, "restarts": 0},
        {"solved": True, "solved_at": 9, "steps": 16, "restarts": 0},
        {"solved": False, "solved_at": 16, "steps": 16, "restarts": 0},
    ]
    assert metrics.by_step(rows) == pytest.approx({"1": 0, "2": 0, "4": 1 / 3, "8": 1 / 3, "16": 2 / 3})
    assert metrics.by_step([{**rows[0], "restarts": 1}]) == {}
