"""The loop of a comparison: the same records whatever is prefetched or shared, and servers asked as promised."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import doubles
import pytest
from doubles import Asked, ScriptedLLM, sudoku
from rich.progress import Progress

from eval.arms import Setting
from eval.metrics import Record
from eval.plan import puzzles_for
from eval.recorded import RecordedProposer
from eval.run import Run, merge, read_records
from hybrid.llm.base import Reply, Request
from hybrid.llm.chat.prompts import ChatProposer
from trm.grid import Grid
from trm.inference.config import SearchConfig
from trm.tasks import Puzzle, get

ROOT = Path(__file__).parents[2]
WRONG = get("sudoku").text(doubles.wrong(sudoku()))
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


# -- several processes ---------------------------------------------------------------------------------------
def ids_of(records: Path) -> list[str]:
    return [json.loads(line)["id"] for line in records.read_text().splitlines()]


def test_processes_write_apart_and_are_merged(tmp_path: Path) -> None:
    row = {"task": "sudoku", "arm": "llm"}
    for name, ids in (("records.jsonl", "ab"), ("records.1.jsonl", "cd")):
        (tmp_path / name).write_text("".join(json.dumps({**row, "id": i}) + "\n" for i in ids))
    merge(tmp_path)
    assert ids_of(tmp_path / "records.jsonl") == list("abcd")
    assert not (tmp_path / "records.1.jsonl").exists()


def test_drafts_that_a_kill_cut_short_are_asked_for_again(tmp_path: Path) -> None:
    puzzles = list(puzzles_for("sudoku", 2, 0, None))
    for name, puzzle in zip(("drafts.jsonl", "drafts.1.jsonl"), puzzles, strict=True):
        doubles.recorded(WRONG + "\u2028", path=tmp_path / name, drafts=1).propose(puzzle)
    whole = (tmp_path / "drafts.1.jsonl").read_text()
    with (tmp_path / "drafts.jsonl").open("a") as file:
        file.write(whole[:50])
    read = doubles.recorded(WRONG, path=None, drafts=1)
    assert read.load(tmp_path / "drafts.jsonl") == 1
    merge(tmp_path)
    assert read.load(tmp_path / "drafts.jsonl") == 2
    assert not (tmp_path / "drafts.1.jsonl").exists()


def test_two_processes_share_the_puzzles(tmp_path: Path) -> None:
    """On a CPU; `--multi_gpu` chooses the launcher that starts as many processes as it is told."""
    out = tmp_path / "out"
    launch = "-m accelerate.commands.launch --multi_gpu --num_processes 2 --main_process_port 0"
    quiet = "--num_machines 1 --mixed_precision no --dynamo_backend no"
    script = [str(ROOT / "eval" / "compare.py"), "--out", str(out)]
    nobody = "--llm none --refiner none --arms exact --tasks sudoku --n 5"
    command = [sys.executable, *launch.split(), *quiet.split(), *script, *nobody.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("report.html") == 1
    # The first process has the first, third and fifth puzzle, and the second one's records come after them.
    assert ids_of(out / "records.jsonl") == [f"sudoku-0-{i}" for i in (1, 3, 5, 2, 4)]
    results = json.loads((out / "results.json").read_text())
    assert results["tasks"]["sudoku"]["exact"]["solved"] == 5
    assert results["environment"]["processes"] == 2
    assert not list(out.glob("records.*.jsonl"))
