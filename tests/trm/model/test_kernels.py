"""The fused kernels against their plain twin: on a GPU where there is one, on a CPU by Triton's interpreter."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_networks import ROOT, SMALL

from trm.config import ConfigError
from trm.inference.provider import with_kernels
from trm.model import kernels
from trm.model.network import TRM
from trm.training.config import load_config
from trm.training.trainer import Trainer

# The interpreter is chosen when a kernel is defined, so that it needs a process of its own.
AGREE = """
import sys, torch
from trm.model import kernels
from trm.model.config import TRMConfig
from trm.model.layers import Attention, SwiGLU
from trm.model.network import Network

device = sys.argv[1]
torch.manual_seed(0)
for positions, prefix, qk_norm, dtype in (
    ("groups", 1, True, torch.float32), ("groups", 0, True, torch.float16), ("none", 3, False, torch.float32),
    ("rope2d", 2, True, torch.float32), ("rope", 1, False, torch.float16),
):
    config = TRMConfig(
        seq_len=81, vocab_size=11, canvas_width=9, hidden_size=128, heads=4, positions=positions, prefix=prefix,
        qk_norm=qk_norm,
    )
    fused, plain = Attention(config).to(device), Attention(config).to(device)
    plain.load_state_dict(fused.state_dict())
    kernels.fuse_attention(fused, config)
    assert fused.fused
    h = torch.randn(3, config.length, 128).to(device, dtype)
    goal = torch.randn(3, config.length, 128).to(device, dtype)
    rope = None
    if positions.startswith("rope"):
        net = Network(config).to(device)
        rope = net.cos, net.sin
    results = []
    for twin in (fused, plain):
        at = h.clone().requires_grad_()
        out = twin(at, rope)
        (out * goal).sum().backward()
        results.append([out.detach(), at.grad, twin.qkv.weight.grad])
    for name, one, other in zip(("out", "input", "weight"), *results):
        off = float((one.float() - other.float()).abs().max() / other.float().abs().max())
        print(positions, dtype, name, off)
        assert off < (2e-5 if dtype == torch.float32 else 1e-2), (positions, dtype, name, off)

for width, norm, dtype in (
    (128, True, torch.float32), (192, True, torch.float16), (128, False, torch.float32)
):
    fused = SwiGLU(width, 4.0, norm).to(device)
    h = torch.randn(3, 50, width).to(device, dtype)
    with torch.no_grad():
        plain = fused(h)
        kernels.fuse_gated(fused)
        assert fused.fused
        found = fused(h)
    off = float((found.float() - plain.float()).abs().max() / plain.float().abs().max())
    print("gated", dtype, off)
    assert found.dtype == dtype and off < (2e-5 if dtype == torch.float32 else 1e-2), (dtype, off)
    assert fused(h).requires_grad  # with gradient it is the plain one

for positions, norm, dtype in ((97, False, torch.float32), (97, False, torch.float16), (20, True, torch.float32)):
    mixer = SwiGLU(positions, 4.0, norm).to(device)
    h = torch.randn(positions, 3, 50).to(device, dtype)
    with torch.no_grad():
        plain = mixer.first_axis(h)
        kernels.fuse_mixer(mixer)
        assert mixer.fused
        found = mixer.first_axis(h)
    off = float((found.float() - plain.float()).abs().max() / plain.float().abs().max())
    print("mixer", dtype, off)
    assert found.dtype == dtype and off < (2e-5 if dtype == torch.float32 else 1e-2), (dtype, off)
    assert mixer.first_axis(h).requires_grad
"""


@pytest.mark.slow
@pytest.mark.skipif(not kernels.available(), reason="Triton is not for this machine")
@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")],
        ),
    ],
)
def test_the_fused_kernels_agree_with_their_plain_twin_both_ways(device: str) -> None:
    interpreted = {"TRITON_INTERPRET": "1"} if device == "cpu" else {}
    ran = subprocess.run(
        [sys.executable, "-c", AGREE, device], env={**os.environ, **interpreted},
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("\n") == 21, ran.stdout


# What the interpreter takes the compiler may refuse; it needs no GPU to say so.
COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from trm.model import kernels, triton_kernels

TYPES = {
    "cos": "*fp32", "sin": "*fp32", **dict.fromkeys(("qkv", "out", "grad_out", "grad_qkv"), "*bf16"),
    **dict.fromkeys(("h", "weight", "gate_up", "down"), "*bf16"),
    "group": "*i32", "squares": "*fp32", "scale": "fp32", "eps": "fp32", "n": "i32", "heads": "i32", "rows": "i32",
    "columns": "i32",
}
ATTEND = {"NORM": True, "ROPE": True, "N": 128, "WIDTH": 64}
GATED = {"WIDTH": 512, "HIDDEN": 1536, "TALL": kernels.TALL, "WIDE": kernels.WIDE, "DEEP": kernels.DEEP}
MIX = {"NORM": False, "N": 128, "HIDDEN": 512, "COLUMNS": kernels.COLUMNS, "STRIPE": kernels.STRIPE}
for kernel, fixed, warps in (
    (triton_kernels.attend_forward, ATTEND | {"ROWS": 64}, 4), (triton_kernels.attend_backward, ATTEND, 8),
    (triton_kernels.gated, GATED, 8), (triton_kernels.mix, MIX, 8),
):
    names = kernel.arg_names
    source = ASTSource(
        kernel, {name: TYPES.get(name, "constexpr") if name not in fixed else "constexpr" for name in names},
        {(names.index(name),): value for name, value in fixed.items()},
    )
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": warps})
    print(kernel.__name__, made.metadata.shared)
"""


@pytest.mark.slow
@pytest.mark.skipif(not kernels.available(), reason="Triton is not for this machine")
def test_the_kernels_compile_for_a_gpu_that_is_not_there() -> None:
    ran = subprocess.run([sys.executable, "-c", COMPILE], capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    shared = {name: int(size) for name, size in map(str.split, ran.stdout.splitlines())}
    assert shared.keys() == {"attend_forward", "attend_backward", "gated", "mix"}
    assert max(shared.values()) <= 227 * 1024  # of an H100's processor


@pytest.mark.skipif(not kernels.available(), reason="Triton is not for this machine")
@pytest.mark.parametrize(
    ("change", "mixing", "gated"),
    [
        ({"positions": "groups", "heads": 4, "hidden_size": 128}, True, True),
        ({}, True, True),
        ({"positions": "rope"}, True, True),
        ({"seq_len": 144, "canvas_width": 12}, False, True),  # too many positions
        ({"heads": 4}, False, True),  # too narrow
        ({"gated_norm": False}, True, True),
        ({"hidden_size": 32, "heads": 1}, True, False),  # too narrow
        ({"hidden_size": 32}, False, False),
        ({"mixer": "mlp_t", "positions": "none", "gated_norm": False}, True, True),
        ({"mixer": "mlp_t", "positions": "none", "seq_len": 144, "canvas_width": 12}, False, True),
    ],
    ids=str,
)
def test_where_the_kernels_fit(change: dict[str, object], mixing: bool, gated: bool) -> None:
    shape = replace(SMALL, hidden_size=64, heads=2)
    model = TRM(replace(shape, **change))  # type: ignore[arg-type]
    assert kernels.fuse(model) is (mixing or gated)
    for block in model.net.blocks:
        assert block.mix.fused is mixing
        assert block.mlp.fused is gated


@pytest.mark.skipif(not kernels.available(), reason="Triton is not for this machine")
def test_left_alone_they_are_used_on_the_gpus_they_were_measured_on(monkeypatch: pytest.MonkeyPatch) -> None:
    class Elsewhere(TRM):
        @property
        def device(self) -> torch.device:
            return torch.device("cuda")

    monkeypatch.setattr(shutil, "which", lambda name: name)  # a C compiler is there
    shape = replace(SMALL, hidden_size=64, heads=2)
    on_a_cpu = TRM(shape)
    kernels.use("auto", on_a_cpu)
    assert not kernels.fused(on_a_cpu)
    half, full = torch.bfloat16, torch.float32
    for capability, dtype, choice, fused in (
        ((9, 0), half, "auto", True),
        ((9, 0), half, "plain", False),
        ((9, 0), full, "auto", False),
        ((8, 6), half, "auto", False),
    ):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        model = Elsewhere(shape)
        model.dtype = dtype
        kernels.use(choice, model)
        assert kernels.fused(model) is fused
    # Inference takes them too, where there is what Triton starts them with.
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    model = Elsewhere(shape)
    model.dtype = half
    monkeypatch.delenv("CC", raising=False)
    with monkeypatch.context() as bare:
        bare.setattr(shutil, "which", lambda name: None)
        assert not kernels.fused(with_kernels(model))
    assert kernels.fused(with_kernels(model))


def test_without_a_gpu_they_are_refused(tmp_path: Path) -> None:
    tiny = ROOT / "configs" / "tiny.toml"
    config = load_config(tiny, ["train.kernels=fused"])
    with pytest.raises(ConfigError, match="expected a CUDA device"):
        Trainer(config, tmp_path, [], [], "cpu")
