"""What every task says of itself: drawings cell by cell, words, tokens, limits, choices."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import EntryPoint

import numpy as np
import pytest

from trm.grid import Grid, PuzzleError, character, first_line, shape_words, shorten
from trm.tasks import Puzzle, Status, Verdict, bucket, describe, detect_grid, get, registry
from trm.tasks.arc.task import Arc
from trm.tasks.base import IGNORE, Cell

SUDOKU, FOUR, MAZE, ARC = (get(name) for name in ("sudoku", "sudoku4", "maze", "arc"))
OWN = get("grid:2x3:.AB:AB")


def codes(*rows: str) -> Grid:
    return np.array([[ord(c) for c in row] for row in rows], dtype=np.uint8)


def grid(*rows: str) -> Grid:
    return np.array([[int(c) for c in row] for row in rows], dtype=np.uint8)


SMALL = Puzzle("sudoku4", (grid("1000", "0020", "0300", "0004"),))
WRONG = grid("1234", "3421", "4301", "2144")
WALLED = Puzzle("maze", (codes("S #", "  #", "# G"),))


# -- drawings ----------------------------------------------------------------------------------------------------
def test_a_sudoku_is_drawn_with_its_boxes() -> None:
    assert FOUR.render(SMALL) == "1 . | . .\n. . | 2 .\n----+----\n. 3 | . .\n. . | . 4"
    assert FOUR.render(SMALL, (WRONG,)) == "1 2 | 3 4!\n3 4 | 2 1!\n----+----\n4 3 | .!1!\n2 1 | 4!4!"
    first = FOUR.render(SMALL, (WRONG,), colour=True).split("\n")[0]
    assert first == "\x1b[1m1\x1b[0m \x1b[36m2\x1b[0m | \x1b[36m3\x1b[0m \x1b[1;31m4\x1b[0m"
    assert FOUR.render(SMALL, (grid("12"),)) == "12"
    six = get("sudoku6").samples()[0]
    assert get("sudoku6").render(six).split("\n")[2] == "------+------"


def test_a_maze_is_drawn_with_what_is_wrong() -> None:
    assert MAZE.render(WALLED) == "S #\n  #\n# G"
    assert MAZE.render(WALLED, (codes("So#", " o#", "#oG"),)) == "So#\n o#\n#oG"
    assert MAZE.render(WALLED, (codes("So#", " k#", "# G"),)) == "So#\n !#\n# G"
    assert MAZE.render(WALLED, (codes("SG"),)) == "SG"
    wall, path, red = "\x1b[90m██\x1b[0m", "\x1b[32m██\x1b[0m", "\x1b[31m██\x1b[0m"
    start, goal = "\x1b[1;33mS \x1b[0m", "\x1b[1;33mG \x1b[0m"
    drawn = MAZE.render(WALLED, (codes("So#", "ko#", "#oG"),), colour=True)
    assert drawn == f"{start}{path}{wall}\n{red}{path}{wall}\n{wall}{path}{goal}"
    assert MAZE.render(replace(WALLED, inputs=(codes("S k", "  G"),)), None, colour=True).count("  ") == 4


def test_arc_is_drawn_side_by_side() -> None:
    puzzle = Puzzle("arc", (grid("12"), grid("3")), demos=((grid("1", "2"), grid("34")),))
    assert ARC.render(puzzle) == "demonstration 1\n1  →  3 4\n2\n\ntest 1\n1 2\n\ntest 2\n3"
    assert ARC.render(puzzle, (grid("7"), grid("8", "9"))) == "1 2  →  7\n\n3  →  8\n      9"
    coloured = ARC.render(puzzle, colour=True).split("\n")[-1]
    assert coloured == "\x1b[48;2;46;204;64m  \x1b[0m"
    assert ARC.cells(grid("09")) == [[Cell("", "colour", "#000000"), Cell("", "colour", "#870c25")]]


def test_cells_say_what_was_given() -> None:
    question, answer = grid("10"), grid("12")
    assert SUDOKU.cells(question) == [[Cell("1", "given"), Cell("", "blank")]]
    assert SUDOKU.cells(answer, question) == [[Cell("1", "given"), Cell("2", "filled")]]
    assert [[cell.kind for cell in row] for row in MAZE.cells(codes("# SGok"))] == [
        ["wall", "free", "start", "goal", "path", "free"]
    ]
    assert "".join(cell.text for cell in MAZE.cells(codes("# SGok"))[0]) == "SGo?"
    own = OWN.parse("A.B\nBA.")
    assert [cell.kind for cell in OWN.cells(codes("AAB")[0][None], codes("A.B"))[0]] == [
        "given",
        "filled",
        "given",
    ]
    assert OWN.render(own, (codes("ABk", "AAA"),)) == "AB?\nAAA"


# -- words -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sudoku4", ["digits 1 to 4", "every 2x2 box", "each digit exactly", "four lines of four digits"]),
        ("sudoku6", ["digits 1 to 6", "every box of 2 rows and 3 columns", "six lines of six digits"]),
        ("sudoku", ["digits 1 to 9", "9x9 grid", "every 3x3 box", "nine lines of nine digits"]),
        (
            "sudoku16",
            ["symbols 1 to 9 and A to G", "each symbol exactly", "sixteen lines of sixteen symbols"],
        ),
        ("grid:2x3:.AB:AB", ["2 rows of 3 cells", "symbols A B."]),
    ],
)
def test_rules_name_size_and_symbols(name: str, words: list[str]) -> None:
    assert [word for word in words if word not in get(name).rules] == []


@pytest.mark.parametrize("name", ["sudoku", "sudoku4", "sudoku6", "sudoku16", "maze", "arc"])
def test_tasks_name_their_modules_and_recipes(name: str) -> None:
    task = get(name)
    solver = registry.solver_of(task)
    assert (solver is None) == (name == "arc")
    if solver is not None:
        puzzle = task.samples()[0]
        solved = solver(puzzle)
        assert solved is not None
        assert task.check(puzzle, solved).status is Status.VERIFIED
    assert task.generator is not None
    assert __import__(task.generator, fromlist=["generate"]).generate
    side = name.removeprefix("sudoku") if name.startswith("sudoku") else ""
    assert task.recipe == (f"configs/{name}.toml" if side else "")
    assert task.generator_arguments == ((task.height,) if name.startswith("sudoku") else ())
    options = {
        "sudoku": {"clues": (22, 25), "guesses": (15, 2000)},
        "maze": {"height": (5, 7), "min_path": 6},
    }
    assert task.comparison_options == options.get(name, {"size": (3, 5)} if name == "arc" else {})


@pytest.mark.parametrize(
    ("verdict", "most", "words"),
    [
        (Verdict(Status.VERIFIED), 3, "verified"),
        (Verdict(Status.UNSOLVED, ("a", "b")), 3, "unsolved: a; b"),
        (Verdict(Status.UNSOLVED, ("a", "b", "c")), 3, "unsolved: a; b; c"),
        (Verdict(Status.UNSOLVED, ("a", "b", "c")), 1, "unsolved: a; and 2 more"),
    ],
)  # fmt: skip
def test_a_verdict_in_one_line(verdict: Verdict, most: int, words: str) -> None:
    assert describe(verdict, most) == words


def test_symbols_and_shapes_in_words() -> None:
    assert "".join(map(character, [0, 9, 10, 31, 32, 65])) == "09AV A"
    assert (shape_words(grid("123")), shorten("a" * 41), shorten("a" * 40)) == (
        "1x3",
        repr("a" * 40 + "..."),
        repr("a" * 40),
    )
    assert (first_line(ValueError("a\nb")), first_line(ValueError())) == ("a", "ValueError")
    assert SUDOKU.differences((grid("12"),), (grid("19"),)) == ("row 1, column 2: 9 instead of 2",)
    assert MAZE.differences((codes("# "),), (codes("#o"),)) == ("row 1, column 2: 'o' instead of ' '",)
    assert (
        get("sudoku16")
        .differences((np.array([[31]], np.uint8),), (np.array([[16]], np.uint8),))[0]
        .endswith(": G instead of V")
    )
    assert SUDOKU.differences((grid("12"),), (grid("1"),)) == ()
    assert [bucket(n, (5, 9)) for n in (4, 5, 8, 9)] == ["under 5", "5 to 8", "5 to 8", "9 or more"]


@pytest.mark.parametrize("givens", [3, 4, 5, 6, 7, 8])
def test_givens_of_small_sudokus_are_a_share_of_their_cells(givens: int) -> None:
    cells = np.zeros(16, dtype=np.uint8)
    cells[:givens] = 1
    edges = [4, 5, 6, 6, 8]
    assert FOUR.difficulty(Puzzle("sudoku4", (cells.reshape(4, 4),)))["givens"] == bucket(givens, edges)


@pytest.mark.parametrize("moves", [9, 10, 19, 20, 49, 50, 109, 110, 129, 130])
def test_mazes_go_by_their_moves(moves: int) -> None:
    answer = np.full((1, 150), 32, dtype=np.uint8)
    answer[0, : moves - 1] = ord("o")
    puzzle = Puzzle(
        "maze", (np.full((1, 150), 32, dtype=np.uint8),), answers=(answer,), meta={"rating": moves}
    )
    edges, ratings = (10, 20, 50, 110, 130), (1, 10, 30, 60, 100)
    assert MAZE.difficulty(puzzle) == {"path": bucket(moves, edges), "rating": bucket(moves, ratings)}


# -- rules and tokens ------------------------------------------------------------------------------------------------
def test_answers_of_another_kind_are_no_answers() -> None:
    assert FOUR.check(SMALL, WRONG[:2]).violations == ("grid of 2x4, expected 4x4",)
    assert FOUR.check(SMALL, (WRONG, WRONG)).violations == ("2 grids, expected 1",)
    assert "float" in FOUR.check(SMALL, WRONG.astype(float)).violations[0]  # type: ignore[arg-type]
    assert FOUR.check(SMALL, WRONG.astype(np.int64)).status is Status.UNSOLVED  # type: ignore[arg-type]
    two = Puzzle("arc", (grid("1"), grid("2")))
    assert ARC.check(two, (grid("1"), np.zeros((31, 1), np.uint8))).violations[0].startswith("output 2: ")
    changed = FOUR.check(SMALL, grid("2200", "0000", "0000", "0000")).violations
    assert "given 1 at row 1, column 1 was changed to 2" in changed
    assert "given 2 at row 2, column 3 was blanked" in changed
    assert "row 1 has 2 twice" in changed
    assert FOUR.check(SMALL, WRONG + 250).status is Status.UNSOLVED
    assert SUDOKU.violations(np.zeros((9, 9), np.uint8), np.full((9, 9), 10, np.uint8))[0].words.startswith(
        "row 1, column 1 holds 10"
    )


@pytest.mark.parametrize("name", ["sudoku", "sudoku4", "sudoku6", "sudoku16"])
def test_grids_without_a_symbol_twice_are_sound(name: str) -> None:
    task = get(name)
    puzzle = task.samples()[0]
    size = task.size  # type: ignore[attr-defined]
    whole = (puzzle.answers or ())[0].reshape(-1)
    several = np.stack([whole, whole * 0, puzzle.grid.reshape(-1), whole, whole])
    several[3, 0], several[4, -1] = whole[1], whole[-2]
    assert size.are_sound(several).tolist() == [True, True, True, False, False]
    assert size.are_sound(several[3:4]).tolist() == [False]
    assert size.words == f"{task.height}x{task.height}"
    assert size.symbols == "123456789ABCDEFG"[: task.height]


def test_tokens_say_what_does_not_fit() -> None:
    with pytest.raises(PuzzleError, match="5x4, expected at most 4x4"):
        FOUR.encode(np.zeros((5, 4), np.uint8))
    with pytest.raises(PuzzleError, match="row 2, cell 3: symbol 5"):
        FOUR.encode(grid("1234", "0050"))
    with pytest.raises(PuzzleError, match="a canvas of 5x5, expected 4x4"):
        FOUR.on(5)
    with pytest.raises(PuzzleError, match="row 1, column 0"):
        FOUR.at(1, 0)
    with pytest.raises(PuzzleError, match="row 0, column 1"):
        FOUR.at(0, 1)
    with pytest.raises(PuzzleError, match="start and goal"):
        FOUR.with_ends(SMALL, ((0, 0), (1, 1), 0))
    with pytest.raises(PuzzleError, match="draft of 1x4, expected 4x4"):
        FOUR.encode_draft(SMALL, grid("1234"))
    with pytest.raises(PuzzleError, match="no answer"):
        FOUR.encode_label(SMALL)
    assert FOUR.on(4) is FOUR
    assert FOUR.at(0, 0) is FOUR
    assert FOUR.encode(grid("12")).reshape(4, 4)[:2].tolist() == [[2, 3, 0, 0], [0, 0, 0, 0]]
    assert FOUR.encode_draft(SMALL, SMALL.grid).max() == 5
    assert (FOUR.encode_label(replace(SMALL, answers=(grid("12"),))) == IGNORE).sum() == 14
    assert FOUR.decode(SMALL, np.arange(16) % 6).tolist()[0] == [0, 0, 1, 2]
    assert MAZE.accepts_grid(codes("S G"))
    assert not MAZE.accepts_grid(codes("S k"))


def test_grids_elsewhere_on_the_canvas() -> None:
    task = Arc(5).at(1, 2)
    drawn = task.encode(grid("12", "34")).reshape(5, 5)
    assert drawn.tolist() == [[0] * 5, [0, 0, 3, 4, 1], [0, 0, 5, 6, 1], [0, 0, 1, 1, 0], [0] * 5]
    assert task.decode(ARC.samples()[0], drawn.reshape(-1)).tolist() == [[1, 2], [3, 4]]
    assert Arc(5).at(3, 3).encode(grid("12", "34")).reshape(5, 5)[3:, 3:].tolist() == [[3, 4], [5, 6]]
    for place in ((4, 0), (0, 4)):
        with pytest.raises(PuzzleError, match="2x2 at row"):
            Arc(5).at(*place).encode(grid("12", "34"))


def test_choices_and_free_cells() -> None:
    assert FOUR.choices(SMALL) == tuple(
        tuple((cell,) if cell else (1, 2, 3, 4) for cell in row) for row in SMALL.grid.tolist()
    )
    assert ARC.choices(ARC.samples()[0]) is None
    assert FOUR.free_cells(SMALL.grid, WRONG).sum() == 12
    assert ARC.free_cells(grid("1"), grid("12")).tolist() == [[True, True]]
    nothing = Arc().symmetries((2, 3))
    assert (nothing.rows.tolist(), nothing.cols.tolist(), nothing.transpose) == ([[0, 1]], [[0, 1, 2]], False)
    assert SUDOKU.exclude_solutions(SMALL, [], np.random.default_rng(0)) is SMALL


@pytest.mark.parametrize(
    ("array", "name"),
    [
        (np.zeros((9, 9), np.uint8), "sudoku"), (np.full((9, 9), 9, np.uint8), "sudoku"),
        (codes("S G"), "maze"),
        (np.zeros((4, 4), np.uint8), "sudoku4"), (np.zeros((6, 6), np.uint8), "sudoku6"),
        (np.full((16, 16), 16, np.uint8), "sudoku16"), (np.full((9, 9), 10, np.uint8), None),
        (np.full((4, 4), 5, np.uint8), None), (np.zeros((4, 6), np.uint8), None),
        (np.zeros(81, np.uint8), None),
    ],
)  # fmt: skip
def test_an_array_is_known_by_shape_and_symbols(array: Grid, name: str | None) -> None:
    if name is not None:
        assert detect_grid(array) == name
    else:
        with pytest.raises(PuzzleError, match=f"{shape_words(array)} is no puzzle"):
            detect_grid(array)


def test_an_entry_point_is_a_task_of_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("latin", "package:TASK", registry.GROUP)
    monkeypatch.setattr(registry, "_outside", lambda: {"latin": point})
    own = type("Latin", (type(FOUR),), {})(FOUR.size)  # type: ignore[attr-defined]
    for loaded, name in ((len, "latin"), (own, "other"), (own, "latin")):
        own.name = name
        monkeypatch.setattr(EntryPoint, "load", lambda self, loaded=loaded: loaded)
        registry.get.cache_clear()
        if name == "other" or loaded is len:
            with pytest.raises(PuzzleError, match="expected a Task of that name"):
                registry.get("latin")
        else:
            assert registry.get("latin") is own
    registry.get.cache_clear()
