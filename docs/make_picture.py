"""Draw docs/solve.svg: a language model's draft of a hard Sudoku, what the network changes in it, and the answer.

    python docs/make_picture.py [OUT]

The draft is a recorded reply of Qwen2.5-Coder-0.5B-Instruct (eval/replies), so no language model is loaded. The
network runs on the CPU in float32 and answers the same each time.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

from rich.columns import Columns
from rich.console import Console, Group
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from eval.recorded import Recorded
from hybrid.pipeline import Pipeline
from hybrid.render import drawing
from trm import Refiner
from trm.inference.config import SearchConfig
from trm.tasks import get

WIDTH = 104  # characters


def main(out: Path) -> None:
    proposer = Recorded(None)
    proposer.read(ROOT / "eval" / "replies" / "sudoku_samples_qwen.jsonl")
    refiner = Refiner.from_pretrained(ROOT / "ckpt" / "trm.pt", device="cpu")
    (answer,) = Pipeline(proposer, refiner).solve([get("sudoku").samples()[-1]], SearchConfig(restarts=8))
    picture = drawing(answer)
    assert isinstance(picture, Group)
    panels = picture.renderables[0]  # the lines below it hold seconds, which differ from run to run
    assert isinstance(panels, Columns)
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text("$ hybrid solve --llm qwen", style="bold"))
    console.print(panels)
    broken = len(answer.drafts[0].faults)
    console.print(Text(f"draft by {answer.llm}: {broken} rules broken", style="dim"))
    console.print(Text(f"{answer.verdict.status} by the rules, confidence {answer.confidence:.3f}", style="green"))
    console.save_svg(str(out), title="hybrid-trm", unique_id="solve")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "solve.svg")
