"""Views that are enlarged, and the way back from what is said of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_adapt import QUICK, SHAPE, TASK

from trm.adaptation.test_time import Turned, draw_view, shrunk
from trm.checkpoints.format import Checkpoint, Expert
from trm.data.pairs import LARGEST_SCALE, place, plain
from trm.inference.refiner import Refiner
from trm.model.network import TRM
from trm.tasks import Puzzle, get

ARC = get("arc")
COLOURS = np.arange(256, dtype=np.uint8)


@pytest.mark.parametrize("turn", range(8))
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_an_enlarged_view_is_the_banks_and_comes_back(turn: int, scale: int) -> None:
    colours = COLOURS.copy()
    colours[[1, 2, 3]] = 2, 3, 1
    view = Turned(turn, colours, 4, 7, scale)
    grid = np.random.default_rng(turn).integers(10, size=(2, 5), dtype=np.uint8)
    tokens = ARC.at(4, 7).encode(view.forward(grid))
    cells = torch.zeros(1, 30, 30, dtype=torch.int64)
    cells[0, :2, :5] = torch.from_numpy(grid)
    turns, scales, tops, lefts = (torch.tensor([number]) for number in (turn, scale, 4, 7))
    renamed = torch.from_numpy(colours[:10].astype(np.int64))[None]
    seen = plain(1, torch.device("cpu"))._replace(
        turn=turns, scale=scales, top=tops, left=lefts, colours=renamed
    )
    assert (tokens == place(cells, torch.tensor([[2, 5]]), seen)[0].numpy()).all()
    assert (view.inverse(ARC.at(4, 7).decode(TASK, tokens)) == grid).all()


def test_of_a_square_of_cells_most_count() -> None:
    said = np.array([[5, 5, 1, 1], [5, 0, 1, 2], [7, 7, 2, 2], [7, 7, 0, 2]], dtype=np.uint8)
    assert shrunk(said, 2).tolist() == [[5, 1], [7, 2]]
    assert shrunk(said, 2).dtype == np.uint8
    assert shrunk(said, 1) is said
    # Of equals the least.
    assert shrunk(np.array([[3, 1], [1, 3]], dtype=np.uint8), 2).tolist() == [[1]]


def test_a_grid_that_is_not_made_of_squares_has_a_shape_too() -> None:
    row = np.array([[4, 4, 6, 6, 8]], dtype=np.uint8)
    assert shrunk(row, 2).tolist() == [[4, 6, 8]]  # half of the last one is there
    assert shrunk(row, 3).tolist() == [[4, 6]]  # of 6 and 8 the least
    assert shrunk(row[:, :1], 3).tolist() == [[4]]  # never nothing
    assert shrunk(row[:, :4], 3).tolist() == [[4]]  # the fourth is less than half of one


def test_views_are_enlarged_where_there_is_room() -> None:
    def drawn(side: int, longest: int, **more: bool) -> list[Turned]:
        grid = np.ones((2, longest), dtype=np.uint8)
        puzzle, rng = Puzzle("arc", (grid,), demos=((grid, grid),)), np.random.default_rng(0)
        return [draw_view(puzzle, rng, side, **more) for _ in range(400)]

    for longest, most in ((3, LARGEST_SCALE), (10, 2), (11, 1)):
        views = drawn(20, longest, enlarged=True)
        scales = [view.scale for view in views]
        assert set(scales) == set(range(1, most + 1))
        assert all(max(view.top, view.left) + view.scale * longest <= 20 for view in views)
        # Half of them are drawn from all that fit.
        assert scales.count(1) / 400 == pytest.approx(0.5 + 0.5 / most, abs=0.08)
    assert {view.scale for view in drawn(20, 3)} == {1}
    assert {view.scale for view in drawn(0, 3, enlarged=True)} == {1}


def test_the_refiner_enlarges_its_views_where_asked() -> None:
    torch.manual_seed(0)
    refiner = Refiner(
        Checkpoint("mine", {"arc": Expert("arc", SHAPE, TRM(SHAPE).state_dict())}), device="cpu"
    )
    named = []
    for enlarged in (False, True):
        refiner.experts.fitting = replace(QUICK, steps=1, smallest=10, enlarged=enlarged)
        out = refiner.refine(TASK, steps=1, restarts=8)
        named.append([attempt.grids[0].tolist() for attempt in out.attempts])
    assert len(named[0]) == len(named[1]) == 9
    assert named[0][0] == named[1][0]  # the cold start sees the task as it is
    assert named[0] != named[1]
