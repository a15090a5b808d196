"""`python -m hybrid.llm.tuning CONFIG [section.key=value …] [--resume DIR]`"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from trm.config import ConfigError


def main(arguments: list[str] | None = None) -> int:
    """Train; exit 2 with one line on standard error where the configuration, data or base model is unusable."""
    parser = argparse.ArgumentParser(
        prog="hybrid tune", description="Train a language model on the grid vocabulary."
    )
    parser.add_argument("config", nargs="?", type=Path, help="TOML file; not needed with --resume")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value")
    parser.add_argument(
        "--resume", type=Path, metavar="DIR", help="run folder to go on with, as configured there"
    )
    given = parser.parse_args(arguments)
    overrides = list(given.overrides)
    if given.config is not None and given.resume and "=" in str(given.config):
        overrides.insert(0, str(given.config))
        given.config = None
    if given.config is None and given.resume is None:
        parser.error("expected CONFIG or --resume DIR")
    from hybrid.llm.grid.base_weights import GridModelError
    from hybrid.llm.grid.vocabulary import VocabularyError
    from hybrid.llm.tuning.config import load_config
    from hybrid.llm.tuning.trainer import Tuner

    try:
        if given.resume:
            config = load_config(given.resume / "config.json", [*overrides, f"train.out={given.resume}"])
        else:
            config = load_config(given.config, overrides)
        Tuner(config, resume=given.resume is not None).run()
    except (ConfigError, GridModelError, VocabularyError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
