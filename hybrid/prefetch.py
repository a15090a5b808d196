"""Prefetching: the next drafts are made in a background thread while the network refines the last ones."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from functools import partial
from itertools import islice
from typing import Generic, TypeVar

S = TypeVar("S")
T = TypeVar("T")

STOP_SECONDS = 5.0  # how long an ended program waits for a call in the background that was told to stop


def in_turn(items: Iterable[S], make: Callable[[S], T]) -> Generator[tuple[S, Callable[[], T]], None, None]:
    """Each item with a call that makes its result there and then."""
    for item in items:
        yield item, partial(make, item)


def prefetch(
    items: Iterable[S], make: Callable[[S], T], stop: Callable[[], None] = lambda: None
) -> Generator[tuple[S, Callable[[], T]], None, None]:
    """As `in_turn`, but results are made in a background thread: one at a time, in order, the next one begun as
    soon as a result is taken. What `make` raises, the item's call raises.

    items: the next one is asked for when its result is begun. stop: makes a `make` that is under way return early;
    called when the generator is closed, so close it.
    """
    left = iter(items)
    begun: deque[tuple[S, _Background[T]]] = deque()  # the item in use, and the next one

    def begin() -> None:
        begun.extend((item, _Background(partial(make, item))) for item in islice(left, 1))

    def take(background: _Background[T]) -> T:
        result = background.future.result()
        if len(begun) == 1:
            begin()
        return result

    try:
        begin()
        while begun:
            item, background = begun[0]
            yield item, partial(take, background)
            if len(begun) == 1:
                begin()
            begun.popleft()
    finally:
        running = [background for _, background in begun if background.is_alive()]
        if running:
            stop()
            for background in running:
                background.join(STOP_SECONDS)


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
