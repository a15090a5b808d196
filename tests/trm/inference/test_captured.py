"""The engine for GPUs, with the same steps and without a graph: what comes out is the plain engine's."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_networks import SMALL
from small_networks import network as model

from trm.inference.captured import CapturedEngine
from trm.inference.device_rules import device_rule
from trm.inference.device_slots import gaussian
from trm.inference.engine import Engine, Rollout, Stop, Trajectory
from trm.tasks import get
from trm.tasks.sudoku.solver import solve_sudoku


def rollouts(count: int) -> list[Rollout]:
    rng = np.random.default_rng(0)
    questions, drafts = (rng.integers(1, 11, (count, 81)) for _ in range(2))
    return [Rollout(q, d if i % 2 else None) for i, (q, d) in enumerate(zip(questions, drafts, strict=True))]


def same(fast: list[Trajectory], plain: list[Trajectory]) -> bool:
    return all(
        len(a.grids) == len(b.grids)
        and all(np.array_equal(x, y) for x, y in zip(a.grids, b.grids, strict=True))
        and a.halts == pytest.approx(b.halts, abs=1e-5)
        for a, b in zip(fast, plain, strict=True)
    )


@pytest.mark.parametrize("slots", [1, 4, 16])
@pytest.mark.parametrize("feedback", [True, False])
def test_it_equals_the_plain_engine_whatever_shares_the_batch(slots: int, feedback: bool) -> None:
    network = model(replace(SMALL, feedback=feedback))
    asked = rollouts(9)
    assert same(CapturedEngine(network, slots).run(asked, 4), Engine(network, 4).run(asked, 4))


def test_the_callers_word_comes_late_and_changes_nothing() -> None:
    network, asked = model(), rollouts(12)
    probe = Engine(network, 4).run(asked, 6)
    with torch.no_grad():
        network.halt.bias -= float(np.median([max(run.halts) for run in probe]))

    def stop(index: int, run: Trajectory) -> bool:
        return run.halted

    engine = CapturedEngine(network, 4)
    fast = engine.run(asked, 6, stop)
    assert len({run.steps for run in fast}) > 1
    assert same(fast, Engine(network, 4).run(asked, 6, stop))
    alone = [replace(one, leaves=True) for one in asked]  # without a rule it leaves when it has halted
    assert same(engine.run(alone, 6), fast)


def test_a_service_takes_more_at_any_time() -> None:
    network, asked = model(), rollouts(9)
    service = CapturedEngine(network, 4).open(4)
    came: dict[int, Trajectory] = {}
    for number, one in enumerate(asked):
        assert service.add_request(one, 3) == number
        service.step()
        came |= service.finished()
    while service.unfinished:
        service.step()
        came |= service.finished()
    service.close()
    assert same([came[n] for n in range(9)], Engine(network).run(asked, 3))


def test_the_rest_goes_on_in_fewer_slots() -> None:
    network, asked = model(), rollouts(16)
    engine = CapturedEngine(network, 16)
    engine.run(asked[:4], 1)  # now a bucket of four is ready

    def stop(index: int, run: Trajectory) -> bool:
        return index % 5 > 0 and run.steps == 2

    used: list[int] = []
    step = network.step
    engine.fast.step = lambda state, *rest: used.append(len(state.y)) or step(state, *rest)  # type: ignore
    assert same(engine.run(asked, 6, stop), Engine(network).run(asked, 6, stop))
    assert set(used) == {4, 16}


def test_services_that_overlap_have_slots_of_their_own() -> None:
    network, asked = model(), rollouts(6)
    engine = CapturedEngine(network, 4)
    first = engine.each(asked, 3)
    came = dict([next(first)])
    assert same(engine.run(asked, 3), Engine(network).run(asked, 3))
    came |= first
    assert same([came[n] for n in range(6)], Engine(network).run(asked, 3))


def test_what_is_watched_is_left_to_the_plain_engine() -> None:
    (one, *_) = rollouts(1)
    (run,) = CapturedEngine(model(), 4).run([replace(one, keep_log_probs=True)], 2)
    assert len(run.likelihoods) == 2
    with pytest.raises(ValueError, match="plain engine"):
        CapturedEngine(model(), 4).open(1).add_request(replace(one, keep_log_probs=True))


def test_a_draft_for_a_network_without_drafts_is_refused() -> None:
    network = model(replace(SMALL, draft=False, feedback=False))
    asked = rollouts(2)
    with pytest.raises(ValueError, match="not trained on drafts"):
        CapturedEngine(network).run(asked)
    assert same(CapturedEngine(network).run(asked[:1], 2), Engine(network).run(asked[:1], 2))


def test_noise_is_the_seeds_and_does_not_depend_on_company() -> None:
    network, (first, second) = model(), rollouts(2)
    noisy, engine = replace(first, noise=0.5, seed=3 << 40), CapturedEngine(network, 4)
    (alone,) = engine.run([noisy], 3)
    shared = engine.run([second, replace(second, noise=0.5, seed=4), noisy, first], 3)
    assert alone.halts == pytest.approx(shared[2].halts, abs=1e-5)
    assert same(shared[:1], Engine(network).run([second], 3))  # no noise for those that want none
    (other,) = engine.run([replace(noisy, seed=5 << 40)], 3)
    assert len({tuple(np.round(run.halts, 4)) for run in (alone, other, shared[3])}) == 3


def test_noise_is_standard_normal() -> None:
    drawn = gaussian(torch.tensor([1, 2, 1]), torch.tensor([0, 0, 1]), (82, 512))
    assert drawn.mean((1, 2)).abs().max() < 0.02
    assert (drawn.std((1, 2)) - 1).abs().max() < 0.02
    assert (drawn.flatten(1).sort().values[:, -420] - 2.326).abs().max() < 0.1  # one in a hundred
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert abs(float((drawn[a] * drawn[b]).mean())) < 0.02
    assert abs(float((drawn[:, :, 1:] * drawn[:, :, :-1]).mean())) < 0.02


def test_the_rule_on_the_device_is_the_tasks() -> None:
    task = get("sudoku")
    puzzle = task.samples()[0]
    rule, (answer, *_) = device_rule(task), solve_sudoku(puzzle.grid, most=1).solutions
    assert rule is not None
    assert device_rule(get("maze")) is None
    grids = [answer] * 5
    grids[1] = answer[::-1]  # sound, and not the puzzle's
    grids[2] = np.where(np.arange(81).reshape(9, 9) == 40, 1 + answer % 9, answer)
    grids[3] = puzzle.grid
    tokens = torch.from_numpy(np.stack([task.encode(grid) for grid in grids]))
    tokens[4, 80] = 0
    questions = torch.from_numpy(task.encode_question(puzzle)).expand(5, -1)
    assert rule(questions, tokens).tolist() == [True, False, False, False, False]


def test_a_rollout_leaves_when_it_has_halted_and_its_grid_is_accepted() -> None:
    network, asked = model(halt_bias=9.0), [replace(one, leaves=True) for one in rollouts(6)]
    third = [run.grids[2] for run in Engine(network).run(asked, 3)]

    def rule(questions: torch.Tensor, grids: torch.Tensor) -> torch.Tensor:
        own = torch.from_numpy(np.stack(third))
        return (grids[:, None] == own[None]).all(-1).any(-1)

    heard: list[bool | None] = []
    stop: Stop = lambda index, run: bool(heard.append(run.accepted))  # noqa: E731
    runs = CapturedEngine(network, 4, rule=rule).run(asked, 6, stop)
    assert all(run.accepted and run.steps <= 3 for run in runs)
    assert {True, False} == set(heard)


class FakeGraph:
    """What `torch.cuda` has for graphs, on a CPU: the capture runs the step, and each replay runs it again."""

    def __init__(self, fails: bool) -> None:
        self.fails, self.captures = fails, 0

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        nothing = SimpleNamespace(wait_stream=lambda other: None)
        for name, value in {
            "Stream": lambda: nothing, "current_stream": lambda: nothing, "stream": lambda stream: nullcontext(),
            "synchronize": lambda: None, "CUDAGraph": lambda: SimpleNamespace(), "graph": self.capture,
        }.items():  # fmt: skip
            monkeypatch.setattr(torch.cuda, name, value)

    @contextmanager
    def capture(self, graph: SimpleNamespace, capture_error_mode: str) -> Iterator[None]:
        frame = sys._getframe(2).f_locals  # of DeviceSlots._record
        graph.replay = partial(frame["self"]._step, frame["noisy"])
        yield
        self.captures += 1
        if self.fails:
            raise RuntimeError("operation not permitted when stream is capturing")


def broken(*_: object) -> torch.Tensor:
    raise RuntimeError("no compiler")


@pytest.mark.parametrize("fault", ["", "without a CUDA graph", "uncompiled"])
def test_a_capture_changes_nothing_and_may_fail(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network, asked = model(), rollouts(7)
    noisy = replace(asked[6], noise=0.5, seed=3)
    (expected,) = CapturedEngine(network, 4).run([noisy], 3)
    fake = FakeGraph(fault == "without a CUDA graph")
    fake.install(monkeypatch)
    monkeypatch.setattr(torch, "compile", lambda net: broken)
    engine = CapturedEngine(network, 4, compiled=fault == "uncompiled")
    engine.capture = True
    service, came = engine.open(4), {}
    for one in asked[:6]:
        service.add_request(one, 4)
    with pytest.warns(RuntimeWarning, match=fault) if fault else nullcontext():
        service.step()
    service.step()
    service.add_request(noisy, 3)  # another graph, while others are on their way
    while service.unfinished:
        service.step()
        came |= service.finished()
    assert same([came[n] for n in range(6)], Engine(network).run(asked[:6], 4))
    assert came[6].halts == pytest.approx(expected.halts, abs=1e-5)
    assert fake.captures == (1 if fake.fails else 2)


def test_compiled_layers_serve_every_number_of_puzzles(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[object] = []
    monkeypatch.setattr(torch, "compile", lambda net: compiled.append(net) or net)
    network, asked = model(), rollouts(5)
    engine = CapturedEngine(network, 16, compiled=True)
    for count in (1, 5):
        assert same(engine.run(asked[:count], 2), Engine(network).run(asked[:count], 2))
    assert len(compiled) == 1
