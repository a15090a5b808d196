"""Drafts that no model wrote: blank, random, or the label with mistakes in it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from trm.grid import Grid, Grids
from trm.tasks import Puzzle, Task, get
from trm.tasks.maze.rules import FREE, GOAL, PATH, START, WALL, Field, find
from trm.tasks.maze.solver import shortest_path

MakeDraft = Callable[[Puzzle], Grids | None]


def draft_maker(kind: str, seed: int) -> MakeDraft:
    """A function that makes drafts: `blank`, `random`, `oracle`, `oracle@PERCENT` or `consistent@PERCENT`."""
    if kind == "blank":
        return lambda puzzle: get(puzzle.task).blank_draft(puzzle)
    name, _, percent = kind.partition("@")
    share = 1.0 if name == "random" else float(percent or 0) / 100
    return lambda puzzle: corrupt(puzzle, share, name, seed)


def corrupt(puzzle: Puzzle, share: float, kind: str, seed: int) -> Grids | None:
    """The label with `share` of its free cells wrong; None where the label is not known. Givens stay.

    kind: "oracle": wrong cells at random. "random": every free cell is drawn from the symbols of the label.
    "consistent": the same mistake in all of them.
    """
    if puzzle.answers is None:
        return None
    task = get(puzzle.task)
    rng = np.random.default_rng([seed, puzzle.checksum, round(100 * share)])
    pairs = list(zip(puzzle.inputs, puzzle.answers, strict=True))
    if kind == "consistent":
        mistaken = CONSISTENT.get(task.name, exchange_symbols)
        return tuple(mistaken(task, question, label, share, rng) for question, label in pairs)
    if kind == "random" and task.has_demonstrations:  # the label's own shape and colours would give it away
        colours = np.unique(np.concatenate([output.ravel() for _, output in puzzle.demos]))
        return tuple(rng.choice(colours, size=grid.shape) for grid in puzzle.inputs)
    return tuple(_with_wrong_cells(task, *pair, None if kind == "random" else share, rng) for pair in pairs)


def label_symbols(task: Task, question: Grid, label: Grid) -> NDArray[np.uint8]:
    """The symbols that the label has in its free cells, each once."""
    return np.unique(label[task.free_cells(question, label)])


def _with_wrong_cells(
    task: Task, question: Grid, label: Grid, share: float | None, rng: np.random.Generator
) -> Grid:
    """share: of the free cells that get another symbol; None: all of them get any symbol, the right one too."""
    symbols = label_symbols(task, question, label)
    draft = label.copy()
    cells = np.argwhere(task.free_cells(question, label))
    chosen = cells if share is None else rng.permutation(cells)[: round(share * len(cells))]
    for row, col in chosen:
        choices = symbols if share is None else symbols[symbols != label[row, col]]
        if len(choices):
            draft[row, col] = rng.choice(choices)
    return draft


# -- one mistake throughout ----------------------------------------------------------------------------------
def exchange_symbols(task: Task, question: Grid, label: Grid, share: float, rng: np.random.Generator) -> Grid:
    """In `share` of the free cells each symbol is replaced, always by the same other symbol."""
    symbols = rng.permutation(label_symbols(task, question, label))
    replacement = np.arange(256, dtype=np.uint8)
    replacement[symbols] = np.roll(symbols, 1)
    draft = label.copy()
    cells = np.argwhere(task.free_cells(question, label))
    for row, col in rng.permutation(cells)[: round(share * len(cells))]:
        draft[row, col] = replacement[label[row, col]]
    return draft


def lead_astray(task: Task, question: Grid, label: Grid, share: float, rng: np.random.Generator) -> Grid:
    """The marked path without its last `share`; from there a way of the same length, but to somewhere else."""
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
    """Moves from start to every cell [H, W], -1 where there is no way."""
    field, moves = Field.of(open_cells), np.full(open_cells.shape, -1)
    reached, wider, count = 0, field.bit(start), 0
    while wider != reached:
        reached = wider
        moves[Field(reached, field.stride).open_cells(len(moves)) & (moves < 0)] = count
        wider, count = field.spread(reached), count + 1
    return moves


# Tasks in which another symbol here and there is no mistake that a solver would make.
CONSISTENT = {"maze": lead_astray}
