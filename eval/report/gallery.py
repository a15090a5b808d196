"""Puzzles of a comparison as drawings: a draft beside what arms made of it, and the ranked candidates of ARC."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.arms import needs_llm
from eval.metrics import Record
from eval.report.tables import in_order, set_words
from hybrid.render import count
from trm.grid import Grid, PuzzleError
from trm.tasks import Cell, Puzzle, Task, Violation, get
from trm.tasks.base import Candidates

EXAMPLES = 4  # puzzles of each task
ANSWERS = 4  # that differ, from one draft
NAMED = 4  # arms that give the same answer
SOURCES = {"llm": "the draft as it is", "refiner": "from a cold start", "refiner+draft": "from the draft"}


@dataclass(frozen=True)
class Drawing:
    """A grid with its title and what is said below it.

    cells: rows of cells, each with its marks, `wrong` or `changed`. verdict: whether it is right, if known.
    """

    title: str
    cells: Sequence[Sequence[tuple[Cell, str]]] = ()
    notes: tuple[str, ...] = ()
    verdict: bool | None = None

    @property
    def alt(self) -> str:
        """For those who do not see the drawing."""
        size = f"{len(self.cells)} rows, {len(self.cells[0])} columns" if self.cells else "no grid"
        return "; ".join([f"{self.title}: {size}", *self.notes])


@dataclass(frozen=True)
class Lane:
    """Drawings that belong side by side."""

    title: str
    drawings: Sequence[Drawing]


@dataclass(frozen=True)
class Example:
    """A puzzle with its demonstrations (input, output), and lanes for each of its inputs."""

    name: str
    solved_by: str
    demos: Sequence[tuple[Drawing, Drawing]]
    lanes: Sequence[Lane]


def gallery(arms: dict[str, list[Record]], sets: Sequence[Record]) -> list[Example]:
    """A few puzzles of one task: of each set of arms that solve the same ones in turn, first of those that differ."""
    by_id: dict[str, dict[str, Record]] = {}
    for arm in in_order(arms):
        for record in arms[arm]:
            by_id.setdefault(record["id"], {})[arm] = record
    telling = sorted(sets, key=lambda found: len(found["arms"]) in (0, len(arms)))
    turns = zip_longest(*(found["puzzles"] for found in telling))
    chosen = [name for name in chain.from_iterable(turns) if name is not None][:EXAMPLES]
    return [_example(by_id[name]) for name in chosen]


def _example(records: dict[str, Record]) -> Example:
    first = next(iter(records.values()))
    task: Task = get(first["task"])
    puzzle = task.read(first["question"])
    labels = _read(task, puzzle, first.get("label"))
    lanes: list[Lane] = []
    for index, question in enumerate(puzzle.inputs):
        sheet = Sheet(task, puzzle, index, labels[index][0] if labels else None)
        shown = [sheet.draw("Question" if len(puzzle.inputs) == 1 else f"Question {index + 1}", question)]
        if not task.has_checker and sheet.label is not None:
            shown.append(sheet.draw("Right answer", sheet.label))
        lanes += [Lane("Puzzle", shown), *(lane for lane in sheet.lanes(records) if lane.drawings)]
    demos = [
        (Drawing("Input", _unmarked(task, before)), Drawing("Output", _unmarked(task, after)))
        for before, after in puzzle.demos
    ]
    solved = [arm for arm, record in records.items() if record["solved"]]
    return Example(first["id"], set_words(solved, list(records)), demos, lanes)


def _read(task: Task, puzzle: Puzzle, answer: Any) -> Candidates | None:
    """The grids for each input of an answer as records hold it; None where there is none, or of another shape."""
    try:
        text = answer if isinstance(answer, str) else json.dumps(answer)
        return None if answer is None else task.parse_candidates(puzzle, text)
    except PuzzleError:
        return None


def _unmarked(task: Task, grid: Grid) -> list[list[tuple[Cell, str]]]:
    return [[(cell, "") for cell in row] for row in task.cells(grid)]


@dataclass(frozen=True)
class Sheet:
    """What is drawn of the answers to one input of a puzzle."""

    task: Task
    puzzle: Puzzle
    index: int
    label: Grid | None

    def draw(
        self,
        title: str,
        grid: Grid | None,
        before: Grid | None = None,
        notes: Sequence[str] = (),
        verdict: bool | None = None,
    ) -> Drawing:
        """A grid, with the cells that are wrong and those that differ from `before`, both marked and counted."""
        if grid is None:
            return Drawing(title, (), ("no grid that could be read", *notes), verdict)
        question = self.puzzle.inputs[self.index]
        wrong, violations = self._faults(grid)
        changed = np.zeros(grid.shape, dtype=bool)
        if before is not None and before.shape == grid.shape:
            changed = grid != before
        counts = [(wrong, "wrong"), (changed, "changed")]
        found = [f"{count(int(marks.sum()), 'cell')} {words}" for marks, words in counts if marks.any()]
        found += [violation.words for violation in violations[:1] if not wrong.any()]
        marks = np.where(wrong, "wrong", np.where(changed, "changed", ""))
        cells = [
            list(zip(*pair, strict=True))
            for pair in zip(self.task.cells(grid, question), marks.tolist(), strict=True)
        ]
        return Drawing(title, cells, (*found, *notes), verdict)

    def _faults(self, grid: Grid) -> tuple[NDArray[np.bool_], list[Violation]]:
        """The cells that differ from the label or, where other answers are right too, break a rule; and the rules."""
        question, label = self.puzzle.inputs[self.index], self.label
        wrong, violations = np.zeros(grid.shape, dtype=bool), list[Violation]()
        if grid is question:
            return wrong, violations
        if self.task.has_checker:
            violations = self.task.violations(question, grid)
        if label is not None and label.shape == grid.shape and self.task.labels_equivariant:
            wrong = grid != label if violations or not self.task.has_checker else wrong
        else:
            for violation in violations:
                for cell in violation.cells:
                    wrong[cell] = grid[cell] != question[cell]  # a given is in the way, but not wrong
        return wrong, violations

    def lanes(self, records: dict[str, Record]) -> Iterator[Lane]:
        """What came of the first arm's draft, what came without a draft, and the ranked candidates."""
        drafted = {arm: record for arm, record in records.items() if record["drafts"] and arm != "exact"}
        if drafted:
            first, record = next(iter(drafted.items()))
            same = {a: r for a, r in drafted.items() if r["draft_answer"] == record["draft_answer"]}
            draft = _read(self.task, self.puzzle, record["draft_answer"])
            drawing = self.draw("Draft", draft[self.index][0] if draft else None)
            whose = "the language model's draft" if needs_llm(first) else f"the draft of {first}"
            yield Lane(f"From {whose}", self._with_answers(same, drawing, draft))
        undrafted = {arm: record for arm, record in records.items() if arm not in drafted}
        yield Lane("Without a draft", self._with_answers(undrafted))
        for arm, record in records.items():
            if record.get("candidates"):
                ranked = record["candidates"][self.index]
                drawings = [self._candidate(number, found) for number, found in enumerate(ranked, 1)]
                yield Lane(f"Candidates of language model and network, as {arm} ranks them", drawings)
                return

    def _with_answers(
        self, records: dict[str, Record], drawing: Drawing | None = None, draft: Candidates | None = None
    ) -> list[Drawing]:
        """The draft's drawing, if there is one, and the distinct answers, each with the arms that give it."""
        before = draft[self.index][0] if draft else None
        drawings = [] if drawing is None else [drawing]
        groups: dict[str, list[Record]] = {}
        for record in records.values():
            groups.setdefault(json.dumps(record["answer"]), []).append(record)
        for group in list(groups.values())[:ANSWERS]:
            names, record = [record["arm"] for record in group], group[0]
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            arms = ", ".join(names[:NAMED]) + more
            answer = _read(self.task, self.puzzle, record["answer"])
            guesses = answer[self.index] if answer else (None,)
            for rank, grid in enumerate(guesses, 1):
                title = arms if len(guesses) == 1 else f"{arms}: guess {rank}"
                right = self._is_right(record, grid)
                if before is not None and grid is not None and np.array_equal(grid, before):
                    drawings[0] = replace(drawings[0], title=f"Draft, and answer of {title}", verdict=right)
                else:
                    drawings.append(self.draw(title, grid, before, _words(group) if rank == 1 else (), right))
        return drawings

    def _is_right(self, record: Record, grid: Grid | None) -> bool | None:
        if self.task.has_checker or grid is None:
            return bool(record["solved"])
        return None if self.label is None else np.array_equal(grid, self.label)

    def _candidate(self, number: int, found: Record) -> Drawing:
        grid = np.array(found["grid"], dtype=np.uint8)
        score = "–" if found["score"] is None else f"{found['score']:.1f}"
        notes = [
            f"probability {found['probability']:.2f}",
            f"network {found['cold']:.0%} cold, {found['drafted']:.0%} from drafts",
            f"language model {found['proposed']:.0%}, score {score}",
        ]
        right = None if self.label is None else np.array_equal(grid, self.label)
        return self.draw(f"Candidate {number}", grid, None, notes, right)


def _words(group: Sequence[Record]) -> list[str]:
    """How the arms with a network came to an answer that all of the group give."""
    sources: dict[str, list[str]] = {}
    for record in group:
        if (
            record["drafts"]
            and record.get("source") in SOURCES
            and not record["arm"].startswith(("llm", "exact"))
        ):
            sources.setdefault(SOURCES[record["source"]], []).append(record["arm"])
    notes = [f"{', '.join(arms)}: {words}" for words, arms in sources.items()]
    if len(group) == 1 and group[0]["confidence"] is not None:
        notes.append(f"confidence {group[0]['confidence']:.2f}")
    return notes
