"""Slots: fast equals plain, halting and stopping free a slot, noise is reproducible."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_networks import SMALL
from small_networks import network as model

from trm.inference.engine import Engine, Rollout, Trajectory
from trm.model.network import TRM


def questions(count: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(1, 11, 81) for _ in range(count)]


@torch.no_grad()
def plain(network: TRM, rollout: Rollout, steps: int) -> Trajectory:
    """The recursion as anyone would write it, one puzzle at a time."""
    config = network.config
    tokens = torch.from_numpy(rollout.tokens)[None]
    draft = torch.zeros_like(tokens) if rollout.draft is None else torch.from_numpy(rollout.draft)[None]
    state, result = network.initial_state(1), Trajectory()
    for _ in range(steps):
        state, out = network.step(state, tokens, draft=draft if config.draft else None)
        grid = out.logits.argmax(-1)
        result.grids.append(grid[0].numpy())
        result.halts.append(float(out.halt))
        draft = grid if config.feedback else torch.zeros_like(grid)
    return result


@pytest.mark.parametrize("slots", [1, 3, 16])
@pytest.mark.parametrize("feedback", [True, False])
def test_fast_equals_plain_whatever_shares_the_batch(slots: int, feedback: bool) -> None:
    network = model(replace(SMALL, feedback=feedback))
    drafts = questions(7, seed=9)
    rollouts = [
        Rollout(q, d if i % 2 else None) for i, (q, d) in enumerate(zip(questions(7), drafts, strict=True))
    ]
    for rollout, run in zip(rollouts, Engine(network, slots).run(rollouts, steps=4), strict=True):
        expected = plain(network, rollout, 4)
        assert all(np.array_equal(a, b) for a, b in zip(run.grids, expected.grids, strict=True))
        assert run.halts == pytest.approx(expected.halts, abs=1e-5)


def test_a_halted_rollout_leaves_and_another_takes_its_slot() -> None:
    network, rollouts = model(), [Rollout(q) for q in questions(12)]
    probe = Engine(network, 4).run(rollouts, steps=6)
    middle = float(np.median([max(run.halts) for run in probe]))
    with torch.no_grad():
        network.halt.bias -= middle  # half of them now halt at some step
    whole = Engine(network, 4).run(rollouts, steps=6)
    halted = Engine(network, 4).run(rollouts, steps=6, stop=lambda i, run: run.halted)
    assert {run.steps for run in whole} == {6}
    assert len({run.steps for run in halted}) > 1  # some leave early, some never halt
    for short, long in zip(halted, whole, strict=True):
        assert short.steps == long.first_halt() + 1
        assert np.array_equal(short.grids[-1], long.grids[short.steps - 1])


def test_stop_ends_a_rollout() -> None:
    runs = Engine(model(), 2).run([Rollout(q) for q in questions(4)], steps=5, stop=lambda i, run: i == 2)
    assert [run.steps for run in runs] == [5, 5, 1, 5]


def test_noise_is_the_seeds_and_does_not_depend_on_company() -> None:
    network, (first, second) = model(), questions(2)
    noisy = Rollout(first, noise=0.5, seed=3)
    alone = Engine(network).run([noisy], steps=3)[0]
    shared = Engine(network).run([Rollout(second), noisy, Rollout(second, noise=0.5, seed=4)], steps=3)[1]
    assert alone.halts == pytest.approx(shared.halts, abs=1e-5)
    other = Engine(network).run([replace(noisy, seed=5)], steps=3)[0]
    quiet = Engine(network).run([Rollout(first)], steps=3)[0]
    assert alone.halts != pytest.approx(other.halts, abs=1e-5)
    assert alone.halts != pytest.approx(quiet.halts, abs=1e-5)


def test_a_judged_draft_is_held_and_every_tokens_likelihood_told() -> None:
    network, (question, draft) = model(), questions(2)
    rollouts = [
        Rollout(question, draft, keep_log_probs=True),
        Rollout(question, draft),
        Rollout(question, keep_log_probs=True),
    ]
    held, fed, cold = Engine(network).run(rollouts, steps=3)
    tokens = torch.from_numpy(question)[None]
    state = network.initial_state(1)
    for step in range(3):
        with torch.no_grad():
            state, out = network.step(state, tokens, draft=torch.from_numpy(draft)[None])
        assert held.likelihoods[step] == pytest.approx(out.logits.log_softmax(-1)[0].numpy(), abs=1e-4)
    assert held.halts[0] == pytest.approx(fed.halts[0], abs=1e-6)
    assert held.halts[2] != pytest.approx(fed.halts[2], abs=1e-6)
    assert fed.likelihoods == []
    (plainly,) = Engine(network).run([Rollout(question)], steps=3)
    for step in range(3):  # without a draft its own grids are fed back, as ever
        assert np.array_equal(cold.grids[step], plainly.grids[step])
        assert np.array_equal(cold.likelihoods[step].argmax(-1), cold.grids[step])


def test_a_draft_for_a_network_without_drafts_is_refused() -> None:
    network = model(replace(SMALL, draft=False, feedback=False))
    with pytest.raises(ValueError, match="not trained on drafts"):
        Engine(network).run([Rollout(questions(1)[0], questions(1)[0])])


def test_a_rollout_is_handed_over_when_it_leaves_its_slot() -> None:
    steps = [3, 1, 4, 1, 2]
    heard: list[int] = []
    running = Engine(model(), 2).each(
        [Rollout(q) for q in questions(5)], 5, lambda i, run: run.steps == steps[i], heard.append
    )
    came = [(index, len(heard), run.steps, run.seconds > 0) for index, run in running]
    assert came == [(1, 1, 1, True), (0, 3, 3, True), (3, 4, 1, True), (2, 5, 4, True), (4, 6, 2, True)]


def test_progress_counts_up_to_all() -> None:
    heard: list[int] = []
    Engine(model(), 2).run([Rollout(q) for q in questions(5)], steps=2, progress=heard.append)
    assert heard[-1] == 5
    assert heard == sorted(heard)


def test_a_compiled_engine_runs_all_of_its_slots_and_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[bool] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, dynamic: compiled.append(dynamic))
    network, rollouts = model(), [Rollout(q) for q in questions(5)]
    batches: list[int] = []
    step = network.step

    def counting(state: object, tokens: torch.Tensor, *rest: object) -> object:
        batches.append(len(tokens))
        return step(state, tokens, *rest)  # type: ignore[arg-type]

    network.step = counting  # type: ignore[method-assign, assignment]
    runs = Engine(network, 8, compiled=True).run(rollouts, steps=3)
    assert compiled == [False]
    assert set(batches) == {8}
    for rollout, run in zip(rollouts, runs, strict=True):
        expected = plain(model(), rollout, 3)
        assert all(np.array_equal(a, b) for a, b in zip(run.grids, expected.grids, strict=True))


def test_what_is_watched_is_kept_and_changes_nothing() -> None:
    (tokens,) = questions(1)
    rollouts = [Rollout(tokens), Rollout(tokens, watched=True)]
    unseen, watched = Engine(model(), slots=2).run(rollouts, 3)
    assert not unseen.watched
    assert unseen.halts == watched.halts
    for step, (grid, seen) in enumerate(zip(watched.grids, watched.watched, strict=True)):
        assert np.array_equal(grid, unseen.grids[step])
        assert np.array_equal(grid, seen.grids[-1])
        assert len(seen.grids) == len(seen.z_moves) == model().config.h_cycles
        assert seen.weighed.shape == (*seen.grids.shape, 2)
        assert not (seen.weighed == seen.grids[..., None])[seen.weighed > 0].any()
        assert 0 < seen.z_moved <= sum(seen.z_moves) * 2
