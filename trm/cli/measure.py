"""`trm bench`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from trm.cli.common import Device, app, errors_in_one_line, fail


@app.command(epilog="Example: trm bench train --config configs/sudoku.toml --json")
def bench(
    what: Annotated[str, typer.Argument(help="train or infer")],
    config: Annotated[
        Path | None, typer.Option(help="configs/NAME.toml; configs/tiny.toml if not given")
    ] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE")] = None,
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
) -> None:
    """Milliseconds a step, puzzles a second, and TFLOP/s as a share of this machine's measured peak."""
    if what not in ("train", "infer"):
        fail(f"bench {what!r}: expected train or infer")
    from trm.evaluation.bench import bench_infer, bench_train

    with errors_in_one_line():
        measure = bench_train if what == "train" else bench_infer
        result = {k: v for k, v in asdict(measure(config, overrides or [], device)).items() if v is not None}
    if as_json:
        print(json.dumps(result))
        return
    for key, value in result.items():
        print(f"{key:24} {value:.4g}" if isinstance(value, float) else f"{key:24} {value}")
