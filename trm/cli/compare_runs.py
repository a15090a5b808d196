"""`trm ablate` and `trm curves`: several training runs side by side."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from trm.cli.common import Device, Overrides, app, errors_in_one_line, fail


@app.command(epilog="Example: trm ablate configs/sudoku_quick.toml configs/literature.toml --only base,hrm")
def ablate(
    recipe: Annotated[Path, typer.Argument(help="configs/NAME.toml: what all rows have in common")],
    rows: Annotated[Path, typer.Argument(help="TOML file: ROW = ['section.key=value', …]")],
    overrides: Overrides = None,
    only: Annotated[str, typer.Option(metavar="ROW,ROW", help="only these rows")] = "",
    out: Annotated[
        Path | None, typer.Option(help="folder for the rows' run folders; runs/ROWS if not given")
    ] = None,
    device: Device = "auto",
) -> None:
    """Train variants of a recipe one after the other and print their table. Rows that have ended are kept."""
    from trm.evaluation.ablate import format_table, read_rows, select, train_rows

    with errors_in_one_line("interrupted; the same command continues where it stopped"):
        chosen = select(read_rows(recipe, rows, overrides or [], out or Path("runs") / rows.stem), only)
        failed = train_rows(chosen, recipe, device, lambda line: print(line, file=sys.stderr, flush=True))
        print("\n".join(format_table(chosen)))
    if failed:
        fail(f"failed: {', '.join(failed)}", 1)


@app.command(epilog="Example: trm curves runs/sudoku runs/trm_paper_sudoku --out curves.png")
def curves(
    runs: Annotated[list[Path], typer.Argument(help="run folders, or their metrics.jsonl")],
    out: Annotated[Path, typer.Option(help=".png, .svg or .pdf file")],
) -> None:
    """Draw held-out accuracy and loss of training runs over minutes, and print the figures as a table."""
    from trm.config import ConfigError
    from trm.evaluation.curves import draw, names_of, points
    from trm.training.run_folder import read_metrics

    with errors_in_one_line():
        read_runs = list(zip(names_of(runs), map(read_metrics, runs), strict=True))
        if out.is_dir():
            raise ConfigError(f"{out}: is a folder, expected a .png, .svg or .pdf file")
        draw(read_runs, out)
    print("run                  step  minutes  held out, % exact")
    for name, lines in read_runs:
        for point in points(lines):
            interval = f"[{point.low:.1f}, {point.high:.1f}]"
            print(f"{name:18} {point.step:6d} {point.minutes:8.1f}  {point.percent:5.1f} {interval}")
