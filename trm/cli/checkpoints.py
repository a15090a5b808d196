"""`trm convert` and `trm pack`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from trm.cli.common import app, errors_in_one_line, fail


@app.command(epilog="Example: trm convert step_65100 converted/ --task sudoku")
def convert(
    upstream: Annotated[Path, typer.Argument(help="checkpoint of the reference implementation")],
    out: Annotated[Path, typer.Argument(help="folder to write")],
    task: Annotated[str, typer.Option(help="sudoku, maze or arc")],
    config: Annotated[
        Path | None, typer.Option(help="JSON file with keys of the reference implementation")
    ] = None,
) -> None:
    """Turn reference weights into a folder that `TRM.from_pretrained` and `--refiner` accept."""
    from trm.checkpoints.format import save_folder
    from trm.checkpoints.reference import convert as convert_weights
    from trm.files import replacing

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        fail(f"{out} exists and is not an empty folder")
    with errors_in_one_line(checkpoint_code=2):
        try:
            overrides = json.loads(config.read_text()) if config is not None else {}
        except ValueError as error:  # not JSON, or not text
            fail(f"{config}: {error}")
        if not isinstance(overrides, dict):
            fail(f"{config}: expected a JSON object")
        expert = convert_weights(upstream, task, overrides)
        with replacing(out) as temporary:
            save_folder(temporary, expert)
    shape = expert.config
    print(f"{out}: {shape.mixer}, {shape.layers} layers of width {shape.hidden_size}, {shape.seq_len} cells")


@app.command(epilog="Example: trm pack ckpt/trm.pt runs/sudoku/checkpoints/best runs/maze/checkpoints/best")
def pack(
    out: Annotated[Path, typer.Argument(help="file to write")],
    checkpoints: Annotated[list[str], typer.Argument(help="files, folders or hub ids")],
    cycles: Annotated[int, typer.Option(help="h_cycles of the packed experts; 0: as in training", min=0)] = 0,
) -> None:
    """Gather the experts of several checkpoints in one file. On duplicate tasks the last checkpoint wins.

    Experts that OUT holds for other tasks are kept.
    """
    from trm.checkpoints.format import pack as pack_experts

    with errors_in_one_line():
        experts = pack_experts(out, checkpoints, cycles)
    print(f"{out}: {', '.join(sorted(experts))} ({out.stat().st_size / 1e6:.1f} MB)")
