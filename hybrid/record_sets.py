"""Which puzzles a file of records, or a submission, solved; and how two such sets compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybrid.submission import grade, read_lines, read_solutions, read_submission
from trm.evaluation.statistics import McNemar, mcnemar
from trm.grid import PuzzleError
from trm.tasks import Status


def solved_by_id(source: str, solutions: Path | None = None) -> dict[str, bool]:
    """Whether each puzzle was solved, by its id.

    source: records of `trm eval --records`, of `hybrid solve --json`, or of the comparison, there FILE#ARM where it
    has several arms; or a submission (`.json`). A submission, and answers that no rule decides, need `solutions`.
    Raises PuzzleError.
    """
    name, _, arm = source.partition("#")
    path = Path(source) if Path(source).exists() else Path(name)
    if path.suffix == ".json":
        return _by_solutions(path, solutions)
    records = [r for r in read_lines(path) if r is not None]  # cut short by a kill
    if not records or not all(isinstance(r, dict) and "id" in r for r in records):
        raise PuzzleError(
            f"{path}: no records, expected those of trm eval, hybrid solve --json or eval/compare.py"
        )
    arms = sorted({str(r["arm"]) for r in records if "arm" in r})
    if len(arms) > 1 or arm:
        if arm not in arms:
            raise PuzzleError(
                f"{path}: records of {', '.join(arms) or 'no arm'}, expected one of them as {path}#ARM"
            )
        records = [r for r in records if r.get("arm") == arm]
    known = read_solutions(solutions) if solutions is not None else {}
    return {str(record["id"]): _is_solved(record, known, path, solutions) for record in records}


def _by_solutions(path: Path, solutions: Path | None) -> dict[str, bool]:
    if solutions is None:
        raise PuzzleError(f"{path}: a submission, expected --solutions FILE to judge it by")
    known, submission = read_solutions(solutions), read_submission(path)
    solved = set(grade(submission, known).solved)
    return {name: name in solved for name in known}


def _is_solved(
    record: Mapping[str, Any], known: Mapping[str, Any], path: Path, solutions: Path | None
) -> bool:
    if "pass_2" in record:
        return all(_list_of(record, "pass_2", path))
    if "solved" in record:
        return bool(record["solved"])
    if record.get("status") != Status.UNVERIFIED:
        return record.get("status") == Status.VERIFIED
    name = str(record["id"])
    if name not in known and solutions is not None:
        raise PuzzleError(f"{solutions}: no output of {name}, which is unverified in {path}")
    if name not in known:
        raise PuzzleError(f"{path}: {name} is unverified, expected --solutions FILE with its output")
    answer = _list_of(record, "answer", path)
    return len(answer) == len(known[name]) and all(
        isinstance(choice, list) and output in choice
        for choice, output in zip(answer, known[name], strict=True)
    )


def _list_of(record: Mapping[str, Any], key: str, path: Path) -> list[Any]:
    value = record.get(key)
    if not isinstance(value, list):
        raise PuzzleError(f"{path}: record {record['id']} has no list as {key!r}, expected one")
    return value


@dataclass(frozen=True)
class Comparison:
    """Two sets of solved puzzles, over the puzzles that both have. only: how many only one of the two records has."""

    both: list[str]
    first: list[str]  # solved by the first alone
    second: list[str]
    neither: list[str]
    only: tuple[int, int]
    test: McNemar


def compare(first: Mapping[str, bool], second: Mapping[str, bool]) -> Comparison:
    """Raises PuzzleError where the two have no puzzle in common."""
    shared = [name for name in first if name in second]
    if not shared:
        raise PuzzleError("the two have no puzzle in common, by its id")
    sets: dict[tuple[bool, bool], list[str]] = {(a, b): [] for a in (True, False) for b in (True, False)}
    for name in shared:
        sets[first[name], second[name]].append(name)
    return Comparison(
        both=sets[True, True],
        first=sets[True, False],
        second=sets[False, True],
        neither=sets[False, False],
        only=(len(first) - len(shared), len(second) - len(shared)),
        test=mcnemar([first[name] for name in shared], [second[name] for name in shared]),
    )
