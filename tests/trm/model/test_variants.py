"""The literature's variants of the one model, each against the loop that anyone would write."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_networks import CONFIGS, RECIPES, SMALL, network, settings, trainer, weights
from torch import Tensor

from trm.checkpoints.format import load
from trm.inference.engine import Engine, Rollout, Trajectory
from trm.model.config import TRMConfig
from trm.model.network import TRM, Output, State
from trm.training.config import Config, LossConfig, load_config
from trm.training.losses import continue_target, losses

DEEP = replace(SMALL, h_cycles=2, l_cycles=3)


def tokens(batch: int = 3) -> Tensor:
    return torch.randint(1, 11, (batch, 81), generator=torch.Generator().manual_seed(0))


def through(blocks: Iterable[torch.nn.Module], h: Tensor) -> Tensor:
    for block in blocks:
        h = block(h, None)
    return h


def gradients(model: TRM) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def close(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert set(a) == set(b)
    for name, grad in a.items():
        assert (grad - b[name]).abs().max() <= 1e-4 * b[name].abs().max(), name


def test_two_networks_one_thinks_and_the_other_answers() -> None:
    model = network(replace(DEEP, networks=2))
    assert sum(p.numel() for p in model.net.parameters()) == 2 * sum(
        p.numel() for p in network(DEEP).net.parameters()
    )
    y, z = model.initial_state(3)
    e = model.embed(tokens(), None, None)
    with torch.no_grad():
        for _ in range(2):
            for _ in range(3):
                z = through(model.net.blocks, z + (y + e))
            y = through(model.net.answer_blocks, y + z)
        state, out = model.step(model.initial_state(3), tokens())
    torch.testing.assert_close(state.z, z)
    torch.testing.assert_close(state.y, y)
    torch.testing.assert_close(out.logits, model.head(y[:, 2:]))


@pytest.mark.parametrize(
    "shape", [DEEP, replace(DEEP, mixer="mlp_t", positions="none"), replace(DEEP, states=1)]
)
def test_cycles_are_handed_out_when_asked_and_change_nothing(shape: TRMConfig) -> None:
    model = network(replace(shape, h_cycles=3))
    shorter = network(replace(shape, h_cycles=2))
    shorter.load_state_dict(model.state_dict())
    state, out = model.step(model.initial_state(3), tokens())
    again, asked = model.step(model.initial_state(3), tokens(), cycles=True)
    assert out.cycles == ()
    assert len(asked.cycles) == 3
    assert all(a.equal(b) for a, b in zip((*state, *out[:3]), (*again, *asked[:3]), strict=True))
    assert model.logits(asked.cycles[-1].y).equal(out.logits)
    earlier, second = shorter.step(shorter.initial_state(3), tokens())
    assert model.logits(asked.cycles[1].y).equal(second.logits)
    assert asked.cycles[1].z.equal(earlier.z)


def test_both_networks_are_trained_by_muon_and_saved(tmp_path: Path) -> None:
    made = trainer(tmp_path, settings(model__networks=2, train__steps=3, train__ema=0.0))
    before = weights(made)
    muon = {id(p) for group in made.learner.optimizer.parts[1].param_groups for p in group["params"]}
    made.run()
    named = dict(made.learner.model.net.named_parameters())
    assert {id(p) for p in named.values()} == muon
    assert {name.partition(".")[0] for name in named} == {"blocks", "answer_blocks"}
    after = weights(made)
    assert all(not before[f"net.{name}"].equal(after[f"net.{name}"]) for name in named)
    saved = load(tmp_path / "checkpoints" / "last").experts["sudoku"]
    assert saved.config.networks == 2
    for name, tensor in saved.model().state_dict().items():
        torch.testing.assert_close(tensor, after[name])


def test_one_state_is_a_plain_loop_of_n_plus_one_updates() -> None:
    model = network(replace(DEEP, states=1))
    y = model.initial_state(3).y
    e = model.embed(tokens(), None, None)
    with torch.no_grad():
        for _ in range(2 * (3 + 1)):
            y = through(model.net.blocks, y + e)
        state, out = model.step(model.initial_state(3), tokens())
        # What z holds is never read.
        _, other = model.step(State(model.initial_state(3).y, torch.randn(3, 83, 32)), tokens())
    torch.testing.assert_close(state.y, y)
    torch.testing.assert_close(out.logits, model.head(y[:, 2:]))
    torch.testing.assert_close(out.halt, model.halt(y[:, 0])[:, 0])
    assert out.logits.equal(other.logits)
    assert out.logits.equal(model.step(model.initial_state(3), tokens())[1].logits)


def test_one_state_carries_gradient_through_its_last_cycle() -> None:
    model = network(replace(DEEP, states=1))
    _, out = model.step(model.initial_state(3), tokens())
    out.logits.square().sum().backward()
    ours = gradients(model)
    model.zero_grad()
    y, e = model.initial_state(3).y, model.embed(tokens(), None, None)
    for update in range(8):
        y = through(model.net.blocks, (y.detach() if update == 4 else y) + (e.detach() if update < 4 else e))
    model.head(y[:, 2:]).square().sum().backward()
    close(ours, gradients(model))


@pytest.mark.parametrize("networks", [1, 2])
def test_the_one_step_gradient_is_that_of_the_last_two_updates(networks: int) -> None:
    """HRM's: all but the last update of z and the last of y are constants."""
    model = network(replace(DEEP, gradient="step", networks=networks))
    state, out = model.step(model.initial_state(3), tokens())
    out.logits.square().sum().backward()
    ours = gradients(model)
    model.zero_grad()
    answering = model.net.answer_blocks if networks == 2 else model.net.blocks
    y, z = model.initial_state(3)
    e = model.embed(tokens(), None, None)
    for cycle in range(2):
        for update in range(3):
            last = (cycle, update) == (1, 2)
            z = (
                through(model.net.blocks, z + y + e)
                if last
                else through(model.net.blocks, z + y + e).detach()
            )
        y = through(answering, y + z) if cycle == 1 else through(answering, y + z).detach()
    model.head(y[:, 2:]).square().sum().backward()
    torch.testing.assert_close(state.y, y.detach())
    close(ours, gradients(model))
    whole = network(replace(DEEP, networks=networks))
    whole.load_state_dict(model.state_dict())
    _, out = whole.step(whole.initial_state(3), tokens())
    out.logits.square().sum().backward()
    assert not torch.allclose(gradients(whole)["embed.tokens"], ours["embed.tokens"], rtol=1e-2)


# -- Q-learning --------------------------------------------------------------------------------------------
def sigmoid(v: float) -> float:
    return 1 / (1 + math.exp(-v))


def test_what_going_on_is_worth() -> None:
    later = Output(torch.zeros(4, 1, 2), torch.tensor([1.0, -2.0, 1.0, -2.0]), torch.tensor([-1.0, 3, 3, 3]))
    worth = continue_target(later, torch.tensor([False, False, True, True]))
    assert worth.tolist() == pytest.approx([sigmoid(1), sigmoid(3), sigmoid(1), sigmoid(-2)])


def test_the_loss_of_q_learning_is_two_cross_entropies() -> None:
    out = Output(torch.eye(3)[None] * 9, torch.tensor([0.5]), torch.tensor([-1.5]))
    labels, config = torch.tensor([[0, 1, 1]]), LossConfig(halt_weight=0.25)
    plain = losses(out, labels, config)
    both = losses(out, labels, config, torch.tensor([0.3]))
    going_on = -(0.3 * math.log(sigmoid(-1.5)) + 0.7 * math.log(sigmoid(1.5)))
    assert float(both.total - plain.total) == pytest.approx(0.25 * going_on, rel=1e-5)
    assert float(plain.total - plain.cells) == pytest.approx(-0.25 * math.log(sigmoid(-0.5)), rel=1e-5)


@pytest.mark.parametrize("feedback", [True, False])
def test_a_training_step_learns_what_the_next_step_says(tmp_path: Path, feedback: bool) -> None:
    """The gradient of both halting biases, and who leaves, from the states that a step leaves in the pool.

    The learning rate is 0, so the next step can be asked afterwards."""
    recipe = settings(
        model__q_continue=True,
        model__feedback=feedback,
        train__pool=1,
        train__exploration=0.5,
        optim__clip=0.0,
        loss__halt_weight=0.5,
    )
    made = trainer(tmp_path, recipe)
    learner = made.learner
    model, pool = learner.model, learner.pool
    with torch.no_grad():
        model.embed.draft.normal_()
        model.halt.weight.normal_()
    learner.set_step(0, 0.0)
    learner.step()
    with torch.no_grad():  # half of the puzzles now halt
        halt, go_on = model.halt(pool.y[:, 0]).unbind(-1)
        model.halt.bias[1] += (halt - go_on).median()
    seen = set()
    for _ in range(12):
        learner.step()
        halt, go_on = model.halt(pool.y[:, 0]).detach().unbind(-1)
        with torch.no_grad():
            _, later = model.step(State(pool.y, pool.z), pool.tokens, draft=pool.draft)
        last = (pool.steps >= 3).tolist()
        worth = [
            sigmoid(h if final else max(h, c))
            for h, c, final in zip(later.halt.tolist(), later.go_on.tolist(), last, strict=True)
        ]
        right = (model.head(pool.y[:, 1:]).argmax(-1) == pool.labels).all(-1).tolist()
        expected = [
            0.5 * sum(sigmoid(h) - r for h, r in zip(halt.tolist(), right, strict=True)) / 8,
            0.5 * sum(sigmoid(c) - w for c, w in zip(go_on.tolist(), worth, strict=True)) / 8,
        ]
        assert model.halt.bias.grad is not None
        assert model.halt.bias.grad.tolist() == pytest.approx(expected, abs=1e-5)
        leaves = ((halt > go_on) & (pool.steps >= pool.least)) | torch.tensor(last)
        assert pool.done.equal(leaves)
        seen |= set(zip(last, (halt > go_on).tolist(), strict=True))
    assert seen >= {(False, True), (False, False), (True, False)}


def test_the_second_logit_is_left_alone_where_going_on_is_not_learned(tmp_path: Path) -> None:
    made = trainer(tmp_path, settings())
    made.learner.set_step(0, 0.0)
    made.learner.step()
    grad = made.learner.model.halt.bias.grad
    assert grad is not None
    assert grad[0] != 0
    assert grad[1] == 0


def test_the_engine_halts_by_the_rule_that_was_trained() -> None:
    """Both logits are negative, so that halt > 0 never holds; halt > go_on holds for some, at some step."""
    plain = network(replace(SMALL, q_continue=False), halt_bias=-20.0)
    learned = network(replace(SMALL, q_continue=True), halt_bias=-20.0)
    learned.load_state_dict(plain.state_dict())
    rng = np.random.default_rng(0)
    rollouts = [Rollout(rng.integers(1, 11, 81)) for _ in range(12)]
    never = Engine(plain, 4).run(rollouts, steps=5)
    assert not any(run.halted for run in never)
    assert {run.first_halt() for run in never} == {4}
    whole = Engine(learned, 4).run(rollouts, steps=5)
    gaps = [h - c for run in whole for h, c in zip(run.halts, run.go_ons, strict=True)]
    with torch.no_grad():  # half of the steps now say halt
        learned.halt.bias[1] += float(np.median(gaps))
    short = Engine(learned, 4).run(rollouts, steps=5, stop=lambda i, run: run.halted)
    for rollout, run in zip(rollouts, short, strict=True):
        question, state, draft, ends = (
            torch.from_numpy(rollout.tokens)[None],
            learned.initial_state(1),
            None,
            5,
        )
        for step in range(5):
            with torch.no_grad():
                state, out = learned.step(state, question, draft=draft)
                halt, go_on = learned.halt(state.y[:, 0])[0].tolist()
            assert halt < 0
            draft = out.logits.argmax(-1)
            if halt > go_on:
                ends = step + 1
                break
        assert run.steps == ends == run.first_halt() + 1
    assert len({run.steps for run in short}) > 1


def test_a_trajectory_without_such_logits_halts_above_zero() -> None:
    assert Trajectory(halts=[-1.0, 0.5, 2.0]).first_halt() == 1
    assert Trajectory(halts=[-1.0, 0.5, 2.0], go_ons=[0.0, 1.0, 1.0]).first_halt() == 2
    assert not Trajectory(halts=[0.5], go_ons=[1.0]).halted


# -- configurations ----------------------------------------------------------------------------------------
def test_a_run_older_than_these_keys_goes_on(tmp_path: Path) -> None:
    trainer(tmp_path, settings(train__steps=3)).run()
    path = tmp_path / "checkpoints" / "last" / "training.pt"
    raw = torch.load(path, weights_only=True)
    for key in ("networks", "states", "gradient", "q_continue"):
        del raw["config"]["model"][key]
    torch.save(raw, path)
    again = trainer(tmp_path, settings())
    again.resume()
    assert again.done_steps == 3


TINY = [
    "model.hidden_size=32", "model.heads=4", "data.train=", "data.exclude=", "data.generate=6", "data.stream=0",
    "data.held_out_size=2", "train.seconds=0", "train.steps=2", "train.batch=2", "train.pool=1", "train.eval_steps=1",
    "train.max_steps=2", "model.h_cycles=1", "model.l_cycles=2",
]  # fmt: skip
SHAPES = {
    "arc": ["model.identity_dim=32"],
    "maze": ["data.options.min_path=20"],
    "sudoku": ["data.stream=0", "data.options={}"],  # its neighbours need a file: tests/test_stream.py
}


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_trains(path: Path, tmp_path: Path) -> None:
    config = load_config(path, [*TINY, *SHAPES.get(path.stem, [])])
    small_enough(config, tmp_path)


def small_enough(config: Config, folder: Path) -> None:
    """Train for its two steps; what is left must be a network whose weights moved, and all finite."""
    made = trainer(folder, config)
    before = weights(made)
    made.run()
    after = weights(made)
    assert all(torch.isfinite(tensor).all() for tensor in after.values())
    assert not after["net.blocks.0.mlp.down.weight"].equal(before["net.blocks.0.mlp.down.weight"])


def test_hrm_is_a_configuration() -> None:
    hrm, ours = load_config(CONFIGS / "hrm_sudoku.toml"), load_config(CONFIGS / "sudoku.toml")
    assert (hrm.data.train, hrm.train.batch) == (ours.data.train, ours.train.batch)
    shape = hrm.model
    assert (shape.networks, shape.layers, shape.h_cycles, shape.l_cycles) == (2, 4, 2, 2)
    assert (shape.gradient, shape.q_continue, hrm.train.ema) == ("step", True, 0.0)
