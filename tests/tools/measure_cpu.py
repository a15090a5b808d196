"""What one answer costs on a CPU: the whole process of `hybrid solve --llm none`, for each of a file's first puzzles.

    python tests/tools/measure_cpu.py FILE                  # 20 Sudokus of a CSV file, and the least that is possible
    python tests/tools/measure_cpu.py FILE --shared         # beside 0, 1 and 2 busy processes, by number of threads
    python tests/tools/measure_cpu.py FILE --against DIR    # also with another checkout, run by turns

Processor time (of all threads, in user and kernel mode) is what the program costs; seconds on the wall are also what
others on the machine take. The least: NumPy's import alone, and the products of the steps at the measured peak.
Beside it: the import of PyTorch, which such an answer does without.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[2]
BUSY = "while True: pass"
SETTLE_SECONDS = (
    60  # after which the load of the last minute, by which threads are chosen, tells the neighbours
)


@dataclass(frozen=True)
class Cost:
    """Of one process. output: what it printed."""

    wall: float
    cpu: float
    megabytes: float
    output: str


def cost(arguments: Sequence[str], folder: Path = ROOT, environment: Mapping[str, str] | None = None) -> Cost:
    """Run a program in a folder to its end. environment: beside the own one, without settings of threads."""
    own = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("OMP_", "GOMP_", "MKL_", "OPENBLAS_"))
    }
    with tempfile.TemporaryFile("w+") as output:
        begun = time.perf_counter()
        process = subprocess.Popen(
            arguments,
            cwd=folder,
            env={**own, **(environment or {})},
            stdout=output,
            stderr=subprocess.DEVNULL,
        )
        _, _, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - begun
        process.returncode = 0  # it was waited for above
        output.seek(0)
        return Cost(wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, output.read())


def solving(puzzle: str, *options: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "hybrid",
        "solve",
        "--llm",
        "none",
        "--device",
        "cpu",
        "--json",
        *options,
        puzzle,
    ]


@contextlib.contextmanager
def neighbours(number: int) -> Iterator[None]:
    """So many busy processes beside what runs meanwhile."""
    running = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(number)]
    try:
        yield
    finally:
        for one in running:
            one.kill()
            one.wait()


def row(name: str, costs: Sequence[Cost]) -> str:
    wall, cpu = median(one.wall for one in costs), median(one.cpu for one in costs)
    return f"{name:<34} {wall:7.2f} s {cpu:7.2f} s {max(one.megabytes for one in costs):6.0f} MB"


def each(puzzles: Sequence[str], against: Path | None) -> int:
    """Print what each puzzle costs; 1 if one is not verified."""
    checkouts = {"this checkout": ROOT} | ({str(against): against} if against else {})
    imports = ("import numpy", "import torch")
    costs: dict[str, list[Cost]] = {name: [] for name in [*checkouts, *imports]}
    steps = []
    print(f"{'':<34} {'wall':>9} {'processor':>9} {'memory':>9}")
    for number, puzzle in enumerate(puzzles, 1):
        for name, folder in checkouts.items():
            costs[name].append(cost(solving(puzzle), folder))
        if number <= 5:
            for statement in imports:
                costs[statement].append(cost([sys.executable, "-c", statement]))
        answer = json.loads(costs["this checkout"][-1].output)
        steps.append(int(answer["steps"]))
        print(row(f"puzzle {number}: {answer['status']}, {steps[-1]} steps", [costs["this checkout"][-1]]))
        if answer["status"] != "verified":
            return 1
    for name, own in costs.items():
        print(row(f"median, {name}", own))
    if against:
        for what in ("wall", "cpu"):
            ratios = [
                getattr(a, what) / getattr(b, what)
                for a, b in zip(costs["this checkout"], costs[str(against)], strict=True)
            ]
            print(f"median ratio of {what}: {median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    limit(median(steps))
    return 0


def limit(steps: float) -> None:
    """Print what the products of so many steps take at the speed of a large matrix product in float32."""
    import numpy as np

    from trm.checkpoints.format import load
    from trm.model.flops import count_flops

    flop = steps * count_flops(load(ROOT / "ckpt/trm.pt", ["sudoku"]).experts["sudoku"].config).step
    matrix, seconds = np.ones((3072, 3072), np.float32), []
    for _ in range(5):
        begun = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - begun)
    peak = 2 * len(matrix) ** 3 / min(seconds)
    print(f"median of {steps:g} steps: {flop / 1e9:.0f} GFLOP; peak {peak / 1e9:.0f} GFLOP/s, ", end="")
    print(f"so {flop / peak:.3f} s")


def shared(puzzle: str, runs: int, numbers: Sequence[int]) -> None:
    """Print what a puzzle costs beside busy processes, with the threads that the program chooses, with 1 and 2."""
    print(f"{'neighbours, threads':<34} {'wall':>9} {'processor':>9} {'memory':>9}")
    kinds: dict[str, dict[str, str]] = {
        "its own choice": {},
        "1": {"OMP_NUM_THREADS": "1"},
        "2": {"OMP_NUM_THREADS": "2"},
    }
    for busy in numbers:
        costs: dict[str, list[Cost]] = {kind: [] for kind in kinds}
        with neighbours(busy):
            time.sleep(SETTLE_SECONDS)
            for _ in range(runs):  # by turns, so that whatever else runs meanwhile meets all of them
                for kind, settings in kinds.items():
                    costs[kind].append(cost(solving(puzzle), environment=settings))
        for kind, own in costs.items():
            print(row(f"{busy}, {kind}", own), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="CSV file with a column `question`")
    parser.add_argument("--puzzles", type=int, default=20)
    parser.add_argument("--shared", action="store_true")
    parser.add_argument(
        "--neighbours", type=int, nargs="+", default=[0, 1, 2], help="with --shared: busy processes"
    )
    parser.add_argument("--runs", type=int, default=3, help="with --shared: of each kind")
    parser.add_argument("--against", type=Path, help="another checkout")
    options = parser.parse_args()
    with options.file.open(encoding="utf-8") as file:
        puzzles = [
            line["question"] for _, line in zip(range(options.puzzles), csv.DictReader(file), strict=False)
        ]
    if options.shared:
        shared(puzzles[-1], options.runs, options.neighbours)
        return 0
    return each(puzzles, options.against)


if __name__ == "__main__":
    sys.exit(main())
