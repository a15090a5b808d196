"""The wheel holds all that the commands need: built, installed elsewhere, used from an empty folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import doubles
import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("pyproject.toml", "README.md", "LICENSE", "trm", "hybrid", "configs", "prompts", "ckpt")


def run(*command: str, **options: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, **options)  # type: ignore[call-overload]
    assert isinstance(done, subprocess.CompletedProcess)
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: setuptools would leave its folders in the checkout, and read old ones there."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, source / part)
    done = run("-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", str(out), str(source))
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which the wheel's packages come first; dependencies are at hand already."""
    target = tmp_path_factory.mktemp("site")
    done = run("-m", "pip", "install", "--no-deps", "--target", str(target), str(wheel))
    assert done.returncode == 0, done.stderr
    return {**os.environ, "PYTHONPATH": str(target), "SITE": str(target)}


def test_it_holds_every_module_and_file(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    for package in ("trm", "hybrid"):
        expected = {path.relative_to(ROOT).as_posix() for path in (ROOT / package).rglob("*.py")}
        assert expected <= held
    for folder, package, pattern in (
        ("configs", "trm/configs", "*.toml"),
        ("prompts", "hybrid/prompts", "*.md"),
        ("ckpt", "trm/ckpt", "trm.pt"),  # what else lies there is for going on with
        ("hybrid/serve/page", "hybrid/serve/page", "*"),
        ("hybrid/serve", "hybrid/serve", "samples.json"),
        ("ckpt/qwen", "trm/ckpt/qwen", "*"),
        ("ckpt/smollm2", "trm/ckpt/smollm2", "*"),
    ):
        expected = {f"{package}/{path.name}" for path in (ROOT / folder).glob(pattern)}
        assert expected
        assert expected <= held
    assert any(name.endswith("licenses/LICENSE") for name in held)


def test_resources_are_found_without_a_checkout(installed: dict[str, str], tmp_path: Path) -> None:
    code = (
        "import hybrid, json; from hybrid.resources import text; "
        "texts = text('hybrid.prompts', 'draft.md'), text('trm.configs', 'llms.toml'); "
        "print(json.dumps([hybrid.__file__, *texts]))"
    )
    done = run("-c", code, cwd=tmp_path, env=installed)
    assert done.returncode == 0, done.stderr
    file, prompt, llms = json.loads(done.stdout)
    assert file.startswith(installed["SITE"])
    assert prompt == (ROOT / "prompts" / "draft.md").read_text()
    assert "qwen" in tomllib.loads(llms)


def test_check_and_solve_from_an_empty_folder(installed: dict[str, str], tmp_path: Path) -> None:
    """The checkpoint comes along: nothing but the wheel is needed for a verified answer."""
    done = run("-m", "hybrid.cli", "check", doubles.SUDOKU, doubles.SOLUTION, cwd=tmp_path, env=installed)
    assert (done.returncode, done.stdout) == (0, "verified\n")
    done = run(
        "-m", "hybrid.cli", "solve", "--llm", "none", "--json", doubles.SUDOKU, cwd=tmp_path, env=installed
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert (record["status"], record["source"], record["answer"]) == ("verified", "refiner", doubles.SOLUTION)
    assert "sha256:" in record["refiner"]
