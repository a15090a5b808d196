"""`/v1/read`: the puzzles of a text of any form that the command reads."""

from __future__ import annotations

import json
import time
from pathlib import Path

import doubles
import pytest
from starlette.testclient import TestClient

from hybrid.serve.reading import read_puzzle

ARC = {"train": [{"input": [[1, 0]], "output": [[0, 1]]}], "test": [{"input": [[2, 0]]}]}
FRAMED = "\n".join("| " + " ".join(doubles.SUDOKU[i : i + 9]) + " |" for i in range(0, 81, 9))


@pytest.mark.parametrize(
    ("text", "tasks"),
    [
        (f"+---+\n{FRAMED}\n+---+", ["sudoku"]),
        ("⬛⬛⬛⬛\n⬛🟩⬜⬛\n⬛⬜🟥⬛\n⬛⬛⬛⬛", ["maze"]),
        (f"question,answer\n{doubles.SUDOKU},\n{doubles.SUDOKU},", ["sudoku", "sudoku"]),
        (json.dumps({"one": ARC, "two": ARC}), ["arc", "arc"]),
        (json.dumps({"id": "\ud800", "question": doubles.SUDOKU}), ["sudoku"]),
        (f"{doubles.SUDOKU}\n{doubles.SUDOKU[:80]}\n{doubles.SUDOKU}", ["sudoku", None, "sudoku"]),
        ("\n".join([doubles.SUDOKU] * 201), ["sudoku"] * 200),
    ],
)
def test_what_the_command_reads_is_read(client: TestClient, text: str, tasks: list[str | None]) -> None:
    reply = client.post("/v1/read", json={"text": text}).json()
    assert [each.get("task") for each in reply["data"]] == tasks
    for each in reply["data"]:
        if "error" not in each:
            assert read_puzzle(each["question"], each["task"], "again").task == each["task"]
    assert reply["left_out"] == text.count("\n") // 200


def test_a_grid_that_begins_behind_words_is_read(client: TestClient) -> None:
    rows = "\n".join(doubles.SUDOKU[i : i + 9] for i in range(0, 81, 9))
    (found,) = client.post("/v1/read", json={"text": f"Solve this: {rows} please"}).json()["data"]
    assert found["question"] == doubles.SUDOKU


@pytest.mark.parametrize("part", ["[", "1\n", "{{", "##", "ab:\n"])
def test_a_long_text_keeps_nobody_waiting(client: TestClient, part: str) -> None:
    begun = time.monotonic()
    assert client.post("/v1/read", json={"text": part * (20_000 // len(part))}).status_code == 422
    assert time.monotonic() - begun < 5


def test_a_text_without_a_puzzle_is_refused_and_never_opened(client: TestClient, tmp_path: Path) -> None:
    file = tmp_path / "puzzle.txt"
    file.write_text(doubles.SUDOKU)
    for text in ("", "no puzzle", str(file), f"file://{file}", "-", doubles.SUDOKU[:80]):
        error = client.post("/v1/read", json={"text": text, "name": "mine"}).json()["error"]
        assert (error["param"], error["code"]) == ("text", "bad_puzzle")
        assert error["message"].startswith("mine: ")
        assert "--" not in error["message"]
