"""Drafts of puzzles by a language model with an adapter: a proposer for the search.

Sudokus and mazes are filled in, their givens fed. ARC tasks are asked under several views, whose grids are counted
and scored; on a GPU the model is trained on the demonstrations first.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from hybrid.llm.base import BackendError, Reply
from hybrid.llm.chat.grid_text import write_cells, write_grid
from hybrid.llm.grid.base_weights import GridModelError
from hybrid.llm.grid.candidates import GridModel
from hybrid.llm.grid.demonstrations import DemonstrationSolver, TaskCandidates
from hybrid.llm.grid.episodes import (
    MAZE_SYMBOLS,
    maze_cells,
    maze_grid,
    puzzle_prompt,
    sudoku_cells,
)
from hybrid.llm.grid.filling import Blanks, fill
from hybrid.llm.grid.shipped import Adapter, AdapterError
from hybrid.llm.grid.vocabulary import WORDS
from hybrid.llm.store.identity import DIGITS, resolved_name
from trm.device import GRAPH_CAPTURE_LOCK, DeviceError, resolve_device
from trm.grid import Grid
from trm.inference.engine import has_bf16
from trm.inference.proposals import Draft, Feedback
from trm.tasks import Puzzle, get

Replies = tuple[Reply, ...]  # one for each input of a puzzle
_FREE = MAZE_SYMBOLS.index(" ")


class GridProposer:
    """A proposer that drafts with a tuned language model.

    name: model, arithmetic and adapter, for records. parameters: how many weights it has. note: a line for people,
    where the adapter was trained on other weights. budget_seconds: of a puzzle, of which fitting takes a share.
    fits: whether the model is also trained on each ARC task's demonstrations, where it was loaded so.
    on_token: called with the number of tokens that are written. on_fitting: with the steps taken and of all.
    """

    def __init__(
        self,
        model: GridModel,
        name: str,
        note: str | None = None,
        budget_seconds: float | None = None,
        *,
        fits: bool = True,
    ) -> None:
        self.model, self.note = model, note
        self._solver = DemonstrationSolver(model, fits, budget_seconds)
        self._lock = threading.Lock()
        self.name: str | None = f"{name}, fitted" if self.fits else name
        self._plain_name = name
        self.device = model.decoder.device.type
        self.parameters = sum(weight.numel() for weight in model.decoder.model.parameters())
        self.on_token: Callable[[int], None] = lambda tokens: None
        self.on_fitting: Callable[[int, int], None] = lambda done, total: None
        self._solver.on_fitting = lambda done, total: self.on_fitting(done, total)
        model.decoder.on_token = lambda tokens: self.on_token(tokens)

    @property
    def fits(self) -> bool:
        """Whether the model is fitted to each task with demonstrations."""
        return self._solver.fits

    def compile_fits(self) -> None:
        """Compile what fits the model to ARC tasks: worth its minute or two for many of them. Raises ValueError."""
        fitter = self.model.fitter
        if fitter is None or not self.fits:
            raise ValueError(f"{self._plain_name} is fitted to nothing on {self.device}")
        fitter.compile()

    def frozen(self) -> GridProposer:
        """The same model as a proposer that is fitted to nothing."""
        return GridProposer(self.model, self._plain_name, self.note, fits=False)

    @classmethod
    def load(
        cls, base: Path, adapter: Adapter, device: str = "auto", budget_seconds: float | None = None
    ) -> GridProposer:
        """From a base model's folder. Raises AdapterError where the two do not belong together, and BackendError."""
        try:
            place = resolve_device(device, automatic=("cuda", "mps"))
        except DeviceError as error:
            raise BackendError(str(error)) from error
        bf16 = place != "cpu" or has_bf16(place)
        dtype = torch.bfloat16 if bf16 else torch.float32
        try:
            model = GridModel.load(
                base, adapter.folder, place, dtype=dtype, fitted=place.startswith("cuda"), kept=True
            )
        except GridModelError as error:
            raise AdapterError(str(error)) from error
        note = None
        if model.base_sha256 != adapter.base_sha256:
            note = (
                f"adapter {adapter.folder}: trained on weights {adapter.base_sha256[:DIGITS]} of {adapter.base}, "
                f"{base.name} has {model.base_sha256[:DIGITS]}: drafts may be worse"
            )
        name = f"{resolved_name(base, 'bf16' if bf16 else 'fp32')} + {adapter.name}"
        return cls(model, name, note, budget_seconds)

    def propose(
        self, puzzle: Puzzle, drafts: int = 1, feedback: Feedback | None = None, seed: int = 0
    ) -> list[Draft]:
        """`drafts` drafts, the likeliest first. ARC may have fewer: as many as there are candidates.

        Raises BackendError where memory runs out. Feedback is not understood: the drafts are the same.
        """
        return self._drafts([puzzle], drafts, seed)[0]

    def propose_many(self, puzzles: Sequence[Puzzle], seed: int = 0) -> list[Draft]:
        """One draft for each puzzle; Sudokus and mazes are filled in together."""
        return [drafts[0] for drafts in self._drafts(puzzles, 1, seed)]

    def stop(self) -> None:
        """Nothing is drafted in another thread."""

    def replies(
        self, puzzle: Puzzle, drafts: int = 1, feedback: Feedback | None = None, seed: int = 0
    ) -> list[Replies]:
        """The drafts as a chat model would write them, for records that every proposer shares."""
        return self.replies_to([puzzle], drafts, feedback, seed)[0]

    def replies_to(
        self,
        puzzles: Sequence[Puzzle],
        drafts: int = 1,
        feedback: Feedback | None = None,
        seed: int = 0,
        concurrency: int = 1,
        done: Callable[[Puzzle, list[Replies]], None] = lambda puzzle, replies: None,
    ) -> list[list[Replies]]:
        """As `replies`, for many puzzles, with exactly `drafts` for each: those that there are not are errors.

        done: called with each puzzle and its replies as soon as all of them are there.
        """
        every = []
        for first in range(0, len(puzzles), self.model.decoder.most_rows):
            some = puzzles[first : first + self.model.decoder.most_rows]
            for puzzle, drafted in zip(some, self._drafts(some, drafts, seed), strict=True):
                missing = [Draft(None, error="no further candidate")] * (drafts - len(drafted))
                every.append([_replies(puzzle, draft) for draft in [*drafted, *missing]])
                done(puzzle, every[-1])
        return every

    def _drafts(self, puzzles: Sequence[Puzzle], drafts: int, seed: int) -> list[list[Draft]]:
        result: list[list[Draft]] = [[] for _ in puzzles]
        try:
            with self._alone():
                for kind in ("sudoku", "maze"):
                    numbers = [number for number, puzzle in enumerate(puzzles) if puzzle.task == kind]
                    filled = self._fill([puzzles[number] for number in numbers], drafts, seed)
                    for number, some in zip(numbers, filled, strict=True):
                        result[number] = some
                for number, puzzle in enumerate(puzzles):
                    if get(puzzle.task).has_demonstrations:
                        found = self._solver.candidates(puzzle, seed)
                        result[number] = _from_candidates(puzzle, found, drafts)
                    elif not result[number]:
                        result[number] = [
                            Draft(
                                None, error=f"the adapter has not learned puzzles of the kind {puzzle.task}"
                            )
                        ]
        except torch.OutOfMemoryError as error:
            raise BackendError(f"{self.name}: out of memory, expected more or --adapter none") from error
        return result

    def _alone(self) -> AbstractContextManager[object]:
        """One draft at a time: they share the decoder's caches, and a GPU with those who capture graphs."""
        return GRAPH_CAPTURE_LOCK if self.device != "cpu" else self._lock

    # -- puzzles with rules ------------------------------------------------------------------------------
    def _fill(self, puzzles: Sequence[Puzzle], drafts: int, seed: int) -> list[list[Draft]]:
        begun = time.perf_counter()
        blanks = [
            _blanks(puzzle, (seed, draft, puzzle.checksum) if draft else None)
            for puzzle in puzzles
            for draft in range(drafts)
        ]
        answers = fill(self.model.decoder, blanks, on_tokens=self.on_token) if blanks else []
        seconds = (time.perf_counter() - begun) / max(1, len(blanks))
        filled = []
        for number, (asked, cells) in enumerate(zip(blanks, answers, strict=True)):
            puzzle = puzzles[number // drafts]
            grid = maze_grid(cells) if puzzle.task == "maze" else cells.astype(np.uint8)
            assert grid is not None  # no other cells were allowed
            chosen = int((asked.choices.sum(-1) > 1).sum())
            read = len(asked.prompt) + cells.size + len(cells) - chosen
            filled.append(_draft(puzzle, (grid,), chosen, seconds, read))
        return [filled[first : first + drafts] for first in range(0, len(filled), drafts)]

    # -- ARC ---------------------------------------------------------------------------------------------
    def score(self, puzzle: Puzzle, index: int, grids: Sequence[Grid], seed: int = 0) -> list[float] | None:
        """The mean log-probability of each grid as an ARC task's answer, by the weights that drafted."""
        if not get(puzzle.task).has_demonstrations:
            return None
        with self._alone():
            return self._solver.score(puzzle, index, grids, seed)

    def mend(self, puzzle: Puzzle, index: int, grids: Sequence[Grid], seed: int = 0) -> list[Grid]:
        """What an ARC task's grids, the first of them, become where the model prefers other cells; on a GPU."""
        if not get(puzzle.task).has_demonstrations:
            return []
        with self._alone():
            return self._solver.mend(puzzle, index, grids, seed)

    def with_more_views(self, puzzle: Puzzle, seconds: float, seed: int = 0) -> Draft:
        """An ARC task's draft after as many further views as fit into so many seconds."""
        with self._alone():
            found = self._solver.with_more_views(puzzle, seconds, seed)
        return _from_candidates(puzzle, found, 1)[0]


def _blanks(puzzle: Puzzle, seed: tuple[int, ...] | None) -> Blanks:
    """A Sudoku or maze as cells to fill in, with the symbols that the task allows in each."""
    maze = puzzle.task == "maze"
    cells = (maze_cells if maze else sudoku_cells)(puzzle.grid)
    listed = get(puzzle.task).choices(puzzle)
    assert listed is not None  # the shape of both tasks' answers is known
    choices = np.zeros((*puzzle.grid.shape, len(WORDS)), bool)
    for row, symbols in enumerate(listed):
        for column, allowed in enumerate(symbols):
            tokens = [MAZE_SYMBOLS.index(chr(symbol)) for symbol in allowed] if maze else list(allowed)
            choices[row, column, tokens] = True
    return Blanks(puzzle_prompt(cells), choices, _FREE if maze else None, seed)


def _from_candidates(puzzle: Puzzle, found: TaskCandidates, drafts: int) -> list[Draft]:
    """The best candidates of every input, the second best, and so on: at most `drafts`, and as many as there are."""
    if not all(found.proposed):
        return [Draft(None, error="no grid came to its end", seconds=found.seconds)]
    count = min(drafts, max(map(len, found.proposed)))
    grids = [
        tuple(choice[min(rank, len(choice) - 1)].grid for choice in found.proposed) for rank in range(count)
    ]
    # What all of them cost together stands in the first one.
    first = _draft(puzzle, grids[0], found.tokens, found.seconds, found.prompt_tokens)
    return [
        replace(first, candidates=found.proposed),
        *(_draft(puzzle, some, 0, 0.0, 0) for some in grids[1:]),
    ]


def _draft(puzzle: Puzzle, grids: tuple[Grid, ...], tokens: int, seconds: float, prompt_tokens: int) -> Draft:
    return Draft(grids, get(puzzle.task).text(grids), None, tokens, seconds, prompt_tokens)


def _replies(puzzle: Puzzle, draft: Draft) -> Replies:
    inputs = len(puzzle.inputs)
    shares = (draft.tokens // inputs, draft.seconds / inputs)
    if draft.grids is None:
        return (Reply("", 0, 0.0, draft.error),) * inputs
    named = draft.candidates or ((),) * inputs
    return tuple(
        Reply(
            write_grid(grid, get(puzzle.task)),
            *shares,
            prompt_tokens=draft.prompt_tokens // inputs,
            candidates=[(write_cells(c.grid), c.share, c.score) for c in some],
        )
        for grid, some in zip(draft.grids, named, strict=True)
    )
