"""The proposer with an adapter: drafts of every kind of puzzle, which adapter is chosen, what is refused."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from hybrid import solving
from hybrid.llm.chat.prompts import read_draft
from hybrid.llm.grid.adapter import load_merged
from hybrid.llm.grid.base_weights import GridModelError, base_word_ids
from hybrid.llm.grid.candidates import Decoding, GridModel, ProposalConfig
from hybrid.llm.grid.demonstrations import DemonstrationSolver
from hybrid.llm.grid.episodes import input_length, pair_length
from hybrid.llm.grid.fitting import FittingConfig
from hybrid.llm.grid.proposer import GridProposer
from hybrid.llm.grid.shipped import AdapterError, adapter_for, model_id, shipped
from hybrid.llm.grid.views import draw_task_views
from hybrid.llm.tuning.merging import tokenizer
from hybrid.output import Output
from tests.hybrid.llm.tiny import tiny_model, write_tiny
from trm.grid import grid_key
from trm.inference.config import SearchConfig
from trm.inference.proposals import BatchProposer
from trm.inference.selection import same_grids
from trm.tasks import Puzzle, get

ROOT = Path(__file__).parents[3]


@pytest.fixture
def proposer(tmp_path: Path) -> GridProposer:
    base, adapter = write_tiny(tmp_path)
    return GridProposer(GridModel.load(base, adapter, fitted=False, most_rows=8, window=2500), "tiny")


def samples(task: str) -> list[Puzzle]:
    return list(get(task).samples())


@pytest.fixture
def whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny model with a tokenizer, as a folder of one's own; its adapter lies beside it."""
    monkeypatch.setenv("HYBRID_CACHE", str(tmp_path / "cache"))
    base, _ = write_tiny(tmp_path)
    model: PreTrainedModel = tiny_model()
    model.bfloat16().save_pretrained(base)
    (base / "grid_base.json").unlink()
    for part in base.glob("part*"):
        part.unlink()
    tokenizer().save_pretrained(base)
    return base


# -- drafts --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("task", ["sudoku", "maze"])
def test_a_draft_keeps_what_is_given_and_uses_the_tasks_symbols(proposer: GridProposer, task: str) -> None:
    puzzle = samples(task)[0]
    choices = get(task).choices(puzzle)
    assert choices is not None
    drafts = proposer.propose(puzzle, drafts=3)
    assert len(drafts) == 3
    for draft in drafts:
        assert draft.grids is not None
        cells = draft.grids[0].tolist()
        assert all(
            c in allowed
            for row, may in zip(cells, choices, strict=True)
            for c, allowed in zip(row, may, strict=True)
        )
    first, second, _ = drafts
    assert first.text != second.text
    assert [draft.text for draft in proposer.propose(puzzle, drafts=3)] == [draft.text for draft in drafts]


def test_arc_drafts_are_the_best_candidates_in_order(proposer: GridProposer) -> None:
    puzzle = samples("arc")[0]
    (best,) = proposer.propose(puzzle)
    more = proposer.propose(puzzle, drafts=4)
    assert 1 <= len(more) <= 4
    assert more[0].text == best.text
    assert len({draft.text for draft in more}) == len(more)
    assert best.grids is not None
    assert len(best.grids) == len(puzzle.inputs)


def test_many_puzzles_of_several_kinds_are_drafted_in_order(proposer: GridProposer) -> None:
    puzzles = [*samples("maze")[:1], *samples("sudoku")[:1], *samples("arc")[:1]]
    assert isinstance(proposer, BatchProposer)
    together = proposer.propose_many(puzzles)
    assert [draft.text for draft in together] == [proposer.propose(p)[0].text for p in puzzles]


@pytest.mark.parametrize("task", ["sudoku", "maze", "arc"])
def test_drafts_on_file_are_the_drafts(proposer: GridProposer, task: str) -> None:
    puzzle = samples(task)[0]
    (first, *_), *_ = proposer.replies_to([puzzle], drafts=3)
    read, (draft,) = read_draft(puzzle, first), proposer.propose(puzzle)
    assert read.error is None
    assert same_grids(read.grids, draft.grids)


def test_a_kind_that_was_not_learned_has_no_draft(
    proposer: GridProposer, monkeypatch: pytest.MonkeyPatch
) -> None:
    puzzle = Puzzle("latin_square", (np.zeros((2, 2), np.uint8),))
    monkeypatch.setattr("hybrid.llm.grid.proposer.get", lambda name: get("sudoku"))
    (draft,) = proposer.propose(puzzle)
    assert draft.grids is None
    assert "latin_square" in str(draft.error)


# -- which adapter -------------------------------------------------------------------------------------------
def test_adapters_ship_and_say_where_they_come_from() -> None:
    known = shipped()
    assert {"qwen", "smollm2"} <= set(known)
    for adapter in known.values():
        info = json.loads((adapter.folder / "grid.json").read_text())
        assert {"step", "tokens", "seconds", "code", "scores", "data", "base_sha256"} <= set(info)
        assert all(len(digest) == 64 and not name.startswith("/") for name, digest in info["data"].items())
        texts = [
            value for part in info["config"].values() for value in part.values() if isinstance(value, str)
        ]
        assert not any(text.startswith("/") for text in [*texts, *info["command"]])


def test_what_lies_in_ckpt_stays_small() -> None:
    assert sum(file.stat().st_size for file in (ROOT / "ckpt").rglob("*") if file.is_file()) < 58e6


@pytest.mark.parametrize(
    ("llm", "expected"),
    [
        ("qwen", "qwen"),
        ("smollm2", "smollm2"),
        ("Qwen/Qwen2.5-Coder-0.5B-Instruct", "qwen"),
        ("Qwen/Qwen2.5-Coder-1.5B-Instruct", None),
        ("some/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf", "qwen"),
        ("http://localhost:8000/v1", None),
        ("echo", None),
        ("none", None),
    ],
)
def test_what_ships_for_a_model_is_known_by_its_name(llm: str, expected: str | None) -> None:
    adapter = adapter_for(llm)
    assert (adapter and adapter.folder.name) == expected
    assert adapter_for(llm, "none") is None


def test_a_folder_is_known_by_what_it_says_of_itself(tmp_path: Path) -> None:
    folder = tmp_path / "models--Qwen--Qwen2.5-Coder-0.5B-Instruct" / "snapshots" / "abc"
    folder.mkdir(parents=True)
    assert model_id(str(folder)) == "Qwen/Qwen2.5-Coder-0.5B-Instruct"
    assert adapter_for(str(folder)) is not None


@pytest.mark.parametrize(
    ("llm", "wanted", "words"),
    [
        ("qwen", "no/such/folder", "no such folder"),
        ("qwen", str(ROOT / "configs"), "adapter_config.json"),
        ("http://localhost:8000/v1", "qwen", "no model that runs here"),
    ],
)
def test_an_adapter_that_cannot_be_is_refused(llm: str, wanted: str, words: str) -> None:
    with pytest.raises(AdapterError, match=words):
        adapter_for(llm, wanted)


# -- loading -------------------------------------------------------------------------------------------------
def test_a_folder_of_ones_own_with_an_adapter(whole: Path, tmp_path: Path) -> None:
    adapter = adapter_for(str(whole), str(tmp_path / "adapter"))
    assert adapter is not None
    loaded = GridProposer.load(whole, adapter, "cpu")
    assert loaded.note is None
    assert loaded.name is not None
    assert adapter.name in loaded.name
    other = tiny_model(seed=1)
    other.bfloat16().save_pretrained(whole)
    assert "trained on weights" in str(GridProposer.load(whole, adapter, "cpu").note)


def test_another_shape_is_refused_from_its_description(whole: Path) -> None:
    with pytest.raises(AdapterError, match="trained on another model"):
        GridProposer.load(whole, shipped()["smollm2"], "cpu")


def test_a_tokenizer_without_a_word_is_refused(whole: Path) -> None:
    config = json.loads((whole / "config.json").read_text())
    (whole / "config.json").write_text(json.dumps(config | {"vocab_size": 32}))
    vocabulary = json.loads((whole / "tokenizer.json").read_text())
    vocabulary["model"]["vocab"] = {"a": 0, "b": 1, "?": 2}
    vocabulary["pre_tokenizer"] = None
    vocabulary["added_tokens"] = []
    vocabulary["model"]["unk_token"] = "[none]"
    (whole / "tokenizer.json").write_text(json.dumps(vocabulary))
    (whole / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    with pytest.raises(GridModelError, match="expected one"):
        base_word_ids(whole)


def test_rounds_are_refused_with_an_adapter(capsys: pytest.CaptureFixture[str]) -> None:
    setup = solving.Setup("qwen", "none", "cpu")
    code = solving.run(samples("sudoku")[:1], setup, SearchConfig(rounds=1), Output(None, True, False))
    assert code == solving.BAD_INPUT
    assert "--rounds 1" in capsys.readouterr().err


def test_a_merged_model_is_kept_and_loads_the_same(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYBRID_CACHE", str(tmp_path / "cache"))
    first, digest = load_merged(whole, tmp_path / "adapter", "cpu", torch.float32)
    assert list((tmp_path / "cache" / "grid").glob("base-*/kept.json"))
    monkeypatch.setattr("hybrid.llm.grid.adapter.load_base", None)  # the base model is not needed again
    second, same = load_merged(whole, tmp_path / "adapter", "cpu", torch.float32)
    assert digest == same
    assert all((first.state_dict()[name] == weight).all() for name, weight in second.state_dict().items())


# -- judging -------------------------------------------------------------------------------------------------
def small_task(seed: int) -> Puzzle:
    rng = np.random.default_rng(seed)
    pairs = [tuple(rng.integers(0, 10, (2, 2), dtype=np.uint8) for _ in range(2)) for _ in range(3)]
    return Puzzle("arc", (pairs[0][0],), demos=((pairs[1][0], pairs[1][1]), (pairs[2][0], pairs[2][1])))


def test_the_first_arc_draft_names_all_candidates_and_replies_keep_them(proposer: GridProposer) -> None:
    puzzle = small_task(1)
    drafts = proposer.propose(puzzle, drafts=3)
    (named,) = drafts[0].candidates
    assert drafts[0].grids is not None
    assert np.array_equal(named[0].grid, drafts[0].grids[0])
    assert all(0 < candidate.share <= 1 for candidate in named)
    assert not any(draft.candidates for draft in drafts[1:])
    read = read_draft(puzzle, proposer.replies(puzzle, 1)[0])
    (again,) = read.candidates
    assert [(c.share, c.score) for c in again] == [(c.share, c.score) for c in named]
    assert all(np.array_equal(a.grid, b.grid) for a, b in zip(again, named, strict=True))


def test_scores_are_those_of_the_drafts_whether_or_not_their_prompts_are_still_held(
    proposer: GridProposer,
) -> None:
    puzzle = small_task(1)
    named = proposer.propose(puzzle)[0].candidates[0]
    grids = [candidate.grid for candidate in named]
    held = proposer.score(puzzle, 0, grids)
    proposer.propose(samples("sudoku")[0])  # the decoder has read something else since
    again = proposer.score(puzzle, 0, grids)
    expected = [candidate.score for candidate in named]
    assert held == pytest.approx(expected, abs=1e-3)
    assert again == pytest.approx(expected, abs=1e-3)
    assert proposer.score(samples("sudoku")[0], 0, grids) is None


def test_more_views_add_votes_until_the_seconds_are_spent(proposer: GridProposer) -> None:
    puzzle = small_task(1)
    first = proposer.with_more_views(puzzle, 0.0)
    more = proposer.with_more_views(puzzle, first.seconds + 1e-6)
    assert more.seconds > first.seconds
    assert more.tokens > first.tokens
    assert len(more.candidates[0]) >= len(first.candidates[0])


def test_a_fitted_model_scores_a_task_as_it_was_fitted_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_steps = partial(FittingConfig, steps=3, learning_rate=0.01, sequences=2)
    monkeypatch.setattr("hybrid.llm.grid.fitting.FittingConfig", few_steps)
    base, adapter = write_tiny(tmp_path)
    fitting = GridProposer(GridModel.load(base, adapter, fitted=True, most_rows=8, window=2500), "tiny")
    frozen = fitting.frozen()
    task = small_task(1)
    assert fitting.fits
    assert not frozen.fits
    assert fitting.name != frozen.name
    drafted = fitting.propose(task)[0].candidates[0]  # afterwards the weights are as they were trained
    grids = [candidate.grid for candidate in drafted]
    assert fitting.score(task, 0, grids) == pytest.approx([c.score for c in drafted], abs=1e-2)
    assert frozen.score(task, 0, grids) != pytest.approx([c.score for c in drafted], abs=1e-2)


def test_candidates_are_mended_on_a_gpu_alone(
    proposer: GridProposer, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = small_task(1)
    first, second = (np.array([row], np.uint8) for row in ([1, 2, 2], [1, 1, 3]))
    views = draw_task_views(3, len(task.demos), np.random.default_rng(0))
    decoded = Decoding([(first, 2), (second, 1)], 0, 0, views)
    monkeypatch.setattr(proposer.model, "decode", lambda *asked: [decoded])
    monkeypatch.setattr(ProposalConfig, "scoring_views", 2)
    assert {grid_key(c.grid) for c in proposer.propose(task)[0].candidates[0]} == {
        grid_key(grid) for grid in (first, second)
    }
    assert proposer.mend(task, 0, [first]) == []
    monkeypatch.setattr(DemonstrationSolver, "_on_gpu", True)
    on_gpu = proposer.frozen()
    (draft,) = on_gpu.propose(task)
    found = draft.candidates[0]
    length = sum(map(pair_length, task.demos)) + input_length(task.grid)
    assert draft.prompt_tokens == length * (
        3 + 3 * 2
    )  # three views; two scoring views, scored, mended, scored
    assert {candidate.share for candidate in found} == {2 / 3, 1 / 3, 0.0}
    assert len({grid_key(candidate.grid) for candidate in found}) == len(found)
    assert [c.score for c in found] == sorted((c.score for c in found), reverse=True)
    mended = next(candidate for candidate in found if not candidate.share)
    assert on_gpu.score(task, 0, [mended.grid]) == pytest.approx([mended.score], abs=1e-2)
    assert not any(np.array_equal(grid, first) for grid in on_gpu.mend(task, 0, [first]))
    puzzle = samples("sudoku")[0]
    assert on_gpu.mend(puzzle, 0, [puzzle.grid]) == []
