"""Several tasks fitted side by side, what fitting leaves alone, and when it is due again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest
import torch
from test_adapt import QUICK, SHAPE, TASK

from trm.adaptation.test_time import Fitter, Fitting, canvas, fit_together
from trm.checkpoints.format import Checkpoint, Expert
from trm.data.generate import generate
from trm.inference.provider import Fitted
from trm.inference.refiner import Refiner
from trm.model.network import TRM
from trm.tasks import Puzzle


@pytest.fixture(scope="module")
def expert() -> Expert:
    torch.manual_seed(0)
    return Expert("arc", SHAPE, TRM(SHAPE).state_dict())


def test_tasks_fitted_side_by_side_are_fitted_as_alone(expert: Expert) -> None:
    puzzles = [TASK, *generate("arc", 3, 4, rule="mirror", demos=2, size=(3, 14))]
    assert len({canvas(puzzle, expert.config, 10) for puzzle in puzzles}) > 1
    how = replace(QUICK, steps=3, smallest=10)
    alone, beside = (Refiner(Checkpoint("mine", {"arc": expert}), device="cpu").experts for _ in range(2))
    alone.fitting, beside.fitting = how, replace(how, together=3)
    heard: list[tuple[int, int]] = []
    fitted = beside.fitted([*puzzles, TASK], lambda done, total, grid: heard.append((done, total)))
    assert len(heard) == 2 * 3  # three tasks at once, then one; what comes twice is fitted once
    assert fitted[0] is fitted[-1]
    assert [one.steps for one in fitted] == [3] * 5
    for puzzle, one in zip(puzzles, fitted, strict=False):
        wanted = alone.engines_for(puzzle)[0].model.state_dict()
        assert all(tensor.equal(wanted[name]) for name, tensor in one.engines[0].model.state_dict().items())
    # A batch of questions is answered by them, in groups.
    refiner = Refiner(Checkpoint("mine", {"arc": expert}), device="cpu")
    refiner.experts.fitting = replace(how, together=2)
    asked: list[list[str]] = []
    whole = refiner.experts.fitted

    def fitted_once(some: list[Puzzle], *rest: object) -> object:
        asked.append([puzzle.id for puzzle in some])
        return whole(some, *rest)  # type: ignore[arg-type]

    refiner.experts.fitted = fitted_once  # type: ignore[method-assign, assignment]
    out = refiner.refine(puzzles, steps=1)
    assert [len(some) for some in asked if len(some) > 1] == [2, 2]
    assert [one.text for one in out] == [refiner.refine(puzzle, steps=1).text for puzzle in puzzles]


def test_fitting_leaves_the_callers_random_numbers_alone(expert: Expert) -> None:
    drawn = []
    for steps in (0, 1):
        torch.manual_seed(5)
        if steps:
            fit_together([Fitter(expert, replace(QUICK, steps=steps), 30)], [TASK])
        drawn.append(torch.rand(3))
    assert drawn[0].equal(drawn[1])


def test_the_seconds_of_tasks_side_by_side_are_each_ones_share(expert: Expert) -> None:
    refiner = Refiner(Checkpoint("mine", {"arc": expert}), device="cpu")
    refiner.experts.fitting = replace(QUICK, steps=0, seconds=0.5, together=2)
    other = next(generate("arc", 1, 4, rule="mirror", demos=2, size=(3, 4)))
    heard: list[int] = []
    one, two = refiner.experts.fitted([TASK, other], lambda done, total, grid: heard.append(total))
    assert set(heard) == {1}
    assert one.steps == two.steps > 0
    assert one.seconds == two.seconds >= 0.5
    third, fourth = generate("arc", 2, 5, rule="mirror", demos=2, size=(3, 4))
    begun = time.perf_counter()
    answers = refiner.refine([third, fourth], steps=1)
    assert min(answer.seconds for answer in answers) >= 0.5
    assert sum(answer.seconds for answer in answers) <= time.perf_counter() - begun


def test_a_network_that_was_given_less_time_does_not_stand_in_for_one_with_more(
    expert: Expert, monkeypatch: pytest.MonkeyPatch
) -> None:
    refiner = Refiner(Checkpoint("mine", {"arc": expert}), device="cpu")
    refiner.experts.fitting = replace(QUICK, steps=0, seconds=0.4, smallest=10)
    given: list[float] = []
    whole = refiner.experts._fit
    monkeypatch.setattr(
        refiner.experts, "_fit", lambda p, how, t: given.append(how.seconds) or whole(p, how, t)
    )
    for budget in (0.125, 0.0, 0.125, 0.25, None, 0.25, None):
        refiner.refine(TASK, steps=1, restarts=1, budget=budget)
        refiner.score(TASK, [TASK.answers or ()])  # by the network that there is
    assert given == [pytest.approx(seconds) for seconds in (0.1, 0.2, 0.4)]
    refiner.experts.fitting = replace(QUICK, steps=1)  # the clock does not end it
    for budget in (0.125, None):
        refiner.refine(TASK, steps=1, budget=budget)
    assert len(given) == 4


def test_a_task_that_is_asked_again_under_one_budget_is_fitted_once(
    expert: Expert, monkeypatch: pytest.MonkeyPatch
) -> None:
    refiner = Refiner(Checkpoint("mine", {"arc": expert}), device="cpu")
    refiner.experts.fitting = replace(QUICK, steps=0, smallest=10)
    given: list[float] = []

    def fit(puzzles: Sequence[Puzzle], how: Fitting, progress: object) -> list[Fitted]:
        given.append(how.seconds)
        return [Fitted((refiner.engine("arc"),), 1, 0.0, how.seconds, 0.0)]

    monkeypatch.setattr(refiner.experts, "_fit", fit)
    for left in (9.5, 9.4999, 9.5001, 10.0):  # what a draft leaves of ten seconds, more or less
        refiner.experts.fitted([TASK], budget=left)
    assert given == [pytest.approx(7.6)]
    refiner.experts.fitted([TASK], budget=20.0)
    assert given[1:] == [pytest.approx(16.0)]


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # PyTorch looks at it itself
def test_every_canvas_is_compiled_however_many_there_are(
    expert: Expert, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch._dynamo

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    deeper = replace(expert, config=replace(SHAPE, h_cycles=2))
    for side in (6, 8, 10, 12, 14):  # each with and without gradient: two more than PyTorch compiles unasked
        fitter = Fitter(deeper, replace(QUICK, steps=1), side)
        fitter.model.compile_net()
        fit_together([fitter], [TASK])
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 10
    torch._dynamo.reset()
