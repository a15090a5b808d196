"""What the texts of grids have in common: fields of a line, fences, words."""

from __future__ import annotations

import pytest

from trm.tasks.grid_text import fields, has_words, is_large_row, unfenced


@pytest.mark.parametrize(
    ("line", "usual", "parts"),
    [
        ("1,2,3", (), ["1", "2", "3"]),
        ("1,2,3,", (), ["1", "2", "3"]),  # an even number with an empty last one: a separator behind the last
        ("1,2,", (), ["1", "2", ""]),
        ("1,2,3,", (4,), ["1", "2", "3", ""]),
        ("1,2,", (2,), ["1", "2"]),
        ("1;2;3,4", (), ["1", "2", "3,4"]),
        ("1 2 3", (), ["1 2 3"]),
    ],
)
def test_fields_are_parted_by_what_a_line_has_most_of(
    line: str, usual: tuple[int, ...], parts: list[str]
) -> None:
    assert fields(line, usual=usual) == parts


def test_a_fence_holds_the_grid() -> None:
    assert unfenced("Here:\n```text\n1 2\n3 4\n```\nDone.\n```\n5\n```") == "1 2\n3 4"
    assert unfenced("no fence\n1 2") == "no fence\n1 2"
    assert unfenced("`` `\n1\n") == "`` `\n1\n"


def test_rows_of_grids_are_no_words() -> None:
    assert has_words("a title\n1 2 3")
    assert not has_words("XXBOOX\nGOB")
    row = "1..B.CDE.....F.."
    assert not has_words(row)
    assert is_large_row(row)
    assert not is_large_row(row.replace("F", "E"))  # a symbol twice
    assert not is_large_row(row[:-1])
    assert not is_large_row("0" * 16)
    assert is_large_row(row * 16)
