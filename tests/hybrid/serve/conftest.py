"""Servers for the tests of this folder: `client` asks one without a network, `live` is the address of another."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from serving import Serve, listening, service
from starlette.testclient import TestClient

from hybrid.serve.app import create_app


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


@pytest.fixture
def live() -> Iterator[str]:
    with listening(service()) as address:
        yield address
