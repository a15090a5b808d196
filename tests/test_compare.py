"""The comparison: arms, figures, files, and the command as it is called."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import doubles
import numpy as np
import pytest
from typer.testing import CliRunner

from eval import arms, metrics, report, synthetic
from eval.arms import ArmError, DraftAlone, Setting
from eval.compare import app
from eval.drafts import Recorded
from eval.run import Plan, merge, puzzles_for
from hybrid.draft import Message, Reply
from hybrid.null import Passthrough
from hybrid.pipeline import Options, Pipeline
from trm.checkpoint import Expert, save
from trm.evaluate import wilson
from trm.generate import generate
from trm.grid import PuzzleError
from trm.tasks import Puzzle, Status, get
from trm.tasks.maze import FREE, PATH, START, Field, find
from trm.tasks.source import load

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

        def refine(self, question: list[Puzzle], draft: list[object], **asks: bool) -> object:
            self.cold += (asks.get("cold", True),)
            return Passthrough().refine(question, draft)  # type: ignore[arg-type]

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


# -- the command ---------------------------------------------------------------------------------------------
@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "small.pt"
    made = doubles.network()
    save(path, {"sudoku": Expert("sudoku", made.config, made.state_dict())})
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "puzzles.csv"
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(5):
        symmetry = get("sudoku").symmetries((9, 9)).draw(rng)
        pair = (symmetry.forward(PUZZLE.grid), symmetry.forward(doubles.right(PUZZLE)[0]))
        rows.append(",".join("".join(map(str, grid.reshape(-1))) for grid in pair))
    path.write_text("\n".join(["question,answer", *rows]) + "\n")
    return path


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def call(*args: object) -> Any:
    return CliRunner().invoke(app, [str(a) for a in args])


def test_the_command_writes_all_its_files_and_goes_on_after_a_kill(
    tmp_path: Path, checkpoint: Path, data: Path
) -> None:
    drafts, out = tmp_path / "replies.jsonl", tmp_path / "out"
    recorder = doubles.recorded(WRONG, path=drafts, most=1)
    for puzzle in load(data, "sudoku"):
        assert isinstance(puzzle, Puzzle)
        recorder.propose(puzzle)
    asked = (
        "--tasks", "sudoku", "--n", 4, "--data", f"sudoku={data}", "--refiner", checkpoint, "--device", "cpu",
        "--drafts-from", drafts, "--drafts", 1, "--steps", 2, "--restarts", 1, "--out", out,
        "--arms", "llm,trm,hybrid,trm+restarts,draft:llm,draft:random,exact",
    )  # fmt: skip
    done = call(*asked)
    assert done.exit_code == 0, done.output
    results = json.loads((out / "results.json").read_text())
    found = results["tasks"]["sudoku"]
    assert set(found) == {"llm", "trm", "hybrid", "trm+restarts", "draft:llm", "draft:random", "exact"}
    assert found["exact"]["solved"] == found["exact"]["n"] == 4
    assert set(found["exact"]) >= {
        "n", "solved", "accuracy", "ci95", "exact_match", "seconds_per_puzzle", "llm_tokens", "parse_failures",
        "steps",
    }  # fmt: skip
    assert results["paired"]["sudoku"]["hybrid vs exact"]["n"] == 4
    hybrid = [r for r in lines_of(out / "records.jsonl") if r["arm"] == "hybrid"]
    assert {r["cold"]["status"] for r in hybrid} == {r["draft"]["status"] for r in hybrid} == {"unsolved"}
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 2
    assert not re.search(r'(src|href)="(?!data:)', page)  # nothing from elsewhere
    assert "| hybrid |" in (out / "report.md").read_text()

    assert call(*asked).exit_code == 2  # not empty
    lines = (out / "records.jsonl").read_text().splitlines(keepends=True)
    (out / "records.jsonl").write_text("".join(lines[:9]) + lines[9][:40])
    resumed = call(*asked, "--resume")
    assert resumed.exit_code == 0, resumed.output
    again = json.loads((out / "results.json").read_text())
    for one in (found, again["tasks"]["sudoku"]):
        for figures in one.values():
            figures.pop("seconds_per_puzzle")
    assert again["tasks"]["sudoku"] == found
    other = call(*asked[:-2], "--arms", "exact", "--seed", 1, "--resume")
    assert other.exit_code == 2
    assert "seed" in other.output


def test_arms_without_an_expert_are_left_out_and_named(tmp_path: Path, checkpoint: Path) -> None:
    asked = ("--tasks", "sudoku,maze", "--n", 1, "--llm", "none", "--refiner", checkpoint, "--device", "cpu")
    asked += ("--steps", 1, "--arms", "trm,exact", "--out", tmp_path / "out")
    done = call(*asked)
    assert done.exit_code == 0, done.output
    (line,) = [line for line in done.output.splitlines() if "no expert" in line]
    assert line.endswith("has no expert for maze (it has: sudoku); left out there: trm")
    tasks = json.loads((tmp_path / "out" / "results.json").read_text())["tasks"]
    assert {task: set(found) for task, found in tasks.items()} == {
        "sudoku": {"trm", "exact"}, "maze": {"exact"},
    }  # fmt: skip


def test_time_that_runs_out_is_said_and_what_is_done_is_kept(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "out"
    nobody = ("--llm", "none", "--refiner", "none", "--arms", "exact")
    asked = ("--tasks", "sudoku,maze", "--n", 2, *nobody, "--out", out)
    short = call(*asked, "--limit-seconds", 1e-9)
    assert short.exit_code == 1
    assert "--resume continues" in short.output
    assert list(json.loads((out / "results.json").read_text())["tasks"]) == ["sudoku"]
    assert call(*asked, "--resume").exit_code == 0
    assert list(json.loads((out / "results.json").read_text())["tasks"]) == ["sudoku", "maze"]


@pytest.mark.parametrize(
    ("asked", "code", "words"),
    [
        (("--arms", "hybird"), 2, "unknown arm 'hybird'"),
        (("--tasks", "chess"), 2, "chess"),
        (("--data", "sudoku"), 2, "expected TASK=FILE"),
        (
            ("--data", "sudoku={data}", "--tasks", "sudoku", "--n", "99"),
            2,
            "5 puzzles, expected at least --n 99",
        ),
        (("--refiner", "nowhere.pt", "--llm", "none"), 3, "nowhere.pt"),
        (("--refiner", "none", "--llm", "none", "--fit", "seconds=3"), 2, "--fit: no expert here is fitted"),
        (("--llm", "qwenn", "--refiner", "none"), 3, "unknown LLM 'qwenn'"),
    ],
)
def test_bad_usage_is_one_line(
    tmp_path: Path, data: Path, asked: tuple[str, ...], code: int, words: str
) -> None:
    done = call(*(a.format(data=data) for a in asked), "--out", tmp_path / "out")
    assert done.exit_code == code
    assert words in done.output
    assert len(done.output.strip().splitlines()) == 1


def test_processes_write_apart_and_are_merged(tmp_path: Path) -> None:
    row = {"task": "sudoku", "arm": "llm"}
    for name, ids in (("records.jsonl", "ab"), ("records.1.jsonl", "cd")):
        (tmp_path / name).write_text("".join(json.dumps({**row, "id": i}) + "\n" for i in ids))
    merge(tmp_path)
    assert [r["id"] for r in lines_of(tmp_path / "records.jsonl")] == list("abcd")
    assert not (tmp_path / "records.1.jsonl").exists()


def test_two_processes_share_the_puzzles(tmp_path: Path) -> None:
    """On a CPU; `--multi_gpu` chooses the launcher that starts as many processes as it is told."""
    out = tmp_path / "out"
    launch = "-m accelerate.commands.launch --multi_gpu --num_processes 2 --main_process_port 0"
    quiet = "--num_machines 1 --mixed_precision no --dynamo_backend no"
    script = [str(ROOT / "eval" / "compare.py"), "--out", str(out)]
    nobody = "--llm none --refiner none --arms exact --tasks sudoku --n 5"
    command = [sys.executable, *launch.split(), *quiet.split(), *script, *nobody.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("report.html") == 1
    # The first process has the first, third and fifth puzzle, and the second one's records come after them.
    assert [r["id"] for r in lines_of(out / "records.jsonl")] == [f"sudoku-0-{i}" for i in (1, 3, 5, 2, 4)]
    results = json.loads((out / "results.json").read_text())
    assert results["tasks"]["sudoku"]["exact"]["solved"] == 5
    assert results["environment"]["processes"] == 2
    assert not list(out.glob("records.*.jsonl"))


def test_the_same_puzzles_for_a_seed(data: Path) -> None:
    ids = [[p.id for p in puzzles_for("sudoku", 3, seed, str(data))] for seed in (0, 0, 1, 2, 3)]
    assert ids[0] == ids[1]
    assert len({tuple(i) for i in ids}) > 1
    assert all(len(set(i)) == 3 for i in ids)


def test_it_runs_as_a_script() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "eval" / "compare.py", "--help"], capture_output=True, text=True, check=True
    )
    assert "--drafts-from" in done.stdout


def test_a_plan_is_plain_data() -> None:
    made = Plan(("sudoku",), 3, {}, 0, Options(), None, None).to_json()
    assert json.loads(json.dumps(made))["options"]["steps"] == 16


def test_cells_of_every_task() -> None:
    assert report.cells("sudoku", doubles.SOLUTION)[1] == list("672195348")
    assert report.cells("maze", doubles.MAZE)[0] == list("S  ")
    assert report.cells("arc", [[[[1, 2], [3, 4]], [[5]]]]) == [["1", "2"], ["3", "4"]]
    assert report.cells("arc", "1 2\n3 4\n\n5") == [["1", "2"], ["3", "4"]]
    assert report.cells("arc", get("arc").question_text(ARC)) == [["3"]]
    assert report.cells("sudoku", None) == []
