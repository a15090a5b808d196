"""Coverage-guided fuzzing of what reads files and replies: documented errors on one line, no hang, bounded memory.

    pip install atheris
    python tests/tools/fuzz_parsers.py --seconds 600            # all of them, one after the other
    python tests/tools/fuzz_parsers.py reply csv --seconds 60

An input that fails is kept in OUT/PARSER/crash-…; what was found on the way is in OUT/PARSER, for the next time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

with atheris.instrument_imports(include=["trm", "hybrid", "eval"]):
    import small_networks
    import torch
    from refusals import refused
    from safetensors.torch import save as to_safetensors
    from small_networks import SUDOKU

    from eval.recorded import RecordedProposer
    from eval.run import read_records
    from hybrid import record_sets, submission
    from hybrid.llm import wire
    from hybrid.llm.chat.parsing import read_grid
    from hybrid.llm.grid import adapter
    from hybrid.llm.grid.base_weights import GridModelError
    from hybrid.llm.store import identity
    from trm import tasks
    from trm.checkpoints import CheckpointError, format, reference, schema
    from trm.config import ConfigError
    from trm.data import files, line_files
    from trm.evaluation import curves
    from trm.grid import PuzzleError
    from trm.tasks import Puzzle
    from trm.training import run_folder
    from trm.training.config import load_config, load_run

HANG_SECONDS, MOST_MEGABYTES = 10, 2048
ARC = json.dumps({"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[1, 2], [3, 4]]}]})
RECORD = json.dumps({"id": "a", "arm": "llm", "task": "arc", "status": "unverified", "answer": [[[[1]]]]})
DRAFT = (
    '{"asked": "0", "sample": 0, "llm": "m", "parameters": 1, '
    '"replies": [{"text": "1", "tokens": 1, "seconds": 1}]}'
)
REPLIES = (
    "```\n5 3 _ | 6\n```",
    '{"rows": ["S# ", "oG "]}',
    "row 1: [1, 2]",
    SUDOKU,
    "S #\n oG",
    "[[1,2],[3,4]]",
)
SERVER = (
    '{"choices": [{"message": {"content": "1"}, "finish_reason": "stop"}], "usage": {"completion_tokens": 1}}'
)
TABLES = (
    f"question,answer\n{SUDOKU},{SUDOKU}\n{SUDOKU},\n",
    f'id;puzzle\n1;"{SUDOKU}"\n2;{SUDOKU}\n3;S G\n',
)
INFO = json.dumps({"vocabulary": list(adapter.WORDS), "base": "b"})
METRICS = '{"step": 1, "seconds": 2.5, "held_out": {"n": 4, "accuracy": 0.5, "correct": 2}}'
REFERENCE = "arch:\n  name: trm\n  hidden_size: 32\n  L_layers: 2\n"

folder = Path(tempfile.mkdtemp(prefix="fuzz"))


def written(name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def puzzles(suffix: str) -> Callable[[bytes], None]:
    def read(data: bytes) -> None:
        for item in files.load(written(f"puzzles{suffix}", data)):
            assert not isinstance(item, PuzzleError) or "\n" not in str(item)

    return read


def in_parts(suffix: str) -> Callable[[bytes], None]:
    """A file that is read a part at a time says what it says as a whole."""

    def shown(item: Puzzle | PuzzleError) -> object:
        if isinstance(item, PuzzleError):
            return str(item)
        return item.id, item.task, [grid.tolist() for grid in (*item.inputs, *(item.answers or ()))]

    def read(data: bytes) -> None:
        path = written(f"parts{suffix}", data)
        line_files.LONG, line_files.PART = 1, 100
        whole, parts = map(shown, files.load(path)), map(shown, files.source(path)())
        assert list(parts) == list(whole)

    return read


def reply(data: bytes) -> None:
    text = data.decode(errors="replace")
    for name in ("sudoku", "maze", "arc"):
        task = tasks.get(name)
        reading = read_grid(text, task, task.samples()[0].inputs[0])
        assert reading.grid is not None or reading.error


def server(data: bytes) -> None:
    assert wire.server_message(data).isprintable()
    assert wire.retry_after(data.decode(errors="replace")) >= 0

    def read() -> None:
        wire.read_reply(wire.decode(200, data)).text.encode()
        assert all(name.isprintable() for name in wire.read_models(wire.decode(200, data)))

    refused(wire.Refused, read)


def recipe(data: bytes) -> None:
    refused(ConfigError, lambda: load_config(written("recipe.toml", data)))
    override = data.decode(errors="replace")
    refused(ConfigError, lambda: load_config(ROOT / "configs" / "tiny.toml", [override]))


def run_config(data: bytes) -> None:
    written("config.json", data)
    refused(ConfigError, lambda: load_run(folder))


def metrics(data: bytes) -> None:
    file = written("metrics.jsonl", data)
    refused(ConfigError, lambda: curves.format_table([("run", run_folder.read_metrics(file))]))


def records(data: bytes) -> None:
    for name in ("records.jsonl", "drafts.jsonl"):
        written(name, data)
    list(read_records(folder))
    refused(PuzzleError, lambda: RecordedProposer(None).load(folder / "drafts.jsonl"))
    refused(PuzzleError, lambda: record_sets.solved_by_id(str(folder / "records.jsonl")))


def grading(data: bytes) -> None:
    file = written("submission.json", data)
    known = {"a": [[[1]]]}
    refused(PuzzleError, lambda: submission.grade(submission.read_submission(file), known))
    refused(
        PuzzleError, lambda: submission.grade({"a": [{"attempt_1": [[1]]}]}, submission.read_solutions(file))
    )


def adapter_folder(data: bytes) -> None:
    """The three files of an adapter, parted by a zero byte where there are as many."""
    first, _, rest = data.partition(b"\0\0\0")
    second, _, third = rest.partition(b"\0\0\0")
    names = (adapter.INFO_FILE, adapter.CONFIG_FILE, adapter.WEIGHTS_FILE)
    for name, content in zip(names, (first, second, third), strict=True):
        written(name, content)
    refused(GridModelError, lambda: adapter.read_adapter(folder))


def model_folder(data: bytes) -> None:
    for name in ("source.json", "model.safetensors.index.json"):
        written(name, data)
    refused(Exception, lambda: identity.Source.read(folder))
    identity.weights(folder)


def checkpoint_file(data: bytes) -> None:
    file = written("a.pt", data)
    refused(CheckpointError, lambda: [expert.model() for expert in format.load(file).experts.values()])
    refused(CheckpointError, lambda: reference.convert(file, "sudoku"))


def checkpoint_config(data: bytes) -> None:
    """What a checkpoint holds beside its weights: JSON in place of the parts of a torch file."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return
    network = small_networks.network()
    state = {**network.state_dict()}
    for config in (value, schema.plain_table({"hidden_size": 32}, "a")):
        expert = {"config": config, "state": state, "meta": value}
        torch.save({"format": 1, "experts": {"sudoku": expert}}, folder / "b.pt")
        refused(CheckpointError, lambda: [e.model() for e in format.load(folder / "b.pt").experts.values()])


def reference_config(data: bytes) -> None:
    file = written("all_config.yaml", data)
    refused(CheckpointError, lambda: reference.read_run_config(file))
    refused(CheckpointError, lambda: reference.read_identifiers(file))


def torch_file() -> bytes:
    network = small_networks.network()
    path = folder / "seed.pt"
    format.save(path, {"sudoku": format.Expert("sudoku", network.config, network.state_dict())})
    return path.read_bytes()


def adapter_seed() -> bytes:
    weights = to_safetensors({"base_model.model.a.weight": torch.zeros(2, 2, dtype=torch.float16)})
    return b"\0\0\0".join([INFO.encode(), b'{"r": 1, "lora_alpha": 2}', weights])


# The harness of each parser, and inputs to begin with.
PARSERS: dict[str, tuple[Callable[[bytes], None], Callable[[], list[str | bytes]]]] = {
    "text": (puzzles(".txt"), lambda: ["S  #\n## #\n   G\n", SUDOKU, "5 3 | . .\n---+---\n", *REPLIES]),
    "csv": (puzzles(".csv"), lambda: [f"question,answer\n{SUDOKU},{SUDOKU}\n", '"a\nb",c\n', "id;puzzle\n1;2\n"]),
    "jsonl": (puzzles(".jsonl"), lambda: [json.dumps({"question": SUDOKU, "id": "a"}), ARC, '{"answer": [null]}']),
    "json": (puzzles(".json"), lambda: [ARC, json.dumps({"t": json.loads(ARC)}), f"[{ARC}]"]),
    "text_in_parts": (in_parts(".txt"), lambda: [f"{SUDOKU}\n" * 4, f"{SUDOKU},x\n" * 3, *TABLES]),
    "csv_in_parts": (in_parts(".csv"), lambda: list(TABLES)),
    "jsonl_in_parts": (in_parts(".jsonl"), lambda: [f"{ARC}\n" * 3, f'{{"question": "{SUDOKU}"}}\n' * 3]),
    "reply": (reply, lambda: list(REPLIES)),
    "server": (server, lambda: [SERVER, '{"data": [{"id": "m"}]}', '{"error": {"message": "x"}}', "3"]),
    "recipe": (recipe, lambda: [(ROOT / "configs" / "tiny.toml").read_bytes(), "train.steps=1"]),
    "run_config": (run_config, lambda: ['{"model": {}, "data": {}, "train": {}}', "[1]"]),
    "metrics": (metrics, lambda: [METRICS]),
    "records": (records, lambda: [RECORD, DRAFT, '{"scored": "a", "score": 1.0}', '{"id": 1, "pass_2": [true]}']),
    "grading": (grading, lambda: ['{"a": [{"attempt_1": [[1]], "attempt_2": [[1]]}]}', '{"a": [[[1]]]}', ARC]),
    "adapter": (adapter_folder, lambda: [adapter_seed()]),
    "model_folder": (model_folder, lambda: ['{"model": "a", "origin": "b"}', '{"weight_map": {"a": "b"}}']),
    "checkpoint": (checkpoint_file, lambda: [torch_file()]),
    "checkpoint_config": (checkpoint_config, lambda: [json.dumps(asdict(small_networks.SMALL)), "{}"]),
    "reference_config": (reference_config, lambda: [REFERENCE, '["<blank>", "a"]', '{"arch": {"L_cycles": 2}}']),
}  # fmt: skip


def fuzz(name: str, seconds: int, out: Path) -> None:
    """Fuzz one parser; ends the process."""
    harness, seeds = PARSERS[name]
    corpus = out / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds()):
        (corpus / f"seed{number}").write_bytes(seed.encode() if isinstance(seed, str) else seed)
    limits = [f"-max_total_time={seconds}", f"-timeout={HANG_SECONDS}", f"-rss_limit_mb={MOST_MEGABYTES}"]
    atheris.Setup(
        [
            sys.argv[0],
            str(corpus),
            *limits,
            f"-artifact_prefix={corpus}/",
            "-max_len=4096",
            "-print_final_stats=1",
        ],
        harness,
    )
    atheris.Fuzz()


def forked(name: str, seconds: int, out: Path) -> tuple[int, list[str]]:
    """Fuzz one parser in a child; its exit status, and the lines that it printed."""
    said = out / f"{name}.txt"
    if not (child := os.fork()):
        os.dup2(os.open(said, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), 1)
        os.dup2(1, 2)
        fuzz(name, seconds, out)
        os._exit(0)
    return os.waitpid(child, 0)[1], said.read_text(errors="replace").splitlines()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parsers", nargs="*", help=f"of {', '.join(PARSERS)}")
    parser.add_argument("--seconds", type=int, default=600, help="of each parser")
    parser.add_argument("--out", type=Path, default=Path("fuzzed"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name in given.parsers or PARSERS:
        status, said = forked(name, given.seconds, given.out)
        runs = next((line.split()[-1] for line in said if "executed_units" in line), "no count of")
        print(f"{name}: {runs} inputs, {'fault' if status else 'no fault'}", flush=True)
        if status:
            failed += 1
            shown = next((n for n, line in enumerate(said) if "Traceback" in line or "ERROR" in line), 0)
            print("\n".join(said[shown : shown + 40]), flush=True)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
