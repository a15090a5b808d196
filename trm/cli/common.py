"""What the commands share: the application, errors as one line, options."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, NoReturn

import typer

import trm
from trm.checkpoints import CheckpointError
from trm.config import ConfigError
from trm.device import DeviceError
from trm.grid import PuzzleError

app = typer.Typer(
    name="trm",
    help="Tiny Recursive Models: train, evaluate, convert and measure small recursive reasoners.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[SECTION.KEY=VALUE]…")]


def fail(error: Exception | str, code: int = 2) -> NoReturn:
    """Print one line on standard error and exit with a code."""
    print(f"trm: {error}", file=sys.stderr)
    raise typer.Exit(code)


@contextmanager
def errors_in_one_line(interrupted: str = "interrupted", checkpoint_code: int = 3) -> Iterator[None]:
    """Exit with one line and 2 for bad input, `checkpoint_code` for a bad checkpoint, 130 for Ctrl-C."""
    try:
        yield
    except CheckpointError as error:
        fail(error, checkpoint_code)
    except (ConfigError, DeviceError, PuzzleError) as error:
        fail(error)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else error)
    except KeyboardInterrupt:
        fail(interrupted, 130)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"trm {trm.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    pass
