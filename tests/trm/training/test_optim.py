"""Muon, the schedule, the clip, the moving average."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from trm.model.config import TRMConfig
from trm.model.network import TRM
from trm.training.config import OptimConfig
from trm.training.optim import Ema, Optimizer, orthogonalise

TINY = TRMConfig(seq_len=4, vocab_size=5, hidden_size=16, heads=2, prefix=1, h_cycles=1, l_cycles=1)


def test_orthogonalise_brings_singular_values_near_one() -> None:
    torch.manual_seed(0)
    for shape in ((2, 16, 64), (2, 64, 16), (1, 32, 32)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape)))
        assert values.min() > 0.3
        assert values.max() < 1.3


def test_the_networks_arithmetic_is_muons() -> None:
    torch.manual_seed(0)
    update = torch.randn(1, 16, 64)
    whole, half = orthogonalise(update), orthogonalise(update, half=True)
    assert 0 < (whole - half).abs().max() < 0.05
    for dtype in (torch.float32, torch.bfloat16):
        model = TRM(TINY)
        model.dtype = dtype
        assert Optimizer(model, OptimConfig()).parts[1].half is (dtype == torch.bfloat16)  # type: ignore[attr-defined]


def test_muon_agrees_with_torch() -> None:
    """Ten steps on two matrices: torch.optim.Muon computes the same update, in bfloat16."""
    torch.manual_seed(0)
    start = [torch.randn(24, 48), torch.randn(48, 24)]
    theirs = [nn.Parameter(p.clone()) for p in start]
    model = nn.Module()
    model.net = nn.ParameterList(p.clone() for p in start)  # type: ignore[assignment]
    ours = list(model.parameters())
    model.bias = nn.Parameter(torch.zeros(3))
    config = OptimConfig(lr=0.02, momentum=0.6, weight_decay=0.1, schedule="constant", warmup=0.0)
    optimizer = Optimizer(model, config)
    optimizer.set_progress(0.5)
    reference = torch.optim.Muon(theirs, lr=0.02, momentum=0.6, weight_decay=0.1, nesterov=True)
    for _ in range(10):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        model.bias.grad = torch.zeros(3)
        optimizer.step()
        reference.step()
    for a, b, first in zip(ours, theirs, start, strict=True):
        moved = (b - first).norm()
        assert (a - b).norm() < 0.02 * moved


@pytest.mark.parametrize("shape", [(48, 24), (24, 48)])
def test_normuon_moves_every_row(shape: tuple[int, int]) -> None:
    """Half of the rows have a ten-thousandth of the gradient: Muon leaves them where they are."""
    moved = {}
    for name in ("muon", "normuon"):
        generator = torch.Generator().manual_seed(0)
        model = nn.Module()
        model.net = nn.ParameterList([torch.zeros(shape), torch.zeros(shape)])  # type: ignore[assignment]
        model.bias = nn.Parameter(torch.zeros(3))
        config = OptimConfig(name=name, lr=0.02, weight_decay=0.0, schedule="constant", warmup=0.0)  # type: ignore[arg-type]
        optimizer = Optimizer(model, config)
        optimizer.set_progress(0.5)
        share = torch.where(torch.arange(shape[0]) % 2 == 0, 1.0, 1e-4)[:, None]
        for _ in range(3):
            for p in model.net:
                before, p.grad = p.detach().clone(), share * torch.randn(shape, generator=generator)
            model.bias.grad = torch.zeros(3)
            optimizer.step()
        rows = (p.detach() - before).norm(dim=1)
        moved[name] = float(rows[1::2].mean() / rows[::2].mean()), float(rows.norm())
    assert moved["muon"][0] < 0.05
    assert 0.3 < moved["normuon"][0] < 3
    assert moved["normuon"][1] == pytest.approx(moved["muon"][1], rel=1e-3)  # a step is as long as Muon's


def test_no_gradient_moves_nothing() -> None:
    model = TRM(TINY)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = Optimizer(model, OptimConfig(name="normuon", weight_decay=0.0, adamw_weight_decay=0.0))
    optimizer.set_progress(0.5)
    for p in optimizer.params:
        p.grad = torch.zeros_like(p)
    optimizer.step()
    assert all(p.equal(before[name]) for name, p in model.named_parameters())


def test_muon_trains_the_matrices_of_the_network_and_adamw_the_rest() -> None:
    model = TRM(TINY)
    adamw, muon = Optimizer(model, OptimConfig()).parts
    named = {id(p): n for n, p in model.named_parameters()}
    in_muon = {named[id(p)] for group in muon.param_groups for p in group["params"]}
    in_adamw = {named[id(p)] for group in adamw.param_groups for p in group["params"]}
    assert in_muon == {n for n in named.values() if n.startswith("net.")}
    assert in_muon | in_adamw == set(named.values())
    assert not in_muon & in_adamw
    (alone,) = Optimizer(model, OptimConfig(name="adamw")).parts
    assert len(alone.param_groups[0]["params"]) == len(named)


def test_the_schedule_warms_up_and_reaches_zero() -> None:
    optimizer = Optimizer(TRM(TINY), OptimConfig(lr=0.5, warmup=0.1))
    shares = [optimizer.schedule(p) for p in (0.0, 0.05, 0.1, 0.55, 1.0)]
    assert shares == pytest.approx([0, 0.5, 1, 0.5, 0], abs=1e-9)
    optimizer.set_progress(0.1)
    assert [float(lr) for _, lr in optimizer.lrs] == pytest.approx([1e-4, 0.5])


def test_clip_bounds_the_norm_and_tells_it() -> None:
    model = TRM(TINY)
    optimizer = Optimizer(model, OptimConfig(clip=1.0))
    for p in optimizer.params:
        p.grad = torch.ones_like(p)
    count = sum(p.numel() for p in optimizer.params)
    assert float(optimizer.clip()) == pytest.approx(math.sqrt(count), rel=1e-4)
    assert (
        math.sqrt(sum(float(p.grad.square().sum()) for p in optimizer.params if p.grad is not None)) < 1.0001
    )


def test_ema_follows_and_swaps() -> None:
    model = TRM(TINY)
    ema = Ema(model)
    first = [p.detach().clone() for p in ema.live]
    with torch.no_grad():
        for p in ema.live:
            p.add_(1.0)
    ema.keep.fill_(0.9)
    ema.update()
    for mean, old in zip(ema.mean, first, strict=True):
        torch.testing.assert_close(mean, old + 0.1)
    live = [p.detach().clone() for p in ema.live]
    ema.swap()
    torch.testing.assert_close(ema.live[0].detach(), first[0] + 0.1)
    ema.swap()
    assert all(a.equal(b) for a, b in zip(live, ema.live, strict=True))
