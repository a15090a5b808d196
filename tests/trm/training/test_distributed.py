"""Several processes: they train as one does, on the same puzzles, and one goes on with what they have left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from small_networks import ROOT, settings, trainer, weights

from trm.checkpoints.format import load
from trm.data.device import Batch, DeviceDataset, Share
from trm.data.generate import generate
from trm.data.pairs import PairDataset
from trm.data.stream import CHUNK, PuzzleStream
from trm.tasks import get
from trm.training.config import Config, DraftConfig
from trm.training.distributed import Capture, Processes, flat_gradients
from trm.training.optim import shared_out
from trm.training.run_folder import read_metrics

CPU = torch.device("cpu")
NOISE = DraftConfig(noise_rate=0.5, noise_cells=0.3)
BANKS: dict[str, Callable[[], DeviceDataset]] = {
    "sudoku": lambda: DeviceDataset(
        get("sudoku"), list(generate("sudoku", 9, 0, clues=(40, 50))), True, CPU, reveal=0.5
    ),
    "maze": lambda: DeviceDataset(get("maze"), list(generate("maze", 9, 0, height=6)), True, CPU),
    "arc": lambda: PairDataset(
        get("arc"), list(generate("arc", 4, 0, demos=3, size=(3, 9))), True, CPU, recolour=0.5, balance=0.5
    ),
}


@pytest.mark.parametrize("task", BANKS)
@pytest.mark.parametrize("rows", [slice(0, 2), slice(3, 6), torch.tensor([7, 0, 1])], ids=str)
def test_a_share_of_a_batch_is_a_part_of_it(task: str, rows: slice | torch.Tensor) -> None:
    bank, parts = BANKS[task](), []
    for several in (False, True):
        generator = torch.Generator().manual_seed(3)
        source = Share(generator, 8, rows) if several else generator
        count = len(torch.arange(8)[rows]) if several else 8
        drawn = bank.draw(count, source)
        given = bank.given_drafts(drawn.tokens, drawn.labels, 0.9, source)
        noisy = bank.noisy(given, Batch(drawn.tokens, drawn.labels, given, drawn.context), NOISE, source)
        parts.append((*drawn, given, noisy))
    first = int(task == "maze")  # its drafts may continue with the answer of the row before
    for whole, part in zip(*parts, strict=True):
        assert whole[rows][first:].equal(part[first:])


@pytest.mark.parametrize("processes", [1, 2, 4, 9])
def test_every_matrix_is_orthogonalised_by_one_process(processes: int) -> None:
    shapes = [(96, 32), (32, 32), (192, 32), (32, 96)] * 2
    params = [torch.nn.Parameter(torch.zeros(shape)) for shape in shapes]
    shares = shared_out(params, processes)
    assert len(shares) == processes
    assert sorted(id(p) for p in chain(*chain(*shares))) == sorted(map(id, params))
    assert all(len({p.shape for p in same}) == 1 for same in chain(*shares))
    if processes <= len(params):
        assert all(shares)


def test_gradients_of_the_next_step_come_into_one_tensor() -> None:
    used, unused = torch.nn.Parameter(torch.ones(2, 3)), torch.nn.Parameter(torch.ones(4))
    (2 * used).sum().backward()
    gradients = flat_gradients([used, unused])
    assert gradients.tolist() == [2.0] * 6
    assert unused.grad is None
    gradients.zero_()
    (3 * used).sum().backward()
    assert gradients.tolist() == [3.0] * 6


def test_a_capture_that_splits_has_collectives_between_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    class Graph:
        def register_generator_state(self, generator: torch.Generator) -> None:
            pass

        def replay(self) -> None:
            done.append("graph")

    class Recording:
        def __init__(self, graph: Graph, **how: Any) -> None:
            pass

        def __enter__(self) -> None:
            done.append("begin")

        def __exit__(self, *error: object) -> None:
            done.append("end")

    monkeypatch.setattr("torch.cuda.CUDAGraph", Graph)
    monkeypatch.setattr("torch.cuda.graph", Recording)
    monkeypatch.setattr("torch.cuda.graph_pool_handle", object)
    monkeypatch.setattr("torch.distributed.all_reduce", lambda values: done.append("sum"))
    monkeypatch.setenv("TRM_COLLECTIVES", "between")
    processes = Processes()
    processes.count = 2
    capture = Capture(torch.Generator(), processes)
    capture.record(lambda: processes.add_up(torch.zeros(1))() and None)
    assert done == ["begin", "end", "begin", "end"]
    done.clear()
    capture.replay()
    assert done == ["graph", "sum", "graph"]


def test_streams_of_several_processes_are_one_stream() -> None:
    whole = [p.id for p in generate("maze", 4 * CHUNK, 1, height=6)]
    chunks = []
    for process in range(2):
        with PuzzleStream("maze", 1, {"height": 6}, workers=1, process=process, processes=2) as stream:
            chunks.append(stream.take(2))
    assert [p.id for pair in zip(*chunks, strict=True) for chunk in pair for p in chunk] == whole


# Reports at every step, with the learning rate of any number of steps.
STEADY = {"optim__schedule": "constant", "optim__warmup": 0.0, "train__precision": "fp32"}


def launched(
    folder: Path, config: Config, script: str = "", resume: bool = False, count: int = 2, device: str = "cpu"
) -> None:
    """Train in `count` processes. script: runs before the training."""
    path = folder.with_suffix(".py")
    path.write_text(
        SCRIPT.format(script=script, config=config, folder=str(folder), resume=resume, device=device)
    )
    command = [sys.executable]
    if count > 1:  # --multi_gpu starts processes, on CPUs too
        command += ["-m", "accelerate.commands.launch", "--num_processes", str(count), "--num_machines", "1"]
        command += [
            "--main_process_port",
            "0",
            "--multi_gpu",
            "--mixed_precision",
            "no",
            "--dynamo_backend",
            "no",
        ]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    env["PYTHONWARNINGS"] = "default"
    done = subprocess.run(
        [*command, str(path)], cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


SCRIPT = """
import time
from pathlib import Path
from accelerate import PartialState
import trm.training.trainer as module
from trm.evaluation.accuracy import evaluate_held_out
from trm.data.stream import training_puzzles
from trm.model.config import TRMConfig
from trm.training.config import *

if __name__ == "__main__":
    module.REPORT_EVERY = -1.0
    index = PartialState(cpu="{device}" == "cpu").process_index
    {script}
    config = {config}
    puzzles = training_puzzles(config.data, config.train.seed)
    trainer = module.Trainer(config, Path({folder!r}), *puzzles, device="{device}", evaluate=evaluate_held_out)
    trainer.captures = "{device}" == "cuda"  # without compiling, which takes a minute
    if {resume}:
        trainer.resume()
    trainer.open_folder()
    trainer.run()
    banks = trainer.processes.interleaved([trainer.learner.bank.tokens])
    assert banks[0].equal(banks[1])
    trainer.close()
"""


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(folder) if "loss" in line]


@pytest.mark.slow
def test_two_processes_match_one_and_either_goes_on_with_what_the_other_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trm.training.trainer.REPORT_EVERY", -1.0)
    short, whole = settings(**STEADY, train__steps=4), settings(**STEADY, train__steps=8)
    one = trainer(tmp_path / "one", whole)
    one.run()
    launched(tmp_path / "two", short)
    assert json.loads((tmp_path / "two" / "environment.json").read_text())["processes"] == 2
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one")[:4], rel=1e-5)
    again = trainer(tmp_path / "two", whole)
    again.say = pytest.fail
    again.resume()
    again.say = lambda line: None
    again.run()
    trainer(tmp_path / "back", short).run()
    launched(tmp_path / "back", whole, resume=True)
    for other in ("two", "back"):
        assert losses(tmp_path / other) == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
    state = torch.load(tmp_path / "back/checkpoints/last/training.pt", weights_only=True)
    for name, tensor in weights(one).items():
        torch.testing.assert_close(tensor, again.learner.model.state_dict()[name], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(tensor, state["model"][name], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_two_processes_report_and_save_at_the_same_steps_and_learn_the_same_stream(tmp_path: Path) -> None:
    """Each has a clock of its own: only one may say when."""
    config = settings(train__steps=40, train__save_every_seconds=0.05, data__stream=64)
    launched(tmp_path / "run", config, CLOCKS)
    assert len(losses(tmp_path / "run")) > 3
    expert = load(tmp_path / "run" / "checkpoints" / "last").experts["sudoku"]
    assert expert.meta["training_puzzles"] > config.data.generate


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("collectives", ["inside", "between"])
def test_two_gpus_match_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, collectives: str) -> None:
    """Every step captured, with its collectives; CUDA orthogonalises in bfloat16, which rounding changes."""
    config = settings(**STEADY, train__steps=12, train__kernels="plain", optim__lr=0.002)
    launched(tmp_path / "one", config, count=1, device="cuda")
    monkeypatch.setenv("TRM_COLLECTIVES", collectives)
    launched(tmp_path / "two", config, device="cuda")
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-2)


CLOCKS = """
    def with_puzzles(*given, make=module.puzzle_stream):
        stream = make(*given)
        while not stream.count_ready():
            time.sleep(0.01)
        return stream

    module.puzzle_stream, module.REPORT_EVERY = with_puzzles, 0.03
    if index:
        time.monotonic = lambda late=time.monotonic: 1.7 * late()
"""
