"""Find several different shortest paths of a maze.

python examples/several_paths.py
"""

from trm import Refiner
from trm.tasks import get

MAZE = "\n".join(["S   #", "  # #", " ##  ", "     ", "#   G"])

out = Refiner.from_pretrained("ckpt/trm.pt").refine(MAZE, answers=3, restarts=12)
for number, grid in enumerate((out.grid, *out.alternatives), 1):
    print(f"path {number}\n{get('maze').text((grid,))}")
print(f"the first is {out.verdict.status}")
