"""Score answers that come from elsewhere: the network is the verifier (`score`), the rules are the checker (`check`).

python examples/judge_candidates.py
"""

from trm import Refiner
from trm.tasks import get

sudoku = get("sudoku")
puzzle = sudoku.samples()[0]
assert puzzle.answers is not None
right = puzzle.answers[0]
wrong = right.copy()
wrong[0, 2] = wrong[0, 2] % 9 + 1  # one free cell holds another digit

refiner = Refiner.from_pretrained("ckpt/trm.pt")
for name, grid, score in zip(
    ("right", "wrong"), (right, wrong), refiner.score(puzzle, [right, wrong]), strict=True
):
    print(f"{name}: score {score:.3f}, by the rules {sudoku.check(puzzle, grid).status}")
