"""From the names on a command line to a pipeline, through puzzles to answers and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from hybrid import render
from hybrid.answer import Answer
from hybrid.llm import local
from hybrid.llm.chat.prompts import ChatProposer
from hybrid.llm.client import ServerLLM, is_server
from hybrid.llm.grid.shipped import AUTO, Adapter, AdapterError, adapter_for
from hybrid.llm.registry import connect, hide_password
from hybrid.output import Output, OutputError, Remaining
from hybrid.pipeline import DEFAULT, Pipeline, Puzzles
from hybrid.submission import SubmissionFile
from trm.checkpoints.format import CheckpointError, load
from trm.device import may_have_accelerator
from trm.grid import PuzzleError
from trm.inference.config import SearchConfig
from trm.inference.proposals import Blank, Proposer, ProposerError
from trm.inference.refiner import Refiner
from trm.progress import lines
from trm.tasks import Status, get
from trm.text import message_line

if TYPE_CHECKING:
    from hybrid.llm.grid.proposer import GridProposer

NOBODY = "none"
DEFAULT_REFINER = "ckpt/trm.pt"
SOLVED, UNSOLVED, BAD_INPUT, MISSING = 0, 1, 2, 3
WORST_FIRST = (BAD_INPUT, MISSING, UNSOLVED, SOLVED)
INTERRUPTED = 130  # as shells count it: 128 + SIGINT
# Puzzles a batch where the network works alone: more make a GPU faster, and only delay a CPU.
AT_ONCE, AT_ONCE_ON_CPU = 256, 16
# Puzzles, and cells of each, that NumPy answers before PyTorch is loaded and has answered them. Not mazes: a step of
# 900 cells takes four times as long as in PyTorch.
FEW, FEW_CELLS = 4, 256
# Where a language model drafts: eight replies of a batch take hardly longer than two.
DRAFTED_AT_ONCE = 8


class MissingError(RuntimeError):
    """Something that is needed is not there. One line for people."""


@dataclass(frozen=True)
class Setup:
    """Who is to answer, and where it runs. `none` names nobody; adapter `auto` is what ships for the LLM."""

    llm: str
    refiner: str
    device: str = "auto"
    adapter: str = AUTO


def worst(codes: Collection[int]) -> int:
    return min(codes, key=WORST_FIRST.index, default=SOLVED)


def code_of(answer: Answer) -> int:
    """The exit code that an answer alone would give."""
    return MISSING if answer.missing else code_of_status(answer.verdict.status)


def code_of_status(status: Status) -> int:
    return UNSOLVED if status is Status.UNSOLVED else SOLVED


def complain(message: object) -> None:
    """One line on standard error."""
    print(f"hybrid: {message_line(message)}", file=sys.stderr)


def run(
    puzzles: Puzzles,
    setup: Setup,
    config: SearchConfig,
    output: Output,
    submission: SubmissionFile | None = None,
    tasks: Collection[str] | None = None,
) -> int:
    """Answer the puzzles that the output does not hold already, and return the exit code.

    tasks: those of the puzzles, where they are known.
    """
    errors = Console(stderr=True)
    live = sys.stderr.isatty()
    display = render.Live(errors, render.has_colours(errors)) if live else render.Notes(errors)
    codes: set[int] = set()
    answered, todo = 0, puzzles
    try:
        if earlier := output.earlier():
            todo = remaining = Remaining(puzzles, earlier)
            tasks = remaining.tasks
            codes = {code_of_status(status) for status in remaining.statuses}
        if not len(todo):
            complain(f"{output.name} holds all {len(puzzles)} answers already")
            return worst(codes)
        with (
            output.open(config) as write,
            lines(lambda: f"hybrid: {answered} of {len(todo)} puzzles answered"),
        ):
            if tasks is None:
                tasks = {puzzle.task for puzzle in todo}
            pipeline = build(setup, display, config, tasks, len(todo))
            for answer in pipeline.solve(todo, config):
                display.rest()
                _submit(submission, answer)
                write(answer)
                answered += 1
                codes.add(code_of(answer))
    except (MissingError, CheckpointError) as error:  # CheckpointError: weights are read when they are needed
        display.rest()
        complain(error)
        codes.add(MISSING)
    except (OutputError, AdapterError, PuzzleError) as error:  # PuzzleError: a file changed while it was read
        display.rest()
        complain(error)
        codes.add(BAD_INPUT)
    except KeyboardInterrupt:
        display.rest()
        complain(f"interrupted, {answered} of {len(todo)} puzzles answered")
        return INTERRUPTED
    finally:
        display.rest()
    return worst(codes)


def _submit(submission: SubmissionFile | None, answer: Answer) -> None:
    try:
        if submission is not None:
            submission.add(answer)
    except OSError as error:
        raise OutputError(
            f"{error.filename}: {error.strerror}, expected a file that can be written"
        ) from None


def build(
    setup: Setup,
    display: render.Notes,
    config: SearchConfig = DEFAULT,
    tasks: Collection[str] | None = None,
    count: int | None = None,
) -> Pipeline:
    """The pipeline for a setup. What is missing is a warning as long as something is left that can answer.

    tasks: those that will be asked; None: any. count: the number of puzzles, where it is known.
    Raises AdapterError for an adapter that cannot be used, and MissingError.
    """
    adapter = adapter_for(setup.llm, setup.adapter, config.rounds)
    missing: list[str] = []
    proposer: Proposer = Blank()
    refiner: Refiner | None = None
    try:
        refiner = load_refiner(
            setup.refiner, setup.device, display, tasks, needs_no_torch(setup, tasks, count)
        )
    except (CheckpointError, PuzzleError) as error:
        missing.append(str(error))
    try:
        proposer = load_proposer(setup, display, adapter, config.budget_seconds)
    except ProposerError as error:
        missing.append(str(error))
    display.rest()
    if proposer.name is None and refiner is None:
        raise MissingError("; ".join(missing))
    for message in missing:
        left = "the network answers alone" if proposer.name is None else "drafts are judged alone"
        display.warned(f"{message}; {left}")
    on_cpu = refiner is None or refiner.device == "cpu"
    alone = AT_ONCE_ON_CPU if on_cpu else AT_ONCE
    return Pipeline(
        proposer,
        refiner,
        alone if proposer.name is None else 1,
        display,
        drafted_at_once=DRAFTED_AT_ONCE,
        prefetched=can_overlap(proposer),
    )


def needs_no_torch(setup: Setup, tasks: Collection[str] | None, count: int | None) -> bool:
    """Whether all is answered sooner without PyTorch: a few small puzzles on a CPU, no adaptation to any of them, and
    no language model in this process."""
    few = count is not None and count <= FEW and tasks is not None
    elsewhere = setup.llm == NOBODY or is_server(setup.llm)
    on_cpu = setup.device == "cpu" or (setup.device == "auto" and not may_have_accelerator())
    kinds = [get(task) for task in tasks or ()]
    small = all(not kind.has_demonstrations and kind.seq_len <= FEW_CELLS for kind in kinds)
    return few and elsewhere and on_cpu and small


def can_overlap(proposer: Proposer | None) -> bool:
    """Whether drafts come from a server or an accelerator, so that a network can refine others meanwhile.

    Not from the CPU's own cores: each of the two takes all of them, and together they take longer (LOG.md).
    """
    llm = getattr(proposer, "llm", None)
    return llm is not None and getattr(llm, "device", None) != "cpu"


def load_proposer(
    setup: Setup, display: render.Notes, adapter: Adapter | None, budget: float | None = None
) -> Proposer:
    """The setup's language model; with `none` a proposer that drafts nothing. Raises ProposerError, AdapterError."""
    if setup.llm == NOBODY:
        return Blank()
    display.busy(f"loading {hide_password(setup.llm)}")
    if adapter is None:
        llm = connect(setup.llm, setup.device)
        if budget is not None and isinstance(llm, ServerLLM):
            llm.connection.patience = llm.connection.patience.within(budget)
        display.listen(llm)
        return ChatProposer(llm)
    proposer = load_tuned(setup.llm, adapter, setup.device, budget)
    if proposer.note:
        display.warned(proposer.note)
    display.listen(proposer)
    return proposer


def load_tuned(llm: str, adapter: Adapter, device: str, budget_seconds: float | None = None) -> GridProposer:
    """A language model with an adapter. Raises BackendError, and AdapterError where the two do not fit."""
    folder = local.folder_of(llm)
    from hybrid.llm.grid.proposer import GridProposer  # transformers: seconds, paid once the weights are here

    return GridProposer.load(folder, adapter, device, budget_seconds)


def load_refiner(
    name: str,
    device: str,
    display: render.Notes,
    tasks: Collection[str] | None = None,
    numpy: bool = False,
) -> Refiner | None:
    """None for `none`. numpy: as of `Refiner.from_pretrained`.

    Raises CheckpointError, and PuzzleError for an expert of another shape than its task.
    """
    if name == NOBODY:
        return None
    display.busy(f"loading {name}")
    refiner = Refiner.from_pretrained(refiner_path(name), device=device, tasks=tasks, numpy=numpy)
    refiner.pool.check()
    return refiner


def own_task(refiner: str, name: str) -> str:
    """The task that `grid` means: that of the checkpoint's expert for a grid of one's own. Raises MissingError."""
    try:
        return load(refiner_path(refiner)).task_named(name)
    except CheckpointError as error:
        raise MissingError(str(error)) from None


def refiner_path(name: str) -> str:
    """The default checkpoint lies in the current folder, else in the checkout, else in the installed package."""
    root = Path(__file__).parent.parent
    shipped = (Path(), root, root / "trm")
    if name == DEFAULT_REFINER:
        return next((str(place / name) for place in shipped if (place / name).exists()), name)
    return name
