"""Propose, refine, check: puzzles in, answers out, in order. The work is done by `trm.inference.search`.

A language model alone is `Pipeline(llm, None)`, the network alone `Pipeline(Blank(), refiner)`, the hybrid
`Pipeline(llm, refiner)`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import closing
from functools import partial
from typing import Protocol

from hybrid.answer import Answer, Seconds
from hybrid.prefetch import in_turn, prefetch
from trm.inference.config import SearchConfig
from trm.inference.proposals import BatchProposer, Proposer, ask_first
from trm.inference.refiner import Refiner
from trm.inference.search import Callbacks, Search
from trm.inference.state import SolveState
from trm.tasks import Puzzle

DEFAULT = SearchConfig()


class Puzzles(Protocol):
    """Puzzles that can be gone through many times, and need not be in memory."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Puzzle]: ...


class Pipeline:
    """Answers puzzles.

    refiner: None where drafts are judged alone. at_once: how many puzzles are refined together. drafted_at_once: for
    how many a proposer that can is asked in one go. prefetched: the next drafts are made in the background while
    these are refined; answers and their order stay the same. cold: whether the network also starts without a draft.
    refines_drafts: whether it starts from drafts at all, which otherwise are candidates alone.
    """

    def __init__(
        self,
        proposer: Proposer,
        refiner: Refiner | None,
        at_once: int = 1,
        callbacks: Callbacks | None = None,
        drafted_at_once: int = 1,
        prefetched: bool = False,
        cold: bool = True,
        refines_drafts: bool = True,
    ) -> None:
        self.proposer, self.refiner, self.at_once = proposer, refiner, at_once
        self.drafted_at_once = drafted_at_once if isinstance(proposer, BatchProposer) else 1
        self.prefetched, self.cold, self.refines_drafts = prefetched, cold, refines_drafts
        self.callbacks = callbacks if callbacks is not None else Callbacks()
        self._search = Search(refiner.pool if refiner is not None else None, proposer, self.callbacks)

    def solve(self, puzzles: Iterable[Puzzle], config: SearchConfig = DEFAULT) -> Iterator[Answer]:
        """One answer a puzzle, in order, each as soon as it is there."""
        # A budget is a puzzle's own: the seconds of a batch are nobody's.
        alone = config.budget_seconds is not None
        refined = 1 if alone else self.at_once
        groups = group_by_task(puzzles, 1 if alone else max(refined, self.drafted_at_once))
        draft = partial(ask_first, self.proposer, seed=config.seed)
        # What has no length is a stream and may be long in coming: a draft must not keep an answer waiting for it.
        early = self.prefetched and not alone and isinstance(puzzles, Sized)
        stop = getattr(self.proposer, "stop", lambda: None)
        drafting = prefetch(groups, draft, stop) if early else in_turn(groups, draft)
        with closing(drafting):
            for group, proposals in drafting:
                self.callbacks.started(group)
                states = [SolveState(puzzle, self.cold, self.refines_drafts) for puzzle in group]
                for state, proposal in zip(states, proposals(), strict=True):
                    self._search.add_drafts(state, proposal)
                for first in range(0, len(states), refined):
                    some = states[first : first + refined]
                    if len(some) < len(states):
                        self.callbacks.started([state.puzzle for state in some])
                    yield from self._in_order(some, config)

    def solve_states(
        self, states: Sequence[SolveState], config: SearchConfig
    ) -> Iterator[tuple[SolveState, Answer]]:
        """Answers to puzzles that are refined together, each as soon as it is there, in any order."""
        self.callbacks.started([state.puzzle for state in states])
        proposals = ask_first(self.proposer, [state.puzzle for state in states], config.seed)
        for state, proposal in zip(states, proposals, strict=True):
            self._search.add_drafts(state, proposal)
        for state in self._search.solve(states, config):
            yield state, self._answer(state, config)

    def _in_order(self, states: list[SolveState], config: SearchConfig) -> Iterator[Answer]:
        """The answers in order, each as soon as it and those before it are done. Ctrl-C loses none that is done."""
        waiting, ended = list(states), set[int]()
        try:
            for state in self._search.solve(states, config):
                ended.add(id(state))
                while waiting and id(waiting[0]) in ended:
                    answer = self._answer(waiting[0], config)  # where the network judges, this takes a while
                    del waiting[0]
                    yield answer
        except KeyboardInterrupt:
            yield from (self._answer(state, config) for state in waiting if id(state) in ended)
            raise

    def _answer(self, state: SolveState, config: SearchConfig) -> Answer:
        begun = time.perf_counter()
        found = self._search.select(state, config)
        selecting = time.perf_counter() - begun
        return Answer(
            puzzle=state.puzzle,
            grids=found.grids,
            verdict=found.verdict,
            source=found.source if state.answered else None,
            confidence=found.confidence,
            candidates=found.candidates,
            steps=sum(attempt.steps for attempt in state.attempts),
            restarts=state.restarts,
            drafts=tuple(state.drafts),
            seconds=Seconds(
                state.draft_seconds,
                state.refine_seconds,
                state.draft_seconds + state.refine_seconds + selecting,
            ),
            llm=self.proposer.name,
            refiner=self.refiner.name if self.refiner is not None else None,
            seed=config.seed,
            alternatives=found.alternatives[: config.answers - 1],
            traced=found.traced,
            attempts=tuple(state.attempts),
            missing=not state.answered,
            pool=found.pool,
        )


def group_by_task(puzzles: Iterable[Puzzle], size: int) -> Iterator[list[Puzzle]]:
    """Runs of at most `size` puzzles of one task."""
    group: list[Puzzle] = []
    for puzzle in puzzles:
        if group and puzzle.task != group[0].task:
            yield group
            group = []
        group.append(puzzle)
        if len(group) == size:  # now, not when the next one comes: it may be long in coming
            yield group
            group = []
    if group:
        yield group
