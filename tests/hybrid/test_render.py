"""What people see: drawings on a terminal, plain text elsewhere, and the live display."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import doubles
import numpy as np
import pytest
from doubles import Scripted, grids, maze, refiner, right, sudoku, wrong
from rich.console import Console
from rich.text import Text

from hybrid import render
from hybrid.answer import Answer
from hybrid.pipeline import Pipeline
from trm import tasks
from trm.inference.config import SearchConfig
from trm.inference.proposals import Proposer
from trm.inference.search import Callbacks

ROOT = Path(__file__).parents[2]


def solved(proposer: Proposer | None = None, trace: bool = False) -> Answer:
    pipeline = Pipeline(proposer or Scripted([wrong(sudoku())]), refiner(doubles.solves_sudokus))
    return next(pipeline.solve([sudoku()], SearchConfig(trace=trace)))


def drawn(answer: Answer, width: int = 120, trace: bool = False) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system="truecolor")
    console.print(render.drawing(answer, colour=True, trace=trace))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_question_draft_corrections_and_answer_stand_side_by_side() -> None:
    first = drawn(solved()).splitlines()[0]
    for title in ("s1", "draft", "corrections", "answer"):
        assert title in first
    assert "\x1b[" in drawn(solved())


def test_a_narrow_terminal_stacks_them() -> None:
    lines = drawn(solved(), width=40).splitlines()
    assert "answer" not in lines[0]
    assert any("answer" in line for line in lines)


def test_a_trace_shows_every_step() -> None:
    text = drawn(solved(trace=True), trace=True)
    assert "step 1" in text
    assert "step 2" in text


def test_an_answer_without_grids_is_drawn_too() -> None:
    answer = next(Pipeline(Scripted([None]), None).solve([sudoku()]))
    assert "reply held 7 rows" in drawn(answer)
    assert "no grid: reply held 7 rows" in render.plain(answer)


def test_corrections_mark_what_changed() -> None:
    count, text = render.corrections(wrong(sudoku()), right(sudoku()))
    assert count == 2
    assert text.plain.splitlines()[0] == "· · · · · · · 1 2"
    assert set("".join(text.plain.splitlines()[1:])) == {"·", " "}
    first, second = (grids(maze(), path) for path in doubles.PATHS[1:])
    count, text = render.corrections(first, second)
    assert (count, text.plain) == (6, "·__\no·_\noo·")
    assert render.corrections(first, right(sudoku()))[1].plain == "another shape"


def test_plain_text_names_every_part() -> None:
    lines = render.plain(solved()).splitlines()
    assert lines[0].startswith("== s1: verified (by refiner), confidence 0.750, 4 steps")
    assert lines[1].startswith("-- draft 1: unsolved: ")
    assert lines[3:] == ["-- answer", doubles.SOLUTION]


def test_candidates_are_shown_where_no_rule_decides() -> None:
    puzzle = tasks.get("arc").samples()[0]
    flipped = tuple(np.flip(grid) for grid in puzzle.inputs)
    answer = next(Pipeline(Scripted([flipped]), refiner(doubles.echoes)).solve([puzzle]))
    assert answer.verdict.status == "unverified"
    record = answer.to_json()
    assert len(record["answer"]) == len(puzzle.inputs)
    assert record["answer"][0][0] == puzzle.inputs[0].tolist()
    assert len(record["answer"][0]) == 2
    assert "-- answer 2" in render.plain(answer)
    assert "answer 2" in drawn(answer)


# -- meanwhile ---------------------------------------------------------------------------------------------
def test_notes_say_what_is_missing_on_one_line() -> None:
    console = Console(file=io.StringIO(), width=30)
    render.Notes(console).warned("a message much longer than the console is wide [bold]")
    shown = "hybrid: warning: a message much longer than the console is wide [bold]\n"
    assert console.file.getvalue() == shown  # type: ignore[attr-defined]


def test_the_live_display_follows_the_pipeline_and_leaves() -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=True)
    live = render.Live(console)
    live.busy("loading qwen")
    live.listen(object())
    seen: list[str] = []

    class Camera(Callbacks):
        """Passes events on, and keeps what is on the screen after each."""

        def __getattribute__(self, name: str) -> object:
            def passed(*args: object) -> None:
                getattr(live, name)(*args)
                with console.capture() as capture:
                    console.print(live)
                seen.append(capture.get())

            return passed

    pipeline = Pipeline(Scripted([wrong(sudoku())]), refiner(doubles.cold_solves), callbacks=Camera())
    list(pipeline.solve([sudoku()]))
    live.rest()
    assert "waiting for the draft" in seen[0]
    assert "violations" in seen[1]
    assert "refining" in seen[2]
    live.rest()  # twice does no harm


def shown(live: render.Live) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(live)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_adaptation_is_shown_in_seconds_and_refining_in_rollouts() -> None:
    live = render.Live(Console(file=io.StringIO()))
    live.started([sudoku()])
    live.adapting(sudoku(), 3, 30)
    assert "3 of 30 s" in shown(live)
    live.refining(sudoku(), 3, 30)
    assert "3 of 30 rollouts" in shown(live)
    live.rest()


def test_the_live_display_comes_back_while_others_of_a_batch_are_refined() -> None:
    console = Console(file=io.StringIO(), force_terminal=True)
    live = render.Live(console)
    live.started([sudoku("a"), sudoku("b")])
    live.rest()  # for the answer of the first one
    written = len(console.file.getvalue())  # type: ignore[attr-defined]
    live.refining(sudoku("b"), 1, 2)
    live.rest()
    assert len(console.file.getvalue()) > written  # type: ignore[attr-defined]


def test_the_tokens_of_an_llm_that_counts_them_are_shown() -> None:
    class Counting:
        on_token = None

    live, llm = render.Live(Console(file=io.StringIO())), Counting()
    live.listen(llm)
    live.started([sudoku()])
    llm.on_token(7)  # type: ignore[misc]
    live.rest()
    assert "7 tokens" in shown(live)


def on_a_terminal(*args: str, **environment: str) -> str:
    """What the command writes to a terminal of its own."""
    leader, follower = pty.openpty()
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "TERM": "xterm-256color", "COLUMNS": "120"}
    env = {name: value for name, value in env.items() if name not in ("NO_COLOR", "FORCE_COLOR", "CI")}
    code = (
        "import doubles, sys, trm.inference.refiner, hybrid.cli as c;"
        "r = doubles.refiner(doubles.solves_sudokus);"
        "trm.inference.refiner.Refiner.from_pretrained = lambda source, device, tasks, numpy: r;"
        "c.app(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, "solve", "--llm", "none", *args]
    with subprocess.Popen(command, stdout=follower, stderr=follower, env={**env, **environment}) as process:
        os.close(follower)
        shown = b""
        while True:
            try:
                part = os.read(leader, 65536)
            except OSError:  # how Linux says that nobody holds the other end
                break
            if not part:
                break
            shown += part
    os.close(leader)
    assert process.returncode == 0
    return shown.decode()


@pytest.mark.parametrize("no_colour", [False, True])
def test_a_terminal_gets_a_drawing_and_no_color_is_respected(no_colour: bool) -> None:
    text = on_a_terminal(doubles.SUDOKU, **({"NO_COLOR": "1"} if no_colour else {}))
    assert "╭" in text
    assert "verified" in text
    assert ("\x1b[32m" in text or "\x1b[36m" in text) is not no_colour


def test_names_are_no_markup() -> None:
    console = Console(width=60, record=True, file=io.StringIO())
    console.print(render._panel(Text("a grid"), "day [/1] x[red]y", "[bold]"))
    shown = console.export_text()
    assert "day [/1] x[red]y" in shown
    assert "[bold]" in shown
