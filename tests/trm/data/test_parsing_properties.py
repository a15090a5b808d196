"""Whatever a file holds, loading it gives puzzles and errors of one line, and raises nothing."""

from __future__ import annotations

import csv
import io
import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trm.data.files import load
from trm.data.generate import parse_options
from trm.grid import PuzzleError
from trm.tasks import Puzzle, get
from trm.tasks.ranges import whole_range

settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=60)
settings.load_profile("repeatable")

LINE = get("sudoku").question_text(get("sudoku").samples()[0])
WALLS = get("maze").question_text(get("maze").samples()[0])
PARTS = st.sampled_from(
    [LINE, LINE[:80], WALLS, "S \n G", "question,answer", '"', ",", "\n", "\r\n", "\n\n", "{", "[]"]
)
FIELD = st.sampled_from([LINE, WALLS, "S G", "", "7", 'a "quoted" word', "a\nline"])
RECORDS = st.lists(
    st.dictionaries(st.sampled_from(["id", "task", "question", "answer", "rating"]), FIELD), max_size=4
)


def check(text: str, folder: Path, suffix: str, task: str | None = None) -> list[Puzzle | PuzzleError]:
    path = folder / f"file.{suffix}"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    loaded = load(path, task)
    assert loaded
    for item in loaded:
        assert isinstance(item, Puzzle) or (isinstance(item, PuzzleError) and "\n" not in str(item))
    return loaded


@pytest.mark.parametrize("suffix", ["txt", "csv", "jsonl", "json", "csv.gz"])
@given(text=st.lists(PARTS | st.text(max_size=20), max_size=8).map("".join))
def test_any_file_is_puzzles_and_errors(
    text: str, suffix: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    check(text, tmp_path_factory.mktemp("files"), suffix)
    for item in load(text):
        assert isinstance(item, Puzzle | PuzzleError)


@given(records=RECORDS)
def test_records_are_the_same_in_csv_and_json_lines(
    records: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("records")
    rows = [{"question": LINE}, *(record for record in records if record.get("question"))]
    file = io.StringIO()
    writer = csv.DictWriter(file, ["id", "task", "question", "answer", "rating"])
    writer.writeheader()
    writer.writerows(rows)
    lines = "\n".join(map(json.dumps, rows))
    for task in (None, "maze"):
        by_csv, by_json = check(file.getvalue(), folder, "csv", task), check(lines, folder, "jsonl", task)
        assert len(by_csv) == len(by_json) == len(rows)
        for left, right in zip(by_csv, by_json, strict=True):
            assert type(left) is type(right)
            if isinstance(left, Puzzle) and isinstance(right, Puzzle):
                assert left.id == right.id
                assert all(map(np.array_equal, left.inputs, right.inputs))


@given(pairs=st.lists(st.text("ab=[]{},.'\"0123456789 \n", max_size=12), max_size=3))
def test_any_option_is_a_value_or_a_puzzle_error(pairs: list[str]) -> None:
    with suppress(PuzzleError):
        parse_options(pairs)


@given(
    value=st.one_of(st.text(max_size=3), st.integers(), st.floats(), st.tuples(st.integers(), st.floats()))
)
def test_a_range_of_any_value_is_read_or_refused(value: object) -> None:
    with suppress(PuzzleError):
        low, high = whole_range("clues", value, 17, 81)
        assert 17 <= low <= high <= 81
