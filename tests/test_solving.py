"""Answers on their way out: when they come, in which order, and where they go."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import doubles
import pytest
from doubles import FakeRefiner, sudoku

from hybrid import solving
from hybrid.answer import Answer
from hybrid.pipeline import Options, Pipeline
from hybrid.proposers import Blank
from hybrid.work import Work
from trm.grid import Grids
from trm.tasks import Puzzle


class Late(FakeRefiner):
    """Is done with the puzzles of a batch in this order; Ctrl-C comes where it does not name all."""

    def __init__(self, *order: int) -> None:
        super().__init__(doubles.cold_solves)
        self.order = order

    def each(self, puzzles: list[Puzzle], draft: list[Grids | None], **options: Any) -> Iterator[Any]:
        outs = dict(super().each(puzzles, draft, **options))
        yield from ((row, outs[row]) for row in self.order)
        if len(self.order) < len(puzzles):
            raise KeyboardInterrupt


def answers(refiner: FakeRefiner) -> Iterator[Answer]:
    pipeline = Pipeline(Blank(), refiner, at_once=4)  # type: ignore[arg-type]
    return pipeline.solve([sudoku(name) for name in "abcd"])


def test_answers_of_a_batch_come_in_order_as_soon_as_they_can() -> None:
    assert [answer.puzzle.id for answer in answers(Late(2, 0, 3, 1))] == list("abcd")
    assert next(answers(Late(0))).puzzle.id == "a"  # it has not waited for the others


def test_ctrl_c_loses_none_of_a_batch_that_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(solving, "_refiner", lambda setup, watcher: Late(3, 0, 2))
    out, puzzles = tmp_path / "out.jsonl", [sudoku(name) for name in "abcd"]
    code = solving.run(puzzles, solving.Setup("none", "late"), Options(), as_json=True, out=out)
    assert code == solving.INTERRUPTED
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == ["a", "c", "d"]
    assert capsys.readouterr().err == "hybrid: interrupted, 3 of 4 puzzles answered\n"


def test_ctrl_c_while_an_answer_is_put_together_loses_it_no_more_than_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put_together, asked = Pipeline._answer, []

    def interrupted(self: Pipeline, work: Work, options: Options) -> Answer:
        asked.append(work.puzzle.id)
        if asked == ["a", "b"]:
            raise KeyboardInterrupt
        return put_together(self, work, options)

    monkeypatch.setattr(Pipeline, "_answer", interrupted)
    came: list[Answer] = []
    with pytest.raises(KeyboardInterrupt):
        came.extend(answers(Late(0, 2, 1, 3)))
    assert [answer.puzzle.id for answer in came] == ["a", "b", "c"]
