"""A server over scripted models, in this process: `client` asks it without a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import doubles
import pytest
from doubles import Scripted, sudoku, wrong
from starlette.testclient import TestClient

from hybrid.serve.app import create_app
from hybrid.serve.catalogue import Catalogue
from hybrid.serve.guard import Policy
from hybrid.serve.service import Service, Settings
from hybrid.serve.worker import Relay, Worker
from trm.inference.refiner import Refiner

Serve = Callable[..., TestClient]


def service(
    network: Refiner | None = None, queue: int = 8, policy: Policy | None = None, limit_seconds: float = 60.0
) -> Service:
    """A draft with two wrong cells, and a network that corrects it in its second step."""
    relay = Relay()
    refiner = network or doubles.refiner(doubles.solves_sudokus)
    catalogue = Catalogue({"scripted": Scripted([wrong(sudoku())])}, {"network": refiner}, relay)
    return Service(catalogue, Worker(relay, queue), Settings(policy or Policy(), limit_seconds))


@pytest.fixture
def serve() -> Iterator[Serve]:
    clients: list[TestClient] = []

    def start(**options: object) -> TestClient:
        app = create_app(service(**options))  # type: ignore[arg-type]
        client = TestClient(app, base_url="http://127.0.0.1:8000", raise_server_exceptions=False)
        clients.append(client.__enter__())
        return clients[-1]

    yield start
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(serve: Serve) -> TestClient:
    return serve()
