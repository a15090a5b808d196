"""Training puzzles on the device: drawn, moved by a random symmetry, given a draft, without a host in between."""

from __future__ import annotations

from collections.abc import Sequence
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
    draft: Tensor  # [B, L] int64, 0 where nothing is said
    context: Tensor  # [B] int64: which of the network's identities; 0 where it has none


class Drawn(NamedTuple):
    tokens: Tensor  # [B, L] int64
    labels: Tensor  # [B, L] int64, IGNORE where nothing is scored
    context: Tensor  # [B] int64


REVEALED = 0.3


class Bank:
    """All training puzzles as tensors, and the task's symmetries as tables (see `SymmetryGroup`).

    capacity: places for puzzles, at least as many as there are (0: just as many). Until others replace them,
    those that there are fill the rest again. reveal: the share of puzzles of which further cells are given, REVEALED
    of the free ones at most.
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
        self.width = task.width
        # What a cell of an answer can be: what random and wrong cells are drawn from.
        fills = sorted({symbol for symbols in task.fills.values() for symbol in symbols})
        stated = torch.unique(labels) if not fills else torch.tensor(task.tokens(fills), device=device)
        self.answer_tokens = stated[stated != IGNORE]
        # Which tokens of a question stand for cells that an answer may change.
        self.changeable = torch.full((task.vocab_size,), not fills, device=device)
        self.changeable[task.tokens(task.fills)] = True
        if reveal and not torch.isin(self.answer_tokens, self.tokens).all():
            raise PuzzleError(
                f"{task.name}: no question may hold what its answers are made of, so none is given"
            )
        group = task.symmetries((task.height, task.width))
        self.augment = augment and task.labels_equivariant
        self.transpose = group.transpose
        self.rows = torch.from_numpy(group.rows).to(device)  # [R, H]
        self.cols = torch.from_numpy(group.cols).to(device)  # [C, W]
        self.renamed = torch.tensor(task.tokens(group.symbols), dtype=torch.int64, device=device)
        self.vocab_size = task.vocab_size

    def _encoded(self, puzzles: Sequence[Puzzle]) -> tuple[Tensor, Tensor]:
        pairs = [(p, i) for p in puzzles for i in range(len(p.inputs))]
        tokens = np.stack([self.task.encode_question(p, i) for p, i in pairs])
        labels = np.stack([self.task.encode_label(p, i) for p, i in pairs])
        return torch.from_numpy(tokens).to(self.device), torch.from_numpy(labels).to(self.device)

    def replace(self, puzzles: Sequence[Puzzle]) -> None:
        """New puzzles in the place of the oldest; the tensors stay where a captured graph reads them."""
        if not puzzles:
            return
        tokens, labels = self._encoded(puzzles[-len(self) :])
        rows = (self.oldest + torch.arange(len(tokens), device=self.device)) % len(self)
        self.tokens[rows], self.labels[rows] = tokens, labels
        self.oldest = (self.oldest + len(tokens)) % len(self)

    def __len__(self) -> int:
        return len(self.tokens)

    def draw(self, batch: int, generator: torch.Generator) -> Drawn:
        """`batch` puzzles, each under its own symmetry."""
        index = torch.randint(len(self), (batch,), generator=generator, device=self.device)
        tokens, labels, context = self.tokens[index], self.labels[index], torch.zeros_like(index)
        if self.augment:
            cells, names = self.draw_symmetries(batch, generator)
            tokens, labels = tokens.gather(1, cells), labels.gather(1, cells)
            named = names.gather(1, labels.clamp(min=0))
            tokens, labels = names.gather(1, tokens), torch.where(labels == IGNORE, labels, named)
        if self.reveal:
            tokens = self._revealed(tokens, labels, generator)
        return Drawn(tokens, labels, context)

    def _revealed(self, tokens: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Questions [B, L], some with further cells given: no two copies of a puzzle give the same ones."""
        chance, of_all = torch.rand(2, len(tokens), 1, generator=generator, device=self.device)
        chance = torch.where(of_all < self.reveal, REVEALED * chance, 0)
        given = torch.rand(tokens.shape, generator=generator, device=self.device) < chance
        return torch.where(given & (labels != IGNORE) & self.changeable[tokens], labels, tokens)

    def draw_symmetries(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Where each cell comes from [B, L] and what each token becomes [B, V]."""
        device = self.device
        row = self.rows[torch.randint(len(self.rows), (batch,), generator=generator, device=device)]
        col = self.cols[torch.randint(len(self.cols), (batch,), generator=generator, device=device)]
        cells = row[:, :, None] * self.width + col[:, None, :]
        if self.transpose:
            turn = torch.rand(batch, 1, 1, generator=generator, device=device) < 0.5
            cells = torch.where(turn, cells.mT, cells)
        names = torch.arange(self.vocab_size, device=device).expand(batch, -1).clone()
        if len(self.renamed):
            order = torch.rand(batch, len(self.renamed), generator=generator, device=device).argsort(1)
            names[:, self.renamed] = self.renamed[order]
        return cells.reshape(batch, -1), names

    def random_answers(self, like: Tensor, generator: torch.Generator) -> Tensor:
        """Uniformly random answer tokens, shaped like `like` [B, L]."""
        pick = torch.randint(len(self.answer_tokens), like.shape, generator=generator, device=self.device)
        return self.answer_tokens[pick]

    def given_drafts(self, tokens: Tensor, labels: Tensor, rate: float, generator: torch.Generator) -> Tensor:
        """Drafts [B, L] to start from: for a share `rate` of the puzzles the answer, corrupted; else 0.

        How much is known and how much of it is wrong is drawn for each puzzle: half of the drafts are complete,
        a quarter has only a few wrong cells (what a verifier must see), a quarter makes one *consistent*
        mistake (what an LLM or a stuck network does): two symbols exchanged throughout where symbols are alike,
        else right up to some cell and another puzzle's answer after it. The rest is wrong in a random share of
        cells. Givens are never corrupted.
        """
        batch = len(tokens)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, device=self.device)

        free = (labels != IGNORE) & self.changeable[tokens]
        known = torch.where(uniform(batch, 1) < 0.5, 1.0, uniform(batch, 1))
        kind = uniform(batch, 1)
        few = torch.randint(0, 5, (batch, 1), generator=generator, device=self.device) / free.sum(
            1, True
        ).clamp(min=1)
        wrong = torch.where(kind < 0.25, few, uniform(batch, 1))
        draft = torch.where(uniform(*tokens.shape) < wrong, self.random_answers(labels, generator), labels)
        if len(self.renamed):
            swap = self.random_answers(labels[:, :2], generator)
            first, second = swap[:, :1], swap[:, 1:]
            mistaken = torch.where(labels == first, second, torch.where(labels == second, first, labels))
        else:
            other = labels.roll(1, 0)
            other = torch.where(torch.isin(other, self.answer_tokens), other, tokens)
            length = labels.shape[1]
            right = torch.arange(length, device=self.device) < uniform(batch, 1) * length
            mistaken = torch.where(right, labels, other)
        draft = torch.where(kind > 0.75, mistaken, draft)
        draft = torch.where(free & (uniform(*tokens.shape) < known), draft, torch.where(free, 0, tokens))
        given = uniform(batch, 1) < rate
        return torch.where(given & (labels != IGNORE), draft, 0)

    def noisy(self, draft: Tensor, batch: Batch, config: DraftConfig, generator: torch.Generator) -> Tensor:
        """A share of the fed-back grids with some free cells random: the network must not trust them. [B, L]"""
        chosen = torch.rand(len(draft), 1, generator=generator, device=self.device) < config.noise_rate
        cell = torch.rand(draft.shape, generator=generator, device=self.device) < config.noise_cells
        free = (batch.labels != IGNORE) & self.changeable[batch.tokens]
        stated = free & (draft != 0)
        return torch.where(chosen & cell & stated, self.random_answers(draft, generator), draft)
