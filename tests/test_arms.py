"""What the comparison is made of: drafts on file, arms, computed drafts, figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import doubles
import numpy as np
import pytest

from eval import arms, metrics, synthetic
from eval.arms import ArmError, DraftAlone, Setting
from eval.recorded import Recorded
from hybrid.llm.base import BackendError, Message, Reply
from hybrid.null import Passthrough
from hybrid.pipeline import Options, Pipeline
from trm.data.generate import generate
from trm.evaluation.statistics import wilson
from trm.grid import PuzzleError
from trm.tasks import Puzzle, Status, get
from trm.tasks.maze.task import FREE, PATH, START, Field, find

ROOT = Path(__file__).parent.parent
PUZZLE = doubles.sudoku()


WRONG = get("sudoku").text(doubles.wrong(PUZZLE))


def setting(proposer: Recorded | None = None, policy: doubles.Policy = doubles.cold_solves) -> Setting:
    return Setting(proposer, doubles.FakeRefiner(policy), Options(drafts=3, restarts=4))  # type: ignore[arg-type]


# -- drafts on file ------------------------------------------------------------------------------------------
def test_replies_are_kept_and_serve_another_machine(tmp_path: Path) -> None:
    llm = doubles.Parrot(WRONG, doubles.SOLUTION)
    first = doubles.recorded(path=tmp_path / "drafts.jsonl", llm=llm, most=2)
    made = first.propose(PUZZLE, 2)
    assert llm.asked == 1
    assert first.propose(PUZZLE, 1)[0].text == made[0].text
    assert llm.asked == 1  # on file
    second = Recorded(None, None, 2)
    assert second.read(tmp_path / "drafts.jsonl") == 2
    again = second.propose(PUZZLE, 2)
    assert [d.text for d in again] == [d.text for d in made]
    assert (second.name, second.parameters) == ("parrot", 1_000_000)
    assert np.array_equal(again[1].grids, doubles.right(PUZZLE))


def test_what_was_drafted_before_a_failure_is_kept(tmp_path: Path) -> None:
    """Replies take minutes: those written before the model failed, or the program was told to stop, are on file.

    Of a puzzle with two inputs, a half is no draft.
    """

    class Failing(doubles.Parrot):
        def chat(self, messages: Sequence[Message], **asks: Any) -> list[Reply]:
            if self.asked == 5:
                raise BackendError("gone")
            return super().chat(messages, **asks)

    one, two = (replace(puzzle, id=f"p{n}") for n, puzzle in enumerate(generate("sudoku", 2, 0)))
    pair = ((one.grid, one.grid),)
    first, second = (Puzzle("arc", inputs=(one.grid,) * 2, demos=pair, id=name) for name in ("a1", "a2"))
    path = tmp_path / "drafts.jsonl"
    with pytest.raises(BackendError, match="gone"):
        doubles.recorded(path=path, llm=Failing("no grid"), most=1).prepare([one, first, two, second], 1)
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(row["id"], len(row["replies"])) for row in found] == [("p0", 1), ("a1", 2), ("p1", 1)]


def test_what_is_not_on_file_is_a_counted_failure() -> None:
    draft = Recorded(None, None, 1, name="parrot").propose(PUZZLE)[0]
    assert draft.grids is None
    assert "not among the drafts on file" in (draft.error or "")


def test_drafts_of_another_model_or_broken_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "drafts.jsonl"
    doubles.recorded(WRONG, path=path, most=1).propose(PUZZLE)
    with pytest.raises(PuzzleError, match="is of parrot, expected other"):
        doubles.recorded(llm=doubles.Parrot(name="other")).read(path)
    path.write_text("{}\n")
    with pytest.raises(PuzzleError, match="line 1 is no draft"):
        Recorded(None).read(path)


# -- arms ----------------------------------------------------------------------------------------------------
def test_unknown_arms_are_refused() -> None:
    assert arms.check("draft:oracle@30") == "draft:oracle@30"
    assert arms.check("beside:consistent@100") == "beside:consistent@100"
    for name in ("hybird", "draft:oracle@101", "draft:oracle@x", "beside:oracle", "draft:llm@3"):
        with pytest.raises(ArmError, match="unknown arm"):
            arms.check(name)


def test_each_arm_asks_whom_it_names() -> None:
    """With a network that needs a draft, and an LLM whose draft is wrong."""
    made = setting(doubles.recorded(WRONG), doubles.solves_from_a_draft)
    status = {
        name: arms.run(name, [PUZZLE], made, [16.0])[0].verdict.status
        for name in (*arms.MAIN, "trm+restarts", "draft:llm", "draft:oracle", "exact")
    }
    good = {name for name, found in status.items() if found is Status.VERIFIED}
    assert good == {"hybrid", "draft:llm", "draft:oracle", "exact"}


def test_a_draft_arm_never_starts_cold_and_without_a_draft_has_no_answer() -> None:
    inner = doubles.FakeRefiner(doubles.cold_solves)
    alone = Pipeline(doubles.Scripted([None]), DraftAlone(inner))  # type: ignore[arg-type]
    answer = next(alone.solve([PUZZLE], Options(restarts=0)))
    assert answer.verdict.status is Status.UNSOLVED
    assert inner.calls == []
    given = Pipeline(doubles.Scripted([doubles.wrong(PUZZLE)]), DraftAlone(inner))  # type: ignore[arg-type]
    next(given.solve([PUZZLE], Options(restarts=0)))
    assert inner.calls[0]["cold"] is False


def test_the_control_has_the_hybrids_arithmetic() -> None:
    made = setting()
    counts = []
    for spent in (2.0, 16.0, 16.5, 33.0, 160.0):
        arms.run("trm+restarts", [PUZZLE], made, [spent])
        counts.append(made.refiner.calls[-1]["restarts"])  # type: ignore[union-attr]
    assert counts == [0, 0, 1, 2, 9]


def test_an_llms_arithmetic_is_two_operations_a_parameter_and_token() -> None:
    answer = arms.run("llm", [PUZZLE], setting(doubles.recorded(WRONG)))[0]
    assert arms.llm_flops(answer, 1_000_000) == 2e6 * 500
    assert arms.llm_flops(answer, None) == 0


def test_best_of_k_picks_by_vote_and_by_rules_and_pays_for_all() -> None:
    other = "1" + WRONG[1:]
    made = setting(doubles.recorded(other, doubles.SOLUTION, other, most=3))
    vote, rules = (arms.run(f"llm-best-of-k:{how}", [PUZZLE], made)[0] for how in ("vote", "rules"))
    assert vote.verdict.status is Status.UNSOLVED
    assert rules.verdict.status is Status.VERIFIED
    assert vote.drafts[0].draft.tokens == rules.drafts[0].draft.tokens == 300


def test_best_of_k_by_score_asks_the_network() -> None:
    refiner = doubles.FakeRefiner(doubles.cold_solves)
    heard: list[int] = []

    def score(puzzle: Puzzle, candidates: Sequence[Any]) -> Any:
        heard.append(len(candidates))
        return np.array([0.1, 0.9, 0.2], dtype=np.float32)

    refiner.score = score  # type: ignore[attr-defined]
    made = Setting(doubles.recorded(WRONG, doubles.SOLUTION, WRONG), refiner, Options())  # type: ignore[arg-type]
    assert arms.run("llm-best-of-k:score", [PUZZLE], made)[0].verdict.status is Status.VERIFIED
    assert heard == [3]


ARC = get("arc").parse(
    json.dumps({"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[3]]}, {"input": [[4]]}]})
)


def attempts_of(how: str, *replies: tuple[int, int], score: Any = None) -> tuple[Any, list[list[int]]]:
    """What an arm hands in for two inputs of one cell, given replies that name a colour for each."""

    class Naming(doubles.OneByOne):
        name, parameters = "naming", 1_000

        def chat(self, messages: Sequence[Message], *, samples: int = 1, **_: object) -> list[Reply]:
            index = 0 if "3" in messages[-1]["content"].split("```")[-2] else 1
            return [Reply(f"```\n{replies[n][index]}\n```", 10, 1.0, None, 5) for n in range(samples)]

    refiner = doubles.FakeRefiner(doubles.echoes)
    if score is not None:
        refiner.score = score  # type: ignore[method-assign]
    naming: Any = Naming()
    made = Setting(doubles.recorded(llm=naming, most=len(replies)), refiner, Options())  # type: ignore[arg-type]
    answer = arms.run(f"llm-best-of-k:{how}", [ARC], made)[0]
    return answer, [[int(grid[0, 0]) for grid in choice] for choice in answer.candidates]


def test_best_of_k_hands_in_two_attempts_for_every_input_where_no_rule_decides() -> None:
    replies = ((5, 1), (6, 2), (6, 3), (7, 3))
    answer, vote = attempts_of("vote", *replies)
    assert vote == [[6, 5], [3, 1]]  # the majority, then who came first, for each input by itself
    assert [int(grid[0, 0]) for grid in answer.grids] == [6, 3]
    assert sum(d.draft.tokens for d in answer.drafts) == 4 * 2 * 10
    assert sum(d.draft.prompt_tokens for d in answer.drafts) == 4 * 2 * 5
    assert sum(d.draft.seconds for d in answer.drafts) == 4 * 2
    _, rules = attempts_of("rules", *replies)
    assert rules == [[5, 6], [1, 2]]  # no rule to ask: the first two that differ
    assert attempts_of("vote", (5, 1), (5, 1))[1] == [[5], [1]]
    assert attempts_of("vote", (5, 1), (5, 2))[1] == [[5], [1, 2]]


def test_best_of_k_by_score_hands_in_the_two_best_whatever_their_votes() -> None:
    def score(
        puzzle: Puzzle, candidates: Sequence[Any], **asks: Any
    ) -> Any:  # the higher the colour, the likelier
        return np.array([float(grids[0][0, 0]) for grids in candidates])

    _, found = attempts_of("score", (5, 1), (5, 1), (6, 2), (7, 3), score=score)
    assert found == [[7, 6], [3, 2]]


@pytest.mark.parametrize(
    ("labels", "expected"), [((5, 3), True), ((6, 1), True), ((6, 2), False), ((7, 3), False)]
)
def test_a_vote_is_right_if_for_every_input_one_of_its_attempts_is(
    labels: tuple[int, int], expected: bool
) -> None:
    answer, _ = attempts_of("vote", (5, 1), (6, 2), (6, 3), (7, 3))
    known = replace(answer.puzzle, answers=tuple(np.array([[label]], dtype=np.uint8) for label in labels))
    assert metrics.solved(replace(answer, puzzle=known)) is expected


def test_best_of_k_has_one_attempt_where_rules_decide() -> None:
    """Else the rules would pick the second one when the first is wrong."""
    other = "1" + WRONG[1:]
    answer = arms.run(
        "llm-best-of-k:vote", [PUZZLE], setting(doubles.recorded(other, other, doubles.SOLUTION))
    )[0]
    assert len(answer.drafts) == 1
    assert answer.verdict.status is Status.UNSOLVED


def test_moves_are_those_of_the_shortest_paths() -> None:
    open_cells = np.array([[1, 1, 1, 0], [0, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 1]], dtype=np.bool_)
    expected = [[0, 1, 2, -1], [-1, -1, 3, -1], [6, 5, 4, -1], [-1, -1, -1, -1]]
    assert synthetic.moves_from(open_cells, (0, 0)).tolist() == expected


@pytest.mark.parametrize("share", [0, 30, 100])
def test_an_oracles_draft_has_that_share_of_wrong_cells_and_keeps_the_givens(share: int) -> None:
    draft = synthetic.maker(f"oracle@{share}", 0)(PUZZLE)
    assert draft is not None
    free = PUZZLE.grid == 0
    wrong = draft[0] != doubles.right(PUZZLE)[0]
    assert wrong[free].sum() == round(share / 100 * free.sum())
    assert not wrong[~free].any()


@pytest.mark.parametrize("share", [0, 30, 100])
def test_a_consistent_mistake_is_the_same_all_along(share: int) -> None:
    draft = synthetic.maker(f"consistent@{share}", 0)(PUZZLE)
    assert draft is not None
    free, label = PUZZLE.grid == 0, doubles.right(PUZZLE)[0]
    wrong = draft[0] != label
    assert wrong[free].sum() == round(share / 100 * free.sum())
    assert not wrong[~free].any()
    for digit in range(1, 10):
        assert len(set(draft[0][wrong & (label == digit)].tolist())) <= 1


def test_a_path_goes_astray_at_the_share_asked_for() -> None:
    (maze,) = generate("maze", 1, 0)
    assert maze.answers is not None
    label, task = maze.answers[0], get("maze")
    on_path = label == PATH
    for share in (0, 30, 100):
        draft = synthetic.maker(f"consistent@{share}", 0)(maze)
        assert draft is not None
        assert (draft[0] == maze.grid)[maze.grid != FREE].all()
        left = (on_path & (draft[0] != PATH)).sum()
        assert left <= round(share / 100 * on_path.sum())
        elsewhere = ((draft[0] == PATH) & ~on_path).sum()
        assert (elsewhere > 5) == (share > 0)
        assert task.check(maze, draft[0]).status is (Status.UNSOLVED if share else Status.VERIFIED)
        # One way from S on, whose cells hang together.
        field = Field.of(np.isin(draft[0], (PATH, START)))
        assert field.connected(find(maze.grid, START)).bit_count() == (draft[0] == PATH).sum() + 1


@pytest.mark.parametrize(("arm", "starts"), [("draft:oracle@50", 1), ("beside:oracle@50", 2)])
def test_drafts_are_refined_alone_or_beside_a_cold_start(arm: str, starts: int) -> None:
    class Counting:
        name, tasks = "fake", ("sudoku",)
        cold: tuple[bool, ...] = ()

        def accepts_drafts(self, task: str) -> bool:
            return True

        def each(self, puzzles: list[Puzzle], draft: list[object], **asks: bool) -> object:
            self.cold += (asks.get("cold", True),)
            return Passthrough().each(puzzles, draft)  # type: ignore[arg-type]

    refiner = Counting()
    arms.run(arm, [PUZZLE], Setting(None, refiner, Options()))  # type: ignore[arg-type]
    assert refiner.cold == (starts == 2,)


# -- figures -------------------------------------------------------------------------------------------------
def test_wilson_and_mcnemar_are_the_textbooks() -> None:
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 5)[0] == 0
    one = [True] * 8 + [False] * 4
    other = [True] * 2 + [False] * 6 + [True] + [False] * 3
    # 6 against 1: 2 · (1 + 7) / 2^7
    assert metrics.mcnemar(one, other) == {"n": 12, "both": 2, "only_first": 6, "only_second": 1, "p": 0.125}


def test_an_undecidable_answer_is_solved_if_an_attempt_equals_the_label() -> None:
    sample = get("arc").samples()[0]
    assert sample.answers is not None
    right, wrong = sample.answers[0], 9 - sample.answers[0]
    for choice, expected in (((wrong, right), True), ((wrong, wrong), False)):
        answer = next(
            Pipeline(doubles.Scripted([(choice[0],)]), doubles.FakeRefiner(doubles.echoes)).solve([sample])
        )  # type: ignore[arg-type]
        object.__setattr__(answer, "candidates", tuple(choice for _ in sample.inputs))
        object.__setattr__(answer, "grids", tuple(choice[0] for _ in sample.inputs))
        assert metrics.solved(answer) is expected


def test_accuracy_by_step_counts_when_the_answer_stood() -> None:
    rows = [
        {"solved": True, "solved_at": 3, "steps": 16, "restarts": 0},
        {"solved": True, "solved_at": 9, "steps": 16, "restarts": 0},
        {"solved": False, "solved_at": 16, "steps": 16, "restarts": 0},
    ]
    assert metrics.by_step(rows) == pytest.approx({"1": 0, "2": 0, "4": 1 / 3, "8": 1 / 3, "16": 2 / 3})
    assert metrics.by_step([{**rows[0], "restarts": 1}]) == {}
