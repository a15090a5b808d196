"""Data folders as the reference implementation's dataset builders write them: NumPy arrays of tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trm.data.items import Item, Items, parse_json
from trm.grid import PuzzleError, first_line
from trm.tasks import Puzzle, Task, get, names

META = "dataset.json"
AUGMENTED = "|||"  # in the name of a puzzle under another view
FIRST_COLOUR = 2  # token of ARC's colour 0: before it come no cell and the end of a grid

Array = NDArray[np.integer[Any]]


def is_reference_folder(folder: Path) -> bool:
    """Whether a folder is one part of such data, such as `test`, or holds the parts."""
    return bool(_parts(folder)) or _is_part(folder)


def _is_part(folder: Path) -> bool:
    return (folder / META).is_file() and any(folder.glob("*__inputs.npy"))


def _parts(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in folder.glob(f"*/{META}") if _is_part(path.parent))


def read_reference_folder(folder: Path, task_name: str | None = None) -> Items:
    """The puzzles of one part, with their answers. Raises PuzzleError for other data, or where no part is named."""
    if not _is_part(folder):
        raise PuzzleError(
            f"{folder}: data in the parts {', '.join(_parts(folder))}: name one of these folders"
        )
    inputs, labels = _array(folder, "inputs"), _array(folder, "labels")
    task = _task_of(folder, inputs, task_name)
    if inputs.shape != labels.shape:
        raise PuzzleError(f"{folder}: inputs {inputs.shape} and labels {labels.shape}, expected one shape")
    if task.has_demonstrations:
        return _with_demonstrations(folder, inputs, labels, task)
    return _grids(folder, inputs, labels, task)


def _array(folder: Path, kind: str) -> Array:
    """An array of all sets, whose first one is read where it lies."""
    try:
        files = sorted(folder.glob(f"*__{kind}.npy"))
        arrays: list[Array] = [np.load(file, mmap_mode="r", allow_pickle=False) for file in files]
    except (OSError, ValueError, EOFError) as error:
        raise PuzzleError(f"{folder}: {kind}: {first_line(error)}") from None
    if len(arrays) != 1 or arrays[0].dtype.kind not in "iu":
        raise PuzzleError(f"{folder}: {len(arrays)} arrays *__{kind}.npy, expected one, of whole numbers")
    return arrays[0]


def _task_of(folder: Path, inputs: Array, name: str | None) -> Task:
    """The task whose canvas and vocabulary the data have."""
    meta = parse_json((folder / META).read_text(encoding="utf-8", errors="replace"), str(folder / META))
    vocabulary = meta.get("vocab_size") if isinstance(meta, dict) else None
    length = inputs.shape[1] if inputs.ndim == 2 else 0
    for task in map(get, [name] if name else names()):
        if (task.seq_len, task.vocab_size) == (length, vocabulary):
            return task
    expected = f"expected those of {name or ', '.join(names())}"
    raise PuzzleError(f"{folder}: {length} cells and {vocabulary} tokens, {expected}")


def _grids(folder: Path, inputs: Array, labels: Array, task: Task) -> Items:
    symbols = np.array([0] * (1 + task.reserved) + list(task.symbols), dtype=np.uint8)
    least, most = task.reserved + 1, len(symbols) - 1
    known = [np.array(((cells >= least) & (cells <= most)).all(1)) for cells in (inputs, labels)]
    shape = len(inputs), task.height, task.width
    questions, answers = (symbols[np.clip(cells, 0, most)].reshape(shape) for cells in (inputs, labels))
    for number, (question, answer, *sound) in enumerate(zip(questions, answers, *known, strict=True), 1):
        where = f"{folder}, puzzle {number}"
        if not all(sound):
            yield PuzzleError(f"{where}: expected tokens from {least} to {most} in every cell")
            continue
        yield Item(where, f"{folder.name}:{number}", Puzzle(task.name, (question,), answers=(answer,)))


def _with_demonstrations(folder: Path, inputs: Array, labels: Array, task: Task) -> Items:
    """Puzzles by their name; what the part `train` has of a puzzle demonstrates it. Other views are left out."""
    own = _pairs_by_name(folder, inputs, labels)
    beside = folder.parent / "train"
    shown: dict[str, list[dict[str, Any]]] = {}
    if folder.name != beside.name and _is_part(beside):
        shown = dict(_pairs_by_name(beside, _array(beside, "inputs"), _array(beside, "labels")))
    for name, pairs in own:
        question = {"train": shown.get(name, []), "test": pairs} if shown else pairs
        yield Item(f"{folder}, puzzle {name}", name, question, task=task.name)


def _pairs_by_name(
    folder: Path, inputs: Array, labels: Array
) -> Iterator[tuple[str, list[dict[str, list[list[int]]]]]]:
    file = folder.parent / "identifiers.json"
    if not file.is_file():
        raise PuzzleError(f"{file}: no such file, expected the puzzles' names")
    known = parse_json(file.read_text(encoding="utf-8"), str(file))
    numbers, starts = _array(folder, "puzzle_identifiers").tolist(), _array(folder, "puzzle_indices").tolist()
    if not isinstance(known, list) or max(numbers, default=0) >= len(known):
        raise PuzzleError(f"{file}: expected a list of {max(numbers, default=0) + 1} names at least")
    for number, start, end in zip(numbers, starts[:-1], starts[1:], strict=True):
        if AUGMENTED not in (name := str(known[number])):
            pairs = zip(inputs[start:end], labels[start:end], strict=True)
            yield name, [{"input": _colours(before), "output": _colours(after)} for before, after in pairs]


def _colours(tokens: Array) -> list[list[int]]:
    """The colours of a grid on a square canvas, wherever on it they are."""
    side = int(len(tokens) ** 0.5)
    canvas = tokens.reshape(side, side).astype(int) - FIRST_COLOUR
    rows, columns = np.flatnonzero((canvas >= 0).any(1)), np.flatnonzero((canvas >= 0).any(0))
    if not rows.size:
        return []
    colours: list[list[int]] = canvas[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].tolist()
    return colours
