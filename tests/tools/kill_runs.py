"""Kills programs at random moments and resumes them: nothing may be lost, done twice, or come out differently.

    python tests/tools/kill_runs.py --kills 100 train tune solve compare

Programs are forked from this process, which has loaded the libraries already, and end by SIGKILL, SIGINT or SIGTERM.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:  # run as a script, Python looks beside the file alone
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import numpy as np
import torch
from small_networks import network

import eval.compare
import hybrid.cli
import hybrid.llm.tuning.command  # loaded once, before processes are forked
import trm.cli
import trm.training.trainer  # loaded once too
from hybrid.llm.tuning.data import ArcTask
from hybrid.llm.tuning.prepare import write_tasks
from trm.checkpoints.format import Expert, save
from trm.data.datasets import write
from trm.data.generate import generate

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
PATIENCE = 120.0  # seconds after which a program that ignores a signal counts as hanging


@dataclass(frozen=True)
class Program:
    """A command line. begin, resume: its arguments. result: what must not depend on interruptions."""

    main: Callable[[], object]
    begin: Sequence[str]
    resume: Sequence[str]
    out: Path
    result: Callable[[Path], object]


def fork(program: Program, arguments: Sequence[str]) -> int:
    """Run a program in a child; returns the child's id."""
    if child := os.fork():
        return child
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        torch.set_num_threads(1)  # the threads of the process that was forked are not here
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        os.dup2(os.open(program.out.with_name("errors.txt"), os.O_CREAT | os.O_APPEND | os.O_WRONLY), 2)
        sys.argv = list(arguments)
        program.main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def wait(child: int, seconds: float) -> int | None:
    """The exit code of a child, negative for a signal; None where it still runs after so many seconds."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    return None


def remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    path.unlink(missing_ok=True)


def whole(program: Program) -> tuple[object, float]:
    """The result without interruption, and the seconds that it took."""
    started = time.monotonic()
    code = wait(fork(program, program.begin), 20 * PATIENCE)
    seconds = time.monotonic() - started
    assert code in (0, 1), f"exit {code}: {program.out.with_name('errors.txt').read_text()}"
    result = program.result(program.out)
    remove(program.out)
    return result, seconds


def kill(program: Program, kills: int, rng: random.Random) -> tuple[int, int]:
    """Kill and resume; returns the number of kills, and of runs that came to their end. Fails where one differs."""
    expected, seconds = whole(program)
    killed = runs = 0
    while killed < kills:
        remove(program.out)
        while True:
            begun = program.out.exists()
            child = fork(program, program.resume if begun else program.begin)
            code = (
                wait(child, rng.uniform(0, 0.7) * seconds) if killed < kills else wait(child, 20 * PATIENCE)
            )
            if code is None:
                os.kill(child, rng.choice(SIGNALS))
                killed += 1
                if wait(child, PATIENCE) is None:
                    os.kill(child, signal.SIGKILL)
                    raise AssertionError(f"{program.begin[0]} ignores signals")
            elif code in (2, 3) and begun:  # killed before its first checkpoint: nothing to resume from
                remove(program.out)
            else:
                break
        found = program.result(program.out)
        assert found == expected, f"{program.begin}: after {killed} kills {_difference(found, expected)}"
        runs += 1
    return killed, runs


def _difference(found: object, expected: object) -> str:
    """What came otherwise, shortened; of lists the first elements that differ."""
    if isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        found, expected = next(pair for pair in zip(found, expected, strict=True) if pair[0] != pair[1])
    return f"{str(found)[:1000]}, expected {str(expected)[:1000]}"


def _hashes(out: Path) -> dict[str, str]:
    """Of both checkpoints' weights. No leftover of an interrupted write may be there."""
    folders = sorted(path.name for path in (out / "checkpoints").iterdir())
    assert folders == ["best", "last"], folders
    return {
        name: hashlib.sha256((out / "checkpoints" / name / "model.safetensors").read_bytes()).hexdigest()
        for name in folders
    }


def _lines(file: Path, keys: Sequence[str]) -> list[list[object]]:
    """These values of every line, numbers rounded: a confidence differs in its last digits with what shares a batch,
    and after a kill fewer puzzles are left."""
    lines = [[line[key] for key in keys] for line in map(json.loads, file.read_text().splitlines())]
    return [[round(value, 6) if isinstance(value, float) else value for value in line] for line in lines]


def _evaluated(out: Path) -> object:
    """A training's weights, and the steps at which it was evaluated."""
    metrics = map(json.loads, (out / "metrics.jsonl").read_text().splitlines())
    return _hashes(out), [
        (line["step"], line["held_out"]["accuracy"]) for line in metrics if "held_out" in line
    ]


def train(folder: Path, steps: int = 40) -> Program:
    out = folder / "run"
    small = [
        "model.hidden_size=32", "model.heads=2", "data.generate=64", "data.held_out_size=8", "train.batch=8",
        "train.pool=2", "train.max_steps=3", "train.evaluate_every=0.1", "train.save_every_seconds=0",
        f"train.steps={steps}",
    ]  # fmt: skip
    recipe = str(ROOT / "configs" / "tiny.toml")
    begin = ["trm", "train", recipe, *small, "--out", str(out), "--device", "cpu"]
    return Program(
        trm.cli.main,
        begin,
        ["trm", "train", recipe, "--resume", str(out), "--device", "cpu"],
        out,
        _evaluated,
    )


def tune(folder: Path, steps: int = 40) -> Program:
    out, rng = folder / "run", np.random.default_rng(0)
    grids = [rng.integers(0, 10, (2, 2)).astype(np.uint8) for _ in range(12)]
    pairs = [(grid, grid) for grid in grids]
    write_tasks([ArcTask(f"copy{n}", pairs[n + 1 :], pairs[:1]) for n in range(4)], folder / "tasks.json.gz")
    given = [f"data.tasks={folder / 'tasks.json.gz'}", f"data.held_out={folder / 'tasks.json.gz'}", "data.group=8",
             "model.hidden_size=32", "model.layers=1", "train.device=cpu", "train.save_seconds=0", "train.seconds=0",
             f"train.steps={steps}", f"train.out={out}"]  # fmt: skip
    begin = ["hybrid", "tune", str(ROOT / "configs" / "tune_tiny.toml"), *given]
    return Program(hybrid.cli.main, begin, ["hybrid", "tune", "--resume", str(out)], out, _hashes)


def _sudokus(folder: Path, n: int) -> tuple[Path, Path]:
    """A file of n Sudokus, and a checkpoint of a small network."""
    puzzles, checkpoint, made = folder / "puzzles.csv", folder / "small.pt", network()
    write(puzzles, "sudoku", list(generate("sudoku", n, 0, clues=(60, 70))))
    save(checkpoint, {"sudoku": Expert("sudoku", made.config, made.state_dict())})
    return puzzles, checkpoint


def solve(folder: Path, n: int = 1000) -> Program:
    puzzles, checkpoint = _sudokus(folder, n)
    out = folder / "answers.jsonl"
    begin = ["hybrid", "solve", str(puzzles), "--llm", "none", "--refiner", str(checkpoint), "--steps", "1",
             "--restarts", "0", "--device", "cpu", "--json", "-o", str(out)]  # fmt: skip
    keys = ("id", "question", "answer", "status", "confidence")

    def result(file: Path) -> object:
        lines = _lines(file, keys)
        assert len(lines) == n == len({str(line[0]) for line in lines}), (
            f"{len(lines)} answers to {n} puzzles"
        )
        return sorted(lines, key=str)

    return Program(hybrid.cli.main, begin, [*begin, "--resume"], out, result)


def compare(folder: Path, n: int = 30) -> Program:
    puzzles, checkpoint = _sudokus(folder, n)
    out = folder / "comparison"
    begin = ["compare", "--tasks", "sudoku", "--n", str(n), "--data", f"sudoku={puzzles}",
             "--refiner", str(checkpoint), "--llm", "none", "--arms", "trm,draft:random,draft:oracle,exact",
             "--steps", "2", "--device", "cpu",
             "--out", str(out)]  # fmt: skip

    def result(folder: Path) -> object:
        lines = _lines(folder / "records.jsonl", ("id", "arm", "answer", "steps", "confidence"))
        assert len({(line[0], line[1]) for line in map(tuple, lines)}) == len(lines)
        return sorted(lines, key=str)

    return Program(lambda: eval.compare.app(), begin, [*begin, "--resume"], out, result)


PROGRAMS = {"train": train, "tune": tune, "solve": solve, "compare": compare}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("programs", nargs="+", choices=PROGRAMS)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    for name in given.programs:
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            killed, runs = kill(PROGRAMS[name](Path(folder)), given.kills, random.Random(given.seed))
        print(
            f"{name}: {killed} kills, {runs} runs, all the same; {time.monotonic() - started:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
