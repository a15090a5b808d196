"""Candidates with a few wrong cells, mended by the votes of views and by the model's opinion of each cell.

A view writes a grid in one order, so that what it says of a cell knows only the cells before it. Eight turns together
look at each cell from all sides: where their mean prefers another colour to the candidate's, the cell changes, and
the changed grid is asked about again. It resembles iterated conditional modes (Besag 1986,
doi:10.1111/j.2517-6161.1986.tb01412.x), with all cells changed at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hybrid.llm.grid.attention import Store
from hybrid.llm.grid.decoding import Decoder
from hybrid.llm.grid.episodes import View, output_tokens, unturn_grid
from hybrid.llm.grid.scoring import continuation_distributions
from hybrid.llm.grid.vocabulary import CELLS, Tokens
from trm.grid import Grid, grid_key

ROUNDS = 3


def consensus(votes: Sequence[tuple[Grid, int]]) -> Grid | None:
    """The grid that has in each cell the colour with the most votes, among the grids of the shape that has the most.

    votes: grids with the number of views that decoded each; None where there are none.
    """
    if not votes:
        return None
    shapes: Counter[tuple[int, ...]] = Counter()
    for grid, count in votes:
        shapes[grid.shape] += count
    shape = shapes.most_common(1)[0][0]
    of_colors = np.zeros((*shape, CELLS))
    for grid, count in votes:
        if grid.shape == shape:
            of_colors += count * np.eye(CELLS)[grid]
    chosen: Grid = of_colors.argmax(-1).astype(np.uint8)
    return chosen


@torch.inference_mode()
def mend(
    decoder: Decoder, prompts: Sequence[Tokens], views: Sequence[View], candidates: Sequence[Grid]
) -> list[Grid]:
    """The grids that candidates become, in the order of coming, without the candidates themselves.

    prompts: the same task and test input under each of `views`, no more than the decoder takes at once.
    """
    store = decoder.memory.store(len(prompts), max(map(len, prompts)))
    first = decoder.prefill(prompts, store)
    known = {grid_key(grid) for grid in candidates}
    found: list[Grid] = []
    current = list(candidates)
    for _ in range(ROUNDS):
        if not current:
            break
        changed = []
        for opinion in _opinions(decoder, store, first, prompts, views, current):
            grid = opinion.argmax(-1).astype(np.uint8)
            if grid_key(grid) not in known:
                known.add(grid_key(grid))
                changed.append(grid)
        found += changed
        current = changed
    return found


def _opinions(
    decoder: Decoder,
    store: Store,
    first: Tensor,
    prompts: Sequence[Tokens],
    views: Sequence[View],
    grids: Sequence[Grid],
) -> list[NDArray[np.floating]]:
    """For each grid [H, W, colours]: the mean over the views of the log-probability of every colour in each cell."""
    totals = [np.zeros((*grid.shape, CELLS)) for grid in grids]
    for row, (prompt, view) in enumerate(zip(prompts, views, strict=True)):
        seen = [view.apply(grid) for grid in grids]
        answers = [output_tokens(grid) for grid in seen]
        every = continuation_distributions(decoder, store, row, len(prompt), first[row], answers)
        for total, grid, distribution in zip(totals, seen, every, strict=True):
            height, width = grid.shape
            # Every row of cells ends with its newline.
            rows = distribution[: height * (width + 1)].view(height, width + 1, -1)
            cells = rows[:, :width, :CELLS].float().log_softmax(-1).cpu().numpy()
            for color in range(CELLS):
                total[..., color] += unturn_grid(cells[..., view.colors[color]], view.turn)
    return [total / len(prompts) for total in totals]
