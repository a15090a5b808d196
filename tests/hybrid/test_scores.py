"""Submissions are written, read and scored; two runs are compared; an answer is held against a known output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import doubles
import pytest
from doubles import Scripted
from scripted_command import Parts, run

from hybrid.submission import grade
from trm.tasks import get

RIGHT, WRONG = [[2, 2], [2, 0]], [[0, 0], [0, 0]]

pytestmark = pytest.mark.usefixtures("parts")


def written(name: str, value: Any) -> str:
    Path(name).write_text(json.dumps(value))
    return name


def lines(name: str, *records: Any) -> str:
    Path(name).write_text("".join(json.dumps(record) + "\n" for record in records))
    return name


def attempts(*pairs: tuple[Any, Any]) -> list[dict[str, Any]]:
    return [{"attempt_1": first, "attempt_2": second} for first, second in pairs]


# -- the score -----------------------------------------------------------------------------------------------
SOLUTIONS = {"a": [RIGHT], "b": [RIGHT, [[1]]], "c": [[[5]]], "d": [[[6]]]}
SUBMISSION = {
    "a": attempts((WRONG, RIGHT)),
    "b": attempts((RIGHT, WRONG), (WRONG, WRONG)),
    "c": attempts((WRONG, WRONG)),
    "other": attempts((RIGHT, RIGHT)),
}


def test_the_score_is_the_mean_share_of_right_outputs_and_what_is_missing_counts() -> None:
    result = grade(SUBMISSION, SOLUTIONS)
    assert result.score == pytest.approx((1 + 0.5 + 0 + 0) / 4)
    assert (result.tasks, result.outputs, result.right) == (4, 5, 2)
    assert (result.solved, result.missing, result.unknown) == (["a"], ["d"], ["other"])


def test_grade_reads_solutions_in_each_form() -> None:
    submission = written("submission.json", SUBMISSION)
    tasks = {
        name: {
            "train": [{"input": [[1]], "output": [[2]]}],
            "test": [{"input": [[0]], "output": out} for out in outputs],
        }
        for name, outputs in SOLUTIONS.items()
    }
    Path("folder").mkdir()
    for name, task in tasks.items():
        written(f"folder/{name}.json", task)
    forms = [written("solutions.json", SOLUTIONS), written("tasks.json", tasks), "folder"]
    found = [run("grade", submission, "--solutions", form, "--json") for form in forms]
    assert [json.loads(result.stdout)["score"] for result in found] == [pytest.approx(0.375)] * 3
    text = run("grade", submission, "--solutions", "solutions.json").stdout
    assert "0.3750" in text
    assert "1: d" in text


@pytest.mark.parametrize("content", [[1], {"a": [[[1]]]}, {"a": {"attempt_1": [[1]]}}])
def test_what_is_no_submission_is_one_line(content: Any) -> None:
    result = run("grade", written("s.json", content), "--solutions", written("solutions.json", SOLUTIONS))
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert "s.json" in result.stderr


# -- solve --submission --------------------------------------------------------------------------------------
def test_solve_writes_what_grade_reads(parts: Parts) -> None:
    first = get("arc").samples()[0]
    parts.llm = Scripted([doubles.right(first)])
    written("one.json", json.loads(get("arc").question_text(first)))
    options = ["--refiner", "none", "--json", "-o", "answers.jsonl", "--submission", "submission.json"]
    assert run("solve", "one.json", *options).exit_code == 0
    submitted = json.loads(Path("submission.json").read_text())
    rows = [grid.tolist() for grid in doubles.right(first)]
    assert submitted == {"one": attempts(*((grid, grid) for grid in rows))}
    solutions = written("solutions.json", {"one": rows})
    for source in ("submission.json", "answers.jsonl"):
        assert json.loads(run("grade", source, "--solutions", solutions, "--json").stdout)["score"] == 1
    assert run("solve", "one.json", *options).exit_code == 2  # both files exist
    Path("submission.json").unlink()
    written("two.json", json.loads(get("arc").question_text(first)))
    assert run("solve", "one.json", "two.json", *options, "--resume").exit_code == 0
    assert sorted(json.loads(Path("submission.json").read_text())) == ["one", "two"]


def test_other_puzzles_have_no_submission() -> None:
    result = run("solve", doubles.SUDOKU, "--llm", "none", "--submission", "s.json")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)


# -- comparing runs ------------------------------------------------------------------------------------------
def test_records_of_each_kind_are_compared() -> None:
    evaluated = lines("e.jsonl", *({"id": str(n), "pass_2": [n < 6, True]} for n in range(8)))
    solved = lines(
        "s.jsonl", *({"id": str(n), "status": "verified" if n == 7 else "unsolved"} for n in range(9))
    )
    result = json.loads(run("compare-records", evaluated, solved, "--json").stdout)
    assert (result["both"], result["first"], result["second"]) == ([], list("012345"), ["7"])
    assert (result["neither"], result["only"]) == (["6"], [0, 1])
    assert result["test"]["p"] == pytest.approx(0.125)
    assert "McNemar" in run("compare-records", evaluated, solved).stdout


def test_arms_of_one_file_are_named() -> None:
    records = lines("r.jsonl", *({"id": "x", "arm": arm, "solved": arm == "trm"} for arm in ("trm", "llm")))
    assert run("compare-records", records, records).exit_code == 2
    result = json.loads(run("compare-records", "r.jsonl#trm", "r.jsonl#llm", "--json").stdout)
    assert result["first"] == ["x"]


def test_unverified_answers_and_submissions_need_the_known_outputs() -> None:
    one = lines("one.jsonl", {"id": "a", "status": "unverified", "answer": [[WRONG, RIGHT]]})
    two = written("two.json", {"a": attempts((WRONG, WRONG))})
    assert run("compare-records", one, two).exit_code == 2
    others = written("others.json", {"b": [RIGHT]})
    assert "others.json: no output of a" in run("compare-records", one, one, "--solutions", others).stderr
    solutions = written("solutions.json", {"a": [RIGHT]})
    result = json.loads(run("compare-records", one, two, "--solutions", solutions, "--json").stdout)
    assert result["first"] == ["a"]


@pytest.mark.parametrize(
    "content",
    ["", "no json", '{"id": 1}\n[]', '{"id": "a", "pass_2": 1}', '{"id": "a", "status": "unverified"}'],
)
def test_what_are_no_records_is_one_line(content: str) -> None:
    Path("r.jsonl").write_text(content)
    solutions = written("solutions.json", {"a": [RIGHT]})
    result = run("compare-records", "r.jsonl", "r.jsonl", "--solutions", solutions)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)


def test_damaged_lines_of_answers_are_left_out() -> None:
    damaged = [5, ["answer"], {"answer": [[RIGHT]]}, *({"id": n, "answer": [n]} for n in ([], 5, "x"))]
    answers = lines("a.jsonl", *damaged, {"id": "a", "answer": [[WRONG, RIGHT]]})
    solutions = written("solutions.json", {"a": [RIGHT]})
    assert json.loads(run("grade", answers, "--solutions", solutions, "--json").stdout)["score"] == 1


# -- check ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("answer", "code", "words"), [(RIGHT, 0, "equals"), (WRONG, 1, "differs")])
def test_check_holds_an_answer_against_the_known_output(answer: Any, code: int, words: str) -> None:
    task = {"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[1]], "output": RIGHT}]}
    result = run("check", written("task.json", task), written("answer.json", [answer]))
    for form in ([[WRONG, answer]], attempts((answer, WRONG)), {"task": attempts((WRONG, answer)), "b": []}):
        assert run("check", "task.json", written("form.json", form)).exit_code == code
    assert result.exit_code == code
    assert words in result.stdout
    del task["test"][0]["output"]
    result = run("check", written("hidden.json", task), "answer.json")
    assert (result.exit_code, result.stdout.strip()) == (0, "unverified")
