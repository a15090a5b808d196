"""`/v1/chat/completions`, also with the client that OpenAI publishes."""

from __future__ import annotations

import json
from collections.abc import Iterator

import doubles
import openai
import pytest
from starlette.testclient import TestClient

from hybrid.serve.messages import find_puzzle
from trm import tasks
from trm.grid import PuzzleError

ROWS = "\n".join(doubles.SUDOKU[i : i + 9] for i in range(0, 81, 9))
SOLVED = "\n".join(doubles.SOLUTION[i : i + 9] for i in range(0, 81, 9))
ARC = '{"train":[{"input":[[1,0]],"output":[[0,1]]}],"test":[{"input":[[2,0]]}]}'


@pytest.mark.parametrize(
    ("text", "task"),
    [
        (doubles.SUDOKU, "sudoku"),
        (f"Please solve {doubles.SUDOKU} for me", "sudoku"),
        (f"Solve this Sudoku:\n\n{ROWS}\n\nThank you!", "sudoku"),
        (f"Here it is:\n```\n{ROWS}\n```\nOnly the grid, please.", "sudoku"),
        (f"A maze:\n```text\n{doubles.MAZE}\n```", "maze"),
        (f"Find the way.\n\n{doubles.MAZE}", "maze"),
        (f"An ARC task: {ARC} What comes out?", "arc"),
    ],
)
def test_a_puzzle_is_found_among_words(text: str, task: str) -> None:
    assert find_puzzle(text, "m").task == task


@pytest.mark.parametrize("around", ["{}", "\n{}", "\n```\n{}\n```", "{{{}}}"])
def test_words_of_other_rules_are_heeded_wherever_the_grid_stands(around: str) -> None:
    with pytest.raises(PuzzleError):
        find_puzzle("Solve this killer sudoku: " + around.format(doubles.SUDOKU), "m")


@pytest.mark.parametrize("text", ["", "Hello!", "/etc/passwd", "What is 53 + 7?", "{" * 5000, "#" * 20_000])
def test_words_alone_are_no_puzzle(text: str) -> None:
    with pytest.raises(PuzzleError):
        find_puzzle(text, "m")


@pytest.fixture
def official(live: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{live}/v1", api_key="unused", max_retries=0) as client:
        yield client


def test_the_official_client_gets_a_verified_answer(official: openai.OpenAI) -> None:
    model = official.models.list().data[0].id
    reply = official.chat.completions.create(
        model=model, messages=[{"role": "user", "content": f"Solve:\n{ROWS}"}], temperature=0.2, max_tokens=50
    )
    content = reply.choices[0].message.content or ""
    assert SOLVED in content
    assert "erified" in content
    assert (reply.model, reply.choices[0].finish_reason) == (model, "stop")
    assert reply.usage is not None
    assert reply.usage.completion_tokens == 9


def test_the_official_client_streams(official: openai.OpenAI) -> None:
    stream = official.chat.completions.create(
        model="network",
        messages=[{"role": "user", "content": [{"type": "text", "text": doubles.MAZE}]}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text.count("o\n") + text.count("oo") > 0
    assert chunks[-1].usage is not None
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"


def test_the_official_client_understands_the_errors(official: openai.OpenAI) -> None:
    message = {"role": "user", "content": doubles.SUDOKU}
    with pytest.raises(openai.NotFoundError) as missing:
        official.chat.completions.create(model="gpt-4", messages=[message])  # type: ignore[list-item]
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as wrong:
        official.chat.completions.create(model="network", messages=[message], n=2)  # type: ignore[list-item]
    assert wrong.value.param == "n"
    schema = {"type": "json_schema", "json_schema": {"name": "grid", "schema": {"type": "object"}}}
    with pytest.raises(openai.BadRequestError) as unlike:
        official.chat.completions.create(  # type: ignore[call-overload]
            model="network", messages=[message], response_format=schema
        )
    assert unlike.value.param == "response_format"


def chat(client: TestClient, content: str, **more: object) -> dict[str, object]:
    body = {"messages": [{"role": "user", "content": content}], **more}
    reply = client.post("/v1/chat/completions", json=body)
    assert reply.status_code == 200, reply.text
    found: dict[str, object] = reply.json()["choices"][0]["message"]
    return found


def test_json_is_the_record(client: TestClient) -> None:
    message = chat(client, doubles.SUDOKU, response_format={"type": "json_object"})
    assert json.loads(str(message["content"]))["answer"] == doubles.SOLUTION


def test_without_a_puzzle_the_reply_says_what_is_expected(client: TestClient) -> None:
    assert "found none" in str(chat(client, "Hello!")["content"])
    as_json = chat(client, "Hello!", response_format={"type": "json_object"})["content"]
    assert "found none" in json.loads(str(as_json))["error"]


FOUR = "1.2.\n24.3\n31.2\n...."
FLAT = FOUR.replace("\n", "")
LIST = json.dumps([[int(cell) if cell != "." else 0 for cell in row] for row in ROWS.split("\n")])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"Solve this: {ROWS}", doubles.SUDOKU),
        (f"Please solve the following\n{ROWS}\nThanks!", doubles.SUDOKU),
        (f"Solve {ROWS} thanks a lot", doubles.SUDOKU),
        (f"Solve this\n{' '.join(ROWS)}\nok?".replace(" \n ", "\n"), doubles.SUDOKU),
        (f"Solve this: {doubles.SUDOKU}. Thanks!", doubles.SUDOKU),
        ("Solve " + ROWS.replace("\n", "/"), doubles.SUDOKU),
        ("\n".join(f"Row {n}: {row}" for n, row in enumerate(ROWS.split("\n"), 1)), doubles.SUDOKU),
        ("\n".join(f"{n}. {row}" for n, row in enumerate(ROWS.split("\n"), 1)), doubles.SUDOKU),
        (f"grid = {LIST} # which has one solution", doubles.SUDOKU),
        (f"Puzzle #12345678\n{ROWS}", doubles.SUDOKU),
        (f"4x4: {FLAT}", FLAT),
        (f"4 × 4\n{FOUR}", FLAT),
        (f"4x4: {FOUR}", FLAT),
        (f"Solve this 4x4: {FLAT}", FLAT),
        (f"Here is a 4x4 puzzle: {FLAT} ok?", FLAT),
        (f"A small Sudoku, {FLAT}, for you", FLAT),
        (FOUR.replace(".", "x"), FLAT),
    ],
)
def test_a_sudoku_is_read_where_words_or_a_size_stand_beside_it(text: str, expected: str) -> None:
    puzzle = find_puzzle(text, "m")
    assert tasks.get(puzzle.task).question_text(puzzle) == expected


@pytest.mark.parametrize("around", ["Solve: {}", "Find the way\n{}", "Walk {} please", "{}\nThanks"])
@pytest.mark.parametrize("maze", ["#####\n#S  #\n# #G#\n#####", doubles.MAZE])
def test_a_maze_loses_no_row_to_the_words_beside_it(around: str, maze: str) -> None:
    grid = find_puzzle(around.format(maze), "m").grid
    assert "\n".join("".join(map(chr, row)) for row in grid) == maze


@pytest.mark.parametrize(
    "text",
    [
        f"first {doubles.SUDOKU} second {doubles.SUDOKU[::-1]}",
        f"Solve this: {doubles.SUDOKU[:80]}",
        f"Solve this: {doubles.SUDOKU}5",
        f"A killer sudoku: {ROWS}",
        f"A 4x4 killer sudoku: {FLAT}",
        f"A killer sudoku: {LIST}",
        "My number is 4321123443211234, call 555-123-4567",
        "wait................ what",
    ],
)
def test_what_can_be_read_in_several_ways_is_refused(text: str) -> None:
    with pytest.raises(PuzzleError):
        find_puzzle(text, "m")


def test_an_unsolved_puzzle_is_not_called_verified(client: TestClient) -> None:
    content = str(chat(client, doubles.SUDOKU, model="scripted")["content"])
    assert "could not solve" in content
    assert "may have no solution" in content
    assert "Verified" not in content


def test_what_no_rule_decides_is_called_unverified(client: TestClient) -> None:
    content = str(chat(client, ARC, model="network")["content"])
    assert "0 2" in content
    assert "Unverified" in content
