"""What people read of a comparison: overlap of solved puzzles, gallery, plots, and a page that stands alone."""

from __future__ import annotations

import json
import sys
from html.parser import HTMLParser
from typing import Any

import doubles
import pytest

from eval import arms, metrics, report
from eval.report.gallery import Drawing, Example, gallery
from eval.report.tables import about, in_order, set_words
from trm.tasks import get

WRONG = get("sudoku").text(doubles.wrong(doubles.sudoku()))
ARC = {"train": [{"input": [[1]], "output": [[2]]}], "test": [{"input": [[3, 3]]}, {"input": [[4]]}]}
CANDIDATE = {
    "grid": [[6, 6]],
    "probability": 0.7,
    "cold": 0.5,
    "drafted": 0.0,
    "proposed": 1.0,
    "score": -2.0,
}


def record(
    task: str = "sudoku", arm: str = "hybrid", name: str = "p1", solved: bool = True, **more: Any
) -> Any:
    """A record as `eval.metrics.record` makes them."""
    question = {"sudoku": doubles.SUDOKU, "maze": doubles.MAZE, "arc": json.dumps(ARC)}[task]
    return {
        "task": task, "arm": arm, "id": name, "solved": solved, "exact_match": solved, "status": "unsolved",
        "source": "refiner+draft", "confidence": 0.9, "steps": 4, "restarts": 0, "solved_at": 2, "drafts": 1,
        "parse_failures": 0, "llm_tokens": 3, "seconds": {"llm": 0.5, "refine": 1.0},
        "tflop": {"llm": 0.1, "refine": 0.2}, "difficulty": {"givens": "under 24"}, "question": question,
        "draft_answer": None, "answer": None, "violations": [],
    } | more  # fmt: skip


def drawn(**more: Any) -> tuple[Example, list[Drawing]]:
    """The gallery of one record: its example and all drawings of it."""
    one = record(**more)
    (example,) = gallery({one["arm"]: [one]}, [{"arms": [], "puzzles": ["p1"]}])
    return example, [drawing for lane in example.lanes for drawing in lane.drawings]


def marked(drawing: Drawing, mark: str) -> list[tuple[int, int]]:
    return [(y, x) for y, row in enumerate(drawing.cells) for x, (_, own) in enumerate(row) if own == mark]


def test_overlap_says_which_arms_solve_what_others_do_not() -> None:
    solved = {
        "trm": {"a": True, "b": True, "c": False},
        "llm": {"a": True, "b": False, "c": False, "d": True},
    }
    found = metrics.overlap(
        {arm: [record(arm=arm, name=n, solved=hit) for n, hit in own.items()] for arm, own in solved.items()}
    )
    assert found["n"] == 3  # the language model alone was asked about d
    assert sorted((one["arms"], one["puzzles"]) for one in found["sets"]) == [
        ([], ["c"]), (["trm"], ["b"]), (["trm", "llm"], ["a"]),
    ]  # fmt: skip
    assert found["only_first"] == {"trm": {"llm": 1}, "llm": {"trm": 0}}


def test_every_arm_is_described() -> None:
    names = [*arms.MAIN, *arms.CONTROLS, *(sweep + "30" for sweep in arms.SWEEPS)]
    assert all(map(about, names))
    assert set(in_order(names)[:3]) == set(arms.MAIN)
    assert in_order(["exact", "draft:oracle@30", "trm"]) == ["trm", "draft:oracle@30", "exact"]


@pytest.mark.parametrize(
    ("solving", "words"),
    [
        ([], "no arm"),
        (["trm", "llm", "exact"], "every arm"),
        (["llm", "trm"], "all but exact"),
        (["exact"], "exact"),
    ],
)
def test_a_set_of_arms_in_words(solving: list[str], words: str) -> None:
    assert set_words(solving, ["llm", "trm", "exact"]) == words


def test_a_sudoku_has_wrong_and_corrected_cells_marked() -> None:
    _, (question, draft, answer) = drawn(draft_answer=WRONG, answer=doubles.SOLUTION, label=doubles.SOLUTION)
    assert [cell.text for cell, _ in answer.cells[1]] == list("672195348")
    assert not marked(question, "wrong")
    assert marked(draft, "wrong") == [(0, 7), (0, 8)]
    assert marked(answer, "changed") == marked(draft, "wrong")
    assert answer.verdict


def test_a_maze_whose_path_is_too_long_says_so() -> None:
    _, (_, draft, _) = drawn(
        task="maze", question="S  G\n    ", draft_answer="S  G\noooo", answer="SooG\n    "
    )
    assert not marked(draft, "wrong")
    assert any("moves" in note for note in draft.notes)


def test_arc_has_demonstrations_both_guesses_and_ranked_candidates() -> None:
    example, drawings = drawn(
        task="arc", draft_answer="5 5\n\n1", answer=[[[[5, 6]], [[6, 6]]], [[[1]]]], label="6 6\n\n1",
        candidates=[[CANDIDATE, {**CANDIDATE, "grid": [[7]], "score": None}], [CANDIDATE]],
    )  # fmt: skip
    ((before, after),) = example.demos
    assert [before.cells[0][0][0].colour, after.cells[0][0][0].colour] != [None, None]
    titles = [drawing.title for drawing in drawings]
    assert titles[:5] == ["Question 1", "Right answer", "Draft", "hybrid: guess 1", "hybrid: guess 2"]
    assert [drawing.verdict for drawing in drawings[3:7]] == [False, True, True, False]
    assert marked(drawings[3], "wrong") == [(0, 0)]
    assert titles[5:7] == ["Candidate 1", "Candidate 2"]
    assert any("0.70" in note for note in drawings[5].notes)


def test_an_unreadable_draft_is_said() -> None:
    _, drawings = drawn(draft_answer=None, answer=doubles.SOLUTION)
    assert drawings[1].cells == ()
    assert drawings[1].notes


def test_the_gallery_begins_where_arms_differ() -> None:
    hits = {"hybrid": [True, True, False], "trm": [True, False, False]}
    table = {
        a: [record(arm=a, name=str(n), solved=hit) for n, hit in enumerate(own)] for a, own in hits.items()
    }
    shown = gallery(table, metrics.overlap(table)["sets"])
    assert shown[0].name == "1"
    assert {example.name for example in shown} == {"0", "1", "2"}
    assert shown[0].solved_by == "hybrid"


class Checked(HTMLParser):
    """The elements of a page, by name, and the ids that it defines."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def comparison() -> tuple[Any, list[Any]]:
    records = [
        record("sudoku", arm, name, arm != "llm" or name == "a", draft_answer=WRONG, answer=doubles.SOLUTION)
        for arm in ("trm", "hybrid", "llm", "trm+seconds", "draft:oracle@30")
        for name in "ab"
    ]
    options = dict.fromkeys(("drafts", "rounds", "steps", "restarts"), 1)
    environment = {
        "options": options, "llm": "<b>", "llm_parameters": 1, "refiner": "r", "seed": 0, "devices": ["cpu"],
        "torch": "2", "commit": None,
    }  # fmt: skip
    return metrics.results(records, environment), records


def test_the_page_stands_alone_and_can_be_heard(comparison: tuple[Any, list[Any]]) -> None:
    html = report.html(*comparison)
    page = Checked(html)
    for _, attributes in page.elements:
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#")  # nothing from elsewhere
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {attributes["href"] for attributes in page.all("a")}
    assert targets <= {f"#{name}" for name in ids}
    assert all(svg.get("aria-label") or svg.get("aria-hidden") for svg in page.all("svg"))
    figures = [figure for figure in page.all("figure") if figure.get("role") == "img"]
    assert len(figures) >= 5
    assert all(figure["aria-label"] for figure in figures)
    assert all(heading["scope"] in ("row", "col") for heading in page.all("th"))
    assert page.all("html")[0]["lang"] == "en"
    assert "&lt;b&gt;" in html  # names are text


def test_tables_are_there_without_matplotlib(
    comparison: tuple[Any, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    page = report.html(*comparison)
    assert "matplotlib is not installed" in page
    assert not [figure for figure in Checked(page).all("figure") if figure.get("role") == "img"]
    assert Checked(page).all("table")


def test_markdown_has_the_arms_in_their_order_and_the_overlap(comparison: tuple[Any, list[Any]]) -> None:
    lines = report.markdown(comparison[0]).splitlines()
    first = [line.split("|")[1].strip() for line in lines if line.startswith("| ")]
    assert first[1:6] == ["hybrid", "llm", "trm", "trm+seconds", "draft:oracle@30"]
    assert "| hybrid |  | 1 | 0 | 0 | 0 |" in lines
