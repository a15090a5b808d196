"""Prefetching: the next drafts are made in a background thread while the network refines the last ones."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Generic, TypeVar

S = TypeVar("S")
T = TypeVar("T")

STOP_SECONDS = 5.0  # how long an ended program waits for a call in the background that was told to stop


def in_turn(items: Iterable[S], make: Callable[[S], T]) -> Generator[tuple[S, Callable[[], T]], None, None]:
    """Each item with a call that makes its result there and then."""
    for item in items:
        yield item, partial(make, item)


def prefetch(
    items: Sequence[S], make: Callable[[S], T], stop: Callable[[], None] = lambda: None
) -> Generator[tuple[S, Callable[[], T]], None, None]:
    """As `in_turn`, but results are made in a background thread: one at a time, in order, the next one begun as
    soon as a result is taken. What `make` raises, the item's call raises.

    stop: makes a `make` that is under way return early; called when the generator is closed, so close it.
    """
    running: dict[int, _Background[T]] = {}

    def begin(number: int) -> None:
        if number < len(items) and number not in running:
            running[number] = _Background(partial(make, items[number]))

    def take(number: int) -> T:
        result = running[number].future.result()
        begin(number + 1)
        del running[number]
        return result

    try:
        for number, item in enumerate(items):
            begin(number)
            yield item, partial(take, number)
    finally:
        if any(one.is_alive() for one in running.values()):
            stop()
            for one in running.values():
                one.join(STOP_SECONDS)


class _Background(threading.Thread, Generic[T]):
    """A call in a thread of its own, which does not keep the program from ending."""

    def __init__(self, call: Callable[[], T]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self.future: Future[T] = Future()
        self.start()

    def run(self) -> None:
        try:
            self.future.set_result(self._call())
        except BaseException as error:  # for whoever takes the result
            self.future.set_exception(error)
