"""A data set as somebody might have one: floor plans in which every room is filled with the letter that it holds.

    python examples/rooms.py rooms.csv 3000 0        (file, number of plans, seed)

docs/how-to/own-grid.md trains a network on it, without any code about rooms.
"""

import csv
import sys

import numpy as np

SIDE = 6
SEEDS = "ABC"


def floor_plan(rng: np.random.Generator) -> tuple[str, str]:
    """A plan of walls `#`, floor `.` and one letter in each room, and the same plan with its rooms filled."""
    answer = np.where(rng.random((SIDE, SIDE)) < 0.35, "#", ".")
    question = answer.copy()
    while len(free := np.argwhere(answer == ".")):
        start = tuple(free[rng.integers(len(free))])
        answer[start] = question[start] = rng.choice(list(SEEDS))
        room = [start]
        for row, column in room:  # it grows while it is walked through
            for cell in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
                if min(cell) >= 0 and max(cell) < SIDE and answer[cell] == ".":
                    answer[cell] = answer[start]
                    room.append(cell)
    question_text, answer_text = ("\n".join("".join(row) for row in plan) for plan in (question, answer))
    return question_text, answer_text


if __name__ == "__main__":
    path, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    rng = np.random.default_rng(seed)
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([("question", "answer"), *(floor_plan(rng) for _ in range(count))])
