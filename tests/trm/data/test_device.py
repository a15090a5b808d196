"""Training puzzles on the device: symmetries, drafts, noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trm.data.device import Batch, DeviceDataset
from trm.data.generate import generate
from trm.grid import PuzzleError
from trm.tasks import Puzzle, Status, get
from trm.tasks.base import IGNORE
from trm.training.config import DraftConfig

TASK = get("sudoku")
PUZZLES = list(generate("sudoku", 20, 0, clues=(40, 50)))


def bank(augment: bool = True) -> DeviceDataset:
    return DeviceDataset(TASK, PUZZLES, augment, torch.device("cpu"))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def grid(tokens: torch.Tensor) -> np.ndarray:
    return (tokens.numpy() - 1).astype(np.uint8).reshape(9, 9)


def test_every_drawn_puzzle_is_one_with_its_answer() -> None:
    tokens, labels, _ = bank().draw(64, generator())
    for question, answer in zip(tokens, labels, strict=True):
        puzzle = Puzzle("sudoku", (grid(question),))
        assert TASK.check(puzzle, grid(answer)).status is Status.VERIFIED
    assert len({tuple(row.tolist()) for row in tokens}) == 64  # no two under the same symmetry


def test_without_augmentation_puzzles_come_as_they_are() -> None:
    known = {TASK.encode_question(p).tobytes() for p in PUZZLES}
    tokens, *_ = bank(augment=False).draw(32, generator())
    assert {row.numpy().tobytes() for row in tokens} <= known


def test_drawing_is_a_matter_of_the_seed() -> None:
    first, again, other = (bank().draw(8, generator(s))[0] for s in (1, 1, 2))
    assert first.equal(again)
    assert not first.equal(other)


def test_further_cells_are_given_of_a_share_of_the_puzzles() -> None:
    hard = list(generate("sudoku", 4, 0, clues=30))
    source = DeviceDataset(TASK, hard, True, torch.device("cpu"), reveal=0.5)
    tokens, labels, _ = source.draw(400, generator())
    given = (tokens != 1).sum(1)
    assert 0.4 < (given == 30).float().mean() < 0.6  # of the others hardly any got no cell at all
    assert given.max() <= 30 + 0.6 * 51  # a chance of .3 for each of 51
    assert (given > 32).float().mean() > 0.3
    assert (tokens == labels)[tokens != 1].all()
    plain = DeviceDataset(TASK, hard, True, torch.device("cpu")).draw(400, generator())[0]
    assert ((plain != 1).sum(1) == 30).all()
    with pytest.raises(PuzzleError, match="expected reveal 0"):
        DeviceDataset(
            get("maze"), list(generate("maze", 2, 0, height=6)), True, torch.device("cpu"), reveal=0.5
        )


def test_mazes_are_not_turned_since_their_labels_break_ties() -> None:
    mazes = list(generate("maze", 3, 0, height=6, width=6))
    tokens, *_ = DeviceDataset(get("maze"), mazes, True, torch.device("cpu")).draw(16, generator())
    assert {row.numpy().tobytes() for row in tokens} <= {
        get("maze").encode_question(p).tobytes() for p in mazes
    }


def maze_bank(n: int = 8) -> DeviceDataset:
    return DeviceDataset(get("maze"), list(generate("maze", n, 0, height=12)), True, torch.device("cpu"))


def test_drafts_of_mazes_mark_free_cells_alone_and_err_in_many_ways() -> None:
    _, free, _, goal, path = get("maze").tokens(get("maze").symbols)
    source = maze_bank()
    tokens, labels, _ = source.draw(400, generator())
    draft = source.given_drafts(tokens, labels, 1.0, generator(1))
    inside = labels != IGNORE
    assert (draft[~inside] == 0).all()
    given = inside & (tokens != free)
    assert (draft[given] == tokens[given]).all()
    assert set(draft[tokens == free].unique().tolist()) <= {0, free, path}
    missing = ((draft != path) & (labels == path)).sum(1)
    extra = ((draft == path) & (labels == free)).sum(1)
    assert (extra > 5).any()
    assert ((missing == 0) & (extra == 0)).any()
    assert (missing > 5).any()
    assert goal not in draft[tokens == free]


def test_new_puzzles_take_the_places_of_the_oldest() -> None:
    task = get("sudoku")
    source = DeviceDataset(task, PUZZLES[:3], True, torch.device("cpu"), capacity=5)
    held = [task.encode_question(p) for p in PUZZLES]

    def rows() -> list[int]:
        return [next(i for i, q in enumerate(held) if (q == row.numpy()).all()) for row in source.tokens]

    tensors = source.tokens, source.labels
    assert rows() == [0, 1, 2, 0, 1]
    source.replace(PUZZLES[3:6])
    assert rows() == [5, 1, 2, 3, 4]
    source.replace([])
    source.replace(PUZZLES[6:14])  # more than there are places: the last five
    assert sorted(rows()) == [9, 10, 11, 12, 13]
    assert (source.tokens, source.labels) == tensors  # where a captured graph reads them
    answers = [task.encode_label(PUZZLES[i]) for i in rows()]
    assert (source.labels.numpy() == np.stack(answers)).all()


def test_given_drafts_keep_givens_and_come_in_every_quality() -> None:
    source = bank()
    tokens, labels, _ = source.draw(400, generator())
    draft = source.given_drafts(tokens, labels, 0.5, generator(1))
    present = (draft != 0).any(1)
    assert 0.4 < present.float().mean() < 0.6
    given = tokens == labels
    assert (draft[present][given[present]] == labels[present][given[present]]).all()
    free = ~given
    wrong = ((draft != labels) & (draft != 0) & free).sum(1)[present]
    assert (wrong == 0).any()
    assert ((wrong > 0) & (wrong < 5)).any()
    assert (wrong > 15).any()
    blank = ((draft == 0) & free).sum(1)[present]
    assert (blank == 0).any()
    assert (blank > 5).any()
    assert source.given_drafts(tokens, labels, 0.0, generator(1)).eq(0).all()


def test_noise_touches_free_cells_of_chosen_grids_alone() -> None:
    source = bank()
    tokens, labels, context = source.draw(200, generator())
    batch = Batch(tokens, labels, labels, context)
    noisy = source.noisy(labels, batch, DraftConfig(noise_rate=0.5, noise_cells=0.3), generator(1))
    assert (noisy == labels)[tokens == labels].all()
    changed = (noisy != labels).any(1).float().mean()
    assert 0.35 < changed < 0.55
    assert ((noisy >= 2) & (noisy <= 10)).all()
    assert (labels != IGNORE).all()
