"""ARC's answers in Kaggle's form, `{task: [{"attempt_1": rows, "attempt_2": rows}, …]}`: written, read and scored."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from trm import jsonl
from trm.data.files import load, strict
from trm.data.items import parse_json
from trm.files import replacing
from trm.grid import PuzzleError
from trm.tasks import Puzzle, get

if TYPE_CHECKING:
    from hybrid.answer import Answer  # which loads PyTorch, of no use for scoring

Rows: TypeAlias = list[list[int]]
Submission: TypeAlias = dict[str, list[dict[str, Rows]]]  # for every test input of a task its attempts
ATTEMPTS = ("attempt_1", "attempt_2")
NO_ANSWER: Rows = [[0]]  # the form has no word for it


class SubmissionFile:
    """A submission that grows answer by answer; the file is whole after each."""

    def __init__(
        self, path: Path, puzzles: Iterable[Puzzle], resume: bool, records: Path | None = None
    ) -> None:
        """puzzles: what is to be answered. resume: go on with what an existing file holds, and with the answers of
        `records`, the JSON lines of `hybrid solve`, if there are any.

        Raises PuzzleError for a file that is not to be resumed, and for puzzles of which there are no submissions.
        """
        for puzzle in puzzles:
            if not get(puzzle.task).has_demonstrations:
                raise PuzzleError(f"--submission: {puzzle.id} is a {puzzle.task}, expected ARC's tasks alone")
        if path.exists() and not resume:
            raise PuzzleError(f"{path} exists: --resume continues it, another name leaves it as it is")
        if not path.parent.is_dir():
            raise PuzzleError(f"--submission {path}: expected a file in a folder that exists")
        self.path = path
        self.content: Submission = {}
        for file in (records, path) if resume else ():
            if file is not None and file.exists():
                self.content |= _from_records(file) if file is records else read_submission(file)

    def add(self, answer: Answer) -> None:
        """Raises OSError."""
        self.content[answer.puzzle.id] = attempts(answer)
        with replacing(self.path) as temporary:
            temporary.write_text(json.dumps(self.content), encoding="utf-8")


def read_lines(path: Path) -> list[Any]:
    """The values of a file of JSON lines, None for a line that is no JSON. Raises PuzzleError."""
    try:
        return [line.value for line in jsonl.read(path)]
    except OSError as error:
        raise PuzzleError(f"{path}: {error.strerror or error}") from None


def _from_records(path: Path) -> Submission:
    """The answers of the JSON lines of `hybrid solve`; other lines are left out."""
    answers = {
        str(r["id"]): r["answer"]
        for r in read_lines(path)
        if isinstance(r, dict) and {"id", "answer"} <= r.keys()
    }
    return {
        name: [_attempts(own) for own in answer]
        for name, answer in answers.items()
        if isinstance(answer, list) and all(own and _are_grids(own) for own in answer)
    }


def attempts(answer: Answer) -> list[dict[str, Rows]]:
    """Two attempts for every test input: the second repeats the first where there is one candidate alone."""
    choices = answer.candidates or [(grid,) for grid in answer.grids or ()]
    rows = [[grid.tolist() for grid in choice] for choice in choices]
    rows = rows or [[NO_ANSWER] for _ in answer.puzzle.inputs]
    return [_attempts(own) for own in rows]


def _attempts(candidates: Sequence[Rows]) -> dict[str, Rows]:
    return {name: candidates[min(n, len(candidates) - 1)] for n, name in enumerate(ATTEMPTS)}


def read_submission(path: Path) -> Submission:
    """The attempts of a submission by task, also of the JSON lines of `hybrid solve`.

    Raises PuzzleError for a file of another form.
    """
    if path.suffix == ".jsonl" and path.is_file() and (answers := _from_records(path)):
        return answers
    data = _read_json(path)
    if not isinstance(data, dict):
        raise PuzzleError(f"{path}: expected an object with a list for each task, as Kaggle's submissions")
    for name, outputs in data.items():
        if not isinstance(outputs, list) or not all(
            isinstance(own, dict) and own.keys() & set(ATTEMPTS) for own in outputs
        ):
            raise PuzzleError(f"{path}, task {name}: expected a list of objects with attempt_1 and attempt_2")
    return data


def read_solutions(path: Path) -> dict[str, list[Rows]]:
    """The outputs of the tests by task: of Kaggle's solutions file, or of tasks that have their outputs.

    Raises PuzzleError.
    """
    data = _read_json(path) if path.is_file() and path.suffix == ".json" else None
    if isinstance(data, dict) and data and all(_are_grids(outputs) for outputs in data.values()):
        return data
    puzzles = [puzzle for puzzle in strict(load(path, "arc")) if puzzle.answers is not None]
    if not puzzles:
        raise PuzzleError(
            f"{path}: no known output, expected solutions or tasks with the outputs of their tests"
        )
    return {puzzle.id: [grid.tolist() for grid in puzzle.answers or ()] for puzzle in puzzles}


def _are_grids(outputs: object) -> bool:
    """Whether this is a list of lists of lists, and no list of pairs."""
    return isinstance(outputs, list) and all(
        isinstance(grid, list) and all(isinstance(row, list) for row in grid) for grid in outputs
    )


def _read_json(path: Path) -> object:
    try:
        return parse_json(path.read_text(encoding="utf-8-sig"), str(path))
    except UnicodeDecodeError:
        raise PuzzleError(f"{path}: no text, expected JSON") from None
    except OSError as error:
        raise PuzzleError(f"{path}: {error.strerror}") from None


@dataclass(frozen=True)
class Grade:
    """How a submission does. score: the mean over all tasks of the share of a task's test outputs that one of the two
    attempts gets right; a task that is missing has 0.

    outputs, right: test outputs, and those that are right. solved, missing: tasks, by name. unknown: tasks of the
    submission that have no solution.
    """

    score: float
    tasks: int
    outputs: int
    right: int
    solved: list[str]
    missing: list[str]
    unknown: list[str]


def grade(submission: Submission, solutions: Mapping[str, Sequence[Rows]]) -> Grade:
    """Score a submission as the ARC Prize does."""
    shares, solved, right = [], [], 0
    for name, outputs in solutions.items():
        given = submission.get(name, [])
        hits = sum(
            any(own.get(attempt) == output for attempt in ATTEMPTS)
            for own, output in zip(given, outputs, strict=False)
        )
        right += hits
        shares.append(hits / len(outputs) if outputs else 0.0)
        if outputs and hits == len(outputs):
            solved.append(name)
    return Grade(
        score=sum(shares) / len(shares) if shares else 0.0,
        tasks=len(solutions),
        outputs=sum(map(len, solutions.values())),
        right=right,
        solved=solved,
        missing=[name for name in solutions if name not in submission],
        unknown=[name for name in submission if name not in solutions],
    )
