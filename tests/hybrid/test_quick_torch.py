"""PyTorch without a part of it: the part comes as soon as something needs it."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
from hybrid.quick_torch import import_torch
import_torch()
import torch
assert "torch._meta_registrations" not in sys.modules and torch.ones(2).sum() == 2
weight = torch.nn.Parameter(torch.ones(2))
optimizer = torch.optim.AdamW([weight])
weight.sum().backward()
optimizer.step()
assert weight[0] < 1
@torch.compile(backend="aot_eager")
def triangle(x):
    return torch.linalg.qr(x)[1]
assert triangle(torch.eye(3)).isfinite().all()
assert "torch._meta_registrations" in sys.modules
"""


def test_what_is_left_out_is_there_when_an_optimizer_or_a_compiler_needs_it() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
