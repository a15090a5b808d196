"""The queue and the worker: puzzles that wait are searched together, a full queue says so, leavers free a slot."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.request import urlopen

import doubles
import httpx
import numpy as np
import pytest
from arc_expert import QUICK, arc_expert
from serving import Serve, listening, plays, service, tiny

from hybrid.serve.service import Service
from trm.adaptation.test_time import TestTimeTrainer
from trm.checkpoints.format import Checkpoint
from trm.inference.refiner import Refiner
from trm.tasks import Puzzle

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


class SlowAdaptation:
    """Network adaptations that go on until they are let go."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.begun, self.open = threading.Event(), threading.Event()
        adapt = TestTimeTrainer.adapt

        def slow(
            trainer: TestTimeTrainer, puzzle: Puzzle, progress: Callable[[int, int], None], *rest: Any
        ) -> Any:
            self.begun.set()
            while not self.open.wait(0.01):
                progress(1, 30)
            return adapt(trainer, puzzle, progress, *rest)

        patch.setattr(TestTimeTrainer, "adapt", slow)


def untrained() -> Checkpoint:
    """An expert for Sudokus, and one for ARC that is adapted to each task."""
    return Checkpoint("both", {**tiny().pool.checkpoint.experts, "arc": arc_expert()})


def adapting(experts: Checkpoint) -> Service:
    return service(Refiner.from_checkpoint(experts, "cpu", adaptation=QUICK))


def without_seconds(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != "seconds"}


def test_others_are_answered_while_a_network_is_adapted(monkeypatch: pytest.MonkeyPatch) -> None:
    sudoku = PUZZLE | {"steps": 2, "restarts": 2}
    arc = {"question": ARC, "llm": "none", "restarts": 2}
    experts = untrained()
    with listening(adapting(experts)) as address:
        alone = [httpx.post(f"{address}/v1/solve", json=body).json() for body in (sudoku, arc)]
    adaptation = SlowAdaptation(monkeypatch)
    with listening(adapting(experts)) as address, ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(httpx.post, f"{address}/v1/solve", json=arc, timeout=60) for _ in range(2)]
        assert adaptation.begun.wait(10)
        beside = [httpx.post(f"{address}/v1/solve", json=sudoku, timeout=10).json() for _ in range(3)]
        until(lambda: health(address)["waiting"] == 1)  # one ARC task after the other
        assert not any(reply.done() for reply in waiting)
        adaptation.open.set()
        adapted = [reply.result().json() for reply in waiting]
    assert [without_seconds(record) for record in beside] == [without_seconds(alone[0])] * 3
    assert [without_seconds(record) for record in adapted] == [without_seconds(alone[1])] * 2
    assert alone[1]["status"] == "unverified"


def test_adaptations_take_half_of_the_queue_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    adaptation = SlowAdaptation(monkeypatch)
    arc = {"question": ARC, "llm": "none"}
    network = Refiner.from_checkpoint(untrained(), "cpu", adaptation=QUICK)
    with listening(service(network, queue=2)) as address, ThreadPoolExecutor(1) as pool:
        first = pool.submit(httpx.post, f"{address}/v1/solve", json=arc, timeout=60)
        assert adaptation.begun.wait(10)
        assert httpx.post(f"{address}/v1/solve", json=arc).status_code == 429
        assert httpx.post(f"{address}/v1/solve", json=PUZZLE | {"restarts": 0}).status_code == 200
        adaptation.open.set()
        assert first.result().status_code == 200


def test_a_client_that_leaves_ends_its_adaptation(monkeypatch: pytest.MonkeyPatch) -> None:
    adaptation = SlowAdaptation(monkeypatch)
    with listening(adapting(untrained())) as address:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{address}/v1/solve", json={"question": ARC, "llm": "none"}, timeout=0.5)
        assert adaptation.begun.wait(10)
        until(lambda: health(address)["running"] == 0)


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
