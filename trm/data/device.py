"""Training puzzles on the device: they are drawn, transformed and given drafts there, without the host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from trm.data.config import DraftConfig
from trm.grid import PuzzleError
from trm.tasks import Puzzle, Task
from trm.tasks.base import IGNORE


class Batch(NamedTuple):
    tokens: Tensor  # [B, L] int64
    labels: Tensor  # [B, L] int64, IGNORE where nothing is scored
    draft: Tensor  # [B, L] int64, 0 where the draft is blank
    context: Tensor  # [B] int64: index of the puzzle's task embedding; 0 where the network has none


class Drawn(NamedTuple):  # as in Batch
    tokens: Tensor
    labels: Tensor
    context: Tensor


MOST_REVEALED = 0.3  # share of the free cells of a puzzle that may be given too


class Share(NamedTuple):
    """Random numbers for some of a batch's rows. They are drawn for the whole batch, and the other rows left out.

    So processes whose generators have the same seed draw the same batch, each its own part of it.
    """

    generator: torch.Generator
    batch: int
    rows: slice | Tensor  # places in the batch, all processes'

    @property
    def device(self) -> torch.device:
        return self.generator.device


Source = torch.Generator | Share  # a generator's own numbers are those of a whole batch


def _drawn(
    source: Source, shape: tuple[int, ...], dim: int, draw: Callable[[Sequence[int], torch.Generator], Tensor]
) -> Tensor:
    if isinstance(source, torch.Generator):
        return draw(shape, source)
    whole = draw((*shape[:dim], source.batch, *shape[dim + 1 :]), source.generator)
    return whole[(slice(None),) * dim + (source.rows,)]


def uniform(source: Source, *shape: int, dim: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Random numbers from 0 to 1 on the source's device. dim: which one counts the rows of the batch."""
    return _drawn(
        source, shape, dim, lambda size, g: torch.rand(size, generator=g, device=g.device, dtype=dtype)
    )


def below(source: Source, most: int, *shape: int) -> Tensor:
    """Random whole numbers from 0 to most - 1 on the source's device; the first dimension counts the rows."""
    return _drawn(source, shape, 0, lambda size, g: torch.randint(most, size, generator=g, device=g.device))


class DeviceDataset:
    """All training puzzles as tensors, and the task's symmetries as tables (see `SymmetryGroup`).

    capacity: places for puzzles (0: one for each). Places that are left over repeat the puzzles.
    reveal: the share of puzzles of which further cells are given, at most MOST_REVEALED of the free ones.
    """

    def __init__(
        self,
        task: Task,
        puzzles: Sequence[Puzzle],
        augment: bool,
        device: torch.device,
        capacity: int = 0,
        reveal: float = 0.0,
    ) -> None:
        self.task, self.device, self.reveal = task, device, reveal
        tokens, labels = self._encoded(puzzles)
        rows = torch.arange(max(capacity, len(tokens)), device=device) % len(tokens)
        self.tokens, self.labels = tokens[rows], labels[rows]
        self.oldest = len(tokens) % len(self.tokens)
        # The tokens that a free cell of an answer can have: random and wrong cells are drawn from them.
        fills = sorted({symbol for symbols in task.fills.values() for symbol in symbols})
        possible = torch.tensor(task.tokens(fills), device=device) if fills else torch.unique(labels)
        self.answer_tokens = possible[possible != IGNORE]
        # Which tokens of a question stand for cells that an answer may change.
        self.changeable = torch.full((task.vocab_size,), not fills, device=device)
        self.changeable[task.tokens(task.fills)] = True
        if reveal and not torch.isin(self.answer_tokens, self.tokens).all():
            raise PuzzleError(f"{task.name}: no question holds the symbols of its answers, expected reveal 0")
        group = task.symmetries((task.height, task.width))
        self.augment, self.transpose = augment and task.labels_equivariant, group.transpose
        # Row orders [R, H] and column orders [C, W].
        self.rows, self.cols = (torch.from_numpy(orders).to(device) for orders in (group.rows, group.cols))
        self.renamed = torch.tensor(task.tokens(group.symbols), dtype=torch.int64, device=device)

    def _encoded(self, puzzles: Sequence[Puzzle]) -> tuple[Tensor, Tensor]:
        pairs = [(p, i) for p in puzzles for i in range(len(p.inputs))]
        tokens = np.stack([self.task.encode_question(*pair) for pair in pairs])
        labels = np.stack([self.task.encode_label(*pair) for pair in pairs])
        return torch.from_numpy(tokens).to(self.device), torch.from_numpy(labels).to(self.device)

    def replace(self, puzzles: Sequence[Puzzle]) -> None:
        """Put new puzzles in the place of the oldest, in the same tensors: a captured graph reads them."""
        if not puzzles:
            return
        tokens, labels = self._encoded(puzzles[-len(self) :])
        rows = (self.oldest + torch.arange(len(tokens), device=self.device)) % len(self)
        self.tokens[rows], self.labels[rows] = tokens, labels
        self.oldest = (self.oldest + len(tokens)) % len(self)

    def __len__(self) -> int:
        return len(self.tokens)

    def draw(self, batch: int, generator: Source) -> Drawn:
        """`batch` random puzzles, each under its own random symmetry."""
        index = below(generator, len(self), batch)
        tokens, labels, context = self.tokens[index], self.labels[index], torch.zeros_like(index)
        if self.augment:
            cells, renaming = self.draw_symmetries(batch, generator)
            tokens, labels = tokens.gather(1, cells), labels.gather(1, cells)
            renamed = renaming.gather(1, labels.clamp(min=0))
            tokens, labels = renaming.gather(1, tokens), torch.where(labels == IGNORE, labels, renamed)
        if self.reveal:
            tokens = self._revealed(tokens, labels, generator)
        return Drawn(tokens, labels, context)

    def _revealed(self, tokens: Tensor, labels: Tensor, generator: Source) -> Tensor:
        """Questions [B, L], some with further cells given, drawn anew for each copy of a puzzle."""
        chance, of_all = uniform(generator, 2, len(tokens), 1, dim=1)
        chance = torch.where(of_all < self.reveal, MOST_REVEALED * chance, 0)
        given = uniform(generator, *tokens.shape) < chance
        return torch.where(given & (labels != IGNORE) & self.changeable[tokens], labels, tokens)

    def draw_symmetries(self, batch: int, generator: Source) -> tuple[Tensor, Tensor]:
        """Where each cell comes from [B, L] and what each token becomes [B, V]."""
        row, col = (orders[below(generator, len(orders), batch)] for orders in (self.rows, self.cols))
        cells = row[:, :, None] * self.task.width + col[:, None, :]
        if self.transpose:
            cells = torch.where(uniform(generator, batch, 1, 1) < 0.5, cells.mT, cells)
        renaming = torch.arange(self.task.vocab_size, device=self.device).expand(batch, -1).clone()
        if len(self.renamed):
            order = uniform(generator, batch, len(self.renamed)).argsort(1)
            renaming[:, self.renamed] = self.renamed[order]
        return cells.reshape(batch, -1), renaming

    def random_answers(self, like: Tensor, generator: Source) -> Tensor:
        """Uniformly random answer tokens, shaped like `like` [B, L]."""
        return self.answer_tokens[below(generator, len(self.answer_tokens), *like.shape)]

    def given_drafts(self, tokens: Tensor, labels: Tensor, rate: float, generator: Source) -> Tensor:
        """Drafts [B, L] to start from: for a share `rate` of the puzzles the answer, corrupted; else 0.

        The shares of known and of wrong cells are drawn for each puzzle. Half of the drafts are complete. A quarter
        has only a few wrong cells, as a verifier must notice them. A quarter has a *consistent* mistake, as an LLM or
        a stuck network makes it: two symbols are exchanged throughout. If symbols cannot be exchanged, the draft is
        instead right up to some cell and continues with another puzzle's answer. The others are wrong in a random
        share of their cells. Givens are never corrupted.
        """
        shape, each = tokens.shape, (len(tokens), 1)  # of all cells, and a number for each puzzle
        free = (labels != IGNORE) & self.changeable[tokens]
        known = torch.where(uniform(generator, *each) < 0.5, 1.0, uniform(generator, *each))
        kind = uniform(generator, *each)
        few = below(generator, 5, *each) / free.sum(1, True).clamp(min=1)
        wrong = torch.where(kind < 0.25, few, uniform(generator, *each))
        draft = torch.where(
            uniform(generator, *shape) < wrong, self.random_answers(labels, generator), labels
        )
        if len(self.renamed):
            first, second = self.random_answers(labels[:, :2], generator).T[:, :, None]
            mistaken = torch.where(labels == first, second, torch.where(labels == second, first, labels))
        else:
            other = labels.roll(1, 0)
            other = torch.where(torch.isin(other, self.answer_tokens), other, tokens)
            end = uniform(generator, *each) * shape[1]
            mistaken = torch.where(torch.arange(shape[1], device=self.device) < end, labels, other)
        draft = torch.where(kind > 0.75, mistaken, draft)
        draft = torch.where(free & (uniform(generator, *shape) < known), draft, torch.where(free, 0, tokens))
        return torch.where((uniform(generator, *each) < rate) & (labels != IGNORE), draft, 0)

    def noisy(self, draft: Tensor, batch: Batch, config: DraftConfig, generator: Source) -> Tensor:
        """The fed-back grids [B, L], a share of them with random free cells: the network must not trust them."""
        chosen = uniform(generator, len(draft), 1) < config.noise_rate
        cell = uniform(generator, *draft.shape) < config.noise_cells
        filled = (batch.labels != IGNORE) & self.changeable[batch.tokens] & (draft != 0)
        return torch.where(chosen & cell & filled, self.random_answers(draft, generator), draft)
