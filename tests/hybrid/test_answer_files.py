"""Where the answers of `hybrid solve` go: standard output, a file, one that is resumed, and what is in them."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import doubles
import pytest
from scripted_command import Parts, hybrid_process, records, run

from trm.checkpoints.format import CheckpointError

pytestmark = pytest.mark.usefixtures("parts")


def test_out_holds_what_standard_output_would(tmp_path: Path) -> None:
    result = run("solve", doubles.SUDOKU, doubles.SUDOKU, "--json", "-o", "answers.jsonl")
    assert result.stdout == ""
    lines = Path("answers.jsonl").read_text().splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["verified", "verified"]


@pytest.mark.parametrize("as_json", [["--json"], []])
def test_a_file_that_exists_is_refused_and_stays_as_it_is(as_json: list[str]) -> None:
    out = Path("answers")
    out.write_text("an older run\n")
    for more in ([], ["--resume"]):  # nor is a file resumed that holds something else
        result = run("solve", doubles.SUDOKU, *as_json, "-o", "answers", *more)
        assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
        assert out.read_text() == "an older run\n"


@pytest.mark.parametrize("as_json", [["--json"], []])
@pytest.mark.parametrize("cut", [0, 1, 30])
def test_resume_does_what_the_file_lacks(parts: Parts, as_json: list[str], cut: int) -> None:
    """cut: characters of the last answer that a kill has taken away."""
    others = [doubles.SUDOKU[:2] + doubles.SOLUTION[2:n] + doubles.SUDOKU[n:] for n in (4, 7)]
    puzzles, out = [doubles.SUDOKU, *others], Path("answers")
    args = ["solve", "--llm", "none", *as_json, "-o", "answers"]
    assert run(*args, *puzzles[:2]).exit_code == 0
    text = out.read_text()
    out.write_text(text[: len(text) - cut])
    parts.refiner = doubles.refiner(doubles.solves_sudokus)
    assert run(*args, *puzzles, "--resume").exit_code == 0
    # A plain answer's end does not show whether it is whole: the last one is made again.
    assert len(doubles.seen(parts.refiner)) == (1 if as_json and cut < 2 else 2)
    if as_json:
        records = [json.loads(line) for line in out.read_text().splitlines()]
        assert [record["question"] for record in records] == puzzles
    else:
        heads = [line for line in out.read_text().splitlines() if line.startswith("== ")]
        assert len(heads) == 3
        assert all("verified" in line for line in heads)
    before = out.read_text()
    if as_json:  # all is there: nothing is loaded, and the exit code is what the answers say
        parts.refiner = CheckpointError("not to be loaded")
        assert run(*args, *puzzles, "--resume").exit_code == 0
        assert out.read_text() == before


@pytest.mark.parametrize("named", ["x.txt", "link", "hard", "sub/../x.txt"])
def test_out_is_no_input(parts: Parts, tmp_path: Path, named: str) -> None:
    puzzles = tmp_path / "x.txt"
    puzzles.write_text(doubles.SUDOKU)
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to(puzzles)
    (tmp_path / "hard").hardlink_to(puzzles)
    task = {"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[3]]}]}
    (tmp_path / "task.json").write_text(json.dumps(task))
    said = "is read by this very command, expected another file\n"
    for args in ([doubles.SUDOKU, "x.txt", "-o", named], ["--refiner", "x.txt", doubles.SUDOKU, "-o", named]):
        result = run("solve", *args)
        assert (result.exit_code, result.stderr) == (2, f"hybrid: -o {named}: {said}")
    with puzzles.open() as stdin:
        done = hybrid_process("solve", "-o", named, stdin=stdin, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, f"hybrid: -o {named}: {said}")
    assert run("solve", ".", "-o", "task.json").stderr.endswith(said)
    assert (puzzles.read_text(), parts.loaded) == (doubles.SUDOKU, [])


def test_a_failed_start_leaves_nothing_in_the_way(parts: Parts) -> None:
    refiner, parts.refiner = parts.refiner, CheckpointError("no file")
    assert run("solve", "--llm", "none", doubles.SUDOKU, "-o", "answers").exit_code == 3
    parts.refiner = refiner
    assert run("solve", "--llm", "none", doubles.SUDOKU, "-o", "answers").exit_code == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_what_cannot_be_written_to_is_one_line() -> None:
    result = run("solve", doubles.SUDOKU, "-o", "/dev/full")
    assert result.exit_code == 2
    assert result.stderr.startswith("hybrid: /dev/full: No space left on device")


def test_out_may_be_a_pipe(tmp_path: Path) -> None:
    fifo = tmp_path / "answers"
    os.mkfifo(fifo)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(fifo.read_text)
        assert run("solve", doubles.SUDOKU, "--json", "-o", str(fifo)).exit_code == 0
        assert json.loads(read.result(30))["status"] == "verified"


def test_ctrl_c_keeps_what_is_solved(parts: Parts, tmp_path: Path) -> None:
    solved: list[str] = []

    def interrupted(asked: doubles.Asked) -> Any:
        if len(solved) == 2:  # a cold start and one from the draft for the first puzzle
            raise KeyboardInterrupt
        solved.append("a rollout")
        return doubles.solves_sudokus(asked)

    parts.refiner = doubles.refiner(interrupted)
    out = tmp_path / "answers.jsonl"
    result = run("solve", doubles.SUDOKU, doubles.SUDOKU, "--json", "-o", str(out))
    assert result.exit_code == 130
    assert len(out.read_text().splitlines()) == 1
    assert "1 of 2" in result.stderr


def test_plain_text_in_a_pipe() -> None:
    result = run("solve", doubles.SUDOKU, "--trace")
    assert "\x1b" not in result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("== inline:1: verified (by refiner), confidence 0.750")
    assert lines[-2:] == ["-- answer", doubles.SOLUTION]
    assert "-- step 2" in lines
    assert any(line.startswith("-- draft 1: unsolved: ") for line in lines)


def test_trace_and_answers_are_in_the_record_when_asked_for() -> None:
    (record,) = records(run("solve", doubles.SUDOKU, "--json", "--trace", "--answers", "2"))
    assert record["trace"] == [doubles.SUDOKU, doubles.SOLUTION]
    sure = [step["confidence"] for step in record["traced"]]
    assert sure == [pytest.approx(0.25, abs=0.001), pytest.approx(0.75, abs=0.001)]
    assert record["answers"] == [doubles.SOLUTION]
