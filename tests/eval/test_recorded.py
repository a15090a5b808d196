"""Drafts on file: what a language model replied is kept, served again, and asked for again where it failed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import doubles
import numpy as np
import pytest
from doubles import Parrot, ScriptedLLM

from eval.recorded import RecordedProposer
from hybrid.llm.base import BackendError, Reply, Request
from hybrid.llm.chat.prompts import ChatProposer
from hybrid.llm.grid.proposer import GridProposer
from trm.data.generate import generate
from trm.grid import Grid, PuzzleError
from trm.tasks import Puzzle, get

PUZZLE = doubles.sudoku()
WRONG = get("sudoku").text(doubles.wrong(PUZZLE))


def test_replies_are_kept_and_serve_another_machine(tmp_path: Path) -> None:
    llm = Parrot(WRONG, doubles.SOLUTION)
    first = doubles.recorded(path=tmp_path / "drafts.jsonl", llm=llm, drafts=2)
    drafts = first.propose(PUZZLE, 2)
    assert first.propose(PUZZLE, 1)[0].text == drafts[0].text
    assert llm.calls == 1  # the second time it was on file
    second = RecordedProposer(None, None, 2)
    assert second.load(tmp_path / "drafts.jsonl") == 2
    assert [d.text for d in second.propose(PUZZLE, 2)] == [d.text for d in drafts]
    assert (second.name, second.parameters) == ("parrot", 1_000_000)


class Failing(ScriptedLLM):
    """A server that cannot be asked about conversations in which this text stands."""

    def __init__(self, text: str, failing: str) -> None:
        super().__init__()
        self.text, self.failing = text, failing

    def reply(self, request: Request, samples: int) -> list[Reply]:
        if self.failing and self.failing in request.messages[-1]["content"]:
            raise BackendError("localhost: connection refused")
        return [Reply(self.text, 10, 0.1, None, 5)] * samples


def shown(puzzle: Puzzle) -> str:
    """A part of the conversation about a Sudoku alone: its second row."""
    return " ".join("_" if cell == 0 else str(cell) for cell in puzzle.grid[1])


def test_a_failing_request_costs_its_puzzle_alone_and_is_asked_again(tmp_path: Path) -> None:
    puzzles = [replace(puzzle, id=f"p{n}") for n, puzzle in enumerate(generate("sudoku", 4, 0))]
    path = tmp_path / "drafts.jsonl"
    proposer = doubles.recorded(path=path, llm=Failing("no grid", shown(puzzles[1])), drafts=1)
    assert "connection refused" in (proposer.prepare(puzzles, 4) or "")
    assert [proposer.unavailable(puzzle) for puzzle in puzzles] == [False, True, False, False]
    assert sorted(json.loads(line)["id"] for line in path.read_text().splitlines()) == ["p0", "p2", "p3"]
    again = Failing("no grid", "")
    resumed = doubles.recorded(path=path, llm=again, drafts=1)
    resumed.load(path)
    assert resumed.prepare(puzzles, 4) is None
    assert again.calls == 1
    assert all(map(resumed.has_drafts, puzzles))


def test_a_server_that_is_gone_is_not_asked_about_every_puzzle() -> None:
    puzzles = list(generate("sudoku", 9, 0))
    llm = Failing("", " ")
    proposer = doubles.recorded(llm=llm, drafts=1)
    assert proposer.prepare(puzzles, 1) is not None
    assert llm.calls < 6
    assert all(map(proposer.unavailable, puzzles))


def test_requests_that_a_server_failed_to_answer_are_asked_again_when_resumed(tmp_path: Path) -> None:
    class Refusing(ScriptedLLM):
        def reply(self, request: Request, samples: int) -> list[Reply]:
            return [Reply("", 0, 0.1, "500: out of memory", unanswered=True)]

    path = tmp_path / "drafts.jsonl"
    refused = doubles.recorded(path=path, llm=Refusing(), drafts=1)
    (draft,) = refused.propose(PUZZLE)
    assert (draft.grids, "out of memory" in (draft.error or "")) == (None, True)
    assert refused.unavailable(PUZZLE)
    live = RecordedProposer(path, ChatProposer(Parrot(WRONG, name="scripted")), 1)
    live.load(path)
    assert not live.has_drafts(PUZZLE)
    assert live.propose(PUZZLE)[0].text == WRONG
    on_file = RecordedProposer(None, None, 1)
    on_file.load(path)
    assert on_file.has_drafts(PUZZLE)


def test_a_prompt_that_is_too_long_is_not_asked_again(tmp_path: Path) -> None:
    class Short(ScriptedLLM):
        def reply(self, request: Request, samples: int) -> list[Reply]:
            return [Reply("", 0, 0.1, "400: maximum context length is 64 tokens")]

    proposer = doubles.recorded(path=tmp_path / "drafts.jsonl", llm=Short(), drafts=1)
    assert proposer.prepare([PUZZLE], 1) is None
    assert proposer.has_drafts(PUZZLE)
    assert not proposer.unavailable(PUZZLE)


def test_what_becomes_of_the_networks_grids_is_kept_too(tmp_path: Path) -> None:
    class Mending(GridProposer):
        def __init__(self) -> None:
            self.name, self.parameters, self.asked = "mending", 1, 0

        def mend(self, puzzle: Puzzle, index: int, grids: Sequence[Grid], seed: int = 0) -> list[Grid]:
            self.asked += 1
            return [grid + 1 for grid in grids]

    live, path, grid = Mending(), tmp_path / "drafts.jsonl", np.array([[1, 2]], np.uint8)
    proposer = RecordedProposer(path, live)
    for _ in range(2):
        assert [found.tolist() for found in proposer.mend(PUZZLE, 0, [grid])] == [[[2, 3]]]
    assert live.asked == 1
    on_file = RecordedProposer(None)
    assert on_file.load(path) == 1
    assert [found.tolist() for found in on_file.mend(PUZZLE, 0, [grid])] == [[[2, 3]]]
    assert on_file.mend(PUZZLE, 0, [grid, grid]) == []


def test_what_is_not_on_file_is_a_counted_failure() -> None:
    draft = RecordedProposer(None, None, 1, name="parrot").propose(PUZZLE)[0]
    assert draft.grids is None
    assert draft.error


def test_drafts_of_another_model_or_broken_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "drafts.jsonl"
    doubles.recorded(WRONG, path=path, drafts=1).propose(PUZZLE)
    with pytest.raises(PuzzleError, match=r"line 1.*parrot, expected other"):
        doubles.recorded(llm=Parrot(name="other")).load(path)
    for text in ("{}\n", '{"as\n{}\n', "[1]\n"):
        path.write_text(text)
        with pytest.raises(PuzzleError, match="line 1"):
            RecordedProposer(None).load(path)


@pytest.mark.parametrize("candidate", [["1x", 0.5, -1.0], ["12", "half", None], ["12", 0.5], 7])
def test_drafts_with_candidates_that_are_none_are_refused(tmp_path: Path, candidate: object) -> None:
    reply = {"text": "", "tokens": 1, "seconds": 0.1, "candidates": [candidate]}
    row = {"asked": "x", "sample": 0, "llm": "parrot", "parameters": 1, "replies": [reply]}
    path = tmp_path / "drafts.jsonl"
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(PuzzleError, match="line 1"):
        RecordedProposer(None).load(path)
