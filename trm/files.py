"""Files and folders that are replaced whole or not at all, even if the process is killed meanwhile."""

from __future__ import annotations

import errno
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from trm.config import ConfigError


class _Scratch:
    """A folder beside `path` in which its successor is written; the writer holds `lock`, which dies with it."""

    def __init__(self, folder: Path, path: Path) -> None:
        self.folder, self.path = folder, path
        self.lock = FileLock(folder / "lock", timeout=0)
        self.successor = folder / "new" / path.name
        self.previous = folder / "previous"

    def is_own(self) -> bool:
        """Whether a writer has made the folder: it holds a successor, or nothing yet."""
        try:
            return self.successor.parent.is_dir() or {entry.name for entry in self.folder.iterdir()} <= {
                "lock"
            }
        except OSError:
            return False

    def swap(self) -> None:
        """Give the successor the name `path`. A folder cannot be renamed over another: that takes two renames."""
        if self.path.is_dir():
            if not self.successor.is_dir():
                reason = "is a folder, expected the name of a file"
                raise IsADirectoryError(errno.EISDIR, reason, str(self.path))
            self.path.rename(self.previous)
        os.replace(self.successor, self.path)

    def clear(self) -> None:
        """Remove the scratch folder, after putting back what an interrupted `swap` left without its name."""
        if self.previous.is_dir() and not self.path.exists():
            whole = self.successor if self.successor.is_dir() else self.previous
            whole.rename(self.path)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary place beside `path` that takes its name when the block ends without an error.

    A folder may only be replaced by a folder: a file in its place raises IsADirectoryError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    recover(path)
    scratch = _begin(path)
    try:
        yield scratch.successor
        scratch.swap()
    finally:
        scratch.clear()
        scratch.lock.release()


def _begin(path: Path) -> _Scratch:
    while True:
        scratch = _Scratch(Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.")), path)
        try:
            scratch.lock.acquire()
            scratch.successor.parent.mkdir()
        except (Timeout, FileNotFoundError):  # another process took the empty folder for a killed writer's
            scratch.lock.release()
        else:
            return scratch


@contextmanager
def only_writer(folder: Path, command: str) -> Iterator[None]:
    """Keep other processes from writing to a folder, which is made. Raises ConfigError where one does.

    command: what writes to it, for the message. A folder that is made and left empty is removed again.
    """
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / ".lock"
    try:
        with FileLock(file, timeout=0):
            yield
    except Timeout:
        raise ConfigError(f"{folder}: another `{command}` is running in this folder") from None
    finally:
        if new and list(folder.glob("*")) == []:  # the run was refused before it began
            file.unlink(missing_ok=True)
            folder.rmdir()


def recover(path: Path) -> None:
    """Clear up what killed writers of `path` have left beside it; what others are still writing is left alone.

    A folder whose writer was killed between the two renames has no entry of its name. Its successor is complete by
    then and gets the name.
    """
    prefix = f".{path.name}."
    for folder in path.parent.glob(f"{glob.escape(prefix)}*"):
        scratch = _Scratch(folder, path)
        if "." in folder.name.removeprefix(prefix) or not scratch.is_own():
            continue
        try:
            with scratch.lock:
                scratch.clear()
        except (Timeout, OSError):  # still being written, or a place where nothing may be changed
            continue
