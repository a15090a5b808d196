"""From names on a command line to a pipeline, through puzzles to answers and an exit code."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from rich.console import Console

from hybrid import render
from hybrid.answer import Answer
from hybrid.llm.base import BackendError
from hybrid.null import Passthrough
from hybrid.pipeline import AnyRefiner, Options, Pipeline
from hybrid.proposers import Blank, Proposer
from trm.data.files import Loaded
from trm.grid import PuzzleError
from trm.tasks import Puzzle, Status

NOBODY = "none"
DEFAULT_REFINER = "ckpt/trm.pt"
SOLVED, UNSOLVED, BAD_INPUT, MISSING = 0, 1, 2, 3
WORST = (BAD_INPUT, MISSING, UNSOLVED, SOLVED)
INTERRUPTED = 130  # as shells count it: 128 + SIGINT
# Puzzles a batch where only the network is asked: more make a GPU faster, and only delay a CPU.
TOGETHER, TOGETHER_ON_CPU = 256, 16
# Where a language model drafts: eight replies of a batch take hardly longer than two.
DRAFTED_TOGETHER = 8


class MissingError(RuntimeError):
    """Something that is needed is not there. One line for people."""


@dataclass(frozen=True)
class Setup:
    """Who is to answer, and where it runs. `none` names nobody."""

    llm: str
    refiner: str
    device: str = "auto"


def worst(codes: list[int]) -> int:
    return min(codes, key=WORST.index, default=SOLVED)


def code_of(answer: Answer) -> int:
    if answer.missing:
        return MISSING
    return UNSOLVED if answer.verdict.status is Status.UNSOLVED else SOLVED


def complain(message: object) -> None:
    """One line on standard error."""
    print(f"hybrid: {message}", file=sys.stderr)


def run(loaded: Loaded, setup: Setup, options: Options, as_json: bool, out: Path | None) -> int:
    """Answer what can be read, complain of the rest, and return the exit code."""
    for item in loaded:
        if isinstance(item, PuzzleError):
            complain(item)
    puzzles = [item for item in loaded if isinstance(item, Puzzle)]
    codes = [BAD_INPUT] if len(puzzles) < len(loaded) else []
    if not puzzles:
        return worst(codes)
    errors = Console(stderr=True)
    watcher = render.Live(errors, render.colourful(errors)) if sys.stderr.isatty() else render.Notes(errors)
    answered = 0
    try:
        with _sink(as_json, options, out) as put:
            pipeline = build(setup, watcher)
            for answer in pipeline.solve(puzzles, options):
                watcher.rest()
                put(answer)
                answered += 1
                codes.append(code_of(answer))
    except MissingError as error:
        watcher.rest()
        complain(error)
        codes.append(MISSING)
    except OSError as error:
        if error.filename != _name(out):
            raise
        complain(f"{_name(out)}: {error.strerror}, expected a file that can be written")
        codes.append(BAD_INPUT)
    except KeyboardInterrupt:
        watcher.rest()
        complain(f"interrupted, {answered} of {len(puzzles)} puzzles answered")
        return INTERRUPTED
    finally:
        watcher.rest()
    return worst(codes)


def _name(out: Path | None) -> str:
    return "standard output" if out is None else str(out)


def _write(text: str, file: TextIO, out: Path | None) -> None:
    """A line, at once. Raises OSError with the name of `out`; a reader who went away is for the caller's caller."""
    try:
        print(text, file=file, flush=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, _name(out)) from None


@contextmanager
def _sink(as_json: bool, options: Options, out: Path | None) -> Iterator[Callable[[Answer], None]]:
    """Where answers go, one by one, each flushed before the next is begun.

    A file is written in place, line by line: an interruption keeps what is there. What it held before goes
    when the first answer comes, not when the command starts.
    """
    if out is None and not as_json and sys.stdout.isatty():
        screen = Console()
        colour = render.colourful(screen)
        yield lambda answer: screen.print(render.drawing(answer, colour, options.trace))
        return

    def form(answer: Answer) -> str:
        if not as_json:
            return render.plain(answer, options.trace)
        return json.dumps(
            answer.to_json(answers=options.answers > 1, trace=options.trace), ensure_ascii=False
        )

    if out is None:
        yield lambda answer: _write(form(answer), sys.stdout, None)
        return
    file = out.open("a", encoding="utf-8", errors="backslashreplace")  # names of files may be no text
    fresh = True

    def put(answer: Answer) -> None:
        nonlocal fresh
        if fresh and stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # a pipe or device has no length
            file.truncate(0)
        fresh = False
        _write(form(answer), file, out)

    try:
        yield put
    finally:
        with suppress(OSError):  # each answer was flushed: what fails here was said there
            file.close()


def build(setup: Setup, watcher: render.Notes) -> Pipeline:
    """The pipeline for a setup. What is missing is a warning as long as something is left that can answer."""
    missing: list[str] = []
    proposer: Proposer = Blank()
    refiner: AnyRefiner = Passthrough()
    try:
        refiner = _refiner(setup, watcher)
    except MissingError as error:
        missing.append(str(error))
    try:
        proposer = _proposer(setup, watcher)
    except BackendError as error:
        missing.append(str(error))
    watcher.rest()
    if proposer.name is None and refiner.name is None:
        raise MissingError("; ".join(missing))
    for message in missing:
        left = "the network answers alone" if proposer.name is None else "drafts are judged alone"
        watcher.warned(f"{message}; {left}")
    together = TOGETHER_ON_CPU if getattr(refiner, "device", "cpu") == "cpu" else TOGETHER
    at_once = together if proposer.name is None else 1
    return Pipeline(
        proposer, refiner, at_once, watcher, drafted_at_once=DRAFTED_TOGETHER, ahead=elsewhere(proposer)
    )


def elsewhere(proposer: object) -> bool:
    """Whether drafts are written by a server or an accelerator, so that a network can refine others meanwhile.

    Not on the CPU's own cores: each of the two takes all of them, and together they take longer (LOG.md).
    """
    llm = getattr(proposer, "llm", None)
    return llm is not None and getattr(llm, "device", None) != "cpu"


def _proposer(setup: Setup, watcher: render.Notes) -> Proposer:
    if setup.llm == NOBODY:
        return Blank()
    watcher.busy(f"loading {setup.llm}")
    from hybrid.llm.chat.prompts import LLMProposer
    from hybrid.llm.registry import connect

    llm = connect(setup.llm, setup.device)
    watcher.listen(llm)
    return LLMProposer(llm)


def _refiner(setup: Setup, watcher: render.Notes) -> AnyRefiner:
    if setup.refiner == NOBODY:
        return Passthrough()
    watcher.busy(f"loading {setup.refiner}")
    from trm.checkpoints.format import CheckpointError
    from trm.inference.refiner import Refiner

    try:
        refiner = Refiner.from_pretrained(refiner_path(setup.refiner), device=setup.device)
        refiner.check()
    except (CheckpointError, PuzzleError) as error:
        raise MissingError(str(error)) from error
    return refiner


def refiner_path(spec: str) -> str:
    """The default checkpoint lies in the current folder, else in the checkout, else in the installed package."""
    root = Path(__file__).parent.parent
    shipped = (Path(), root, root / "trm")
    if spec == DEFAULT_REFINER:
        return next((str(place / spec) for place in shipped if (place / spec).exists()), spec)
    return spec
