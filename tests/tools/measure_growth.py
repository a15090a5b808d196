"""How time and memory grow on a CPU: with puzzles, cells, steps, restarts and processes; a table and a picture.

    python tests/tools/measure_growth.py FILE -o growth.svg
    python tests/tools/measure_growth.py FILE --records growth.jsonl --minutes 3 -o growth.svg    # in pieces

FILE is a CSV file of Sudokus with a column `question`. With --records, what that file holds is not measured again.

- puzzles: `hybrid solve` answers Sudokus of 4x4 with the network that ships, one step each, from 1 to 100,000; a
  thousand different ones again and again.
- restarts: of 16 Sudokus by a network of 32 numbers a cell in place of the shipped one: its answers are wrong, so
  that no rule ends a search early.
- cells, steps: of a network of the shipped shape, one puzzle.
- processes: eight Sudokus divided among them; the seconds of all.

Seconds are those of the processor, of one thread a process: others on the machine change them less than those on the
wall.
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
from math import inf, isqrt
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from measure_cpu import ROOT, cost

from trm import jsonl
from trm.checkpoints.format import Expert, load, save
from trm.data.generate import generate
from trm.model.config import TRMConfig
from trm.model.network import TRM
from trm.tasks import get

Point = tuple[float, float]  # processor seconds; megabytes, or 0 where they were not measured
SMALL = TRMConfig(seq_len=81, vocab_size=11, canvas_width=9, hidden_size=32, heads=2, prefix=1, draft=True)

LABELS = {
    "puzzles": "puzzles (4x4, one step)",
    "cells": "cells, one step",
    "steps": "supervision steps, one Sudoku",
    "restarts": "restarts, 16 Sudokus, tiny network",
    "processes": "processes, 8 Sudokus in all",
}


def write(questions: list[str], number: int, file: Path) -> Path:
    with file.open("w", encoding="utf-8") as out:
        out.write("question,number\n")
        out.writelines(f"{question},{n}\n" for n, question in enumerate(islice(cycle(questions), number)))
    return file


def spent(command: list[str]) -> Point:
    """Processor seconds and megabytes of a program, which a small one starts: the peak of a program begins with that
    of whoever starts it, and this one has PyTorch."""
    small = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
assert done.returncode in (0, 1), done.returncode  # 1: some puzzles are unsolved
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
"""
    output = cost([sys.executable, "-c", small, *command], environment={"OMP_NUM_THREADS": "1"}).output
    if not output:
        raise RuntimeError(f"{' '.join(command)}: failed, expected that it ends well")
    seconds, megabytes = map(float, output.split())
    return seconds, megabytes


def solve(file: Path, network: Path, *options: str) -> Point:
    """Processor seconds and megabytes of `hybrid solve`, whose answers go to a file."""
    answers = file.with_suffix(".jsonl")
    command = [
        sys.executable, "-m", "hybrid", "solve", "--llm", "none", "--device", "cpu", "--refiner", str(network),
        "--json", "-o", str(answers), *options, str(file),
    ]  # fmt: skip
    used = spent(command)
    answers.unlink()
    return used


def on_canvas(config: TRMConfig, side: int) -> TRMConfig:
    """The same network for another size of grid."""
    return replace(config, seq_len=side * side, canvas_width=side, positions="rope2d")


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


def of_processes(file: Path, number: int) -> Point:
    """The same 8 puzzles by so many processes, each with its share: processor seconds of all, memory of one."""
    shares = [
        [sys.executable, "-m", "trm", "eval", "ckpt/trm.pt", "--task", "sudoku", "--data", str(file.resolve()),
         "--limit", "8", "--device", "cpu", "--steps", "1", "--share", f"{k}/{number}"]
        for k in range(1, number + 1)
    ]  # fmt: skip
    used = [spent(share) for share in shares]
    return sum(seconds for seconds, _ in used), max(megabytes for _, megabytes in used)


def draw(measured: dict[str, dict[int, Point]], out: Path) -> None:
    figure, axes = plt.subplots(2, 3, figsize=(11, 6), layout="constrained")
    panels = [(name, points, 0, "processor seconds") for name, points in measured.items()]
    panels.insert(1, ("puzzles", measured["puzzles"], 1, "megabytes, peak"))
    for place, (name, points, column, unit) in zip(axes.flat, panels, strict=True):
        place.plot(list(points), [point[column] for point in points.values()], "o-")
        log = name == "puzzles" and column == 0
        most = max(point[column] for point in points.values())
        place.set(
            xlabel=LABELS[name],
            ylabel=unit,
            xscale="log" if name == "puzzles" else "linear",
            yscale="log" if log else "linear",
            ylim=(1 if log else 0, most * (2 if log else 1.1)),
        )
    figure.savefig(out, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path)
    parser.add_argument("--most", type=int, default=100_000, help="puzzles of one command")
    parser.add_argument("--records", type=Path, help="points measured so far, as lines of JSON")
    parser.add_argument("--minutes", type=float, default=inf, help="begin no measurement after so many")
    parser.add_argument("-o", "--out", type=Path, required=True, help="the picture")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with options.file.open(encoding="utf-8") as file:
        questions = [line["question"] for line in csv.DictReader(file)]
    shipped = load(ROOT / "ckpt/trm.pt", ["sudoku"]).experts["sudoku"].config
    known = jsonl.read(options.records) if options.records and options.records.exists() else []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        network = folder / "small.pt"
        torch.manual_seed(0)
        save(network, {"sudoku": Expert("sudoku", SMALL, TRM(SMALL).state_dict())})
        four = get("sudoku4")
        small = [four.question_text(puzzle) for puzzle in generate("sudoku4", 1000, 0)]

        def of_puzzles(number: int) -> Point:
            file = write(small, number, folder / f"{number}.csv")
            return solve(file, ROOT / "ckpt/trm.pt", "--steps", "1", "--restarts", "0")

        def of_restarts(number: int) -> Point:
            return solve(write(questions, 16, folder / "16.csv"), network, "--restarts", str(number))

        kinds: dict[str, tuple[list[int], Callable[[int], Point]]] = {
            "puzzles": ([10**n for n in range(7) if 10**n <= options.most], of_puzzles),
            "cells": (
                [16, 81, 225, 400, 900],
                lambda n: (step_seconds(on_canvas(shipped, isqrt(n)), 1), 0.0),
            ),
            "steps": ([1, 2, 4, 8], lambda n: (step_seconds(shipped, n), 0.0)),
            "restarts": ([0, 2, 4, 8], of_restarts),
            "processes": ([1, 2, 4], lambda n: of_processes(options.file, n)),
        }
        measured: dict[str, dict[int, Point]] = {name: {} for name in kinds}
        for line in known:
            measured[line.value["what"]][line.value["number"]] = tuple(line.value["point"])
        begun = time.monotonic()
        for name, (numbers, measure) in kinds.items():
            for number in numbers:
                if number not in measured[name]:
                    if time.monotonic() - begun > 60 * options.minutes:
                        print("not all is measured yet: the same command goes on")
                        return
                    measured[name][number] = point = measure(number)
                    if options.records:
                        jsonl.append(options.records, [{"what": name, "number": number, "point": point}])
                seconds, megabytes = measured[name][number]
                memory = f" {megabytes:6.0f} MB" if megabytes else ""
                print(f"{name:<10} {number:7} {seconds:8.2f} s{memory}", flush=True)
    draw(measured, options.out)


if __name__ == "__main__":
    main()
