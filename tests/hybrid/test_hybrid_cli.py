"""The `hybrid` command: exits, puzzles, the other commands. Models are scripted, processes real where they matter."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import doubles
import pytest
from doubles import Scripted, right, sudoku, wrong
from scripted_command import ROOT, Parts, hybrid_process, records, run
from small_networks import SMALL

from hybrid.llm.base import BackendError
from trm.checkpoints.format import CheckpointError, Expert, save
from trm.model.network import TRM

BROKEN = "55" + doubles.SUDOKU[2:]  # two 5s in the first row

pytestmark = pytest.mark.usefixtures("parts")


# -- exits -------------------------------------------------------------------------------------------------
def test_verified_is_0() -> None:
    result = run("solve", doubles.SUDOKU, "--json")
    assert result.exit_code == 0
    (record,) = records(result)
    assert (record["status"], record["source"], record["answer"]) == ("verified", "refiner", doubles.SOLUTION)
    assert result.stderr == ""


def test_unsolved_is_1(parts: Parts) -> None:
    parts.refiner = doubles.refiner(doubles.echoes)
    result = run("solve", doubles.SUDOKU, "--json")
    assert result.exit_code == 1
    assert records(result)[0]["status"] == "unsolved"


@pytest.mark.parametrize(
    ("puzzle", "said"),
    [
        (doubles.SUDOKU[:-1], "80 cells, expected 81"),
        (BROKEN, "row 1 has 5 twice"),
        ("#S#\n###\n#G#", "cannot be reached"),
        ("S  \n   \n   ", "expected exactly one"),
        ("nowhere.csv", "nowhere.csv: no such file"),
        ("hello", "neither a file that exists nor a puzzle"),
    ],
)
def test_bad_input_is_2_one_line_and_loads_nothing(parts: Parts, puzzle: str, said: str) -> None:
    result = run("solve", puzzle, "--json")
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""
    assert parts.loaded == []


def test_the_files_other_puzzles_are_solved(tmp_path: Path) -> None:
    file = tmp_path / "mixed.txt"
    file.write_text(f"{doubles.SUDOKU}\n{BROKEN}\n{doubles.SUDOKU[:50]}\n{doubles.SUDOKU}\n")
    result = run("solve", str(file), "--json")
    assert result.exit_code == 2
    assert [record["status"] for record in records(result)] == ["verified", "verified"]
    first, second = result.stderr.splitlines()
    assert "line 2" in first
    assert "line 3" in second


@pytest.mark.parametrize(
    "args",
    [
        ["solve", "--steps", "0", doubles.SUDOKU],
        ["solve", "--llm", "none", "--refiner", "none", doubles.SUDOKU],
        ["solve", "--device", "abacus", doubles.SUDOKU],
        ["solve", "--task", "chess", doubles.SUDOKU],
        ["solve", "--no-such-option"],
        ["draft", "--llm", "none", doubles.SUDOKU],
        ["no-such-command"],
        ["solve", doubles.SUDOKU, "-o", "no/such/folder/out.txt"],
    ],
)
def test_usage_is_2(args: list[str]) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert result.stderr
    assert "Traceback" not in result.output


def test_nothing_that_can_answer_is_3(parts: Parts) -> None:
    parts.llm = BackendError("qwen: not here")
    parts.refiner = CheckpointError("ckpt/trm.pt: no such file")
    result = run("solve", doubles.SUDOKU)
    assert result.exit_code == 3
    assert result.stderr.splitlines() == ["hybrid: ckpt/trm.pt: no such file; qwen: not here"]


def test_a_missing_llm_is_a_warning_while_the_network_answers(parts: Parts) -> None:
    parts.llm = BackendError("qwen: not here")
    result = run("solve", doubles.SUDOKU, "--json")
    assert result.exit_code == 0
    assert result.stderr == "hybrid: warning: qwen: not here; the network answers alone\n"
    assert records(result)[0]["llm"] is None


def test_a_missing_checkpoint_is_a_warning_while_the_llm_answers(parts: Parts) -> None:
    parts.llm = Scripted([right(sudoku())])
    parts.refiner = CheckpointError("ckpt/trm.pt: no such file")
    result = run("solve", doubles.SUDOKU, "--json")
    assert result.exit_code == 0
    assert result.stderr == "hybrid: warning: ckpt/trm.pt: no such file; drafts are judged alone\n"
    (record,) = records(result)
    assert (record["source"], record["confidence"], record["refiner"]) == ("llm", None, None)


def test_the_worst_exit_wins(parts: Parts, tmp_path: Path) -> None:
    parts.refiner = doubles.refiner(doubles.solves_sudokus, ["sudoku"])
    args = ["solve", "--llm", "none", "--json", doubles.SUDOKU]
    assert run(*args).exit_code == 0
    assert run(*args, doubles.MAZE).exit_code == 3  # no expert for mazes, no LLM
    assert run(*args, doubles.MAZE, "nowhere.txt").exit_code == 2
    parts.refiner = doubles.refiner(doubles.echoes, ["sudoku"])
    assert run(*args).exit_code == 1
    assert run(*args, doubles.MAZE).exit_code == 3


# -- where puzzles come from -------------------------------------------------------------------------------
def test_standard_input() -> None:
    for args in (["solve", "--json"], ["solve", "--json", "-"]):
        result = run(*args, stdin=f"{doubles.SUDOKU}\n")
        assert (result.exit_code, len(records(result))) == (0, 1)


def test_without_a_puzzle_one_sample_of_each_kind(parts: Parts) -> None:
    from trm import tasks

    parts.refiner = doubles.refiner(doubles.echoes)
    result = run("solve", "--llm", "none", "--json")
    assert [record["task"] for record in records(result)] == tasks.names()
    result = run("solve", "--llm", "none", "--json", "--task", "maze")
    assert [record["task"] for record in records(result)] == ["maze"]


def test_ids_are_distinct() -> None:
    result = run("solve", doubles.SUDOKU, doubles.SUDOKU, "--json")
    assert len({record["id"] for record in records(result)}) == 2


# -- the other commands ------------------------------------------------------------------------------------
def test_draft_is_the_llm_alone(parts: Parts) -> None:
    parts.llm = Scripted([wrong(sudoku()), right(sudoku())])
    result = run("draft", doubles.SUDOKU, "--json", "--rounds", "1")
    (record,) = records(result)
    assert (result.exit_code, record["source"], record["refiner"]) == (0, "llm", None)
    assert len(record["drafts"]) == 2
    assert parts.loaded == ["llm"]


def test_check(tmp_path: Path) -> None:
    assert run("check", doubles.SUDOKU, doubles.SOLUTION).exit_code == 0
    result = run("check", doubles.SUDOKU, doubles.SOLUTION[::-1])
    assert result.exit_code == 1
    assert result.stdout.startswith("unsolved\n  ")
    puzzle, answer = tmp_path / "puzzle.txt", tmp_path / "answer.txt"
    puzzle.write_text(doubles.MAZE + "\n")
    answer.write_text(doubles.PATHS[0] + "\n")
    assert run("check", str(puzzle), str(answer)).exit_code == 1  # not a shortest path, nor one at all
    answer.write_text(doubles.PATHS[1] + "\n")
    assert run("check", str(puzzle), str(answer)).exit_code == 0
    assert run("check", str(puzzle), "-", stdin=doubles.PATHS[2]).exit_code == 0


@pytest.mark.parametrize("args", [("nowhere.txt", doubles.SOLUTION), (doubles.SUDOKU, doubles.SOLUTION[:-1])])
def test_check_of_what_cannot_be_read_is_2(args: tuple[str, str]) -> None:
    result = run("check", *args)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1


def test_pull_of_an_unknown_model_is_3() -> None:
    result = run("pull", "no-such-model")
    assert result.exit_code == 3
    assert len(result.stderr.splitlines()) == 1


def test_version_and_help() -> None:
    assert run("--version").stdout.startswith("hybrid 0.")
    overview = run("--help").stdout
    for word in ("hybrid solve", "hybrid check", "Exit: 0"):
        assert word in overview
    for command in ("solve", "draft", "check", "pull", "env"):
        assert run(command, "--help").exit_code == 0


# -- as processes ------------------------------------------------------------------------------------------
def test_the_package_is_the_command() -> None:
    done = hybrid_process("--version")
    assert (done.returncode, done.stdout) == (0, run("--version").stdout)


def test_light_commands_load_no_heavy_library() -> None:
    code = (
        "import sys; from hybrid.cli import app; app(sys.argv[1:], standalone_mode=False); "
        "heavy = {'torch', 'transformers', 'datasets', 'scipy'} & set(sys.modules); sys.exit(bool(heavy))"
    )
    for args in (["--help"], ["check", doubles.SUDOKU, doubles.SOLUTION]):
        done = subprocess.run([sys.executable, "-c", code, *args], cwd=ROOT, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr


def test_no_standard_input_means_samples(tmp_path: Path) -> None:
    # Nothing can answer: yet the samples were read, since else the complaint would be of the input.
    for stdin in (subprocess.DEVNULL, subprocess.PIPE):
        args = ("solve", "--llm", "none", "--refiner", "missing.pt")
        done = hybrid_process(*args, stdin=stdin, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr.splitlines() == [
            "hybrid: missing.pt: no such file or folder, expected a checkpoint"
        ]


def test_an_interrupted_process_leaves_with_130(tmp_path: Path) -> None:
    fifo = tmp_path / "puzzles"
    os.mkfifo(fifo)
    command = [sys.executable, "-m", "hybrid", "solve", str(fifo)]
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        # A shell's background jobs, this one's parent perhaps, ignore SIGINT, and so would their children.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    ) as process:
        with fifo.open("w"):  # returns once the command has begun to read
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_an_expert_of_another_shape_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the network is a real one
    odd = replace(SMALL, vocab_size=12)
    save(tmp_path / "odd.pt", {"sudoku": Expert("sudoku", odd, TRM(odd).state_dict())})
    result = run("solve", doubles.SUDOKU, "--llm", "none", "--refiner", str(tmp_path / "odd.pt"))
    assert result.exit_code == 3
    assert "(81, 12), expected (81, 11) for sudoku" in result.stderr


def test_a_real_process_restarts_with_a_real_network(tmp_path: Path) -> None:
    save(tmp_path / "small.pt", {"sudoku": Expert("sudoku", SMALL, TRM(SMALL).state_dict())})
    args = ["--llm", "none", "--refiner", "small.pt", "--device", "cpu", "--restarts", "2", "--steps", "1"]
    done = hybrid_process("solve", *args, "--json", doubles.SUDOKU, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout)["restarts"] == 2
