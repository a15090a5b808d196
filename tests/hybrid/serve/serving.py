"""A server over scripted models, for tests and for tests/tools/load_serve.py."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import doubles
import numpy as np
import uvicorn
from doubles import sudoku, wrong
from small_networks import SMALL
from starlette.testclient import TestClient

from hybrid.serve.app import create_app
from hybrid.serve.catalogue import Catalogue
from hybrid.serve.command import server_config
from hybrid.serve.guard import Policy
from hybrid.serve.jobs import Relay
from hybrid.serve.service import Service, Settings
from hybrid.serve.worker import Worker
from trm.checkpoints.format import Checkpoint, Expert
from trm.inference.proposals import Draft, Feedback, ProposedGrid
from trm.inference.provider import ModelPool
from trm.inference.refiner import Refiner
from trm.model.network import TRM
from trm.tasks import Puzzle

Serve = Callable[..., TestClient]  # takes the arguments of `service`


class Drafter:
    """Drafts of every task: the Sudoku's solution with two wrong cells, mazes as they are, of ARC two candidates: the
    colours mirrored, and as they are."""

    name = "drafter"

    def propose(
        self, puzzle: Puzzle, drafts: int = 1, feedback: Feedback | None = None, seed: int = 0
    ) -> list[Draft]:
        grids = puzzle.inputs
        candidates: list[tuple[ProposedGrid, ...]] = []
        if puzzle.task == "sudoku" and np.array_equal(puzzle.grid, sudoku().grid):
            grids = wrong(sudoku())
        elif puzzle.task == "arc":
            grids = tuple(grid[:, ::-1].copy() for grid in puzzle.inputs)
            for grid, mirrored in zip(puzzle.inputs, grids, strict=True):
                candidates.append((ProposedGrid(mirrored, 0.75, -1.0), ProposedGrid(grid, 0.25, -5.0)))
        return [Draft(grids, "raw", tokens=9, seconds=0.5, candidates=tuple(candidates))]


def plays(asked: doubles.Asked) -> Sequence[tuple[np.ndarray, float]]:
    """Two steps to the solution of a Sudoku, one to a shortest path; the colours of an ARC grid mirrored."""
    if asked.question.max() > 9:
        return doubles.walks(asked)
    if asked.question.shape == (9, 9):
        return doubles.solves_sudokus(asked)
    return [(asked.question, -1.0), (asked.question[:, ::-1].copy(), doubles.CONFIDENT)]


def tiny() -> Refiner:
    """A real network for Sudokus, untrained: it solves nothing, and can score."""
    model = TRM(SMALL)
    return Refiner(
        ModelPool(Checkpoint("tiny", {"sudoku": Expert("sudoku", SMALL, model.state_dict())}), "cpu")
    )


def service(
    network: Refiner | None = None,
    queue: int = 8,
    policy: Policy | None = None,
    limit_seconds: float = 60.0,
    more: dict[str, Refiner] | None = None,
) -> Service:
    relay = Relay()
    refiners = {"network": network or doubles.refiner(plays), **(more or {})}
    catalogue = Catalogue({"scripted": Drafter()}, refiners, relay)
    return Service(catalogue, Worker(relay, queue), Settings(policy or Policy(), limit_seconds))


@contextmanager
def listening(made: Service, send_buffer: int | None = None) -> Iterator[str]:
    """The service behind a real server on loopback; its address. send_buffer: bytes of its sockets."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        if send_buffer is not None:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        server = uvicorn.Server(server_config(create_app(made), "critical", 1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
