"""Propose, check, refine, check: the one pipeline behind every arm.

LLM alone is `Pipeline(llm, Passthrough())`, the network alone `Pipeline(Blank(), refiner)`, the hybrid
`Pipeline(llm, refiner)`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from hybrid.ahead import ahead, in_turn
from hybrid.answer import Answer, Candidates, JudgedDraft, Seconds, same
from hybrid.llm.base import BackendError
from hybrid.null import Passthrough
from hybrid.pooling import named, pooled, said_by
from hybrid.proposers import Draft, Feedback, ManyProposer, Proposer
from hybrid.work import Refined, Work, groups, is_network, rank
from trm import tasks
from trm.grid import Grid, Grids, PuzzleError
from trm.tasks import Puzzle, Status, Verdict

if TYPE_CHECKING:
    from trm.inference.refiner import Refiner

AnyRefiner: TypeAlias = "Refiner | Passthrough"


class Watcher:
    """Told what happens while it happens. This one does not care; `hybrid.render.Live` draws it."""

    def started(self, puzzles: Sequence[Puzzle]) -> None:
        """Work on these begins; they are refined together."""

    def drafted(self, puzzle: Puzzle, draft: JudgedDraft) -> None:
        """A draft came and was checked."""

    def refining(self, puzzle: Puzzle, done: int, total: int, grid: Grid | None = None) -> None:
        """`done` of `total` rollouts have ended; `grid`: where the first of this puzzle, one of them, stands."""

    def warned(self, message: str) -> None:
        """Something is missing, yet there will be answers."""


@dataclass(frozen=True)
class Options:
    """How much to spend on a puzzle. Further drafts, rounds and restarts only while it is not verified."""

    drafts: int = 1
    rounds: int = 0
    steps: int = 16  # supervision steps
    restarts: int = 8
    budget: float | None = None  # seconds a puzzle
    answers: int = 1
    seed: int = 0
    trace: bool = False


@dataclass(frozen=True, eq=False)
class _Asked:
    """What a proposer said. failed: why it could not be asked."""

    drafts: list[Draft]
    seconds: float
    failed: str | None = None


class Pipeline:
    """Answers puzzles. `at_once`: how many are refined together; with a slow proposer, one.

    `drafted_at_once`: how many first drafts a proposer that can is asked for in one go. `ahead`: the next ones are
    written in the background while these are refined; answers and their order stay the same.
    """

    def __init__(
        self,
        proposer: Proposer,
        refiner: AnyRefiner,
        at_once: int = 1,
        watcher: Watcher | None = None,
        drafted_at_once: int = 1,
        ahead: bool = False,
    ) -> None:
        self.proposer = proposer
        self.ahead = ahead
        self.refiner = refiner
        self.at_once = at_once
        self.drafted_at_once = drafted_at_once if isinstance(proposer, ManyProposer) else 1
        self.watcher = watcher if watcher is not None else Watcher()
        self._said: set[str] = set()

    def solve(self, puzzles: Iterable[Puzzle], options: Options = Options()) -> Iterator[Answer]:
        """One answer a puzzle, in order, each as soon as it is there."""
        # A budget is a puzzle's own: the seconds of a batch are nobody's.
        alone = options.budget is not None
        refined = 1 if alone else self.at_once
        size = 1 if alone else max(refined, self.drafted_at_once)
        draft = partial(self._first_drafts, seed=options.seed)
        # What is read from a stream may be long in coming: a draft must not keep an answer waiting for it.
        begun_early = self.ahead and not alone and isinstance(puzzles, Sequence)
        runs = groups(puzzles, size)
        with closing(ahead(list(runs), draft) if begun_early else in_turn(runs, draft)) as drafting:
            for group, drafts in drafting:
                self.watcher.started(group)
                begun = time.perf_counter()
                works = [Work(puzzle, begun) for puzzle in group]
                for work, said in zip(works, drafts(), strict=True):
                    self._take(work, said)
                for at in range(0, len(works), refined):
                    some = works[at : at + refined]
                    if len(some) < len(works):
                        self.watcher.started([work.puzzle for work in some])
                    yield from self._solve_together(some, options)

    def _first_drafts(self, group: list[Puzzle], seed: int) -> list[_Asked]:
        """The first drafts of every puzzle of a group. Touches nothing but the proposer: it may run ahead."""
        if len(group) > 1 and isinstance(self.proposer, ManyProposer):
            said = _ask(partial(self.proposer.propose_many, group, seed=seed), len(group))
            return [_Asked([draft], said.seconds / len(group), said.failed) for draft in said.drafts]
        return [_ask(partial(self.proposer.propose, puzzle, seed=seed)) for puzzle in group]

    def _solve_together(self, group: list[Work], options: Options) -> Iterator[Answer]:
        """All puzzles of a group in step: what one of them waits for, the network does for all at once.

        In order, each as soon as it and those before it are done. Ctrl-C loses none that is done.
        """
        # Who drafted nothing is not asked again: then the first pass is the last, and restarts come with it.
        further = any(work.drafts for work in group) and (options.drafts > 1 or options.rounds > 0)
        # Where no rule decides nothing waits for restarts: they are further views, all of which have a vote.
        wait = further and tasks.get(group[0].puzzle.task).has_checker
        done: Iterable[Work] = self._refine(
            group, [work.newest() for work in group], options, restarts=0 if wait else options.restarts
        )
        if further:
            list(done)
            self._go_on(group, options)
            done = group
        waiting, ended = list(group), set[Work]()
        try:
            for work in done:
                ended.add(work)
                while waiting and waiting[0] in ended:
                    answer = self._answer(waiting[0], options)  # where the network judges, this takes a while
                    del waiting[0]
                    yield answer
        except KeyboardInterrupt:
            yield from (self._answer(work, options) for work in waiting if work in ended)
            raise

    def _go_on(self, group: list[Work], options: Options) -> None:
        """Further drafts, then rounds, then restarts from all of them, as long as a puzzle is open."""
        if options.drafts > 1:
            for work in self._open_of(group, options):
                # Together: a batch of replies costs hardly more than one. The first is greedy, and known.
                self._propose(work, options.drafts, options.seed)
        for number in range(1, options.drafts):
            self._refine_new(group, number, options)
        for turn in range(1, options.rounds + 1):
            for work in self._open_of(group, options):
                last = work.drafts[-1]
                if not last.valid:  # else nothing is wrong with it that could be named
                    said = Feedback(last.draft, last.faults, work.corrections(last))
                    self._propose(work, 1, options.seed + turn, said)
            self._refine_new(group, -1, options)
        # Where no rule decides, nothing says that an answer is wrong and another attempt due.
        has_checker = tasks.get(group[0].puzzle.task).has_checker
        if has_checker and options.restarts and (open_ := self._open_of(group, options)):
            self._restart(open_, options)

    def _open_of(self, group: list[Work], options: Options) -> list[Work]:
        return [work for work in group if work.drafts and self._open(work, options)]

    def _refine_new(self, group: list[Work], number: int, options: Options) -> None:
        """Refine draft `number` of every open puzzle, unless it repeats one: that comes out the same."""
        fresh = []
        for work in self._open_of(group, options):
            grids = work.drafts[number].draft.grids if number < len(work.drafts) else None
            if not any(same(grids, other) for other in (None, *work.tried)):
                fresh.append((work, grids))
        if fresh:
            list(
                self._refine([work for work, _ in fresh], [grids for _, grids in fresh], options, cold=False)
            )

    def _open(self, work: Work, options: Options) -> bool:
        """Whether more is to be spent: not enough verified answers yet, and seconds left."""
        left = work.seconds_left(options.budget)
        return len(work.verified()) < options.answers and (left is None or left > 0)

    def _propose(self, work: Work, drafts: int = 1, seed: int = 0, feedback: Feedback | None = None) -> None:
        """Ask for drafts and judge them, of several all but the first."""
        asked = partial(self.proposer.propose, work.puzzle, drafts=drafts, feedback=feedback, seed=seed)
        said = _ask(asked, drafts)
        self._take(work, said if drafts == 1 else replace(said, drafts=said.drafts[1:]))

    def _take(self, work: Work, said: _Asked) -> None:
        """Judge drafts and file them with their puzzle."""
        if said.failed is not None:
            self._warn(said.failed)
        work.answerable |= said.failed is None and bool(said.drafts)
        work.llm_seconds += said.seconds
        judged = [self._judge(work.puzzle, draft) for draft in said.drafts]
        for draft in judged:
            self.watcher.drafted(work.puzzle, draft)
        work.drafts += judged

    def _judge(self, puzzle: Puzzle, draft: Draft) -> JudgedDraft:
        task = tasks.get(puzzle.task)
        return JudgedDraft(draft, None if draft.grids is None else task.check(puzzle, draft.grids))

    def _refine(
        self,
        group: list[Work],
        drafts: list[Grids | None],
        options: Options,
        cold: bool = True,
        restarts: int = 0,
    ) -> Iterator[Work]:
        """Refine a draft for each, handed back as it is done; `cold`: beside a cold start. Restarts are for what
        stays open.
        """
        first = group[0]
        refiner = self._refiner_for(first.puzzle.task)
        drafts = self._takable(refiner, first.puzzle.task, drafts)
        if not cold and all(draft is None for draft in drafts):
            return
        for work, draft in zip(group, drafts, strict=True):
            work.tried += [draft] if draft is not None else []
        # Apart: a puzzle whose draft is right gets no restarts for the sake of another.
        open_ = [restarts > 0 and self._open(work, options) for work in group]
        for again in (False, True):
            rows = [row for row, has in enumerate(open_) if has == again]
            asks: dict[str, Any] = {
                "draft": [drafts[row] for row in rows],
                "cold": cold,
                "restarts": restarts if again else 0,
            }
            if rows:
                yield from self._ask(refiner, refiner.each, [group[row] for row in rows], asks, options)

    def _restart(self, group: list[Work], options: Options) -> None:
        """Restarts for all of a group, from a cold start and from every draft that was refined, in turn."""
        refiner = self._refiner_for(group[0].puzzle.task)
        if not isinstance(refiner, Passthrough):  # nobody to begin anew
            asks = {"starts": [[None, *work.tried] for work in group], "restarts": options.restarts}
            list(self._ask(refiner, refiner.restart, group, asks, options))

    def _takable(self, refiner: AnyRefiner, task: str, drafts: Sequence[Grids | None]) -> list[Grids | None]:
        """The drafts, or none of them where the expert was not trained on any."""
        if refiner.accepts_drafts(task) or all(draft is None for draft in drafts):
            return list(drafts)
        self._warn(f"{refiner.name} was not trained on drafts of {task}: cold start only")
        return [None] * len(drafts)

    def _ask(
        self,
        refiner: AnyRefiner,
        method: Callable[..., Iterable[tuple[int, Refined]]],
        group: list[Work],
        asks: dict[str, Any],
        options: Options,
    ) -> Iterator[Work]:
        """Call a method of the refiner about a group, file what it says and hand back of whom it was.

        What it cannot be asked about one puzzle (a draft larger than its canvas, say) costs the others nothing.
        """
        asks |= {
            "steps": options.steps,
            "seed": options.seed,
            "budget": group[0].seconds_left(options.budget),
            "answers": options.answers,
            "trace": options.trace,
            "progress": partial(self.watcher.refining, group[0].puzzle),
        }
        left = dict(enumerate(group))
        try:
            for row, out in method([work.puzzle for work in group], **asks):
                left[row].file(out, ran=refiner.name is not None)
                yield left.pop(row)
        except PuzzleError as error:
            if len(group) > 1:
                for row, work in left.items():
                    own = {key: [asks[key][row]] for key in ("draft", "starts") if key in asks}
                    yield from self._ask(refiner, method, [work], asks | own, options)
                return
            self._warn(f"{refiner.name}: {error}; the draft is judged alone")
            for work in group:
                ((_, out),) = Passthrough().each([work.puzzle], [work.newest()])
                work.file(out, ran=False)
                yield work

    def _refiner_for(self, task: str) -> AnyRefiner:
        if task in self.refiner.tasks:
            return self.refiner
        has = ", ".join(self.refiner.tasks) or "none"
        self._warn(f"{self.refiner.name} has no expert for {task} (it has: {has}); the draft is judged alone")
        return Passthrough()

    def _warn(self, message: str) -> None:
        """Say it once, however many puzzles it holds for."""
        if message not in self._said:
            self._said.add(message)
            self.watcher.warned(message)

    def _pooled(self, work: Work, options: Options) -> Candidates:
        """The attempts that most of the drafts and refinements agree on, where no rule decides.

        The network judges between equals as long as there is time.
        """
        left = work.seconds_left(options.budget)
        drafts = [judged.draft.grids for judged in work.drafts if judged.draft.grids is not None]
        refined = [named(out) for out in work.refined if is_network(out) and out.candidates]
        refiner, task = self.refiner, work.puzzle.task
        judge = (
            not isinstance(refiner, Passthrough)
            and task in refiner.tasks
            and refiner.accepts_drafts(task)
            and (left is None or left > 0)
        )
        return pooled(work.puzzle, refined, drafts, refiner.score if judge else None)  # type: ignore[union-attr]

    def _answer(self, work: Work, options: Options) -> Answer:
        task = tasks.get(work.puzzle.task)
        ranked = sorted(work.refined, key=rank, reverse=True)
        best = ranked[0]
        own = next((draft.draft for draft in work.drafts if draft.verified), None)
        cold_verified = best.verdict.status is Status.VERIFIED and best.source == "refiner"
        grids, source, confidence = best.grids, best.source, best.confidence
        if own is not None and not cold_verified:
            grids, source = own.grids, "llm"
            # The network's confidence is in its own grid: it says nothing of another one.
            confidence = best.confidence if same(grids, best.grids) else None
        candidates: Candidates = ()
        begun = time.perf_counter()
        if not task.has_checker and (candidates := self._pooled(work, options)):
            grids = tuple(choice[0] for choice in candidates)
            source, confidence = said_by([out for out in ranked if is_network(out)], grids)
        seconds = work.llm_seconds + work.refine_seconds + time.perf_counter() - begun
        faults = next((draft.faults for draft in reversed(work.drafts)), ("no answer",))
        # Whatever anyone claimed: the rules decide here, last, on the very grids that are handed out.
        verdict = Verdict(Status.UNSOLVED, faults) if grids is None else task.check(work.puzzle, grids)
        others = [other for other in work.verified() if not same(other, grids)][: options.answers - 1]
        return Answer(
            puzzle=work.puzzle,
            grids=grids,
            verdict=verdict,
            source=source if work.answerable else None,
            confidence=confidence,
            candidates=candidates,
            steps=sum(out.steps for out in work.refined),
            restarts=sum(out.restarts for out in work.refined),
            drafts=tuple(work.drafts),
            seconds=Seconds(work.llm_seconds, work.refine_seconds, seconds),
            llm=self.proposer.name,
            refiner=self.refiner.name,
            seed=options.seed,
            alternatives=tuple(others),
            trace=best.trace,
            attempts=tuple(attempt for out in work.refined for attempt in out.attempts),
            missing=not work.answerable,
        )


def _ask(call: Callable[[], list[Draft]], wanted: int = 1) -> _Asked:
    """Ask a proposer. Failures are counted values: then every draft that was wanted says why it is not there."""
    begun, failed = time.perf_counter(), None
    try:
        drafts = call()
    except BackendError as error:
        failed = str(error)
        drafts = [Draft(None, error=failed)] * wanted
    return _Asked(drafts, time.perf_counter() - begun, failed)
