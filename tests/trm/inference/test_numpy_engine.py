"""NumPy gives what PyTorch gives, and does not need it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_networks import SMALL, SUDOKU, expert, network
from test_engine import questions

from trm.checkpoints.format import Checkpoint, CheckpointError, Expert, load, save
from trm.inference.engine import Engine
from trm.inference.numpy_engine import NumpyEngine, TorchNormal
from trm.inference.refiner import Refiner
from trm.inference.slots import Rollout
from trm.model.config import TRMConfig
from trm.model.network import State
from trm.model.numpy_network import NumpyNetwork, NumpyState, can_run, weight_shapes

ROOT = Path(__file__).parents[3]
PLAIN = replace(SMALL, positions="rope", qk_norm=False, gated_norm=False, draft=False, feedback=False)
NETWORKS = {
    "rowcolbox": SMALL,
    "rowcol": replace(SMALL, positions="rowcol", feedback=False),
    "none": replace(SMALL, positions="none", prefix=0),
    "rope": PLAIN,
    "rope2d": replace(SMALL, positions="rope2d"),
    "groups": replace(SMALL, positions="groups", heads=4),
    "broad boxes": replace(SMALL, positions="groups", heads=4, seq_len=36, canvas_width=6, box=2, box_width=3),
    "mixer": replace(PLAIN, mixer="mlp_t", positions="none"),
    "gated mixer": replace(SMALL, mixer="mlp_t", positions="rowcol"),
    "pre-norm": replace(SMALL, norm="pre"),
    "one state": replace(SMALL, states=1),
    "two networks": replace(SMALL, networks=2, q_continue=True),
    "identities": replace(SMALL, identities=5, identity_dim=50),
    "turns": replace(SMALL, prefix=3, identities=5, identity_dim=60, turns=True),
}  # fmt: skip


def numpy_network(config: TRMConfig) -> NumpyNetwork:
    made = network(config)
    return NumpyNetwork(config, Expert("sudoku", config, made.state_dict()).arrays())


@pytest.mark.parametrize("config", NETWORKS.values(), ids=NETWORKS)
def test_a_step_is_pytorchs(config: TRMConfig) -> None:
    made, rng = network(config), np.random.default_rng(0)
    assert weight_shapes(config) == {name: tuple(v.shape) for name, v in made.state_dict().items()}
    tokens, draft = (rng.integers(0, config.vocab_size, (3, config.seq_len)) for _ in range(2))
    context = rng.integers(0, 5 * (8 if config.turns else 1), 3) if config.identities else None
    state, mine = made.initial_state(3), numpy_network(config).initial_state(3)
    for _ in range(2):
        with torch.no_grad():
            state, out = made.step(
                State(*state),
                torch.from_numpy(tokens),
                None if context is None else torch.from_numpy(context),
                torch.from_numpy(draft) if config.draft else None,
                cycles=True,
            )
        mine, own = numpy_network(config).step(
            NumpyState(*mine), tokens, context, draft if config.draft else None, cycles=True
        )
        for theirs, ours in [*zip(state, mine, strict=True), *zip(out[:3], own[:3], strict=True)]:
            np.testing.assert_allclose(ours, theirs.numpy(), atol=2e-5)
        assert len(own.cycles) == config.h_cycles
        np.testing.assert_allclose(own.cycles[0].z, out.cycles[0].z.numpy(), atol=2e-5)


def test_rollouts_with_drafts_noise_likelihoods_and_a_trace_are_pytorchs() -> None:
    first, *others = questions(5)
    drafts = questions(4, seed=9)
    rollouts = [
        Rollout(first, watched=True),
        *(Rollout(others[n], drafts[n], noise=0.3, seed=n) for n in range(4)),
        Rollout(first, drafts[0], keep_log_probs=True),
    ]
    theirs = Engine(network(), 2).run(rollouts, 3)
    ours = NumpyEngine(numpy_network(SMALL), 2).run(rollouts, 3)
    for a, b in zip(theirs, ours, strict=True):
        assert np.array_equal(np.stack(a.grids), np.stack(b.grids))
        assert b.halts == pytest.approx(a.halts, abs=1e-4)
    for seen, own in zip(theirs[0].watched, ours[0].watched, strict=True):
        assert np.array_equal(seen.grids, own.grids)
        assert np.array_equal(seen.weighed, own.weighed)
        np.testing.assert_allclose(own.z_moves, seen.z_moves, rtol=1e-3)
        assert own.z_moved == pytest.approx(seen.z_moved, rel=1e-3)
    np.testing.assert_allclose(ours[-1].likelihoods, theirs[-1].likelihoods, atol=1e-4)


def test_a_network_that_knows_no_drafts_refuses_one() -> None:
    engine = NumpyEngine(numpy_network(PLAIN))
    with pytest.raises(ValueError, match="expected draft=None"):
        engine.run([Rollout(*questions(2))])


@pytest.mark.parametrize("seed", [0, 7, 2**40 + 3, 2**61 + 12345])
def test_noise_is_pytorchs(seed: int) -> None:
    generator, normal = torch.Generator().manual_seed(seed), TorchNormal(seed)
    for count in (32, 83 * 32):
        theirs = torch.randn(count, generator=generator).numpy()
        np.testing.assert_allclose(normal.draw(count), theirs, atol=1e-5)


def test_a_refiner_in_numpy_answers_as_in_pytorch(tmp_path: Path) -> None:
    save(tmp_path / "n.pt", {"sudoku": expert()})
    pair = [
        Refiner.from_pretrained(tmp_path / "n.pt", device="cpu", numpy=numpy).refine(
            SUDOKU, restarts=3, steps=4
        )
        for numpy in (False, True)
    ]
    assert pair[0].text == pair[1].text
    assert pair[0].steps == pair[1].steps
    assert pair[0].confidence == pytest.approx(pair[1].confidence, abs=1e-3)


def test_what_numpy_cannot_run_runs_in_pytorch() -> None:
    for shape in (
        replace(PLAIN, patch=3),
        replace(PLAIN, hidden_size=24, prefix=4),
    ):  # 85 · 24: no noise for it
        assert not can_run(shape)
    shape = replace(PLAIN, patch=3)
    checkpoint = Checkpoint("n", {"sudoku": Expert("sudoku", shape, network(shape).state_dict())})
    assert isinstance(Refiner.from_checkpoint(checkpoint, numpy=True).pool.engine("sudoku"), Engine)


def test_weights_that_do_not_fit_the_shape_are_refused(tmp_path: Path) -> None:
    weights = network().state_dict()
    del weights["halt.bias"]
    wide = {**network().state_dict(), "head.weight": torch.zeros(11, 33)}
    for wrong in (weights, wide, {**network().state_dict(), "halt.bias2": torch.zeros(2)}):
        save(tmp_path / "n.pt", {"sudoku": Expert("sudoku", SMALL, wrong)})
        with pytest.raises(CheckpointError, match=r"weights do not fit the config: h(alt.bias|ead.weight)"):
            load(tmp_path / "n.pt").experts["sudoku"].arrays()
    command = ["-m", "hybrid", "solve", "--llm", "none", "--refiner", str(tmp_path / "n.pt"), SUDOKU]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1


def test_weights_that_are_too_large_give_no_warnings() -> None:
    huge = {name: v * 1e30 for name, v in network().state_dict().items()}
    engine = NumpyEngine(NumpyNetwork(SMALL, Expert("sudoku", SMALL, huge).arrays()))
    (run,) = engine.run([Rollout(*questions(1))], 1)  # warnings are errors here
    assert run.steps == 1


def test_a_sudoku_is_answered_without_pytorch(tmp_path: Path) -> None:
    save(tmp_path / "n.pt", {"sudoku": expert()})
    program = (
        "import sys; from hybrid.cli import main\n"
        f"sys.argv[1:] = ['solve', '--llm', 'none', '--refiner', {str(tmp_path / 'n.pt')!r}, '--device', 'cpu', "
        f"'--steps', '2', {SUDOKU!r}]\n"
        "try:\n    main()\nfinally:\n    print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "answer" in done.stdout
    assert done.stdout.splitlines()[-1] == "False", done.stderr
