"""ARC's tasks as they are published: JSON of one task or of many by id, with their solutions beside, and folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trm.data.items import Item, Items
from trm.grid import PuzzleError


def task_files(folder: Path) -> list[Path]:
    """The files of a folder that hold tasks, sorted. Raises PuzzleError if there are none."""
    files = sorted(file for file in folder.glob("*.json") if not file.name.endswith("_solutions.json"))
    if not files:
        raise PuzzleError(f"{folder}: a folder without .json files, expected ARC tasks")
    return files


def solutions_of(path: Path) -> Path:
    """The file with the answers to a Kaggle challenges file; for any other file the file itself."""
    return path.with_name(path.name.replace("_challenges.json", "_solutions.json"))


def holds_tasks(data: object) -> bool:
    """Whether a JSON value is a task or holds tasks in one of the published forms, which `read` reads.

    What it is not may still be a list of records, each of which `as_record` knows for a task or not.
    """
    return isinstance(data, Mapping) and bool(data)


def read(data: Any, where: str, stem: str, solutions: Any = None) -> Items:
    """The tasks of a JSON value for which `holds_tasks` is true.

    where: the file, for messages. stem: its name, the id of a task that has none. solutions: the outputs by id, from
    the file beside a Kaggle challenges file.
    """
    if "train" in data or "test" in data:
        return iter([Item(where, stem, data)])
    return read_tasks(data, where, solutions)


def as_record(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """A record of a list or of JSON lines: a task becomes the question of a record; any other stays as it is."""
    if "question" not in record and "train" in record:
        return {"id": record.get("id"), "question": record}
    return record


def read_tasks(tasks: Mapping[str, Any], where: str, solutions: Any = None) -> Items:
    """ARC tasks by id, with the outputs that belong to them where they are known."""
    for name, task in tasks.items():
        place = f"{where}, task {name}"
        if not isinstance(task, dict):
            yield PuzzleError(f"{place}: no ARC task, expected an object with the lists 'train' and 'test'")
            continue
        try:
            if (outputs := (solutions or {}).get(name)) is not None:
                pairs = [{**pair, "output": out} for pair, out in zip(task["test"], outputs, strict=True)]
                task = {**task, "test": pairs}
        except (AttributeError, KeyError, TypeError, ValueError):
            yield PuzzleError(f"{place}: its solutions do not fit, expected one output for each test input")
            continue
        yield Item(place, name, task)
