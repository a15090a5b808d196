"""Test-time training on one task's demonstrations, and the views that answer it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from arc_expert import QUICK, SHAPE, TASK, arc_expert, arc_refiner, count_adaptations, equal_weights, mirrored

from trm.adaptation.config import AdaptationConfig, adaptation_config, canvas_side, default_adaptation
from trm.adaptation.test_time import TestTimeTrainer
from trm.checkpoints.format import Expert, load, pack, save
from trm.config import ConfigError
from trm.data.pairs import LARGEST_SCALE, PairDataset, place, plain
from trm.grid import PuzzleError
from trm.inference.engine import Engine, Rollout
from trm.inference.refiner import Refiner
from trm.model.config import TRMConfig
from trm.model.network import TRM, TURNS
from trm.tasks import Puzzle, Status, get
from trm.tasks.transforms import TaskView, draw_task_view
from trm.training.losses import LossConfig, losses
from trm.training.step import METERS, Learner

ARC = get("arc")
LEARNING = replace(QUICK, steps=25)


@pytest.fixture(scope="module")
def expert() -> Expert:
    return arc_expert()


def adapt(
    expert: Expert,
    config: AdaptationConfig,
    puzzle: Puzzle = TASK,
    side: int = 10,
    progress: Callable[[int, int], None] | None = None,
) -> TRM:
    return TestTimeTrainer(expert, config, side).adapt(puzzle, progress).network


def demonstration_loss(model: TRM) -> float:
    dataset = PairDataset(ARC.on(10), [TASK], False, torch.device("cpu"))
    tokens, labels, context = dataset.draw(8, torch.Generator().manual_seed(0))
    with torch.inference_mode():
        _, out = model.step(model.initial_state(8), tokens, context, torch.zeros_like(tokens))
    return float(losses(out, labels, LossConfig(halt_weight=0.0)).total)


# -- training ------------------------------------------------------------------------------------------------
def test_adaptation_learns_the_demonstrations_and_leaves_the_expert_alone(expert: Expert) -> None:
    before = {name: tensor.clone() for name, tensor in expert.state.items()}
    progress: list[tuple[int, int]] = []
    start = adapt(expert, replace(QUICK, steps=1, lr=0.0, adamw_lr=0.0))
    assert start.embed.identities.equal(expert.state["embed.identities"].mean(0, keepdim=True))
    adapted = adapt(expert, LEARNING, progress=lambda *at: progress.append(at))
    assert demonstration_loss(adapted) < 0.6 * demonstration_loss(start)
    assert progress[-1] == (25, 25)
    assert not any(parameter.requires_grad for parameter in adapted.parameters())
    assert all(expert.state[name].equal(tensor) for name, tensor in before.items())


def test_adaptation_depends_on_the_seed_and_sees_no_test(expert: Expert) -> None:
    other = replace(TASK, inputs=(np.zeros((9, 9), dtype=np.uint8),), answers=None)
    first = adapt(expert, QUICK)
    assert equal_weights(first, adapt(expert, QUICK, other))
    assert not equal_weights(first, adapt(expert, replace(QUICK, seed=1)))


def test_a_trainer_used_again_adapts_as_a_new_one(expert: Expert) -> None:
    trainer = TestTimeTrainer(expert, QUICK, 20)
    trainer.adapt(mirrored()[0])
    many = replace(TASK, demos=TASK.demos * 15)  # more demonstrations than there were places for
    trainer.adapt(many)
    again = trainer.adapt(TASK).network
    assert again.config.seq_len == 400
    assert equal_weights(again, adapt(expert, QUICK, side=20))


def test_adaptation_leaves_the_callers_random_numbers_alone(expert: Expert) -> None:
    drawn = []
    for adapting in (False, True):
        torch.manual_seed(5)
        if adapting:
            adapt(expert, QUICK)
        drawn.append(torch.rand(3))
    assert drawn[0].equal(drawn[1])


@pytest.mark.parametrize(("misses", "accuracy"), [([1.0] * 9 + [0.0], 1.0), ([0.0] * 9 + [1.0], 0.0)])
def test_accuracy_is_that_of_the_last_tenth(
    expert: Expert, monkeypatch: pytest.MonkeyPatch, misses: list[float], accuracy: float
) -> None:
    def step(learner: Learner) -> None:
        learner.meters += 1  # a pair right and one finished, whatever there was before
        learner.meters[METERS.index("right")] -= misses.pop(0)

    monkeypatch.setattr(Learner, "step", step)
    assert TestTimeTrainer(expert, replace(QUICK, steps=10), 10).adapt(TASK).accuracy == accuracy


def test_the_clock_ends_it(expert: Expert) -> None:
    progress: list[tuple[int, int]] = []
    adapt(expert, replace(QUICK, steps=0, seconds=1.0), progress=lambda *at: progress.append(at))
    assert progress[-1] == (1, 1)


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # PyTorch looks at it itself
def test_every_canvas_is_compiled_however_many_there_are(
    expert: Expert, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch stops compiling a function after eight versions of it, unless it is told otherwise."""
    import torch._dynamo

    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    deeper = replace(expert, config=replace(SHAPE, h_cycles=2))
    with torch._dynamo.config.patch(fail_on_recompile_limit_hit=True):
        for side in (6, 8, 10, 12, 14):  # each with and without gradient
            trainer = TestTimeTrainer(deeper, replace(QUICK, steps=1), side)
            trainer.model.compile_net()
            trainer.adapt(TASK)
    torch._dynamo.reset()


# -- canvases and views --------------------------------------------------------------------------------------
def ones(*shapes: tuple[int, int]) -> list[np.ndarray]:
    return [np.ones(shape, dtype=np.uint8) for shape in shapes]


def test_the_canvas_holds_every_grid_and_what_may_come_of_the_tests() -> None:
    shape = TRMConfig(seq_len=900, vocab_size=12, canvas_width=30, positions="rope2d")
    small, wide, large, growing = ones((3, 3), (5, 20), (4, 21), (7, 7))

    def task(test: np.ndarray, output: np.ndarray) -> Puzzle:
        return Puzzle("arc", (test,), demos=((small, output),))

    assert canvas_side(task(small, wide[:, :3]), shape) == 20
    assert canvas_side(Puzzle("arc", (wide,), demos=((wide, wide),)), shape) == 20
    assert canvas_side(task(small, large), shape) == 30
    assert canvas_side(task(large, small), shape) == 30
    # Outputs three times as large as inputs: what a test of 7 asks for does not fit 20.
    assert canvas_side(task(growing, ones((9, 9))[0]), shape) == 30
    assert canvas_side(task(small, small), replace(shape, positions="rope")) == 30
    assert canvas_side(task(small, small), shape, smallest=10) == 10
    assert canvas_side(task(small, ones((14, 15))[0]), shape, smallest=10) == 15
    assert canvas_side(task(small, ones((14, 15))[0]), replace(shape, patch=2), smallest=10) == 16


def test_views_leave_room_for_the_answer_and_for_a_draft() -> None:
    wide, tall = ones((2, 3), (6, 4))
    puzzle = Puzzle("arc", (wide,), demos=((wide, tall),))  # outputs twice as long
    rng = np.random.default_rng(0)
    for least, longest in ((0, 6), (9, 9)):
        views = [draw_task_view(puzzle, rng, 20, least) for _ in range(200)]
        assert {view.top for view in views} == {view.left for view in views} == set(range(21 - longest))
    assert {(view.top, view.left) for view in (draw_task_view(puzzle, rng) for _ in range(9))} == {(0, 0)}
    with pytest.raises(PuzzleError, match="20x20"):
        ARC.on(20).at(15, 2).encode(tall)


def test_views_exchange_colours_of_inputs_alone() -> None:
    grid = np.array([[0, 1], [2, 0]], dtype=np.uint8)
    puzzle = Puzzle("arc", (grid,), demos=((grid, np.where(grid == 1, 7, grid).astype(np.uint8)),))
    rng = np.random.default_rng(0)
    views = [draw_task_view(puzzle, rng) for _ in range(60)]
    assert {view.turn for view in views} == set(range(TURNS))
    assert {tuple(view.colours[:3]) for view in views} == {(0, 1, 2), (0, 2, 1)}
    assert all((view.colours[3:] == np.arange(3, 256)).all() for view in views)
    plain = [draw_task_view(puzzle, rng, recolour=0.0) for _ in range(30)]
    assert all((view.colours == np.arange(256)).all() for view in plain)


def test_views_are_enlarged_where_there_is_room() -> None:
    def scales(longest: int, side: int = 20, enlarged: bool = True) -> list[int]:
        (grid,) = ones((2, longest))
        puzzle, rng = Puzzle("arc", (grid,), demos=((grid, grid),)), np.random.default_rng(0)
        views = [draw_task_view(puzzle, rng, side, enlarged=enlarged) for _ in range(400)]
        assert all(max(view.top, view.left) + view.scale * longest <= (side or 99) for view in views)
        return [view.scale for view in views]

    for longest, most in ((3, LARGEST_SCALE), (10, 2), (11, 1)):
        assert set(scales(longest)) == set(range(1, most + 1))
        # Half of them are drawn from all that fit.
        assert scales(longest).count(1) / 400 == pytest.approx(0.5 + 0.5 / most, abs=0.08)
    assert set(scales(3, enlarged=False)) == set(scales(3, side=0)) == {1}


# -- the refiner ---------------------------------------------------------------------------------------------
@pytest.fixture
def rollouts(monkeypatch: pytest.MonkeyPatch) -> list[Rollout]:
    """Every rollout that engines run from now on."""
    seen: list[Rollout] = []
    each = Engine.each

    def listening(self: Engine, some: list[Rollout], *rest: object, **more: object) -> object:
        seen.extend(some)
        return each(self, some, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Engine, "each", listening)
    return seen


def test_the_network_is_adapted_once_and_answers_under_many_views_that_vote(
    rollouts: list[Rollout], monkeypatch: pytest.MonkeyPatch
) -> None:
    refiner, calls = arc_refiner(), count_adaptations(monkeypatch.setattr)
    out = refiner.refine(TASK, steps=1, restarts=9)
    assert len(out.attempts) == 10
    contexts = [rollout.context for rollout in rollouts]
    assert contexts[0] == 0
    assert len(set(contexts)) > 3
    assert out.candidates is not None
    assert 1 <= len(out.candidates[0]) <= 2
    assert out.verdict.status is Status.UNVERIFIED
    again = refiner.refine(TASK, steps=1, restarts=9)
    assert [a.grids[0].tolist() for a in again.attempts] == [a.grids[0].tolist() for a in out.attempts]
    assert refiner.score(TASK, [TASK.answers or ()]).shape == (1,)
    assert len(calls) == 1


def test_tasks_of_a_batch_are_answered_as_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    puzzles = [TASK, *mirrored(3)]
    alone = [arc_refiner().refine(puzzle, steps=1, restarts=2) for puzzle in puzzles]
    calls = count_adaptations(monkeypatch.setattr)
    batch = arc_refiner().refine([*puzzles, TASK], steps=1, restarts=2)
    assert [name for name, *_ in calls] == [puzzle.id for puzzle in puzzles]
    assert [len(out.attempts) for out in batch] == [3] * 5
    assert [out.text for out in batch] == [out.text for out in [*alone, alone[0]]]


@pytest.mark.parametrize(("moved", "corners"), [(False, 1), (True, 6)])
def test_views_are_moved_where_wanted(rollouts: list[Rollout], moved: bool, corners: int) -> None:
    refiner = arc_refiner(replace(QUICK, moved=moved))
    assert len(refiner.refine(TASK, TASK.answers, steps=1, restarts=12).attempts) == len(rollouts) == 14
    places = set()
    for rollout in rollouts:
        first = np.argwhere(rollout.tokens.reshape(10, 10)).min(0)
        places.add(tuple(first.tolist()))
        if rollout.draft is not None:  # the draft lies where the question lies
            assert (np.argwhere(rollout.draft.reshape(10, 10)).min(0) == first).all()
    assert len(places) >= corners
    assert moved or places == {(0, 0)}


def test_a_draft_too_large_for_the_canvas_costs_the_cold_start_nothing() -> None:
    refiner, large = arc_refiner(), (np.ones((11, 8), dtype=np.uint8),)
    out = refiner.refine(TASK, draft=large, steps=1, restarts=2)
    assert {attempt.source for attempt in out.attempts} == {"refiner"}
    assert out.grid.tolist() == refiner.refine(TASK, steps=1, restarts=2).grid.tolist()
    with pytest.raises(PuzzleError, match="11x8"):
        refiner.refine(TASK, draft=large, steps=1, cold=False)
    assert refiner.score(TASK, [large])[0] == 0


def test_a_rollout_ends_where_training_did() -> None:
    refiner = arc_refiner(expert=arc_expert(recipe={"train": {"max_steps": 2}}))
    assert refiner.refine(TASK, steps=16).steps <= 2
    assert refiner.refine(TASK, steps=1).steps == 1


# -- settings ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "pair",
    ["batch=0", "seconds=-1", "seconds=nan", "smallest_canvas=99", "lr=-1", "max_steps=0", "ensemble_size=17",
     "recolour=0.5", "together=2", "identity_alone=true", "no pair"],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused_by_name(pair: str) -> None:
    with pytest.raises(ConfigError, match=pair.partition("=")[0]):
        adaptation_config([pair], "--adapt", AdaptationConfig())


def test_settings_change_what_they_name_alone() -> None:
    small = default_adaptation("cpu")
    assert (small.seconds, small.batch, small.smallest_canvas) == (30, 8, 10)
    assert adaptation_config(["seconds=7"], "--adapt", small) == replace(small, seconds=7.0)
    with pytest.raises(ConfigError, match="one of the two"):
        adaptation_config(["seconds=7", "steps=3"], "--adapt", small)


def test_packing_keeps_what_adaptation_starts_from(expert: Expert, tmp_path: Path) -> None:
    save(tmp_path / "whole.pt", {"arc": expert}, torch.float32)
    pack(tmp_path / "packed.pt", [str(tmp_path / "whole.pt")])
    packed = load(tmp_path / "packed.pt").experts["arc"]
    assert packed.config == replace(SHAPE, identities=1)
    mean = expert.state["embed.identities"].mean(0, keepdim=True)
    assert torch.allclose(packed.state["embed.identities"].float(), mean, atol=0.01)
    whole, small = (
        Refiner.from_pretrained(tmp_path / f"{name}.pt", "cpu", adaptation=QUICK).refine(TASK, steps=1)
        for name in ("whole", "packed")
    )
    assert whole.grid.shape == small.grid.shape


@pytest.mark.parametrize("turn", range(TURNS))
@pytest.mark.parametrize("scale", [1, 2, 3])
def test_a_view_is_what_training_sees_and_comes_back(turn: int, scale: int) -> None:
    colours = np.arange(256, dtype=np.uint8)
    colours[[1, 2, 3]] = 2, 3, 1
    view = TaskView(turn, colours, 4, 7, scale)
    grid = np.random.default_rng(turn).integers(10, size=(2, 5), dtype=np.uint8)
    tokens = ARC.at(4, 7).encode(view.forward(grid))
    cells = torch.zeros(1, 30, 30, dtype=torch.int64)
    cells[0, :2, :5] = torch.from_numpy(grid)
    numbers = {"turn": turn, "scale": scale, "top": 4, "left": 7}
    drawn = plain(1, torch.device("cpu"))._replace(
        colours=torch.from_numpy(colours[:10].astype(np.int64))[None],
        **{name: torch.tensor([number]) for name, number in numbers.items()},
    )
    assert (tokens == place(cells, torch.tensor([[2, 5]]), drawn)[0].numpy()).all()
    assert (view.inverse(ARC.at(4, 7).decode(TASK, tokens)) == grid).all()
