"""Lines that say where long work is, where there is no terminal."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from trm.progress import bar, lines


def test_without_a_terminal_a_line_comes_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    done = 3
    with lines(lambda: f"{done} of 5", seconds=0.02):
        time.sleep(0.2)
        done = 4
        time.sleep(0.2)
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("3 of 5 after ")
    assert said[-1].startswith("4 of 5 after ")
    time.sleep(0.05)
    assert not capsys.readouterr().err


def test_short_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with bar("counting", 2) as tick:
        tick(1)
        tick(2)
    assert capsys.readouterr() == ("", "")


def test_threads_wait_without_spinning_unless_the_user_says_otherwise() -> None:
    def policy(**environment: str) -> str:
        code = "import os, trm; print(os.environ.get('OMP_WAIT_POLICY'))"
        run = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        return run.stdout.strip()

    assert policy() == "PASSIVE"
    assert policy(OMP_WAIT_POLICY="ACTIVE") == "ACTIVE"
    assert policy(GOMP_SPINCOUNT="100") == "None"
