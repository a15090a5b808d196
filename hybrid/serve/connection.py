"""Connections that nobody can hold open for nothing. uvicorn itself waits without end for the head of a request, and
for a client to read."""

from __future__ import annotations

import asyncio

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = (
    20.0  # from the first byte of a request, or the start of the connection, to the end of its head
)
STALL_SECONDS = 60.0  # that a client may read nothing while much waits to be sent
MOST_CONNECTIONS = 900  # below the 1,024 files that a process may usually have open


class BoundedConnection(H11Protocol):
    """uvicorn's connection with limits on its number, and on the seconds that a client may be silent."""

    _head: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
        else:
            self._head = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:  # the head is complete
            self._head = _without(self._head)
        elif self._head is None:
            self._head = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall = self.loop.call_later(STALL_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stall = _without(self._stall)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._head, self._stall = _without(self._head), _without(self._stall)


def _without(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """No timer: this one is cancelled."""
    if timer is not None:
        timer.cancel()
    return None
