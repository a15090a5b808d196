from __future__ import annotations

import numpy as np
import pytest

from trm.data.generate import generate
from trm.grid import Grid, GridParseError, PuzzleError
from trm.tasks import Puzzle, Status, get
from trm.tasks.maze.rules import Field, are_joined, reachable
from trm.tasks.maze.solver import shortest_path

MAZE = get("maze")
QUESTION = "S   \n ## \n    \n ##G"


def answer(text: str) -> Grid:
    return np.array([list(map(ord, line)) for line in text.split("\n")], dtype=np.uint8)


@pytest.fixture
def puzzle() -> Puzzle:
    return MAZE.parse(QUESTION)


def test_cells_are_never_stripped() -> None:
    grid = MAZE.parse("\n    \n S  \n  G \n    \n").grid
    assert grid.shape == (4, 4)
    assert MAZE.text((grid,)) == "    \n S  \n  G \n    "


def test_a_flat_square_is_a_maze(puzzle: Puzzle) -> None:
    assert np.array_equal(MAZE.parse(QUESTION.replace("\n", "")).grid, puzzle.grid)
    assert np.array_equal(MAZE.parse("S  G").grid, answer("S \n G"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("S  \n G", "row 2: 2 cells, expected 3 as in row 1: ' G'"),
        ("S.\n #.#\n..G#", "row 2: 4 cells, expected 2 as in row 1"),
        ("S x\n  G", "row 1, cell 3: 'x', expected one of '# SG'"),
        ("S  o\n    \nG   ", "row 1, cell 4: 'o'"),
        ("S G", "maze of 1x3, expected 2x2 to 30x30"),
        ("\n".join(["S" + " " * 30, "G" + " " * 30]), "maze of 2x31"),
        ("S \n\n G", "row 2: 0 cells, expected 2"),
        ("\n", "an empty maze"),
    ],
)
def test_what_cannot_be_read_is_named(text: str, message: str) -> None:
    with pytest.raises(GridParseError, match=message):
        MAZE.parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("S \n  ", "0 G, expected exactly one"),
        ("SS\n G", "2 S, expected exactly one: row 1, column 1 and row 1, column 2"),
        ("S#\n#G", "G at row 2, column 2 cannot be reached from S at row 1, column 1"),
        ("S#  \n ##G", "cannot be reached"),  # the end of a row does not touch the start of the next
    ],
)
def test_impossible_mazes_are_refused(text: str, message: str) -> None:
    with pytest.raises(PuzzleError, match=message):
        MAZE.validate(MAZE.parse(text))


def test_both_shortest_paths_are_verified(puzzle: Puzzle) -> None:
    for right in ("Sooo\n ##o\n   o\n ##G", "S   \no## \noooo\n ##G"):
        assert MAZE.check(puzzle, answer(right)).status is Status.VERIFIED


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (QUESTION, "the marked cells do not connect S with G"),
        ("So  \n ## \n   o\n ##G", "the path ends at row 1, column 2"),
        ("Sooo\n ##o\n   o\n ##o", "row 4, column 4: 'G' was changed to 'o'"),
        ("Soo \n #oo\n   o\n ##G", "row 2, column 3: '#' was changed to 'o'"),
        ("Sooo\n ##o\no  o\n ##G", "row 3, column 1 is marked, but not connected with S"),
        ("Sooo\no##o\noooo\n ##G", "the path branches, or touches itself, at row 3, column 4"),
        ("Sooo\n ##o\n  oo\n ##G", "the path branches, or touches itself, at row 3, column 4"),
    ],
)
def test_violations_are_named(puzzle: Puzzle, wrong: str, words: str) -> None:
    verdict = MAZE.check(puzzle, answer(wrong))
    assert verdict.status is Status.UNSOLVED
    assert words in verdict.violations


def test_a_detour_is_measured() -> None:
    puzzle = MAZE.parse("S G\n   \n   ")
    verdict = MAZE.check(puzzle, answer("S G\no o\nooo"))
    assert verdict.violations == ("the path takes 6 moves, a shortest one 2",)
    assert MAZE.check(puzzle, answer("SoG\n   \n   ")).status is Status.VERIFIED


def test_neighbours_need_no_mark() -> None:
    assert MAZE.check(MAZE.parse("SG\n  "), answer("SG\n  ")).status is Status.VERIFIED


def test_answers_regain_the_spaces_that_transit_took() -> None:
    puzzle = MAZE.parse("    \n S  \n  G \n    ")
    whole = "    \n So \n  G \n    "
    for text in (whole, "\n So\n  G\n", whole.replace("\n", ""), "     So   G", whole + "\n"):
        assert np.array_equal(MAZE.parse_answer(puzzle, text)[0], answer(whole)), text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("S   \n ## ", "2 rows, expected 4"),
        ("S   \n ##  \n    \n ##G", "row 2: 5 cells, expected 4"),
        ("S  ?\n ## \n    \n ##G", "row 1, cell 4: '?'"),
    ],
)
def test_unreadable_answers_are_named(puzzle: Puzzle, text: str, message: str) -> None:
    with pytest.raises(GridParseError, match=message):
        MAZE.parse_answer(puzzle, text)


def test_the_field_measures_as_a_plain_search_does() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        cells = rng.random((6, 7)) < 0.7
        cells[0, 0] = cells[5, 6] = True
        distance = {(0, 0): 0}
        queue = [(0, 0)]
        for r, c in queue:
            for beside in ((r + 1, c), (r - 1, c), (r, c + 1), (r, c - 1)):
                inside = 0 <= beside[0] < 6 and 0 <= beside[1] < 7
                if inside and cells[beside] and beside not in distance:
                    distance[beside] = distance[r, c] + 1
                    queue.append(beside)
        field = Field.of(cells)
        assert field.moves((0, 0), (5, 6)) == distance.get((5, 6))
        assert field.connected((0, 0)).bit_count() == len(distance)


@pytest.mark.parametrize(("height", "width"), [(2, 2), (7, 5), (30, 30), (3, 32)])
def test_many_mazes_are_searched_at_once_as_one_is(height: int, width: int) -> None:
    rng = np.random.default_rng(height)
    cells = rng.random((60, height, width)) < rng.uniform(0.5, 0.9, (60, 1, 1))
    start, goal = (0, width - 1), (height - 1, 0)
    ends = np.zeros((2, *cells.shape), dtype=bool)
    for number, cell in enumerate((start, goal)):
        cells[:, *cell] = ends[number, :, *cell] = True
    expected = [Field.of(maze).moves(start, goal) is not None for maze in cells]
    assert reachable(cells, *ends).tolist() == expected
    assert width == 2 or {True, False} == set(expected)


def test_a_path_proves_that_start_and_goal_connect() -> None:
    puzzles = list(generate("maze", 20, 0, height=(7, 7), wall=(0.2, 0.4), min_path=3))
    questions = np.stack([puzzle.grid for puzzle in puzzles])
    answers = np.stack([puzzle.answers[0] for puzzle in puzzles if puzzle.answers])
    assert are_joined(questions, answers).all()
    assert not are_joined(questions, questions).any()
    for wrong in (np.where(questions == ord("#"), ord("o"), answers), np.roll(answers, 1, axis=0)):
        assert not are_joined(questions, wrong.astype(np.uint8)).any()
    ring = answer("Soo ooo\n ## o#o\n### ooo\nGoo    ")
    assert not are_joined(np.where(ring == ord("o"), ord(" "), ring).astype(np.uint8)[None], ring[None]).any()


def test_what_is_read_together_is_what_is_read_alone(puzzle: Puzzle) -> None:
    flat, path = QUESTION.replace("\n", ""), "Sooo\n ##o\n   o\n ##G"
    pairs = [
        (QUESTION, path), (QUESTION, path.replace("\n", "")), (flat, path), (QUESTION, path.replace("o", ".")),
        (QUESTION, ""), (QUESTION, "Sooo"), (flat + " ", ""), (QUESTION[:-1] + "S", ""), (QUESTION + "\n", ""),
        ("S#\n#G", ""), ("S  \n G", ""), ("S é\n  G", ""), ("SG", ""), ("", ""), ("S \nG \n", path),
        ("S#G\n   ", "S#G\nooo"), ("S" + " " * 30 + "\nG" + " " * 30, ""),
    ]  # fmt: skip
    found = MAZE.parse_plain(*zip(*pairs, strict=True))
    assert [n for n, each in enumerate(found) if each] == [0, 1, 2, 3, 4, 5, 15]
    for each, (text, written) in zip(found, pairs, strict=True):
        if each is not None:
            assert np.array_equal(each.grid, MAZE.parse(text).grid)
            assert each.answers is None or np.array_equal(
                each.answers[0], MAZE.parse_answer(each, written)[0]
            )
    assert [each.answers is not None for each in found if each] == [True, True, True, *3 * [False], True]


def test_answers_turn_with_the_maze_and_labels_do_not() -> None:
    assert not MAZE.labels_equivariant
    rng, turned = np.random.default_rng(0), 0
    for puzzle in generate("maze", 20, 0, height=(5, 9), width=8, wall=(0.1, 0.3), min_path=5):
        assert puzzle.answers is not None
        symmetry = MAZE.symmetries(puzzle.grid.shape).draw(rng)
        moved = symmetry.forward(puzzle.grid)
        answer = symmetry.forward(puzzle.answers[0])
        assert MAZE.check(Puzzle("maze", (moved,)), answer).status is Status.VERIFIED
        label = shortest_path(moved)
        turned += not np.array_equal(label, answer)
    assert turned > 5


def test_another_path_is_asked_for_in_a_maze_that_lacks_the_known_ones() -> None:
    rng = np.random.default_rng(0)
    (puzzle,) = generate("maze", 1, 3, height=(9, 9), width=(9, 9), wall=(0.1, 0.1), min_path=10)
    known: list[Grid] = []
    while (asked := MAZE.exclude_solutions(puzzle, [(grid,) for grid in known], rng)) is not None and len(
        known
    ) < 4:
        path = shortest_path(asked.grid)
        assert path is not None
        # The cells walled up are open in the puzzle itself.
        path = np.where(asked.grid != puzzle.grid, puzzle.grid, path).astype(np.uint8)
        assert MAZE.check(puzzle, path).status is Status.VERIFIED
        assert not any(np.array_equal(path, other) for other in known)
        known.append(path)
    assert len(known) == 4
    only = MAZE.parse("S #\n# #\n# G")
    path = shortest_path(only.grid)
    assert path is not None
    assert MAZE.exclude_solutions(only, [(path,)], rng) is None


def closed(height: int, width: int) -> str:
    """A maze with a closed outer wall, and one wall inside it."""
    rows = ["#" * width, *["#" + " " * (width - 2) + "#"] * (height - 2), "#" * width]
    rows[1], rows[-2] = "#S" + rows[1][2:], rows[-2][:-2] + "G#"
    rows[3] = "##" + rows[3][2:]
    return "\n".join(rows)


@pytest.mark.parametrize(("height", "width"), [(31, 31), (32, 32), (7, 32), (32, 9)])
def test_an_outer_wall_is_left_out_for_the_network_and_stands_in_the_answer(height: int, width: int) -> None:
    puzzle = MAZE.parse(closed(height, width))
    MAZE.validate(puzzle)
    assert puzzle.grid.shape == (height, width)
    path = shortest_path(puzzle.grid)
    assert path is not None
    tokens = MAZE.encode_draft(puzzle, path)
    assert np.count_nonzero(tokens) == (height - 2) * (width - 2)
    assert np.array_equal(MAZE.decode(puzzle, tokens), path)
    assert np.array_equal(MAZE.decode(puzzle, MAZE.encode_question(puzzle)), puzzle.grid)
    symmetry = MAZE.symmetries(puzzle.grid.shape).draw(np.random.default_rng(1))
    assert np.count_nonzero(MAZE.encode(symmetry.forward(puzzle.grid))) == (height - 2) * (width - 2)


def test_a_maze_that_fits_with_its_wall_is_seen_whole() -> None:
    puzzle = MAZE.parse(closed(30, 30))
    assert np.count_nonzero(MAZE.encode_question(puzzle)) == 900


@pytest.mark.parametrize("text", [closed(33, 20), closed(31, 31)[1:].replace("\n", "\n#", 1)])
def test_larger_mazes_are_refused(text: str) -> None:
    with pytest.raises(GridParseError):
        MAZE.parse(text)


def test_a_wall_of_a_draft_need_not_be_whole() -> None:
    puzzle = MAZE.parse(closed(31, 31))
    draft = puzzle.grid.copy()
    draft[0, 5] = ord("o")
    assert np.count_nonzero(MAZE.encode_draft(puzzle, draft)) == 29 * 29


def test_cells_say_what_stands_in_them() -> None:
    cells = MAZE.cells(answer("So#\n oG"))
    assert [[cell.text for cell in row] for row in cells] == [["S", "o", ""], ["", "o", "G"]]
    kinds = [[cell.kind for cell in row] for row in cells]
    assert kinds == [["start", "path", "wall"], ["free", "path", "goal"]]
    (other,) = MAZE.cells(np.array([[7]], dtype=np.uint8))[0]
    assert (other.text, other.kind) == ("?", "free")


def test_what_is_surely_a_maze_and_what_is_none() -> None:
    assert MAZE.is_certain("#####\n#S G#\n#####")
    assert not MAZE.is_certain("53..7....\n6..195...")
    assert MAZE.detect("Some words here\nand GGG in a row\nSGSGSGSGSGSGSGSG") == 0
    assert MAZE.detect("#######\n#S ab #\n#    G#\n#######") > 0
