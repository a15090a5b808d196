"""Train a small network on easy Sudokus on the CPU, load it, and let it answer.

python examples/train_tiny.py runs/example train.seconds=100
"""

import sys

from trm import Refiner
from trm.cli import app
from trm.tasks import get

folder, *overrides = sys.argv[1:] or ["runs/example"]
app(["train", "configs/tiny.toml", *overrides, "--out", folder, "--device", "cpu"], standalone_mode=False)

refiner = Refiner.from_pretrained(f"{folder}/checkpoints/best", device="cpu")
out = refiner.refine(get("sudoku").samples()[0], steps=8, restarts=8)
print(f"{out.text}: {out.verdict.status}")
