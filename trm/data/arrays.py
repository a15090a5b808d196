"""Puzzles in binary files: NumPy arrays and Parquet tables."""

from __future__ import annotations

import io
import zipfile
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trm.data.items import Items
from trm.data.tables import ANSWERS, QUESTIONS, read_records
from trm.grid import PuzzleError, first_line, shape_words


def read_npy(data: bytes, where: str, stem: str) -> Items:
    """The grids of an array [N, H, W], [N, 81], [H, W] or [81], or of text [N]; of an `.npz` those of its arrays."""
    try:
        loaded = np.load(io.BytesIO(data), allow_pickle=False)
        arrays = dict(loaded) if isinstance(loaded, np.lib.npyio.NpzFile) else {"question": loaded}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise PuzzleError(f"{where}: {first_line(error)}, expected an array of numbers") from None
    names = {name.lower(): name for name in arrays}
    key = next((names[name] for name in QUESTIONS if name in names), None)
    if any(name.endswith(".xml") for name in names):
        raise PuzzleError(f"{where}: a spreadsheet or document, expected its table saved as CSV")
    if key is None and not any(isinstance(array, np.ndarray) for array in arrays.values()):
        raise PuzzleError(f"{where}: an archive of {', '.join(arrays)}, expected its files, unpacked")
    if key is None:
        raise PuzzleError(f"{where}: arrays {', '.join(arrays)}; expected one called question")
    questions = _grids(arrays[key], where)
    answer = next((names[name] for name in ANSWERS if name in names), None)
    answers = _grids(arrays[answer], where) if answer is not None else [None] * len(questions)
    if len(answers) != len(questions):
        raise PuzzleError(f"{where}: {len(questions)} questions and {len(answers)} answers, expected as many")
    pairs = enumerate(zip(questions, answers, strict=True), 1)
    return read_records(((n, {"question": q, "answer": a}) for n, (q, a) in pairs), where, stem, "item")


def _grids(array: NDArray[Any], where: str) -> list[Any]:
    """The grids of an array as lists or text."""
    if array.dtype.kind == "U":
        return list(map(str, array.reshape(-1).tolist()))
    if array.dtype.kind == "f" and (array == array.round()).all():
        array = array.astype(np.int64)
    if array.dtype.kind not in "iub" or not 1 <= array.ndim <= 3 or not array.size:
        raise PuzzleError(
            f"{where}: array of {shape_words(array)} {array.dtype}, expected whole numbers [N, H, W]"
        )
    if array.ndim == 3 or (array.ndim == 2 and array.shape[1] == 81):
        flat = array.reshape(len(array), -1)
        if flat.shape[1] == 81 and flat.min() >= 0 and flat.max() <= 9:
            return [row.tobytes().decode() for row in (flat + ord("0")).astype(np.uint8)]
        return [grid.tolist() for grid in array]
    side = isqrt(array.shape[-1])
    sudokus = side in (4, 6, 16) and array.min() >= 0 and array.max() == side
    if array.ndim == 2 and array.shape[1] == side * side and sudokus:
        return [row.reshape(side, side).tolist() for row in array]  # Sudokus of another size
    return [array.tolist()]


def read_parquet(path: Path, stem: str) -> Items:
    """The rows of a Parquet file."""
    import pyarrow  # 0.2 s, which other files do not need
    import pyarrow.parquet  # its part for files

    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except (OSError, pyarrow.ArrowException) as error:
        raise PuzzleError(f"{path}: {first_line(error)}") from None
    return read_records(enumerate(rows, 1), str(path), stem, "row")
