"""Ctrl-C and batches: answers come in order, and none that is done is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import doubles
import pytest
from doubles import ScriptedEngine, sudoku

from hybrid import solving
from hybrid.answer import Answer
from hybrid.output import Output
from hybrid.pipeline import Pipeline
from trm.inference.config import SearchConfig
from trm.inference.engine import Rollout, Trajectory
from trm.inference.proposals import Blank
from trm.inference.refiner import Refiner
from trm.inference.search import Search
from trm.inference.selection import Selection
from trm.inference.state import SolveState


def late(*order: int) -> Refiner:
    """Is done with the puzzles of a batch in this order; Ctrl-C comes where it does not name all."""

    class Late(ScriptedEngine):
        def each(
            self, rollouts: Sequence[Rollout], *rest: Any, **more: Any
        ) -> Iterator[tuple[int, Trajectory]]:
            runs = dict(super().each(rollouts, *rest, **more))
            yield from ((row, runs[row]) for row in order)
            if len(order) < len(rollouts):
                raise KeyboardInterrupt

    refiner = doubles.refiner(doubles.cold_solves)
    assert isinstance(refiner.pool, doubles.ScriptedPool)
    engine = refiner.pool.engines["sudoku"]
    refiner.pool.engines["sudoku"] = Late(engine.task, engine.play)
    return refiner


def answers(refiner: Refiner) -> Iterator[Answer]:
    return Pipeline(Blank(), refiner, at_once=4).solve([sudoku(name) for name in "abcd"])


def test_answers_of_a_batch_come_in_order_as_soon_as_they_can() -> None:
    assert [answer.puzzle.id for answer in answers(late(2, 0, 3, 1))] == list("abcd")
    assert next(answers(late(0))).puzzle.id == "a"  # it has not waited for the others


def test_ctrl_c_loses_none_of_a_batch_that_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Refiner, "from_pretrained", lambda source, device, tasks, numpy: late(3, 0, 2))
    out, puzzles = tmp_path / "out.jsonl", [sudoku(name) for name in "abcd"]
    code = solving.run(puzzles, solving.Setup("none", "late"), SearchConfig(), Output(out, as_json=True))
    assert code == solving.INTERRUPTED
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == ["a", "c", "d"]
    assert "3 of 4" in capsys.readouterr().err


def test_ctrl_c_while_an_answer_is_selected_loses_it_no_more_than_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    select, selected = Search.select, []

    def interrupted(self: Search, state: SolveState, config: SearchConfig) -> Selection:
        selected.append(state.puzzle.id)
        if selected == ["a", "b"]:
            raise KeyboardInterrupt
        return select(self, state, config)

    monkeypatch.setattr(Search, "select", interrupted)
    done: list[Answer] = []
    with pytest.raises(KeyboardInterrupt):
        done.extend(answers(late(0, 2, 1, 3)))
    assert [answer.puzzle.id for answer in done] == ["a", "b", "c"]
