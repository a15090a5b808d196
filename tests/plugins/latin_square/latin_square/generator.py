"""Latin squares with one solution."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np

from latin_square.solver import solutions
from trm.tasks import Puzzle
from trm.tasks.ranges import whole_range


def generate(rng: np.random.Generator, clues: int | tuple[int, int] = (6, 12)) -> Iterator[Puzzle]:
    """clues: how many cells are given."""
    fewest, most = whole_range("clues", clues, 6, 16)
    cyclic = np.add.outer(np.arange(4), np.arange(4)) % 4 + 1
    while True:
        solution = cyclic.astype(np.uint8)[rng.permutation(4)][:, rng.permutation(4)]
        question = solution.copy()
        wanted = int(rng.integers(fewest, most + 1))
        for cell in rng.permutation(16).tolist():
            if np.count_nonzero(question) == wanted:
                yield Puzzle("latin_square", (question,), answers=(solution,))
                break
            digit, question.flat[cell] = question.flat[cell], 0
            if len(list(islice(solutions(question), 2))) > 1:
                question.flat[cell] = digit
