"""Notations of mazes taken apart one by one: symbols, rows, frames, doubled cells, openings, ends and answers."""

from __future__ import annotations

import numpy as np
import pytest

from trm.grid import GridParseError, PuzzleError
from trm.tasks import Puzzle, get
from trm.tasks.maze import text as written
from trm.tasks.maze.rows import grouped, parts, read_alike, rows_of
from trm.tasks.maze.rules import Field, are_joined, reachable, wall_up_paths
from trm.tasks.maze.solver import shortest_path

MAZE = get("maze")
WALLED = ["#######", "#S  # #", "### # #", "#     #", "# #####", "#    G#", "#######"]
TEXT = "\n".join(WALLED)
GRID = MAZE.parse(TEXT).grid
SMALL = ["S #", "  #", "# G"]


def drawn(wall: str, free: str, start: str = "S", goal: str = "G") -> str:
    return TEXT.translate({ord("#"): wall, ord(" "): free, ord("S"): start, ord("G"): goal})


def codes(*rows: str) -> np.ndarray:
    return np.array([[ord(c) for c in row] for row in rows], dtype=np.uint8)


def said(text: str) -> str:
    with pytest.raises(GridParseError) as raised:
        MAZE.parse(text)
    return str(raised.value)


# -- symbols -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("wall", [*"#█▓■◼🧱🟫", *"⬛⬜1Wk"])
@pytest.mark.parametrize("free", [*" ._·◻□⬜0"])
def test_every_wall_and_free_cell(wall: str, free: str) -> None:
    if wall != free:
        assert MAZE.text((MAZE.parse(drawn(wall, free)).grid,)) == TEXT


@pytest.mark.parametrize("ends", ["SG", "sg", "AE", "Be", "@F", "qf", "IT", "SX", "PQ", "23"])
def test_every_start_and_goal(ends: str) -> None:
    assert MAZE.text((MAZE.parse(drawn("#", " ", *ends)).grid,)) == TEXT
    assert MAZE.text((MAZE.parse(drawn("#", ".", *ends)).grid,)) == TEXT


@pytest.mark.parametrize("mark", [*"oOxX*+•@v^<>"])
def test_every_mark_of_a_path_is_taken_for_free_with_a_note(mark: str) -> None:
    rows = ["#######", "#Soo# #", "###o# #", "#ooo  #", "#o#####", "#ooooG#", "#######"]
    grid, (note,) = written.read("\n".join(rows).replace("o", mark))
    assert MAZE.text((grid,)) == TEXT
    assert " 11 cells" in note
    stray = TEXT.replace("# #", f"#{mark}#", 1)
    assert f"row 2, cell 6: {mark!r}" in said(stray)


def test_part_of_a_path_is_a_path_where_it_is_written_as_answers_are() -> None:
    assert MAZE.parse(TEXT.replace("S  ", "So ")).notes
    assert "row 2, cell 3: 'x'" in said(TEXT.replace("S  ", "Sx "))


@pytest.mark.parametrize("role", ["wall", "a wall", "the Wall"])
@pytest.mark.parametrize("between", [" = ", ": ", " is ", " for ", " means ", " ("])
def test_a_legend_gives_symbols_their_meaning(role: str, between: str) -> None:
    text = drawn("w", "p", "b", "e")
    legend = "\n".join(
        f"'{c}'{between}{words}" for c, words in (("p", "path"), ("b", "start"), ("e", "the end"))
    )
    assert written.share(f"'w'{between}{role}\n```\n{text}\n```") == pytest.approx(0.99)
    grid, _ = written.read(f"```\n{text}\n```\n'w'{between}{role}\n{legend}")
    assert MAZE.text((grid,)) == TEXT


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("S.#\n _#\n#.G", "both"), ("S##\n.k#\n.mG", "row 2, cell 2: 'k'"), ("S##\n..#\n#..", "0 G"),
        ("200\n100\n003", "no closed outer wall"), ("", "an empty maze"), ("S\n\nG", "row 2: 0 cells"),
        ("S  \n####\n  G", "row 2: 4 cells, expected 3"), ("S", "maze of 1x1"), ("SG", "2x2"),
        ("S G\n", "maze of 1x3"),
        ("###\n#S#\n##", "row 3: 2 cells"), ("S #\n #\n# G", "row 2: 2 cells"),
    ],
)  # fmt: skip
def test_what_is_not_certain_is_said(text: str, found: str) -> None:
    if found == "0 G":
        with pytest.raises(PuzzleError, match="0 G"):
            MAZE.validate(MAZE.parse(text))
    else:
        assert found in said(text)


@pytest.mark.parametrize(
    ("text", "share"),
    [
        (TEXT, 1.0), ("#S G", 1.0), ("hello", 0.0), ("a maze of words\nand more", 0.0), ("", 0.0),
        ("SGSG", 1.0),
        (drawn("#", "."), 0.99), ("XOXO", 0.0), ("XO\nOX", 0.99), ("1203", 0.99), ("1204", 0.0),
        ("12k3\n0120", 0.99 * 7 / 8),
        (drawn("⬛", "⬜", "🚶", "🏠"), 0.99), ("⬛⬜🚶🏠⬆⬇", 0.99), ("⬛⬜🚶🏠⬆⬇🎈", 0.99 * 2 / 7),
        ("#######\n#house#\n#######", 0.99 * 19 / 21), ("[S, #]", 1.0), ("'S' \"#\"", 1.0),
    ],
)  # fmt: skip
def test_the_share_of_a_mazes_symbols(text: str, share: float) -> None:
    assert written.share(text) == pytest.approx(share, abs=1e-3)


# -- rows --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("ab\ncd", "ab cd"), ("ab|cd", "ab cd"), ("ab/cd", "ab cd"), ("ab;cd", "ab cd"), ("ab,cd", "ab cd"),
        ("ab\\ncd", "ab cd"), ("a|b", "a|b"), ("ab|c", "ab|c"), ("\n\nab\ncd\n\n", "ab cd"),
        ("ab\r\ncd", "ab cd"),
        ("a,b\nc,d", "ab cd"), ("a;b\nc;d", "ab cd"), ("a\tb\nc\td", "ab cd"), ("a b\nc d", "ab cd"),
        ("\tab\n\tcd", "ab cd"), ("ab\n  cd\n  ef", "ab cd ef"), ("[['a','b'],['c','d']]", "ab cd"),
        ('["ab", "cd"]', "ab cd"), ("```\nab\ncd\n```", "ab cd"),
        ("[[1, 2], [3, 4]]", "12 34"), ("a", "a"),
    ],
)  # fmt: skip
def test_rows_in_each_form(text: str, rows: str) -> None:
    found = ["".join(row) for row in rows_of(text)]
    assert found == rows.split()


@pytest.mark.parametrize("cell", [2, 3, 4])
def test_frames_have_cells_of_any_width(cell: int) -> None:
    """Of a maze with lines between its cells."""
    dash, gap = "-" * cell, " " * cell

    def inside(symbol: str) -> str:
        return symbol.center(cell)

    rows = [
        f"+{dash}+{dash}+{dash}+",
        f"|{inside('S')} {gap}|{gap}|",
        f"+{dash}+{gap}+{gap}+",
        f"|{gap} {gap} {inside('G')}|",
        f"+{dash}+{dash}+{dash}+",
    ]
    grid = MAZE.parse("\n".join(rows)).grid
    assert MAZE.text((grid,)).split("\n") == ["#######", "#S  # #", "### # #", "#    G#", "#######"]
    for broken in (
        rows[:-1],
        [*rows[:2], rows[2].replace("+", "x"), *rows[3:]],
        [rows[0], "|" + "ab" * 9, *rows[2:]],
    ):
        assert said("\n".join(broken))


def test_spaces_lost_at_line_ends_come_back_where_a_wall_is_whole() -> None:
    rows = ["#####", "#S   ", "# # #", "#  G ", "#####"]
    grid, (note,) = written.read("\n".join(row.rstrip() for row in rows))
    assert MAZE.text((grid,)).split("\n") == rows
    assert "2, 4" in note
    lost = ["#####", "#S  #", "#   #", "#  G", "#####"]  # a wall with a single opening has rather lost a cell
    assert "row 4: 4 cells, expected 5" in said("\n".join(lost))
    kept = ["#####", "#S   ", "#   #", "#  G", "#####"]  # others kept theirs
    assert "row 4: 4 cells" in said("\n".join(kept))
    dots = ["#####", "#S...", "#.#", "#..G#", "#####"]
    assert "row 3: 3 cells" in said("\n".join(dots))


@pytest.mark.parametrize(
    ("texts", "places"),
    [
        (["ab\ncd", "ef\ngh", "abcd"], {(2, 2): [0, 1, 2]}), (["abc\ndef"], {(2, 3): [0]}), (["abc"], {}),
        (["abc\nde"], {}), (["\nab"], {}), (["", "a"], {(0, 0): [0], (1, 1): [1]}),
        (["a\nb\nc"], {(3, 1): [0]}),
    ],
)  # fmt: skip
def test_texts_are_grouped_by_their_size(texts: list[str], places: dict[tuple[int, int], list[int]]) -> None:
    assert grouped(texts) == places


def test_texts_of_a_size_are_read_together() -> None:
    texts = ["ab\nba", "abba", "abxa", "ab ba", "ab\nb\na", "é\nab", "ab\nbaa", "aéba"]
    known, grids = read_alike(texts, 2, 2, "ab")
    assert known.tolist() == [True, True, False, False, False, False, False, False]
    assert grids[0].tolist() == grids[1].tolist() == [[97, 98], [98, 97]]
    assert not grids[6].any()


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        ([["S G"], ["S G"]], ["S G", "S G"]), ([["S "], [" G"]], ["S \n\n G"]),
        ([["SG"], [" G"]], ["SG", " G"]),
        ([["S "], ["SG"]], ["S ", "SG"]), ([["  "], ["SG"]], ["  ", "SG"]),
        ([["S ", "# "], ["  "]], ["S \n# ", "  "]),
    ],
)  # fmt: skip
def test_a_block_with_the_start_and_one_with_the_goal_are_one(
    blocks: list[list[str]], expected: list[str]
) -> None:
    numbered = [[(10 * n + at, line) for at, line in enumerate(block)] for n, block in enumerate(blocks)]
    found = parts(numbered)
    assert [text for _, text in found] == expected
    assert [number for number, _ in found] == [10 * n for n in range(len(expected))]


# -- flat, openings and ends ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("line", "width"),
    [
        ("S  G", 2), ("S G#     ", 3), ("#" * 12 + "S" + "#" * 12, 5), ("S", 0), ("abcd", 0), ("SG", 0),
        ("####" + "#SG#" + "####", 4), ("###" + "#S#" + "# #" + "#G#" + "###", 3), ("#" * 12, 0),
        ("#S#G##", 0),
        ("####" + "#S #" + " # #" + "####" + "####", 0),
    ],
)  # fmt: skip
def test_the_width_of_a_maze_in_one_line(line: str, width: int) -> None:
    assert MAZE.flat_shape(line) == width  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("rows", "ends"),
    [
        (["# ###", "#   #", "### #"], (0, 1, 2, 3)), (["#####", "    #", "### #"], (1, 0, 2, 3)),
        (["# #", "# #", "# #"], (0, 1, 2, 1)), (["#  ##", "#   #", "#####"], None),
        (["# ###", "#   #", "#####"], None),
        (["# # #", "#   #", "### #"], None), (["# ", " #"], None),
    ],
)  # fmt: skip
def test_two_openings_of_the_outer_wall_are_the_ends(rows: list[str], ends: tuple[int, ...] | None) -> None:
    grid, notes = written.read("\n".join(rows))
    found = [tuple(np.argwhere(grid == ord(c))[0].tolist()) for c in "SG" if (grid == ord(c)).any()]
    assert sum(found, ()) == (ends or ())
    assert bool(notes) == bool(ends)


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        (((1, 1), (5, 5), 0), "1155"), (((2, 2), (6, 6), 1), "1155"), (((1, 3), (3, 5), 0), "1335"),
        (((1, 1), (5, 5), None), "1155"), (((3, 1), (3, 3), None), None), (((0, 0), (5, 5), None), None),
        (((1, 1), (1, 1), 0), None), (((1, 1), (7, 7), 0), None), (((-1, 1), (5, 5), 0), None),
    ],
)  # fmt: skip
def test_ends_beside_a_maze_need_a_single_meaning(ends: tuple, expected: str | None) -> None:  # type: ignore[type-arg]
    if expected is None:
        with pytest.raises(GridParseError, match="start"):
            written.with_ends(GRID, ends)
    else:
        moved = written.with_ends(GRID, ends)
        places = [np.argwhere(moved == ord(c)).tolist() for c in "SG"]
        assert "".join(str(n) for (place,) in places for n in place) == expected


# -- answers -------------------------------------------------------------------------------------------------------
SHORT = Puzzle("maze", (codes("#S #", "#  #", "# G#"),))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#So#\n# o#\n# G#", "#So#\n# o#\n# G#"), ("#So## o## G#", "#So#\n# o#\n# G#"),
        ("█So█\n█.o█\n█.G█", "#So#\n# o#\n# G#"),
        ("#S*#\n# *#\n# G#", "#So#\n# o#\n# G#"), ("#→↓#\n#.↓#\n#.G#", "#So#\n# o#\n# G#"),
        ("1201\n1 01\n1 31", "#So#\n# o#\n# G#"),
        ("[[0,1],[0,2],[1,2],[2,2]]", "#So#\n# o#\n# G#"),
        ("[[1,2],[1,3],[2,3],[3,3]]", "#So#\n# o#\n# G#"),
        ("[[2,2],[1,2],[1,1],[0,1]]", "#S #\n#oo#\n# G#"),
        ("[[1,0],[2,0],[2,1],[2,2]]", "#So#\n# o#\n# G#"),
        ("#So\n# o\n# G", "#So \n# o \n# G "), ("#So#\r\n# o#\r\n# G#\r\n", "#So#\n# o#\n# G#"),
    ],
)  # fmt: skip
def test_answers_in_each_notation(text: str, expected: str) -> None:
    assert MAZE.text(MAZE.parse_answer(SHORT, text)) == expected


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[[0,1],[0,0]]", "2 cells"), ("[[0,2],[1,2],[2,2]]", "3 cells"), ("[[0,1],[9,9]]", "2 cells"),
        ("#So#\n# o#", "2 rows, expected 3"), ("#So#\n# o#\n# G#\n    \n#", "5 rows"),
        ("#So#\n# o##\n# G#", "row 2: 5 cells"),
        ("#So#\n# k#\n# G#", "row 2, cell 3: 'k'"),
    ],
)  # fmt: skip
def test_answers_that_are_none_are_named(text: str, found: str) -> None:
    with pytest.raises(GridParseError, match=found.replace("(", "\\(")):
        MAZE.parse_answer(SHORT, text)


# -- rules ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("rows", "joined"),
    [
        (["Soo", "  o", "  G"], True), (["So ", "  o", "  G"], False), (["Soo", "o o", "  G"], False),
        (["Soo", " #o", "  G"], False), (["S o", "  o", "  G"], False), (["ooo", "  o", "  G"], False),
    ],
)  # fmt: skip
def test_a_marked_path_proves_that_the_ends_are_joined(rows: list[str], joined: bool) -> None:
    question = codes("S  ", "   ", "  G")
    assert are_joined(question[None], codes(*rows)[None]).tolist() == [joined]
    walled = codes("S# ", "   ", "  G")
    assert are_joined(walled[None], codes("Soo", "  o", "  G")[None]).tolist() == [False]


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_winding_ways_are_found_in_every_direction(turns: int) -> None:
    rows = ["S      ", "###### ", "       ", " ######", "       ", "###### ", "G      "]
    grid = np.rot90(codes(*rows), turns)
    open_cells = np.stack([grid != 35, (grid != 35) & (grid != 32)])
    starts, goals = (np.stack([grid == ord(c)] * 2) for c in "SG")
    assert reachable(open_cells, starts, goals).tolist() == [True, False]
    ends = [tuple(np.argwhere(grid == ord(c))[0].tolist()) for c in "SG"]
    assert Field.of(grid != 35).moves(ends[0], ends[1]) == 6 * 3 + 6 + 6


def test_paths_are_walled_up_until_none_is_left() -> None:
    maze = codes("S  ", "   ", "  G")
    found, known = maze, []
    for _ in range(6):
        label = shortest_path(found)
        assert label is not None
        known.append([tuple(cell) for cell in np.argwhere(label == ord("o")).tolist()])
        walled = wall_up_paths(maze, known, np.random.default_rng(0))
        if walled is None:
            break
        assert all(any(walled[cell] == 35 for cell in path) for path in known)
        assert Field.of(walled != 35).moves((0, 0), (2, 2)) == 4
        found = walled
    assert len(known) == 6
    assert walled is None
    assert wall_up_paths(maze, [], np.random.default_rng(0)) is not None
