"""Texts of grids: lines, digits, cells and lists; grids of one's own; colours of ARC; and views of its tasks."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from trm.grid import Grid, GridParseError, PuzzleError
from trm.tasks import Puzzle, SymmetryGroup, get
from trm.tasks.arc.task import read_grid
from trm.tasks.grid_text import cell_text, has_words, is_ruler, listed_rows, plain
from trm.tasks.own_grid import lacks_symbols, own_grid_name, read_rows
from trm.tasks.transforms import draw_task_view, exchangeable_colours, longest_test_side

ARC, OWN = get("arc"), get("grid:2x3:.AB:AB")


def codes(*rows: str) -> Grid:
    return np.array([[ord(c) for c in row] for row in rows], dtype=np.uint8)


def grid(*rows: str) -> Grid:
    return np.array([[int(c) for c in row] for row in rows], dtype=np.uint8)


# -- texts of grids -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("code", [0x20E3, 0xFE0E, 0xFE0F, 0x200B, 0xFEFF])
def test_what_cannot_be_seen_is_no_cell(code: int) -> None:
    assert plain(f"1{chr(code)}2") == "12"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("─━┄┅┈┉╌╍═╴╶╸╺╼╾", "-" * 15), ("│┃┆┇┊┋╎╏║╵╷╹╻╽╿¦", "|" * 16), ("┌┼╬╋\u257f\u2500", "++++|-"),
        ("\u2580\u24ff", "\u2580\u24ff"),
        ("\xa0\u3000", "  "), ("！～", "!~"), ("１９", "19"), ("٣߉", "39"), ("abc", "abc"), ("é", "é"),
    ],
)  # fmt: skip
def test_drawn_lines_and_digits_become_plain(text: str, expected: str) -> None:
    assert plain(text) == expected


@pytest.mark.parametrize(
    ("line", "ruler"),
    [
        ("---", True), ("--", False), ("+-+", True), ("+-+-+", True), ("+--+", True), ("+=+=+", True),
        (" +-+ ", True),
        ("|---|---|", True), (":-:-:", True), ("-1-", False), ("***---***", True), ("___", True),
        ("~~~", True), ("===", True),
        ("", False), ("   ", False), ("." * 9, False), ("- - -", False), ("#---#", True), ("-" * 999, True),
        ("-" * 1000, False), ("+-", False), ("'---'", True), ("`---`", True), (".-.", False),
    ],
)  # fmt: skip
def test_a_ruler_is_dashes_and_no_cell(line: str, ruler: bool) -> None:
    assert is_ruler(line) is ruler


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "1"), (False, "0"), (3, "3"), (3.0, "3"), ("3.00", "3"), ("3.", "3"), (3.5, "3.5"),
        ("", " "), (" a ", "a"),
        ("-1", " "), (-1, " "), (None, " "), (float("nan"), " "), ("NA", " "), ("n/a", " "),
        ("<NA>", " "), ("null", " "),
        ("None", " "), ("  ", " "), ([1], "[1]"), (".", "."), ("30", "30"),
    ],
)  # fmt: skip
def test_cells_as_text(value: object, text: str) -> None:
    assert cell_text(value) == text


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("[[1,2],[3,4]]", [["1", "2"], ["3", "4"]]), ("[1, 2]", [["1", "2"]]),
        ('["12", "34"]', [["1", "2"], ["3", "4"]]),
        ("((1,2),(3,4))", [["1", "2"], ["3", "4"]]), ("{{1,2},{3,4}};", [["1", "2"], ["3", "4"]]),
        ("np.array([[1,2],[3,4]])", [["1", "2"], ["3", "4"]]),
        ("x = array([[1, nan]], dtype=float)", [["1", " "]]),
        ("numpy.asarray([1,2],)", [["1", "2"]]), ("matrix([[1, 2]])", [["1", "2"]]),
        ("[1 2; 3 4]", [["1", "2"], ["3", "4"]]),
        ("A = [1, 2; 3, 4];", [["1", "2"], ["3", "4"]]), ("[[1 2]\n [3 4]]", [["1", "2"], ["3", "4"]]),
        ("[1 2\n 3 4]", [["1", "2", "3", "4"]]),
        ("[[nan, 1]]", [[" ", "1"]]), ("[nanna, 1]", [["nanna", "1"]]), ("1, 2", None), ("[]", None),
        ("[[1,2],3]", None),
        ("[" + "a" * 33 + " b]", None), ("[" + "a" * 32 + " b]", [["a" * 32, "b"]]),
        ("(1, 2]", [["1", "2"]]), ("{a: 1}", None),
        ('{"a": 1}', None), ("[None, 1]", [[" ", "1"]]), ("[[1.0, 2.5]]", [["1", "2.5"]]),
        ("[[1,2],[3,4]", [["1", "2", "3", "4"]]),
    ],
)  # fmt: skip
def test_lists_of_rows(text: str, rows: list[list[str]] | None) -> None:
    assert listed_rows(text) == rows


@pytest.mark.parametrize(
    ("text", "words"),
    [("ab", True), ("a", False), ("xx", False), ("xo", False), ("xoab", False), ("xabc", True), ("bego", False),
     ("X1Y", False),
     ("begoh", True), ("1a2b", False), ("é", False), ("éa", True), ("a_b", False)],
)  # fmt: skip
def test_words_are_letters_that_no_row_has(text: str, words: bool) -> None:
    assert has_words(text) is words


# -- grids of one's own -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "spaces", "rows"),
    [
        ("AB\nBA", False, ["AB", "BA"]), ("A B\nB A", False, ["AB", "BA"]), ("A,B;A\n", False, ["ABA"]),
        (" A \n\nB", False, ["A", "B"]),
        ("\r\nA B\r\n B \r\n", True, ["A B", " B "]), ('["AB", "BA"]', False, ["AB", "BA"]),
        ("[[1, 0]]", False, ["10"]),
        ("[1, 0]", False, ["10"]), ('["A", [1]]', False, ["A", "1"]), ("[A", False, ["[A"]),
        ("[true]", False, [["true"]]),
    ],
)  # fmt: skip
def test_rows_of_ones_own(text: str, spaces: bool, rows: list[object]) -> None:
    assert read_rows(text, spaces) == [row if isinstance(row, list) else list(str(row)) for row in rows]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ABABA", "5 cells in one line, expected a grid of 2x3"), ("ABA", "3 cells in one line"),
        ("ABA\nBAB\nABA", "3 rows, expected 2"),
        ("ABA\nBA", "row 2: 2 cells, expected 3"), ("ABA\nBAk", "row 2, cell 3: 'k'"),
        ("ABA\nBAĀ", "row 2, cell 3: 'Ā'"),
    ],
)  # fmt: skip
def test_grids_of_ones_own_that_are_none(text: str, found: str) -> None:
    with pytest.raises(GridParseError, match=found):
        OWN.parse(text)


def test_symbols_of_ones_own_are_numbers_where_they_can_be() -> None:
    for question, answer, symbols in (
        (["0", "255"], ["7"], (0, 255, 7)), (["0", "256"], ["7"], (0, 1, 2)), ("aÿ", "b", (97, 255, 98)),
        ("aĀ", "b", (0, 1, 2)), (["01"], ["1"], (0, 1)), ("%:", "a", (37, 58, 97)),
    ):  # fmt: skip
        task = get(own_grid_name(1, 2, list(question), list(answer)))
        assert task.symbols == symbols
        assert task.parse_answer(Puzzle(task.name, ()), " ".join([answer[0]] * 2))[0].tolist() == [
            [symbols[-1]] * 2
        ]
    many = [chr(0x4E00 + n) for n in range(256)]
    assert len(get(own_grid_name(1, 1, many[:255], many[:1])).symbols) == 255
    with pytest.raises(PuzzleError, match="256 different symbols"):
        own_grid_name(1, 1, many, many[:1])
    assert [lacks_symbols(name) for name in ("grid", "grid:2x3", OWN.name, "maze")] == [
        True,
        True,
        False,
        False,
    ]
    assert OWN.violations(codes("..."), codes("AB."))[0].cells == ((0, 2),)
    assert OWN.answer_json((codes("AB"),), ()) == "AB"
    assert OWN.parse("ABABAB").grid.tolist() == OWN.parse("A B A\nB A B").grid.tolist()
    with pytest.raises(PuzzleError, match="1x2, expected one of 2x3"):
        OWN.validate(Puzzle(OWN.name, (codes("AB"),)))
    with pytest.raises(PuzzleError, match="symbol 107"):
        OWN.validate(Puzzle(OWN.name, (codes("ABk", "AAA"),)))


# -- ARC ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[1, 2], [3, 4]], "12 34"), (["12", "34"], "12 34"), ([[1.0, "2"]], "12"),
        ("1 2\n3 4", "12 34"), ("12\n34", "12 34"),
        ("1,2", "12"), ([[0] * 30] * 30, " ".join(["0" * 30] * 30)),
    ],
)  # fmt: skip
def test_colours_in_each_form(rows: object, expected: str) -> None:
    assert read_grid(rows).tolist() == [list(map(int, row)) for row in expected.split()]


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([[1], [2, 3]], "row 2: 2 cells, expected 1"), ([[10]], "cell 1: 10"), ([[-1]], "cell 1: -1"),
        ([[300]], "300"), ([["x"]], "'x'"),
        ([["12"]], "'12'"), ([[1.5]], "1.5"), ([[True]], "True"), ([], "list of rows"),
        ([[]], "list of rows"), ([1], "list of rows"),
        ([[0] * 31], "1x31"), ([[0]] * 31, "31x1"), ("1\n\n2", "list of rows"), (["0" * 31], "1x31"),
        ([[None]], "None"),
    ],
)  # fmt: skip
def test_colours_that_are_none(rows: object, found: str) -> None:
    with pytest.raises(GridParseError, match=found):
        read_grid(rows)


@pytest.mark.parametrize(
    ("data", "name", "expected"),
    [
        ([[1]], "", ["1"]), ([[[1]], [[2]]], "", ["1", "2"]),
        ([[[[1]], [[3]]], [[[2]]]], "", ["1", "2"]), ({"a": [[1]]}, "a", ["1"]),
        ({"a": [[1]]}, "b", ["1"]), ({"a": [[1]], "b": [[2]]}, "b", ["2"]),
        ([{"attempt_1": [[5]], "attempt_2": [[6]], "x": [[7]]}], "", ["5"]),
        ([{"attempt_2": [[6]], "attempt_1": [[5]]}], "", ["5"]), (["12", "34"], "", ["1234"]),
    ],
)  # fmt: skip
def test_answers_in_json(data: object, name: str, expected: list[str]) -> None:
    puzzle = Puzzle("arc", (grid("1"),) * len(expected), name)
    found = ARC.parse_answer(puzzle, json.dumps(data))
    assert ["".join(map(str, answer.reshape(-1))) for answer in found] == expected


# -- views of tasks -----------------------------------------------------------------------------------------
def test_views_have_room_for_the_outputs_to_expect() -> None:
    wide = Puzzle("arc", (grid("12"),), demos=((grid("12"), grid("1212")), (grid("12"), grid("1"))))
    assert longest_test_side(wide) == 4
    assert longest_test_side(replace(wide, demos=wide.demos[1:])) == 2
    assert np.flatnonzero(
        exchangeable_colours(replace(wide, demos=((grid("0129"), grid("5")),)))
    ).tolist() == [1, 2, 9]
    rng = np.random.default_rng(0)
    views = [draw_task_view(wide, rng, side=12, enlarged=True) for _ in range(200)]
    assert {view.scale for view in views} == {1, 2, 3}
    assert {view.turn for view in views} == set(range(8))
    assert sum(view.scale == 1 for view in views) > 100
    assert (
        max(view.top + 4 * view.scale for view in views)
        == max(view.left + 4 * view.scale for view in views)
        == 12
    )
    assert {draw_task_view(wide, rng, side=7, enlarged=True).scale for _ in range(40)} == {1}
    assert {draw_task_view(wide, rng, side=12).scale for _ in range(40)} == {1}
    assert {
        (v.top, v.left, v.scale) for v in (draw_task_view(wide, rng, enlarged=True) for _ in range(9))
    } == {(0, 0, 1)}
    assert max(draw_task_view(wide, rng, side=12, least=11).top for _ in range(40)) == 1
    kept = [draw_task_view(wide, rng, recolour=0.0).colours.tolist() == list(range(256)) for _ in range(20)]
    assert all(kept)
    assert len({tuple(draw_task_view(wide, rng).colours[1:3]) for _ in range(20)}) == 2
    group = SymmetryGroup(np.arange(2)[None], np.arange(2)[None], transpose=True)
    assert len(list(group.without_renaming())) == 2
