"""`hybrid serve`: its options. What it does is in `hybrid.serve`, whose libraries are an extra, and heavy."""

from __future__ import annotations

from typing import Annotated

import typer

from hybrid.cli_common import fail

app = typer.Typer()


@app.command(
    epilog="Examples: hybrid serve; hybrid serve --llm smollm2 --llm qwen; "
    "HYBRID_TOKEN=… hybrid serve --host 0.0.0.0"
)
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; beyond this machine a token is needed")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one")] = 8000,
    llm: Annotated[
        list[str] | None,
        typer.Option(
            "--llm", metavar="NAME", help="As of hybrid solve; several may be named (default: qwen)"
        ),
    ] = None,
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            "--adapter",
            metavar="NAME",
            help="As of hybrid solve; each LLM is loaded with each (default: auto)",
        ),
    ] = None,
    refiner: Annotated[
        list[str] | None,
        typer.Option(
            "--refiner", metavar="NAME", help="Checkpoint; several may be named (default: ckpt/trm.pt)"
        ),
    ] = None,
    token: Annotated[
        str, typer.Option(metavar="VARIABLE", help="Environment variable that holds the token")
    ] = "HYBRID_TOKEN",
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Another name under which clients reach the server"),
    ] = None,
    queue: Annotated[
        int, typer.Option(min=1, help="Puzzles that may wait or run; more are told to come back")
    ] = 256,
    limit: Annotated[float, typer.Option(min=1, help="Seconds of a puzzle, waiting included")] = 300.0,
    device: Annotated[str, typer.Option(metavar="auto|cpu|cuda|mps", help="Where networks run")] = "auto",
) -> None:
    """Serve a page on which one watches puzzles being solved, and an HTTP API. Listens on this machine alone."""
    try:
        from hybrid.llm.grid.shipped import AdapterError
        from hybrid.serve import command
        from hybrid.solving import MissingError
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "uvicorn", "prometheus_client", "starlette"):
            raise
        fail(f"serve needs {error.name}: pip install 'hybrid-trm[serve]'", 3)
    options = command.Options(
        host,
        port,
        llm or ("qwen",),
        adapter or ("auto",),
        refiner or ("ckpt/trm.pt",),
        token,
        allow_host or (),
        queue,
        limit,
        device,
    )
    try:
        command.run(options)
    except (command.ServeError, AdapterError) as error:
        fail(error)
    except MissingError as error:
        fail(error, 3)
