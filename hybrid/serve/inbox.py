"""From the worker's thread into the event loop: the events of the work that a request waits for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress

from starlette.requests import Request

from hybrid.serve.events import Event, error_event
from hybrid.serve.jobs import Emit, Work
from hybrid.serve.worker import Worker

GRACE_SECONDS = 60.0  # that stopped work may take to end: a draft or a step cannot be cut short everywhere
ALIVE_SECONDS = 10.0  # of silence after which a stream says that it is alive


class Inbox:
    """Collects events that come from another thread, each with the number of the work that it is about."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()

    def emit(self, number: int) -> Emit:
        """What the worker calls with events of work `number`."""

        def put(event: Event) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody listens any more
                self._loop.call_soon_threadsafe(self._queue.put_nowait, (number, event))

        return put

    async def get(self) -> tuple[int, Event]:
        return await self._queue.get()


async def events(
    worker: Worker,
    works: Sequence[Work],
    inbox: Inbox,
    limit_seconds: float,
    request: Request | None = None,
) -> AsyncIterator[tuple[int, Event] | None]:
    """Every event until each work has had its last; None from time to time while nothing happens.

    Ends early when the client leaves (request: asked for that where given). Whatever ends it stops the work, so that
    its slots are free. limit_seconds: after them the search is stopped, and the answer is what there is by then.
    """
    left = set(range(len(works)))
    gone = asyncio.create_task(_gone(request)) if request is not None else None
    deadline, stopped = time.monotonic() + limit_seconds, False
    getting: asyncio.Task[tuple[int, Event]] | None = None
    try:
        while left:
            getting = getting or asyncio.create_task(inbox.get())
            waited = {getting} | ({gone} if gone is not None else set())
            timeout = max(0.0, min(ALIVE_SECONDS, deadline - time.monotonic()))
            await asyncio.wait(waited, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if gone is not None and gone.done():
                return
            if getting.done():
                number, event = getting.result()
                getting = None
                if event.last:
                    left.discard(number)
                yield number, event
            elif time.monotonic() < deadline:
                yield None
            elif not stopped:
                stopped, deadline = True, deadline + GRACE_SECONDS
                for number in left:
                    worker.stop(works[number], error_event(503, f"waited {limit_seconds:.0f} s in the queue"))
            else:
                for number in sorted(left):
                    yield number, error_event(504, f"no answer after {limit_seconds + GRACE_SECONDS:.0f} s")
                return
    finally:
        for task in (gone, getting):
            if task is not None:
                task.cancel()
        for number in left:
            worker.stop(works[number])


async def last_events(
    worker: Worker,
    make: Sequence[Callable[[Emit], Work]],
    limit_seconds: float,
    request: Request,
) -> list[Event] | None:
    """Submit work and wait for the last event of each; None if the client left. Raises QueueFullError."""
    inbox = Inbox()
    works = [make_one(inbox.emit(number)) for number, make_one in enumerate(make)]
    worker.submit(works)
    ended: dict[int, Event] = {}
    async for item in events(worker, works, inbox, limit_seconds, request):
        if item is not None and item[1].last:
            ended[item[0]] = item[1]
    return [ended[number] for number in range(len(works))] if len(ended) == len(works) else None


async def _gone(request: Request) -> None:
    """Returns when the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
