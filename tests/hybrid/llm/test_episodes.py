"""Tasks as token sequences."""

from __future__ import annotations

import numpy as np
import pytest

from hybrid.llm.grid.episodes import (
    IGNORE,
    TURNS,
    View,
    choose_pairs,
    draw_colors,
    draw_view,
    episode,
    maze_cells,
    maze_grid,
    pair_length,
    prompt,
    puzzle_episode,
    sudoku_cells,
    turn_grid,
    unturn_grid,
)
from hybrid.llm.grid.vocabulary import BLANK, END, INPUT, NEWLINE, OUTPUT, PUZZLE, parse_grid


def grid(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(0, 10, shape).astype(np.uint8)


@pytest.fixture
def pairs() -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [(grid(rng, 2, 3), grid(rng, 4, 2)) for _ in range(3)]


def test_every_turn_has_its_inverse() -> None:
    shape = np.arange(6, dtype=np.uint8).reshape(2, 3)
    turned = [turn_grid(shape, turn) for turn in range(TURNS)]
    assert len({(view.shape, view.tobytes()) for view in turned}) == TURNS
    assert all(np.array_equal(unturn_grid(view, turn), shape) for turn, view in enumerate(turned))


def test_views_are_undone() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        view, original = draw_view(rng), grid(rng, 5, 7)
        assert np.array_equal(view.invert(view.apply(original)), original)


def test_two_in_five_color_permutations_keep_black_and_one_in_five_keeps_all() -> None:
    rng = np.random.default_rng(2)
    drawn = [draw_colors(rng) for _ in range(2000)]
    assert all(sorted(colors) == list(range(10)) for colors in drawn)
    assert np.mean([np.array_equal(colors, np.arange(10)) for colors in drawn]) == pytest.approx(
        0.2, abs=0.03
    )
    assert np.mean([colors[0] == 0 for colors in drawn]) == pytest.approx(0.64, abs=0.04)


def test_a_prompt_is_the_episode_up_to_the_answer(pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    view = draw_view(np.random.default_rng(3))
    whole = episode(pairs, view, learn="last")
    start = prompt(pairs[:-1], pairs[-1][0], view)
    assert np.array_equal(whole.tokens[: len(start)], start)
    assert (whole.labels[: len(start)] == IGNORE).all()
    assert np.array_equal(whole.labels[len(start) :], whole.tokens[len(start) :])
    assert np.array_equal(view.invert(parse_grid(whole.tokens[len(start) :])), pairs[-1][1])


def test_the_form_of_a_pair() -> None:
    one = np.array([[1, 2]], dtype=np.uint8), np.array([[3], [4]], dtype=np.uint8)
    expected = [INPUT, 1, 2, NEWLINE, OUTPUT, 3, NEWLINE, 4, NEWLINE, END]
    assert episode([one], learn="all").tokens.tolist() == expected


@pytest.mark.parametrize(("learn", "counts"), [("all", 3), ("later", 2), ("last", 1)])
def test_which_outputs_are_learned(
    pairs: list[tuple[np.ndarray, np.ndarray]], learn: str, counts: int
) -> None:
    drawn = episode(pairs, learn=learn)  # type: ignore[arg-type]
    assert (drawn.labels == END).sum() == counts
    assert not (drawn.labels == INPUT).any()


def test_inputs_from_the_second_pair_on_can_be_learned(pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    assert (episode(pairs, inputs=True).labels == INPUT).sum() == 2


def test_an_output_view_changes_outputs_alone(pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    plain, other = episode(pairs), episode(pairs, View(), View(turn=1))
    assert not np.array_equal(plain.tokens, other.tokens)
    first = prompt([], pairs[0][0])
    assert np.array_equal(plain.tokens[: len(first)], other.tokens[: len(first)])


def test_pairs_that_do_not_fit_are_left_out_and_lengths_hold_under_every_turn() -> None:
    rng = np.random.default_rng(4)
    pairs = [
        (grid(rng, 2, 9), grid(rng, 3, 3)),
        (grid(rng, 30, 30), grid(rng, 30, 30)),
        (grid(rng, 3, 3), grid(rng, 1, 8)),
    ]
    for turn in range(TURNS):
        assert all(len(episode([pair], View(turn))) <= pair_length(pair) for pair in pairs)
    chosen = choose_pairs(pairs, [2, 1, 0], room=pair_length(pairs[2]) + pair_length(pairs[0]))
    assert [pair[0].shape for pair in chosen] == [(3, 3), (2, 9)]


def test_puzzles_with_rules_start_with_their_own_word() -> None:
    sudoku = np.zeros((9, 9), dtype=np.uint8)
    answer = np.full((9, 9), 5)
    drawn = puzzle_episode(sudoku_cells(sudoku), answer)
    assert drawn.tokens[0] == PUZZLE
    assert (drawn.tokens == BLANK).sum() == 81
    assert (drawn.labels != IGNORE).sum() == 91


def test_mazes_come_back_from_their_tokens() -> None:
    maze = np.frombuffer(b"S #oG#", dtype=np.uint8).reshape(2, 3)
    assert np.array_equal(maze_grid(maze_cells(maze)), maze)
    assert maze_grid(np.array([[9]])) is None
    with pytest.raises(ValueError, match="character"):
        maze_cells(np.array([[ord("x")]], dtype=np.uint8))
