"""ARC's tasks as they are published and shared: of one file or of many, by id, in lists, with solutions beside."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trm.data.items import Item, Items
from trm.grid import PuzzleError, shorten

_CHALLENGES = re.compile(r"([-_])challenges(?=\.json)")
_SOLUTIONS = re.compile(r"(^|[-_])solutions\.json")
_OTHERS = re.compile(r"(^|[-_])(submission|metadata|identifiers)[^/]*\.json")
_TRAIN = ("train", "training", "examples", "demonstrations", "train_pairs", "train_examples")
_TEST = ("test", "testing", "tests", "test_pairs", "test_examples")
_IDS = ("id", "task_id", "puzzle_id")
# What data sets on hubs call the demonstrations and the tests.
_OTHER_NAMES = {"train": "fewshots", "test": "question"}
EXPECTED = "expected tasks with the lists 'train' and 'test'"


def task_files(folder: Path) -> list[Path]:
    """The files of a folder, and of the folders in it, that hold tasks, sorted. Raises PuzzleError if there are none.

    Solutions, submissions and metadata, which lie beside tasks in published folders, are left out.
    """
    files = sorted(file for file in folder.rglob("*.json") if not _beside_tasks(file.name))
    if not files:
        raise PuzzleError(f"{folder}: a folder without .json files, expected ARC tasks")
    return files


def _beside_tasks(name: str) -> bool:
    return bool(name.startswith(".") or _SOLUTIONS.search(name) or _OTHERS.search(name))


def solutions_of(path: Path) -> Path:
    """The file with the answers to a Kaggle challenges file; for any other file the file itself."""
    return path.with_name(_CHALLENGES.sub(r"\1solutions", path.name))


def is_task(data: object) -> bool:
    """Whether a JSON value is one task: lists of pairs under `train` or `test`, or a single list of pairs."""
    if isinstance(data, (dict, Mapping)):  # a dictionary is told faster
        parts = [data[key] for key in ("train", "test") if key in data]
        return bool(parts) and not any(map(_holds_whole_tasks, parts))
    return isinstance(data, list) and bool(data) and all(_is_pair(pair) for pair in data)


def _holds_whole_tasks(part: object) -> bool:
    """Whether what stands under `train` is a part of a data set, tasks by id or in a list, and no list of pairs."""
    return isinstance(part, (dict, Mapping)) or (isinstance(part, list) and any(map(is_task, part)))


def _is_pair(pair: object) -> bool:
    return isinstance(pair, (dict, Mapping)) and "input" in pair and "output" in pair


def renamed(data: Any) -> Any:
    """A task whose lists of pairs have other names, or whose only test is no list, in the form that tasks have."""
    if not isinstance(data, Mapping):
        return data
    names = {key.lower(): key for key in data if isinstance(key, str)}
    train, test = (next((names[name] for name in some if name in names), "") for some in (_TRAIN, _TEST))
    pairs, tests = data.get(train), data.get(test)
    if not (
        isinstance(pairs, list) and pairs and all(map(_is_pair, pairs)) and isinstance(tests, list | Mapping)
    ):
        return data
    if isinstance(tests, Mapping) and "input" not in tests:
        return data
    rest = {key: value for key, value in data.items() if key not in (train, test)}
    return {**rest, "train": pairs, "test": [tests] if isinstance(tests, Mapping) else tests}


def as_pairs(data: object) -> object:
    """`[[input, output], …]` as the list of pairs that it can only be; any other value as it is.

    Two grids of 9x9 may also be a Sudoku and its answer.
    """
    if isinstance(data, list) and data and all(isinstance(pair, list) and len(pair) == 2 for pair in data):
        grids = [grid for pair in data for grid in pair]
        if all(_is_grid(grid) for grid in grids) and any(
            len(grid) != 9 or len(grid[0]) != 9 for grid in grids
        ):
            return [{"input": question, "output": answer} for question, answer in data]
    return data


def _is_grid(grid: object) -> bool:
    return (
        isinstance(grid, list)
        and bool(grid)
        and all(
            isinstance(row, list) and row and all(type(c) is int and 0 <= c <= 9 for c in row) for row in grid
        )
    )


def holds_tasks(data: object) -> bool:
    """Whether a JSON value is a task or holds tasks in one of the published forms, which `read` reads.

    What it is not may still be a list of records, each of which `as_record` knows for a task or not.
    """
    return is_task(data) or (isinstance(data, Mapping) and bool(data))


def read(data: Any, where: str, stem: str, solutions: Any = None) -> Items:
    """The tasks of a JSON value for which `holds_tasks` is true.

    where: the file, for messages. stem: its name, the id of a task that has none. solutions: the outputs by id, from
    the file beside a Kaggle challenges file.
    """
    if is_task(data):
        return iter([Item(where, _own_id(data) or stem, data)])
    return read_tasks(data, where, solutions)


def _by_id(key: str, part: Any) -> list[tuple[str, Any]]:
    """The tasks of a part of a data set with their ids; in a list one that has none is named by its place."""
    if isinstance(part, Mapping):
        return list(part.items())
    return [(_own_id(task) or f"{key}:{number}", task) for number, task in enumerate(part, 1)]


def _own_id(task: object) -> str | None:
    """The id that a task itself names."""
    if not isinstance(task, Mapping):
        return None
    return next(
        (str(task[key]) for key in _IDS if isinstance(task.get(key), str | int) and task[key] != ""), None
    )


def as_record(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """A record of a list or of JSON lines: a task becomes the question of a record; any other stays as it is."""
    record = renamed(record)
    tests = record.get(_OTHER_NAMES["test"])
    if _OTHER_NAMES["train"] in record and isinstance(tests, list):
        return {"id": _own_id(record), "question": {key: record[name] for key, name in _OTHER_NAMES.items()}}
    if "question" not in record and is_task(record):
        return {"id": _own_id(record), "question": record}
    return record


def split(record: object) -> list[Any]:
    """The records that a line of JSON lines holds: of several tasks by id one for each, else the line's own."""
    record = renamed(record)
    if (
        not isinstance(record, Mapping)
        or is_task(record)
        or not record
        or not all(map(is_task, record.values()))
    ):
        return [record]
    return [{"id": name, "question": task} for name, task in record.items()]


def read_tasks(tasks: Mapping[str, Any], where: str, solutions: Any = None) -> Items:
    """ARC tasks by id, or by part and id, with the outputs that belong to them where they are known."""
    if all(_holds_whole_tasks(part) and part and not is_task(part) for part in tasks.values()):
        tasks = {name: task for key, part in tasks.items() for name, task in _by_id(key, part)}
    if not any(map(is_task, tasks.values())):
        submitted = (
            all(isinstance(outputs, list) for outputs in tasks.values()) and "attempt_1" in str(tasks)[:200]
        )
        found = "a submission, which `hybrid grade` scores" if submitted else f"{shorten(', '.join(tasks))}"
        yield PuzzleError(f"{where}: no ARC task: {found}; {EXPECTED}")
        return
    for name, task in ((name, renamed(task)) for name, task in tasks.items()):
        place = f"{where}, task {name}"
        if not is_task(task):
            yield PuzzleError(f"{place}: no ARC task, {EXPECTED}")
            continue
        try:
            if (outputs := (solutions or {}).get(name)) is not None:
                pairs = [{**pair, "output": out} for pair, out in zip(task["test"], outputs, strict=True)]
                task = {**task, "test": pairs}
        except (AttributeError, KeyError, TypeError, ValueError):
            yield PuzzleError(f"{place}: its solutions do not fit, expected one output for each test input")
            continue
        yield Item(place, name, task)
