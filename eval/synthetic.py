"""Drafts that no model wrote: blank, random, the label with mistakes in it, a classical solver's answer."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trm.grid import Grid, Grids
from trm.tasks import Puzzle
from trm.tasks.maze.solver import shortest_path
from trm.tasks.maze.task import FREE, GOAL, PATH, START, WALL, Field, find
from trm.tasks.sudoku.solver import solve_sudoku


def maker(kind: str, seed: int) -> Callable[[Puzzle], Grids | None]:
    """What makes such drafts: `blank`, `random`, `oracle`, `oracle@PERCENT` or `consistent@PERCENT`."""
    if kind == "blank":
        return lambda puzzle: tuple(grid * 0 if puzzle.task == "sudoku" else grid for grid in puzzle.inputs)
    name, _, percent = kind.partition("@")
    share = 1.0 if name == "random" else float(percent or 0) / 100
    return lambda puzzle: corrupted(puzzle, share, name, seed)


def corrupted(puzzle: Puzzle, share: float, kind: str, seed: int) -> Grids | None:
    """The label with `share` of its free cells wrong; "random": every free cell drawn from what labels hold.

    "consistent": by one and the same mistake. Givens stay. None where the label is not known. A random ARC grid has
    its input's shape and the demonstrations' colours: the label's own would tell of it.
    """
    if puzzle.answers is None:
        return None
    crc = zlib.crc32(b"".join(grid.tobytes() for grid in puzzle.inputs))
    rng = np.random.default_rng([seed, crc, round(100 * share)])
    if kind == "consistent":
        if puzzle.task == "maze":
            return (_astray(puzzle.grid, puzzle.answers[0], share, rng),)
        labels = zip(puzzle.inputs, puzzle.answers, strict=True)
        return tuple(_exchanged(puzzle.task, question, label, share, rng) for question, label in labels)
    blind = kind == "random"
    if blind and puzzle.task == "arc":
        shown = np.unique(np.concatenate([after.ravel() for _, after in puzzle.demos]))
        return tuple(rng.choice(shown, size=grid.shape) for grid in puzzle.inputs)
    made = []
    for question, label in zip(puzzle.inputs, puzzle.answers, strict=True):
        # What a maze's open cell or an ARC cell can be is what the label uses; a Sudoku's free cell any digit.
        symbols = np.unique(label[free_cells(puzzle.task, question, label)])
        draft = label.copy()
        cells = np.argwhere(free_cells(puzzle.task, question, label))
        chosen = cells if blind else rng.permutation(cells)[: round(share * len(cells))]
        for row, col in chosen:
            others = symbols if blind else symbols[symbols != label[row, col]]
            if len(others):
                draft[row, col] = rng.choice(others)
        made.append(draft)
    return tuple(made)


def _exchanged(task: str, question: Grid, label: Grid, share: float, rng: np.random.Generator) -> Grid:
    """In `share` of the free cells every symbol is the same other symbol, all along the grid."""
    symbols = rng.permutation(np.unique(label[free_cells(task, question, label)]))
    instead = np.arange(256, dtype=np.uint8)
    instead[symbols] = np.roll(symbols, 1)
    draft = label.copy()
    cells = np.argwhere(free_cells(task, question, label))
    for row, col in rng.permutation(cells)[: round(share * len(cells))]:
        draft[row, col] = instead[label[row, col]]
    return draft


def _astray(question: Grid, label: Grid, share: float, rng: np.random.Generator) -> Grid:
    """The marked path up to its last `share`; from there as long a way as was left, but to somewhere else."""
    start = find(question, START)
    distance = moves_from(question != WALL, start)
    marked = [(row, col) for row, col in np.argwhere(label == PATH).tolist()]
    path = sorted(marked, key=lambda cell: int(distance[cell]))
    kept = path[: round((1 - share) * len(path))]
    draft = np.where(label == PATH, FREE, label)
    for cell in kept:
        draft[cell] = PATH
    fork = kept[-1] if kept else start
    away = moves_from(question != WALL, fork)
    far = np.argwhere((away > 0) & (away <= len(path) - len(kept)) & (question == FREE) & (label != PATH))
    if not len(far) or len(kept) == len(path):
        return draft
    longest = max(int(away[tuple(cell)]) for cell in far)
    ends = [cell for cell in far.tolist() if away[tuple(cell)] == longest]
    detour = np.where(question == WALL, WALL, FREE).astype(np.uint8)
    end = tuple(ends[rng.integers(len(ends))])
    detour[fork], detour[end] = START, GOAL
    way = shortest_path(detour)
    assert way is not None
    on_way = ((way == PATH) | (way == GOAL)) & (question == FREE)
    return np.where(on_way, PATH, draft).astype(np.uint8)


def moves_from(open_cells: NDArray[np.bool_], start: tuple[int, int]) -> NDArray[np.int64]:
    """Moves from start to every cell, -1 where there is no way. [H, W]"""
    field, moves = Field.of(open_cells), np.full(open_cells.shape, -1)
    reached, wider, count = 0, field.bit(start), 0
    while wider != reached:
        reached = wider
        moves[Field(reached, field.stride).open_cells(len(moves)) & (moves < 0)] = count
        wider, count = field.spread(reached), count + 1
    return moves


def free_cells(task: str, question: Any, label: Any) -> Any:
    """Which cells an answer is free to fill: blanks; in a maze, cells that are neither wall nor S nor G."""
    if task == "arc":
        return np.ones(label.shape, dtype=bool)
    return question == (0 if task == "sudoku" else ord(" "))


def solved(puzzle: Puzzle) -> Grids | None:
    """A classical solver's answer: a control, and the only place where one answers anything."""
    if puzzle.task == "sudoku":
        found = solve_sudoku(puzzle.grid, most=1).solutions
        return (found[0],) if found else None
    if puzzle.task == "maze":
        path = shortest_path(puzzle.grid)
        return None if path is None else (path,)
    return None
