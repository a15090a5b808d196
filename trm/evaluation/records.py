"""Accuracy where a network is fitted to every task first: by view, vote and attempt, from a record of each task.

Records are lines of JSON, written as it goes: an evaluation that was interrupted goes on after them, and those of
several machines, one file after the other, make one evaluation.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, cast

import numpy as np

from trm.adaptation.calibration import Calibration, calibrate, calibration_of
from trm.evaluation.accuracy import Looked, figures, looked, roll_out
from trm.evaluation.statistics import auroc
from trm.grid import PuzzleError
from trm.inference.attempts import Refinement, agreement, tally
from trm.inference.engine import Engine
from trm.inference.verifier import unseen
from trm.tasks import Puzzle, Task

if TYPE_CHECKING:
    from trm.inference.refiner import Refiner

CUT_SHORT = '{"id": '  # how a record begins
JUDGED = 64  # candidates of a test input that are scored at most for each replica, those with the most votes


class Judged(TypedDict):
    """A grid that views named for a test input.

    votes: how many did, and of each replica's views how many. score: see `trm.inference.verifier`. sure: the confidence of the
    surest of them. right: whether it is.
    """

    votes: int
    votes_of: list[int]
    score: float
    sure: float
    right: bool


class Record(TypedDict):
    """How one task went. Lists have an entry for every test input."""

    id: str
    question: int  # its checksum
    how: dict[str, Any]  # the checkpoint's hash, steps, restarts, seed and fitting
    canvas: int
    fit_seconds: float
    fit_steps: int
    fit_right: float  # share of the demonstrations, under their views, that fitting has learned
    cold: list[Looked]  # one view
    pass_1: list[bool]  # whether the first attempt is right,
    pass_2: list[bool]  # one of two,
    oracle: list[bool]  # or any grid that was ever voted for
    candidates: list[list[Judged]]
    seconds: float


def evaluate_fitted(
    refiner: Refiner,
    puzzles: Sequence[Puzzle],
    steps: int,
    restarts: int,
    seed: int,
    progress: Callable[[int], None] | None = None,
    record: Callable[[Record], None] | None = None,
    known: Iterable[Record] = (),
) -> dict[str, Any]:
    """`Refiner.evaluate` where the network is fitted to every puzzle. record: told of each task, as it goes.

    known: records of before, whose tasks are not done again; those of other tasks do not count. Raises PuzzleError
    where one was made in another way.
    """
    steps = refiner.experts.steps(puzzles[0].task, steps)
    how = settings(refiner, steps, restarts, seed)
    before = {(one["id"], one["question"]): one for one in known}
    for one in before.values():
        if differ := [key for key, value in how.items() if one["how"].get(key) != value]:
            key = differ[0]
            raise PuzzleError(
                f"the record of {one['id']} has {key} {one['how'].get(key)}, expected {how[key]}: another file "
                "for another evaluation"
            )
    records = []
    new = refiner.experts.ahead([one for one in puzzles if (one.id, one.checksum) not in before])
    for count, puzzle in enumerate(puzzles, 1):
        if (done := before.get((puzzle.id, puzzle.checksum))) is None:
            next(new)
            done = one_task(refiner, puzzle, steps, restarts, seed, how)
            if record is not None:
                record(done)
        records.append(done)
        if progress is not None:
            progress(count)
    calibration = calibration_of(refiner.experts.expert(puzzles[0].task).meta)
    return {"task": puzzles[0].task, **summary(records, calibration), "restarts": restarts}


def settings(refiner: Refiner, steps: int, restarts: int, seed: int) -> dict[str, Any]:
    """What a record depends on beside its task, as JSON has it."""
    weights = refiner.name.rpartition("@")[2]
    fit = {f"fit.{key}": value for key, value in asdict(refiner.experts.how()).items()}
    return {"refiner": weights, "steps": steps, "restarts": restarts, "seed": seed, **fit}


def one_task(
    refiner: Refiner, puzzle: Puzzle, steps: int, restarts: int, seed: int, how: dict[str, Any]
) -> Record:
    """Fit, look once, look again from `restarts` sides, vote, and judge what was named."""
    task, (fit,) = refiner.experts.spec(puzzle), refiner.experts.fitted([puzzle])
    begun = time.perf_counter()
    cold = looked(task, puzzle, roll_out(fit.engines[0], task, [puzzle], steps), steps)
    out = refiner.refine(puzzle, steps=steps, restarts=restarts, seed=seed)
    right = attempts_right(puzzle, out)
    return Record(
        id=puzzle.id,
        question=puzzle.checksum,
        how=how,
        canvas=task.width,
        fit_seconds=round(fit.seconds, 1),
        fit_steps=fit.steps,
        fit_right=round(fit.right, 4),
        cold=cold,
        pass_1=right["pass_1"],
        pass_2=right["pass_2"],
        oracle=right["oracle"],
        candidates=judged(fit.engines, task, puzzle, out, steps, refiner.experts.how().recolour),
        seconds=round(fit.seconds + time.perf_counter() - begun, 1),
    )


def summary(records: Sequence[Record], calibration: Calibration | None = None) -> dict[str, Any]:
    """Figures of all records: those of one view as `trm.evaluation.accuracy.figures` has them, those of attempts, `ranking`.

    calibration: of the confidence that is printed.

    pass_1, pass_2, oracle: shares of test inputs. tasks: share of tasks with every input right in two attempts.
    accuracy: pass_1 where views voted. verified: 0, for no rule decides. fit_right: how much of the demonstrations
    fitting has learned, on average: where it is low more fitting is due, where it is high and tasks are wrong not.
    auroc_first: of right against wrong first attempts by what `refine` says of them (`trm.inference.attempts.belief`).
    brier: mean square of what parts that confidence from 1 where the first attempt is right, and from 0 where not;
    calibration: what would calibrate it, where some are right and some are not.
    pass_2_alone, tasks_alone: pass_2 and tasks by the views of one replica of several, on average over them.
    """
    result = figures([one for record in records for one in record["cold"]])
    found = {
        "pass_1": [right for record in records for right in record["pass_1"]],
        "pass_2": [right for record in records for right in record["pass_2"]],
        "oracle": [right for record in records for right in record["oracle"]],
        "tasks": [all(record["pass_2"]) for record in records],
    }
    result["fit_right"] = float(np.mean([record["fit_right"] for record in records]))
    result |= {"verified": 0.0, **{name: float(np.mean(right)) for name, right in found.items()}}
    result |= ranking([mine for record in records for mine in record["candidates"]])
    beliefs, right = believed(records)
    said, _ = believed(records, calibration)
    result["brier"] = float(np.mean((np.array(said) - right) ** 2))
    if len(set(right)) > 1:
        known, missed = (
            [b for b, is_right in zip(beliefs, right, strict=True) if is_right is which]
            for which in (True, False)
        )
        result["auroc_first"] = auroc(known, missed)
        least = min(record["fit_steps"] for record in records)
        result["calibration"] = asdict(calibrate(beliefs, right, least))
    if (replicas := records[0]["how"]["fit.replicas"]) > 1:
        each = np.mean([alone(records, one) for one in range(replicas)], axis=0)
        result |= zip(("pass_2_alone", "tasks_alone"), each.tolist(), strict=True)
    if records[0]["how"]["restarts"]:
        result["accuracy"] = result["pass_1"]
    return result | {"n_tasks": len(records), "seconds": sum(record["seconds"] for record in records)}


def believed(
    records: Sequence[Record], calibration: Calibration | None = None
) -> tuple[list[float], list[bool]]:
    """How much each test input's first attempt is believed (`trm.inference.attempts.belief`), and whether it is right."""
    beliefs, right = [], []
    for record in records:
        for mine in record["candidates"]:
            one = _first(mine)
            belief = one["sure"] * agreement(one["votes"], record["how"]["restarts"] + 1)
            known = (
                calibration if calibration is not None and calibration.holds(record["fit_steps"]) else None
            )
            beliefs.append(belief if known is None else known(belief))
            right.append(one["right"])
    return beliefs, right


def _first(mine: Sequence[Judged]) -> Judged:
    return max(mine, key=itemgetter("votes", "sure"))


def alone(records: Sequence[Record], replica: int) -> tuple[float, float]:
    """Shares of test inputs and of tasks that the two grids with the most votes of one replica's views get right."""

    def found(mine: Sequence[Judged]) -> bool:
        named = [one for one in mine if one["votes_of"][replica]]
        return right_in_two(named, lambda one: (one["votes_of"][replica], one["sure"]))

    right = [[found(mine) for mine in record["candidates"]] for record in records]
    inputs, tasks = [one for some in right for one in some], [all(some) for some in right]
    return float(np.mean(inputs)), float(np.mean(tasks))


def right_in_two(mine: Sequence[Judged], key: Callable[[Judged], Any]) -> bool:
    """Whether one of the two candidates that the key says are best is right."""
    return any(one["right"] for one in sorted(mine, key=key, reverse=True)[:2])


def read_records(path: Path) -> list[Record]:
    """The records of a file; none where there is no file. A line that was cut short by a kill does not count.

    Raises PuzzleError for any other line that is no record, and OSError.
    """
    if not path.exists():
        return []
    records = []
    for number, line in enumerate(path.read_text("utf-8", errors="replace").splitlines(), 1):
        try:
            one = json.loads(line)
        except ValueError:
            if CUT_SHORT.startswith(line[: len(CUT_SHORT)]):
                continue
            one = None
        if (
            not isinstance(one, dict)
            or set(one) != set(Record.__annotations__)
            or not _whole(one["candidates"])
        ):
            raise PuzzleError(f"{path}, line {number}: {line[:40]!r}, expected a record of trm eval")
        records.append(cast(Record, one))
    return records


def _whole(candidates: Sequence[Sequence[Judged]]) -> bool:
    """Whether all is there that is said of candidates; an earlier version said less."""
    return all(set(one) == set(Judged.__annotations__) for mine in candidates for one in mine)


@contextmanager
def recording(path: Path | None) -> Iterator[Callable[[Record], None]]:
    """Appends records to a file, each in a line of its own whatever a kill has left there. Raises OSError at once."""
    if path is None:
        yield lambda record: None
        return
    with path.open("a+", encoding="utf-8", errors="replace") as file:
        file.seek(0)
        if file.read()[-1:] not in ("", "\n"):
            file.write("\n")
        yield lambda record: print(json.dumps(record), file=file, flush=True)


def attempts_right(puzzle: Puzzle, out: Refinement) -> dict[str, list[bool]]:
    """Of every test input, whether the first attempt is right, one of two, or any that was ever voted for."""
    found: dict[str, list[bool]] = {"pass_1": [], "pass_2": [], "oracle": []}
    for index, (tries, answer) in enumerate(zip(out.candidates or [], puzzle.answers or (), strict=True)):
        right = [np.array_equal(grid, answer) for grid in tries]
        found["pass_1"].append(right[0])
        found["pass_2"].append(any(right))
        found["oracle"].append(any(np.array_equal(one.grids[index], answer) for one in out.attempts))
    return found


def judged(
    engines: Sequence[Engine], task: Task, puzzle: Puzzle, out: Refinement, steps: int, recolour: float
) -> list[list[Judged]]:
    """For every test input what views named, at most JUDGED grids a replica, those with the most votes first.

    recolour: the share of recoloured views among those that score them.
    """
    most = JUDGED * len(engines)
    named = [tally([one.grids[i] for one in out.attempts])[:most] for i in range(len(puzzle.inputs))]
    found = unseen(engines, task, puzzle, [[grid for grid, _ in mine] for mine in named], steps, recolour)
    judgements: list[list[Judged]] = []
    for index, (mine, scores, answer) in enumerate(zip(named, found, puzzle.answers or (), strict=True)):
        judgements.append([])
        for (grid, votes), log_p in zip(mine, scores, strict=True):
            said = [one for one in out.attempts if np.array_equal(one.grids[index], grid)]
            by = Counter(one.replica for one in said)
            judgements[-1].append(
                Judged(
                    votes=votes,
                    votes_of=[by[replica] for replica in range(len(engines))],
                    score=float(np.exp(log_p)),
                    sure=max(one.confidence for one in said),
                    right=np.array_equal(grid, answer),
                )
            )
    return judgements


def ranking(candidates: Sequence[Sequence[Judged]]) -> dict[str, float]:
    """What the score and the confidence are worth, from the candidates of every test input.

    auroc, auroc_sure: of right against wrong candidates, where there are both, by the one and by the other.
    pass_2_score, pass_2_sure: share of inputs with a right one among the two that it says are best.
    pass_2_votes_score: among the two with the most votes, the score deciding between equals.
    """

    def pass_2(key: Callable[[Judged], Any]) -> float:
        return float(np.mean([right_in_two(mine, key) for mine in candidates]))

    every = [one for mine in candidates for one in mine]
    right, wrong = ([one for one in every if one["right"] is which] for which in (True, False))
    score, sure = itemgetter("score"), itemgetter("sure")
    areas = {"auroc": score, "auroc_sure": sure} if right and wrong else {}
    return {
        **{name: auroc([*map(by, right)], [*map(by, wrong)]) for name, by in areas.items()},
        "pass_2_score": pass_2(itemgetter("score")),
        "pass_2_sure": pass_2(itemgetter("sure", "votes")),
        "pass_2_votes_score": pass_2(itemgetter("votes", "score")),
    }
