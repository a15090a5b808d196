"""What `hybrid tune` does, apart from its words."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from hybrid.llm.tuning.config import load_config
from hybrid.llm.tuning.merging import merge
from hybrid.llm.tuning.trainer import Tuner
from trm.config import ConfigError
from trm.files import only_writer


def tune(source: Path | None, overrides: Sequence[str], resume: Path | None, out: Path | None) -> str:
    """Train, merge or both; says what came of it.

    Args:
        source: a TOML file; a run folder or an adapter, where it is only merged; None with `resume`.
        resume: a run folder to go on with, as configured there.
        out: where the plain model goes, None for none.

    Raises:
        ConfigError, GridModelError: for what cannot be used.
        BackendError: where a model is missing.
    """
    if source is not None and source.is_dir():
        if out is None:
            raise ConfigError(f"{source}: a folder, expected a TOML file, or --merge OUT")
        return f"merged into {merge(source, out, overrides)}"
    if resume is not None:
        config = load_config(resume / "config.json", [*overrides, f"train.out={resume}"])
    elif source is not None:
        config = load_config(source, overrides)
        if (Path(config.train.out) / "metrics.jsonl").exists():
            raise ConfigError(
                f"{config.train.out} already holds a run: --resume {config.train.out} continues it, "
                "train.out=DIR names another folder"
            )
    else:
        raise ConfigError("expected CONFIG or --resume DIR")
    folder = Path(config.train.out)
    # Under `accelerate launch` one process alone writes.
    first = os.environ.get("RANK", "0") == "0"
    with only_writer(folder, "hybrid tune") if first else nullcontext():
        tuner = Tuner(config, resume=resume is not None)
        scores = tuner.run()
    done = f"{scores.line()}; {folder / 'checkpoints'}" if scores.sets else f"{folder / 'checkpoints'}"
    if out is not None and tuner.accelerator.is_main_process:
        done += f"; merged into {merge(folder, out)}"
    return done if tuner.accelerator.is_main_process else ""
