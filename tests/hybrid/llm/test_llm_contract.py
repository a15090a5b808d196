"""What every language-model backend promises: one contract, run over all of them, another package's included."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from hybrid.llm.base import LLM, BackendError, Message, Reply, Request
from hybrid.llm.chat.prompts import ChatProposer
from hybrid.llm.client import ServerLLM
from hybrid.llm.registry import backends, connect
from tests.plugins.echo_llm import echo_llm
from trm import tasks

ROOT = Path(__file__).parents[3]
MESSAGES: list[Message] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Say yes."},
]


def _local() -> LLM:
    return connect("smollm2", "cpu")


def _server() -> LLM:
    def serve(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json={"data": [{"id": "mock"}]})
        choice = {"message": {"content": "yes"}, "finish_reason": "stop"}
        return httpx.Response(200, json={"choices": [choice], "usage": {"completion_tokens": 1}})

    return ServerLLM("http://localhost/v1", transport=httpx.MockTransport(serve))


def _echo() -> LLM:
    return echo_llm.BACKEND.connect("echo:yes", "cpu")


@pytest.fixture(
    scope="module",
    params=[pytest.param(_local, marks=pytest.mark.network), _server, _echo],
    ids=lambda make: make.__name__,
)
def llm(request: pytest.FixtureRequest) -> LLM:
    make: Callable[[], LLM] = request.param
    return make()


def test_a_model_has_a_name_of_one_line(llm: LLM) -> None:
    assert llm.name
    assert "\n" not in llm.name
    assert llm.parameters is None or llm.parameters > 0


@pytest.mark.parametrize("samples", [1, 3])
def test_every_request_gets_its_samples(llm: LLM, samples: int) -> None:
    told: dict[int, list[Reply]] = {}
    requests = [Request(MESSAGES, 6), Request(MESSAGES[1:], 4)]
    replies = llm.complete(requests, samples=samples, seed=5, concurrency=2, on_replies=told.__setitem__)
    assert told == dict(enumerate(replies))
    assert [len(of_request) for of_request in replies] == [samples] * 2
    for request, of_request in zip(requests, replies, strict=True):
        for reply in of_request:
            assert 0 < reply.tokens <= request.max_tokens
            assert reply.seconds >= 0
            assert reply.text.strip() or reply.error


def test_no_requests_are_no_replies(llm: LLM) -> None:
    assert llm.complete([]) == []


def test_the_conversation_stays_as_it_was(llm: LLM) -> None:
    messages = [dict(message) for message in MESSAGES]
    llm.complete([Request(messages, 2)])
    assert messages == MESSAGES


def test_the_first_reply_does_not_depend_on_the_seed(llm: LLM) -> None:
    first, again = (llm.complete([Request(MESSAGES, 6)], seed=seed)[0][0].text for seed in (1, 2))
    assert first == again


def test_a_stop_outside_of_a_call_changes_nothing(llm: LLM) -> None:
    llm.stop()
    assert llm.complete([Request(MESSAGES, 2)])[0][0].tokens > 0


def test_drafts_are_values_whatever_the_reply(llm: LLM) -> None:
    puzzle = tasks.get("sudoku").parse("." * 81)
    for draft in ChatProposer(llm, max_tokens=6).propose(puzzle, drafts=2):
        assert draft.grids is None
        assert draft.error
        assert draft.tokens > 0


# -- the registry ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("qwne", ["'qwne'", "did you mean 'qwen'", "smollm2", "http(s)://"]),
        ("nothing.gguf", ["nothing.gguf", "no such file"]),
        ("./nowhere", ["'./nowhere'", "a local folder"]),
        ("ftp://me:word@host/v1", ["unknown LLM"]),
    ],
)
def test_an_unknown_name_is_one_line(spec: str, parts: list[str]) -> None:
    with pytest.raises(BackendError) as caught:
        connect(spec)
    message = str(caught.value)
    assert all(part in message for part in parts)
    assert "\n" not in message
    assert "word" not in message


def test_the_built_in_backends_know_their_names() -> None:
    server, local = list(backends())[:2]
    assert [server.accepts(s) for s in ("https://host/v1", "HTTP://host", "qwen")] == [True, True, False]
    assert all(local.accepts(s) for s in ("qwen", "org/model", "model.gguf", "."))
    assert not any(local.accepts(s) for s in ("echo:yes", "qwne", "./nowhere", ""))


@pytest.mark.slow
def test_another_package_adds_a_backend(tmp_path: Path) -> None:
    """Installed beside the project, it answers `hybrid solve`; nothing here knows of it."""
    package = tmp_path / "package"
    package.mkdir()
    for file in ("pyproject.toml", "echo_llm.py"):
        (package / file).write_bytes((ROOT / "tests" / "plugins" / "echo_llm" / file).read_bytes())
    site = tmp_path / "site"
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    subprocess.run([*pip, "--target", str(site), str(package)], check=True, capture_output=True, timeout=120)
    task = tasks.get("sudoku")
    puzzle = task.samples()[0]
    assert puzzle.answers is not None
    command = [
        sys.executable,
        "-m",
        "hybrid",
        "solve",
        task.question_text(puzzle),
        "--refiner",
        "none",
        "--json",
    ]
    done = subprocess.run(
        [*command, "--llm", f"echo:{task.text(puzzle.answers)}"],
        env=os.environ | {"PYTHONPATH": f"{site}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["status"], answer["llm"], answer["source"]) == ("verified", "echo", "llm")
    assert answer["answer"] == task.text(puzzle.answers)
