"""Draw docs/solve.svg: a language model's draft of a hard Sudoku, what the network changes in it, and the answer.

    python docs/make_picture.py [OUT]

The draft is a recorded reply of Qwen2.5-Coder-0.5B-Instruct (eval/replies), so no language model is loaded. The
network runs on the CPU and answers the same each time.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

from rich.columns import Columns
from rich.console import Console, Group
from rich.text import Text

from hybrid.llm.base import Reply
from hybrid.llm.chat.prompts import read_draft
from hybrid.pipeline import Pipeline
from hybrid.render import drawing
from trm import Puzzle, Refiner
from trm.inference.config import SearchConfig
from trm.inference.proposals import Draft, Feedback
from trm.tasks import get

ROOT = Path(__file__).resolve().parent.parent
REPLIES = ROOT / "eval" / "replies" / "sudoku_samples_qwen.jsonl"
WIDTH = 98  # characters


class Recorded:
    """Proposes what a file of replies holds for a puzzle."""

    def __init__(self, file: Path) -> None:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        self.rows = {row["id"]: row for row in rows}
        self.name: str | None = rows[0]["llm"]

    def propose(
        self, puzzle: Puzzle, drafts: int = 1, feedback: Feedback | None = None, seed: int = 0
    ) -> list[Draft]:
        return [read_draft(puzzle, [Reply(**reply) for reply in self.rows[puzzle.id]["replies"]])]


def main(out: Path) -> None:
    refiner = Refiner.from_pretrained(ROOT / "ckpt" / "trm.pt", device="cpu")
    puzzle = get("sudoku").samples()[-1]
    (answer,) = Pipeline(Recorded(REPLIES), refiner).solve([puzzle], SearchConfig(restarts=8))
    picture = drawing(answer)
    assert isinstance(picture, Group)
    panels = picture.renderables[0]  # the lines below it hold seconds, which differ from run to run
    assert isinstance(panels, Columns)
    broken, model = len(answer.drafts[0].faults), (answer.llm or "").partition("@")[0]
    console = Console(
        record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(panels)
    console.print(Text(f"draft by {model}, as it comes: {broken} faults", style="dim"))
    console.print(
        Text(
            f"{answer.verdict.status} by the rules, confidence of the network {answer.confidence:.3f}",
            style="green",
        )
    )
    console.save_svg(str(out), title="hybrid solve --llm qwen --adapter none", unique_id="solve")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "solve.svg")
