"""Long work at a terminal: a progress bar, and Ctrl-C between two steps."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """On a terminal's standard error, nothing in a pipe: yields a callable that takes how many are done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        row = progress.add_task(what, total=total)
        yield lambda done: progress.update(row, completed=done)


@contextmanager
def interruptions() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed: it ends a run between two steps, so that what is saved is whole. Again: at once."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # signals are not for this one
        yield lambda: False
        return

    def note(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, before)
        asked.append(number)

    before = signal.getsignal(signal.SIGINT) or signal.default_int_handler
    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, before)
