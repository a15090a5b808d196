"""Text from elsewhere: bounds on what is parsed, and nothing that steers a terminal in what is printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trm.config import ConfigError, apply_override, read_toml
from trm.jsonl import dump
from trm.text import DEEPEST, LONGEST_MESSAGE, message_line, parse_json, parse_toml, printable

CONTROLS = "\x1b[31mred\x07\x9b2J\u202e\r\n== 1: verified\x00\ud800"


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "[" * 500 + "]" * 500, "9" * 5000, "", "\x00"]
)
def test_json_that_cannot_be_read_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)


@pytest.mark.parametrize("beside", ["", '"[[[]", '])
def test_the_depth_of_json_is_told_among_many_lists(beside: str) -> None:
    def many(depth: int) -> str:
        return f"[{beside}{', '.join(['[' * (depth - 1) + ']' * (depth - 1)] * 40)}]"

    assert parse_json(many(DEEPEST), unique_keys=True)
    with pytest.raises(ValueError, match="deep"):
        parse_json(many(DEEPEST + 1), unique_keys=True)


@pytest.mark.parametrize(
    "text",
    ["a = " + "[" * 100_000, "a = " + "[" * 500 + "]" * 500, ".".join("a" * 5000) + "=1", "a=" + "9" * 5000],
)
def test_toml_that_cannot_be_read_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_toml(text)


def test_what_is_nested_within_bounds_is_read() -> None:
    assert parse_json("[" * DEEPEST + "]" * DEEPEST)
    assert parse_toml("[a.b]\nc = [[1]]") == {"a": {"b": {"c": [[1]]}}}


def test_overrides_and_files_that_are_nested_too_deep_are_config_errors(
    tmp_path: Path,
) -> None:
    file = tmp_path / "deep.toml"
    file.write_text("a = " + "[" * 100_000)
    with pytest.raises(ConfigError):
        read_toml(file)
    with pytest.raises(ConfigError):
        apply_override({}, "train." + ".".join("a" * 5000) + "=1")
    raw: dict[str, dict[str, object]] = {}
    apply_override(raw, "train.steps=" + "[" * 5000)  # no TOML: a plain text, which no field takes
    assert isinstance(raw["train"]["steps"], str)


@given(st.text(alphabet=st.characters(), max_size=50))
def test_what_is_printed_steers_no_terminal(text: str) -> None:
    line = printable(text)
    assert line.isprintable()
    assert line == text or not text.isprintable()
    line.encode()


def test_messages_are_one_short_line() -> None:
    assert message_line(CONTROLS).isprintable()
    assert "\\x1b[31mred" in message_line(CONTROLS)
    assert len(message_line("x" * 2_000_000)) == LONGEST_MESSAGE + 1


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.none()))
def test_a_line_of_json_is_printable_and_says_the_same(value: dict[str, object]) -> None:
    line = dump(value)
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    assert json.loads(line) == value
