"""Views of a whole task, as prompts: a turn, a colour permutation and an order of its demonstrations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hybrid.llm.grid.episodes import TURNS, Pair, View, choose_pairs, draw_colors, input_length, prompt
from hybrid.llm.grid.vocabulary import Tokens
from trm.grid import Grid


@dataclass(frozen=True)
class TaskView:
    """How a task is shown: `view` for its grids, which can be inverted, and `order` of its demonstrations."""

    view: View
    order: tuple[int, ...]


def draw_task_views(count: int, demonstrations: int, rng: np.random.Generator) -> list[TaskView]:
    """`count` views, whose turns go round; the first leaves turn and colours as they are."""
    views = []
    for number in range(count):
        view = View(number % TURNS, draw_colors(rng)) if number else View()
        views.append(TaskView(view, tuple(rng.permutation(demonstrations).tolist())))
    return views


def view_prompt(pairs: Sequence[Pair], question: Grid, shown: TaskView, room: int) -> tuple[Tokens, int]:
    """A test input after the demonstrations that fit into `room` tokens with it, and how many are left out."""
    chosen = choose_pairs(pairs, shown.order, room - input_length(question))
    return prompt(chosen, question, shown.view), len(pairs) - len(chosen)
