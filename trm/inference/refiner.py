"""The refiner: a question and perhaps a draft in, a grid with a verdict and a confidence out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trm.grid import Grid, Grids, PuzzleError, as_grids
from trm.inference import verifier as scoring
from trm.inference.attempts import (
    STEPS,
    Effort,
    Job,
    Narrowed,
    Plan,
    Progress,
    Refinement,
    View,
    file_attempt,
    run_plans,
    settle,
)
from trm.inference.provider import Experts
from trm.inference.question import GivenDraft, Question, as_puzzle, whole_numbers
from trm.tasks import Puzzle, Task, get

if TYPE_CHECKING:
    from trm.checkpoints.format import Checkpoint
    from trm.evaluation.records import Record
    from trm.inference.engine import Engine, Trajectory

# σ of the noise on y in restarts. Sudoku, ARC: what PTRM found best. Mazes: turned, they need none (LOG.md).
NOISE = {"sudoku": 0.3, "maze": 0.0, "arc": 0.2}


class Refiner:
    """Experts for one or more tasks, ready to refine and to judge. Loads with `from_pretrained`."""

    def __init__(self, checkpoint: Checkpoint, device: str = "auto", slots: int = 0) -> None:
        self.checkpoint = checkpoint
        self.experts = Experts(checkpoint, device, slots)

    @property
    def device(self) -> str:
        return self.experts.device

    @classmethod
    def from_pretrained(cls, source: str | Path, device: str = "auto", slots: int = 0) -> Refiner:
        """A file, a folder or a hub id. Raises `trm.checkpoints.format.CheckpointError`."""
        from trm.checkpoints.format import load

        return cls(load(source), device, slots)

    @property
    def name(self) -> str:
        """Where the weights came from, with their hash."""
        return self.checkpoint.name

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks there is an expert for."""
        return tuple(sorted(self.checkpoint.experts))

    def accepts_drafts(self, task: str) -> bool:
        """Whether the task's expert was trained on drafts. Raises PuzzleError where there is none."""
        return self.experts.expert(task).config.draft

    def check(self) -> None:
        """Raises PuzzleError where an expert has another shape than its task, so that it cannot refine."""
        self.experts.check()

    def engine(self, task: str) -> Engine:
        """The engine of a task's expert. Raises PuzzleError where there is none."""
        return self.experts.engine(task)

    def fits(self, task: str) -> bool:
        """Whether the task's expert is fitted to the demonstrations of every puzzle before it answers."""
        return self.experts.fits(task)

    # -- refining --------------------------------------------------------------------------------------
    def refine(
        self,
        question: Question | list[Question] | list[Puzzle],
        draft: GivenDraft | Sequence[GivenDraft | None] | None = None,
        task: str | None = None,
        cold: bool = True,
        steps: int = STEPS,
        restarts: int = 0,
        noise: float | None = None,
        seed: int = 0,
        budget: float | None = None,
        answers: int = 1,
        trace: bool = False,
        progress: Progress | None = None,
    ) -> Any:  # a Refinement, or a list of them for a list of questions
        """Answer a question, from a cold start and from a draft of it where there is one.

        question: a string, an array of the task's symbols or a `Puzzle`; a list of them is a batch, `draft` then a
        list too (None where there is no draft). A draft may be partial (blanks) or wrong.
        task: the kind, where it cannot be told. cold: run a cold start beside the draft. steps: supervision steps
        of a rollout at most. restarts: extra rollouts, with noise σ `noise` and under a random symmetry, for what
        the rules reject; budget: seconds a puzzle after which none begins (and most of which fitting takes, where the
        network is fitted). seed: of the restarts. answers: look
        for so many distinct verified answers. progress: called with (done, total, grid or None) as rollouts end.

        What verifies wins, else the most confident. Results do not depend on what else is in the batch.
        Raises PuzzleError for a draft of the wrong shape (both named), or one that the expert was not trained on.
        """
        batch = isinstance(question, list)
        questions: list[Any] = question if isinstance(question, list) else [question]
        drafts: Any = draft if batch and draft is not None else [draft] * len(questions)
        if not isinstance(drafts, list | tuple) or len(drafts) != len(questions):
            raise PuzzleError(f"{len(questions)} questions: expected a list of as many drafts, or None")
        if steps < 1 or restarts < 0 or answers < 1 or seed < 0 or not (noise is None or noise >= 0):
            raise PuzzleError(
                f"steps {steps}, restarts {restarts}, answers {answers}, seed {seed}, noise {noise}: expected at "
                "least 1, 0, 1, 0, 0"
            )
        puzzles = [as_puzzle(q, task) for q in questions]
        how = vars(Effort(steps, restarts, noise, seed, budget, answers, trace, progress))
        ended = dict(self.each(puzzles, drafts, cold, **how))
        outs = [ended[index] for index in range(len(puzzles))]
        return outs if batch else outs[0]

    def each(
        self, puzzles: Sequence[Puzzle], draft: Sequence[GivenDraft | None], cold: bool = True, **how: Any
    ) -> Iterator[tuple[int, Refinement]]:
        """As `refine` of a list: the index of a puzzle and what came of it, as soon as nothing more is tried for it.

        how: the other options of `refine`.
        """
        effort, begun = Effort(**how), time.perf_counter()
        if len(puzzles) > 1 and any(self.fits(puzzle.task) for puzzle in puzzles):
            # Each is answered in full while the network that was fitted to it is at hand.
            ahead = self.experts.ahead(puzzles, effort.progress, effort.budget)
            for index, ((puzzle, seconds), given) in enumerate(zip(ahead, draft, strict=True)):
                ((_, out),) = self.each([puzzle], [given], cold, **how)
                yield index, replace(out, seconds=seconds + out.seconds)
            return
        jobs = []
        for puzzle, given in zip(puzzles, draft, strict=True):
            grids = self._draft(puzzle, given)
            if grids is not None and cold and not self._holds(puzzle, grids):
                grids = None  # what the network cannot be shown must not cost the cold start
            jobs.append(Job(puzzle, (None, grids) if cold and grids is not None else (grids,), begun))
        plans = [
            Plan(index, _source(start), job.puzzle, start)
            for index, job in enumerate(jobs)
            for start in job.starts
        ]
        if any(self.fits(puzzle.task) for puzzle in puzzles):
            self.experts.fitted(puzzles, effort.progress, effort.budget)
        for index in self._turns(jobs, plans, effort):
            out = self._settled(jobs[index], effort.answers)
            yield index, out if len(jobs) > 1 else replace(out, seconds=time.perf_counter() - begun)

    def restart(
        self,
        puzzles: Sequence[Puzzle],
        starts: Sequence[Sequence[GivenDraft | None]],
        restarts: int = 8,
        **how: Any,
    ) -> Iterator[tuple[int, Refinement]]:
        """Restarts alone, of puzzles that were refined before: from each puzzle's `starts` in turn, None being cold.

        Yields as `each` does. how: options of `refine`; at least one restart is made. Raises PuzzleError where no
        rule decides: there nothing says that another attempt is due.
        """
        for puzzle in puzzles:
            if not get(puzzle.task).has_checker:
                raise PuzzleError(f"{puzzle.task}: no rule decides, so there is nothing to restart for")
        effort, begun = Effort(restarts=restarts, **how), time.perf_counter()
        jobs = [
            Job(p, tuple(self._draft(p, one) for one in given), begun)
            for p, given in zip(puzzles, starts, strict=True)
        ]
        first = [self._restart(index, job, 0, effort) for index, job in enumerate(jobs)]
        for index in self._turns(jobs, [plan for plan in first if plan], effort, turn=1):
            yield index, self._settled(jobs[index], effort.answers)

    def _draft(self, puzzle: Puzzle, draft: GivenDraft | None) -> Grids | None:
        """The draft as grids. Raises PuzzleError where the expert was not trained on any."""
        if draft is None:
            return None
        if puzzle.task in self.tasks and not self.accepts_drafts(puzzle.task):
            raise PuzzleError(
                f"{self.name}: the {puzzle.task} expert was not trained on drafts, expected draft=None"
            )
        return self._grids(puzzle, draft)

    def _grids(self, puzzle: Puzzle, draft: GivenDraft) -> Grids:
        """A draft or candidate as grids, checked against the puzzle's shape."""
        task = get(puzzle.task)
        grids = task.parse_answer(puzzle, draft) if isinstance(draft, str) else as_grids(whole_numbers(draft))
        if len(grids) != len(puzzle.inputs):
            raise PuzzleError(f"draft of {len(grids)} grids, expected {len(puzzle.inputs)}")
        for index, grid in enumerate(grids):
            task.encode_draft(puzzle, grid, index)  # refuses shapes and symbols
        return grids

    def _holds(self, puzzle: Puzzle, draft: Grids) -> bool:
        """Whether the canvas that the puzzle is seen on is as large as the draft."""
        spec = self.experts.spec(puzzle)
        return all(grid.shape[0] <= spec.height and grid.shape[1] <= spec.width for grid in draft)

    def _turns(
        self, jobs: Sequence[Job], plans: Sequence[Plan], effort: Effort, turn: int = 0
    ) -> Iterator[int]:
        """Run the plans, then from this turn on further attempts at what the rules do not accept yet.

        Yields the number of a job as soon as nothing more is tried for it.
        """
        left, deadline = set(range(len(jobs))), None
        # Where no rule ends it, all turns are one batch.
        whole = effort.budget is None and all(self.fits(job.puzzle.task) for job in jobs)
        while left:
            for index in self._run(plans, jobs, effort, deadline):
                if turn >= effort.restarts or not self._open(jobs[index], effort):
                    left.remove(index)
                    yield index
            deadline = None if effort.budget is None else jobs[0].begun + effort.budget
            turns = range(turn, effort.restarts if whole else min(turn + 1, effort.restarts))
            # Judged once a turn and for each puzzle alone: a puzzle's restarts do not depend on its neighbours.
            plans = [
                plan
                for index in sorted(left)
                if self._open(jobs[index], effort)
                for one in turns
                if (plan := self._restart(index, jobs[index], one, effort))
            ]
            turn += len(turns)
            for index in sorted(left - {plan.job for plan in plans}):
                left.remove(index)
                yield index

    def _open(self, job: Job, effort: Effort) -> bool:
        """Whether another attempt may add something, and there is time for it."""
        judged = get(job.puzzle.task).has_checker or self.fits(job.puzzle.task)
        late = effort.budget is not None and time.perf_counter() - job.begun >= effort.budget
        return judged and not late and len(job.verified()) < effort.answers

    def _restart(self, index: int, job: Job, turn: int, effort: Effort) -> Plan | None:
        """Another attempt: noise, a random symmetry where the task has any, starts taken in turn.

        A fitted network sees the whole task under another view instead, without noise. Where there is a right answer
        already another one is asked for (`Task.exclude_solutions`); None: there is none.
        """
        name = job.puzzle.task
        rng = np.random.default_rng([effort.seed, job.puzzle.checksum, turn])
        draft = job.starts[turn % len(job.starts)]
        asked: Puzzle | None = job.puzzle
        if known := [attempt.grids for attempt in job.verified()]:
            asked = get(name).exclude_solutions(job.puzzle, known, rng)
        if asked is None:
            return None
        job.restarts += 1
        view: View
        placed: Task | None = None
        if self.fits(name):
            from trm.adaptation.test_time import draw_view

            spec, how = self.experts.spec(job.puzzle), self.experts.how()
            longest = max((max(grid.shape) for grid in draft or ()), default=0)
            side = spec.width if how.moved else 0
            view = turned = draw_view(job.puzzle, rng, side, longest, how.recolour, how.enlarged)
            context, sigma, noise_seed = turned.turn, 0.0, 0
            placed = spec.at(turned.top, turned.left)
        else:
            sigma = NOISE.get(name, 0.3) if effort.noise is None else effort.noise
            context, noise_seed = 0, int(rng.integers(2**62))
            view = get(name).symmetries(_shape(job.puzzle)).draw(rng)
            if asked is not job.puzzle:
                view = Narrowed(view, job.puzzle.grid, asked.grid)
        moved = Puzzle(name, tuple(view.forward(g) for g in job.puzzle.inputs))
        moved_draft = None if draft is None else tuple(view.forward(g) for g in draft)
        replica = self.experts.replica(name, turn + 1)  # the cold start was the first one's
        return Plan(
            index, _source(draft), moved, moved_draft, view, context, replica, sigma, noise_seed, placed
        )

    def _run(
        self, plans: Sequence[Plan], jobs: Sequence[Job], effort: Effort, deadline: float | None
    ) -> Iterator[int]:
        """Run the plans, task by task, and file what came of them: the number of a job that has all of its own."""
        groups: dict[tuple[str, int, int], list[Plan]] = {}
        for plan in plans:
            name = plan.puzzle.task
            groups.setdefault((name, plan.job if self.fits(name) else -1, plan.replica), []).append(plan)
        last = {plan.job: key for key in sorted(groups) for plan in groups[key]}
        for key in sorted(groups):
            mine = groups[key]
            first = jobs[mine[0].job].puzzle
            engine, task = self.experts.engines_for(first)[mine[0].replica], self.experts.spec(first)
            most = self.experts.steps(first.task, effort.steps)
            for index, ran in run_plans(engine, task, mine, jobs, most, deadline, effort.progress):
                job = jobs[index]
                job.attempts += [file_attempt(task, p, job.puzzle, runs, effort.trace) for p, runs in ran]
                if last[index] == key:
                    yield index

    # -- judging ---------------------------------------------------------------------------------------
    def score(
        self,
        question: Question,
        candidates: Sequence[GivenDraft],
        task: str | None = None,
        index: int | None = None,
    ) -> NDArray[np.float32]:
        """How likely the network finds each candidate: float32 [n] in [0, 1]. No rule is asked.

        The candidate is held as the draft; the score is the probability of its least likely free cell. A grid that
        the network would keep scores high, one in which it would change a cell low, one with an open cell or another
        given 0: it answers nothing. The network's own cold answer is not asked.
        Where the network is fitted it is not shown the candidate: after a cold start the probability of its cells is
        averaged, geometrically, over them and over views (`trm.inference.verifier`). Of several grids the least likely counts.
        index: candidates are of this input alone, one grid each.
        """
        puzzle = as_puzzle(question, task)
        name = puzzle.task
        if not self.fits(name) and not self.accepts_drafts(name):
            raise PuzzleError(f"{self.name}: the {name} expert was not trained on drafts, so it cannot score")
        if index is not None and not 0 <= index < len(puzzle.inputs):
            raise PuzzleError(f"index {index}: expected one of the puzzle's {len(puzzle.inputs)} inputs")
        asked = list(range(len(puzzle.inputs))) if index is None else [index]
        alone = replace(puzzle, inputs=tuple(puzzle.inputs[i] for i in asked), answers=None)
        grids = [self._grids(alone, one) for one in candidates]
        # The networks and canvas are the whole puzzle's, which they may have been fitted to already.
        engines, spec = self.experts.engines_for(puzzle), self.experts.spec(puzzle)
        by_input: list[list[Grid]] = [[] for _ in puzzle.inputs]
        for n, i in enumerate(asked):
            by_input[i] = [one[n] for one in grids]
        if self.fits(name):
            found = scoring.unseen(
                engines, spec, puzzle, by_input, self.experts.steps(name, STEPS), self.experts.how().recolour
            )
        else:
            found = scoring.held(engines[0], spec, puzzle, by_input)
        return np.asarray(np.exp(np.min([found[i] for i in asked], axis=0)), dtype=np.float32)

    def evaluate(
        self,
        puzzles: Sequence[Puzzle],
        steps: int = STEPS,
        restarts: int = 0,
        seed: int = 0,
        progress: Callable[[int], None] | None = None,
        record: Callable[[Record], None] | None = None,
        known: Iterable[Record] = (),
    ) -> dict[str, Any]:
        """Accuracy on labelled puzzles of one task (`trm.evaluation.accuracy.evaluate`), with restarts where asked for.

        Restarts change `accuracy` and `verified` alone; the other figures are of the cold pass. Where the network is
        fitted to every task, restarts are views that vote, and there are more figures (`trm.evaluation.records.summary`); record:
        told how each task went, as it goes; known: what it was told before, which is not done again.
        """
        from trm.evaluation.accuracy import evaluate_general

        if self.fits(puzzles[0].task):
            from trm.evaluation.records import evaluate_fitted

            return evaluate_fitted(self, puzzles, steps, restarts, seed, progress, record, known)
        return evaluate_general(self, puzzles, steps, restarts, seed, progress)

    def restarted(
        self,
        puzzles: Sequence[Puzzle],
        runs: Sequence[Sequence[Trajectory]],
        steps: int,
        restarts: int,
        seed: int,
    ) -> list[Refinement]:
        """What restarts add to cold trajectories that there are already, one for each input of each puzzle."""
        begun = time.perf_counter()
        jobs = [Job(puzzle, (None,), begun) for puzzle in puzzles]
        for index, (job, mine) in enumerate(zip(jobs, runs, strict=True)):
            plan = Plan(index, "refiner", job.puzzle, None)
            job.attempts.append(file_attempt(get(job.puzzle.task), plan, job.puzzle, mine, trace=False))
        list(self._turns(jobs, (), Effort(steps, restarts, seed=seed)))
        return [self._settled(job, 1) for job in jobs]

    def _settled(self, job: Job, answers: int) -> Refinement:
        return settle(job, answers, self.experts.calibration(job.puzzle))


def _source(start: Grids | None) -> str:
    return "refiner" if start is None else "refiner+draft"


def _shape(puzzle: Puzzle) -> tuple[int, int]:
    height, width = puzzle.grid.shape
    return height, width
