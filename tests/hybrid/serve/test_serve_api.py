"""The HTTP API: records, streams, errors, and what a request cannot reach."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import doubles
import httpx
import pytest
from serving import Serve, tiny
from small_networks import SMALL
from starlette.testclient import TestClient

from hybrid.serve.reading import read_puzzle

JSON = {"content-type": "application/json"}
ARC = {"train": [{"input": [[1, 0]], "output": [[0, 1]]}], "test": [{"input": [[2, 0]]}]}


def events(text: str) -> list[tuple[str, dict[str, Any]]]:
    """The events of a stream: names and data."""
    found = []
    for block in text.strip().split("\n\n"):
        if not block.startswith(":"):
            name, data = block.split("\n")
            found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


# -- solve -------------------------------------------------------------------------------------------------
def test_a_puzzle_becomes_the_record_of_the_contract(client: TestClient) -> None:
    record = client.post("/v1/solve", json={"question": doubles.SUDOKU, "id": "mine"}).json()
    assert (record["id"], record["status"], record["answer"]) == ("mine", "verified", doubles.SOLUTION)
    assert record["source"] == "refiner"
    assert record["drafts"][0]["valid"] is False
    assert "trace" not in record


def test_where_nothing_is_verified_the_answer_says_so(client: TestClient) -> None:
    unsolved = client.post("/v1/solve", json={"question": doubles.SUDOKU, "refiner": "none"}).json()
    assert "may have no solution" in unsolved["note"]
    maze = client.post("/v1/solve", json={"question": doubles.MAZE, "refiner": "none"}).json()
    assert maze["status"] == "unsolved"
    assert "solution" not in maze["note"]  # there is one, or it had been refused
    assert "note" not in client.post("/v1/solve", json={"question": doubles.SUDOKU}).json()


def test_several_puzzles_keep_their_order_and_a_bad_one_spoils_no_other(client: TestClient) -> None:
    puzzles = [
        {"question": doubles.SUDOKU},
        {"question": "no puzzle"},
        {"question": doubles.SUDOKU, "id": "c"},
    ]
    reply = client.post("/v1/solve", json={"puzzles": puzzles})
    first, second, third = reply.json()["data"]
    assert reply.status_code == 200
    assert (first["status"], third["status"]) == ("verified", "verified")
    assert [first["id"], second["id"], third["id"]] == ["puzzle-1", "puzzle-2", "c"]
    assert second["error"]["code"] == "bad_puzzle"


def test_a_stream_names_each_puzzle_as_the_request_did(client: TestClient) -> None:
    puzzles = [{"question": "no puzzle", "id": "a"}, {"question": "none"}, {"question": doubles.SUDOKU}]
    found = events(client.post("/v1/solve", json={"puzzles": puzzles, "stream": True}).text)
    assert [data["puzzle"] for name, data in found if name == "error"] == ["a", "puzzle-2"]
    assert {data["puzzle"] for name, data in found if name in ("step", "answer")} == {"puzzle-3"}


def test_a_stream_tells_of_the_draft_every_step_and_the_answer(client: TestClient) -> None:
    reply = client.post("/v1/solve", json={"question": doubles.SUDOKU, "stream": True})
    assert reply.headers["content-type"].startswith("text/event-stream")
    found = events(reply.text)
    assert [name for name, _ in found] == ["queued", "started", "draft", *["step"] * 4, "answer", "done"]
    draft = next(data for name, data in found if name == "draft")
    assert [0, 7] in draft["broken"][0][0]["cells"]
    steps = [data for name, data in found if name == "step"]
    assert {(s["attempt"], s["source"], s["step"]) for s in steps} == {
        (1, "refiner", 1), (1, "refiner", 2), (2, "refiner+draft", 1), (2, "refiner+draft", 2),
    }  # fmt: skip
    assert steps[1]["grid"] == doubles.SOLUTION
    assert steps[1]["confidence"] == pytest.approx(0.75, abs=0.001)
    assert steps[1]["broken"] == []
    answer = next(data for name, data in found if name == "answer")
    assert answer["record"]["status"] == "verified"
    assert [attempt["status"] for attempt in answer["attempts"]] == ["verified", "verified"]


def test_a_step_tells_what_the_network_weighs(serve: Serve) -> None:
    client = serve(network=tiny())
    body = {"question": doubles.SUDOKU, "llm": "none", "stream": True, "steps": 2, "restarts": 1}
    steps = [data for name, data in events(client.post("/v1/solve", json=body).text) if name == "step"]
    assert [(s["attempt"], s["step"]) for s in steps] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    for step in steps:
        assert step["z_moved"] > 0
        assert len(step["cycles"]) == SMALL.h_cycles
        assert {key: step[key] for key in ("grid", "weighed", "broken")}.items() <= step["cycles"][-1].items()
        for cycle in step["cycles"]:
            assert cycle["z_moved"] > 0
            for other in cycle["weighed"]:
                assert len(other) == 81
                assert all(a != b for a, b in zip(other, cycle["grid"], strict=True) if a != ".")


def test_candidates_of_arc_come_with_their_votes(serve: Serve) -> None:
    client = serve(network=doubles.refiner(doubles.echoes))
    body = {"question": ARC, "llm": "none", "stream": True}
    answer = next(d for n, d in events(client.post("/v1/solve", json=body).text) if n == "answer")
    assert answer["votes"] == [
        [
            {"grid": "2 0", "guess": 1, "votes": 1, "sources": {"refiner": 1}}
            | {"confidence": pytest.approx(0.75, abs=0.001)}
        ]
    ]
    assert answer["record"]["status"] == "unverified"


def test_candidates_of_both_come_ranked(client: TestClient) -> None:
    answer = next(
        d
        for n, d in events(client.post("/v1/solve", json={"question": ARC, "stream": True}).text)
        if n == "answer"
    )
    ((first, second),) = answer["votes"]
    assert (first["grid"], first["guess"], first["score"]) == ("0 2", 1, -1.0)
    assert (second["grid"], second["guess"], second["score"]) == ("2 0", 2, -5.0)
    assert [each["shares"]["llm"] for each in (first, second)] == [0.75, 0.25]
    assert first["shares"]["refiner"] == first["shares"]["refiner+draft"] == 1
    assert first["probability"] > second["probability"]
    (kept,) = answer["record"]["candidates"]
    assert [each["grid"] for each in kept] == [[[0, 2]], [[2, 0]]]


def test_models_are_chosen_by_name(client: TestClient) -> None:
    listed = client.get("/v1/models").json()
    assert listed["llms"] == ["scripted", "none"]
    assert {model["id"] for model in listed["data"]} == {"scripted+network", "scripted", "network"}
    alone = client.post("/v1/solve", json={"question": doubles.SUDOKU, "refiner": "none"}).json()
    assert (alone["status"], alone["refiner"], alone["source"]) == ("unsolved", None, "llm")


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"llm": "https://elsewhere/v1"}, 404),
        ({"refiner": "/etc/passwd"}, 404),
        ({"llm": "none", "refiner": "none"}, 404),
        ({"steps": 0}, 422),
        ({"steps": "16"}, 422),
        ({"trace": 1}, 422),
        ({"unknown": 1}, 422),
        ({"task": "chess"}, 422),
        ({"task": "grid:3x4:.AB:AB", "question": "AB..\n....\n...."}, 422),
        ({"question": "55" + doubles.SUDOKU[2:]}, 422),
        ({"question": {"train": []}}, 422),
        ({"question": ARC | {"test": ARC["test"] * 11}}, 422),
        ({"question": ARC | {"train": ARC["train"] * 33}}, 422),
        (
            {"question": {"train": [{"input": [[10**3000]], "output": [[1]]}], "test": [{"input": [[1]]}]}},
            422,
        ),
        ({"steps": 10**9}, 422),
        ({"restarts": 10**9}, 422),
        ({"seed": -1}, 422),
        ({"budget": float("nan")}, 422),
        ({"budget": float("inf")}, 422),
        ({"puzzles": []}, 422),
    ],
)
def test_a_wrong_value_is_one_line(client: TestClient, change: dict[str, object], status: int) -> None:
    body = json.dumps({"question": doubles.SUDOKU} | change)  # which writes NaN, as clients do
    reply = client.post("/v1/solve", content=body, headers={"content-type": "application/json"})
    assert reply.status_code == status
    message = reply.json()["error"]["message"]
    assert 0 < len(message) <= 2000
    assert "\n" not in message
    assert "Traceback" not in message


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "empty_body"),
        (b"{", 400, "invalid_json"),
        (b"[" * 200_000, 400, "invalid_json"),
        (b'{"steps": ' + b"9" * 5000 + b"}", 400, "invalid_json"),
        (b'{"question": "\xff"}', 400, "invalid_utf8"),
        (b"null", 422, "invalid_value"),
        (b"[]", 422, "invalid_value"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/solve", "/v1/chat/completions"])
def test_a_body_that_is_no_request_is_refused(
    client: TestClient, path: str, body: bytes, status: int, code: str
) -> None:
    reply = client.post(path, content=body, headers=JSON)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (status, code, None)
    assert error["type"] == "invalid_request_error"
    assert "the body" in error["message"]
    assert "expected" in error["message"]


def test_a_body_that_is_not_sent_as_json_is_told_the_header(client: TestClient) -> None:
    reply = client.post("/v1/solve", content=json.dumps({"question": doubles.SUDOKU}))
    assert reply.json()["error"]["code"] == "invalid_content_type"
    assert "Content-Type: application/json" in reply.json()["error"]["message"]


def test_a_question_is_never_opened_as_a_file(client: TestClient, tmp_path: Path) -> None:
    file = tmp_path / "puzzle.txt"
    file.write_text(doubles.SUDOKU)
    for question in (str(file), f"file://{file}", "-", "ckpt/trm.pt"):
        assert client.post("/v1/solve", json={"question": question}).status_code == 422


def test_a_wrong_method_is_told_the_right_one(client: TestClient) -> None:
    reply = client.get("/v1/solve")
    assert (reply.status_code, reply.headers["allow"]) == (405, "POST")
    assert reply.json()["error"]["code"] == "method_not_allowed"
    assert "POST" in reply.json()["error"]["message"]


def test_a_path_at_which_nothing_is_says_where_the_api_is_described(client: TestClient) -> None:
    error = client.get("/v1/nothing").json()["error"]
    assert error["code"] == "not_found"
    assert "/openapi.json" in error["message"]


@pytest.mark.parametrize("path", ["/", "/main.js", "/health", "/metrics", "/openapi.json", "/v1/models"])
def test_the_head_of_what_can_be_got_is_given(live: str, path: str) -> None:
    head, got = httpx.head(f"{live}{path}"), httpx.get(f"{live}{path}")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
    assert httpx.head(f"{live}/v1/solve").status_code == 405


def test_a_wrong_value_is_quoted_with_what_was_expected(client: TestClient) -> None:
    def refused(body: object) -> tuple[str, str]:
        error = client.post("/v1/solve", content=json.dumps(body), headers=JSON).json()["error"]
        return error["param"], error["message"]

    assert refused({"question": 5}) == ("question", "question: 5, expected text or an ARC task as an object")
    assert refused({"puzzles": [{"question": "1", "task": 3}]}) == (
        "puzzles.0.task",
        "puzzles.0.task: 3, expected text",
    )
    assert refused({"question": "1", "steps": "\ud800"}) == ("steps", 'steps: "\\ud800", expected an integer')
    assert refused({"question": "1", "task": "chess"})[0] == "task"
    assert "'x y'" in refused({"question": "1", "x y": 1})[1]
    assert refused([]) == (None, "the body: [], expected an object")
    assert refused({"question": "1", "steps": 0}) == ("steps", "steps: 0, expected at least 1")


# -- score, and the rest -----------------------------------------------------------------------------------
def test_scores_come_in_the_order_of_the_candidates(serve: Serve) -> None:
    client = serve(network=tiny())
    body = {"question": doubles.SUDOKU, "candidates": [doubles.SOLUTION, doubles.SUDOKU]}
    scores = client.post("/v1/score", json=body).json()["scores"]
    assert 0 < scores[0] <= 1
    assert scores[1] == 0  # open cells answer nothing


def test_a_candidate_of_another_shape_is_refused(client: TestClient) -> None:
    reply = client.post("/v1/score", json={"question": doubles.MAZE, "candidates": ["S G"]})
    assert reply.status_code == 422
    assert reply.json()["error"]["param"] == "candidates"


def test_samples_are_puzzles_of_every_task(client: TestClient) -> None:
    samples = client.get("/v1/samples").json()
    for sample in samples:
        assert read_puzzle(sample["question"], sample["task"], "sample").task == sample["task"]
    assert {sample["task"] for sample in samples} >= {"sudoku", "maze", "arc"}


def test_samples_are_of_tasks_that_some_model_knows(client: TestClient) -> None:
    known = {task for model in client.get("/v1/models").json()["data"] for task in model["tasks"]}
    assert {sample["task"] for sample in client.get("/v1/samples").json()} <= known


def test_a_model_is_found_by_its_name(serve: Serve) -> None:
    client = serve(more={"someone/model": doubles.refiner(doubles.cold_solves)})
    for model in client.get("/v1/models").json()["data"]:
        assert client.get(f"/v1/models/{model['id']}").json() == model
    missing = client.get("/v1/models/nobody")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "model_not_found")


def test_an_unknown_model_is_named_by_its_key(client: TestClient) -> None:
    for key in ("llm", "refiner"):
        reply = client.post("/v1/solve", json={"question": doubles.SUDOKU, key: "nobody"})
        assert (reply.status_code, reply.json()["error"]["param"]) == (404, key)


def test_metrics_count_puzzles(client: TestClient) -> None:
    client.post("/v1/solve", json={"question": doubles.SUDOKU})
    text = client.get("/metrics").text
    assert 'hybrid_puzzles_total{status="verified",task="sudoku"} 1.0' in text
    assert 'hybrid_requests_total{route="/v1/solve",status="200"} 1.0' in text
    assert "hybrid_queue_waiting 0.0" in text


def test_an_internal_error_shows_nothing_of_the_inside(serve: Serve) -> None:
    def breaks(asked: doubles.Asked) -> list[Any]:
        raise RuntimeError("secret of the inside")

    client = serve(network=doubles.refiner(breaks))
    reply = client.post("/v1/solve", json={"question": doubles.SUDOKU})
    assert reply.status_code == 500
    assert "secret" not in reply.text
    assert client.post("/v1/solve", json={"question": doubles.SUDOKU, "refiner": "none"}).status_code == 200
