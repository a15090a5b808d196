"""The `hybrid` command. Heavy libraries are imported when a command needs them, not before."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from hybrid import cli_scores, cli_serve, inputs
from hybrid.cli_common import Goal, Start, TaskName, fail, importing, task_named
from hybrid.submission import SubmissionFile
from trm import __version__, streams
from trm.grid import PuzzleError
from trm.inference.config import SearchConfig
from trm.tasks.own_grid import lacks_symbols
from trm.text import message_line

MOST_SEED = 2**63 - 1  # what the generators of PyTorch and of servers take
DEVICES = ("auto", "cpu", "cuda", "mps")

app = typer.Typer(
    name="hybrid",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(cli_scores.app)
app.add_typer(cli_serve.app)

Puzzles = Annotated[
    list[str] | None, typer.Argument(metavar="[PUZZLE]…", help="File, inline puzzle, or - for standard input")
]
LLMName = Annotated[
    str,
    typer.Option(
        "--llm",
        metavar="NAME",
        help="qwen, smollm2, hub id, folder, .gguf file, http(s)://host/v1\\[#model], or none",
    ),
]
AdapterName = Annotated[
    str,
    typer.Option(
        "--adapter",
        metavar="NAME",
        help="What the LLM has learned: auto (what ships for it), a folder or hub id, or none",
    ),
]
RefinerName = Annotated[
    str, typer.Option("--refiner", metavar="NAME", help="Checkpoint file, folder or hub id, or none")
]
Drafts = Annotated[int, typer.Option("--drafts", min=1, help="LLM drafts a puzzle")]
Rounds = Annotated[int, typer.Option("--rounds", min=0, help="Re-asks with the rule violations named")]
Steps = Annotated[int, typer.Option("--steps", min=1, help="Supervision steps")]
Restarts = Annotated[int, typer.Option("--restarts", min=0, help="Extra rollouts while not verified")]
Budget = Annotated[
    float | None, typer.Option("--budget", min=0.0, help="Seconds a puzzle, from its draft to its answer")
]
Answers = Annotated[int, typer.Option("--answers", min=1, help="Up to so many distinct verified answers")]
Seed = Annotated[int, typer.Option("--seed", min=0, max=MOST_SEED, help="Of everything random")]
Device = Annotated[str, typer.Option("--device", metavar="auto|cpu|cuda|mps", help="Where networks run")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a puzzle")]
Out = Annotated[
    Path | None,
    typer.Option("-o", "--out", metavar="FILE", help="A new file to write, answer by answer"),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue -o FILE: what it holds is not done again")]
Trace = Annotated[bool, typer.Option("--trace", help="Show the grid after every supervision step")]

OVERVIEW = """A small language model drafts, a Tiny Recursive Model refines, exact rules verify.

\b
Examples:
  hybrid solve                 (one bundled sample of each kind)
  hybrid solve puzzles.csv --json -o answers.jsonl
  hybrid solve --llm none --answers 3 maze.txt
  hybrid solve --llm http://localhost:8000/v1 --rounds 2 task.json
  hybrid draft --llm smollm2 puzzles.txt
  hybrid tune configs/tune.toml
  hybrid check puzzle.txt answer.txt

\b
Exit: 0  every puzzle verified (ARC: answered)
      1  some unsolved
      2  bad input or usage
      3  something is missing, so that nothing can answer
"""


def _version(wanted: bool) -> None:
    if wanted:
        print(f"hybrid {__version__}")
        raise typer.Exit


@app.callback(help=OVERVIEW)
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave")
    ] = False,
) -> None:
    pass


@app.command(
    epilog="Examples: hybrid solve; hybrid solve sudokus.csv --json; hybrid solve --llm none - < mazes.txt"
)
def solve(
    puzzles: Puzzles = None,
    task: TaskName = "auto",
    llm: LLMName = "qwen",
    adapter: AdapterName = "auto",
    refiner: RefinerName = "ckpt/trm.pt",
    drafts: Drafts = 1,
    rounds: Rounds = 0,
    steps: Steps = 16,
    restarts: Restarts = 8,
    budget: Budget = None,
    answers: Answers = 1,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    out: Out = None,
    resume: Resume = False,
    trace: Trace = False,
    start: Start = None,
    goal: Goal = None,
    submission: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write ARC's answers in Kaggle's form, too")
    ] = None,
) -> None:
    """Answer puzzles: the LLM drafts, the network refines beside a cold start, the rules verify.

    Without a PUZZLE: piped standard input, else one bundled sample of each kind.
    """
    config = SearchConfig(
        drafts=drafts,
        rounds=rounds,
        steps=steps,
        restarts=restarts,
        budget_seconds=budget,
        answers=answers,
        seed=seed,
        trace=trace,
        score_ties=True,
    )
    _run(
        puzzles, task, llm, adapter, refiner, device, config, as_json, out, resume, (start, goal), submission
    )


@app.command(epilog="Example: hybrid draft --llm smollm2 --drafts 4 puzzles.txt")
def draft(
    puzzles: Puzzles = None,
    task: TaskName = "auto",
    llm: LLMName = "qwen",
    adapter: AdapterName = "auto",
    drafts: Drafts = 1,
    rounds: Rounds = 0,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
    out: Out = None,
    resume: Resume = False,
) -> None:
    """Let the LLM alone answer, judged by the rules: `hybrid solve --refiner none`."""
    config = SearchConfig(drafts=drafts, rounds=rounds, seed=seed)
    _run(puzzles, task, llm, adapter, "none", device, config, as_json, out, resume)


def _run(
    names: list[str] | None,
    task: str,
    llm: str,
    adapter: str,
    refiner: str,
    device: str,
    config: SearchConfig,
    as_json: bool,
    out: Path | None,
    resume: bool,
    ends: tuple[str | None, str | None] = (None, None),
    submission: Path | None = None,
) -> NoReturn:
    if llm == refiner == "none":
        fail("neither an LLM nor a refiner, expected one of them to answer")
    if device not in DEVICES:
        fail(f"--device {device}: expected one of {', '.join(DEVICES)}")
    if resume and out is None:
        fail("--resume continues a file: expected -o FILE")
    kind = task_named(task)
    if kind is not None and lacks_symbols(kind):
        from hybrid.solving import MissingError, own_task

        try:
            kind = own_task(refiner, kind)
        except MissingError as error:
            fail(error, 3)
    try:
        puzzles = inputs.read(names or [], kind, inputs.ends_of(*ends))
    except PuzzleError as error:
        fail(error)
    for line in puzzles.messages:
        print(f"hybrid: {message_line(line)}", file=sys.stderr)
    if not len(puzzles):
        if not puzzles.errors:
            fail(f"no PUZZLE given, and no sample is bundled of {task}")
        raise typer.Exit(2)
    try:
        submitted = (
            SubmissionFile(submission, puzzles, resume, out if as_json else None) if submission else None
        )
    except PuzzleError as error:
        fail(error)
    # torch takes seconds to import: bad input is said before.
    from hybrid.llm.grid import shipped

    try:
        shipped.adapter_for(llm, adapter, config.rounds)
    except shipped.AdapterError as error:
        fail(error)
    with importing():
        from hybrid import solving
        from hybrid.output import Output

    setup = solving.Setup(llm, refiner, device, adapter)
    models = [
        name for name in (llm, solving.refiner_path(refiner)) if Path(name).suffix
    ]  # else no file's name
    for option, file in (("-o", out), ("--submission", submission)):
        if file is not None and inputs.includes([*(names or [inputs.STDIN]), *models], file):
            fail(f"{option} {file}: is read by this very command, expected another file")
    code = solving.run(puzzles, setup, config, Output(out, as_json, resume), submitted, puzzles.tasks)
    raise typer.Exit(solving.worst([code, 2]) if puzzles.errors and code != 130 else code)


@app.command(epilog="Example: hybrid pull qwen")
def pull(name: Annotated[str, typer.Argument(help="qwen, smollm2, or a hub id")]) -> None:
    """Fetch a language model ahead of its first use, and print where it lies."""
    from hybrid.llm.base import BackendError
    from hybrid.llm.store.fetch import pull as fetch

    try:
        print(fetch(name))
    except BackendError as error:
        fail(error, 3)
    except KeyboardInterrupt:
        fail("interrupted", 130)


@app.command(epilog="Examples: hybrid tune configs/tune.toml; hybrid tune ckpt/qwen --merge qwen_on_grids")
def tune(
    config: Annotated[
        str | None,
        typer.Argument(
            help="TOML file; with --merge also a run folder or an adapter, which is not trained then"
        ),
    ] = None,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[SECTION.KEY=VALUE]…")] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Continue this run with its saved configuration")
    ] = None,
    merge: Annotated[
        Path | None, typer.Option(metavar="OUT", help="Write a plain transformers model to a new folder")
    ] = None,
) -> None:
    """Train a language model to draft: an adapter, or all weights. Runs under `accelerate launch`."""
    from trm.config import ConfigError

    changes = list(overrides or [])
    if config is not None and "=" in config:  # with --resume there is no CONFIG
        changes.insert(0, config)
        config = None
    if (config is None) == (resume is None):
        fail("expected either CONFIG or --resume DIR")
    from hybrid.llm.base import BackendError
    from hybrid.llm.grid.base_weights import GridModelError
    from hybrid.llm.tuning.command import tune as run

    try:
        if said := run(Path(config) if config else None, changes, resume, merge):
            print(said)
    except BackendError as error:
        fail(error, 3)
    except (ConfigError, GridModelError) as error:
        fail(error)


@app.command()
def env(
    refiner: RefinerName = "ckpt/trm.pt",
) -> None:
    """Versions, devices and models: for a bug report."""
    from hybrid.environment import describe

    for line in describe(refiner):
        print(line)


def main() -> None:
    """Entry point of the `hybrid` command."""
    streams.run("hybrid", app)


if __name__ == "__main__":
    main()
