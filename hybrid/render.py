"""Answers for people: drawn in colour on a terminal, plain text in a pipe, and a live display meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live as RichLive
from rich.panel import Panel
from rich.spinner import Spinner
from rich.text import Text

from hybrid.answer import Answer
from trm import tasks
from trm.grid import Grid, Grids, character
from trm.inference.proposals import CheckedDraft
from trm.inference.search import Callbacks
from trm.inference.selection import same_grids
from trm.tasks import Puzzle, Status, describe
from trm.text import message_line, printable

STYLES = {Status.VERIFIED: "green", Status.UNVERIFIED: "yellow", Status.UNSOLVED: "red"}
ASCII = 32  # symbols from here on are characters, those below are numbers
REFRESH_SECONDS = 0.1


def has_colours(console: Console) -> bool:
    """Whether colours may be used: a terminal that has them, and no NO_COLOR."""
    return console.is_terminal and console.color_system is not None and not console.no_color


# -- plain text ----------------------------------------------------------------------------------------------
def plain(answer: Answer, trace: bool = False) -> str:
    """Every part under a line of its own, grids as the task writes them."""
    text = tasks.get(answer.puzzle.task).text
    lines = [f"== {printable(answer.puzzle.id)}: {printable(summary(answer))}"]
    for number, draft in enumerate(answer.drafts, 1):
        lines.append(f"-- draft {number}: {printable(_draft_words(draft))}")
        if draft.draft.grids is not None:
            lines.append(text(draft.draft.grids))
    for step, grid in enumerate(answer.trace if trace else (), 1):
        lines += [f"-- step {step}", text((grid,))]
    for number, grids in enumerate(_choices(answer), 1):
        lines += [f"-- answer {number}" if number > 1 else "-- answer", text(grids)]
    return "\n".join(lines)


def summary(answer: Answer) -> str:
    """`verified by refiner+draft, confidence 0.998, 32 steps, 4.1 s`."""
    parts = [describe(answer.verdict) + (f" (by {answer.source})" if answer.source else "")]
    if answer.confidence is not None:
        parts.append(f"confidence {answer.confidence:.3f}")
    if answer.steps:
        parts.append(count(answer.steps, "step"))
    if answer.restarts:
        parts.append(count(answer.restarts, "restart"))
    return ", ".join([*parts, f"{answer.seconds.total:.1f} s"])


def count(number: int, noun: str) -> str:
    """`1 step`, `2 steps`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _draft_words(draft: CheckedDraft) -> str:
    cost = f"{draft.draft.tokens} tokens, {draft.draft.seconds:.1f} s"
    if draft.verdict is None:
        return f"no grid: {draft.draft.error} ({cost})"
    odd = f", {draft.draft.error}" if draft.draft.error else ""
    return f"{describe(draft.verdict)}{odd} ({cost})"


def _choices(answer: Answer) -> Iterator[Grids]:
    """The answers to show: the verified ones; where no rule decides, the candidates' first and second."""
    yield from answer.answers
    if answer.grids is not None and not tasks.get(answer.puzzle.task).has_checker:
        for rank in range(1, max(map(len, answer.candidates), default=1)):
            yield tuple(choice[min(rank, len(choice) - 1)] for choice in answer.candidates)


# -- a drawing -----------------------------------------------------------------------------------------------
def drawing(answer: Answer, colour: bool = True, trace: bool = False) -> RenderableType:
    """Question, draft, corrections and answer side by side, as far as the width goes."""
    puzzle, style = answer.puzzle, STYLES[answer.verdict.status]
    panels = [_panel(_drawn(puzzle, None, colour), puzzle.id)]
    for number, draft in enumerate(answer.drafts, 1):
        if draft.draft.grids is not None and not same_grids(draft.draft.grids, answer.grids):
            name = "draft" if len(answer.drafts) == 1 else f"draft {number}"
            panels.append(_panel(_drawn(puzzle, draft.draft.grids, colour), name, _count(draft)))
    newest = next((d.draft.grids for d in reversed(answer.drafts) if d.draft.grids is not None), None)
    if newest is not None and answer.grids is not None:
        changed, marked = corrections(newest, answer.grids)
        if changed:
            panels.append(_panel(marked, "corrections", f"{changed} cells"))
    if trace:
        panels += [
            _panel(_drawn(puzzle, (grid,), colour), f"step {step}")
            for step, grid in enumerate(answer.trace, 1)
        ]
    drafted = any(same_grids(draft.draft.grids, answer.grids) for draft in answer.drafts)
    for number, grids in enumerate(_choices(answer), 1):
        name = f"answer {number}" if number > 1 else "draft = answer" if drafted else "answer"
        panels.append(_panel(_drawn(puzzle, grids, colour), name, str(answer.verdict.status), style))
    lines = [Text(printable(f"{puzzle.id}: {summary(answer)}"), style=style)]
    lines += [
        Text(printable(f"  draft {n}: {_draft_words(draft)}"), style="dim")
        for n, draft in enumerate(answer.drafts, 1)
    ]
    return Group(Columns(panels), *lines, Text(""))


def corrections(draft: Grids, answer: Grids) -> tuple[int, Text]:
    """How many cells the answer changes in the draft, and a picture of them: `·` where both agree."""
    text, changed = Text(), 0
    for before, after in zip(draft, answer, strict=True):
        if before.shape != after.shape:
            text.append("another shape\n", style="yellow")
            changed += after.size
            continue
        differs = before != after
        changed += int(differs.sum())
        for values, marks in zip(after.tolist(), differs.tolist(), strict=True):
            cells = [
                (symbol(v), "bold green") if mark else ("·", "dim")
                for v, mark in zip(values, marks, strict=True)
            ]
            gap = " " if after.max() < ASCII else ""
            text.append_text(Text(gap).join(Text(c, style=style) for c, style in cells)).append("\n")
    text.right_crop(1)
    return changed, text


def symbol(value: int) -> str:
    """A cell's symbol as one character; a free maze cell that replaced a mark shows as `_`."""
    return character(value).replace(" ", "_")


def _count(draft: CheckedDraft) -> str:
    if draft.verdict is None:
        return ""
    broken = len(draft.verdict.violations)
    return f"{broken} violations" if broken else str(draft.verdict.status)


def _drawn(puzzle: Puzzle, grids: Grids | None, colour: bool) -> Text:
    return Text.from_ansi(tasks.get(puzzle.task).render(puzzle, grids, colour=colour))


def _panel(body: RenderableType, title: str, subtitle: str | None = None, style: str = "none") -> Panel:
    # Names are people's: what looks like markup in them is none.
    below = None if subtitle is None else Text(printable(subtitle))
    return Panel.fit(body, title=Text(printable(title)), subtitle=below, border_style=style)


# -- meanwhile -----------------------------------------------------------------------------------------------
class Notes(Callbacks):
    """Prints warnings on standard error, and shows nothing else."""

    command = "hybrid"

    def __init__(self, console: Console) -> None:
        self.console = console

    def warned(self, message: str) -> None:
        line = f"{self.command}: warning: {message_line(message)}"
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def busy(self, words: str) -> None:
        """Show that something slow begins which belongs to no puzzle, such as loading a model."""

    def rest(self) -> None:
        """Stop the live display until the next event."""

    def listen(self, llm: object) -> None:
        """Show the tokens of a language model that counts them while it writes."""


class Live(Notes):
    """Draws what happens on a terminal, and leaves nothing behind: a spinner and the newest grid."""

    def __init__(self, console: Console, colour: bool = True) -> None:
        super().__init__(console)
        self.colour = colour
        self._live: RichLive | None = None
        self._spinner = Spinner("dots")
        self._begun = time.monotonic()
        self._words = ""
        self._puzzles: list[Puzzle] = []
        self._grid: RenderableType = Text("")
        self._drafts = False  # whether a language model drafts

    def __rich__(self) -> RenderableType:
        seconds = time.monotonic() - self._begun
        self._spinner.update(text=Text(printable(f"{self._words}  {seconds:.0f} s"), style="cyan"))
        return Group(self._spinner, self._grid)

    def busy(self, words: str) -> None:
        self._begun, self._words = time.monotonic(), words
        self._show()

    def _show(self) -> None:
        if self._live is None:
            self._live = RichLive(
                self, console=self.console, transient=True, refresh_per_second=1 / REFRESH_SECONDS
            )
            self._live.start()

    def started(self, puzzles: Sequence[Puzzle]) -> None:
        self._puzzles = list(puzzles)
        self._grid = _panel(_drawn(puzzles[0], None, self.colour), puzzles[0].id)
        self.busy(f"{self._name()}: {'waiting for the draft' if self._drafts else 'refining'}")

    def drafted(self, puzzle: Puzzle, draft: CheckedDraft) -> None:
        if draft.draft.grids is not None:
            self._grid = _panel(_drawn(puzzle, draft.draft.grids, self.colour), "draft", _count(draft))
        self.busy(f"{self._name()}: draft {_draft_words(draft)}; refining")

    def adapting(self, puzzle: Puzzle, seconds: int, total: int) -> None:
        self._words = f"{self._name()}: training on the demonstrations, {seconds} of {total} s"
        self._show()

    def refining(self, puzzle: Puzzle, done: int, total: int, grid: Grid | None = None) -> None:
        rollouts = f"{done} of {total} rollouts done" if total > 1 else "a rollout"
        self._words = f"{self._name()}: refining, {rollouts}"
        if grid is not None:
            self._grid = _panel(_drawn(puzzle, (grid,), self.colour), f"{puzzle.id}: refining")
        self._show()  # an answer may have come of a puzzle beside this one

    def rest(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def listen(self, llm: object) -> None:
        self._drafts = True
        if hasattr(llm, "on_token"):
            llm.on_token = self._written
        if hasattr(llm, "on_fitting"):
            llm.on_fitting = self._fitted

    def _written(self, tokens: int) -> None:
        self._words = f"{self._name()}: drafting, {tokens} tokens"

    def _fitted(self, steps: int, total: int) -> None:
        self._words = (
            f"{self._name()}: training the language model on the demonstrations, step {steps} of {total}"
        )

    def _name(self) -> str:
        more = len(self._puzzles) - 1
        return self._puzzles[0].id + (f" and {more} more" if more > 0 else "")
