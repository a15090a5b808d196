"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary place beside `path` that takes its name when the block ends well.

    A folder is replaced by a folder alone, never by a file: IsADirectoryError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    temporary = scratch / path.name
    try:
        yield temporary
        if path.is_dir():
            if not temporary.is_dir():
                raise IsADirectoryError(errno.EISDIR, "is a folder, expected the name of a file", str(path))
            path.rename(scratch / "old")  # a folder cannot be renamed over another
        os.replace(temporary, path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
