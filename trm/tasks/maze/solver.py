"""A classical exact solver for mazes: for the generator and the `exact` control arm, nothing else."""

from __future__ import annotations

from collections import deque

from trm.grid import Grid, Grids
from trm.tasks.maze.rules import GOAL, PATH, START, WALL
from trm.tasks.puzzle import Puzzle


def solve(puzzle: Puzzle) -> Grids | None:
    """The maze's answer by the benchmark's convention; None if there is none."""
    path = shortest_path(puzzle.grid)
    return None if path is None else (path,)


def shortest_path(grid: Grid) -> Grid | None:
    """A maze [H, W] with one shortest path from S to G marked `o`; None if there is none.

    Of the shortest paths it marks the one that the published Maze-Hard labels mark: that of a plain
    first-in-first-out breadth-first search from S that tries Down, Left, Right, Up.
    """
    stride = grid.shape[1] + 1  # one wall after each row, and a row of walls at either end
    cells = [WALL] * stride
    for row in grid.tolist():
        cells += [*row, WALL]
    cells += [WALL] * stride
    start, goal = cells.index(START), cells.index(GOAL)
    came_from = {start: start}
    queue = deque([start])
    while queue and goal not in came_from:
        here = queue.popleft()
        for beside in (here + stride, here - 1, here + 1, here - stride):
            if cells[beside] != WALL and beside not in came_from:
                came_from[beside] = here
                queue.append(beside)
    if goal not in came_from:
        return None
    marked, here = grid.copy(), came_from[goal]
    while here != start:
        row, column = divmod(here - stride, stride)
        marked[row, column] = PATH
        here = came_from[here]
    return marked
