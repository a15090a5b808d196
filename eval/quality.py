"""How good a draft must be, and how well the refiner judges one: tables of one expert, without a language model.

    python eval/quality.py ckpt/trm.pt --task sudoku --data test.csv --n 500 --out results/quality

Drafts (`eval/synthetic.py`) are labels with a share of the free cells wrong, at random or by one mistake throughout.
Each is refined alone, beside a cold start, and alone with the network's draft embedding set to zero: what is then
left is not the draft's. Judging: `Refiner.score` of the label against the label with one to four cells wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from eval.synthetic import corrupted, free_cells
from trm.checkpoints.format import CheckpointError
from trm.data.datasets import labelled
from trm.evaluation.statistics import auroc, wilson
from trm.grid import Grid, PuzzleError
from trm.inference.refiner import Refiner
from trm.progress import bar
from trm.tasks import Puzzle, Status

SHARES = (0, 10, 30, 50, 70, 90, 100)  # % of the free cells that are wrong
KINDS = ("random", "consistent")
NEAR = 4  # wrong cells at most in a nearly right grid
BINS = 10


def solved(
    refiner: Refiner, puzzles: Sequence[Puzzle], drafts: Sequence[Any] | None, steps: int
) -> np.ndarray:
    """Which puzzles verify in one rollout of at most `steps`, bool [n]: from drafts alone, or cold."""
    outs = refiner.refine(list(puzzles), draft=drafts and list(drafts), cold=drafts is None, steps=steps)
    return np.array([out.verdict.status is Status.VERIFIED for out in outs])


def draft_table(refiner: Refiner, puzzles: Sequence[Puzzle], steps: int, seed: int) -> list[dict[str, Any]]:
    """Rows of kind, share wrong (%), and puzzles solved alone, beside a cold start, and with the draft unread."""
    task = puzzles[0].task
    embedding = refiner.engine(task).model.embed.draft
    trained = embedding.detach().clone()
    cold = solved(refiner, puzzles, None, steps)
    rows = [{"kind": "none", "share": None, "n": len(puzzles), "cold": int(cold.sum())}]
    made = [(kind, share) for kind in KINDS for share in SHARES if share or kind == "random"]
    with bar("drafts", len(made)) as tick:
        for number, (kind, share) in enumerate(made, 1):
            name = "oracle" if kind == "random" else kind
            drafts = [corrupted(puzzle, share / 100, name, seed) for puzzle in puzzles]
            alone = solved(refiner, puzzles, drafts, steps)
            embedding.zero_()
            unread = solved(refiner, puzzles, drafts, steps)
            embedding.copy_(trained)
            rows.append(
                {
                    "kind": kind,
                    "share": share,
                    "n": len(puzzles),
                    "alone": int(alone.sum()),
                    # Rollouts do not know of each other: beside a cold start is either of the two.
                    "beside": int((alone | cold).sum()),
                    "unread": int(unread.sum()),
                }
            )
            tick(number)
    return rows


def free_symbols(puzzle: Puzzle) -> Grid:
    """What the label has in the free cells, each symbol once."""
    assert puzzle.answers is not None
    label = puzzle.answers[0]
    return np.unique(label[free_cells(puzzle.task, puzzle.grid, label)])


def nearly_right(puzzle: Puzzle, rng: np.random.Generator) -> Grid:
    """The label with 1 to NEAR of its free cells wrong."""
    assert puzzle.answers is not None
    label = puzzle.answers[0]
    free = free_cells(puzzle.task, puzzle.grid, label)
    symbols, grid = free_symbols(puzzle), label.copy()
    for row, col in rng.permutation(np.argwhere(free))[: rng.integers(1, NEAR + 1)]:
        grid[row, col] = rng.choice(symbols[symbols != label[row, col]])
    return grid


def judging(refiner: Refiner, puzzles: Sequence[Puzzle], seed: int) -> dict[str, Any]:
    """`Refiner.score` on right and nearly right grids: the area under its ROC curve, with a bootstrap interval."""
    rng = np.random.default_rng(seed)
    pairs = []
    with bar("judging", len(puzzles)) as tick:
        for number, puzzle in enumerate(puzzles, 1):
            assert puzzle.answers is not None
            pairs.append(refiner.score(puzzle, [puzzle.answers, nearly_right(puzzle, rng)]))
            tick(number)
    scores = np.array(pairs)

    def area(rows: np.ndarray) -> float:
        right, wrong = scores[rows].T
        return auroc(right, wrong)

    again = [area(rng.integers(len(scores), size=len(scores))) for _ in range(500)]
    low, high = np.quantile(again, [0.025, 0.975])
    return {"n": len(scores), "auc": area(np.arange(len(scores))), "ci95": [float(low), float(high)]}


def calibration(refiner: Refiner, puzzles: Sequence[Puzzle], steps: int) -> list[dict[str, Any]]:
    """Confidence of a cold rollout against how often the rules accept it, by tenths of confidence."""
    outs = refiner.refine(list(puzzles), steps=steps)
    right = np.array([out.verdict.status is Status.VERIFIED for out in outs])
    said = np.array([out.confidence for out in outs])
    tenth = np.minimum((said * BINS).astype(int), BINS - 1)
    return [
        {"n": int(mine.sum()), "confidence": float(said[mine].mean()), "solved": float(right[mine].mean())}
        for mine in (tenth == number for number in range(BINS))
        if mine.any()
    ]


def markdown(result: dict[str, Any]) -> str:
    """The tables, for people."""

    def share(row: dict[str, Any], name: str) -> str:
        low, high = wilson(row[name], row["n"])
        return f"{100 * row[name] / row['n']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"

    none, *rows = result["drafts"]
    lines = [
        f"{result['task']}, {none['n']} puzzles (seed {result['seed']}), at most {result['steps']} steps, "
        f"{result['refiner']}. Cold: {share(none, 'cold')} % solved.",
        "",
        "| free cells wrong, % | mistakes | draft alone | beside a cold start | draft embedding zeroed |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        figures = " | ".join(share(row, name) for name in ("alone", "beside", "unread"))
        lines.append(f"| {row['share']} | {row['kind']} | {figures} |")
    judged = result["judging"]
    low, high = judged["ci95"]
    lines += [
        "",
        f"Judging {judged['n']} right grids against as many with 1 to {NEAR} wrong cells: AUC {judged['auc']:.4f} "
        f"[{low:.4f}, {high:.4f}].",
        "",
        "| confidence | puzzles | solved, % |",
        "|---|---|---|",
    ]
    lines += [
        f"| {row['confidence']:.3f} | {row['n']} | {100 * row['solved']:.1f} |"
        for row in result["calibration"]
    ]
    return "\n".join(lines) + "\n"


def draw(result: dict[str, Any], out: Path) -> None:
    """The table and the calibration as a picture; a line in its place where there is nothing to draw with."""
    try:
        from matplotlib.figure import Figure
    except ImportError:  # the tables are the work, and are written
        print(f"quality: no {out.name} without matplotlib: pip install 'hybrid-trm[report]'", file=sys.stderr)
        return
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    none, *rows = result["drafts"]
    for kind, colour in zip(KINDS, ("#c2607a", "#3a7ca5"), strict=True):
        mine = [row for row in rows if row["kind"] == kind]
        shares = [row["share"] for row in mine]
        for name, style in (("alone", "-"), ("beside", "--"), ("unread", ":")):
            values = [100 * row[name] / row["n"] for row in mine]
            left.plot(shares, values, style, color=colour, marker=".", label=f"{kind}, {name}")
    left.axhline(100 * none["cold"] / none["n"], color="#888", linewidth=1, label="cold")
    left.set(
        ylim=(0, 102), xlabel="free cells wrong, %", ylabel="solved, %", title=f"{result['task']}: drafts"
    )
    left.legend(fontsize="small")
    rows = result["calibration"]
    right.plot([0, 1], [0, 100], color="#bbb", linestyle="--")
    sizes = [20 + 200 * row["n"] / none["n"] for row in rows]
    right.scatter(
        [r["confidence"] for r in rows], [100 * r["solved"] for r in rows], s=sizes, color="#c2607a"
    )
    right.set(xlim=(-0.02, 1.02), ylim=(-2, 102), xlabel="confidence of a cold start (area: puzzles)")
    right.set(ylabel="solved, %", title=f"{result['task']}: calibration")
    figure.savefig(out, dpi=120)


def measure(asked: argparse.Namespace) -> None:
    """Measure what the command line asks for. Raises PuzzleError, CheckpointError, OSError."""
    for name, least in (("n", 1), ("steps", 1), ("seed", 0)):
        if (value := getattr(asked, name)) < least:
            raise PuzzleError(f"--{name} {value}, expected at least {least}")
    puzzles = labelled(asked.data, asked.task)
    chosen = np.random.default_rng(asked.seed).permutation(len(puzzles))[: asked.n]
    drawn = [puzzles[i] for i in sorted(chosen.tolist())]
    for puzzle in drawn:
        if len(free_symbols(puzzle)) < 2:
            raise PuzzleError(f"{puzzle.id}: the label has no two symbols in its free cells to be wrong with")
    refiner = Refiner.from_pretrained(asked.checkpoint, asked.device)
    refiner.engine(asked.task)  # says where there is none
    if not refiner.accepts_drafts(asked.task):
        raise PuzzleError(f"{asked.checkpoint}: the {asked.task} expert was not trained on drafts")
    asked.out.mkdir(parents=True, exist_ok=True)
    result = {
        "task": asked.task,
        "refiner": refiner.name,
        "seed": asked.seed,
        "steps": asked.steps,
        "drafts": draft_table(refiner, drawn, asked.steps, asked.seed),
        "judging": judging(refiner, drawn, asked.seed),
        "calibration": calibration(refiner, drawn, asked.steps),
    }
    (asked.out / "quality.json").write_text(json.dumps(result, indent=1) + "\n")
    (asked.out / "quality.md").write_text(markdown(result))
    print(markdown(result))
    draw(result, asked.out / "quality.png")


def main() -> int:
    parser = argparse.ArgumentParser(
        description="How good a draft must be, and how well the refiner judges one."
    )
    parser.add_argument("checkpoint")
    parser.add_argument("--task", required=True, choices=("sudoku", "maze"))
    parser.add_argument("--data", required=True, help="file of puzzles with answers, or hub:ID")
    parser.add_argument("--n", type=int, default=500, help="puzzles, drawn with the seed")
    parser.add_argument("--steps", type=int, default=16, help="supervision steps of a rollout at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, required=True, help="folder for quality.{json,md,png}")
    asked = parser.parse_args()
    try:
        measure(asked)
    except (PuzzleError, CheckpointError) as error:
        print(f"quality: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"quality: {error.filename or asked.out}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("quality: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
