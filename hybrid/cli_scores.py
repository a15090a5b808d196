"""Commands that judge answers which exist already: `hybrid check`, `hybrid grade`, `hybrid compare-records`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from hybrid import inputs
from hybrid.cli_common import Goal, Start, TaskName, fail, task_named
from hybrid.record_sets import compare, solved_by_id
from hybrid.submission import grade as score
from hybrid.submission import read_solutions, read_submission
from trm import tasks
from trm.data.files import load, strict
from trm.evaluation.statistics import wilson
from trm.grid import PuzzleError
from trm.text import message_line

app = typer.Typer()


@app.command(epilog="Example: hybrid check puzzle.txt answer.txt")
def check(
    puzzle: Annotated[str, typer.Argument(help="File, inline puzzle, or - for standard input")],
    answer: Annotated[str, typer.Argument(help="File, inline answer, or - for standard input")],
    task: TaskName = "auto",
    start: Start = None,
    goal: Goal = None,
) -> None:
    """Judge an answer by the exact rules; where none decides, by the known output if there is one.

    Exit 0 if it is right, or well formed where nothing is known; else 1.
    """
    try:
        loaded = strict(load(puzzle, task_named(task), inputs.ends_of(start, goal)))
        if len(loaded) != 1:
            fail(f"{puzzle}: {len(loaded)} puzzles, expected one")
        text = inputs.text_of(answer)
    except PuzzleError as error:
        fail(error)
    for line in inputs.messages(list(loaded)):
        print(f"hybrid: {message_line(line)}", file=sys.stderr)
    kind = tasks.get(loaded[0].task)
    try:
        choices = kind.parse_candidates(loaded[0], text)
    except PuzzleError as error:
        fail(f"answer: {error}")
    verdict, known = kind.check(loaded[0], tuple(choice[0] for choice in choices)), loaded[0].answers
    differs = known is not None and not all(
        any(np.array_equal(grid, answer) for grid in choice[:2])
        for choice, answer in zip(choices, known, strict=True)
    )
    differs = differs and not kind.has_checker  # rules know of other right answers
    print(tasks.Status.UNSOLVED if differs else verdict.status)
    for violation in verdict.violations:
        print(f"  {violation}")
    if known is not None and not kind.has_checker:
        print("  differs from the known output" if differs else "  equals the known output")
    raise typer.Exit(int(differs or verdict.status is tasks.Status.UNSOLVED))


Solutions = Annotated[
    Path, typer.Option(metavar="FILE", help="Kaggle's solutions, or tasks with outputs: a file or folder")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object")]


@app.command(epilog="Example: hybrid grade submission.json --solutions arc-agi_evaluation_solutions.json")
def grade(
    submission: Annotated[
        Path, typer.Argument(help="File in Kaggle's form, or the lines of hybrid solve --json")
    ],
    solutions: Solutions,
    as_json: Json = False,
) -> None:
    """Score a submission: the mean over tasks of the share of test outputs that one of two attempts gets right."""
    try:
        result = score(read_submission(submission), read_solutions(solutions))
    except PuzzleError as error:
        fail(error)
    if as_json:
        print(json.dumps(asdict(result)))
        return
    print(f"score                {result.score:.4f} over {result.tasks} tasks")
    print(f"test outputs right   {result.right} of {result.outputs}")
    print(f"tasks solved         {_listed(result.solved)}")
    print(f"tasks missing        {_listed(result.missing)}")
    if result.unknown:
        print(f"not in the solutions {_listed(result.unknown)}")


@app.command(
    name="compare-records",
    epilog="Examples: hybrid compare-records one.jsonl two.jsonl; "
    "hybrid compare-records runs/c/records.jsonl#hybrid runs/c/records.jsonl#trm",
)
def compare_records(
    first: Annotated[str, typer.Argument(metavar="A", help="Records, FILE#ARM, or a submission")],
    second: Annotated[str, typer.Argument(metavar="B", help="The same of another run")],
    solutions: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Known outputs, for submissions and unverified answers"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Which puzzles two runs solved, how these sets overlap, and the exact McNemar test.

    Records are those of trm eval --records, hybrid solve --json, or eval/compare.py.
    """
    try:
        result = compare(*(solved_by_id(source, solutions) for source in (first, second)))
    except PuzzleError as error:
        fail(error)
    if as_json:
        print(json.dumps(asdict(result)))
        return
    n = result.test["n"]
    for name, only in (("A", result.first), ("B", result.second)):
        hits = len(result.both) + len(only)
        low, high = wilson(hits, n)
        print(f"{name} solved   {hits} of {n} ({hits / n:.1%} [{low:.1%}, {high:.1%}])")
    print(f"both       {_listed(result.both)}")
    print(f"A alone    {_listed(result.first)}")
    print(f"B alone    {_listed(result.second)}")
    print(f"neither    {len(result.neither)}")
    print(f"McNemar    p = {result.test['p']:.4g} (exact, {len(result.first)} against {len(result.second)})")
    if any(result.only):
        print(f"left out   {result.only[0]} that A alone has, {result.only[1]} that B alone has")


def _listed(names: list[str]) -> str:
    """`2: a, b`."""
    return f"{len(names)}: {', '.join(names)}" if names else "0"
