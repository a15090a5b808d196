"""Solve a hard Sudoku with the network alone. Restarts go on until the rules accept a grid.

python examples/refine_sudoku.py
"""

from trm import Refiner

QUESTION = "43......2.8....536.6.5......4.6.3..7....1.6..2....9...3.......5..9.5.........897."

refiner = Refiner.from_pretrained("ckpt/trm.pt")
out = refiner.refine(QUESTION, restarts=16)
print(out.text)
print(f"{out.verdict.status}, confidence {out.confidence:.3f}")
print(f"{out.steps} supervision steps, {out.restarts} restarts")
