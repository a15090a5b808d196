"""The search: drafts, rollouts, restarts and repair rounds, until the rules accept or nothing is left to spend.

One scheduler for everything that answers puzzles: `Refiner.refine`, `hybrid solve`, `trm eval` and every arm of the
comparison. A language model alone is a search without a provider, the network alone one without a proposer.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from trm.grid import Grid, Grids, PuzzleError
from trm.inference.config import SearchConfig
from trm.inference.network import Restart
from trm.inference.proposals import (
    Blank,
    CheckedDraft,
    Feedback,
    Proposal,
    Proposer,
    ask,
)
from trm.inference.provider import ModelPool, training_hint
from trm.inference.ranking import mender_of, scorer_of
from trm.inference.rollouts import RolloutRequest, RolloutStep, run_requests
from trm.inference.selection import CandidateScorer, Selection, same_grids, select_answer
from trm.inference.state import SolveState
from trm.tasks import Puzzle


class Callbacks:
    """Called while a search goes on. These do nothing; a display overrides them."""

    def started(self, puzzles: Sequence[Puzzle]) -> None:
        """Work on these puzzles begins; they are refined together."""

    def drafted(self, puzzle: Puzzle, draft: CheckedDraft) -> None:
        """A draft came and was checked."""

    def adapting(self, puzzle: Puzzle, seconds: int, total: int) -> None:
        """The network has been adapted to the puzzle for so many seconds of a total."""

    def refining(self, puzzle: Puzzle, done: int, total: int, grid: Grid | None = None) -> None:
        """`done` of `total` rollouts of a batch have ended. grid: the newest of its first one, this puzzle's."""

    def stepped(self, puzzle: Puzzle, step: RolloutStep) -> None:
        """A rollout of the puzzle took a step; called only in a search that keeps traces."""

    def warned(self, message: str) -> None:
        """Something is missing, yet there will be answers."""


class Search:
    """Answers puzzles with what proposers draft and a provider's networks refine.

    provider: None where drafts are judged alone. strict: a puzzle that the network cannot be asked about raises
    PuzzleError; otherwise that is a warning, and its drafts are judged alone. Results do not depend on which puzzles
    are searched together.
    """

    def __init__(
        self,
        provider: ModelPool | None,
        proposer: Proposer | None = None,
        callbacks: Callbacks | None = None,
        strict: bool = False,
    ) -> None:
        self.provider, self.strict = provider, strict
        self.proposer: Proposer = proposer or Blank()
        self.callbacks = callbacks or Callbacks()
        self._warnings: set[str] = set()

    def solve(self, states: Sequence[SolveState], config: SearchConfig) -> Iterator[SolveState]:
        """Search for all states; hands each back as soon as nothing more is tried for it.

        A puzzle whose network is adapted to it is answered in full before the next one is adapted to.
        """
        together: list[SolveState] = []
        for state in states:
            if self.provider is not None and self.provider.adapts(state.puzzle.task):
                yield from self._solve_together([state], config)
            else:
                together.append(state)
        if together:
            yield from self._solve_together(together, config)

    def select(self, state: SolveState, config: SearchConfig) -> Selection:
        """The answer to a puzzle that was searched for."""
        network, late = state.network, state.seconds_left(config) == 0
        asked = (self.proposer, state.puzzle, config.seed, self._warn)
        return select_answer(
            state.task,
            state.puzzle,
            state.attempts,
            state.drafts,
            network.calibration if network is not None else None,
            self._tie_scorer(state, config),
            None if late else scorer_of(*asked),
            None if late or not state.refines_drafts else mender_of(*asked),
        )

    def add_drafts(self, state: SolveState, proposal: Proposal, first: int = 0) -> None:
        """Check drafts and keep them with their puzzle. first: the number of the first one that is new."""
        if proposal.error is not None:
            self._warn(proposal.error)
        state.answered |= proposal.error is None and bool(proposal.drafts)
        state.draft_seconds += proposal.seconds
        for draft in proposal.drafts[first:]:
            state.drafts.append(CheckedDraft.of(state.task, state.puzzle, draft))
            self.callbacks.drafted(state.puzzle, state.drafts[-1])

    # -- the passes --------------------------------------------------------------------------------------
    def _solve_together(self, states: list[SolveState], config: SearchConfig) -> Iterator[SolveState]:
        for state in states:
            self._prepare(state, config)
        # A proposer that drafted nothing is not asked again.
        further = any(state.drafts for state in states) and (config.drafts > 1 or config.rounds > 0)
        left = list(states)
        requests = [
            (state, state.network.first(state.puzzle, start, config.trace))
            for state in states
            if state.network is not None and not state.attempts
            for start in ([None] if state.cold else []) + state.draft_starts
        ]
        running = {id(state) for state, _ in requests}
        for state in states:
            if id(state) not in running and not further and not self._restartable(state, config):
                left.remove(state)
                yield state
        for state in self._run(requests, config):
            if not further and not self._restartable(state, config):
                left.remove(state)
                yield state
        if further:
            self._ask_further(left, config)
        yield from self._restart(left, config)

    def _prepare(self, state: SolveState, config: SearchConfig) -> None:
        """Find the puzzle's network, and the draft that its first rollout starts from beside the cold one."""
        if self.provider is None:
            return
        puzzle = state.puzzle
        try:
            if puzzle.task not in self.provider.tasks and not self.strict:
                has = ", ".join(self.provider.tasks) or "none"
                missing = f"{self.provider.checkpoint.name} has no expert for {puzzle.task} (it has: {has})"
                self._warn(f"{missing}{training_hint(puzzle.task)}; the draft is judged alone")
                return
            adapting = partial(self.callbacks.adapting, puzzle)
            begun = time.perf_counter()
            state.network = self.provider.network(puzzle, state.seconds_left(config), adapting)
            # An adaptation that was made before, for another arm of a comparison, is part of this answer's cost too.
            state.adaptation_seconds = max(time.perf_counter() - begun, state.network.seconds)
            state.network.first(puzzle, None).rollout(0)  # refuses what its canvas cannot hold
            if state.network.warning:
                self._warn(f"{self.provider.checkpoint.name}: {state.network.warning}")
            if state.cold:  # what the network cannot be shown must not cost the cold start
                state.draft_starts = [draft for draft in state.draft_starts if state.network.holds(draft)]
            if state.refines_drafts and (draft := state.newest_draft()) is not None:
                self._start_from(state, draft)
        except PuzzleError as error:
            if self.strict:
                raise
            state.network = None
            self._warn(f"{self.provider.checkpoint.name}: {error}; the draft is judged alone")

    def _start_from(self, state: SolveState, draft: Grids) -> bool:
        """Let rollouts start from a draft; False where the network cannot be given it."""
        network = state.network
        if network is None:
            return False
        if not network.accepts_drafts:
            name = self.provider.checkpoint.name if self.provider is not None else ""
            self._warn(f"{name} was not trained on drafts of {state.puzzle.task}: cold start only")
            return False
        if not network.holds(draft):
            return False
        state.draft_starts.append(draft)
        return True

    def _ask_further(self, states: Sequence[SolveState], config: SearchConfig) -> None:
        """Further drafts, then repair rounds, for puzzles that have drafts and stay open."""
        if config.drafts > 1:
            for state in self._drafted_and_open(states, config):
                # All in one go: a batch of replies costs hardly more than one. The first is greedy, and known.
                proposal = ask(self.proposer, state.puzzle, config.drafts, None, config.seed)
                self.add_drafts(state, proposal, first=1)
        for number in range(1, config.drafts):
            self._refine_draft(states, number, config)
        for turn in range(1, config.rounds + 1):
            for state in self._drafted_and_open(states, config):
                last = state.drafts[-1]
                if not last.valid:  # else nothing is wrong with it that could be named
                    feedback = Feedback(last.draft, last.faults, state.corrections(last))
                    self.add_drafts(state, ask(self.proposer, state.puzzle, 1, feedback, config.seed + turn))
            self._refine_draft(states, -1, config)

    def _drafted_and_open(self, states: Sequence[SolveState], config: SearchConfig) -> list[SolveState]:
        return [state for state in states if state.drafts and state.open(config)]

    def _refine_draft(self, states: Sequence[SolveState], number: int, config: SearchConfig) -> None:
        """A rollout from draft `number` of every open puzzle, unless it repeats one: that comes out the same."""
        requests = []
        for state in self._drafted_and_open(states, config):
            if not state.refines_drafts:
                continue
            draft = state.drafts[number].draft.grids if number < len(state.drafts) else None
            known = any(same_grids(draft, other) for other in (None, *state.draft_starts))
            if draft is not None and not known and self._start_from(state, draft):
                assert state.network is not None
                requests.append((state, state.network.first(state.puzzle, draft, config.trace)))
        list(self._run(requests, config))

    def _restart(self, states: list[SolveState], config: SearchConfig) -> Iterator[SolveState]:
        """Turn after turn another attempt at every open puzzle; hands each back when nothing more is tried."""
        left, turn = list(states), 0
        while left:
            # Views that vote are one batch: no rule ends them, and only a budget can cut them short. So under a
            # budget every batch has as many as there were before.
            voting = all(s.network and s.network.votes for s in left)
            whole = voting and config.budget_seconds is None
            more = max(1, turn) if voting else 1
            turns = range(turn, config.restarts if whole else min(turn + more, config.restarts))
            # Judged once a turn and for each puzzle alone, so that restarts do not depend on the other puzzles.
            requests = [
                (state, request)
                for state in left
                if self._restartable(state, config)
                for number in turns
                if (request := self._restart_request(state, number, config)) is not None
            ]
            turn += len(turns)
            going = {id(state) for state, _ in requests}
            ended, left = [s for s in left if id(s) not in going], [s for s in left if id(s) in going]
            yield from ended
            for state in self._run(requests, config):
                if turn >= config.restarts or not self._restartable(state, config):
                    left.remove(state)
                    yield state

    def _restartable(self, state: SolveState, config: SearchConfig) -> bool:
        """Whether another attempt may add something: by the rules, or by its vote."""
        network = state.network
        judged = network is not None and (network.task.has_checker or network.votes)
        startable = state.cold or bool(state.draft_starts)
        return judged and startable and config.restarts > 0 and state.open(config)

    def _restart_request(self, state: SolveState, turn: int, config: SearchConfig) -> RolloutRequest | None:
        """The attempt of a turn. Where there is a right answer already, another one is asked for
        (`Task.exclude_solutions`); None where no other one exists."""
        assert state.network is not None
        rng = np.random.default_rng([config.seed, state.puzzle.checksum, turn])
        question: Puzzle | None = state.puzzle
        if known := state.verified():
            question = state.task.exclude_solutions(state.puzzle, known, rng)
        if question is None:
            return None
        state.restarts += 1
        start = state.restart_start(turn)
        return state.network.restart(
            Restart(state.puzzle, question, start, turn, rng, config.noise, config.trace)
        )

    def _run(
        self, requests: Sequence[tuple[SolveState, RolloutRequest]], config: SearchConfig
    ) -> Iterator[SolveState]:
        """Run requests, a batch for each network, and keep the attempts; hands back states whose requests ended."""
        owners: dict[int, SolveState] = {}
        batches: dict[tuple[object, int], list[tuple[int, RolloutRequest]]] = {}
        waiting: dict[int, int] = {}
        for state, request in requests:
            assert state.network is not None
            owners[id(state)] = state
            batch = batches.setdefault((state.network.batch_key, request.member), [])
            waiting[id(state)] = waiting.get(id(state), 0) + 1
            batch.append((id(state), request))
        for (_, member), batch in sorted(batches.items(), key=lambda item: str(item[0])):
            first = owners[batch[0][0]]
            network = first.network
            assert network is not None
            left = first.seconds_left(config)
            deadline = None if left is None else time.perf_counter() + left
            progress = partial(self.callbacks.refining, first.puzzle)
            steps = network.steps(config.steps)
            ended = run_requests(
                network.engines[member],
                batch,
                steps,
                deadline,
                progress,
                stopped=lambda owner: owners[owner].stopped,
                watch=lambda owner, step: self.callbacks.stepped(owners[owner].puzzle, step),
            )
            for owner, attempts in ended:
                state = owners[owner]
                state.attempts += attempts
                state.answered = True
                waiting[owner] -= len(attempts)
                if not waiting[owner]:
                    yield state

    # -- judging -----------------------------------------------------------------------------------------
    def _tie_scorer(self, state: SolveState, config: SearchConfig) -> CandidateScorer | None:
        """What scores candidates with equal votes, as long as there is time."""
        network = state.network
        late = state.seconds_left(config) == 0
        if not config.score_ties or network is None or not network.accepts_drafts or late:
            return None

        def likely(index: int, grids: Sequence[Grid]) -> list[float]:
            candidates: list[list[Grid]] = [[] for _ in state.puzzle.inputs]
            candidates[index] = list(grids)
            scores = network.log_likelihood(state.puzzle, candidates, config.steps)[index]
            return [float(score) for score in np.exp(scores)]

        return likely

    def _warn(self, message: str) -> None:
        """Say it once, however many puzzles it holds for."""
        if message not in self._warnings:
            self._warnings.add(message)
            self.callbacks.warned(message)
