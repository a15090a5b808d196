"""Networks and training runs small enough for a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from trm.checkpoints.format import Expert
from trm.config import from_dict
from trm.data.stream import training_puzzles
from trm.model.config import TRMConfig
from trm.model.network import TRM
from trm.training.config import Config
from trm.training.trainer import Trainer

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "configs"
GOLDEN = ROOT / "tests" / "golden"
# The other files name language models, variants of a recipe, recipes of a proposer, or need a file of puzzles.
RECIPES = sorted(
    path
    for path in CONFIGS.glob("*.toml")
    if not path.stem.startswith(("grid", "llms", "literature", "tune"))
)

SUDOKU = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"

SMALL = TRMConfig(
    seq_len=81, vocab_size=11, canvas_width=9, hidden_size=32, heads=2, prefix=2, h_cycles=2, l_cycles=2,
    positions="rowcolbox", qk_norm=True, gated_norm=True, draft=True, feedback=True,
)  # fmt: skip


def network(config: TRMConfig = SMALL, halt_bias: float = -5.0) -> TRM:
    """A network with random halt and draft weights, scaled down so that rounding is not amplified."""
    torch.manual_seed(1)
    model = TRM(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("net."):
                parameter.mul_(0.6)
        model.halt.weight.normal_(std=0.5)
        model.halt.bias.fill_(halt_bias)
        if config.draft:
            model.embed.draft.normal_(std=0.05)
    return model


def expert(**meta: Any) -> Expert:
    """An expert for Sudokus, with the weights of `network`."""
    made = network()
    return Expert("sudoku", made.config, made.state_dict(), meta)


def settings(**changes: Any) -> Config:
    """A run of six steps; `train__batch=8` sets [train] batch."""
    raw: dict[str, dict[str, Any]] = {
        "model": {
            "seq_len": 81, "vocab_size": 11, "canvas_width": 9, "hidden_size": 32, "heads": 2, "prefix": 1,
            "positions": "rowcolbox", "h_cycles": 1, "l_cycles": 1, "draft": True, "feedback": True,
        },
        "data": {"task": "sudoku", "generate": 40, "held_out_size": 8, "options": {"clues": (60, 70)}},
        "draft": {"start_rate": 0.3},
        "train": {"steps": 6, "batch": 8, "max_steps": 3, "pool": 2, "evaluate_every": 1.0, "eval_steps": 2},
    }  # fmt: skip
    for name, value in changes.items():
        section, _, key = name.partition("__")
        raw.setdefault(section, {})[key] = value
    return from_dict(Config, raw)


def trainer(folder: Path, config: Config) -> Trainer:
    """A trainer on the CPU that says nothing; its run folder is there."""
    from trm.evaluation.accuracy import evaluate_held_out  # a layer above training

    puzzles, held_out = training_puzzles(config.data, config.train.seed)
    made = Trainer(
        config, folder, puzzles, held_out, "cpu", say=lambda line: None, evaluate=evaluate_held_out
    )
    made.open_folder()
    return made


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in trainer.learner.model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(a[name].equal(b[name]) for name in a)
