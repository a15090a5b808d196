"""What people see: drawings on a terminal, plain text elsewhere, and the live display."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import doubles
import pytest
from doubles import FakeRefiner, Scripted, grids, maze, right, sudoku, wrong
from rich.console import Console
from rich.text import Text

from hybrid import render
from hybrid.answer import Answer
from hybrid.pipeline import Options, Pipeline, Watcher
from hybrid.proposers import Blank
from trm.inference.attempts import Seconds

ROOT = Path(__file__).parent.parent


def solved(
    proposer: object = None, policy: doubles.Policy = doubles.cold_solves, **options: object
) -> Answer:
    pipeline = Pipeline(proposer or Scripted([wrong(sudoku())]), FakeRefiner(doubles.cold_solves))  # type: ignore[arg-type]
    return next(pipeline.solve([sudoku()], Options(**options)))  # type: ignore[arg-type]


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
    from hybrid.null import Passthrough

    answer = next(Pipeline(Scripted([None]), Passthrough()).solve([sudoku()]))
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
    assert lines[0].startswith("== s1: verified (by refiner), confidence 0.750, 16 steps")
    assert lines[1].startswith("-- draft 1: unsolved: ")
    assert lines[3:] == ["-- answer", doubles.SOLUTION]


def test_candidates_are_shown_where_no_rule_decides() -> None:
    from trm import tasks

    puzzle = tasks.get("arc").samples()[0]
    answer = next(Pipeline(Blank(), FakeRefiner(doubles.echoes)).solve([puzzle]))
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
    seen: list[str] = []

    class Camera(Watcher):
        """Passes events on, and keeps what is on the screen after each."""

        def __getattribute__(self, name: str) -> object:
            def passed(*args: object) -> None:
                getattr(live, name)(*args)
                with console.capture() as capture:
                    console.print(live)
                seen.append(capture.get())

            return passed

    pipeline = Pipeline(Scripted([wrong(sudoku())]), FakeRefiner(doubles.cold_solves), watcher=Camera())
    list(pipeline.solve([sudoku()]))
    live.rest()
    assert "waiting for the draft" in seen[0]
    assert "violations" in seen[1]
    assert "refining" in seen[2]
    live.rest()  # twice does no harm


def test_fitting_is_told_in_seconds() -> None:
    live = render.Live(Console(file=io.StringIO()))
    live.started([sudoku()])
    live.refining(sudoku(), 3, Seconds(30))
    assert live._words.endswith("fitting the network to the demonstrations, 3 of 30 s")
    live.refining(sudoku(), 3, 30)
    assert live._words.endswith("refining, 3 of 30 rollouts done")
    live.rest()


def test_the_live_display_comes_back_while_others_of_a_batch_are_refined() -> None:
    live = render.Live(Console(file=io.StringIO()))
    live.started([sudoku("a"), sudoku("b")])
    live.rest()  # for the answer of the first one
    live.refining(sudoku("b"), 1, 2)
    assert live._live is not None
    live.rest()


def test_a_talking_llm_is_overheard() -> None:
    class Talker:
        on_token = None

    live, llm = render.Live(Console(file=io.StringIO())), Talker()
    live.listen(llm)
    live.started([sudoku()])
    llm.on_token(7)  # type: ignore[misc]
    live.rest()
    assert "7 tokens" in live._words


def on_a_terminal(*args: str, **environment: str) -> str:
    """What the command writes to a terminal of its own."""
    leader, follower = pty.openpty()
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "TERM": "xterm-256color", "COLUMNS": "120"}
    env = {name: value for name, value in env.items() if name not in ("NO_COLOR", "FORCE_COLOR", "CI")}
    code = (
        "import doubles, sys, trm.inference.refiner, hybrid.cli as c;"
        "r = doubles.FakeRefiner(doubles.solves_from_the_text);"
        "trm.inference.refiner.Refiner.from_pretrained = lambda source, device: r;"
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
