"""The loop of a comparison: the same records whatever is prefetched, and servers asked as promised."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import doubles
import pytest
from doubles import Asked, ScriptedLLM, sudoku
from rich.progress import Progress

from eval.arms import Setting
from eval.metrics import Record
from eval.recorded import RecordedProposer
from eval.run import Run, read_records
from hybrid.llm.base import Reply, Request
from hybrid.llm.chat.prompts import ChatProposer
from trm.grid import Grid
from trm.inference.config import SearchConfig
from trm.tasks import Puzzle, get

SECONDS = 20.0
ARMS = ["hybrid", "llm", "trm", "draft:random"]


class Varied(ScriptedLLM):
    """An LLM whose replies depend on the conversation."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = [threading.Event() for _ in range(9)]

    def reply(self, request: Request, samples: int) -> list[Reply]:
        digit = len(request.messages[-1]["content"]) % 9 + 1
        return [Reply(doubles.SOLUTION[:-1] + str(digit), 9, 0.0)] * samples

    def complete(self, requests: Sequence[Request], **options: object) -> list[list[Reply]]:  # type: ignore[override]
        if options.get("concurrency", 1) != 1 or len(requests) > 1:
            next(event for event in self.begun if not event.is_set()).set()
        return super().complete(requests, **options)  # type: ignore[arg-type]


def puzzles() -> list[Puzzle]:
    """Sudokus that differ in their givens."""
    task = get("sudoku")
    texts = [doubles.SUDOKU[:2] + doubles.SOLUTION[2 : 2 + n] + doubles.SUDOKU[2 + n :] for n in range(5)]
    return [
        Puzzle("sudoku", task.parse(text).inputs, id=f"s{n}", answers=sudoku().answers)
        for n, text in enumerate(texts)
    ]


def compare(
    folder: Path,
    prefetched: bool,
    llm: Varied,
    concurrency: int = 1,
    play: doubles.Play = doubles.never_solves,
) -> list[Record]:
    folder.mkdir()
    proposer = RecordedProposer(folder / "drafts.jsonl", ChatProposer(llm))
    setting = Setting(proposer, doubles.refiner(play), SearchConfig(rounds=1), 2, prefetched)
    with Progress(disable=True) as progress:
        run = Run(folder, {"sudoku": ARMS}, setting, concurrency)
        assert run.go({"sudoku": puzzles()}, float("inf"), progress)
    records = list(read_records(folder))
    for record in records:
        del record["seconds"]
    return records


def test_records_are_the_same_whatever_is_prefetched(tmp_path: Path) -> None:
    plain, early = (compare(tmp_path / str(early), early, Varied()) for early in (False, True))
    assert plain == early
    assert [(r["arm"], r["id"]) for r in early[:4]] == [
        ("hybrid", "s0"), ("hybrid", "s1"), ("llm", "s0"), ("llm", "s1"),
    ]  # fmt: skip
    kept = [sorted((tmp_path / str(e) / "drafts.jsonl").read_text().splitlines()) for e in (False, True)]
    assert len(kept[0]) == len(kept[1]) > len(puzzles())  # repair requests too


def test_the_next_drafts_are_asked_for_meanwhile(tmp_path: Path) -> None:
    llm = Varied()

    def waits(asked: Asked) -> list[tuple[Grid, float]]:
        assert llm.begun[1].wait(SECONDS if not asked.number else 0)
        return doubles.cold_solves(asked)

    compare(tmp_path / "out", True, llm, play=waits)


@pytest.mark.parametrize("prefetched", [True, False])
def test_a_server_has_as_many_requests_as_it_was_promised(tmp_path: Path, prefetched: bool) -> None:
    llm = Varied()
    compare(tmp_path / "out", prefetched, llm, concurrency=4)
    assert [(n, at_once) for n, at_once in llm.concurrency if at_once > 1] == [(4, 4), (1, 4)]


def test_an_interruption_loses_no_finished_answer(tmp_path: Path) -> None:
    def interrupted(asked: Asked) -> list[tuple[Grid, float]]:
        if asked.number == 5:
            raise KeyboardInterrupt
        return doubles.cold_solves(asked)

    setting = Setting(None, doubles.refiner(interrupted), SearchConfig(), at_once=4)
    run, wanted = Run(tmp_path, {"sudoku": ["trm"]}, setting), [sudoku(name) for name in "abcdefgh"]
    with Progress(disable=True) as progress, pytest.raises(KeyboardInterrupt):
        run.go({"sudoku": wanted}, float("inf"), progress)
    assert [record["id"] for record in read_records(tmp_path)] == list("abcde")
