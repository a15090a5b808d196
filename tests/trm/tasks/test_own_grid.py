"""Grids whose task is known by their size and symbols alone: names, files, training, answers."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import doubles
import numpy as np
import pytest
from small_networks import CONFIGS
from typer.testing import CliRunner

import hybrid.cli
from hybrid.llm.chat.prompts import ChatProposer
from hybrid.pipeline import Pipeline
from trm.checkpoints.format import CheckpointError
from trm.checkpoints.format import load as load_checkpoint
from trm.cli import app
from trm.config import ConfigError
from trm.data.files import load, strict
from trm.data.own_grids import describe_own_grid
from trm.grid import PuzzleError
from trm.inference.config import SearchConfig
from trm.tasks import Status, get
from trm.tasks.own_grid import own_grid_name, read_rows
from trm.training.config import load_config

NAME = "grid:2x3:.AB:AB"


def table(path: Path, *rows: tuple[str, str]) -> str:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("question", "answer"), *rows])
    return str(path)


# -- names and text ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "symbols", [["A", "B"], [".", ":", "%", ">", "/"], ["0", "10", "7"], ["α", "🙂"], ["ÿ", "Ā"], ["x1", "y"]]
)
def test_a_name_describes_its_task(symbols: list[str]) -> None:
    name = own_grid_name(2, len(symbols), symbols, symbols[::-1])
    task = get(name)
    text = task.text(task.parse("\n".join([" ".join(symbols)] * 2)).inputs)
    assert (task.name, task.height, task.width, task.vocab_size) == (name, 2, len(symbols), len(symbols) + 1)
    assert read_rows(text) == [symbols, symbols]
    grid = task.parse(text).grid
    assert task.decode(task.parse(text), task.encode(grid)).tolist() == grid.tolist()


@pytest.mark.parametrize("name", ["grid", "grid:3x4", "grid:0x4:A:A", "grid:3x4:A", "grid:axb:A:A"])
def test_a_name_that_describes_no_grid_is_refused(name: str) -> None:
    with pytest.raises(PuzzleError, match="grid"):
        get(name)


@pytest.mark.parametrize(
    "text",
    [
        ".AB\nBA.",
        ".ABBA.",
        ". A B\nB A .",
        ".,A,B\nB,A,.",
        '[[".", "A", "B"], ["B", "A", "."]]',
        '[".AB", "BA."]',
    ],
)
def test_a_grid_in_each_form(text: str) -> None:
    task = get(NAME)
    assert task.text(task.parse(text).inputs) == ".AB\nBA."


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (".AB", "3 cells"),
        (".AB\nBA", "row 2: 2 cells"),
        (".AB\nBAC", "row 2, cell 3: 'C'"),
        ("A\nB\nA", "3 rows"),
    ],
)
def test_what_is_wrong_with_a_grid_is_said(text: str, words: str) -> None:
    with pytest.raises(PuzzleError, match=words):
        get(NAME).parse(text)


def test_no_answer_is_verified_and_what_no_answer_holds_is_unsolved() -> None:
    task = get(NAME)
    puzzle = task.parse("...\n...")
    assert task.check(puzzle, task.parse_answer(puzzle, "ABA\nBAB")).status is Status.UNVERIFIED
    assert task.check(puzzle, puzzle.inputs).status is Status.UNSOLVED
    assert task.check(puzzle, np.zeros((1, 1), dtype=np.uint8)).status is Status.UNSOLVED


def test_a_language_model_may_draft() -> None:
    puzzle = get(NAME).parse(".A.\n...")
    (answer,) = Pipeline(ChatProposer(doubles.Parrot("```\nAAA\nBBB\n```")), None).solve(
        [puzzle], SearchConfig()
    )
    assert answer.grids is not None
    assert get(NAME).text(answer.grids) == "AAA\nBBB"


# -- files ---------------------------------------------------------------------------------------------------
def test_a_file_says_size_and_symbols(tmp_path: Path) -> None:
    lines = table(tmp_path / "lines.csv", ("a.\nb.\n..", "ab\nba\naa"))
    flat = table(tmp_path / "flat.csv", ("1..2", "1122"))
    oblong = table(tmp_path / "oblong.csv", ("1..2..", "112211"))
    assert describe_own_grid("grid", lines) == "grid:3x2:.ab:ab"
    assert describe_own_grid("grid", flat) == "grid:2x2:.12:12"
    assert describe_own_grid("grid:2x3", oblong) == "grid:2x3:.12:12"
    spaced = table(tmp_path / "spaced.csv", ("# #\n  #", "#o#\noo#"), ("###\n#  ", "###\n#oo"))
    assert describe_own_grid("grid", spaced) == "grid:2x3: #:#o"
    assert [
        get("grid:2x3: #:#o").text(puzzle.inputs) for puzzle in strict(load(spaced, "grid:2x3: #:#o"))
    ] == [
        "# #\n  #",
        "###\n#  ",
    ]
    parted = table(tmp_path / "parted.csv", ("a b\nc d", "a a\na a"))
    assert describe_own_grid("grid", parted) == "grid:2x2:abcd:a"
    records = tmp_path / "records.jsonl"
    records.write_text(json.dumps({"question": [[10, 0]], "answer": [[10, 7]]}) + "\n")
    assert describe_own_grid("grid:1x2", str(records)) == "grid:1x2:0,10,:10,7,"


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("1..2", "1122"), ("1........", "111111111")], "3x3, expected 2x2"),
        ([("1..2..", "112211")], "no square"),
        ([("12\n1", "1122")], "rows of"),
        ([("1..2", "")], "no answer"),
    ],
)
def test_files_without_one_size_are_refused(rows: list[tuple[str, str]], words: str, tmp_path: Path) -> None:
    with pytest.raises(PuzzleError, match=words):
        describe_own_grid("grid", table(tmp_path / "own.csv", *rows))


def test_a_configuration_needs_its_file() -> None:
    with pytest.raises(ConfigError, match=r"data\.train"):
        load_config(CONFIGS / "grid.toml")


# -- from a file to an answer --------------------------------------------------------------------------------
def test_a_file_is_trained_on_measured_and_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    questions = ["".join(rng.choice(list(".AB"), 6)) for _ in range(60)]
    rows = [(f"{q[:3]}\n{q[3:]}", f"{a[:3]}\n{a[3:]}") for q in questions for a in [q.replace(".", "B")]]
    table(tmp_path / "own.csv", *rows)
    tiny = (
        "data.held_out_size=8 train.steps=3 train.batch=8 train.pool=1 train.max_steps=1 train.eval_steps=1"
    )
    words = [*tiny.split(), "model.hidden_size=16", "model.layers=1", "--out", "run", "--device", "cpu"]
    trained = CliRunner().invoke(app, ["train", str(CONFIGS / "grid.toml"), "data.train=own.csv", *words])
    assert trained.exit_code == 0, trained.output
    best = "run/checkpoints/best"
    assert load_checkpoint(best).task_named("grid") == NAME
    assert json.loads((tmp_path / "run" / "config.json").read_text())["data"]["task"] == NAME
    measured = CliRunner().invoke(
        app, ["eval", best, "--task", "grid", "--data", "own.csv", "--steps", "1", "--json"]
    )
    assert json.loads(measured.stdout)["n"] == 60
    solve = ["solve", "--llm", "none", "--refiner", best, "--task", "grid", "--json", ".AB\nBA."]
    solved = CliRunner().invoke(hybrid.cli.app, solve)
    record = json.loads(solved.stdout)
    assert (record["task"], record["question"]) == (NAME, ".AB\nBA.")
    assert record["confidence"] is not None
    assert "of 8 held-out puzzles" in solved.stderr
    with pytest.raises(CheckpointError, match="expected one expert"):
        load_checkpoint(best).task_named("grid:5x5")


def test_cells_that_the_question_leaves_open_are_filled_in(tmp_path: Path) -> None:
    (puzzle,) = strict(load(table(tmp_path / "one.csv", ("A.B\n.AB", "AAB\nBAB")), NAME))
    assert puzzle.answers is not None
    cells = get(NAME).cells(puzzle.answers[0], puzzle.grid)
    assert [[cell.text for cell in row] for row in cells] == [["A", "A", "B"], ["B", "A", "B"]]
    kinds = [[cell.kind for cell in row] for row in cells]
    assert kinds == [["given", "filled", "given"], ["filled", "given", "given"]]
    assert {cell.kind for row in get(NAME).cells(puzzle.grid) for cell in row} == {"given"}
