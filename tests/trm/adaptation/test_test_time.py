"""Fitting to one task's demonstrations, and the views that answer it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from trm.inference.attempts import Attempt, Job, Seconds, settle

from trm.adaptation.test_time import Fitter, Fitting, Turned, canvas, draw_view, fit_together, fitting
from trm.checkpoints.format import Checkpoint, Expert, load, pack, save
from trm.config import ConfigError
from trm.data.generate import generate
from trm.data.pairs import PairDataset, place, plain
from trm.grid import PuzzleError
from trm.inference.engine import Engine, Rollout
from trm.inference.refiner import Refiner
from trm.model.config import TRMConfig
from trm.model.network import TRM, TURNS
from trm.tasks import Puzzle, Status, get
from trm.training.config import load_config
from trm.training.losses import LossConfig, losses
from trm.training.step import METERS, Learner
from trm.training.trainer import Trainer

ARC = get("arc")
TASK = next(generate("arc", 1, 3, rule="recolour", demos=3, size=(3, 5)))
SHAPE = TRMConfig(
    900, 12, canvas_width=30, hidden_size=32, heads=2, prefix=2, positions="rope2d", h_cycles=1, l_cycles=1,
    gated_norm=True, draft=True, feedback=True, identities=3, identity_dim=32, turns=True,
)  # fmt: skip
QUICK = Fitting(steps=25, batch=4, max_steps=1, lr=0.02, adamw_lr=0.02)


@pytest.fixture(scope="module")
def expert() -> Expert:
    torch.manual_seed(0)
    state = TRM(SHAPE).state_dict()
    state["embed.identities"] = torch.randn(3, 32)
    return Expert("arc", SHAPE, state)


def fit(
    expert: Expert, puzzle: Puzzle, how: Fitting, progress: Callable[[int, int], None] | None = None
) -> TRM:
    return fit_together([Fitter(expert, how, 30)], [puzzle], progress)[0][0]


def error(model: TRM) -> float:
    """The loss on the demonstrations as they are."""
    bank = PairDataset(ARC, [TASK], False, torch.device("cpu"))
    tokens, labels, context = bank.draw(8, torch.Generator().manual_seed(0))
    with torch.inference_mode():
        _, out = model.step(model.initial_state(8), tokens, context, torch.zeros_like(tokens))
    return float(losses(out, labels, LossConfig(halt_weight=0.0)).total)


def test_fitting_learns_the_demonstrations_and_leaves_the_expert_alone(expert: Expert) -> None:
    before = {name: tensor.clone() for name, tensor in expert.state.items()}
    heard: list[tuple[int, int]] = []
    start = fit(
        expert, TASK, replace(QUICK, steps=1, lr=0.0, adamw_lr=0.0), progress=lambda *at: heard.append(at)
    )
    assert start.embed.identities.equal(expert.state["embed.identities"].mean(0, keepdim=True))
    fitted = fit(expert, TASK, QUICK, progress=lambda *at: heard.append(at))
    assert error(fitted) < 0.6 * error(start)
    assert heard[-1] == (25, 25)
    assert not any(p.requires_grad for p in fitted.parameters())
    assert all(expert.state[name].equal(tensor) for name, tensor in before.items())


def test_fitting_the_identity_alone_changes_nothing_else(expert: Expert) -> None:
    how = replace(QUICK, identity_alone=True, adamw_lr=0.1)
    start, fitted = fit(expert, TASK, replace(how, steps=1, adamw_lr=0.0)), fit(expert, TASK, how)
    changed = [n for n, tensor in fitted.state_dict().items() if not tensor.equal(start.state_dict()[n])]
    assert changed == ["embed.identities"]
    assert error(fitted) < error(start)


def test_fitting_is_a_matter_of_the_seed_and_sees_no_test(expert: Expert) -> None:
    how = replace(QUICK, steps=3)
    other = replace(TASK, inputs=(np.zeros((9, 9), dtype=np.uint8),), answers=None)
    states = [fit(expert, puzzle, how).state_dict() for puzzle in (TASK, other)]
    assert all(states[0][name].equal(states[1][name]) for name in states[0])
    assert not fit(expert, TASK, replace(how, seed=1)).embed.identities.equal(states[0]["embed.identities"])


def test_a_fitter_used_again_fits_as_a_new_one(expert: Expert) -> None:
    other = next(generate("arc", 1, 4, rule="mirror", demos=2, size=(3, 4)))
    used = Fitter(expert, replace(QUICK, steps=3), 20)
    fit_together([used], [other])
    new = Fitter(expert, replace(QUICK, steps=3), 20)
    (again,), (fresh,) = (fit_together([fitter], [TASK])[0] for fitter in (used, new))
    assert again.config.seq_len == 400
    for name, tensor in fresh.state_dict().items():
        assert tensor.equal(again.state_dict()[name]), name


def test_what_was_learned_is_that_of_the_last_tenth(expert: Expert, monkeypatch: pytest.MonkeyPatch) -> None:
    def step(learner: Learner) -> None:
        learner.meters += 1  # a pair right and one gone, whatever there was before
        learner.meters[METERS.index("right")] -= missed.pop(0)

    missed = [1.0] * 9 + [0.0]
    monkeypatch.setattr(Learner, "step", step)
    *_, right = fit_together([Fitter(expert, replace(QUICK, steps=10), 10)], [TASK])
    assert right == [1.0]
    missed = [0.0] * 9 + [1.0]
    *_, right = fit_together([Fitter(expert, replace(QUICK, steps=10), 10)], [TASK])
    assert right == [0.0]


def test_a_task_of_many_demonstrations_gets_its_places(expert: Expert) -> None:
    many = replace(TASK, demos=TASK.demos * 15)
    used = Fitter(expert, replace(QUICK, steps=1), 10)
    for puzzle in (TASK, many):
        fit_together([used], [puzzle])
    assert used.learner is not None
    assert len(used.learner.bank) == 45


def grids(*sides: tuple[int, int]) -> list[np.ndarray]:
    return [np.ones((side, other), dtype=np.uint8) for side, other in sides]


def test_the_canvas_holds_every_grid_and_what_may_come_of_the_tests() -> None:
    net = TRMConfig(seq_len=900, vocab_size=12, canvas_width=30, positions="rope2d")
    small, wide, large = grids((3, 3), (5, 20), (4, 21))
    assert canvas(Puzzle("arc", (small,), demos=((small, wide[:, :3]),)), net) == 20
    assert canvas(Puzzle("arc", (wide,), demos=((wide, wide),)), net) == 20
    assert canvas(Puzzle("arc", (small,), demos=((small, large),)), net) == 30
    assert canvas(Puzzle("arc", (large,), demos=((small, small),)), net) == 30
    # Outputs three times as large as inputs: what a test of 7 asks for does not fit 20.
    growing = Puzzle("arc", tuple(grids((7, 7))), demos=((small, grids((9, 9))[0]),))
    assert canvas(growing, net) == 30
    assert canvas(Puzzle("arc", (small,), demos=((small, small),)), replace(net, positions="rope")) == 30
    assert canvas(Puzzle("arc", (small,), demos=((small, small),)), net, smallest=10) == 10
    whole = Puzzle("arc", (small,), demos=((small, grids((14, 15))[0]),))
    assert canvas(whole, net, smallest=10) == 15
    assert canvas(whole, replace(net, patch=2), smallest=10) == 16  # of whole patches


def test_fitted_networks_are_measured_by_two_attempts(
    expert: Expert, monkeypatch: pytest.MonkeyPatch
) -> None:
    refiner = Refiner(Checkpoint("mine", {"arc": expert}), device="cpu")
    refiner.experts.fitting = replace(QUICK, steps=2)
    puzzles = list(generate("arc", 2, 5, rule="recolour", demos=2, size=(3, 4)))
    assert puzzles[0].answers is not None
    wrong = np.zeros((1, 1), dtype=np.uint8)
    said = {puzzles[0].id: [wrong, puzzles[0].answers[0]], puzzles[1].id: [wrong, wrong + 1]}
    whole = Refiner.refine

    def refine(self: Refiner, puzzle: Puzzle, **rest: object) -> object:
        out = whole(self, puzzle, **rest)  # type: ignore[arg-type]
        return replace(out, candidates=[said[puzzle.id]])

    monkeypatch.setattr(Refiner, "refine", refine)
    told: list[dict[str, object]] = []
    result = refiner.evaluate(puzzles, steps=2, restarts=3, record=told.append)
    assert (result["n"], result["pass_1"], result["pass_2"], result["tasks"]) == (2, 0.0, 0.5, 0.5)
    assert [one["pass_2"] for one in told] == [[True], [False]]
    assert told[0]["canvas"] == 20


def test_a_draft_too_large_for_the_canvas_costs_the_cold_start_nothing(expert: Expert) -> None:
    refiner = Refiner(Checkpoint("mine", {"arc": expert}), device="cpu")
    refiner.experts.fitting = replace(QUICK, steps=2, smallest=10)
    large = (np.ones((11, 8), dtype=np.uint8),)
    out, cold = (
        refiner.refine(TASK, draft=large, steps=1, restarts=2),
        refiner.refine(TASK, steps=1, restarts=2),
    )
    assert {attempt.source for attempt in out.attempts} == {"refiner"}
    assert out.grid.tolist() == cold.grid.tolist()
    with pytest.raises(PuzzleError, match="11x8, expected at most 10x10"):
        refiner.refine(TASK, draft=large, steps=1, cold=False)
    assert refiner.score(TASK, [large])[0] == 0


def test_a_rollout_ends_where_training_did(expert: Expert) -> None:
    trained = replace(expert, meta={"recipe": {"train": {"max_steps": 2}}})
    refiner = Refiner(Checkpoint("mine", {"arc": trained}), device="cpu")
    refiner.experts.fitting = replace(QUICK, steps=1)
    assert refiner.refine(TASK, steps=16).steps <= 2
    assert refiner.evaluate([TASK], steps=16)["by_step"].keys() == {"1", "2"}
    assert refiner.refine(TASK, steps=1).steps == 1


def test_many_tasks_are_fitted_once_each(expert: Expert, monkeypatch: pytest.MonkeyPatch) -> None:
    refiner = Refiner(Checkpoint("mine", {"arc": expert}), device="cpu")
    refiner.experts.fitting = replace(QUICK, steps=1)
    fitted: list[str] = []
    whole = Fitter.begin
    monkeypatch.setattr(Fitter, "begin", lambda self, p, s: fitted.append(p.id) or whole(self, p, s))
    puzzles = list(generate("arc", 10, 5, rule="recolour", demos=2, size=(3, 4)))
    outs = refiner.refine(puzzles, steps=1, restarts=2)
    assert fitted == [p.id for p in puzzles]
    assert [len(out.attempts) for out in outs] == [3] * 10


def test_packing_keeps_what_fitting_starts_from(expert: Expert, tmp_path: Path) -> None:
    save(tmp_path / "whole.pt", {"arc": expert}, torch.float32)
    pack(tmp_path / "packed.pt", [str(tmp_path / "whole.pt")])
    packed = load(tmp_path / "packed.pt").experts["arc"]
    assert packed.config == replace(SHAPE, identities=1)
    mean = expert.state["embed.identities"].mean(0, keepdim=True)
    assert torch.allclose(packed.state["embed.identities"].float(), mean, atol=0.01)
    config = load_config(
        Path(__file__).parent.parent / "configs" / "arc.toml",
        [
            *(f"model.{key}={getattr(SHAPE, key)}" for key in ("hidden_size", "heads", "prefix", "identity_dim")),
            "model.norm=post", "model.layers=2", "model.states=2", "model.seq_len=100", "model.canvas_width=10",
            "model.identities=4", "train.batch=2", f"train.init={tmp_path / 'packed.pt'}",
        ],
    )  # fmt: skip
    trainer = Trainer(config, tmp_path, list(generate("arc", 4, 0, size=(3, 5))), [], "cpu")
    assert torch.allclose(trainer.learner.model.embed.identities, mean.expand(4, -1), atol=0.01)
    changed = replace(config, model=replace(config.model, layers=1))
    with pytest.raises(ConfigError, match="another shape"):
        Trainer(changed, tmp_path, list(generate("arc", 4, 0, size=(3, 5))), [], "cpu")


def test_a_budget_is_what_fitting_may_take(expert: Expert) -> None:
    refiner = Refiner(Checkpoint("mine", {"arc": expert}), device="cpu")
    refiner.experts.fitting = replace(QUICK, steps=0, seconds=60.0)
    heard: list[int] = []

    def listen(done: int, total: int, grid: object) -> None:
        if isinstance(total, Seconds):
            heard.append(total)

    refiner.refine(TASK, steps=1, budget=1.5, progress=listen)
    assert set(heard) == {1}
    other = next(generate("arc", 1, 4, rule="mirror", demos=2, size=(3, 4)))
    assert refiner.refine(other, steps=1, budget=0.0, progress=listen).steps == 1
    assert refiner.experts.fitted([other], budget=0.0)[0].steps == 0


def test_the_clock_ends_it(expert: Expert) -> None:
    heard: list[tuple[int, int]] = []
    fit(expert, TASK, replace(QUICK, steps=0, seconds=1.0), progress=lambda *at: heard.append(at))
    assert heard[-1] == (1, 1)


@pytest.mark.parametrize("turn", range(TURNS))
def test_views_undo_themselves_and_are_the_banks(turn: int) -> None:
    colours = np.arange(256, dtype=np.uint8)
    colours[[1, 2, 3]] = 2, 3, 1
    view = Turned(turn, colours)
    for shape in ((2, 3), (4, 4)):
        grid = np.arange(shape[0] * shape[1], dtype=np.uint8).reshape(shape) % 10
        assert (view.inverse(view.forward(grid)) == grid).all()
        cells = torch.zeros(1, 30, 30, dtype=torch.int64)
        cells[0, : shape[0], : shape[1]] = torch.from_numpy(grid)
        seen = plain(1, torch.device("cpu"))._replace(
            turn=torch.tensor([turn]), colours=torch.from_numpy(colours[:10].astype(np.int64))[None]
        )
        tokens = place(cells, torch.tensor([shape]), seen)[0].numpy()
        assert (tokens == ARC.encode(view.forward(grid))).all()


@pytest.mark.parametrize("turn", [0, 5])
def test_moved_views_are_the_banks_and_come_back(turn: int) -> None:
    view = Turned(turn, np.arange(256, dtype=np.uint8), 4, 7)
    for shape in ((2, 3), (4, 4), (21, 22)):
        grid = np.arange(shape[0] * shape[1], dtype=np.uint8).reshape(shape) % 10
        tokens = ARC.at(4, 7).encode(view.forward(grid))
        cells = torch.zeros(1, 30, 30, dtype=torch.int64)
        cells[0, : shape[0], : shape[1]] = torch.from_numpy(grid)
        turns, tops, lefts = (torch.tensor([number]) for number in (turn, 4, 7))
        seen = plain(1, torch.device("cpu"))._replace(turn=turns, top=tops, left=lefts)
        assert (tokens == place(cells, torch.tensor([shape]), seen)[0].numpy()).all()
        assert (view.inverse(ARC.at(4, 7).decode(TASK, tokens)) == grid).all()


def test_moved_views_leave_room_for_the_answer_and_for_a_draft() -> None:
    wide, tall = np.zeros((2, 3), dtype=np.uint8), np.zeros((6, 4), dtype=np.uint8)
    puzzle = Puzzle("arc", (wide,), demos=((wide, tall),))  # outputs twice as long
    rng = np.random.default_rng(0)
    for least, longest in ((0, 6), (9, 9)):
        views = [draw_view(puzzle, rng, 20, least) for _ in range(200)]
        assert {view.top for view in views} == {view.left for view in views} == set(range(21 - longest))
    assert {(view.top, view.left) for view in (draw_view(puzzle, rng) for _ in range(9))} == {(0, 0)}
    with pytest.raises(PuzzleError, match="at row 16, column 3, expected it within 20x20"):
        ARC.on(20).at(15, 2).encode(tall)


def test_the_refiner_moves_its_views_where_asked(expert: Expert, monkeypatch: pytest.MonkeyPatch) -> None:
    refiner = Refiner(Checkpoint("mine", {"arc": expert}), device="cpu")
    seen: list[Rollout] = []
    each = Engine.each

    def listening(self: Engine, rollouts: list[Rollout], *rest: object, **more: object) -> object:
        seen.extend(rollouts)
        return each(self, rollouts, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Engine, "each", listening)
    corners = []
    for moved in (False, True):
        refiner.experts.fitting = replace(QUICK, steps=1, moved=moved)
        seen.clear()
        out = refiner.refine(TASK, TASK.answers, steps=1, restarts=12)
        assert len(out.attempts) == len(seen) == 14
        side = refiner.experts.spec(TASK).width
        firsts = [np.argwhere(one.tokens.reshape(side, side)).min(0) for one in seen]
        corners.append({tuple(first.tolist()) for first in firsts})
        for one, first in zip(seen, firsts, strict=True):
            if one.draft is not None:
                assert (np.argwhere(one.draft.reshape(side, side)).min(0) == first).all()
    assert corners[0] == {(0, 0)}
    assert len(corners[1]) > 5


def test_views_exchange_colours_of_inputs_alone() -> None:
    grid = np.array([[0, 1], [2, 0]], dtype=np.uint8)
    puzzle = Puzzle("arc", (grid,), demos=((grid, np.where(grid == 1, 7, grid).astype(np.uint8)),))
    rng = np.random.default_rng(0)
    views = [draw_view(puzzle, rng) for _ in range(60)]
    assert {view.turn for view in views} == set(range(TURNS))
    assert {tuple(view.colours[:3]) for view in views} == {(0, 1, 2), (0, 2, 1)}
    assert all((view.colours[3:] == np.arange(3, 256)).all() for view in views)
    plain_ones = [draw_view(puzzle, rng, recolour=0.0) for _ in range(30)]
    assert all((view.colours == np.arange(256)).all() for view in plain_ones)


def test_the_refiner_fits_once_looks_from_many_sides_and_votes(
    expert: Expert, monkeypatch: pytest.MonkeyPatch
) -> None:
    refiner = Refiner(Checkpoint("mine", {"arc": expert}), device="cpu")
    refiner.experts.fitting = replace(QUICK, steps=2)
    fitted: list[Puzzle] = []
    whole = Fitter.begin
    monkeypatch.setattr(Fitter, "begin", lambda self, p, s: fitted.append(p) or whole(self, p, s))
    contexts: list[int] = []
    each = Engine.each

    def listening(self: Engine, rollouts: list[Rollout], *rest: object, **more: object) -> object:
        contexts.extend(rollout.context for rollout in rollouts)
        return each(self, rollouts, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Engine, "each", listening)
    out = refiner.refine(TASK, steps=1, restarts=9)
    assert len(out.attempts) == 10
    assert contexts[0] == 0
    assert len(set(contexts)) > 3
    assert max(contexts) < TURNS
    assert out.candidates is not None
    assert 1 <= len(out.candidates[0]) <= 2
    assert out.verdict.status is Status.UNVERIFIED
    again = refiner.refine(TASK, steps=1, restarts=9)
    assert [a.grids[0].tolist() for a in again.attempts] == [a.grids[0].tolist() for a in out.attempts]
    assert refiner.score(TASK, [TASK.answers or ()]).shape == (1,)
    assert len(fitted) == 1
    other = next(generate("arc", 1, 4, rule="mirror", demos=2, size=(3, 4)))
    both = refiner.refine([TASK, other], steps=1)
    assert [p.demos for p in fitted] == [TASK.demos, other.demos]
    assert both[0].grid.tolist() == refiner.refine(TASK, steps=1).grid.tolist()


def test_most_votes_win_and_the_more_confident_among_equals() -> None:
    def attempt(value: int, confidence: float) -> Attempt:
        grids = (np.full((1, 1), value, dtype=np.uint8),)
        return Attempt("refiner", grids, confidence, ARC.check(TASK, grids), 1, ())

    job = Job(TASK, (None,), 0.0)
    job.attempts = [attempt(1, 0.9), attempt(2, 0.3), attempt(3, 0.95), attempt(2, 0.2)]
    out = settle(job, 1)
    assert out.candidates is not None
    assert [int(grid[0, 0]) for grid in out.candidates[0]] == [2, 3]
    assert int(out.grid[0, 0]) == 2
    assert out.confidence == 0.3 * 3 / 6  # the surest of those that say so, and half of all do
    job.attempts = job.attempts[:1]
    assert settle(job, 1).confidence == 0.9 * 2 / 3  # one of one says little


def test_restarting_apart_is_still_refused(expert: Expert) -> None:
    refiner = Refiner(Checkpoint("mine", {"arc": expert}), device="cpu")
    with pytest.raises(PuzzleError, match="no rule decides"):
        list(refiner.restart([TASK], [[None]]))


@pytest.mark.parametrize(
    "one", ["batch=0", "seconds=-1", "seconds=nan", "smallest=99", "lr=-1", "max_steps=0"]
)
def test_a_fit_that_cannot_be_is_refused(one: str) -> None:
    with pytest.raises(ConfigError, match=one.partition("=")[0]):
        fitting([one], "--fit", Fitting())


def test_a_fit_changes_what_it_names_alone(expert: Expert, tmp_path: Path) -> None:
    save(tmp_path / "arc.pt", {"arc": expert})
    small = Refiner.from_pretrained(tmp_path / "arc.pt", device="cpu").experts.how()
    assert (small.seconds, small.batch, small.smallest) == (30, 8, 10)
    assert fitting(["seconds=7"], "--fit", small) == replace(small, seconds=7.0)
    with pytest.raises(ConfigError, match="expected one of the two"):
        fitting(["seconds=7", "steps=3"], "--fit", small)
