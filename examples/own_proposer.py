"""A proposer of one's own beside the network: here one that fills each row with its missing digits, in order.

python examples/own_proposer.py
"""

import numpy as np

from hybrid.pipeline import Pipeline
from hybrid.render import plain
from trm import Puzzle, Refiner
from trm.inference.config import SearchConfig
from trm.inference.proposals import Draft, Feedback
from trm.tasks import get


class RowFiller:
    """Right in every row, and wrong nearly everywhere else. Any model that makes grids fits in here."""

    name: str | None = "row filler"

    def propose(
        self, puzzle: Puzzle, drafts: int = 1, feedback: Feedback | None = None, seed: int = 0
    ) -> list[Draft]:
        grid = puzzle.grid.copy()
        for row in grid:
            row[row == 0] = np.setdiff1d(np.arange(1, 10), row)
        return [Draft((grid,))]


pipeline = Pipeline(RowFiller(), Refiner.from_pretrained("ckpt/trm.pt"))
for answer in pipeline.solve(get("sudoku").samples()[:2], SearchConfig(restarts=8)):
    print(plain(answer))
