"""Verdicts of `Task.check` against an independent checker: right, nearly right, random and malformed answers.

python tests/tools/verdicts.py --answers 1000000
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.random import Generator
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:  # run as a script, Python looks beside the file alone
    sys.path[:0] = [str(ROOT)]


from trm import tasks
from trm.data.generate import generate
from trm.tasks import Puzzle, Status

WALL, FREE, START, GOAL, MARK = map(ord, "# SGo")
EACH = 500  # answers about one puzzle
ODD: tuple[Any, ...] = (np.nan, np.inf, 1.5, -1, 0, 10, 255, 256, 2**31, "x", None)


@dataclass(frozen=True, eq=False)
class Case:
    """A puzzle, one right answer, and for a maze the number of steps of a shortest path."""

    puzzle: Puzzle
    right: np.ndarray
    steps: int = 0


def cases(task: str, n: int, seed: int) -> list[Case]:
    found = []
    for puzzle in generate(task, n, seed):
        assert puzzle.answers is not None
        question = puzzle.inputs[0]
        steps = _distance(question, question != WALL) if task == "maze" else 0
        found.append(Case(puzzle, puzzle.answers[0], steps))
    return found


def _distance(question: np.ndarray, open_cells: np.ndarray) -> int:
    """Steps from S to G over open cells, by Dijkstra's algorithm on a sparse matrix; -1 where there is no way."""
    height, width = question.shape
    numbers = np.arange(question.size).reshape(height, width)
    right = open_cells[:, :-1] & open_cells[:, 1:]
    down = open_cells[:-1] & open_cells[1:]
    edges = [
        (numbers[:, :-1][right], numbers[:, 1:][right]),
        (numbers[:-1][down], numbers[1:][down]),
    ]
    rows, columns = (np.concatenate([edge[i] for edge in edges]) for i in (0, 1))
    graph = coo_matrix((np.ones(len(rows)), (rows, columns)), (question.size, question.size))
    (start,), (goal,) = np.flatnonzero(question == START), np.flatnonzero(question == GOAL)
    far = dijkstra(graph, directed=False, indices=start)[goal]
    return int(far) if np.isfinite(far) else -1


def right(case: Case, answer: Any) -> bool:
    """Whether the answer is right, found by other means than the project's."""
    question = case.puzzle.inputs[0]
    if not isinstance(answer, np.ndarray) or answer.shape != question.shape or answer.dtype.kind not in "iu":
        return False
    if case.puzzle.task == "sudoku":
        rows = [[int(cell) for cell in row] for row in answer]
        units = [*rows, *map(list, zip(*rows, strict=True))]
        units += [[rows[3 * i + k // 3][3 * j + k % 3] for k in range(9)] for i in range(3) for j in range(3)]
        asked = [int(cell) for cell in question.flat]
        given = all(
            clue in (0, cell)
            for clue, cell in zip(asked, [cell for row in rows for cell in row], strict=True)
        )
        return given and all(sorted(unit) == list(range(1, 10)) for unit in units)
    marked = answer == MARK
    if not np.array_equal(np.where(marked, FREE, answer), question) or (question[marked] != FREE).any():
        return False
    path = marked | (question == START) | (question == GOAL)
    return int(marked.sum()) == case.steps - 1 and _distance(question, path) == case.steps


def answers(case: Case, others: list[Case], rng: Generator) -> Any:
    """One answer, of a kind drawn at random."""
    kind = rng.integers(8)
    symbols = np.array(tasks.get(case.puzzle.task).symbols, dtype=np.int64)
    grid = case.right.astype(np.int64)
    if kind == 0:
        return case.right
    if kind <= 4:  # nearly right: some cells changed, two swapped, or as the question has them
        for _ in range(int(rng.integers(1, 4))):
            row, column = (int(rng.integers(side)) for side in grid.shape)
            other = tuple(int(rng.integers(side)) for side in grid.shape)
            change = rng.integers(4)
            if change == 0:
                grid[row, column] = rng.choice(symbols)
            elif change == 1:
                grid[row, column], grid[other] = grid[other], grid[row, column]
            elif change == 2:
                grid[row, column] = case.puzzle.inputs[0][row, column]
            else:
                grid[[row, other[0]]] = grid[[other[0], row]]
        return grid.astype(rng.choice(["u1", "i8", "i2"]))
    if kind == 5:
        return rng.choice(symbols, size=grid.shape).astype(np.uint8)
    if kind == 6:
        return others[int(rng.integers(len(others)))].right
    # Malformed: another shape or another type.
    odd = ODD[int(rng.integers(len(ODD)))]
    form = rng.integers(5)
    if form == 0:
        return grid[:-1]
    if form == 1:
        return grid.ravel()
    if form == 2:
        return grid.astype(float) + (0 if isinstance(odd, str) or odd is None else odd)
    if form == 3:
        mixed = grid.astype(object)
        mixed[0, 0] = odd
        return mixed
    return grid.astype(str)


def compare(n: int, seed: int) -> Counter[str]:
    """Check n answers both ways; returns how many were right and wrong. AssertionError at the first disagreement."""
    rng, counts = np.random.default_rng(seed), Counter[str]()
    each = min(EACH, max(1, n // 4))
    for task in ("sudoku", "maze"):
        puzzles = cases(task, -(-n // (2 * each)), seed)
        for number in range(n // 2):
            case = puzzles[number // each]
            answer = answers(case, puzzles, rng)
            expected = right(case, answer)
            verdict = tasks.get(task).check(case.puzzle, answer)
            assert (verdict.status is Status.VERIFIED) == expected, (task, case.puzzle.id, answer, verdict)
            counts[f"{task} {'right' if expected else 'wrong'}"] += 1
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--answers", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    started = time.monotonic()
    counts = compare(given.answers, given.seed)
    print(f"{counts.total()} verdicts, no disagreement: {dict(counts)}, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
