"""The refiner: a question and perhaps a draft in, a grid with a verdict and a confidence out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast, overload

import numpy as np
from numpy.typing import NDArray

from trm.adaptation.calibration import Calibration
from trm.adaptation.config import AdaptationConfig
from trm.checkpoints.format import Checkpoint, load
from trm.grid import Grid, Grids, PuzzleError
from trm.inference.config import SearchConfig
from trm.inference.inputs import GivenDraft, Question, is_batch
from trm.inference.inputs import as_draft as as_draft
from trm.inference.inputs import as_puzzle as as_puzzle
from trm.inference.provider import ModelPool
from trm.inference.rollouts import SOURCE_COLD, Attempt, RolloutStep
from trm.inference.search import Callbacks, Search
from trm.inference.state import SolveState
from trm.tasks import Puzzle, Verdict, get

STEPS = 16  # supervision steps of a rollout at most, where nothing else is said


@dataclass(frozen=True, eq=False)
class Refinement:
    """The answer to one question. `confidence` is learned, `verdict` is exact; they are never merged.

    confidence: the halting probability; where the network was adapted, the confidence of the vote
    (`trm.inference.selection.vote_confidence`). candidates: where no rule decides, for every input one or two grids,
    best first. steps: supervision steps of all rollouts. traced: every step of the rollout that gave
    the answer. alternatives: further distinct verified answers. attempts: every rollout, in order.
    """

    task: str
    grids: Grids
    confidence: float
    verdict: Verdict
    source: str  # "refiner" | "refiner+draft"
    steps: int
    restarts: int
    seconds: float  # its share where others were refined beside it
    traced: tuple[RolloutStep, ...] = ()
    candidates: list[list[Grid]] | None = None
    alternatives: tuple[Grid, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    calibration: Calibration | None = None

    @property
    def trace(self) -> tuple[Grid, ...]:
        return tuple(step.grid for step in self.traced)

    @property
    def grid(self) -> Grid:
        """The answer to a question with one input, uint8 [H, W]."""
        return self.grids[0]

    @property
    def text(self) -> str:
        """The answer as the commands print it."""
        return get(self.task).text(self.grids)


class Refiner:
    """Experts for one or more tasks, ready to refine and to judge. Loads with `from_pretrained`."""

    def __init__(self, pool: ModelPool) -> None:
        self.pool = pool

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: Checkpoint,
        device: str = "auto",
        slots: int = 0,
        adaptation: AdaptationConfig | None = None,
        compiled: bool = False,
        numpy: bool = False,
    ) -> Refiner:
        """The arguments of `trm.inference.provider.ModelPool`."""
        return cls(ModelPool(checkpoint, device, slots, adaptation, compiled, numpy))

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        device: str = "auto",
        slots: int = 0,
        adaptation: AdaptationConfig | None = None,
        compiled: bool = False,
        tasks: Collection[str] | None = None,
        numpy: bool = False,
    ) -> Refiner:
        """From a checkpoint file, a folder or a hub id. Raises `trm.checkpoints.format.CheckpointError`.

        tasks: those that will be asked, so that the weights of others are not read. numpy: answer Sudokus and mazes
        in NumPy, on the CPU: the first Sudoku is answered two seconds earlier, for PyTorch is not loaded; many
        puzzles, and large ones, take longer.
        """
        return cls.from_checkpoint(load(source, tasks), device, slots, adaptation, compiled, numpy)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that `from_pretrained` reads, with a model card. Raises OSError; the folder must be new."""
        from trm.checkpoints import hub  # the hub's client: 0.3 s

        hub.save_pretrained(self.pool.checkpoint, Path(folder))

    def push_to_hub(
        self, repo: str, private: bool | None = None, token: str | None = None, message: str = ""
    ) -> str:
        """Upload the experts with a model card to a repository, which is made if there is none; its address.

        Raises `trm.checkpoints.format.CheckpointError` where the hub refuses.
        """
        from trm.checkpoints import hub  # as above

        return hub.push_to_hub(self.pool.checkpoint, repo, private, token, message)

    @property
    def name(self) -> str:
        """Where the weights came from, with their hash."""
        return self.pool.checkpoint.name

    @property
    def device(self) -> str:
        return self.pool.device

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that there is an expert for."""
        return self.pool.tasks

    def accepts_drafts(self, task: str) -> bool:
        """Whether the task's expert was trained on drafts. Raises PuzzleError where there is none."""
        return self.pool.accepts_drafts(task)

    @overload  # a list of text is a sequence of sequences as well
    def refine(  # type: ignore[overload-overlap]
        self,
        question: list[Question] | list[Puzzle] | list[str],
        draft: Sequence[GivenDraft | None] | None = None,
        task: str | None = None,
        cold: bool = True,
        steps: int = STEPS,
        restarts: int = 0,
        noise: float | None = None,
        seed: int = 0,
        budget: float | None = None,
        answers: int = 1,
        trace: bool = False,
        callbacks: Callbacks | None = None,
    ) -> list[Refinement]: ...
    @overload
    def refine(
        self,
        question: Question,
        draft: GivenDraft | None = None,
        task: str | None = None,
        cold: bool = True,
        steps: int = STEPS,
        restarts: int = 0,
        noise: float | None = None,
        seed: int = 0,
        budget: float | None = None,
        answers: int = 1,
        trace: bool = False,
        callbacks: Callbacks | None = None,
    ) -> Refinement: ...
    def refine(
        self,
        question: Question | list[Question] | list[Puzzle] | list[str],
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
        callbacks: Callbacks | None = None,
    ) -> Refinement | list[Refinement]:
        """Answer a question, from a cold start and from a draft of it where there is one.

        question: a string, an array of the task's symbols, rows of cells, an ARC task as a dictionary, a Path or a
        `Puzzle`; a list of them is a batch, and `draft` then a list too (None where there is no draft). draft: may be
        partial (blanks) or wrong; of several inputs a list of grids.
        task: the kind, where it cannot be told. cold: run a cold start beside the draft. steps: supervision steps
        of a rollout at most. restarts: extra rollouts for what the rules reject, with noise σ `noise` and under a
        random symmetry, cold and from the draft by turns. seed: of the restarts. budget: seconds a puzzle,
        adaptation and first rollout included. answers: distinct verified answers to look for. trace: keep the grid
        after every step.

        What verifies wins, else the most confident. Results do not depend on what else is in the batch.
        Raises PuzzleError for a draft of the wrong shape (both are named), or where the expert takes no drafts.
        """
        config = SearchConfig(
            steps=steps,
            restarts=restarts,
            noise=noise,
            seed=seed,
            budget_seconds=budget,
            answers=answers,
            trace=trace,
        )
        several = is_batch(question)
        questions = cast(list[Question], question) if several else [cast(Question, question)]
        given = draft if several and draft is not None else [draft] * len(questions)
        if not isinstance(given, list | tuple) or len(given) != len(questions):
            raise PuzzleError(f"{len(questions)} questions: expected a list of as many drafts, or None")
        drafts = cast("Sequence[GivenDraft | None]", given)
        puzzles = [as_puzzle(one, task) for one in questions]
        states = [self._state(puzzle, own, cold) for puzzle, own in zip(puzzles, drafts, strict=True)]
        refined = self.search(states, config, callbacks)
        return refined if several else refined[0]

    def search(
        self, states: Sequence[SolveState], config: SearchConfig, callbacks: Callbacks | None = None
    ) -> list[Refinement]:
        """Search for states that may have attempts already; their refinements, in order."""
        search = Search(self.pool, callbacks=callbacks, strict=True)
        refined = {
            id(state): self._refinement(search, state, config) for state in search.solve(states, config)
        }
        return [refined[id(state)] for state in states]

    def _state(self, puzzle: Puzzle, draft: GivenDraft | None, cold: bool) -> SolveState:
        if draft is None:
            return SolveState(puzzle)  # without a draft there is nothing but a cold start
        if not self.accepts_drafts(puzzle.task):
            raise PuzzleError(
                f"{self.name}: the {puzzle.task} expert was not trained on drafts, expected draft=None"
            )
        return SolveState(puzzle, cold, draft_starts=[as_draft(puzzle, draft)])

    def _refinement(self, search: Search, state: SolveState, config: SearchConfig) -> Refinement:
        found = search.select(state, config)
        assert found.grids is not None
        assert state.network is not None  # a strict search has run it
        return Refinement(
            task=state.puzzle.task,
            grids=found.grids,
            confidence=found.confidence or 0.0,
            verdict=found.verdict,
            source=found.source or SOURCE_COLD,
            steps=sum(attempt.steps for attempt in state.attempts),
            restarts=state.restarts,
            seconds=state.refine_seconds,
            traced=found.traced,
            candidates=[list(choice) for choice in found.candidates] or None,
            alternatives=tuple(grids[0] for grids in found.alternatives[: config.answers - 1]),
            attempts=tuple(state.attempts),
            calibration=state.network.calibration,
        )

    def score(
        self,
        question: Question,
        candidates: Iterable[GivenDraft],
        task: str | None = None,
        index: int | None = None,
    ) -> NDArray[np.float32]:
        """How likely the network finds each candidate: float32 [n] in [0, 1]. No rule is asked.

        The candidate is given as the draft; the score is the probability of its least likely free cell. A grid that
        the network would keep scores high, one in which it would change a cell low, one with an open cell or a
        changed given 0: it answers nothing. The network's own cold answer is not asked.
        A network that was adapted does not see the candidate: after a cold start the probability of its cells is
        averaged, geometrically, over them and over views. Of several grids the least likely counts.
        index: the candidates are of this input alone, one grid each.
        """
        puzzle = as_puzzle(question, task)
        if not self.pool.adapts(puzzle.task) and not self.accepts_drafts(puzzle.task):
            raise PuzzleError(
                f"{self.name}: the {puzzle.task} expert was not trained on drafts, so it cannot score"
            )
        if index is not None and not 0 <= index < len(puzzle.inputs):
            raise PuzzleError(f"index {index}: expected one of the puzzle's {len(puzzle.inputs)} inputs")
        scored = list(range(len(puzzle.inputs))) if index is None else [index]
        alone = replace(puzzle, inputs=tuple(puzzle.inputs[i] for i in scored), answers=None)
        grids = [as_draft(alone, candidate) for candidate in candidates]
        by_input: list[list[Grid]] = [[] for _ in puzzle.inputs]
        for n, i in enumerate(scored):
            by_input[i] = [one[n] for one in grids]
        # The network is the whole puzzle's, which may have been adapted to it already.
        log_p = self.pool.network(puzzle, fresh=False).log_likelihood(puzzle, by_input, STEPS)
        return np.asarray(np.exp(np.min([log_p[i] for i in scored], axis=0)), dtype=np.float32)
