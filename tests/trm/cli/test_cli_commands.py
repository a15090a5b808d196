"""`trm` from outside: train, eval, data, convert, pack, bench, and one line for what cannot be done."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from small_networks import GOLDEN, ROOT, SUDOKU, network
from typer.testing import CliRunner, Result

from trm.checkpoints.format import Expert, load, save
from trm.cli import app
from trm.model.network import TRM

TINY = str(ROOT / "configs" / "tiny.toml")
QUICK = ["train.seconds=0", "train.steps=3", "train.batch=4", "data.generate=10", "data.held_out_size=4"]


@pytest.fixture
def trm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


def puzzles(trm: Callable[..., Result], count: int = 6) -> str:
    result = trm("data", "sudoku", "--n", count, "--seed", 3, "--out", "easy.csv", "clues=[50, 60]")
    assert result.exit_code == 0, result.output
    return "easy.csv"


def test_data_makes_puzzles_from_a_seed(trm: Callable[..., Result]) -> None:
    first = Path(puzzles(trm)).read_text()
    rows = list(csv.DictReader(first.splitlines()))
    assert len(rows) == 6
    assert all(21 <= row["question"].count(".") <= 31 and len(row["answer"]) == 81 for row in rows)
    assert Path(puzzles(trm)).read_text() == first
    assert trm("data", "maze", "--n", 2, "--out", "m.jsonl", "height=5", "width=7").exit_code == 0
    assert len(json.loads(Path("m.jsonl").read_text().splitlines()[0])["question"].splitlines()) == 5
    assert trm("data", "arc", "--n", 2, "--out", "a.json").exit_code == 0
    assert {"train", "test"} == set(next(iter(json.loads(Path("a.json").read_text()).values())))


def test_interrupted_data_keeps_what_is_made(
    trm: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Path(puzzles(trm)).read_text().splitlines()
    cut_at = 0

    @contextmanager
    def bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
        def tick(done: int) -> None:
            if done == cut_at:
                raise KeyboardInterrupt

        yield tick

    monkeypatch.setattr("trm.progress.bar", bar)
    words = ["data", "sudoku", "--n", 6, "--seed", 3, "--out", "cut.csv", "clues=[50, 60]"]
    for cut_at in (6, 4):
        result = trm(*words)
        kept = Path("cut.csv").read_text().splitlines()
        assert kept == whole[: cut_at + 1]
    assert result.exit_code == 130
    assert result.stderr == "trm: interrupted: the first 4 of 6 are in cut.csv\n"


def test_train_resume_eval_and_pack(trm: Callable[..., Result]) -> None:
    result = trm("train", TINY, *QUICK, "--out", "run", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "exact; run/checkpoints/best" in result.output
    assert trm("train", TINY, *QUICK, "--out", "run").exit_code == 2  # not over a run that is there
    longer = [word.replace("steps=3", "steps=5") for word in QUICK]
    assert trm("train", TINY, *longer, "--resume", "run", "--device", "cpu").exit_code == 0
    assert load("run/checkpoints/last").experts["sudoku"].meta["step"] == 5
    # A run goes on as it was begun, whatever the file says; what would make it another run is refused.
    plain = trm("train", TINY, "train.steps=6", "--resume", "run", "--device", "cpu")
    assert plain.exit_code == 0, plain.output
    kept = json.loads(Path("run/config.json").read_text())
    assert (kept["train"]["steps"], kept["train"]["batch"], kept["data"]["generate"]) == (6, 4, 10)
    for other in ("data.held_out_size=5", "train.seed=3", "optim.name=adamw"):
        refused = trm("train", TINY, other, "--resume", "run", "--device", "cpu")
        assert refused.exit_code == 2
        assert "are the run's own" in refused.stderr
    assert trm("train", TINY, "--resume", "run", "--out", "other").exit_code == 2
    Path("run/checkpoints/last/training.pt").write_bytes(b"cut short")
    broken = trm("train", TINY, "train.steps=7", "--resume", "run", "--device", "cpu")
    assert (broken.exit_code, broken.stderr.count("\n")) == (3, 1)
    assert trm("pack", "all.pt", "run/checkpoints/best").exit_code == 0
    result = trm(
        "eval", "all.pt", "--task", "sudoku", "--data", puzzles(trm), "--steps", 4, "--limit", 5, "--json"
    )
    assert result.exit_code == 0, result.output
    record = json.loads(result.output)
    assert {"task", "n", "accuracy", "verified", "halt_accuracy", "mean_steps", "seconds", "by_step"} <= set(
        record
    )
    assert (record["n"], list(record["by_step"])) == (5, ["1", "2", "3", "4"])
    assert record["accuracy"] == record["by_step"]["4"]
    plain = trm("eval", "all.pt", "--task", "sudoku", "--data", "easy.csv", "--steps", 2, "--restarts", 1)
    assert "exact" in plain.output


def test_eval_says_when_every_answer_is_right(
    trm: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that is told the labels scores 100 % at every step: the scoring can say yes."""
    from trm.inference.engine import Engine, Trajectory
    from trm.tasks import get
    from trm.tasks.sudoku.solver import solve_sudoku

    made = network()
    save("n.pt", {"sudoku": Expert("sudoku", made.config, made.state_dict())})

    def told(self: Engine, rollouts: list, steps: int = 16, **_: object) -> list:  # type: ignore[type-arg]
        task, runs = get("sudoku"), []
        for one in rollouts:
            question = (one.tokens - 1).astype("uint8").reshape(9, 9)
            right = task.encode(solve_sudoku(question, most=1).solutions[0])
            runs.append(Trajectory([right] * steps, [-1.0, *[1.0] * (steps - 1)], []))
        return runs

    monkeypatch.setattr(Engine, "run", told)
    record = json.loads(
        trm("eval", "n.pt", "--task", "sudoku", "--data", puzzles(trm), "--steps", 3, "--json").output
    )
    assert (record["accuracy"], record["verified"], record["halt_accuracy"], record["mean_steps"]) == (
        1,
        1,
        1,
        2,
    )


def test_convert_gives_what_from_pretrained_and_the_refiner_take(trm: Callable[..., Result]) -> None:
    golden = GOLDEN
    words = [
        golden / "mlp_t.upstream.pt",
        "out",
        "--task",
        "sudoku",
        "--config",
        golden / "mlp_t.config.json",
    ]
    result = trm("convert", *words)
    assert result.exit_code == 0, result.output
    assert TRM.from_pretrained("out").config.mixer == "mlp_t"
    assert load("out").experts["sudoku"].meta["origin"] == "converted from mlp_t.upstream.pt"
    assert trm("convert", *words).exit_code == 2  # not over a folder that is there


def test_bench_counts_and_measures(trm: Callable[..., Result]) -> None:
    small = ["--set", "model.hidden_size=32", "--device", "cpu", "--json"]
    for what, more in (("train", ["--set", "train.batch=2"]), ("infer", [])):
        result = trm("bench", what, *small, *more)
        assert result.exit_code == 0, result.output
        record = json.loads(result.output)
        assert record["ms_per_step"] > 0
        assert record["share_of_peak"] == pytest.approx(record["tflops"] / record["peak_tflops"])
        assert record["tflops"] == pytest.approx(record["tflop_per_step"] / record["ms_per_step"] * 1000)
        assert record["dtype"] == "float32"
    half = trm("bench", "infer", *small, "--set", "train.precision=bf16")
    assert json.loads(half.output)["dtype"] == "bfloat16"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["train", "none.toml"], 2, "none.toml: No such file"),
        (["train", TINY, "train.sed=1"], 2, "did you mean 'seed'"),
        (["train", TINY, "data.train=none.csv"], 2, "none.csv: no such file"),
        (["train", TINY, "--resume", "nowhere"], 3, "no checkpoints/last"),
        (["eval", "none.pt", "--task", "sudoku", "--data", "none.csv"], 2, "no such file"),
        (["eval", "none.pt", "--task", "chess", "--data", "none.csv"], 2, "unknown task 'chess'"),
        (["data", "sudoku"], 2, "--out is missing"),
        (["data", "sudoku", "--out", "x.png"], 2, ".csv or .jsonl"),
        (["data", "sudoku", "--out", "x.csv", "clue=3"], 2, "clue"),
        (["data", "sudoku", "--out", "folder.csv"], 2, "folder.csv: is a folder"),
        (["data", "sudoku", "--out", "x.csv", "like=wrong.csv"], 2, "the answer breaks the rules"),
        (["data", "sudoku", "--out", "x.csv", "like=half.csv", "swaps=0"], 2, "the answer breaks the rules"),
        (["convert", "none", "out", "--task", "sudoku"], 2, "No such file"),
        (
            ["convert", "none", "out", "--task", "sudoku", "--config", "list.json"],
            2,
            "list.json: expected an object",
        ),
        (
            ["convert", "none", "out", "--task", "sudoku", "--config", "binary.json"],
            2,
            "binary.json: neither JSON nor YAML: 'utf-8' codec",
        ),
        (["pack", "folder.csv", "one.pt"], 2, "folder.csv"),
        (["train", TINY, "--out", "list.json"], 2, "list.json is a file"),
        (["pack", "out.pt", "none.pt"], 3, "no such file"),
        (["pack", "out.pt", "one.pt", "--cycles", "1001"], 2, "h_cycles: 1001, expected 1 to 1000"),
        (["bench", "fly"], 2, "expected train or infer"),
        (["bench", "infer", "--set", "train.batch=2"], 2, "train.batch"),
        (["bench", "infer", "--checkpoint", "n.pt"], 2, "--data"),
        (["bench", "infer", "--checkpoint", "n.pt", "--data", "d.csv", "--batches", "1,x"], 2, "1,x"),
        (["bench", "infer", "--device", "banana"], 2, "banana"),
        (["train", TINY, "--device", "banana", "--out", "new"], 2, "banana"),
        (
            ["train", TINY, *QUICK, f"model.hidden_size={10**15}"],
            2,
            "not enough memory (44000000000000000 bytes at once)",
        ),
        (
            ["train", TINY, *QUICK, f"train.batch={10**15}"],
            2,
            "not enough memory, expected a smaller [model], or less",
        ),
        (["train", TINY, *QUICK, f"train.pool={10**18}"], 2, "not enough memory"),
        (["bench", "infer", "--set", f"model.hidden_size={10**15}"], 2, "not enough memory"),
        (["bench", "train", "--set", f"model.hidden_size={10**15}"], 2, "not enough memory"),
    ],
    ids=lambda value: " ".join(Path(str(w)).name for w in value) if isinstance(value, list) else None,
)
def test_mistakes_are_one_line(trm: Callable[..., Result], words: list[str], code: int, said: str) -> None:
    Path("folder.csv").mkdir()
    Path("list.json").write_text("[]")
    Path("binary.json").write_bytes(b"\xff\xfe")
    Path("wrong.csv").write_text(f"question,answer\n{SUDOKU},{'1' * 81}\n")
    Path("half.csv").write_text(f"question,answer\n{SUDOKU},{SUDOKU}\n")
    save("one.pt", {"sudoku": Expert("sudoku", network().config, network().state_dict())})
    result = trm(*words)
    assert Path("folder.csv").is_dir()
    assert result.exit_code == code
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stderr.startswith("trm: ")


def test_version_and_help(trm: Callable[..., Result]) -> None:
    assert trm("--version").output == "trm 0.1.0\n"
    assert "Example: trm train" in trm("train", "--help").output


def test_calibrate_is_for_experts_that_adapt(trm: Callable[..., Result]) -> None:
    save("one.pt", {"sudoku": Expert("sudoku", network().config, network().state_dict())})
    trm("data", "arc", "--n", 2, "--out", "a.json")
    for words, said in (
        (["--out", "calibrated.pt"], "no expert for arc"),
        (["--out", "none/calibrated.pt"], "none/calibrated.pt"),
    ):
        result = trm("calibrate", "one.pt", "--task", "arc", "--data", "a.json", "--device", "cpu", *words)
        assert result.exit_code == 2
        assert said in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
