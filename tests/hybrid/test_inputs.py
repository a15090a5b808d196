"""What a command line names: files, pipes and text."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import doubles
import pytest

from hybrid.inputs import STDIN, includes, text_of
from trm import tasks
from trm.grid import PuzzleError


@pytest.mark.parametrize("name", ["nowhere.txt", "no/such", "/no/such", "maze.answer.TXT"])
def test_a_missing_file_is_no_answer(name: str) -> None:
    with pytest.raises(PuzzleError, match=f"^{name}: "):
        text_of(name)


def test_a_folder_is_no_answer(tmp_path: Path) -> None:
    with pytest.raises(PuzzleError, match="directory"):
        text_of(str(tmp_path))


def test_answers_of_every_kind_are_no_names_of_files() -> None:
    samples = [tasks.get(name).text(tasks.get(name).samples()[0].answers or ()) for name in tasks.names()]
    for text in (*samples, doubles.SUDOKU, doubles.PATHS[0], "o" * 900, "[[[1, 2]]]", "5|3.\n/", "hello"):
        assert text_of(text) == text


def test_an_answer_may_come_through_a_pipe(tmp_path: Path) -> None:
    fifo = tmp_path / "answer"
    os.mkfifo(fifo)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(fifo.write_text, doubles.SOLUTION)
        assert text_of(str(fifo)) == doubles.SOLUTION


def test_the_answers_beside_a_challenges_file_are_read_with_it(tmp_path: Path) -> None:
    challenges, solutions = tmp_path / "x_challenges.json", tmp_path / "x_solutions.json"
    other = tmp_path / "y_solutions.json"
    other.write_text("{}")
    assert not includes([str(challenges), str(tmp_path / "gone"), doubles.SUDOKU, STDIN, "", "\0"], other)
    for path in (challenges, solutions):
        path.write_text("{}")
        assert includes([doubles.SUDOKU, "", str(challenges)], path)
    assert not includes([str(challenges)], other)
    assert includes([str(tmp_path)], other)
