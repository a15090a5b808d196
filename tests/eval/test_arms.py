"""What a comparison is made of: drafts on file, arms, computed drafts, results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import doubles
import numpy as np
import pytest
from doubles import Parrot, Scripted, ScriptedLLM

from eval import arms, metrics, synthetic
from eval.arms import ArmError, Setting
from eval.recorded import RecordedProposer
from hybrid.answer import Answer
from hybrid.llm.base import BackendError, Reply, Request
from hybrid.llm.chat.prompts import ChatProposer
from hybrid.llm.grid.proposer import GridProposer
from hybrid.pipeline import Pipeline
from trm.data.generate import generate
from trm.evaluation.statistics import mcnemar, wilson
from trm.grid import Grid, PuzzleError
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


# -- drafts on file ------------------------------------------------------------------------------------------
def test_replies_are_kept_and_serve_another_machine(tmp_path: Path) -> None:
    llm = Parrot(WRONG, doubles.SOLUTION)
    first = doubles.recorded(path=tmp_path / "drafts.jsonl", llm=llm, drafts=2)
    drafts = first.propose(PUZZLE, 2)
    assert first.propose(PUZZLE, 1)[0].text == drafts[0].text
    assert llm.calls == 1  # the second time it was on file
    second = RecordedProposer(None, None, 2)
    assert second.load(tmp_path / "drafts.jsonl") == 2
    assert [d.text for d in second.propose(PUZZLE, 2)] == [d.text for d in drafts]
    assert (second.name, second.parameters) == ("parrot", 1_000_000)


class Failing(ScriptedLLM):
    """A server that cannot be asked about conversations in which this text stands."""

    def __init__(self, text: str, failing: str) -> None:
        super().__init__()
        self.text, self.failing = text, failing

    def reply(self, request: Request, samples: int) -> list[Reply]:
        if self.failing and self.failing in request.messages[-1]["content"]:
            raise BackendError("localhost: connection refused")
        return [Reply(self.text, 10, 0.1, None, 5)] * samples


def shown(puzzle: Puzzle) -> str:
    """A part of the conversation about a Sudoku alone: its second row."""
    return " ".join("_" if cell == 0 else str(cell) for cell in puzzle.grid[1])


def test_a_failing_request_costs_its_puzzle_alone_and_is_asked_again(tmp_path: Path) -> None:
    puzzles = [replace(puzzle, id=f"p{n}") for n, puzzle in enumerate(generate("sudoku", 4, 0))]
    path = tmp_path / "drafts.jsonl"
    proposer = doubles.recorded(path=path, llm=Failing("no grid", shown(puzzles[1])), drafts=1)
    assert "connection refused" in (proposer.prepare(puzzles, 4) or "")
    assert [proposer.unavailable(puzzle) for puzzle in puzzles] == [False, True, False, False]
    assert sorted(json.loads(line)["id"] for line in path.read_text().splitlines()) == ["p0", "p2", "p3"]
    again = Failing("no grid", "")
    resumed = doubles.recorded(path=path, llm=again, drafts=1)
    resumed.load(path)
    assert resumed.prepare(puzzles, 4) is None
    assert again.calls == 1
    assert all(map(resumed.has_drafts, puzzles))


def test_a_server_that_is_gone_is_not_asked_about_every_puzzle() -> None:
    puzzles = list(generate("sudoku", 9, 0))
    llm = Failing("", " ")
    proposer = doubles.recorded(llm=llm, drafts=1)
    assert proposer.prepare(puzzles, 1) is not None
    assert llm.calls < 6
    assert all(map(proposer.unavailable, puzzles))


def test_requests_that_a_server_failed_to_answer_are_asked_again_when_resumed(tmp_path: Path) -> None:
    class Refusing(ScriptedLLM):
        def reply(self, request: Request, samples: int) -> list[Reply]:
            return [Reply("", 0, 0.1, "500: out of memory", unanswered=True)]

    path = tmp_path / "drafts.jsonl"
    refused = doubles.recorded(path=path, llm=Refusing(), drafts=1)
    (draft,) = refused.propose(PUZZLE)
    assert (draft.grids, "out of memory" in (draft.error or "")) == (None, True)
    assert refused.unavailable(PUZZLE)
    live = RecordedProposer(path, ChatProposer(Parrot(WRONG, name="scripted")), 1)
    live.load(path)
    assert not live.has_drafts(PUZZLE)
    assert live.propose(PUZZLE)[0].text == WRONG
    on_file = RecordedProposer(None, None, 1)
    on_file.load(path)
    assert on_file.has_drafts(PUZZLE)


def test_a_prompt_that_is_too_long_is_not_asked_again(tmp_path: Path) -> None:
    class Short(ScriptedLLM):
        def reply(self, request: Request, samples: int) -> list[Reply]:
            return [Reply("", 0, 0.1, "400: maximum context length is 64 tokens")]

    proposer = doubles.recorded(path=tmp_path / "drafts.jsonl", llm=Short(), drafts=1)
    assert proposer.prepare([PUZZLE], 1) is None
    assert proposer.has_drafts(PUZZLE)
    assert not proposer.unavailable(PUZZLE)


def test_what_becomes_of_the_networks_grids_is_kept_too(tmp_path: Path) -> None:
    class Mending(GridProposer):
        def __init__(self) -> None:
            self.name, self.parameters, self.asked = "mending", 1, 0

        def mend(self, puzzle: Puzzle, index: int, grids: Sequence[Grid], seed: int = 0) -> list[Grid]:
            self.asked += 1
            return [grid + 1 for grid in grids]

    live, path, grid = Mending(), tmp_path / "drafts.jsonl", np.array([[1, 2]], np.uint8)
    proposer = RecordedProposer(path, live)
    for _ in range(2):
        assert [found.tolist() for found in proposer.mend(PUZZLE, 0, [grid])] == [[[2, 3]]]
    assert live.asked == 1
    on_file = RecordedProposer(None)
    assert on_file.load(path) == 1
    assert [found.tolist() for found in on_file.mend(PUZZLE, 0, [grid])] == [[[2, 3]]]
    assert on_file.mend(PUZZLE, 0, [grid, grid]) == []


def test_what_is_not_on_file_is_a_counted_failure() -> None:
    draft = RecordedProposer(None, None, 1, name="parrot").propose(PUZZLE)[0]
    assert draft.grids is None
    assert draft.error


def test_drafts_of_another_model_or_broken_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "drafts.jsonl"
    doubles.recorded(WRONG, path=path, drafts=1).propose(PUZZLE)
    with pytest.raises(PuzzleError, match=r"line 1.*parrot, expected other"):
        doubles.recorded(llm=Parrot(name="other")).load(path)
    for text in ("{}\n", '{"as\n{}\n', "[1]\n"):
        path.write_text(text)
        with pytest.raises(PuzzleError, match="line 1"):
            RecordedProposer(None).load(path)


@pytest.mark.parametrize("candidate", [["1x", 0.5, -1.0], ["12", "half", None], ["12", 0.5], 7])
def test_drafts_with_candidates_that_are_none_are_refused(tmp_path: Path, candidate: object) -> None:
    reply = {"text": "", "tokens": 1, "seconds": 0.1, "candidates": [candidate]}
    row = {"asked": "x", "sample": 0, "llm": "parrot", "parameters": 1, "replies": [reply]}
    path = tmp_path / "drafts.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(PuzzleError, match="line 1"):
        RecordedProposer(None).load(path)


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
