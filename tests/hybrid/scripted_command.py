"""The `hybrid` command over scripted models, for tests; the fixture `parts` of conftest.py puts them in place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from hybrid.cli import app

ROOT = Path(__file__).parents[2]


class Parts:
    """What `connect` and `from_pretrained` give, for the test to set."""

    llm: Any = None
    refiner: Any = None

    def __init__(self) -> None:
        self.loaded: list[str] = []


def run(*args: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, list(args), input=stdin)


def records(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def hybrid_process(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "hybrid", *args]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, **options)
