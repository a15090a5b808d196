"""Answer an ARC puzzle within a number of seconds. Most of them go into training on its demonstrations.

python examples/arc_within_budget.py 30
"""

import sys

from trm import Refiner
from trm.tasks import get

arc = get("arc")
puzzle = arc.samples()[0]
refiner = Refiner.from_pretrained("ckpt/trm.pt")
# In ARC a restart is another view of the puzzle: 16 views vote.
out = refiner.refine(puzzle, restarts=15, steps=2, budget=float(sys.argv[1]) if len(sys.argv) > 1 else 30.0)
assert out.candidates is not None
for guess, grid in enumerate(out.candidates[0], 1):
    print(f"guess {guess}\n{arc.text((grid,))}")
# No rule decides in ARC: the status is `unverified`, and the confidence says how far to trust the first guess.
print(f"{out.verdict.status}, confidence {out.confidence:.3f}, {out.seconds:.0f} s")
