"""Replies as language models write them, read into grids; conversations as they are asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import doubles
import numpy as np
import pytest

from hybrid.llm.base import Message, Reply
from hybrid.llm.chat.constrained import Form
from hybrid.llm.chat.parsing import read_grid
from hybrid.llm.chat.prompts import LLMProposer, answer_tokens, conversation, examples, read_draft
from hybrid.proposers import Draft, Feedback
from trm import tasks
from trm.tasks import Puzzle

SUDOKU, MAZE = tasks.get("sudoku"), tasks.get("maze")
ROWS = [
    "534678912",
    "672195348",
    "198342567",
    "859761423",
    "426853791",
    "713924856",
    "961537284",
    "287419635",
    "345286179",
]
SOLVED = np.array([[int(c) for c in row] for row in ROWS], dtype=np.uint8)
OPEN = SOLVED * (np.arange(81).reshape(9, 9) % 3 != 0).astype(np.uint8)
QUESTION = Puzzle("sudoku", (OPEN,))
SPACED = "\n".join(" ".join(row) for row in ROWS)
RULED = "\n".join(
    "| " + " | ".join(row) + " |" + ("\n|---+---+---|" if i in (2, 5) else "") for i, row in enumerate(ROWS)
)
ECHO = "\n".join("".join(str(c or ".") for c in row) for row in OPEN.tolist())

WALLED = ["#####", "#S  #", "### #", "#G  #", "#####"]
MARKED = ["#####", "#Soo#", "###o#", "#Goo#", "#####"]
BARE = ["S  ", "## ", "G  "]  # no border: rows end in free cells
BARE_MARKED = ["Soo", "##o", "Goo"]


def codes(rows: Sequence[str]) -> np.ndarray:
    return np.array([[ord(c) for c in row] for row in rows], dtype=np.uint8)


MAZE_PUZZLE, BARE_PUZZLE = Puzzle("maze", (codes(WALLED),)), Puzzle("maze", (codes(BARE),))


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(ROWS),
        SPACED,
        f"Sure! Here is the solved Sudoku:\n\n```text\n{SPACED}\n```\nEach row holds 1 to 9.",
        "".join(ROWS),
        f"Answer: \n`{''.join(ROWS)}`",
        "\n".join(",".join(row) for row in ROWS),
        "\n".join("-".join(row) for row in ROWS),
        RULED,
        f"**Solution**\n\n{RULED}",
        str([[int(c) for c in row] for row in ROWS]),
        "[\n" + ",\n".join(str([int(c) for c in row]) for row in ROWS) + "\n]",
        '{"grid": ' + str(ROWS).replace("'", '"') + "}",
        "\n".join(f"row {n}: {' '.join(row)}" for n, row in enumerate(ROWS, 1)),
        "\n".join(f"Row {n} = {row}" for n, row in enumerate(ROWS, 1)),
        "\n".join(f"{n}. {' '.join(row)}" for n, row in enumerate(ROWS, 1)),
        "\n".join(f"{n}) {row}" for n, row in enumerate(ROWS, 1)),
        "\n\n".join(SPACED.split("\n")),
        f"The question:\n{ECHO}\n\nThe answer:\n{SPACED}",
        f"{ECHO}\n\n{SPACED}",
        f"{SPACED}\n\nfor the puzzle\n\n{ECHO}",
        f"<think>Perhaps\n{ECHO}\n</think>\n{SPACED}",
        SPACED.replace("\n", "\r\n"),
    ],
)
def test_whole_sudokus_are_read(text: str) -> None:
    reading = read_grid(text, SUDOKU, OPEN)
    assert reading.error is None
    assert reading.grid is not None
    np.testing.assert_array_equal(reading.grid, SOLVED)


def test_a_wrong_sudoku_stays_what_the_reply_says() -> None:
    reading = read_grid("\n".join(["999999999"] * 9), SUDOKU, OPEN)
    assert reading.grid is not None
    assert (reading.grid == 9).all()
    assert reading.error is None


@pytest.mark.parametrize("blank", [".", "_", "0", "-", "?"])
def test_blanks_of_a_sudoku(blank: str) -> None:
    reading = read_grid("\n".join([ROWS[0].replace("4", blank), *ROWS[1:]]), SUDOKU, OPEN)
    assert reading.grid is not None
    assert reading.grid[0].tolist() == [5, 3, 0, 6, 7, 8, 9, 1, 2]


def test_an_echo_is_named() -> None:
    reading = read_grid(ECHO, SUDOKU, OPEN)
    assert reading.error == "the reply repeats the question"


def test_rows_of_wrong_length_are_left_blank() -> None:
    reading = read_grid("\n".join([*ROWS[:3], "85976142", *ROWS[4:]]), SUDOKU, OPEN)
    assert reading.error == "row 4 held 8 cells, expected 9"
    assert reading.grid is not None
    assert (reading.grid[3] == 0).all()
    np.testing.assert_array_equal(reading.grid[4:], SOLVED[4:])


@pytest.mark.parametrize("first", [0, 2])
def test_too_few_rows_go_where_the_givens_agree(first: int) -> None:
    reading = read_grid("\n".join(ROWS[first : first + 7]), SUDOKU, OPEN)
    assert reading.error == "reply held 7 rows, expected 9"
    assert reading.grid is not None
    np.testing.assert_array_equal(reading.grid[first : first + 7], SOLVED[first : first + 7])
    assert (reading.grid == 0).sum() == 18


def test_too_many_rows_are_named() -> None:
    reading = read_grid("\n".join([*ROWS, ROWS[0], ROWS[1]]), SUDOKU, OPEN)
    assert reading.error == "reply held 11 rows, expected 9"
    np.testing.assert_array_equal(reading.grid, SOLVED)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("I cannot solve this puzzle.", "no grid in the reply"),
        ("", "no grid in the reply"),
        ("\n".join(ROWS[:4]), "reply held 4 rows, expected 9"),
        ("\n".join(row[:8] for row in ROWS), "row 1 held 8 cells, expected 9; row 2"),
        ("[" * 5000, "no grid in the reply"),
    ],
)
def test_less_than_half_a_sudoku_is_no_draft(text: str, error: str) -> None:
    reading = read_grid(text, SUDOKU, OPEN)
    assert reading.grid is None
    assert reading.error is not None
    assert reading.error.startswith(error)


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(MARKED),
        "Here it is:\n\n```\n" + "\n".join(MARKED) + "\n```\nThe path has 7 moves. Go!",
        "\n".join(" ".join(row) for row in MARKED),
        str(MARKED).replace("'", '"'),
        str([list(row) for row in MARKED]),
        "\n".join(f"row {n}: {row}" for n, row in enumerate(MARKED, 1)),
        "\n".join(f"| {' | '.join(row)} |" for row in MARKED),
        "\n".join(f'"{row}",' for row in MARKED),
        "\n".join(WALLED) + "\n\n" + "\n".join(MARKED),
        "\n".join(MARKED).replace("o", "O"),
    ],
)
def test_whole_mazes_are_read(text: str) -> None:
    reading = read_grid(text, MAZE, MAZE_PUZZLE.grid)
    assert reading.error is None
    np.testing.assert_array_equal(reading.grid, codes(MARKED))


def test_free_cells_at_the_ends_of_a_mazes_rows() -> None:
    partly = ["Soo", "##o", "G"]  # two free cells lost on the right
    reading = read_grid("```\n" + "\n".join(partly) + "\n```", MAZE, BARE_PUZZLE.grid)
    np.testing.assert_array_equal(reading.grid, codes(["Soo", "##o", "G  "]))
    question = codes([" S ", "   ", " G "])  # a leading space is a cell; an empty line was a row of spaces
    reading = read_grid("```\n S\n\n G\n```", MAZE, question)
    np.testing.assert_array_equal(reading.grid, question)
    reading = read_grid("\n".join(row + "  " for row in BARE_MARKED), MAZE, BARE_PUZZLE.grid)
    np.testing.assert_array_equal(reading.grid, codes(BARE_MARKED))


def test_unreadable_rows_of_a_maze_are_the_questions() -> None:
    reading = read_grid("\n".join([*MARKED[:2], "###o##", *MARKED[3:]]), MAZE, MAZE_PUZZLE.grid)
    assert reading.error == "row 3 held 6 cells, expected 5"
    np.testing.assert_array_equal(reading.grid, codes([*MARKED[:2], WALLED[2], *MARKED[3:]]))


ARC_GRID = np.array([[0, 1, 2], [3, 4, 5]], dtype=np.uint8)


@pytest.mark.parametrize(
    "text",
    [
        "[[0, 1, 2], [3, 4, 5]]",
        "012\n345",
        "0 1 2\n3 4 5",
        "The output has 2 rows:\n```\n0 1 2\n3 4 5\n```\nIt is 3 wide:\n3",
        "1 1\n1 1\n\nbecomes\n\n0,1,2\n3,4,5",
        '{"output": [[0,1,2],[3,4,5]]}',
        "row 1: 0 1 2\nrow 2: 3 4 5",
        "1) 0 1 2\n2) 3 4 5",
        "[[[0, 1, 2], [3, 4, 5]]]",
        "[[[9, 9]], [[0, 1, 2], [3, 4, 5]]]",  # of several the last
        "[[0,1,2],[3,4,5]",
    ],
)
def test_arc_grids_have_any_shape(text: str) -> None:
    reading = read_grid(text, tasks.get("arc"), np.ones((2, 2), dtype=np.uint8), free=True)
    np.testing.assert_array_equal(reading.grid, ARC_GRID)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("0 1 2\n3 4\n5 6 7", "row 2 held 2 cells, expected 3"),
        ("\n".join(["1" * 31] * 2), "grid of 2x31, expected at most 30x30"),
        ("none", "no grid in the reply"),
    ],
)
def test_ragged_arc_grids_are_none(text: str, error: str) -> None:
    reading = read_grid(text, tasks.get("arc"), np.ones((2, 2), dtype=np.uint8), free=True)
    assert (reading.grid, reading.error) == (None, error)


class Scripted(doubles.OneByOne):
    """An LLM that says what it was told to, and remembers what it was asked."""

    name = "scripted"
    parameters = None

    def __init__(self, *texts: str) -> None:
        self.texts, self.asked = list(texts), []

    def chat(
        self,
        messages: Sequence[Message],
        *,
        samples: int = 1,
        greedy_first: bool = True,
        seed: int = 0,
        max_tokens: int = 512,
        form: Form | None = None,
    ) -> list[Reply]:
        self.asked.append((list(messages), max_tokens, seed))
        return [Reply(self.texts.pop(0), 10, 0.5) for _ in range(samples)]


def test_many_puzzles_are_asked_about_together_one_draft_each() -> None:
    pair = tasks.get("arc").samples()[1]  # two inputs, a conversation each
    grid = "```\n1 2\n```"
    llm = Scripted(SPACED, grid, grid, "no idea")
    drafts = LLMProposer(llm).propose_many([QUESTION, pair, MAZE_PUZZLE], seed=5)
    assert [draft.grids is not None for draft in drafts] == [True, True, False]
    assert drafts[1].grids is not None
    assert len(drafts[1].grids) == 2
    assert [seed for _, _, seed in llm.asked] == [5] * 4


def test_drafts_of_a_conversation() -> None:
    llm = Scripted(SPACED, "no idea")
    good, bad = LLMProposer(llm).propose(QUESTION, drafts=2, seed=3)
    assert good.grids is not None
    np.testing.assert_array_equal(good.grids[0], SOLVED)
    assert (good.error, good.tokens, good.seconds, good.text) == (None, 10, 0.5, SPACED)
    assert (bad.grids, bad.error, bad.text) == (None, "no grid in the reply", "no idea")
    messages, most, seed = llm.asked[0]
    assert (most, seed) == (answer_tokens(QUESTION), 3)
    assert messages[0]["role"] == "system"
    assert SUDOKU.rules in messages[-1]["content"]
    assert "$" not in "".join(message["content"] for message in messages)


def test_arc_takes_one_conversation_an_input() -> None:
    one, two = np.ones((2, 2), dtype=np.uint8), np.full((2, 2), 2, dtype=np.uint8)
    puzzle = Puzzle("arc", (one, two), demos=((one, two),))
    llm = Scripted("1 2\n3 4", "nothing", "5 6\n7 8", "9 9\n9 9")
    both, half = LLMProposer(llm).propose(puzzle, drafts=2)
    assert [grid.tolist() for grid in both.grids or ()] == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    assert both.tokens == 20
    assert (half.grids, half.error) == (None, "no grid in the reply")
    assert len(llm.asked) == 2


def test_a_truncated_reply_is_named_unless_the_grid_is_whole() -> None:
    whole = read_draft(
        QUESTION, [Reply(SPACED + "\nThis holds because", 300, 1.0, "truncated at 300 tokens")]
    )
    assert whole.grids is not None
    assert whole.error is None
    cut = read_draft(QUESTION, [Reply(SPACED[:100], 60, 1.0, "truncated at 60 tokens")])
    assert cut.grids is not None
    assert cut.error is not None
    assert cut.error.startswith("truncated at 60 tokens; ")
    empty = read_draft(QUESTION, [Reply("", 0, 1.0, "empty content")])
    assert (empty.grids, empty.error) == (None, "empty content")


def test_violations_are_named_in_the_next_conversation() -> None:
    feedback = Feedback(Draft((SOLVED,), "raw"), tuple(f"violation {n}" for n in range(20)))
    first, again = conversation(QUESTION), conversation(QUESTION, feedback=feedback)
    assert again[: len(first)] == first
    assert [message["role"] for message in again[len(first) :]] == ["assistant", "user"]
    assert SPACED in again[-2]["content"]
    assert "- violation 7\n" in again[-1]["content"]
    assert "violation 8" not in again[-1]["content"]
    named = replace(feedback, corrections=("row 1, column 3: 7 instead of 5",))
    assert "row 1, column 3: 7 instead of 5" in conversation(QUESTION, feedback=named)[-1]["content"]
    assert "Another solver" not in conversation(QUESTION, feedback=feedback)[-1]["content"]
    unread = conversation(QUESTION, feedback=Feedback(Draft(None, "prose"), ()))
    assert unread[-2]["content"] == "prose"
    assert "cannot be read" in unread[-1]["content"]


@pytest.mark.parametrize("name", ["sudoku", "maze"])
def test_the_example_is_never_the_puzzle_asked(name: str) -> None:
    task = tasks.get(name)
    for sample in task.samples():
        shown = examples(task, sample)
        assert all(not np.array_equal(example.grid, sample.grid) for example in shown)
        asked = conversation(replace(sample, answers=sample.answers))
        assert asked[-1]["role"] == "user"
