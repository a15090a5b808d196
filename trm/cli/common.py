"""What the commands share: the application, errors as one line, options."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

import trm
from trm.checkpoints import CheckpointError
from trm.config import ConfigError
from trm.device import DeviceError
from trm.grid import PuzzleError
from trm.text import message_line


def fail(error: object, code: int = 2) -> NoReturn:
    """Print one line on standard error and exit with a code."""
    print(f"trm: {message_line(error)}", file=sys.stderr)
    raise typer.Exit(code)


class _Commands(TyperGroup):
    """Ends with one line and 2 for bad input, 3 for a bad checkpoint, 130 for Ctrl-C."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CheckpointError as error:
            fail(error, 2 if ctx.invoked_subcommand == "convert" else 3)  # it is given a file to read
        except (ConfigError, DeviceError, PuzzleError) as error:
            fail(error)
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            fail(f"{where}{error.strerror or error}")
        except KeyboardInterrupt as error:
            fail(str(error) or "interrupted", 130)


app = typer.Typer(
    name="trm",
    cls=_Commands,
    help="Tiny Recursive Models: train, evaluate, convert and measure small recursive reasoners.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps")]
Json = Annotated[bool, typer.Option("--json", help="one JSON object")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[SECTION.KEY=VALUE]…")]
Recipe = Annotated[Path, typer.Argument(help="configs/NAME.toml")]
Task = Annotated[str, typer.Option(help="sudoku, maze, arc, or a task of an installed package")]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"trm {trm.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    pass
