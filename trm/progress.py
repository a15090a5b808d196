"""Long work at a terminal: a progress bar, and Ctrl-C between two steps."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, if that is a terminal: yields a callable that takes how many are done."""
    from rich.console import Console  # 0.1 s that every start of a command line would pay
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        row = progress.add_task(what, total=total)
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
