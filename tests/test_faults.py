"""Faults from outside: names that steer terminals, full disks, second writers, files larger than they look."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import doubles
import pytest
import torch
from filelock import FileLock
from rich.console import Console
from small_networks import ROOT, network

from hybrid import render
from hybrid.answer import Answer
from hybrid.llm.tuning.command import tune
from hybrid.output import Output, Remaining
from hybrid.pipeline import Pipeline
from trm.checkpoints.format import Expert
from trm.config import ConfigError
from trm.data import files
from trm.evaluation.ablate import read_rows
from trm.grid import PuzzleError
from trm.inference.config import SearchConfig
from trm.inference.proposals import Blank
from trm.tasks import Puzzle
from trm.training.run_folder import RunFolder

EVIL = "a\x1b[31m\x07\x9b2J\u202e\n== b: verified"


def answers(*names: str) -> tuple[list[Puzzle], list[Answer]]:
    puzzles = [doubles.sudoku(name) for name in names]
    return puzzles, list(Pipeline(Blank(), doubles.refiner(doubles.cold_solves)).solve(puzzles))


def test_names_of_puzzles_steer_no_terminal() -> None:
    _, (answer,) = answers(EVIL)
    lines = render.plain(answer).split("\n")
    assert all(line.isprintable() for line in lines)
    assert [line for line in lines if line.startswith("== ")] == lines[:1]
    screen = Console(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    screen.print(render.drawing(answer, colour=False))
    render.Notes(screen).warned(EVIL)
    assert isinstance(screen.file, io.StringIO)
    assert all(line.isprintable() for line in screen.file.getvalue().split("\n"))


@pytest.mark.parametrize("as_json", [True, False])
def test_answers_about_such_names_are_known_again(tmp_path: Path, as_json: bool) -> None:
    puzzles, given = answers(EVIL, "c")
    output = Output(tmp_path / "answers", as_json, resume=True)
    with output.open(SearchConfig()) as write:
        for answer in given:
            write(answer)
    # A plain answer's end does not show whether it is whole: the last one is made again.
    left = Remaining(puzzles, output.earlier())
    assert [puzzle.id for puzzle in left] == ([] if as_json else ["c"])


def test_a_full_disk_is_an_error_that_names_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = network()
    expert = Expert("sudoku", made.config, made.state_dict())
    folder = RunFolder(tmp_path / "run")
    folder.save("last", expert, {"step": 1})

    def full(*_: object) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:588] . unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="cannot be written") as failed:
        folder.save("last", expert, {"step": 2})
    assert failed.value.filename == str(folder.checkpoint("last"))
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == [
        "last"
    ]  # the old one, whole


def test_a_second_tuning_run_in_a_folder_is_refused(tmp_path: Path) -> None:
    with FileLock(tmp_path / ".lock"), pytest.raises(ConfigError, match="another"):
        tune(
            ROOT / "configs" / "tune_tiny.toml", ["data.tasks=none.json", f"train.out={tmp_path}"], None, None
        )


def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_UNPACKED", 1000)
    (tmp_path / "bomb.csv.gz").write_bytes(gzip.compress(b"question\n" + b" " * 100_000))
    (found,) = files.load(tmp_path / "bomb.csv.gz")
    assert isinstance(found, PuzzleError)


def test_csv_whose_quotes_are_never_closed_takes_linear_time(tmp_path: Path) -> None:
    (tmp_path / "open.csv").write_text("question,answer\n" + 'a",",\n' * 2000)
    assert len(files.load(tmp_path / "open.csv")) > 0


@pytest.mark.parametrize("name", ["..", ".", "a/b", "/a", "a\\u001bb"])
def test_a_row_of_an_ablation_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "rows.toml").write_text(f'"{name}" = ["train.steps=1"]\n')
    with pytest.raises(ConfigError, match="folder"):
        read_rows(ROOT / "configs" / "tiny.toml", tmp_path / "rows.toml", [], tmp_path / "out")
