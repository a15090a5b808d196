"""Long work: a progress bar at a terminal, a line now and then elsewhere, and Ctrl-C between two steps."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS_BETWEEN_LINES = 30.0


@contextmanager
def lines(describe: Callable[[], str], seconds: float = SECONDS_BETWEEN_LINES) -> Iterator[None]:
    """Where standard error is no terminal, so that no bar is drawn: a line on it every so many seconds.

    describe: says how far the work is; called from another thread.
    """
    if sys.stderr.isatty():
        yield
        return
    ended, begun = threading.Event(), time.monotonic()

    def report() -> None:
        while not ended.wait(seconds):
            print(f"{describe()} after {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, or lines if that is no terminal: yields a callable that takes how many are done."""
    from rich.console import Console  # 0.1 s that every start of a command line would pay
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    progress = Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty())
    row = progress.add_task(what, total=total)
    with progress, lines(lambda: f"{what}: {progress.tasks[0].completed:.0f} of {total}"):
        yield lambda done: progress.update(row, completed=done)


@contextmanager
def interruptions() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a flag, so that work can stop between two steps; a second one ends it at once.

    Yields a callable that says whether Ctrl-C was pressed. Only the main thread gets signals: in others it never was.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    pressed = threading.Event()

    def note(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, before)
        pressed.set()

    before = signal.getsignal(signal.SIGINT) or signal.default_int_handler
    signal.signal(signal.SIGINT, note)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)
