"""One step ahead: the next item is worked on in a background thread while the last one's result is in use."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial
from typing import Generic, TypeVar

S = TypeVar("S")
T = TypeVar("T")


def in_turn(items: Iterable[S], make: Callable[[S], T]) -> Generator[tuple[S, Callable[[], T]], None, None]:
    """Each item with a call that makes its result, there and then."""
    for item in items:
        yield item, partial(make, item)


def ahead(items: Sequence[S], make: Callable[[S], T]) -> Generator[tuple[S, Callable[[], T]], None, None]:
    """As `in_turn`, but the calls wait for a background thread: it makes one result at a time, in order, and
    begins the next one as soon as a result is taken. What `make` raises, the item's call raises.

    Closing the generator interrupts what is under way: see to it that it is closed.
    """
    running: dict[int, _Background[T]] = {}

    def begin(number: int) -> None:
        if number < len(items) and number not in running:
            running[number] = _Background(partial(make, items[number]))
            running[number].start()

    def take(number: int) -> T:
        made = running[number].wait()
        begin(number + 1)
        del running[number]
        return made

    try:
        for number, item in enumerate(items):
            begin(number)
            yield item, partial(take, number)
    finally:
        for one in running.values():
            one.interrupt()


class _Background(threading.Thread, Generic[T]):
    """A call in a thread of its own, which keeps the program from ending only while somebody waits for it."""

    def __init__(self, call: Callable[[], T]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self._made: list[T] = []
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._made.append(self._call())
        except BaseException as error:  # for the thread that waits
            self._error = error

    def wait(self) -> T:
        """What the call returned. Raises what it raised."""
        self.join()
        if self._error is not None:
            raise self._error
        return self._made[0]

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the call, as Ctrl-C would if it ran here, and wait until it has ended.

        It may have many replies still to write: a program that was told to stop must not wait for those. A
        request that a server is answering is waited for, as it is where no thread is involved.
        """
        if self.is_alive():
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self.ident or 0), ctypes.py_object(KeyboardInterrupt)
            )
            self.join()
