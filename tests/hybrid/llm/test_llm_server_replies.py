"""What OpenAI-compatible servers answer: odd replies, errors, models, secrets, formats."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from hybrid.llm.base import BackendError, ReplyFormat, Request
from hybrid.llm.registry import connect
from hybrid.llm.wire import parameters_from
from tests.hybrid.llm.fake_server import (
    MODELS,
    Server,
    ask,
    completion,
)

# -- what servers answer -------------------------------------------------------------------------------------
DEEP = b'{"choices": ' + b"[" * 1000 + b"]" * 1000 + b"}"


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (completion("half", "length"), "truncated at 7 tokens", "half"),
        (completion("half", "length", usage=None), "truncated", "half"),
        (completion(""), "empty content", ""),
        (completion(None), "empty content", ""),
        (completion([]), "empty content", ""),
        (completion({"a": 1}), "empty content", ""),
        (completion([{"type": "text", "text": "4"}, {"type": "refusal"}, "!"]), None, "4!"),
        (completion("[" * 2000), None, "[" * 2000),
        ({"choices": [{"text": "4", "finish_reason": "stop"}]}, None, "4"),
        ({"choices": []}, "reply without choices", ""),
        ({"choices": None}, "reply without choices", ""),
        ({"choices": [5]}, "reply without choices", ""),
        ([], "reply without choices", ""),
        (5, "reply without choices", ""),
        (None, "reply without choices", ""),
        (httpx.Response(200, text="<html>\n<b>Login</b>"), "reply is no JSON: <html> <b>Login</b>", ""),
        (httpx.Response(200, content=b"\xff\xfe"), "reply is no JSON: ", ""),
        (httpx.Response(200, content=b"4" * 10_000_001), "reply over 10 MB", ""),
        (httpx.Response(200, content=DEEP), "reply is no JSON: ", ""),
        (httpx.Response(200, content=DEEP.replace(b"]", b"")), "reply is no JSON: ", ""),
        (httpx.Response(200, content=b"9" * 5000), "reply is no JSON: ", ""),
    ],
)
def test_odd_replies_are_values(answer: Any, error: str | None, text: str) -> None:
    (reply,) = ask(Server(answer).connect())
    assert reply.text == text
    assert reply.error == error or (error and str(reply.error).startswith(error))


@pytest.mark.parametrize("count", [int("9" * 400), -1, 1.5, "7", True, None, float("inf")])
def test_counts_that_are_none_are_zero(count: Any) -> None:
    answer = json.dumps(completion() | {"usage": {"completion_tokens": count, "prompt_tokens": count}})
    (reply,) = ask(Server(httpx.Response(200, content=answer)).connect())
    assert 0 <= reply.tokens <= 1
    assert reply.tokens == reply.prompt_tokens


def test_lone_surrogates_become_question_marks() -> None:
    body = httpx.Response(200, content=rb'{"choices": [{"message": {"content": "1\ud8002"}}]}')
    (reply,) = ask(Server(body).connect())
    assert reply.text == "1?2"
    (reply,) = Server(completion()).connect().complete([Request([{"role": "user", "content": "\ud800"}])])[0]
    assert reply.text == "4"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "no:\nnever"}}, "no: never"),
        ({"error": "plain"}, "plain"),
        ({"detail": [{"msg": "bad field"}]}, "[{'msg': 'bad field'}]"),
        ({"object": "error", "message": "flat"}, "flat"),
        ({"error": {}}, '{"error": {}}'),
        (5, "5"),
        (None, "None"),
        ("\x1b[31mred", "?[31mred"),
    ],
)
def test_errors_of_the_server_are_one_line(body: Any, message: str) -> None:
    with pytest.raises(BackendError) as caught:
        ask(Server(httpx.Response(400, content=json.dumps(body))).connect())
    assert str(caught.value) == f"http://localhost:8000/v1: the server answered 400: {message}"


@pytest.mark.parametrize("content", [DEEP, b"\xff", b"", b'"\\ud800"'])
def test_errors_in_any_form_are_one_line(content: bytes) -> None:
    with pytest.raises(BackendError) as caught:
        ask(Server(httpx.Response(400, content=content)).connect())
    str(caught.value).encode()
    assert "\n" not in str(caught.value)


def test_a_redirection_is_an_error() -> None:
    with pytest.raises(BackendError, match="answered 301"):
        ask(Server(httpx.Response(301, headers={"location": "https://elsewhere"})).connect())


# -- models --------------------------------------------------------------------------------------------------
def test_wrong_models_are_refused_with_a_list() -> None:
    with pytest.raises(BackendError, match="serves no model 'third', expected first, second"):
        Server(completion()).connect("#third")
    gone = Server(
        httpx.Response(404, json={"error": {"message": "The model does not exist."}}), models={"data": []}
    )
    llm = gone.connect("#third")  # nothing listed when it started
    gone.models = MODELS
    with pytest.raises(BackendError, match=r"404: The model does not exist\.; it serves first, second$"):
        ask(llm)


def test_servers_that_list_nothing() -> None:
    absent = httpx.Response(404, text="not found")
    assert ask(Server(completion(), models=absent).connect("#third"))[0].text == "4"
    with pytest.raises(BackendError, match="lists no models; name one"):
        Server(completion(), models=absent).connect()
    with pytest.raises(BackendError, match="answered 401: Unauthorized"):
        Server(completion(), models=httpx.Response(401, text="Unauthorized")).connect()


@pytest.mark.parametrize(
    "models", [{"data": []}, {"data": 5}, 5, None, [], ["first"], {"data": [{"id": 5}, 3]}]
)
def test_lists_that_cannot_be_read_name_no_model(models: Any) -> None:
    with pytest.raises(BackendError, match="serves no model yet"):
        Server(completion(), models=models).connect()
    assert ask(Server(completion(), models=models).connect("#third"))[0].text == "4"


@pytest.mark.parametrize(
    "spec", ["http://", "http://host:port/v1", "http://localhost:9/v1", "http://me:word@h:x/v1"]
)
def test_servers_that_are_not_there(spec: str) -> None:
    with pytest.raises(BackendError) as caught:
        connect(spec)
    assert "\n" not in str(caught.value)
    assert "word" not in str(caught.value)


# -- secrets -------------------------------------------------------------------------------------------------
def test_the_key_goes_into_the_header_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(completion())
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    server.connect()
    assert "authorization" not in server.requests[-1].headers
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    llm = server.connect()
    assert server.requests[-1].headers["authorization"] == "Bearer sk-secret"
    assert "secret" not in llm.name


@pytest.mark.parametrize("repeat", ["sk-secret", "pass/word", "pass%2Fword", "bWU6cGFzcy93b3Jk"])
def test_a_server_that_repeats_secrets_shows_none(repeat: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In replies, in errors, in names of models."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    host, words = "me:pass%2Fword@localhost", f"you sent {repeat}."
    refusal = httpx.Response(400, json={"error": {"message": words}})
    shown = [Server(completion(), models={"data": [{"id": words}]}).connect(host=host).name]
    for answer in (completion(words), httpx.Response(200, text=words), refusal):
        llm = Server(answer, completion(words)).connect(host=host)
        shown += [text for reply in ask(llm, samples=2) for text in (reply.text, reply.error or "")]
    for server in (Server(completion(), models=refusal), Server(refusal)):
        with pytest.raises(BackendError) as caught:
            ask(server.connect(host=host))
        shown.append(str(caught.value))
    with pytest.raises(BackendError) as caught:
        Server(completion(), models={"data": [{"id": words}]}).connect("#third", host=host)
    shown.append(str(caught.value))
    assert not any(secret in text for text in shown for secret in (repeat, "word", "secret"))
    assert any("you sent ***" in text for text in shown)


@pytest.mark.parametrize("key", ["sk-1\r\nHost: elsewhere", "sk-1\n", "schlüssel"])
def test_a_key_that_no_header_takes_is_one_line(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(BackendError, match="OPENAI_API_KEY") as caught:
        Server(completion()).connect()
    assert "\n" not in str(caught.value)
    assert key.strip() not in str(caught.value)


# -- formats -------------------------------------------------------------------------------------------------
FORMAT = ReplyFormat("[1-9]", {"type": "object"})


def test_a_format_is_sent_as_json_schema() -> None:
    server = Server(completion('{"rows": ["12"]}'))
    ask(server.connect(), format=FORMAT)
    assert server.bodies[0]["response_format"]["json_schema"]["schema"] == FORMAT.json_schema


def test_a_server_that_knows_no_schemas_is_asked_freely() -> None:
    unknown = httpx.Response(400, json={"error": {"message": "response_format is not supported"}})
    server = Server(lambda body: unknown if "response_format" in body else completion("no idea"))
    llm = server.connect()
    for _ in range(2):
        assert ask(llm, format=FORMAT)[0].text == "no idea"
    assert ["response_format" in body for body in server.bodies] == [True, True, False, False]


def test_a_server_that_ignores_one_dialect_is_asked_in_the_other() -> None:
    def answer(body: Any) -> Any:
        return completion(
            '{"rows": []}' if body["response_format"]["type"] == "json_object" else "As you wish"
        )

    server = Server(answer)
    llm = server.connect()
    for _ in range(2):
        assert ask(llm, format=FORMAT)[0].text == '{"rows": []}'
    kinds = [body["response_format"]["type"] for body in server.bodies]
    assert kinds == ["json_schema", "json_object", "json_object"]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Qwen2.5-Coder-0.5B-Instruct", 500_000_000),
        ("SmolLM2-135M", 135_000_000),
        ("gpt-4o", None),
        ("a7bc", None),
        ("9" * 500 + "b", None),
    ],
)
def test_a_models_size_is_what_its_name_says(name: str, parameters: int | None) -> None:
    assert parameters_from(name) == parameters
