"""ARC's pairs on the device, against what NumPy says of the same grids."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from trm.checkpoints.format import load
from trm.config import ConfigError
from trm.data.generate import generate
from trm.data.pairs import LARGEST_SCALE, PairDataset, place, plain
from trm.data.stream import training_puzzles
from trm.evaluation.accuracy import evaluate_held_out
from trm.grid import PuzzleError
from trm.model.network import TURNS
from trm.tasks import IGNORE, Puzzle, Symmetry, get
from trm.training.config import load_config
from trm.training.trainer import Trainer

ARC = get("arc")
CPU = torch.device("cpu")
TASKS = list(generate("arc", 6, 0, demos=4, size=(3, 9)))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def placed(grid: np.ndarray, **changes: object) -> np.ndarray:
    canvas = torch.zeros(1, 30, 30, dtype=torch.int64)
    canvas[0, : grid.shape[0], : grid.shape[1]] = torch.from_numpy(grid)
    view = plain(1, CPU)._replace(**changes)  # type: ignore[arg-type]
    return place(canvas, torch.tensor([grid.shape]), view)[0].reshape(30, 30).numpy()


def test_a_plain_view_is_the_tasks_own_encoding() -> None:
    for puzzle in TASKS:
        for grid in (puzzle.grid, puzzle.demos[0][1]):
            assert (placed(grid).reshape(-1) == ARC.encode(grid)).all()
    whole = np.full((30, 30), 3, dtype=np.uint8)
    assert (placed(whole).reshape(-1) == ARC.encode(whole)).all()


@pytest.mark.parametrize("turn", range(TURNS))
def test_turns_are_those_of_symmetry(turn: int) -> None:
    grid = np.arange(12, dtype=np.uint8).reshape(3, 4) % 10
    h, w = np.arange(3), np.arange(4)
    rows, cols = h[::-1] if turn & 1 else h, w[::-1] if turn & 2 else w
    expected = Symmetry(rows, cols, bool(turn & 4), np.arange(256, dtype=np.uint8)).forward(grid)
    assert (placed(grid, turn=torch.tensor([turn])).reshape(-1) == ARC.encode(expected)).all()


def test_scaled_and_moved_grids_keep_their_ends() -> None:
    grid = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.uint8)
    big = np.kron(grid, np.ones((3, 3), dtype=np.uint8))
    made = placed(grid, scale=torch.tensor([3]), top=torch.tensor([5]), left=torch.tensor([7]))
    assert (made[5:, 7:] == ARC.encode(big).reshape(30, 30)[:25, :23]).all()
    assert not made[:5].any()
    assert not made[:, :7].any()


def test_what_is_drawn_is_the_task_under_its_turn_with_colours_exchanged() -> None:
    bank = PairDataset(ARC, TASKS, True, CPU)
    tokens, labels, context = bank.draw(300, generator())
    assert set((context // TURNS).tolist()) == set(range(len(TASKS)))
    assert set((context % TURNS).tolist()) == set(range(TURNS))
    scales = set()
    for question, answer, number in zip(tokens, labels, context, strict=True):
        puzzle = TASKS[int(number) // TURNS]
        seen = [
            np.where(side == IGNORE, 0, side).reshape(30, 30) for side in (question.numpy(), answer.numpy())
        ]
        found = [_crop(side) for side in seen]
        fitting = [
            scale
            for pair in puzzle.demos
            for scale in range(1, LARGEST_SCALE + 1)
            if _renamed([_turned(side, int(number) % TURNS, scale) for side in pair], found)
        ]
        scales.update(fitting)
        assert fitting
    assert scales == {1, 2, 3}


def _turned(grid: np.ndarray, turn: int, scale: int) -> np.ndarray:
    grid = np.kron(grid, np.ones((scale, scale), np.uint8))
    grid = grid[::-1] if turn & 1 else grid
    grid = grid[:, ::-1] if turn & 2 else grid
    return grid.T if turn & 4 else grid


def _renamed(pair: list[np.ndarray], seen: list[np.ndarray]) -> bool:
    """Whether exchanging colours makes one pair the other, the ground apart."""
    if any(a.shape != b.shape for a, b in zip(pair, seen, strict=True)):
        return False
    names = {
        (int(a), int(b))
        for g, s in zip(pair, seen, strict=True)
        for a, b in np.stack([g.ravel(), s.ravel()], 1)
    }
    one_to_one = len(names) == len({a for a, _ in names}) == len({b for _, b in names})
    return one_to_one and all(a == b for a, b in names if a == 0)


def _crop(canvas: np.ndarray) -> np.ndarray:
    rows, cols = np.nonzero(canvas > 1)
    assert (canvas[rows.min() : rows.max() + 1, cols.min() : cols.max() + 1] > 1).all()
    return canvas[rows.min() : rows.max() + 1, cols.min() : cols.max() + 1] - 2


def test_colours_that_only_outputs_have_stay_and_so_does_the_ground() -> None:
    grid = np.array([[0, 1], [2, 0]], dtype=np.uint8)
    puzzle = Puzzle("arc", (grid,), demos=((grid, np.where(grid == 1, 7, grid).astype(np.uint8)),))
    bank = PairDataset(ARC, [puzzle], True, CPU)
    assert bank.exchangeable[0].nonzero().flatten().tolist() == [1, 2]
    colours = bank.recoloured(bank.exchangeable.expand(200, -1), generator())
    assert (colours.sort(1).values == torch.arange(10)).all()
    fixed = [0, 3, 4, 5, 6, 7, 8, 9]
    assert (colours[:, fixed] == torch.tensor(fixed)).all()
    assert 60 < (colours[:, 1] == 2).sum() < 140


def test_tasks_with_many_pairs_come_more_often_where_asked() -> None:
    grid = np.array([[1, 2]], dtype=np.uint8)
    few, many = (Puzzle("arc", (grid,), demos=((grid, grid),) * count) for count in (1, 9))
    none = Puzzle("arc", (grid,), demos=((np.ones((30, 30), dtype=np.uint8), grid),))
    for balance, share in ((0.0, 0.5), (0.5, 0.75), (1.0, 0.9)):
        bank = PairDataset(ARC.on(20), [few, none, many], True, CPU, balance=balance)
        _, _, context = bank.draw(2000, generator())
        drawn = (context // TURNS).bincount(minlength=3) / 2000
        assert drawn[1] == 0
        assert drawn[2] == pytest.approx(share, abs=0.04)


def test_a_share_of_the_pairs_keep_their_colours() -> None:
    grid = np.array([[1, 2, 3, 4, 5, 6]], dtype=np.uint8)
    puzzle = Puzzle("arc", (grid,), demos=((grid, grid),))

    def kept(recolour: float) -> int:
        bank = PairDataset(ARC, [puzzle], True, CPU, recolour=recolour)
        colours = bank.recoloured(bank.exchangeable.expand(400, -1), generator())
        assert (colours.sort(1).values == torch.arange(10)).all()
        return int((colours == torch.arange(10)).all(1).sum())

    assert kept(0) == 400
    assert kept(1) < 10
    assert 250 < kept(0.25) < 350


def test_tasks_come_alike_often_however_many_pairs_they_have() -> None:
    few, many = (Puzzle("arc", p.inputs, demos=p.demos[:1] * n) for p, n in ((TASKS[0], 1), (TASKS[1], 50)))
    _, _, context = PairDataset(ARC, [few, many], False, CPU).draw(400, generator())
    assert 150 < (context // TURNS == 0).sum() < 250


TINY = [
    "model.hidden_size=32", "model.heads=2", "model.h_cycles=1", "model.l_cycles=1", "model.identity_dim=64",
    "train.batch=4", "train.seconds=0", "train.steps=6", "train.evaluate_every=0.5", "train.eval_steps=1",
    "train.max_steps=2", "train.pool=2", "data.held_out_size=3",
]  # fmt: skip


def arc_config(*more: str) -> tuple[object, list[Puzzle], list[Puzzle]]:
    config = load_config(
        Path(__file__).parents[3] / "configs" / "arc.toml",
        [*TINY, "data.generate=5", 'data.exclude=""', *more],
    )
    return config, *training_puzzles(config.data, 0)


def test_the_recipe_trains_and_holds_out_the_tests_of_its_own_tasks(tmp_path: Path) -> None:
    config, train, held_out = arc_config()
    assert [p.id for p in held_out] == [p.id for p in train[:3]]
    lines: list[str] = []
    trainer = Trainer(
        config, tmp_path, train, held_out, device="cpu", evaluate=evaluate_held_out, say=lines.append
    )  # type: ignore[arg-type]
    before = trainer.learner.model.embed.identities.clone()
    asked = {p.grid.tobytes() for p in train}
    learned = {before.tobytes() for p in train for before, _ in p.demos}
    assert not asked & learned
    assert len(trainer.learner.bank) == sum(len(p.demos) for p in train)
    assert trainer.contexts == {p.id: TURNS * i for i, p in enumerate(train)}
    trainer.run()
    changed = (trainer.learner.model.embed.identities != before).any(1).nonzero().flatten().tolist()
    assert changed
    assert set(changed) <= set(range(5))
    assert any("held out" in line for line in lines)


def test_tasks_that_are_new_start_from_the_mean_of_the_known_ones(tmp_path: Path) -> None:
    config, train, held_out = arc_config("model.identities=5")
    first = Trainer(
        config,
        tmp_path / "first",
        train,
        held_out,
        device="cpu",
        evaluate=evaluate_held_out,
        say=lambda line: None,
    )  # type: ignore[arg-type]
    first.open_folder()
    first.run()
    best = tmp_path / "first" / "checkpoints" / "best"
    known = load(best).experts["arc"].state["embed.identities"].float()
    config, train, held_out = arc_config("model.identities=7", "data.generate=7", f"train.init={best}")
    second = Trainer(config, tmp_path / "second", train, held_out, device="cpu", evaluate=evaluate_held_out)  # type: ignore[arg-type]
    rows = second.learner.model.embed.identities
    assert rows[:5].equal(known)
    assert torch.allclose(rows[5:], known.mean(0).expand(2, -1), atol=1e-6)


def test_what_does_not_fit_the_canvas_is_left_out() -> None:
    task = ARC.on(8)
    small, large = np.ones((8, 3), dtype=np.uint8), np.ones((3, 9), dtype=np.uint8)
    mixed = Puzzle("arc", (small,), demos=((small, small), (small, large), (large, small)))
    bank = PairDataset(task, [Puzzle("arc", (large,), demos=((large, large),)), mixed], True, CPU)
    assert len(bank) == 1
    tokens, _, context = bank.draw(20, generator())
    assert tokens.shape == (20, 64)
    assert set((context // TURNS).tolist()) == {1}  # the task without a pair is never drawn
    with pytest.raises(PuzzleError, match="no demonstration fits a canvas of 8x8"):
        PairDataset(task, [Puzzle("arc", (large,), demos=((large, large),))], True, CPU)


def test_tasks_are_replaced_in_place() -> None:
    bank = PairDataset(ARC, [TASKS[0]], False, CPU, capacity=9)
    held = bank.grids
    bank.replace([TASKS[1]])
    fresh = PairDataset(ARC, [TASKS[1]], False, CPU)
    assert bank.grids is held
    assert bank.exchangeable.equal(fresh.exchangeable)
    drawn, expected = bank.draw(50, generator()), fresh.draw(50, generator())
    assert all(a.equal(b) for a, b in zip(drawn, expected, strict=True))
    with pytest.raises(PuzzleError, match="2 tasks with 8 pairs, expected 1 with at most 9"):
        bank.replace(TASKS[:2])


def test_what_the_network_must_have_for_them_is_said(tmp_path: Path) -> None:
    config, train, held_out = arc_config("model.identities=4")
    with pytest.raises(ConfigError, match="identities 4, turns True: expected at least 5"):
        Trainer(config, tmp_path, train, held_out, device="cpu", evaluate=evaluate_held_out)  # type: ignore[arg-type]
    config, train, held_out = arc_config("data.stream=9")
    with pytest.raises(ConfigError, match="not for arc"):
        Trainer(config, tmp_path, train, held_out, device="cpu", evaluate=evaluate_held_out)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="held out"):
        arc_config("data.held_out=some.json")
    with pytest.raises(ConfigError, match="turns need identities"):
        load_config(Path(__file__).parents[3] / "configs" / "tiny.toml", ["model.turns=true"])
