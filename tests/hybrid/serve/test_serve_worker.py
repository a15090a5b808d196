"""The queue and the worker: puzzles that wait are searched together, a full queue says so, leavers free a slot."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.request import urlopen

import doubles
import httpx
import numpy as np
import pytest
from serving import Serve, listening, plays, service, tiny

from hybrid.answer import Answer
from hybrid.serve.events import Event
from hybrid.serve.reading import read_puzzle
from hybrid.serve.worker import Job
from trm.inference.config import SearchConfig
from trm.inference.state import SolveState
from trm.tasks import Status, Verdict

ARC = '{"train": [{"input": [[1, 0]], "output": [[0, 1]]}], "test": [{"input": [[2, 0]]}]}'
PUZZLE = {"question": doubles.SUDOKU, "llm": "none"}
ENDLESS = {
    "question": doubles.SUDOKU,
    "llm": "none",
    "steps": 64,
    "restarts": 64,
}  # of a network that solves nothing


class Gate:
    """A network that waits at its first step until it is let go."""

    def __init__(self) -> None:
        self.reached, self.open = threading.Event(), threading.Event()

    def __call__(self, asked: doubles.Asked) -> Sequence[tuple[np.ndarray, float]]:
        self.reached.set()
        assert self.open.wait(20)
        return plays(asked)


def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def health(address: str) -> dict[str, Any]:
    with urlopen(f"{address}/health") as reply:  # much quicker than a client of its own each time
        found: dict[str, Any] = json.load(reply)
    return found


def test_puzzles_that_wait_together_are_one_batch() -> None:
    gate = Gate()
    network = doubles.refiner(gate)
    with listening(service(network)) as address, ThreadPoolExecutor(6) as pool:
        replies = [pool.submit(httpx.post, f"{address}/v1/solve", json=PUZZLE)]
        assert gate.reached.wait(10)
        replies += [
            pool.submit(httpx.post, f"{address}/v1/solve", json=PUZZLE | {"id": str(n)}) for n in range(5)
        ]
        until(lambda: health(address)["waiting"] == 5)
        gate.open.set()
        records = [reply.result().json() for reply in replies]
    assert [record["status"] for record in records] == ["verified"] * 6
    assert [record["id"] for record in records] == ["puzzle-1", *"01234"]
    assert doubles.batches(network) == [1, 5]


def test_puzzles_without_adaptation_go_between_those_with(monkeypatch: pytest.MonkeyPatch) -> None:
    made = service()
    model, order = made.catalogue.model("none"), list[str]()
    refiner = model.pipeline.refiner
    assert refiner is not None
    monkeypatch.setattr(refiner.pool, "adapts", lambda task: task == "arc")

    def solved(states: Sequence[SolveState], config: SearchConfig) -> Iterator[tuple[SolveState, Answer]]:
        for state in states:
            yield state, Answer(state.puzzle, None, Verdict(Status.UNSOLVED, ("not tried",)), None)

    monkeypatch.setattr(type(model.pipeline), "solve_states", lambda self, *rest: solved(*rest))

    def hear(event: Event) -> None:
        if event.last:
            order.append(event.data["id"])

    puzzles = {"arc-1": ARC, "arc-2": ARC, "a": doubles.SUDOKU, "arc-3": ARC, "b": doubles.SUDOKU}
    jobs = [Job(model, read_puzzle(q, None, name), SearchConfig(), hear) for name, q in puzzles.items()]
    made.worker.submit(jobs)
    made.worker.start()
    until(lambda: len(order) == 5)
    made.worker.close()
    assert order == ["arc-1", "a", "b", "arc-2", "arc-3"]


def test_a_full_queue_asks_to_come_back() -> None:
    gate = Gate()
    with listening(service(doubles.refiner(gate), queue=2)) as address, ThreadPoolExecutor(2) as pool:
        replies = [pool.submit(httpx.post, f"{address}/v1/solve", json=PUZZLE) for _ in range(2)]
        until(lambda: sum(health(address)[key] for key in ("waiting", "running")) == 2)
        refused = httpx.post(f"{address}/v1/solve", json=PUZZLE)
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        streamed = httpx.post(f"{address}/v1/solve", json=PUZZLE | {"stream": True})
        assert streamed.status_code == 429
        gate.open.set()
        assert [reply.result().status_code for reply in replies] == [200, 200]
        assert httpx.post(f"{address}/v1/solve", json=PUZZLE).status_code == 200


def test_a_client_that_leaves_frees_its_slot() -> None:
    with listening(service(tiny())) as address:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{address}/v1/solve", json=ENDLESS, timeout=0.4)
        until(lambda: health(address)["running"] == 0)


def test_a_client_that_leaves_a_stream_frees_its_slot() -> None:
    with listening(service(tiny())) as address:
        with httpx.stream("POST", f"{address}/v1/solve", json=ENDLESS | {"stream": True}) as reply:
            lines = reply.iter_lines()
            assert next(line for line in lines if line == "event: step")
            assert health(address)["running"] == 1
        until(lambda: health(address)["running"] == 0)


def test_one_who_leaves_does_not_stop_the_others() -> None:
    gate = Gate()
    with listening(service(doubles.refiner(gate))) as address, ThreadPoolExecutor(1) as pool:
        first = pool.submit(httpx.post, f"{address}/v1/solve", json=PUZZLE)
        assert gate.reached.wait(10)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{address}/v1/solve", json=PUZZLE, timeout=0.2)
        until(lambda: health(address)["waiting"] == 0)
        gate.open.set()
        assert first.result().json()["status"] == "verified"


def test_after_the_limit_the_answer_is_what_there_is(serve: Serve) -> None:
    client = serve(network=tiny(), limit_seconds=0.3)
    begun = time.monotonic()
    reply = client.post("/v1/solve", json=ENDLESS)
    assert time.monotonic() - begun < 10
    assert reply.status_code == 200
    assert reply.json()["status"] == "unsolved"
    assert 0 < reply.json()["steps"] < 65 * 64


def test_a_server_that_ends_does_not_wait_for_its_searches() -> None:
    with ThreadPoolExecutor(1) as pool:
        with listening(service(tiny())) as address:
            reply = pool.submit(httpx.post, f"{address}/v1/solve", json=ENDLESS, timeout=60)
            until(lambda: health(address)["running"] == 1)
            begun = time.monotonic()
        assert time.monotonic() - begun < 15
        assert reply.exception() is not None or reply.result().status_code >= 500
