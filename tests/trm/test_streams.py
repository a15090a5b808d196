"""Standard streams that are closed or full end a command with one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHECK = [".", "."]  # no puzzle: refused at once


def run(redirected: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = " ".join([sys.executable, "-m", "hybrid", *arguments, redirected])
    return subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
@pytest.mark.parametrize("redirected", [">/dev/full", ">&-"])
def test_output_that_cannot_be_written_is_one_line(redirected: str) -> None:
    done = run(redirected, "--version")
    assert done.returncode == 2
    assert done.stderr.startswith("hybrid: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_errors_that_nobody_hears_do_not_reach_standard_output() -> None:
    done = run("2>&-", "check", "nonsense", "1")
    assert (done.returncode, done.stdout) == (2, "")


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    assert "Traceback" not in run("| true", "--help").stderr
