"""Whatever a file or a server holds: the documented error on one line, and nothing else.

`FUZZ_EXAMPLES=20000 pytest tests/test_hostile_input.py` looks for longer.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusals import refused
from small_networks import SUDOKU, network

from eval.recorded import RecordedProposer
from eval.run import read_records
from hybrid.llm import wire
from hybrid.llm.base import BackendError
from hybrid.llm.chat.parsing import read_grid
from hybrid.llm.store.identity import Source, weights
from hybrid.output import Output, OutputError
from trm import tasks
from trm.checkpoints.format import CheckpointError, Expert, save
from trm.checkpoints.format import load as load_checkpoint
from trm.checkpoints.reference import convert
from trm.config import ConfigError
from trm.data.files import load
from trm.evaluation.curves import format_table
from trm.grid import PuzzleError
from trm.training.config import load_config, load_run
from trm.training.run_folder import read_metrics

hostile = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "40")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8)
    | st.sampled_from([SUDOKU, "\ud800", "\x1b[31m", "9" * 400, "..", "S G"])
)  # fmt: skip


def trees(*keys: str) -> st.SearchStrategy[object]:
    """Anything that JSON can hold, with these keys more often than others."""
    names = st.sampled_from(keys) | st.text(max_size=4)
    return st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=6),
        max_leaves=20,
    )


def damaged(original: bytes) -> st.SearchStrategy[bytes]:
    """A file with a few bytes changed, cut out or doubled."""
    change = st.tuples(st.integers(0, len(original)), st.integers(0, 40), st.binary(max_size=4))

    def apply(changes: list[tuple[int, int, bytes]]) -> bytes:
        content = original
        for start, length, new in changes:
            content = content[:start] + new + content[start + length :]
        return content

    return st.lists(change, min_size=1, max_size=3).map(apply)


# -- puzzles -------------------------------------------------------------------------------------------------
CSV = f"question,answer\n{SUDOKU},{SUDOKU.replace('.', '1')}\n".encode()
ARC = json.dumps(
    {"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[1, 2], [3, 4]]}]}
).encode()
TEXT = b"S  #\n## #\n   G\n\n" + SUDOKU.encode()


@hostile
@given(
    st.sampled_from([(".csv", CSV), (".json", ARC), (".jsonl", ARC + b"\n" + ARC), (".txt", TEXT)]), st.data()
)
def test_damaged_puzzle_files(tmp_path: Path, kind: tuple[str, bytes], data: st.DataObject) -> None:
    file = tmp_path / f"file{kind[0]}"
    file.write_bytes(data.draw(damaged(kind[1])))
    assert all("\n" not in str(item) for item in load(file) if isinstance(item, PuzzleError))


@hostile
@given(trees("question", "answer", "id", "task", "train", "test", "input", "output"))
def test_json_that_is_no_puzzle(tmp_path: Path, value: object) -> None:
    for suffix in (".json", ".jsonl"):
        file = tmp_path / f"file{suffix}"
        file.write_text(json.dumps(value))
        assert load(file)


# -- language models -----------------------------------------------------------------------------------------
@hostile
@given(
    st.text(alphabet="[]{}\"'`,|:.-+ \n#oSG0123456789row_xX", max_size=400),
    st.sampled_from(["sudoku", "maze", "arc"]),
)
def test_replies_of_any_kind(text: str, task: str) -> None:
    puzzle = tasks.get(task).samples()[0]
    reading = read_grid(text, tasks.get(task), puzzle.inputs[0])
    assert reading.grid is not None or reading.error


@hostile
@given(
    trees(
        "choices", "message", "content", "text", "usage", "completion_tokens", "error", "data", "id", "detail"
    )
)
def test_servers_that_answer_anything(value: object) -> None:
    body = json.dumps(value).encode()
    reply = wire.read_reply(wire.decode(200, body))
    assert isinstance(reply.tokens, int)
    reply.text.encode()
    assert all(name.isprintable() for name in wire.read_models(wire.decode(200, body)))
    assert wire.server_message(body).isprintable()


@hostile
@given(st.binary(max_size=60))
def test_servers_that_answer_bytes(body: bytes) -> None:
    assert wire.server_message(body).isprintable()
    refused(wire.Refused, lambda: wire.read_reply(wire.decode(200, body)))


@hostile
@given(trees("model", "origin", "sha256", "quantisation", "weight_map"))
def test_model_folders_that_are_none(tmp_path: Path, value: object) -> None:
    for name in ("source.json", "model.safetensors.index.json"):
        (tmp_path / name).write_text(json.dumps(value))
    refused(BackendError, lambda: Source.read(tmp_path))
    assert weights(tmp_path) == []


# -- runs ----------------------------------------------------------------------------------------------------
@hostile
@given(trees("step", "seconds", "held_out", "n", "accuracy", "loss"))
def test_metrics_of_no_run(tmp_path: Path, value: object) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text(json.dumps(value) + "\n")
    refused(ConfigError, lambda: format_table([("run", read_metrics(file))]))


@hostile
@given(trees("model", "data", "train", "task", "seconds", "steps", "seq_len", "vocab_size", "canvas_width"))
def test_configurations_of_no_run(tmp_path: Path, value: object) -> None:
    (tmp_path / "config.json").write_text(json.dumps(value))
    refused(ConfigError, lambda: load_run(tmp_path))


@hostile
@given(st.data())
def test_damaged_recipes(tmp_path: Path, data: st.DataObject) -> None:
    recipe = Path(__file__).parents[1] / "configs" / "tiny.toml"
    file = tmp_path / "recipe.toml"
    file.write_bytes(data.draw(damaged(recipe.read_bytes())))
    refused(ConfigError, lambda: load_config(file, ["train.steps=1"]))
    override = data.draw(st.text(max_size=8) | st.sampled_from(["a\nb.c=1", "train.a\nb=1"]))
    refused(ConfigError, lambda: load_config(recipe, [override]))


@hostile
@given(
    trees(
        "task",
        "id",
        "arm",
        "asked",
        "sample",
        "llm",
        "parameters",
        "replies",
        "text",
        "tokens",
        "seconds",
        "scored",
    )
)
def test_records_and_drafts_of_no_comparison(tmp_path: Path, value: object) -> None:
    for name in ("records.jsonl", "drafts.jsonl", "answers.jsonl"):
        (tmp_path / name).write_text(json.dumps(value) + "\n")
    assert not list(read_records(tmp_path))
    refused(PuzzleError, lambda: RecordedProposer(None).load(tmp_path / "drafts.jsonl"))
    refused(OutputError, lambda: Output(tmp_path / "answers.jsonl", as_json=True, resume=True).earlier())


# -- checkpoints ---------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made, file = network(), tmp_path_factory.mktemp("checkpoint") / "a.pt"
    save(file, {"sudoku": Expert("sudoku", made.config, made.state_dict())})
    return file


@hostile
@given(st.data())
def test_damaged_checkpoints(tmp_path: Path, checkpoint: Path, data: st.DataObject) -> None:
    """Whatever loads has the weights that were saved."""
    file, known = tmp_path / "a.pt", load_checkpoint(checkpoint).experts["sudoku"]
    file.write_bytes(data.draw(damaged(checkpoint.read_bytes())))

    def read() -> None:
        for expert in load_checkpoint(file).experts.values():
            assert all(known.state[name].equal(tensor) for name, tensor in expert.state.items())

    refused(CheckpointError, read)


@hostile
@given(
    st.dictionaries(st.text(max_size=5) | st.sampled_from(["config", "state", "meta"]), SCALARS, max_size=4),
    st.data(),
)
def test_checkpoints_of_another_structure(
    tmp_path: Path, changes: dict[str, object], data: st.DataObject
) -> None:
    file, made = tmp_path / "a.pt", network()
    config = asdict(made.config) | {data.draw(st.sampled_from(list(asdict(made.config)))): data.draw(SCALARS)}
    torch.save(
        {"format": 1, "experts": {"sudoku": {"config": config, "state": made.state_dict()} | changes}}, file
    )
    refused(CheckpointError, lambda: [expert.model() for expert in load_checkpoint(file).experts.values()])
    torch.save(made.state_dict() | changes, file)
    refused(CheckpointError, lambda: convert(file, "sudoku"))
