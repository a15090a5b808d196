"""Sudokus of other sizes in prompts, in formats that replies are kept to, and in replies."""

from __future__ import annotations

import re

import numpy as np
import pytest

from hybrid.llm.chat.grid_text import reply_format, write_grid
from hybrid.llm.chat.parsing import read_grid
from hybrid.llm.chat.prompts import conversation
from trm.tasks import get


@pytest.mark.parametrize(
    ("name", "words"),
    [("sudoku4", "from 1 to 4"), ("sudoku6", "2 rows and 3 columns"), ("sudoku16", "a letter from A to G")],
)
def test_a_prompt_tells_the_size_and_shows_an_example_of_it(name: str, words: str) -> None:
    task = get(name)
    sample = task.samples()[-1]
    _, question, answer, asked = (message["content"] for message in conversation(sample))
    assert words in asked
    assert len(asked.split("```")[1].strip().split("\n")) == task.height
    assert read_grid(answer, task, sample.grid).error is None
    assert question != asked


@pytest.mark.parametrize("name", ["sudoku4", "sudoku6", "sudoku16"])
def test_an_answer_fits_the_format_and_is_read_again(name: str) -> None:
    task = get(name)
    for sample in task.samples():
        (answer,) = sample.answers or ()
        text = write_grid(answer, task)
        assert re.fullmatch(reply_format(sample).regex, text)
        reading = read_grid(f"Here it is:\n{text}\nDone.", task, sample.grid)
        assert reading.error is None
        assert reading.grid is not None
        assert np.array_equal(reading.grid, answer)
