"""How time and memory grow on a CPU: with puzzles, cells, steps, restarts and processes; a table and a picture.

    python tests/tools/measure_growth.py FILE -o growth.svg
    python tests/tools/measure_growth.py FILE --most 100000 -o growth.svg

FILE is a CSV file of Sudokus with a column `question`. Where the number of puzzles or restarts grows, a network of 32
numbers a cell takes the place of the shipped one: what is measured is what surrounds a network. Its answers are
wrong, so that no rule ends a search early. Seconds are those of the processor, of one thread a process: others on
the machine change them less than those on the wall.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from measure_cpu import ROOT, cost

from trm.checkpoints.format import Expert, load, save
from trm.model.config import TRMConfig
from trm.model.network import TRM

Points = list[
    tuple[float, float, float]
]  # how many of something, seconds, megabytes (or seconds on the wall)
SMALL = TRMConfig(seq_len=81, vocab_size=11, canvas_width=9, hidden_size=32, heads=2, prefix=1, draft=True)


def write(questions: list[str], number: int, file: Path) -> Path:
    with file.open("w", encoding="utf-8") as out:
        out.write("question\n")
        out.writelines(f"{question}\n" for question in islice(cycle(questions), number))
    return file


def solve(file: Path, network: Path, *options: str) -> tuple[float, float]:
    """Processor seconds and megabytes of `hybrid solve`, whose answers go to a file."""
    answers = file.with_suffix(".jsonl")
    command = [
        sys.executable, "-m", "hybrid", "solve", "--llm", "none", "--device", "cpu", "--refiner", str(network),
        "--json", "-o", str(answers), *options, str(file),
    ]  # fmt: skip
    used = cost(command, environment={"OMP_NUM_THREADS": "1"})
    answers.unlink()
    return used.cpu, used.megabytes


def of_puzzles(questions: list[str], most: int, network: Path, folder: Path) -> Points:
    numbers = [10**n for n in range(7) if 10**n <= most]
    files = {number: write(questions, number, folder / f"{number}.csv") for number in numbers}
    return [(n, *solve(file, network, "--steps", "1", "--restarts", "0")) for n, file in files.items()]


def of_restarts(questions: list[str], network: Path, folder: Path) -> Points:
    file = write(questions, 16, folder / "restarts.csv")
    return [(n, *solve(file, network, "--restarts", str(n))) for n in (0, 2, 4, 8)]


def of_cells(config: TRMConfig) -> Points:
    """A step of the shipped Sudoku network's shape, on canvases of other sizes."""
    points = []
    for side in (4, 9, 15, 20, 30):
        canvas = replace(config, seq_len=side * side, canvas_width=side, positions="rope2d")
        points.append((side * side, step_seconds(canvas, 1), 0.0))
    return points


def step_seconds(config: TRMConfig, steps: int) -> float:
    """Processor seconds of so many steps for one puzzle, in bfloat16; the lesser of two measurements."""
    model = TRM(config).eval().requires_grad_(False)
    model.dtype = torch.bfloat16
    model.net.to(torch.bfloat16)
    tokens, seconds = torch.zeros(1, config.seq_len, dtype=torch.int64), []
    with torch.inference_mode():
        for _ in range(2):
            state, begun = model.initial_state(1), time.process_time()
            for _ in range(steps):
                state, _ = model.step(state, tokens, None, tokens)
            seconds.append(time.process_time() - begun)
    return min(seconds)


def of_processes(file: Path) -> Points:
    """The same 8 puzzles by one, two and four processes, each with its share: the processor seconds of all."""
    points = []
    for number in (1, 2, 4):
        shares = [
            [sys.executable, "-m", "trm", "eval", "ckpt/trm.pt", "--task", "sudoku", "--data", str(file.resolve()),
             "--limit", "8", "--device", "cpu", "--steps", "1", "--share", f"{k}/{number}"]
            for k in range(1, number + 1)
        ]  # fmt: skip
        used = [cost(share, environment={"OMP_NUM_THREADS": "1"}) for share in shares]
        points.append((number, sum(one.cpu for one in used), max(one.megabytes for one in used)))
    return points


def draw(measured: dict[str, Points], out: Path) -> None:
    figure, axes = plt.subplots(2, 3, figsize=(11, 6), layout="constrained")
    panels = [(name, points, 1, "processor seconds") for name, points in measured.items()]
    panels.insert(1, ("puzzles", measured["puzzles"], 2, "megabytes, peak"))
    for place, (name, points, column, unit) in zip(axes.flat, panels, strict=True):
        place.plot([point[0] for point in points], [point[column] for point in points], "o-")
        place.set(xlabel=name, ylabel=unit, ylim=(0, None))
        if name == "puzzles":
            place.set_xscale("log")
    figure.savefig(out, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--most", type=int, default=10_000, help="puzzles of one command")
    parser.add_argument("-o", "--out", type=Path, required=True, help="the picture")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with options.file.open(encoding="utf-8") as file:
        questions = [line["question"] for line in csv.DictReader(file)]
    shipped = load(ROOT / "ckpt/trm.pt", ["sudoku"]).experts["sudoku"].config
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        network = folder / "small.pt"
        torch.manual_seed(0)
        save(network, {"sudoku": Expert("sudoku", SMALL, TRM(SMALL).state_dict())})
        kinds: dict[str, Callable[[], Points]] = {
            "puzzles": lambda: of_puzzles(questions, options.most, network, folder),
            "restarts": lambda: of_restarts(questions, network, folder),
            "cells": lambda: of_cells(shipped),
            "steps": lambda: [(steps, step_seconds(shipped, steps), 0.0) for steps in (1, 2, 4, 8)],
            "processes": lambda: of_processes(options.file),
        }
        measured: dict[str, Points] = {}
        for name, measure in kinds.items():
            measured[name] = measure()
            for number, seconds, megabytes in measured[name]:
                print(
                    f"{name:<10} {number:7g} {seconds:8.2f} s"
                    + (f" {megabytes:6.0f} MB" if megabytes else "")
                )
            sys.stdout.flush()
    draw(measured, options.out)


if __name__ == "__main__":
    main()
