"""Fitting to a task: it is learned, merged into the weights that decode, and forgotten again."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from hybrid.llm.grid import evaluate, records
from hybrid.llm.grid.adapter import load_grid_model
from hybrid.llm.grid.base_weights import load_base
from hybrid.llm.grid.candidates import GridModel, ProposalConfig
from hybrid.llm.grid.episodes import IGNORE
from hybrid.llm.grid.fitting import Fitter, FittingConfig, draw_episodes
from hybrid.llm.grid.rules import Limits
from tests.hybrid.llm.tiny import PAIRS, QUESTION, write_tiny

BRIEF = FittingConfig(steps=2, tokens=200, sequences=4)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_tiny(tmp_path_factory.mktemp("tiny"))


def fitter_of(folders: tuple[Path, Path]) -> Fitter:
    return Fitter(load_base(folders[0], "cpu", torch.float32)[0], folders[1])


def test_fitting_starts_from_the_adapter_and_lowers_the_loss(folders: tuple[Path, Path]) -> None:
    fitter = fitter_of(folders)
    rng = np.random.default_rng(0)
    first = fitter.fit(PAIRS, rng, FittingConfig(steps=1, learning_rate=0, table_learning_rate=0))
    last = fitter.fit(PAIRS, rng, FittingConfig(steps=40, learning_rate=2e-2, table_learning_rate=2e-2))
    assert last.steps == 40
    assert last.loss < first.loss - 0.1


def test_merged_weights_answer_as_the_trainable_model(folders: tuple[Path, Path]) -> None:
    fitter = fitter_of(folders)
    fitter.fit(PAIRS, np.random.default_rng(0), BRIEF)
    merged, _ = load_base(folders[0], "cpu", torch.float32)
    fitter.merge_into(merged)
    tokens = torch.arange(12)[None]
    with torch.no_grad():
        expected, actual = fitter.model(input_ids=tokens).logits, merged(input_ids=tokens).logits
    assert torch.allclose(expected, actual, atol=1e-4)


def test_reset_goes_back_to_the_adapter_as_it_ships(folders: tuple[Path, Path]) -> None:
    fitter = fitter_of(folders)
    fitter.fit(PAIRS, np.random.default_rng(0), BRIEF)
    fitter.reset()
    merged, _ = load_base(folders[0], "cpu", torch.float32)
    fitter.merge_into(merged)
    shipped = load_grid_model(*folders, dtype=torch.float32).state_dict()
    for name, weight in merged.state_dict().items():
        assert torch.allclose(weight, shipped[name], atol=1e-6), name


def test_only_the_adapter_and_the_tables_learn(folders: tuple[Path, Path]) -> None:
    fitter = fitter_of(folders)
    before = {name: weight.clone() for name, weight in fitter.model.state_dict().items()}
    fitter.fit(PAIRS, np.random.default_rng(0), BRIEF)
    changed = {
        name for name, weight in fitter.model.state_dict().items() if not torch.equal(weight, before[name])
    }
    assert all("lora_" in name or "embed_tokens" in name or "lm_head" in name for name in changed)
    assert len(changed) == 2 * 2 * 7 + 2


def test_a_lone_demonstration_is_shown_twice_and_learned_once() -> None:
    for drawn in draw_episodes(PAIRS[:1], np.random.default_rng(0), BRIEF):
        learned = drawn.labels != IGNORE
        assert learned.sum() == 7  # two rows of two cells, their ends and the end
        assert not learned[: len(drawn) // 2].any()


def test_a_step_has_no_more_tokens_than_allowed() -> None:
    config = FittingConfig(tokens=300)
    episodes = draw_episodes(PAIRS, np.random.default_rng(0), config)
    assert 200 < sum(map(len, episodes)) <= 300


# PyTorch warns about a function of its own, which it calls itself.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")
def test_compiled_layers_learn_the_same(folders: tuple[Path, Path]) -> None:
    # A batch of one row, which is given another one without anything to learn.
    config = FittingConfig(steps=2, tokens=50)
    plain, compiled = fitter_of(folders), fitter_of(folders)
    plain.fit(PAIRS, np.random.default_rng(0), config)
    compiled.compile()
    with torch.compiler.set_stance("force_eager"):  # compiling takes half a minute on a CPU
        compiled.fit(PAIRS, np.random.default_rng(0), config)
    for name, weight in plain.weights().items():
        assert torch.allclose(compiled.weights()[name], weight, atol=1e-5), name


def test_a_limit_of_seconds_ends_it(folders: tuple[Path, Path]) -> None:
    config = FittingConfig(steps=100_000, seconds=0.5)
    report = fitter_of(folders).fit(PAIRS, np.random.default_rng(0), config)
    assert 0 < report.steps < 100_000


def test_a_proposer_votes_scores_and_comes_back_from_fitting(folders: tuple[Path, Path]) -> None:
    proposer = GridModel.load(*folders, window=2000, most_rows=4)
    other = np.array([[1, 2]], np.uint8)
    limits = [Limits.of_shape(1, 2), Limits((1, 3), (1, 3))]

    def propose() -> list[list[tuple[list[list[int]], int, float]]]:
        proposals = proposer.propose(
            PAIRS,
            [QUESTION, other],
            np.random.default_rng(3),
            ProposalConfig(views=6),
            limits=limits,
            others=[[other], []],
        )
        return [[(c.grid.tolist(), c.votes, round(c.score, 3)) for c in p.candidates] for p in proposals]

    before = propose()
    first, second = before
    assert sum(votes for _, votes, _ in first) == sum(votes for _, votes, _ in second) == 6
    assert all(np.array(grid).shape == (1, 2) for grid, _, _ in first)
    assert [1, 2] in [grid[0] for grid, _, _ in first]
    assert [votes for _, votes, _ in first] == sorted((votes for _, votes, _ in first), reverse=True)
    proposer.fit(PAIRS, np.random.default_rng(0), FittingConfig(steps=5, learning_rate=1e-2))
    assert propose() != before
    proposer.reset()
    assert propose() == before


def as_json(pairs: list[tuple[np.ndarray, np.ndarray]]) -> list[dict[str, list[list[int]]]]:
    return [{"input": a.tolist(), "output": b.tolist()} for a, b in pairs]


def test_evaluation_end_to_end(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test = [(QUESTION, np.array([[8, 0, 8]], np.uint8))]
    tasks = {
        name: {"train": as_json(PAIRS), "test": as_json(test * n)}
        for name, n in (("a", 1), ("b", 2), ("c", 1))
    }
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    right = {"grid": test[0][1].tolist(), "votes": 5}
    (tmp_path / "trm.jsonl").write_text(json.dumps({"id": "a", "candidates": [[right]]}) + "\n")
    out = tmp_path / "records.jsonl"
    common = [
        "--base",
        str(folders[0]),
        "--adapter",
        str(folders[1]),
        "--tasks",
        str(tmp_path / "tasks.json"),
    ]
    common += [
        "--out",
        str(out),
        "--fit-steps",
        "2",
        "--fit-tokens",
        "300",
        "--views",
        "3",
        "--frozen-views",
        "2",
    ]
    common += ["--device", "cpu", "--window", "1500", "--trm-records", str(tmp_path / "trm.jsonl")]
    for rank in range(2):
        evaluate.main([*common, "--rank", str(rank), "--world", "2"])
    files = [tmp_path / f"records.{rank}.jsonl" for rank in range(2)]
    written = {r["id"]: r for file in files for r in map(json.loads, file.read_text().splitlines())}
    assert set(written) == {"a", "b", "c"}
    assert len(written["b"]["fitted"]) == 2
    assert written["a"]["solved"]["pool_score"] in (True, False)
    (entry,) = written["a"]["fitted"]
    assert [c["other_votes"] for c in entry["candidates"] if c["right"]] == [5]
    assert entry["right_score"] < 0
    assert set(written["a"]["seconds"]) == {"frozen", "fit", "fitted"}
    capsys.readouterr()
    evaluate.main(["--summarize", *map(str, files)])
    assert json.loads(capsys.readouterr().out)["tasks"]["tasks"] == 3


def test_running_out_of_memory_is_counted_and_survived(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    proposer = GridModel.load(*folders, window=1500)
    task = records.Task("tasks", "x", PAIRS, [QUESTION], [QUESTION])
    evaluation = evaluate.Evaluation(proposer, BRIEF, views=2, frozen_views=0, others={}, seed=0)

    def out_of_memory(*_: object, **__: object) -> None:
        raise torch.cuda.OutOfMemoryError

    with monkeypatch.context() as patched:
        patched.setattr(proposer.decoder, "greedy", out_of_memory)
        failed = evaluation.task(task)
    assert failed["error"] == "out of memory"
    assert records.summary([failed])["failed"] == 1
    assert "error" not in evaluation.task(task)


def test_tasks_that_cannot_be_read_are_said_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "tasks.json").write_text('{"a": {"train": [{"input": [[1]]}]}}')
    with pytest.raises(SystemExit, match=r"tasks\.json"):
        records.read_tasks(tmp_path / "tasks.json")
