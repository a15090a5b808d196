"""How good a draft must be, and how well the refiner judges one: tables of one expert, without a language model.

    python eval/quality.py ckpt/trm.pt --task sudoku --data test.csv --n 500 --out results/quality

Drafts (`eval/synthetic.py`) are labels with a share of the free cells wrong, at random or by the same mistake
throughout. Each is refined alone, beside a cold start, and alone with the network's draft embedding set to zero: what
is then left does not come from the draft. Judging: `Refiner.score` of the label against the label with one to four
cells wrong.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from eval.report.plots import by_tenths, draw_calibration
from eval.synthetic import corrupt, label_symbols
from trm import streams
from trm.checkpoints.format import CheckpointError
from trm.data.datasets import drawn, labelled
from trm.device import DeviceError
from trm.evaluation.statistics import auroc, wilson
from trm.grid import Grid, Grids, PuzzleError
from trm.inference.refiner import Refinement, Refiner
from trm.progress import bar
from trm.tasks import Puzzle, Status, get

SHARES = (0, 10, 30, 50, 70, 90, 100)  # % of the free cells that are wrong
KINDS = {"random": "oracle", "consistent": "consistent"}  # of mistakes: the names of `eval.synthetic`
MOST_WRONG = 4  # cells of a nearly right grid
RESAMPLES = 500  # of the bootstrap

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def verified(refinements: Sequence[Refinement]) -> NDArray[np.bool_]:
    """Which answers the rules accept [n]."""
    return np.array([out.verdict.status is Status.VERIFIED for out in refinements])


def solved_from(
    refiner: Refiner, puzzles: Sequence[Puzzle], drafts: Sequence[Grids | None], steps: int
) -> NDArray[np.bool_]:
    """Which puzzles [n] verify in one rollout of at most `steps` that starts from their draft."""
    return verified(refiner.refine(list(puzzles), draft=list(drafts), cold=False, steps=steps))


def draft_table(
    refiner: Refiner, puzzles: Sequence[Puzzle], cold: NDArray[np.bool_], steps: int, seed: int
) -> list[dict[str, Any]]:
    """Rows of kind, share wrong (%), and puzzles solved alone, beside a cold start, and with the draft unread."""
    embedding = refiner.pool.torch_network(puzzles[0].task).embed.draft
    trained = embedding.detach().clone()
    pairs = [(kind, share) for kind in KINDS for share in SHARES if share or kind == "random"]
    rows = []
    with bar("drafts", len(pairs)) as tick:
        for number, (kind, share) in enumerate(pairs, 1):
            drafts = [corrupt(puzzle, share / 100, KINDS[kind], seed) for puzzle in puzzles]
            alone = solved_from(refiner, puzzles, drafts, steps)
            embedding.zero_()
            unread = solved_from(refiner, puzzles, drafts, steps)
            embedding.copy_(trained)
            # Rollouts do not depend on each other: beside a cold start is either of the two.
            counts = {"alone": alone.sum(), "beside": (alone | cold).sum(), "unread": unread.sum()}
            rows.append(
                {"kind": kind, "share": share, **{name: int(count) for name, count in counts.items()}}
            )
            tick(number)
    return rows


def nearly_right(puzzle: Puzzle, rng: np.random.Generator) -> Grid:
    """The label with 1 to MOST_WRONG of its free cells wrong."""
    assert puzzle.answers is not None
    task, label = get(puzzle.task), puzzle.answers[0]
    symbols, grid = label_symbols(task, puzzle.grid, label), label.copy()
    free = np.argwhere(task.free_cells(puzzle.grid, label))
    for row, col in rng.permutation(free)[: rng.integers(1, MOST_WRONG + 1)]:
        grid[row, col] = rng.choice(symbols[symbols != label[row, col]])
    return grid


def judging(refiner: Refiner, puzzles: Sequence[Puzzle], seed: int) -> dict[str, Any]:
    """`Refiner.score` on right and nearly right grids: the area under its ROC curve, with a bootstrap interval."""
    rng = np.random.default_rng(seed)
    pairs = []
    with bar("judging", len(puzzles)) as tick:
        for number, puzzle in enumerate(puzzles, 1):
            pairs.append(refiner.score(puzzle, [puzzle.answers or (), nearly_right(puzzle, rng)]))
            tick(number)
    scores = np.array(pairs)
    samples = [scores[rng.integers(len(scores), size=len(scores))] for _ in range(RESAMPLES)]
    low, high = np.quantile([auroc(*sample.T) for sample in samples], [0.025, 0.975])
    return {"n": len(scores), "auc": auroc(*scores.T), "ci95": [float(low), float(high)]}


def markdown(result: dict[str, Any]) -> str:
    """The tables, for people."""
    n, judged = result["n"], result["judging"]

    def share(hits: int) -> str:
        low, high = wilson(hits, n)
        return f"{100 * hits / n:.1f} [{100 * low:.1f}, {100 * high:.1f}]"

    lines = [
        f"{result['task']}, {n} puzzles (seed {result['seed']}), at most {result['steps']} steps, "
        f"{result['refiner']}. Cold: {share(result['cold'])} % solved.",
        "",
        "| free cells wrong, % | mistakes | draft alone | beside a cold start | draft embedding zeroed |",
        "|---|---|---|---|---|",
        *(
            f"| {row['share']} | {row['kind']} | {share(row['alone'])} | {share(row['beside'])} | "
            f"{share(row['unread'])} |"
            for row in result["drafts"]
        ),
        "",
        f"Judging {judged['n']} right grids against as many with 1 to {MOST_WRONG} wrong cells: AUC "
        f"{judged['auc']:.4f} [{judged['ci95'][0]:.4f}, {judged['ci95'][1]:.4f}].",
        "",
        "| confidence | puzzles | solved, % |",
        "|---|---|---|",
        *(f"| {mean:.3f} | {some} | {100 * right:.1f} |" for some, mean, right in result["calibration"]),
    ]
    return "\n".join(lines) + "\n"


def draw(result: dict[str, Any], confidence: Sequence[float], solved: Sequence[bool], out: Path) -> None:
    """The tables as a picture; a line on standard error where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure  # of the `report` extra, without which there are still tables
    except ImportError:
        print(f"quality: no {out.name} without matplotlib: pip install 'hybrid-trm[report]'", file=sys.stderr)
        return
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for kind, colour in zip(KINDS, ("#c2607a", "#3a7ca5"), strict=True):
        rows = [row for row in result["drafts"] if row["kind"] == kind]
        for name, style in (("alone", "-"), ("beside", "--"), ("unread", ":")):
            values = [100 * row[name] / result["n"] for row in rows]
            label = f"{kind}, {name}"
            left.plot([row["share"] for row in rows], values, style, color=colour, marker=".", label=label)
    left.axhline(100 * result["cold"] / result["n"], color="#888", linewidth=1, label="cold")
    left.set(
        ylim=(0, 102), xlabel="free cells wrong, %", ylabel="solved, %", title=f"{result['task']}: drafts"
    )
    left.legend(fontsize="small")
    draw_calibration(right, confidence, solved)
    right.set_title(f"{result['task']}: calibration of a cold pass")
    figure.savefig(out, dpi=120)


def measure(
    checkpoint: str, task: str, data: str, n: int, steps: int, seed: int, device: str, out: Path
) -> None:
    """Write quality.json, quality.md and quality.png. Raises PuzzleError, CheckpointError, DeviceError, OSError."""
    puzzles = labelled(data, task)
    puzzles = [puzzles[i] for i in drawn(n, len(puzzles), seed)]
    for puzzle in puzzles:
        if len(label_symbols(get(task), puzzle.grid, (puzzle.answers or ())[0])) < 2:
            raise PuzzleError(f"{puzzle.id}: the label has no two symbols in its free cells to be wrong with")
    refiner = Refiner.from_pretrained(checkpoint, device)
    if not refiner.accepts_drafts(task):
        raise PuzzleError(f"{checkpoint}: the {task} expert was not trained on drafts")
    out.mkdir(parents=True, exist_ok=True)
    outs = refiner.refine(puzzles, steps=steps)
    cold, confidence = verified(outs), [one.confidence for one in outs]
    result = {
        "task": task,
        "refiner": refiner.name,
        "seed": seed,
        "steps": steps,
        "n": len(puzzles),
        "cold": int(cold.sum()),
        "drafts": draft_table(refiner, puzzles, cold, steps, seed),
        "judging": judging(refiner, puzzles, seed),
        "calibration": by_tenths(confidence, cold.tolist()),
    }
    (out / "quality.json").write_text(json.dumps(result, indent=1) + "\n")
    (out / "quality.md").write_text(markdown(result))
    print(markdown(result))
    draw(result, confidence, cold.tolist(), out / "quality.png")


@app.command()
def main(
    checkpoint: str,
    task: Annotated[str, typer.Option(help="a task with rules")],
    data: Annotated[str, typer.Option(help="file of puzzles with answers, or hub:ID")],
    out: Annotated[Path, typer.Option(help="folder for quality.{json,md,png}")],
    n: Annotated[int, typer.Option(min=1, help="puzzles, drawn with the seed")] = 500,
    steps: Annotated[int, typer.Option(min=1, help="supervision steps of a rollout at most")] = 16,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: str = "auto",
) -> None:
    """How good a draft must be, and how well the refiner judges one."""
    try:
        measure(checkpoint, task, data, n, steps, seed, device, out)
    except (PuzzleError, CheckpointError, DeviceError) as error:
        print(f"quality: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    except OSError as error:
        print(f"quality: {error.filename or out}: {error.strerror or error}", file=sys.stderr)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        print("quality: interrupted", file=sys.stderr)
        raise typer.Exit(130) from None


if __name__ == "__main__":
    streams.run("quality", app)
